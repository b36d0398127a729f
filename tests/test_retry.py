"""Back-off, the breaker, concurrency and the count of attempts: pure, so without a clock or a socket."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from camio_import.retry import (
    LONGEST_WAIT_S,
    TRIES_ALONE,
    TRIES_PER_RUN,
    Attempts,
    Backoff,
    Breaker,
    Concurrency,
    Readers,
)


def backoff() -> Backoff:
    return Backoff(rng=random.Random(7))


@given(st.integers(0, 10_000), st.one_of(st.none(), st.floats(0, 1e12)), st.integers())
def test_every_wait_is_bounded_and_jittered(failures: int, asked_for_s: float | None, seed: int) -> None:
    step_s = min(60.0, 2.0 ** min(failures, 30))
    wait_s = Backoff(rng=random.Random(seed), failures=failures).next_wait_s(asked_for_s)
    assert min(LONGEST_WAIT_S, max(step_s / 2, asked_for_s or 0)) <= wait_s <= LONGEST_WAIT_S
    if not asked_for_s:
        assert wait_s <= step_s


def test_waits_grow_and_start_anew_after_a_success() -> None:
    one = backoff()
    waits = [one.next_wait_s() for _ in range(8)]
    assert waits[0] <= 1 and waits[-1] >= 30
    one.reset()
    assert one.next_wait_s() <= 1


def test_stations_do_not_return_at_once() -> None:
    assert len({Backoff(rng=random.Random(seed)).next_wait_s() for seed in range(50)}) == 50


def test_the_breaker_counts_one_outage_once() -> None:
    breaker = Breaker(backoff())
    first_s = breaker.on_pause(100.0)
    assert 0 < breaker.on_pause(100.1) < first_s  # another upload that was in flight
    assert breaker.backoff.failures == 1
    assert not breaker.allows_trial(100.0 + first_s - 0.01)
    assert breaker.allows_trial(100.0 + first_s)
    assert breaker.on_pause(100.0 + first_s) > 0
    assert breaker.backoff.failures == 2
    assert breaker.opened_at == 100.0
    assert breaker.open_until is not None
    # What was in flight before the pause does not end it.
    assert not breaker.on_success(breaker.open_until - 0.01)
    assert not breaker.is_closed()
    assert breaker.on_success(breaker.open_until)
    assert breaker.is_closed() and breaker.opened_at is None


def test_a_longer_wait_asked_for_meanwhile_counts() -> None:
    breaker = Breaker(backoff())
    breaker.on_pause(0.0)
    assert breaker.on_pause(0.1, 40.0) == 40.0
    assert breaker.on_pause(0.2, 1e9) == LONGEST_WAIT_S


def test_the_breaker_opens_after_some_failed_answers_in_a_row() -> None:
    breaker = Breaker(backoff())
    assert [breaker.on_trouble(float(now)) for now in range(5)] == [False] * 4 + [True]
    assert breaker.on_success(1e9)
    assert not breaker.on_success(1e9)
    assert [breaker.on_trouble(9.0) for _ in range(4)] == [False] * 4


def test_concurrency() -> None:
    adaptive = Concurrency()
    assert adaptive.limit == 2
    for _ in range(3):
        adaptive.on_accepted()
    assert adaptive.limit == 2
    adaptive.on_accepted()
    assert adaptive.limit == 3
    for _ in range(1000):
        adaptive.on_accepted()
    assert adaptive.limit == 8
    adaptive.on_busy()
    assert adaptive.limit == 4
    for _ in range(5):
        adaptive.on_busy()
    assert adaptive.limit == 1


def accepted(concurrency: Concurrency, times: int) -> None:
    for _ in range(times):
        concurrency.on_accepted()


def test_what_was_refused_is_tried_again_ever_more_rarely() -> None:
    adaptive = Concurrency()
    accepted(adaptive, 4 + 6)
    assert adaptive.limit == 4
    for caution in (25, 50, 100):
        adaptive.on_too_many(3)
        assert adaptive.limit == 3
        accepted(adaptive, 3 * caution - 1)
        assert adaptive.limit == 3
        accepted(adaptive, 1)
        assert adaptive.limit == 4
    accepted(adaptive, 8)
    assert adaptive.limit == 5, "it works now: what was known is out of date"


def test_a_width_that_has_worked_is_soon_tried_again() -> None:
    adaptive = Concurrency()
    accepted(adaptive, 4 + 6)
    adaptive.on_too_many(3)
    accepted(adaptive, 6)
    adaptive.on_too_many(2)  # the service had not yet noticed that one was done
    assert adaptive.limit == 2
    accepted(adaptive, 4)
    assert adaptive.limit == 3


@pytest.mark.parametrize(("before", "after"), [(8, 4), (8, 2), (4, 4), (1, 1), (2, 7)])
def test_a_service_that_takes_fewer_than_it_did_is_soon_understood(before: int, after: int) -> None:
    adaptive = Concurrency()
    refused = 0
    for clip in range(10_000):
        most = before if clip < 1000 else after
        while adaptive.limit > most:
            adaptive.on_too_many(adaptive.limit - 1)
            refused += 1
        adaptive.on_accepted()
    assert refused <= 20
    assert adaptive.limit == min(after, adaptive.most)


def test_a_fixed_concurrency_stays() -> None:
    fixed = Concurrency(fixed=3)
    fixed.on_busy()
    for _ in range(100):
        fixed.on_accepted()
    assert fixed.limit == 3


def test_a_file_that_fails_while_others_get_through() -> None:
    attempts = Attempts()
    for accepted in range(TRIES_PER_RUN):
        assert not attempts.are_enough
        attempts.on_failure(accepted)
    assert attempts.are_enough


def test_a_file_that_fails_while_nothing_gets_through() -> None:
    attempts = Attempts()
    for number in range(TRIES_ALONE + 1):
        assert not attempts.are_enough, number
        attempts.on_failure(0)
    assert attempts.are_enough
    # An outage in the past does not count against it.
    attempts = Attempts()
    for _ in range(TRIES_ALONE):
        attempts.on_failure(0)
    attempts.on_failure(1)
    assert not attempts.are_enough


def test_a_second_reader_begins_where_the_processor_is_the_bound() -> None:
    readers = Readers(most=2)
    for _ in range(10):
        readers.on_hashed(1.0, 0.9)  # a hard disk
    assert readers.width == 1
    readers.on_hashed(1.0, 0.1)
    readers.on_hashed(0.001, 0.0)  # too short to tell
    assert readers.width == 1
    readers.on_hashed(1.0, 0.1)
    assert readers.width == 2


def test_a_second_reader_that_makes_the_disk_slow_is_tried_ever_more_rarely() -> None:
    readers = Readers(most=2)
    slow = 0
    for _ in range(10_000):
        # As with a hard disk and a slow processor: the system reads ahead for one reader, and not for two.
        readers.on_hashed(1.0, 0.1 if readers.width == 1 else 0.8)
        slow += readers.width == 2
    assert readers.width == 1
    assert 0 < slow < 20


def test_one_processor_has_one_reader() -> None:
    readers = Readers(most=1)
    for _ in range(100):
        readers.on_hashed(1.0, 0.0)
    assert readers.width == 1
