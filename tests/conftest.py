"""Fixtures shared by the tests: a Box, and a bench on which whole imports are run."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import IS_LONG
from harness import Bench
from hypothesis import settings

import camio_import.hooks.camio
from camio_import.box import EmbeddedBox

# The ordinary run is the same each time; make torture looks for what nobody has thought of.
settings.register_profile("repeatable", derandomize=not IS_LONG, print_blob=True)
settings.load_profile("repeatable")


def pytest_configure() -> None:
    """Ctrl-C reaches the processes that tests start, also when a shell runs the tests in the background."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests first: otherwise one test process still works on them when the others are done."""
    items.sort(key=lambda item: "long_running" not in item.keywords)


@pytest.fixture(autouse=True)
def nothing_was_said_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the Camio hook says once in a process, it says in each test, whatever ran before it."""
    monkeypatch.setattr(camio_import.hooks.camio, "_named_without_plan", set())


@pytest.fixture
def box(tmp_path: Path) -> Iterator[EmbeddedBox]:
    """A running Box with shards of two files, so that small jobs have several."""
    with EmbeddedBox(tmp_path / "box", shard_size=2, device_id="BOX1", fsync=False) as running:
        yield running


@pytest.fixture
def bench(tmp_path: Path, box: EmbeddedBox) -> Bench:
    """A folder, a ledger and the Box; see `Bench`."""
    return Bench(tmp_path, box)
