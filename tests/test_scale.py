"""Thousands of files with real containers: once in full, and once more with nothing to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from clips import many_clips
from command import IS_LONG, PATTERN, TOKEN, run

from camio_import.box import EmbeddedBox

FILES = 10_000 if IS_LONG else 2_000
"""More than a shard in any case."""

OPENS_COUNTED = """
import atexit, json, os, sys
videos, report = sys.argv[1], sys.argv[2]
opened = set()

def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        path = os.fsdecode(arguments[0])
        if path.startswith(videos + os.sep):
            opened.add(path)

sys.addaudithook(watch)
atexit.register(lambda: json.dump(len(opened), open(report, "w")))
from camio_import.cli import main
sys.exit(main(sys.argv[3:]))
"""


@pytest.mark.long_running
def test_thousands_of_files_and_a_second_run_that_opens_none(tmp_path: Path) -> None:
    videos, report = tmp_path / "videos", tmp_path / "opened.json"
    many_clips(videos, FILES, per_folder=1000)
    program = tmp_path / "count_opens.py"
    program.write_text(OPENS_COUNTED)
    counted = [str(program)]
    with EmbeddedBox(tmp_path / "box", fsync=False) as box:
        command = [
            str(videos), str(report), "--json", "--regex", PATTERN, "--storage", tmp_path / "ledger.db",
            "--api_url", box.url, videos, f"{box.host}:{box.port}",
        ]  # fmt: skip
        first = run(*command, program=counted, home=tmp_path, timeout_s=500, CAMIO_OAUTH_TOKEN=TOKEN).must(0)
        end = json.loads(first.out.splitlines()[-1])
        assert (end["event"], end["found"], end["uploaded"]) == ("run_finished", FILES, FILES)
        assert json.loads(report.read_text()) == FILES, "the negative control: opens are seen when there are some"
        assert len(box.contents()) == FILES
        assert sum(content.times_accepted for content in box.contents()) == FILES
        assert [job.status for job in box.jobs()] == ["complete"]

        calls = len(box.log)
        second = run(*command, program=counted, home=tmp_path, timeout_s=500, CAMIO_OAUTH_TOKEN=TOKEN).must(0)
        end = json.loads(second.out.splitlines()[-1])
        assert (end["found"], end["already_uploaded"], end["uploaded"]) == (FILES, FILES, 0)
        assert len(box.log) == calls, "nothing is sent"
        assert json.loads(report.read_text()) == 0, "no file's content is read"
