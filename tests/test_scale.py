"""Ten thousand files with real containers: once in full, and once more with nothing to do."""

from __future__ import annotations

import json
import os
from pathlib import Path

from clips import many_clips
from command import PATTERN, run

FILES = 10_000

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


def test_ten_thousand_files_and_a_second_run_that_opens_none(tmp_path: Path) -> None:
    videos, report = tmp_path / "videos", tmp_path / "opened.json"
    many_clips(videos, FILES, per_folder=1000)
    program = tmp_path / "count_opens.py"
    program.write_text(OPENS_COUNTED)
    command = ["--json", "--regex", PATTERN, "--storage", tmp_path / "ledger.db", videos, "local"]

    first = run(
        str(videos), str(report), *command, program=[str(program)], home=tmp_path, timeout_s=300
    ).must(0)  # fmt: skip
    end = json.loads(first.out.splitlines()[-1])
    assert (end["event"], end["found"], end["uploaded"]) == ("run_finished", FILES, FILES)
    assert json.loads(report.read_text()) == FILES, "the negative control: opens are seen when there are some"
    stored = sum(
        1 for _, _, files in os.walk(tmp_path / "ledger-box" / "contents") for name in files if name.endswith(".mp4")
    )
    assert stored == FILES

    second = run(str(videos), str(report), *command, program=[str(program)], home=tmp_path, timeout_s=300).must(0)
    events = [json.loads(line) for line in second.out.splitlines()]
    assert events[-1]["already_uploaded"] == FILES
    assert not [event for event in events if event["event"] in ("connected", "job_created", "upload_started")]
    assert json.loads(report.read_text()) == 0
