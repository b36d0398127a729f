"""Many small files, and many that are known already: what a file costs beside its bytes."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from contest import (
    Bench,
    ContestError,
    Goal,
    Run,
    Section,
    clip_paths,
    contest,
    make_clips,
    median_s,
    python,
    run,
    table,
)
from station import BoxProcess, Station

SMALL_FILES = 20_000
SMALL_FILE_BYTES = 20_000
KNOWN_FILES = 100_000
MANY_TIMES = 10
IMPORTED_FILES = 1_000
REMOUNTED_FILES = 2_000
REMOUNTED_FILE_BYTES = 20_000_000
_MEMORY = Path("/dev/shm")
HOOK = Path(__file__).with_name("taking_hook.py")

OURS, FLOOR, WALK, START_UP, HASH = "camio-import", "bare client", "os.scandir and stat", "start-up", "hashing alone"


# --- 20,000 small files -------------------------------------------------------------------------


def small_files(bench: Bench) -> Section:
    """First import, 20,000 files of 20 kB, into the embedded Box that keeps nothing"""
    count = bench.amount(SMALL_FILES)
    folder = make_clips(bench.place / "videos", count, SMALL_FILE_BYTES)
    commands: dict[str, list[str]] = {}

    def with_box(name: str) -> Run:
        """Each run has a Box that knows none of the files yet."""
        place = bench.fresh("run")
        box = BoxProcess(place / "box")
        box.start()
        try:
            station = Station(place, [folder], box.port)
            if name == OURS:
                commands[name] = station.import_command(folder)
                done = run(commands[name], variables=station.variables)
            else:
                commands[name] = python("contenders.py", "bare", folder, box.port, place / "bare.db")
                done = run(commands[name], timed_by_itself=True)
            if box.posts != count:
                raise ContestError(f"{box.posts} uploads instead of {count}")
        finally:
            box.go_away(killed=False)
        return done

    runs = contest({FLOOR: lambda: with_box(FLOOR), OURS: lambda: with_box(OURS)}, bench.rounds(3))
    ratio = median_s(runs[OURS]) / median_s(runs[FLOOR])
    cpu_ms = {name: 1000 * median(each.cpu_s for each in done) / count for name, done in runs.items()}
    return Section(
        table(runs, against=FLOOR, data_bytes=count * SMALL_FILE_BYTES),
        [Goal.at_most("of the bare client's time", ratio, 1.5)],
        [
            f"Files per second: {count / median_s(runs[OURS]):.0f}, and {count / median_s(runs[FLOOR]):.0f} of the bare"
            " client. That reads no container, and sends one file at a time.",
            f"CPU for each file: {cpu_ms[OURS]:.1f} ms, and {cpu_ms[FLOOR]:.1f} ms of the bare client. What bounds the"
            " importer here is Python, of which one interpreter computes on one core at a time; where the time goes is"
            " in docs/performance.md.",
        ],
        commands,
    )


# --- nothing new --------------------------------------------------------------------------------


class _Known:
    """A folder of tiny files, all of which a ledger knows as sent by `taking_hook.py`.

    The ledger is made by a first import, in memory where there is such a place: waiting for a disk a million times
    would take hours. `first` is that import. With `imported`, it takes in so many files alone, and rows like theirs are
    written for the rest: what is measured is the rerun.
    """

    def __init__(self, bench: Bench, count: int, *, imported: int | None = None) -> None:
        self.count = count
        imported = count if imported is None else min(imported, count)
        place = bench.fresh("known")
        self.folder = place / "videos"
        paths = enumerate(clip_paths(self.folder, count))
        for number, path in islice(paths, imported):
            path.write_bytes(_content(number))
        os.sync()
        self._station = Station(place, [self.folder], 1)
        self.command = self._command(self._station)
        with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else place) as memory:
            in_memory = Station(Path(memory), [self.folder], 1)
            self.first = run(self._command(in_memory), variables=in_memory.variables)
            for file in Path(memory).glob(f"{in_memory.ledger.name}*"):
                shutil.copy(file, place)
        print(
            f"  {imported:,} files taken in {self.first.seconds:.0f} s, CPU {self.first.cpu_s:.0f} s,"
            f" peak {self.first.peak_rss_kb >> 10} MiB",
            flush=True,
        )
        if imported < count:
            _write_with_rows(self._station.ledger, paths)
            os.sync()

    def _command(self, station: Station) -> list[str]:
        return station.command("--send_unreadable", str(self.folder), str(HOOK))

    def run(self) -> Run:
        done = run(self.command, variables=self._station.variables)
        if not re.search(rf"^ *{self.count:,}  already uploaded", done.output, re.MULTILINE):
            raise ContestError(f"not all {self.count:,} files were known:\n{done.output}")
        return done

    def walk(self) -> Run:
        done = run(self.walk_command, timed_by_itself=True)
        if int(done.output.splitlines()[-2]) != self.count:
            raise ContestError("the walk has not found all files")
        return done

    @property
    def walk_command(self) -> list[str]:
        return python("contenders.py", "walk", self.folder)

    def opened(self) -> int | None:
        """How many of the files a rerun opens; None where that cannot be seen."""
        if shutil.which("strace") is None:
            return None
        trace = self.folder.parent / "trace"
        command = ["strace", "-f", "-qq", "-e", "trace=open,openat,openat2", "-o", str(trace), *self.command]
        run(command, variables=self._station.variables)
        with open(trace, errors="replace") as lines:
            return sum(re.search(r"\.mp4\"", line) is not None for line in lines)


def _content(number: int) -> bytes:
    return b"%09d" % number


def _write_with_rows(ledger: Path, paths: Iterator[tuple[int, Path]]) -> None:
    """Write the files, and for each a row like those that an import has left."""
    with closing(sqlite3.connect(ledger)) as db:
        db.row_factory = sqlite3.Row
        template = dict(db.execute("SELECT * FROM file ORDER BY id DESC LIMIT 1").fetchone())
        folders: dict[Path, int] = {}

        def rows() -> Iterator[dict[str, Any]]:
            for file_id, (number, path) in enumerate(paths, start=template["id"] + 1):
                path.write_bytes(_content(number))
                if path.parent not in folders:
                    name = os.fsencode(path.parent)
                    inserted = db.execute("INSERT INTO folder (path, typed_path) VALUES (?, ?)", (name, name))
                    assert inserted.lastrowid is not None
                    folders[path.parent] = inserted.lastrowid
                yield template | {
                    "id": file_id,
                    "folder": folders[path.parent],
                    "name": os.fsencode(path.name),
                    "mtime_ns": path.stat().st_mtime_ns,
                    "starts_at": 1000 * int(path.stem.rpartition("-")[2]),
                    "sha1": hashlib.sha1(_content(number)).digest(),
                    "sample": os.urandom(len(template["sample"])),
                }

        columns = ", ".join(template)
        values = ", ".join(f":{column}" for column in template)
        made = rows()
        while many := list(islice(made, 10_000)):
            db.executemany(f"INSERT INTO file ({columns}) VALUES ({values})", many)
            db.commit()


def rerun(bench: Bench) -> Section:
    """Rerun, 100,000 unchanged files"""
    known, one = _Known(bench, bench.amount(KNOWN_FILES)), _Known(bench, 1)
    runs = contest({WALK: known.walk, OURS: known.run, START_UP: one.run}, bench.rounds(7))
    start_up_s = median_s(runs[START_UP])
    ratio = (median_s(runs[OURS]) - start_up_s) / median_s(runs[WALK])
    opened = known.opened()
    return Section(
        table(runs, against=WALK),
        [
            Goal.at_most("of the walk's time, start-up taken off", ratio, 2.5),
            Goal(
                "nothing opened", "-" if opened is None else f"{opened} files", None if opened is None else opened == 0
            ),
        ],
        [
            f"Start-up ({start_up_s:.2f} s) is the same command on a folder with one file that is known already.",
            f"The first import took {known.first.seconds:.1f} s,"
            f" {known.count / known.first.seconds:.0f} files per second, with a hook that takes everything"
            " and the ledger in memory.",
        ],
        {WALK: known.walk_command, OURS: known.command},
    )


def million(bench: Bench) -> Section:
    """Rerun, 1,000,000 unchanged files"""
    few = _Known(bench, bench.amount(KNOWN_FILES), imported=IMPORTED_FILES)
    many = _Known(bench, few.count * MANY_TIMES, imported=IMPORTED_FILES)
    one = _Known(bench, 1)
    names = {f"{few.count:,} files": few, f"{many.count:,} files": many, START_UP: one}
    runs = contest({name: known.run for name, known in names.items()}, bench.rounds(3))
    few_name, many_name, _ = names
    start_up_s = median_s(runs[START_UP])
    growth = (median_s(runs[many_name]) - start_up_s) / (median_s(runs[few_name]) - start_up_s)
    peak_mb = max(each.peak_rss_kb for each in runs[many_name]) * 1024 / 1e6
    return Section(
        table(runs, against=few_name),
        [
            Goal.at_most("peak RSS", peak_mb, 150, " MB"),
            Goal.at_most(f"{MANY_TIMES} times the files, times the time, start-up taken off", growth, 11),
        ],
        [
            f"The ledgers were made by an import of {IMPORTED_FILES:,} files, whose rows were then multiplied by the"
            " benchmark; the files are there, each with its own row."
        ],
        {many_name: many.command},
    )


# --- the drive somewhere else -------------------------------------------------------------------


def remount(bench: Bench) -> Section:
    """A drive remounted under another path, 2,000 files of 20 MB"""
    count = bench.amount(REMOUNTED_FILES)
    drive = make_clips(bench.place / "mount0", count, REMOUNTED_FILE_BYTES, is_sparse=True)
    station = Station(bench.fresh("station"), [drive], 1)
    one = _Known(bench, 1)

    def hashed() -> Run:
        return run(python("contenders.py", "hashing", drive), timed_by_itself=True)

    def imported() -> Run:
        return run(station.command(str(drive), str(HOOK)), variables=station.variables)

    def remounted() -> Run:
        nonlocal drive
        drive = drive.rename(drive.with_name(f"mount{int(drive.name[5:]) + 1}"))
        return imported()

    first = imported()
    runs = contest({HASH: hashed, OURS: remounted, START_UP: one.run}, bench.rounds(3))
    start_up_s = median_s(runs[START_UP])
    share = (median_s(runs[OURS]) - start_up_s) / median_s(runs[HASH])
    start_up_bytes = median(each.read_bytes for each in runs[START_UP])
    read_mb = max(each.read_bytes - start_up_bytes for each in runs[OURS]) / count / 1e6
    return Section(
        table(runs, against=HASH, data_bytes=count * REMOUNTED_FILE_BYTES),
        [
            Goal.at_most("of the hashing time, start-up taken off", 100 * share, 2, " %"),
            Goal.at_most("read of each file", read_mb, 1, " MB"),
        ],
        [
            f"The folder is renamed before each run. The first import took {first.seconds:.1f} s with a hook that reads"
            " nothing, so most of that is hashing. The files are holes between two ends, which hash as any bytes do,"
            " but are read faster than from any disk: the goal is harder to meet than with a real drive."
        ],
        {OURS: station.command(str(drive), str(HOOK))},
    )
