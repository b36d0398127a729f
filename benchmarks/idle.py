"""What a watch costs while nothing happens: CPU, memory, descriptors and context switches with many files present.

    python benchmarks/idle.py [--files N] [--seconds S]

The files are sent first; then it is waited until the job is complete. The goal is less than 0.5 % of a core.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path

from station import FIRST_EPOCH, BoxProcess, ClipSource, Station, machine

from camio_import.errors import LedgerUnusable
from camio_import.ledger_report import LedgerReport

FILES_PER_FOLDER = 500
CALM_DOWN_S = 20.0
GOAL_SHARE = 0.005
MOST_WAIT_S = 900.0

WAYS: list[tuple[str, list[str]]] = [
    ("events, --rescan 10min", []),
    ("--poll", ["--poll"]),
    ("events, --rescan 30s", ["--rescan", "30"]),
]
"""The last one shows what looking through all files costs; the goal is for the others."""


def measure(
    place: Path, folder: Path, box: BoxProcess, files: int, name: str, options: list[str], seconds: float
) -> bool:
    """Watch in this way, let it calm down, and print what it then uses; returns whether the goal was met."""
    station = Station(place, [folder], box.port, [*options, "--batch_seconds", "2"])
    station.start_watch()
    try:
        _wait_until_sent(station, files)
        time.sleep(CALM_DOWN_S)
        before, began_at = station.usage(), time.monotonic()
        time.sleep(seconds)
        after, took_s = station.usage(), time.monotonic() - began_at
        if before is None or after is None:
            print(f"| {name} | the watch ended |")
            return False
    finally:
        station.end(signal.SIGTERM)
    share = (after.cpu_s - before.cpu_s) / took_s
    print(
        f"| {name} | {took_s:.0f} | {share:.2%} | {after.rss_kb / 1024:.0f} | {after.descriptors} | {after.threads} "
        f"| {(after.switches - before.switches) / took_s:.1f} |",
        flush=True,
    )
    return share < GOAL_SHARE


def _wait_until_sent(station: Station, files: int) -> None:
    deadline = time.monotonic() + MOST_WAIT_S
    while time.monotonic() < deadline:
        try:
            with LedgerReport(station.ledger) as report:
                if report.states()["registered"] == files:
                    return
        except LedgerUnusable:
            pass  # there is none yet
        time.sleep(1)
    raise TimeoutError(f"the {files} files were not sent within {MOST_WAIT_S:.0f} s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000, help="files in the folder (default: 10,000)")
    parser.add_argument("--seconds", type=float, default=90, help="how long each way is measured (default: 90)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="camio-idle-") as place_name:
        place = Path(place_name)
        folder = place / "videos"
        clips = ClipSource()
        for number in range(options.files):
            subfolder = folder / f"{number // FILES_PER_FOLDER:03}"
            subfolder.mkdir(parents=True, exist_ok=True)
            path = subfolder / f"CAM_{'AB'[number % 2]}-{FIRST_EPOCH + number * 60}.mp4"
            path.write_bytes(clips.content(number))
        print(f"{machine(place)}; {options.files:,} files", end="\n\n")
        print("| how | seconds | share of a core | RSS MiB | descriptors | threads | context switches per s |")
        print("|---|---|---|---|---|---|---|")
        box = BoxProcess(place / "box")
        box.start()
        try:
            met = [measure(place, folder, box, options.files, name, words, options.seconds) for name, words in WAYS]
        finally:
            box.go_away(killed=False)
    print(f"\nthe goal (less than {GOAL_SHARE:.1%} of a core) was {'met' if all(met[:-1]) else 'NOT met'}")
    return 0 if all(met[:-1]) else 1


if __name__ == "__main__":
    sys.exit(main())
