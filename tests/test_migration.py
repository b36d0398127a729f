"""Ledgers of version 1: taken over whole by an import, read as they are by reports."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from camio_import.ledger_file import APPLICATION_ID, SCHEMA_VERSION
from camio_import.ledger_report import LedgerReport
from camio_import.model import Reason
from camio_import.state import Ledger, ShardKey

FIRST_MS = 1_475_973_147_000
NEW_TABLES = {"awaiting_job", "watched_folder", "landing"}

FILES = {
    "found": {},
    "assigned": {"job": 1, "shard": 0},
    "uploading": {"job": 1, "shard": 0, "sha1": b"\1" * 20, "attempts": 2},
    "uploaded": {"job": 1, "shard": 1, "sha1": b"\2" * 20, "uploaded_at": FIRST_MS + 5000, "attempts": 1},
    "duplicate": {"sha1": b"\2" * 20, "duplicate_of": 4},
    "skipped": {"camera": None, "starts_at": None, "reason": "no_match", "detail": "matches up to here"},
    "failed": {"reason": "refused", "detail": "it would not have it", "sha1": b"\3" * 20},
}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A ledger of version 1 with a file in each state, a retired one, a job, its shards, and two runs."""
    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.executescript(resources.files("camio_import").joinpath("state.sql").read_text("utf-8"))
        db.execute("INSERT INTO meta VALUES ('destination', 'test')")
        db.execute("INSERT INTO folder VALUES (1, ?, ?)", (b"/vids", b"vids"))
        db.execute("INSERT INTO camera VALUES (1, 'CAM_A')")
        db.execute("INSERT INTO job VALUES (1, 'JOB', 'created', 3, ?)", (FIRST_MS,))
        db.execute("INSERT INTO job VALUES (2, NULL, 'orphaned', 3, ?)", (FIRST_MS,))
        db.execute("INSERT INTO shard VALUES (1, 0, 'S0', 2, 'http://x/0', NULL, 'busy')")
        db.execute("INSERT INTO shard VALUES (1, 1, 'S1', 1, 'http://x/1', ?, NULL)", (FIRST_MS + 9000,))
        for number, (state, more) in enumerate(FILES.items()):
            _insert(db, number, state, more)
        _insert(db, 99, "uploaded", {**FILES["uploaded"], "is_current": 0, "name": b"file-3.mp4"})
        db.execute("INSERT INTO history (file, at, what) VALUES (3, ?, 'tried')", (FIRST_MS,))
        for finished_at, summary in ((FIRST_MS + 9000, '{"uploaded": 1}'), (None, None)):
            db.execute(
                "INSERT INTO run (folder, pid, version, started_at, finished_at, summary)"
                " VALUES (?, 7, '0.1', ?, ?, ?)",
                (b"/vids", FIRST_MS, finished_at, summary),
            )
        db.execute(f"PRAGMA application_id={APPLICATION_ID}")
        db.execute("PRAGMA user_version=1")
        db.commit()
    return path


def _insert(db: sqlite3.Connection, number: int, state: str, more: dict[str, Any]) -> None:
    row = {
        "folder": 1, "name": b"file-%d.mp4" % number, "size_bytes": 100 + number, "mtime_ns": 10**18, "state": state,
        "reading": "r", "camera": 1, "starts_at": FIRST_MS, "duration_s": 60.0, "time_source": "regex",
        "found_at": FIRST_MS + number, **more,
    }  # fmt: skip
    db.execute(f"INSERT INTO file ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", tuple(row.values()))


def dump(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, as SQLite sees it now."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        return {name: db.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall() for name in names}


def version(path: Path) -> int:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        return int(db.execute("PRAGMA user_version").fetchone()[0])


def test_everything_is_there_after_the_migration(old: Path) -> None:
    before = dump(old)
    assert {row[6] for row in before["file"]} == set(FILES)
    Ledger(old, destination="test").close()
    assert version(old) == SCHEMA_VERSION == 2
    after = dump(old)
    assert set(after) - set(before) == NEW_TABLES
    assert all(after[name] == [] for name in NEW_TABLES)
    assert after.pop("run") == [(*row, 0) for row in before.pop("run")]
    assert after.pop("camera") == [(*row, None, None) for row in before.pop("camera")]
    for name, rows in before.items():
        assert after[name] == rows, name


def test_an_import_carries_on_with_it(old: Path) -> None:
    with Ledger(old, destination="test") as ledger:
        ledger.start_run("/vids", "1", is_watch=True)
        assert ledger.awaiting_job() == 0
        assert ledger.watch_notes.folders() == []
        assert ledger.open_files_by_shard()[ShardKey(1, 0)] == 2
    with LedgerReport(old) as report:
        assert [run.is_watch for run in report.runs()] == [True, False, False]
        assert report.states()["uploading"] == 0
        assert report.states()["assigned"] == 2


def test_a_report_reads_it_as_it_is(old: Path) -> None:
    content = old.read_bytes()
    with LedgerReport(old) as report:
        states = report.states()
        assert {state: states[state] for state in FILES} == dict.fromkeys(FILES, 1)
        assert [run.is_watch for run in report.runs()] == [False, False]
        assert report.awaiting_job() == 0
        assert report.watch_notes.folders() == []
        assert report.watch_notes.landing() == []
        (unknown, camera) = report.cameras()
        assert (unknown.name, camera.name) == ("", "CAM_A")
        assert camera.last_arrival == datetime.fromtimestamp(FIRST_MS / 1000 + 0.006, UTC)
        assert {row.reason for row in report.reasons()} == {Reason.NO_MATCH, Reason.REFUSED}
        counts = report.job_counts()
        assert (counts.complete, counts.open, counts.lost) == (0, 1, 1)
        assert [job.job_id for job in report.jobs(only_open=True)] == ["JOB"]
        assert len(report.history("/vids/file-3.mp4")) == 2
    assert old.read_bytes() == content
    assert version(old) == 1


KILLED = """
import os, signal, sys
from pathlib import Path
from camio_import import ledger_file
from camio_import.state import Ledger

connect = ledger_file.connect

def connect_and_watch(*arguments, **options):
    db = connect(*arguments, **options)
    db.set_trace_callback(lambda sql: os.kill(os.getpid(), signal.SIGKILL) if sys.argv[2] in sql else None)
    return db

ledger_file.connect = connect_and_watch
Ledger(Path(sys.argv[1]), destination="test")
"""


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
@pytest.mark.parametrize(
    ("statement", "leaves"),
    [
        ("ALTER TABLE run", 1),
        ("CREATE TABLE awaiting_job", 1),
        ("CREATE TABLE landing", 1),
        ("PRAGMA user_version=2", 1),
        ("COMMIT", 1),
        ("PRAGMA synchronous=FULL", 2),
    ],
)
def test_a_kill_in_the_middle_leaves_a_whole_version(old: Path, statement: str, leaves: int) -> None:
    before = dump(old)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(old), statement], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert version(old) == leaves
    if leaves == 1:
        assert dump(old) == before
    with Ledger(old, destination="test") as ledger:
        assert ledger.watch_notes.landing() == []
    assert version(old) == 2
    assert dump(old)["file"] == before["file"]
