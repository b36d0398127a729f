"""How long the labels of a large job take to download and write, and how much memory that needs.

    python benchmarks/labels.py [--clips N] [--labels N]

The clips are imported first, and labelled at even distances; then the command downloads them from the Box, which is
another process. `--merge_gap 0` makes a bookmark of every label, the worst there is. The goal is flat memory: the
largest download may need no more than 64 MiB beyond a small one.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from station import FIRST_EPOCH, BoxProcess, ClipSource, Station, environment, machine

from camio_import.labels import PAGE_RESULTS

FILES_PER_FOLDER = 500
CAMERAS = ("CAM_A", "CAM_B", "CAM_C", "CAM_D")
LABELS = ("human", "boat", "net", "_ml_human", "bird", "shark", "hand", "_color_red")
CLIP_S = 0.4
IMPORT_TIMEOUT_S = 1800.0
SAMPLE_EVERY_S = 0.02
GOAL_GROWTH_KB = 64 * 1024

WAYS: list[tuple[str, list[str]]] = [
    ("one page", ["--format", "json"]),
    ("json", ["--format", "json"]),
    ("csv, --merge_gap 0", ["--format", "csv", "--merge_gap", "0"]),
    ("html", ["--format", "html"]),
    ("all but the per-clip formats", ["--format", "json,csv,xml,jsonl,xspf,m3u,edl,html"]),
    ("vtt, srt, ffmetadata", ["--format", "vtt,srt,ffmetadata"]),
]
"""The first is of another job, a small one: what the program needs anyway."""


def make_clips(folder: Path, count: int, first: int) -> None:
    """Clips of all cameras, a minute apart."""
    source = ClipSource()
    for number in range(first, first + count):
        step, camera = divmod(number, len(CAMERAS))
        place = folder / f"{number // FILES_PER_FOLDER:03}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{CAMERAS[camera]}-{FIRST_EPOCH + step * 60}.mp4").write_bytes(source.content(number))


def imported(place: Path, station: Station, box: BoxProcess, name: str, count: int, first: int) -> str:
    """Import so many clips; returns the job's id."""
    folder = place / name
    make_clips(folder, count, first)
    began_at = time.monotonic()
    status = station.import_once(folder, IMPORT_TIMEOUT_S)
    if status != 0:
        raise RuntimeError(f"the import ended with {status}:\n{station.output.read_text()[-2000:]}")
    print(f"{count:,} clips imported in {time.monotonic() - began_at:.0f} s", flush=True)
    box.go_away(killed=False)
    with box.left_behind() as left:
        job_id = left.jobs()[-1].job_id
    box.start()
    return job_id


def label(box: BoxProcess, count: int) -> None:
    """Give the clips so many labels, all together."""
    box.go_away(killed=False)
    with box.left_behind() as left:
        contents = left.contents()
        each = -(-count // len(contents))
        began_at = time.monotonic()
        for content in contents:
            for number in range(each):
                left.add_labels(content.sha1, [LABELS[number % len(LABELS)]], offset_s=number * CLIP_S / each)
        print(f"{each * len(contents):,} labels given in {time.monotonic() - began_at:.0f} s", flush=True)
    box.start()


def measure(
    place: Path, station: Station, box: BoxProcess, job_id: str, options: list[str]
) -> tuple[float, float, int]:
    """Download once; returns the seconds that it took, its seconds of CPU, and its largest memory in kB."""
    output = tempfile.mkdtemp(dir=place)
    command = [
        sys.executable, "-m", "camio_import", "labels", job_id, "-o", output, "--storage", str(station.ledger),
        "--api_url", f"http://127.0.0.1:{box.port}", *options,
    ]  # fmt: skip
    began_at, before = time.monotonic(), os.times()
    peak_kb = 0
    with open(station.output, "ab") as log:
        process = subprocess.Popen(command, env=environment(place / "home"), stdout=log, stderr=log)
    while process.poll() is None:
        peak_kb = max(peak_kb, _peak_kb(process.pid))
        time.sleep(SAMPLE_EVERY_S)
    if process.returncode != 0:
        raise RuntimeError(f"it ended with {process.returncode}:\n{station.output.read_text()[-2000:]}")
    took_s, after = time.monotonic() - began_at, os.times()
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return took_s, cpu_s, peak_kb


def _peak_kb(pid: int) -> int:
    """The largest memory until now. What `wait4` tells at the end may be that of this program before the start."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--clips", type=int, default=5000, metavar="N", help="default: %(default)s")
    parser.add_argument("--labels", type=int, default=200_000, metavar="N", help="default: %(default)s")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="camio-bench-") as name:
        place = Path(name)
        print(machine(place), flush=True)
        box = BoxProcess(place / "box")
        box.start()
        try:
            station = Station(place, [], box.port)
            small = imported(place, station, box, "small", PAGE_RESULTS // 2, options.clips + len(CAMERAS))
            large = imported(place, station, box, "large", options.clips, 0)
            label(box, options.labels)
            print("\n| written | seconds | seconds of CPU | peak RSS, MiB |\n|---|---|---|---|", flush=True)
            peaks = []
            for number, (what, more) in enumerate(WAYS):
                took_s, cpu_s, peak_kb = measure(place, station, box, large if number else small, more)
                print(f"| {what} | {took_s:.1f} | {cpu_s:.1f} | {peak_kb / 1024:.0f} |", flush=True)
                peaks.append(peak_kb)
        finally:
            box.go_away(killed=True)
    return int(max(peaks) - peaks[0] > GOAL_GROWTH_KB)


if __name__ == "__main__":
    sys.exit(main())
