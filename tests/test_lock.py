"""One import at a time: the lock, between real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from camio_import.errors import LedgerLocked
from camio_import.lock import ProcessLock, holder
from camio_import.state import Ledger

HOLD = """
import sys
from pathlib import Path
from camio_import.errors import LedgerLocked
from camio_import.state import Ledger
try:
    with Ledger(Path(sys.argv[1]), destination="test"):
        print("won", flush=True)
        sys.stdin.read()
except LedgerLocked as error:
    print("lost", error, flush=True)
    sys.exit(error.exit_code)
"""


def start(ledger: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(ledger)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str]) -> None:
    process.communicate("", timeout=20)


def test_the_lock_is_held_until_it_is_released(tmp_path):
    path = tmp_path / "lock"
    with ProcessLock(path, what="the ledger"):
        assert path.stat().st_mode & 0o777 == 0o600
        with pytest.raises(LedgerLocked, match=rf"the ledger \(process {os.getpid()}\)") as caught:
            ProcessLock(path, what="the ledger")
        assert caught.value.exit_code == 6
        assert "--storage" in caught.value.next_step
        assert holder(path) == os.getpid()
    assert not path.exists()
    assert holder(path) is None
    ProcessLock(path, what="the ledger").release()


def test_releasing_twice_does_not_take_the_lock_from_another(tmp_path):
    path = tmp_path / "lock"
    first = ProcessLock(path, what="x")
    first.release()
    second = ProcessLock(path, what="x")
    first.release()
    assert holder(path) == os.getpid()
    second.release()


def test_the_operating_system_releases_the_lock_of_a_killed_process(tmp_path):
    ledger = tmp_path / "ledger.db"
    process = start(ledger)
    assert process.stdout is not None
    assert process.stdout.readline() == "won\n"
    assert holder(tmp_path / "ledger.db.lock") == process.pid
    with pytest.raises(LedgerLocked, match=f"process {process.pid}"):
        Ledger(ledger, destination="test")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (tmp_path / "ledger.db.lock").exists()  # left behind, and held by nobody
    assert holder(tmp_path / "ledger.db.lock") is None
    with ProcessLock(tmp_path / "ledger.db.lock", what="x") as lock:
        assert lock.was_left_behind
    with Ledger(ledger, destination="test"):
        pass
    with ProcessLock(tmp_path / "ledger.db.lock", what="x") as lock:
        assert not lock.was_left_behind


def test_of_twenty_processes_exactly_one_gets_the_ledger(tmp_path):
    ledger = tmp_path / "state" / "ledger.db"
    processes = [start(ledger) for _ in range(20)]
    try:
        said = {process: process.stdout.readline() for process in processes}  # type: ignore[union-attr]
        winners = [process for process in processes if said[process] == "won\n"]
        assert len(winners) == 1
        for process in processes:
            if process is not winners[0]:
                assert f"(process {winners[0].pid})" in said[process]
                assert process.wait(20) == 6
    finally:
        for process in processes:
            finish(process)
    assert winners[0].returncode == 0


def test_asking_who_holds_it_never_keeps_an_import_from_starting(tmp_path):
    path = tmp_path / "lock"
    path.touch()
    asked, done = [0], threading.Event()

    def ask() -> None:
        while not done.is_set():
            holder(path)
            asked[0] += 1

    askers = [threading.Thread(target=ask) for _ in range(2)]
    for asker in askers:
        asker.start()
    try:
        for _ in range(50):
            ProcessLock(path, what="x").release()
    finally:
        done.set()
        for asker in askers:
            asker.join()
    assert asked[0] > 0


def test_a_lock_file_that_names_nobody_is_said_to_be_held_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("camio_import.lock._PAUSE_S", 0.0)
    path = tmp_path / "lock"
    with ProcessLock(path, what="the ledger"):
        path.write_bytes(b"")
        with pytest.raises(LedgerLocked, match=r"^Another import is using the ledger\.$"):
            ProcessLock(path, what="the ledger")
