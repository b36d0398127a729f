"""A folder that changes, a Box that remembers, and runs of the command on them, for the torture and its checks."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from checks import Delivery, Evidence, Held, Kind, Rerun, Run, check, read_ledger
from clips import FIRST_EPOCH, boxes, cut_moov, tiny_clip_bytes, with_free_box
from command import PATTERN, TOKEN, environment
from killer import LONGEST_RUN_S, Action, Forked, Launcher, hurry, note_opened

from camio_import.box import EmbeddedBox
from camio_import.box.calls import Body, Calls
from camio_import.box.store import Store
from camio_import.box.wire import Answer, RequestInfo

DEVICE_ID = "canary-device-0815"
CAMERAS = ("CAM_A", "камера")
FOLDERS = (".", "a b", "it's $HOME", "new\nline", "caf\udce9/\udcff", "-rf/%20&x=1", "'; DROP TABLE file;--")
_OPEN_STATES = ("01", "03", "08")
"""Of a connection that may still bring something: established, about to be, and closed by the other side alone."""
FILLERS_BYTES = (0, 0, 0, 900, 200_000)


class Disk:
    """A folder of videos, and what became of it. Thread-safe: files also change while they are being sent.

    Each change is one call of the system that readers see whole or not at all, so that every content a reader can
    find is known: `versions` has the SHA-1 of each.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.versions: set[str] = set()
        self._lock = threading.RLock()
        self._files: dict[str, tuple[Kind, bytes]] = {}
        self._numbers = iter(range(10**6))
        self._staging = folder.with_name("staging")
        self._staging.mkdir()
        folder.mkdir()

    def held(self) -> dict[str, Held]:
        """What each path should be now."""
        with self._lock:
            return {path: Held(kind, sha1_of(content)) for path, (kind, content) in self._files.items()}

    def whole(self) -> list[str]:
        """The paths of all videos that can be sent, in a fixed order."""
        with self._lock:
            return sorted(path for path, (kind, _) in self._files.items() if kind is Kind.WHOLE)

    def path_with(self, sha1: str) -> str | None:
        """Where a video with this content is."""
        return next((path for path, held in self.held().items() if held.sha1 == sha1 and held.kind is Kind.WHOLE), None)

    # --- what may happen to files; each returns the contents that it touched, by SHA-1 -----------

    def add(self, rng: random.Random, *, kind: Kind = Kind.WHOLE, camera: str | None = None) -> str:
        """A new file; returns its path."""
        number = next(self._numbers)
        content = with_free_box(tiny_clip_bytes(), b"%06d" % number + bytes(rng.choice(FILLERS_BYTES)))
        if kind is Kind.EMPTY:
            content = b""
        elif kind is Kind.BROKEN:
            content = with_free_box(cut_moov(tiny_clip_bytes()), b"%06d" % number)
        name = f"{camera or rng.choice(CAMERAS)}-{FIRST_EPOCH + 600 * number}.mp4"
        if kind is Kind.NAMELESS:
            name = f"holiday {number}.mp4"
        elif kind is Kind.OTHER:
            name = f"notes {number}.txt"
        path = str(self.folder / rng.choice(FOLDERS) / name)
        with self._lock:
            self._put(path, kind, content)
        return path

    def copy(self, rng: random.Random) -> set[str]:
        """The same bytes again, for the same camera or another one."""
        with self._lock:
            source = rng.choice(self.whole())
            content = self._files[source][1]
            number = next(self._numbers)
            name = f"{rng.choice(CAMERAS)}-{FIRST_EPOCH + 600 * number}.mp4"
            self._put(str(self.folder / rng.choice(FOLDERS) / name), Kind.WHOLE, content)
            return {sha1_of(content)}

    def replace(self, rng: random.Random, path: str | None = None) -> set[str]:
        """Another video under the same name."""
        with self._lock:
            path = path or rng.choice(self.whole())
            return self._changed(path, with_free_box(tiny_clip_bytes(), b"%06d" % next(self._numbers)), self._put)

    def grow(self, rng: random.Random, path: str | None = None) -> set[str]:
        with self._lock:
            path = path or rng.choice(self.whole())
            content = with_free_box(self._files[path][1], b"more")
            return self._changed(path, content, self._append)

    def edit(self, rng: random.Random, path: str | None = None) -> set[str]:
        """One byte becomes another one, in place: the size stays."""
        with self._lock:
            path = path or rng.choice(self.whole())
            content = bytearray(self._files[path][1])
            content[-1] ^= 1 + rng.randrange(255)
            return self._changed(path, bytes(content), self._overwrite_end)

    def shrink(self, rng: random.Random, path: str | None = None) -> set[str]:
        """Only the start is left, without the index."""
        with self._lock:
            path = path or rng.choice(self.whole())
            content = self._files[path][1]
            end = next(start for name, start, _ in boxes(content) if name == "moov")
            return self._changed(path, content[: end - rng.randrange(1, 20)], self._truncate, kind=Kind.BROKEN)

    def empty(self, rng: random.Random, path: str | None = None) -> set[str]:
        with self._lock:
            return self._changed(path or rng.choice(self.whole()), b"", self._truncate, kind=Kind.EMPTY)

    def delete(self, rng: random.Random, path: str | None = None) -> set[str]:
        with self._lock:
            path = path or rng.choice(self.whole())
            os.unlink(path)
            return {sha1_of(self._files.pop(path)[1])}

    def rename(self, rng: random.Random, path: str | None = None) -> set[str]:
        """To another time."""
        with self._lock:
            path = path or rng.choice(self.whole())
            camera = os.path.basename(path).rpartition("-")[0]
            name = f"{camera}-{FIRST_EPOCH + 600 * next(self._numbers)}.mp4"
            return self._rename(path, os.path.join(os.path.dirname(path), name))

    def move(self, rng: random.Random, path: str | None = None) -> set[str]:
        """To another folder."""
        with self._lock:
            path = path or rng.choice(self.whole())
            elsewhere = [str(self.folder / folder) for folder in FOLDERS]
            elsewhere = [folder for folder in elsewhere if folder != os.path.dirname(path)]
            return self._rename(path, os.path.join(rng.choice(elsewhere), os.path.basename(path)))

    def touch(self, rng: random.Random, path: str | None = None) -> set[str]:
        with self._lock:
            path = path or rng.choice(self.whole())
            os.utime(path)
            return {sha1_of(self._files[path][1])}

    # --- parts ----------------------------------------------------------------------------------

    def _changed(
        self, path: str, content: bytes, write: Callable[[str, Kind, bytes], None], kind: Kind = Kind.WHOLE
    ) -> set[str]:
        before = sha1_of(self._files[path][1])
        write(path, kind, content)
        return {before, sha1_of(content)}

    def _note(self, path: str, kind: Kind, content: bytes) -> None:
        self.versions.add(sha1_of(content))
        self._files[path] = kind, content

    def _put(self, path: str, kind: Kind, content: bytes) -> None:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        staged = self._staging / "file"
        staged.write_bytes(content)
        self._note(path, kind, content)
        os.replace(staged, path)

    def _append(self, path: str, kind: Kind, content: bytes) -> None:
        before = len(self._files[path][1])
        self._note(path, kind, content)
        with open(path, "ab", buffering=0) as file:
            file.write(content[before:])

    def _overwrite_end(self, path: str, kind: Kind, content: bytes) -> None:
        self._note(path, kind, content)
        with open(path, "r+b", buffering=0) as file:
            file.seek(-1, os.SEEK_END)
            file.write(content[-1:])

    def _truncate(self, path: str, kind: Kind, content: bytes) -> None:
        self._note(path, kind, content)
        os.truncate(path, len(content))

    def _rename(self, path: str, target: str) -> set[str]:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        self._files[target] = self._files.pop(path)
        os.replace(path, target)
        return {sha1_of(self._files[target][1])}


class RecordingBox(EmbeddedBox):
    """A Box that keeps a list of what it accepted, in which `run` of the command.

    `is_trusting` takes the declared hashes for those of the bytes.
    """

    def __init__(self, folder: Path, *, is_trusting: bool = False) -> None:
        super().__init__(folder, shard_size=3, device_id=DEVICE_ID, token=TOKEN, fsync=False)
        self.run = 0
        self.is_trusting = is_trusting
        self.in_hand = 0
        self.accepted: list[tuple[RequestInfo, str, int]] = []
        self.changed = threading.Condition()

    def _calls(self, store: Store) -> Calls:
        calls = super()._calls(store)
        original = calls.answer

        def answer(info: RequestInfo, body: Body) -> Answer:
            with self.changed:
                self.in_hand += 1
            try:
                answered = original(info, Trusted(body, info.query.get("hash", "")) if self.is_trusting else body)
                if info.call == "content" and answered.status in (200, 204):
                    with self.changed:
                        self.accepted.append((info, body.sha1(), self.run))
                return answered
            finally:
                with self.changed:
                    self.in_hand -= 1

        calls.answer = answer  # type: ignore[method-assign]
        return calls

    def wait_until_idle(self) -> None:
        """Until all that ended clients had sent is worked off: then no connection of theirs is left."""
        deadline = time.monotonic() + LONGEST_RUN_S
        while self.in_hand or self._has_connections():
            assert time.monotonic() < deadline, "the Box does not come to rest"
            time.sleep(0.002)

    def _has_connections(self) -> bool:
        ours = f":{self.port:04X}"
        with open("/proc/net/tcp", encoding="ascii") as table:
            rows = (line.split() for line in table)
            return any(row[1].endswith(ours) and row[3] in _OPEN_STATES for row in rows)

    def deliveries(self) -> list[Delivery]:
        """What was accepted, in order."""
        answered = {id(record.info): record.answered for record in self.log.records()}
        names = {camera.camera_id: camera.name for camera in self.cameras()}
        return [
            Delivery(
                camera_name=names[info.query["camera_id"]],
                timestamp=info.query["timestamp"],
                sha1=sha1,
                size_bytes=info.content_length or 0,
                run=run,
                is_acknowledged=answered[id(info)],
            )
            for info, sha1, run in self.accepted
        ]


@dataclass(frozen=True)
class Trusted:
    """A body that is taken to have the hash that was declared."""

    body: Body
    declared: str

    def json_object(self) -> dict[str, Any]:
        return self.body.json_object()

    def blocks(self) -> Iterator[memoryview]:
        return self.body.blocks()

    def sha1(self) -> str:
        return self.declared


class World:
    """A disk, a Box, and the runs of the command between them, all below `place`. A context manager."""

    def __init__(
        self,
        place: Path,
        launcher: Launcher,
        *,
        is_trusting: bool = False,
        workers: int = 2,
        defects: Sequence[Action] = (),
    ) -> None:
        """`workers` is how many videos are sent at once; `defects` are switched on in all runs that are not real."""
        place.mkdir(parents=True, exist_ok=True)
        self.place = place
        self.launcher = launcher
        self.workers = workers
        self.defects = defects
        self.variables = {"CAMIO_OAUTH_TOKEN": TOKEN, "TMPDIR": str(place / "tmp")}
        self.disk = Disk(place / "videos")
        self.box = RecordingBox(place / "box", is_trusting=is_trusting)
        self.ledger = place / "state" / "ledger.db"
        self.ledger.parent.mkdir()
        self.runs: list[Run] = []
        self.marks: dict[int, tuple[str, str]] = {}
        self.rerun: Rerun | None = None
        self._process: Forked | Real | None = None
        self._is_running = False

    def __enter__(self) -> World:
        self.box.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.box.stop()

    # --- running --------------------------------------------------------------------------------

    def run(
        self,
        *options: str,
        before: Sequence[Action] = (),
        is_real: bool = False,
        meanwhile: Callable[[Forked | Real], object] = lambda process: None,
    ) -> Run:
        """One run of the command. A real one has an interpreter of its own, and actions are not for it.

        `meanwhile` is called with the process when it has begun.
        """
        run = Run(number=len(self.runs))
        self.runs.append(run)
        self.box.run = run.number
        out, err = self.place / "out", self.place / "err"
        (self.place / "tmp").mkdir(exist_ok=True)
        arguments = [
            "--regex", f"(?s){PATTERN}", "--storage", str(self.ledger), "--api_url", self.box.url, "--json",
            "--workers", str(self.workers), "--log_file", str(self.place / "log"), *options,
            str(self.disk.folder), f"{self.box.host}:{self.box.port}",
        ]  # fmt: skip
        run.arguments = arguments
        self._is_running = True
        home = self.place / "home"
        if is_real:
            process: Forked | Real = Real(arguments, environment(home, **self.variables), out, err)
        else:
            actions = [hurry(), *self.defects, *before]
            process = self.launcher.start(*arguments, home=home, before=actions, out=out, err=err, **self.variables)
        self._process = process
        meanwhile(process)
        try:
            run.status = process.wait()
        finally:
            self._process = None
        self.box.wait_until_idle()
        self._is_running = False
        run.summary = _summary(out)
        run.processes = processes_of_session(process.pid) if is_real else []
        return run

    def signal(self, number: int) -> None:
        """To the process that runs now, if there is one."""
        process = self._process
        if process is not None:
            with suppress(ProcessLookupError):
                process.send_signal(number)

    def change(self, change: Callable[[], set[str]]) -> None:
        """Change the disk, if there is enough on it to change; what is touched under a run is noted there."""
        if len(self.disk.whole()) < 3:
            return
        touched = change()
        if self._is_running:
            self.runs[-1].touched |= touched

    def settle(self, *, is_real: bool = False, most_runs: int = 5) -> Run:
        """Run until nothing is left to do. No faults, and nothing changes."""
        self.box.faults.clear()
        for _ in range(most_runs):
            run = self.run("--retry_failed", is_real=is_real)
            if run.status in (0, 3) and run.summary and not run.summary["pending"] and not run.summary["shards_open"]:
                return run
        raise AssertionError(f"after {most_runs} undisturbed runs there is still something to do: {run}")

    def run_again(self) -> Run:
        """A run with nothing new, of which is known whom it called and what it opened."""
        notes = self.place / "opened"
        calls = len(self.box.log)
        run = self.run(before=[note_opened(notes)])
        opened = [json.loads(line) for line in notes.read_text("ascii").splitlines()]
        folder = str(self.disk.folder)
        self.rerun = Rerun(
            calls=self.box.log.calls()[calls:],
            opened=[path for path in opened if path.startswith(folder) and not os.path.isdir(path)],
        )
        return run

    # --- checking -------------------------------------------------------------------------------

    def evidence(self) -> Evidence:
        """All that is known from outside."""
        return Evidence(
            folder=self.disk.folder,
            rows=read_ledger(self.ledger, self.place / "copied ledger"),
            disk=self.disk.held(),
            versions=set(self.disk.versions),
            deliveries=self.box.deliveries(),
            jobs=self.box.jobs(),
            runs=self.runs,
            marks=dict(self.marks),
            workers=self.workers,
            secrets=(TOKEN, DEVICE_ID),
            places={
                "state": self.ledger.parent, "tmp": self.place / "tmp", "home": self.place / "home",
                "out": self.place / "out", "err": self.place / "err", "log": self.place / "log",
            },
            rerun=self.rerun,
        )  # fmt: skip

    def problems(self, *, is_done: bool) -> list[str]:
        """What is wrong now; see `checks.check`. Remembers what is uploaded, for the next time."""
        evidence = self.evidence()
        problems = check(evidence, is_done=is_done)
        self.marks |= evidence.rows.marks()
        return problems


class Real:
    """A run of the command in an interpreter of its own. As `Forked`."""

    def __init__(self, arguments: Sequence[str], variables: dict[str, str], out: Path, err: Path) -> None:
        with open(out, "wb") as out_file, open(err, "wb") as err_file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "camio_import", *arguments],
                env=variables, stdin=subprocess.DEVNULL, stdout=out_file, stderr=err_file, start_new_session=True,
            )  # fmt: skip
        self.pid = self._process.pid

    def send_signal(self, number: int) -> None:
        self._process.send_signal(number)

    def wait(self, timeout_s: float = LONGEST_RUN_S) -> int:
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            raise TimeoutError(f"the run was not over within {timeout_s:.0f} s") from None


def sha1_of(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def _summary(out: Path) -> dict[str, Any] | None:
    for line in reversed(out.read_text("utf-8").splitlines()):
        with suppress(ValueError):  # the run may have been killed in the middle of the line
            event = json.loads(line)
            if event["event"] == "run_finished":
                return {name: value for name, value in event.items() if name not in ("event", "at")}
    return None


def processes_of_session(pid: int) -> list[int]:
    """The processes of the session that this one has begun."""
    left = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = status.read_text("utf-8", "replace").rpartition(")")[2].split()
            if int(fields[3]) == pid:
                left.append(int(status.parent.name))
    return left
