"""What `status` says of a watch: is it running, how are its folders watched, what is waited for."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from camio_import.display import count, duration, moment, shortened, shown, size
from camio_import.watch_notes import MOST_LANDING, FolderState, LandingFile, WatchedFolder

if TYPE_CHECKING:
    from camio_import.ledger_report import LedgerReport, RunRow

LANDING_MAY_TAKE_S = 600.0
"""A file that has been still for so long, and is not whole, may never be."""

MOST_SHOWN = 10
"""So many of the files that are waited for are named."""


@dataclass(frozen=True, slots=True)
class StationStatus:
    """Who holds the ledger, and what the watch that is running, or that ran last, has noted.

    Attributes:
        pid: the process that holds the ledger, None when nobody does.
        last_run: the last import or watch, which may be running.
        folders: those of the watch; none when it ended in an orderly way and imports came after it.
        landing: the files in them that have not landed whole, the one waited for longest first.
        now: the time at which all this holds.
    """

    pid: int | None
    last_run: RunRow | None
    folders: tuple[WatchedFolder, ...]
    landing: tuple[LandingFile, ...]
    now: datetime

    @property
    def is_running(self) -> bool:
        """The last run is going on. Else, who holds the ledger has only just begun."""
        run = self.last_run
        return self.pid is not None and run is not None and run.finished_at is None and run.pid == self.pid

    @property
    def is_watching(self) -> bool:
        return self.is_running and self.last_run is not None and self.last_run.is_watch

    @property
    def was_watch_cut_off(self) -> bool:
        """The folders were being watched when the power failed, or the process was killed."""
        is_starting = self.pid is not None and not self.is_running
        return not (self.is_watching or is_starting) and any(
            folder.state is not FolderState.STOPPED for folder in self.folders
        )

    @property
    def paused(self) -> tuple[WatchedFolder, ...]:
        """The folders that the running watch cannot look into."""
        return tuple(folder for folder in self.folders if self.is_watching and folder.state is FolderState.PAUSED)

    @property
    def is_waiting_for_long(self) -> bool:
        """Some file has not been written to for `LANDING_MAY_TAKE_S`, and is no whole video."""
        return any(self.waited_s(file) >= LANDING_MAY_TAKE_S for file in self.landing)

    @property
    def troubles(self) -> list[str]:
        """Why a station, which ought to be watching, is not working; in plain sentences."""
        if self.is_watching:
            return [f"{shown(folder.path)} is paused ({shown(folder.detail)})." for folder in self.paused]
        is_starting = self.pid is not None and not self.is_running
        return [] if is_starting else ["No watch is running."]

    @property
    def landing_counts(self) -> Mapping[str, int]:
        """Watched folder -> how many files in it have not landed whole."""
        return Counter(file.folder for file in self.landing)

    def waited_s(self, file: LandingFile) -> float:
        """How long it has been unchanged, and not whole; 0 while it is being written."""
        return file.waited_until_s(self.now) if self.is_watching else file.waited_s


def station_status(report: LedgerReport, now: datetime, *, below: str | None = None) -> StationStatus:
    """Read it; only what concerns the folder `below`, if one is given."""
    pid, runs = report.is_running, report.runs(1)
    folders = report.watch_notes.folders()
    is_past = all(folder.state is FolderState.STOPPED for folder in folders)
    if is_past and not (runs and runs[0].is_watch):
        folders = []
    folders = [folder for folder in folders if below is None or _concern_each_other(folder.path, below)]
    paths = {folder.path for folder in folders}
    landing = [
        file
        for file in report.watch_notes.landing(-1)
        if file.folder in paths and (below is None or _is_within(file.path, below))
    ]
    landing.sort(key=lambda file: (-file.waited_until_s(now), file.path))
    return StationStatus(pid, runs[0] if runs else None, tuple(folders), tuple(landing), now)


def _concern_each_other(folder: str, other: str) -> bool:
    return _is_within(folder, other) or _is_within(other, folder)


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(os.path.join(folder, ""))  # noqa: PTH118


# --- in words ---------------------------------------------------------------------------------


def run_lines(station: StationStatus) -> Iterator[str]:
    """What is running, or how the last run ended."""
    run, pid = station.last_run, station.pid
    what = "watch" if run is not None and run.is_watch else "import"
    if station.is_running and run is not None:
        yield f"{_a(what)} is running (process {pid}), since {moment(run.started_at)} (UTC)."
    elif pid is not None:
        yield f"An import or a watch is starting (process {pid})."
    elif run is not None and run.finished_at is None:
        nothing_watched = " Nothing is watched now." if run.is_watch else ""
        yield (
            f"The last {what}, begun {moment(run.started_at)} (UTC), was cut off.{nothing_watched}"
            " The same command carries on."
        )
    elif run is not None and run.finished_at is not None:
        took = duration((run.finished_at - run.started_at).total_seconds())
        summary = run.summary or {}
        words = [str(summary.get("stopped_because", "")), "" if run.is_watch else str(summary.get("next_step", ""))]
        said = " ".join(shown(each) for each in words if each)
        yield f"The last {what} ended {moment(run.finished_at)} (UTC), after {took}. {said}".rstrip()
    if station.was_watch_cut_off and run is not None and not run.is_watch:
        yield "The last watch was cut off before that. Nothing is watched now."


def _a(noun: str) -> str:
    return f"An {noun}" if noun[0] in "aeiou" else f"A {noun}"


def folder_lines(station: StationStatus, columns: int) -> Iterator[str]:
    """How each folder is watched, and what is waited for there, for a screen so many columns wide."""
    if not station.folders:
        return
    yield "\nWatched folders:"
    named = station.landing[:MOST_SHOWN]
    for folder in station.folders:
        yield f"  {shortened(shown(folder.path), columns - 2)}"
        yield f"      {_how_watched(station, folder)}"
        if folder.looked_at is not None:
            yield f"      last looked through {moment(folder.looked_at)} (UTC)"
        if station.landing_counts[folder.path]:
            yield from _landing_lines(
                station, folder.path, [file for file in named if file.folder == folder.path], columns
            )


def _how_watched(station: StationStatus, folder: WatchedFolder) -> str:
    if not station.is_watching:
        return FolderState.STOPPED.phrase
    detail = f": {shown(folder.detail)}" if folder.detail else ""
    return f"{folder.state.phrase}, since {moment(folder.since)} (UTC){detail}"


def _landing_lines(station: StationStatus, folder: str, named: list[LandingFile], columns: int) -> Iterator[str]:
    total = station.landing_counts[folder]
    files = count(total, "file") + (" or more" if total >= MOST_LANDING else "")
    end = "." if not named else ":" if len(named) == total else "; those waited for longest:"
    yield f"      {files} {'has' if total == 1 else 'have'} not landed whole{end}"
    for file in named:
        yield f"        {shortened(shown(os.path.relpath(file.path, folder)), columns - 8)}"
        yield f"            {how_landing(station, file)}"


def how_landing(station: StationStatus, file: LandingFile) -> str:
    """Its size, how long it has been waited for, and why."""
    facts = [size(file.size_bytes)] if file.size_bytes >= 0 else []
    waited_s = station.waited_s(file)
    unwritten_s = station.now.timestamp() - file.mtime_ns / 1e9
    if waited_s:
        facts.append(f"unchanged for {duration(waited_s)}")
    elif file.mtime_ns >= 0 and unwritten_s >= 0:
        facts.append(f"last written {duration(unwritten_s)} ago")
    return f"{', '.join(facts)}: {shown(file.why)}" if facts else shown(file.why)


# --- for other programs -----------------------------------------------------------------------


def station_keys(station: StationStatus) -> dict[str, Any]:
    """What the JSON output has of it."""
    return {
        "is_watch_running": station.is_watching,
        "was_watch_cut_off": station.was_watch_cut_off,
        "watched_folders": [
            {
                "path": folder.path, "state": folder.state, "detail": folder.detail, "since": folder.since,
                "looked_at": folder.looked_at, "landing_count": station.landing_counts[folder.path],
            }
            for folder in station.folders
        ],
        "landing": [landing_keys(station, file) for file in station.landing],
    }  # fmt: skip


def landing_keys(station: StationStatus, file: LandingFile) -> dict[str, Any]:
    """What the JSON output has of a file that has not landed whole."""
    return {
        "path": file.path, "folder": file.folder, "size_bytes": file.size_bytes, "mtime_ns": file.mtime_ns,
        "waited_s": station.waited_s(file), "noted_at": file.noted_at, "why": file.why,
    }  # fmt: skip
