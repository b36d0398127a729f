"""Runs the command in processes that can be killed at any of its steps.

    with Launcher() as launcher:
        process = launcher.start("--storage", ledger, videos, "127.0.0.1", home=home, before=[kill_at("file found", 7)])
        assert process.wait() == -signal.SIGKILL

The product has no failpoints: a step is one of its functions, wrapped from outside. A launcher is a process that
has loaded all that the command loads, and each run is a fork of it: that costs a tenth of what a fresh interpreter
does.
"""

from __future__ import annotations

import gc
import json
import os
import pkgutil
import select
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import camio_import.ledger_file
from camio_import.content import BoundedBody
from camio_import.hooks import CheckedHook
from camio_import.hooks.camio import CamioHook
from camio_import.ledger_file import LedgerFile
from camio_import.lock import ProcessLock
from camio_import.retry import Backoff
from camio_import.sending import Sending
from camio_import.state import Ledger
from camio_import.uploader import Importer

Steps = dict[str, tuple[type | ModuleType, str, str]]

STEPS: Steps = {
    "lock taken": (LedgerFile, "_open", "before"),
    "ledger begun": (camio_import.ledger_file, "_migrate", "after"),
    "ledger made": (LedgerFile, "_make_new", "after"),
    "destination noted": (LedgerFile, "_check_destination", "after"),
    "run noted": (Ledger, "start_run", "after"),
    "file found": (Ledger, "add_clip", "after"),
    "scan done": (Importer, "_find_copies", "before"),
    "copies known": (Importer, "_find_copies", "after"),
    "cameras registered": (CamioHook, "register_cameras", "after"),
    "job announced": (Ledger, "begin_job", "after"),
    "job created, answer not recorded": (Ledger, "assign", "before"),
    "files assigned": (Ledger, "assign", "after"),
    "hash known": (Ledger, "set_hash", "after"),
    "upload noted, not committed": (Ledger, "begin_upload", "after"),
    "upload committed, not begun": (Sending, "_start", "before"),
    "upload begun": (CamioHook, "post_clip", "before"),
    "accepted, file not compared": (BoundedBody, "check_unchanged", "before"),
    "accepted, not recorded": (Ledger, "finish_upload", "before"),
    "upload recorded, not committed": (Ledger, "finish_upload", "after"),
    "upload recorded": (Sending, "_uploads_to_start", "before"),
    "shard due": (CheckedHook, "register_shard", "before"),
    "shard registered, not recorded": (Ledger, "shard_registered", "before"),
    "shard recorded": (Ledger, "shard_registered", "after"),
    "run over": (Ledger, "finish_run", "before"),
    "ledger closing": (LedgerFile, "close", "before"),
    "lock going": (ProcessLock, "release", "before"),
    "lock gone": (ProcessLock, "release", "after"),
}
"""What happens in every import of new files."""

TROUBLE_STEPS: Steps = {
    "file skipped": (Ledger, "add_rejected", "after"),
    "version retired": (Ledger, "_retire", "after"),
    "file moved": (Ledger, "move", "after"),
    "file taken up again": (Ledger, "take_up", "after"),
    "file vanished": (Ledger, "skip", "after"),
    "file read anew": (Ledger, "void_hash", "after"),
    "file put off": (Ledger, "postpone", "after"),
    "file failed": (Ledger, "fail", "after"),
    "job refused": (Ledger, "abandon_job", "after"),
    "job lost": (Ledger, "lose_job", "after"),
    "shard not registered": (Ledger, "shard_not_registered", "after"),
}
"""What happens only when something is amiss."""

LONGEST_RUN_S = 120
"""A run that takes longer is ended: whoever waits for it may be gone."""

Action = tuple[str, str, Sequence[Any]]
"""Module, function and arguments: what a run does to itself before it begins."""


KILL = getattr(signal, "SIGKILL", signal.SIGTERM)
"""Windows has none; there, nothing in here can be used."""


def kill_at(step: str, count: int = 1, signal_number: int = KILL) -> Action:
    """The signal comes when the step happens for the `count`-th time."""
    return __name__, "arm", (step, count, int(signal_number))


def hurry() -> Action:
    """Waits between attempts are a hundredth of what they are for users."""
    return __name__, "shorten_waits", ()


def note_opened(path: Path) -> Action:
    """Each file that is opened by the run is a line of JSON in this one."""
    return __name__, "write_down_opened", (str(path),)


# --- in the parent ----------------------------------------------------------------------------


class Launcher:
    """A warm process that runs of the command are forked from, one at a time. Ends with its context."""

    def __init__(self, *more_paths: Path) -> None:
        """`more_paths` are where the modules of actions are, besides this folder."""
        self._server = subprocess.Popen(
            [sys.executable, __file__, *map(str, more_paths)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, start_new_session=True,
        )  # fmt: skip

    def start(
        self,
        *arguments: str | Path,
        home: Path,
        before: Sequence[Action] = (),
        out: Path | None = None,
        err: Path | None = None,
        **variables: str,
    ) -> Forked:
        """Begin a run of the command; its output goes to the files `out` and `err`."""
        from command import environment  # here, because the launcher's process itself has no use for pytest

        order = {
            "arguments": [str(argument) for argument in arguments],
            "environment": environment(home, **variables),
            "before": before,
            "out": str(out or os.devnull),
            "err": str(err or os.devnull),
        }
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(order).encode() + b"\n")
        return Forked(self, int(self._answer(LONGEST_RUN_S)))

    def _answer(self, within_s: float) -> str:
        assert self._server.stdout is not None
        if not select.select([self._server.stdout], [], [], within_s)[0]:
            raise TimeoutError(f"the run was not over within {within_s:.0f} s")
        line = self._server.stdout.readline()
        assert line, "the launcher has ended"
        return line.decode()

    def __enter__(self) -> Launcher:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(LONGEST_RUN_S)
        self._server.stdout.close()


class Forked:
    """A run. Its process id is not used again before the next run begins, so that a late signal hits nobody else."""

    def __init__(self, launcher: Launcher, pid: int) -> None:
        self._launcher = launcher
        self.pid = pid

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout_s: float = LONGEST_RUN_S) -> int:
        """The exit status, negative after a signal. To be called once.

        Raises:
            TimeoutError: it was not over; now it is.
        """
        try:
            return int(self._launcher._answer(timeout_s))
        except TimeoutError:
            self.send_signal(KILL)
            self._launcher._answer(LONGEST_RUN_S)
            raise


# --- in the launcher --------------------------------------------------------------------------


def serve() -> None:
    """Carry out orders from the standard input until it ends."""
    _load_everything()
    answers = os.dup(1)
    # Not through a buffer, which a fork would have a copy of.
    for line in iter(lambda: _read_line(0), b""):
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os.close(answers)
            _become_the_command(order)
        os.write(answers, b"%d\n" % pid)
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        status = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
        os.write(answers, b"%d\n" % status)
        # Until the next order comes, its process id stays taken.
        select.select([0], [], [])
        os.waitpid(pid, 0)


def _read_line(descriptor: int) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(descriptor, 65_536)
        if not byte:
            return b""
        line += byte
    return line


def _load_everything() -> None:
    for module in pkgutil.walk_packages(camio_import.__path__, "camio_import."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    for name in ("av", "regex", "requests", "platformdirs", "dateutil.parser", "zoneinfo", "encodings.idna", "tqdm"):
        import_module(name)
    sys.modules["killer"] = sys.modules["__main__"]  # where its actions are
    gc.freeze()


def _become_the_command(order: dict[str, Any]) -> NoReturn:
    from camio_import.cli import main

    status: Any = 1
    try:
        os.setsid()
        signal.alarm(LONGEST_RUN_S)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for descriptor, path in ((1, order["out"]), (2, order["err"])):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), descriptor)
        os.environ.clear()
        os.environ.update(order["environment"])
        tempfile.tempdir = None
        for module, function, arguments in order["before"]:
            getattr(import_module(module), function)(*arguments)
        status = main(order["arguments"])
        sys.stdout.flush()
    except SystemExit as error:
        status = error.code or 0
    except KeyboardInterrupt:
        status = 130  # it had not begun
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status if isinstance(status, int) else 1)


# --- in the run -------------------------------------------------------------------------------


def arm(step: str, count: int, signal_number: int) -> None:
    """Make the step deadly."""
    owner, name, when = (STEPS | TROUBLE_STEPS)[step]
    original = getattr(owner, name)
    left = count

    def wrapped(*arguments: Any, **keywords: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0 and when == "before":
            os.kill(os.getpid(), signal_number)
        result = original(*arguments, **keywords)
        if left == 0 and when == "after":
            os.kill(os.getpid(), signal_number)
        return result

    setattr(owner, name, wrapped)


def shorten_waits() -> None:
    original = Backoff.next_wait_s
    Backoff.next_wait_s = lambda *arguments: original(*arguments) / 100  # type: ignore[method-assign]


def write_down_opened(path: str) -> None:
    notes = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)

    def on_event(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes):
            os.write(notes, json.dumps(os.fsdecode(arguments[0])).encode() + b"\n")

    sys.addaudithook(on_event)


if __name__ == "__main__":
    sys.path[1:1] = sys.argv[1:]
    serve()
