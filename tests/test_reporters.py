"""What is shown of a run while it goes on."""

from __future__ import annotations

import io

from camio_import.cli.reporters import BarReporter, PlainReporter
from camio_import.progress import (
    Event,
    FileUploaded,
    GoingOn,
    JobCreated,
    Planned,
    Uploading,
    UploadStarted,
    UploadStopped,
    Waiting,
)

MEGABYTE = 1_000_000
PLANNED = Planned(found=3, files_to_send=2, bytes_to_send=2 * MEGABYTE)
BUSY = Waiting("The Box is busy.", 30.0)


def uploaded(file_id: int) -> FileUploaded:
    return FileUploaded(file_id, f"/v/{file_id}.mp4", "CAM_A", "0" * 40, MEGABYTE, 1.0)


def last_bar(*events: Event) -> str:
    """What the bar for the whole shows after these."""
    screen = io.StringIO()
    reporter = BarReporter(screen)
    for event in events:
        reporter.handle(event)
    lines = screen.getvalue().replace("\n", "\r").split("\r")
    shown = [line for line in lines if " files" in line]
    reporter.close()
    return shown[-1].strip() if shown else ""


def test_a_bar_that_waits_says_so_instead_of_a_time() -> None:
    bar = last_bar(PLANNED, UploadStarted(1, "/v/1.mp4", MEGABYTE), uploaded(1), BUSY)
    assert bar.startswith("50% |")
    assert bar.endswith("| 1.00M/2.00M waiting, 1/2 files")


def test_a_trial_that_fails_leaves_it_waiting() -> None:
    trial = [UploadStarted(2, "/v/2.mp4", MEGABYTE), Uploading(2, "/v/2.mp4", 10, MEGABYTE), UploadStopped(2)]
    assert "waiting" in last_bar(PLANNED, uploaded(1), BUSY, *trial, BUSY)


def test_a_trial_that_moves_is_no_waiting() -> None:
    trial = [UploadStarted(2, "/v/2.mp4", MEGABYTE), Uploading(2, "/v/2.mp4", 1000, MEGABYTE)]
    assert "waiting" not in last_bar(PLANNED, uploaded(1), BUSY, *trial)


def test_while_it_waits_no_file_seems_to_be_sent() -> None:
    screen = io.StringIO()
    reporter = BarReporter(screen)
    for event in (PLANNED, UploadStarted(1, "/v/1.mp4", MEGABYTE), Uploading(1, "/v/1.mp4", 10, MEGABYTE)):
        reporter.handle(event)
    assert "send 1.mp4" in screen.getvalue()
    reporter.handle(UploadStopped(1))
    before = len(screen.getvalue())
    reporter.handle(BUSY)
    assert "send 1.mp4" not in screen.getvalue()[before:]
    assert " \x1b[A" in screen.getvalue()[before:]  # its line was drawn, empty
    reporter.close()


def test_it_says_how_long_again_when_it_goes_on() -> None:
    for going_on in (GoingOn(), JobCreated("job1", 2, 1), uploaded(2)):
        bar = last_bar(PLANNED, uploaded(1), BUSY, going_on)
        assert "waiting" not in bar
        assert " left, " in bar


def test_what_is_waited_for_is_said_once_until_it_goes_on() -> None:
    screen = io.StringIO()
    reporter = PlainReporter(screen)
    for event in (PLANNED, BUSY, BUSY, GoingOn(), BUSY):
        reporter.handle(event)
    said = screen.getvalue()
    assert said.count("The Box is busy. Waiting, then trying again (in 30 s).") == 2
    assert said.count("The service takes clips again.") == 1


def test_plain_lines_tell_what_is_left() -> None:
    now = [0.0]
    screen = io.StringIO()
    reporter = PlainReporter(screen, clock=lambda: now[0])
    reporter.handle(PLANNED)
    now[0] = 10.0
    reporter.handle(uploaded(1))
    reporter.handle(uploaded(2))  # too soon for another line
    assert screen.getvalue().splitlines()[1:] == ["  sent 1 of 2 files, 1 MB of 2 MB, 100 kB/s, about 10 s left"]
