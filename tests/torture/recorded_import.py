"""Imports a folder several times into one ledger, and tells what it relies on.

    python recorded_import.py PLACE CLIPS SYNCHRONOUS CHECKPOINT_PAGES

PLACE/told.txt gets a line, as soon as the ledger's call has returned,

    sent SHA1       the hook is about to be done with a file
    uploaded SHA1   the mark is committed: the engine goes on, and will never send this file again
    job JOB_ID      the job is committed, and files may be sent for it

In between there are versions of files, copies, bad files, refusals, an end without closing, a kill.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from clips import distinct_clip_bytes
from runs import Recorder, TakesJobs, clip_reader

from camio_import.errors import Refused, RetryLater
from camio_import.hooks import CheckedHook
from camio_import.model import HashedClip, JobPlan, JobRequest, Receipt
from camio_import.state import Ledger
from camio_import.uploader import Importer, ImportOptions
from camio_import.walker import Walker


class Told:
    """The file that gets the lines."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def __call__(self, line: str) -> None:
        os.write(self._descriptor, os.fsencode(line) + b"\n")


class TellingLedger(Ledger):
    """Tells of each mark when the transaction that made it has returned."""

    def __init__(self, path: Path, *, told: Told, synchronous: str, checkpoint_pages: int) -> None:
        self._told = told
        self._marks: list[str] = []
        super().__init__(path, destination="test")
        self._db.execute(f"PRAGMA synchronous={synchronous}")
        self._db.execute(f"PRAGMA wal_autocheckpoint={checkpoint_pages}")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        is_inner = self._depth > 0
        with super().transaction():
            yield
        if not is_inner:
            self._tell()

    def commit_so_far(self) -> None:
        super().commit_so_far()
        self._tell()

    def _tell(self) -> None:
        for mark in self._marks:
            self._told(mark)
        self._marks.clear()

    def finish_upload(self, file_id: int, **options: Any) -> None:
        with self.transaction():
            super().finish_upload(file_id, **options)
            sha1 = self._value("SELECT lower(hex(sha1)) FROM file WHERE id = ?", (file_id,))
            self._marks.append(f"uploaded {sha1}")

    def assign(self, job: int, plan: JobPlan, **options: Any) -> None:
        with self.transaction():
            super().assign(job, plan, **options)
            self._marks.append(f"job {plan.job_id}")


@dataclass
class TellingHook(TakesJobs):
    """A service that takes everything, but for what `refuse` says."""

    told: Callable[[str], None] = lambda line: None

    def create_job(self, *, request: JobRequest) -> JobPlan:
        return replace(super().create_job(request=request), job_id=f"job-{secrets.token_hex(4)}")

    def post_clip(self, *, clip: HashedClip, **options: Any) -> Receipt:
        receipt = super().post_clip(clip=clip, **options)
        self.told(f"sent {hashlib.sha1(Path(clip.clip.file.path).read_bytes()).hexdigest()}")
        return receipt


def main() -> None:
    place, clips, synchronous, checkpoint_pages = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    told, videos = Told(place / "told.txt"), place / "videos"

    def run(*, is_closed: bool = True, refuse: Callable[[HashedClip], None] = lambda clip: None) -> None:
        ledger = TellingLedger(
            place / "store" / "state" / "ledger.db",
            told=told, synchronous=synchronous, checkpoint_pages=checkpoint_pages,
        )  # fmt: skip
        walker = Walker(str(videos), ["mp4"])
        importer = Importer(
            ledger, CheckedHook(TellingHook(refuse=refuse, told=told), name="test"), walker,
            clip_reader(walker.root), ImportOptions("test"), Recorder(),
        )  # fmt: skip
        importer.run()
        if is_closed:
            ledger.close()
        else:
            os._exit(0)

    def in_another_process(**options: Any) -> None:
        child = os.fork()
        if child == 0:
            try:
                run(**options)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0

    def refuse_some(clip: HashedClip) -> None:
        if clip.clip.file.path.endswith("6.mp4"):
            raise Refused("no")
        if clip.clip.file.path.endswith("7.mp4") and clip.clip.file.path not in stumbled:
            stumbled.add(clip.clip.file.path)
            raise RetryLater("busy", retry_after_s=0)

    stumbled: set[str] = set()
    _write(videos, range(clips))
    (videos / "CAM_B-1500000001.mp4").write_bytes(distinct_clip_bytes(1))  # a copy
    (videos / "CAM_A-1500000002.mp4").write_bytes(b"")
    (videos / "a wrong name.mp4").write_bytes(b"not a video")
    run(refuse=refuse_some)
    _write(videos, range(2, clips, 3), version=1)
    in_another_process(is_closed=False)  # the write-ahead log stays behind
    _write(videos, range(clips, clips + clips // 2))
    in_another_process(is_closed=False)
    (videos / f"CAM_A-{EPOCH}.mp4").unlink()
    _write(videos, [3], version=2)
    run()
    run()


EPOCH = 1_475_973_147


def _write(videos: Path, numbers: Any, *, version: int = 0) -> None:
    videos.mkdir(exist_ok=True)
    for number in numbers:
        camera = "CAM_A" if number % 2 == 0 else "CAM_B"
        path = videos / f"{camera}-{EPOCH + number}.mp4"
        path.write_bytes(distinct_clip_bytes(number + 1000 * version))
        os.utime(path, (EPOCH, EPOCH + version))


if __name__ == "__main__":
    main()
