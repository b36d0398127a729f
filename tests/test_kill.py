"""Pulling the plug at every step of an import; then the same command."""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from clips import many_clips, tiny_clip_bytes
from command import PATTERN, TOKEN, run
from killer import STEPS, Launcher, kill_at

from camio_import.box import EmbeddedBox

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

FILES = 12
COUNTS = {"file found": 7, "hash known": 5, "upload begun": 4, "accepted, not recorded": 6, "upload recorded": 9}


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    with Launcher() as running:
        yield running


@pytest.mark.parametrize("step", STEPS)
def test_every_file_arrives_after_a_kill(step: str, launcher: Launcher, tmp_path: Path) -> None:
    videos, ledger = tmp_path / "videos", tmp_path / "ledger.db"
    many_clips(videos, FILES)
    (videos / "CAM_A-1999999999.mp4").write_bytes(tiny_clip_bytes(7))
    (videos / "CAM_A-1999999998.mp4").write_bytes(tiny_clip_bytes(7))  # a copy
    with EmbeddedBox(tmp_path / "box", shard_size=5, fsync=False) as box:
        command = [
            "--regex", PATTERN, "--storage", ledger, "--api_url", box.url, "--workers", "2",
            videos, f"{box.host}:{box.port}",
        ]  # fmt: skip

        def status_of_run(**options: object) -> int:
            return launcher.start(*command, home=tmp_path, CAMIO_OAUTH_TOKEN=TOKEN, **options).wait()  # type: ignore[arg-type]

        assert status_of_run(before=[kill_at(step, COUNTS.get(step, 1))]) == -signal.SIGKILL
        before = _uploaded(ledger)

        assert status_of_run() == 0

        on_disk = {(path.name.split("-")[0], _sha1(path)) for path in videos.iterdir()}
        in_box = {(content.camera_name, content.sha1) for content in box.contents()}
        assert in_box == on_disk
        after = _uploaded(ledger)
        assert set(after) == {sha1 for _, sha1 in on_disk}
        assert before <= after, "the ledger went back"
        sent_twice = sum(content.times_accepted - 1 for content in box.contents())
        assert sent_twice <= 2, "more than what two uploaders can have had in flight was sent again"
        _assert_every_shard_is_registered(box, ledger)

        calls = len(box.log)
        assert status_of_run() == 0
        assert len(box.log) == calls, "a run with nothing new calls nobody"
    assert sorted(path.name for path in tmp_path.glob("ledger.db*")) == ["ledger.db"]


@pytest.mark.parametrize("step", ["upload recorded", "shard due"])
def test_an_import_into_the_box_inside_the_program_carries_on_too(
    step: str, launcher: Launcher, tmp_path: Path
) -> None:
    """Its port is another one in each run, and the job was made under the first."""
    many_clips(tmp_path / "videos", 4)
    command = ["--regex", PATTERN, "--storage", tmp_path / "ledger.db", tmp_path / "videos", "local"]
    killing = [kill_at(step, COUNTS.get(step, 1) // 2 or 1)]
    assert launcher.start(*command, home=tmp_path, before=killing).wait() == -signal.SIGKILL
    run(*command, home=tmp_path).must(0)
    with EmbeddedBox(tmp_path / "ledger-box") as box:
        assert len(box.contents()) == 4
        _assert_every_shard_is_registered(box, tmp_path / "ledger.db")


def _assert_every_shard_is_registered(box: EmbeddedBox, ledger: Path) -> None:
    db = sqlite3.connect(ledger)
    known = {row[0] for row in db.execute("SELECT job_id FROM job WHERE state = 'created'")}
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert db.execute("SELECT count(*) FROM shard WHERE registered_at IS NULL").fetchone() == (0,)
    planned = {
        (job_id, shard_id): set(shas.split(","))
        for job_id, shard_id, shas in db.execute(
            "SELECT job_id, shard_id, group_concat(lower(hex(sha1))) FROM file JOIN job ON job.id = file.job"
            " JOIN shard ON shard.job = job.id AND shard.number = file.shard WHERE file.state = 'uploaded'"
            " GROUP BY job_id, shard_id"
        )
    }
    db.close()
    jobs = [job for job in box.jobs() if job.job_id in known]
    assert jobs
    registered = {(job.job_id, shard.shard_id): set(shard.hash_map or ()) for job in jobs for shard in job.shards}
    assert registered == planned


def _uploaded(ledger: Path) -> Counter[str]:
    if not ledger.exists():
        return Counter()
    db = sqlite3.connect(ledger)
    try:
        return Counter(row[0] for row in db.execute("SELECT lower(hex(sha1)) FROM file WHERE state = 'uploaded'"))
    finally:
        db.close()


def _sha1(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()
