"""How long a clip takes from its last write to the first byte of its upload at the Box.

    python benchmarks/latency.py [--arrivals N] [--settle SECONDS ...]

Clips are written as a recorder does it (the index last), or renamed into place; one by one, or ten at once. Prints
median, 95th percentile and maximum. The goal is a median of less than half a second beyond the settle time.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

from station import FIRST_EPOCH, ClipSource, Station, machine

from camio_import.box import EmbeddedBox, Fault, RequestInfo

EVERY_S = 0.15
"""So many seconds lie between two clips that come one by one: the waits for them overlap."""
BURST_FILES = 10
BURST_EVERY_S = 1.5
GOAL_S = 0.5
MOST_WAIT_S = 60.0


@dataclass(slots=True)
class Times:
    """By content: when the last byte was written, and when the upload began at the Box; in monotonic seconds."""

    written: dict[str, float]
    begun: dict[str, float]

    def note_upload(self, info: RequestInfo) -> None:
        self.begun.setdefault(info.query.get("hash", ""), time.monotonic())


class Writer:
    """Puts clips into the watched folder."""

    def __init__(self, folder: Path, times: Times) -> None:
        self._folder = folder
        self._times = times
        self._clips = ClipSource()
        self._number = 0

    def write(self) -> str:
        """As a recorder does it. Returns the content's SHA-1."""
        path, head, index = self._next()
        with open(path, "wb", buffering=0) as file:
            file.write(head)
            time.sleep(0.02)
            file.write(index)
            return self._note(head + index)

    def rename_in(self) -> str:
        """Written under another name, then renamed into place: the rename counts."""
        path, head, index = self._next()
        part = path.with_name(path.name + ".part")
        part.write_bytes(head + index)
        part.rename(path)
        return self._note(head + index)

    def _next(self) -> tuple[Path, bytes, bytes]:
        self._number += 1
        path = self._folder / f"CAM_{'AB'[self._number % 2]}-{FIRST_EPOCH + self._number * 60}.mp4"
        return path, *self._clips.parts(self._number)

    def _note(self, content: bytes) -> str:
        written_at = time.monotonic()
        sha1 = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        self._times.written[sha1] = written_at
        return sha1


def measure(settle_s: float, arrivals: int) -> bool:
    """One watch with this settle time; prints the figures and returns whether the goal was met."""
    times = Times({}, {})
    with tempfile.TemporaryDirectory(prefix="camio-latency-") as place_name:
        place = Path(place_name)
        folder = place / "videos"
        folder.mkdir()
        with EmbeddedBox(place / "box", keep_content=False, fsync=False, log_limit=100) as box:
            box.faults.add(Fault(on="content", times=None, at_bytes=0, callback=times.note_upload))
            station = Station(place, [folder], box.port, ["--settle", str(settle_s)])
            station.start_watch()
            try:
                writer = Writer(folder, times)
                # The first of each camera waits for the camera to be registered.
                _wait_for(times, [writer.rename_in() for _ in range(4)])
                time.sleep(2)
                ways: list[tuple[str, Callable[[], str], int]] = [
                    ("written, one by one", writer.write, 1),
                    (f"written, {BURST_FILES} at once", writer.write, BURST_FILES),
                    ("renamed in, one by one", writer.rename_in, 1),
                    (f"renamed in, {BURST_FILES} at once", writer.rename_in, BURST_FILES),
                ]
                results = [_way(name, way, at_once, arrivals, settle_s, times) for name, way, at_once in ways]
                return all(results)
            finally:
                station.end(signal.SIGTERM)


def _way(name: str, way: Callable[[], str], at_once: int, arrivals: int, settle_s: float, times: Times) -> bool:
    sent = []
    pause_s = EVERY_S if at_once == 1 else BURST_EVERY_S
    for _ in range(max(1, arrivals // at_once)):
        next_at = time.monotonic() + pause_s
        sent += [way() for _ in range(at_once)]
        time.sleep(max(0.0, next_at - time.monotonic()))
    if not _wait_for(times, sent):
        print(f"| {settle_s:g} | {name} | {len(sent)} | some never came |")
        return False
    took = sorted(times.begun[sha1] - times.written[sha1] for sha1 in sent)
    due_s = settle_s if name.startswith("written") else 0.0
    middle = median(took)
    print(
        f"| {settle_s:g} | {name} | {len(took)} | {middle:.2f} | {_percentile_95(took):.2f} | {took[-1]:.2f} "
        f"| {middle - due_s:.2f} |",
        flush=True,
    )
    return middle - due_s < GOAL_S


def _wait_for(times: Times, sent: list[str]) -> bool:
    deadline = time.monotonic() + MOST_WAIT_S
    while time.monotonic() < deadline:
        if all(sha1 in times.begun for sha1 in sent):
            return True
        time.sleep(0.05)
    return False


def _percentile_95(values: list[float]) -> float:
    return quantiles(values, n=20)[18] if len(values) > 1 else values[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arrivals", type=int, default=200, help="clips for each way of arriving (default: 200)")
    parser.add_argument("--settle", type=float, nargs="+", default=[5.0, 1.0], help="settle times in s (default: 5 1)")
    options = parser.parse_args()
    print(machine(Path(tempfile.gettempdir())), end="\n\n")
    print("| settle s | how | clips | median s | 95 % s | max s | median beyond what is due s |")
    print("|---|---|---|---|---|---|---|")
    met = [measure(settle_s, options.arrivals) for settle_s in options.settle]
    print(f"\nload at the end {os.getloadavg()[0]:.1f}; the goal (less than {GOAL_S} s) was", end=" ")
    print("met" if all(met) else "NOT met")
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
