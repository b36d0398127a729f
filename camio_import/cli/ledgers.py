"""Which ledger belongs to which destination, and where it is kept."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from camio_import.cli.options import state_folder
from camio_import.errors import LedgerLocked, UsageError

SUFFIX = ".db"


@dataclass(frozen=True, slots=True)
class Destination:
    """Where files go: `label` is for people and in the ledger, `file_name` for the default ledger."""

    label: str
    file_name: str


def destination_of(hook_name: str, *, is_local: bool, is_testing: bool, api_url: str, place: str = "") -> Destination:
    """Each destination has its own ledger: what one has received says nothing about another.

    `place` is where a hook says that it sends files under the settings given.
    """
    if hook_name != "camio":
        if place:
            mark = hashlib.sha1(place.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()[:8]
            return Destination(f"{place} (the hook {hook_name})", _file_name(f"{hook_name}-{mark}"))
        return Destination(f"the hook {hook_name}", _file_name(hook_name))
    if is_local:
        return Destination("the Box inside this program (local)", "camio-local" + SUFFIX)
    if api_url:
        host = urlsplit(api_url).netloc.rpartition("@")[2] or api_url
        return Destination(f"Camio at {host}", _file_name(f"camio-{host}"))
    if is_testing:
        return Destination("Camio's testing servers", "camio-testing" + SUFFIX)
    return Destination("Camio", "camio" + SUFFIX)


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", "_", name)[:80] + SUFFIX


def ledger_path(storage: str | None, destination: Destination) -> Path:
    """`--storage`, or the destination's place in the per-user state folder."""
    if storage is None:
        return state_folder() / destination.file_name
    path = Path(storage).expanduser()
    if os.path.isdir(path):  # noqa: PTH112 - unlike Path, it says no where it may not look
        raise UsageError(f"--storage {storage} is a folder.", next_step="Give the path of a file in it.")
    return path


def notes_of_checks() -> Path:
    """Where it is noted what videos a check or a dry run looks into: they write nothing into the state folder."""
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return Path(tempfile.gettempdir()) / f"camio-import-{user}.looking"


def locked_by(path: Path, error: LedgerLocked) -> LedgerLocked:
    """The error, in words that fit when it is a watch that holds the ledger."""
    from camio_import.ledger_report import LedgerReport

    with LedgerReport(path) as report:
        pid, runs = report.is_running, report.runs(1)
    if pid is None or not runs or not runs[0].is_watch or (runs[0].pid, runs[0].finished_at) != (pid, None):
        return error
    return LedgerLocked(
        f"A watch is running (process {pid}), with the ledger {path}. It takes in this folder if its settings name it.",
        next_step="What it does: camio-import status. To import beside it, give a ledger of its own with --storage"
        " FILE; files that both take are then sent twice.",
    )


def refuse_held_by_another(path: Path) -> None:
    """Raise LedgerLocked when another process than this one holds the ledger."""
    from camio_import.ledger_file import lock_path
    from camio_import.lock import holder

    pid = holder(lock_path(path))
    if pid is not None and pid != os.getpid():
        error = LedgerLocked(
            f"Another import is using the ledger {path} (process {pid}).", next_step="Wait until it has finished."
        )
        raise locked_by(path, error) if path.exists() else error


def existing_ledgers() -> list[Path]:
    """The ledgers in the per-user state folder, the one used last first."""
    folder = state_folder()
    if not folder.is_dir():
        return []
    return sorted(folder.glob("*" + SUFFIX), key=lambda path: _last_use(path), reverse=True)


def _last_use(path: Path) -> float:
    wal = path.with_name(path.name + "-wal")
    return max(candidate.stat().st_mtime for candidate in (path, wal) if candidate.exists())


def ledger_to_show(storage: str | None) -> Path:
    """The ledger that a report is about: `--storage`, else the one used last. Raises UsageError."""
    if storage is not None:
        path = Path(storage).expanduser()
        if not path.exists():
            raise UsageError(f"There is no ledger {storage}.", next_step="Check the path after --storage.")
        return path
    ledgers = existing_ledgers()
    if not ledgers:
        raise UsageError(
            "Nothing has been imported yet, so there is no ledger.",
            next_step="See what an import would do: camio-import check FOLDER",
        )
    return ledgers[0]
