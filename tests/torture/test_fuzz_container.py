"""No content of a file, however damaged, makes reading it fail, hang or take much memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pytest
from clips import Video, audio_only_bytes
from command import IS_LONG
from fuzz_container import check
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

SETTINGS = settings(
    max_examples=8_000 if IS_LONG else 400,
    derandomize=not IS_LONG,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
FUZZING_S = 180
MOST_MEMORY_BYTES = 256 << 20

VIDEOS = (
    Video(), Video(faststart=True), Video(fragmented=True), Video(codec="mpeg4"),
    Video(suffix=".mkv"), Video(suffix=".avi"), Video(suffix=".ts"), Video(suffix=".mov"),
)  # fmt: skip


@cache
def originals() -> tuple[bytes, ...]:
    return (*(video.content() for video in VIDEOS), audio_only_bytes())


def headers_in(content: bytes) -> list[int]:
    """Where something that looks like the four letters of a box stands: damage there does most."""
    return [at for at in range(4, len(content) - 4) if content[at : at + 4].isalpha()] or [0]


Change = Callable[[bytes], bytes]
ODD_NUMBERS = st.sampled_from([0, 1, 7, 8, 9, 15, 16, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFF0, 0x00FFFFFF])
PIECES = ODD_NUMBERS.map(lambda number: number.to_bytes(4, "big")) | st.binary(min_size=1, max_size=16)


def places(content: bytes) -> st.SearchStrategy[int]:
    return st.integers(0, max(0, len(content) - 1)) | st.builds(
        lambda at, by: max(0, at + by), st.sampled_from(headers_in(content)), st.sampled_from([-4, 0, 4, 8, 12, 16])
    )


@st.composite
def damaged(draw: Callable[[st.SearchStrategy], object]) -> bytes:
    """A real video after a few accidents."""
    content = draw(st.sampled_from(originals()))
    for _ in range(draw(st.integers(1, 4))):
        at, other = draw(places(content)), draw(places(content))
        start, end = min(at, other), max(at, other)
        what = draw(st.sampled_from(["overwrite", "overwrite", "overwrite", "insert", "cut", "leave out", "repeat"]))
        if what == "overwrite":
            piece = draw(PIECES)
            content = content[:at] + piece + content[at + len(piece) :]
        elif what == "insert":
            content = content[:at] + draw(PIECES) + content[at:]
        elif what == "cut":
            content = content[:at]
        elif what == "leave out":
            content = content[:start] + content[end:]
        else:
            content = content[:end] + content[start:end][:4096] + content[end:]
    return content


@SETTINGS
@given(damaged() | st.binary(max_size=200))
@example(b"")
@example(b"\0\0\0\x01mdat" + b"\xff" * 8)
@example(b"\0\0\0\x01moov\0\0\0\0\0\0\0\0")
@example(b"\0\0\0\x08free" * 10_000)
@example(b"\0\0\0\x10moov\x7f\xff\xff\xfftrak")
def test_any_content_gives_a_result(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    check(content, tmp_path_factory.getbasetemp() / "fuzzed.mp4")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell how much memory was needed at most")
def test_damage_costs_no_memory(tmp_path: Path) -> None:
    """Counts that say that there is much to come must not be believed."""
    program = """
import resource, sys
from pathlib import Path
from fuzz_container import check
from test_fuzz_container import headers_in, originals
path = Path(sys.argv[1])
contents = originals()
for content in contents:
    check(content, path)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for content in contents:
    for at in headers_in(content)[::3]:
        for by in (8, 12, 16):
            check(content[: at + by] + b"\\x7f\\xff\\xff\\xff" + content[at + by + 4 :], path)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    more_kib = int(run_python("-c", program, str(tmp_path / "clip.mp4"), timeout_s=300).split()[-1])
    unit_bytes = 1 if sys.platform == "darwin" else 1024
    assert more_kib * unit_bytes < MOST_MEMORY_BYTES


def run_python(*arguments: str, timeout_s: float, cwd: Path | None = None) -> str:
    folders = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)}, cwd=cwd,
        capture_output=True, text=True, errors="replace", timeout=timeout_s, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.skipif(not IS_LONG, reason="takes long: set CAMIO_IMPORT_LONG_TESTS=1")
@pytest.mark.long_running
def test_a_fuzzer_that_looks_for_new_paths_finds_nothing(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris is not here: pip install -r requirements-torture.txt")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, content in enumerate(originals()):
        (corpus / f"{number}").write_bytes(content)
    limits: Sequence[str] = (
        f"-max_total_time={FUZZING_S}", "-timeout=60", "-rss_limit_mb=2048", "-max_len=20000", "-verbosity=0",
    )  # fmt: skip
    program = str(Path(__file__).with_name("fuzz_container.py"))
    run_python(program, str(corpus), *limits, timeout_s=FUZZING_S + 300, cwd=tmp_path)
