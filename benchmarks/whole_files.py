"""First imports of large files into a sink: how close to one read of the disk, and to the wire."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from contest import (
    Bench,
    ContestError,
    Goal,
    Run,
    Section,
    contest,
    cool,
    make_clips,
    median_s,
    python,
    run,
    table,
    warm,
)
from sink import Sink
from station import Station

FILES = 48
FILE_BYTES = 128_000_000
LARGE_FILE_BYTES = 4_000_000_000
GIGABIT_BYTES_PER_S = 125e6 * 0.94
"""What a gigabit link carries of a body, less frames and headers."""

OURS, SHELL, ORIGINAL, CURL, HASH = "camio-import", "shell loop", "the original's order", "curl -T", "hashing alone"


def importing(bench: Bench, folder: Path, sink: Sink, *options: str) -> Run:
    """A first import into the sink, which must receive every byte once."""
    station = Station(bench.fresh("station"), [folder], sink.port)
    sink.count_anew()
    done = run(station.import_command(folder, *options), variables=station.variables)
    expected = sum(path.stat().st_size for path in folder.rglob("*.mp4"))
    received = sink.counts().body_bytes
    if received != expected:
        raise ContestError(f"{received:,} bytes arrived instead of {expected:,}")
    return done


def first_import(bench: Bench) -> Section:
    """First import, 6 GB in 48 files, warm page cache"""
    return _against_others(bench, are_equal_sizes=False)


def equal_sizes(bench: Bench) -> Section:
    """First import, 6 GB in 48 files of equal size, warm page cache"""
    section = _against_others(bench, are_equal_sizes=True)
    section.notes.append("Files of equal size and camera may be duplicates, which has to be known before the job.")
    return section


def _against_others(bench: Bench, *, are_equal_sizes: bool) -> Section:
    folder = make_clips(bench.place / "videos", FILES, bench.amount(FILE_BYTES), are_equal_sizes=are_equal_sizes)
    data_bytes = FILES * bench.amount(FILE_BYTES)
    with Sink() as sink:
        shell = python("contenders.py", "shell", folder, sink.port)
        original = python("contenders.py", "original", folder, sink.port)
        warm(folder)
        runs = contest(
            {
                SHELL: lambda: run(shell, timed_by_itself=True),
                ORIGINAL: lambda: run(original, timed_by_itself=True),
                OURS: lambda: importing(bench, folder, sink),
            },
            bench.rounds(5),
        )
        command = Station(bench.fresh("station"), [folder], sink.port).import_command(folder)
    ours_s = median_s(runs[OURS])
    return Section(
        table(runs, against=SHELL, data_bytes=data_bytes),
        [
            Goal.at_most("of the shell loop's time", ours_s / median_s(runs[SHELL]), 0.60),
            Goal.at_most("of the original order's time", ours_s / median_s(runs[ORIGINAL]), 0.30),
        ],
        ["The first two without their start-up, `camio-import` with it. The shell's memory is without curl's."],
        {SHELL: shell, ORIGINAL: original, OURS: command},
    )


def cold(bench: Bench) -> Section:
    """First import, 6 GB in 48 files, cold page cache"""
    folder = make_clips(bench.place / "videos", FILES, bench.amount(FILE_BYTES))
    data_bytes = FILES * bench.amount(FILE_BYTES)
    little = make_clips(bench.place / "little", 1, 20_000)
    with Sink() as sink:

        def ours(videos: Path) -> Run:
            return importing(bench, videos, sink)

        def shell(videos: Path) -> Run:
            return run(python("contenders.py", "shell", videos, sink.port), timed_by_itself=True)

        how = cool(folder)

        def cooled(contender: Callable[[Path], Run]) -> Run:
            cool(folder)
            contender(little)  # programs and libraries come from the disk, too
            return contender(folder)

        runs = contest({SHELL: lambda: cooled(shell), OURS: lambda: cooled(ours)}, bench.rounds(3))
    lines = table(runs, against=SHELL, data_bytes=data_bytes)
    lines += ["", "| contender | read from the disk, × the data | read of files in all, × the data |", "|---|---|---|"]
    for name, done in runs.items():
        disk = max(each.disk_bytes for each in done) / data_bytes
        logical = max(each.read_bytes for each in done) / data_bytes
        lines.append(f"| {name} | {disk:.3f} | {logical:.3f} |")
    goal = Goal.at_most(
        "read from the disk, × the data", max(each.disk_bytes for each in runs[OURS]) / data_bytes, 1.02
    )
    return Section(lines, [goal], [f"The page cache was emptied by {how} before each run; bytes by /proc/PID/io."])


def large_file(bench: Bench) -> Section:
    """One file of 4 GB"""
    size_bytes = bench.amount(LARGE_FILE_BYTES)
    folder = make_clips(bench.place / "videos", 1, size_bytes)
    warm(folder)
    section = Section()
    ours: dict[str, list[Run]] = {}
    for link, rate in (("loopback", None), ("a gigabit link", GIGABIT_BYTES_PER_S)):
        with Sink(rate=rate) as sink:
            curl = python("contenders.py", "curl", folder, sink.port)
            hashing = python("contenders.py", "hashing", folder)
            runs = contest(
                {
                    CURL: lambda curl=curl: run(curl, timed_by_itself=True),
                    OURS: lambda sink=sink: importing(bench, folder, sink),
                    HASH: lambda hashing=hashing: run(hashing, timed_by_itself=True),
                },
                bench.rounds(3),
            )
        section.lines += ["", f"Over {link}:", "", *table(runs, against=CURL, data_bytes=size_bytes)]
        ratio = median_s(runs[OURS]) / median_s(runs[CURL])
        section.goals.append(Goal.at_most(f"of curl's time, over {link}", ratio, 1.1))
        section.commands |= {f"{CURL}, {link}": curl}
        ours[link] = runs[OURS]
        in_turn_s = median_s(runs[HASH]) + median_s(runs[CURL])
        section.notes.append(
            f"Over {link}, hashing alone and `curl -T` take {in_turn_s:.1f} s one after the other, and `camio-import`"
            f" {median_s(runs[OURS]):.1f} s."
        )
    peak_mib = max(each.peak_rss_kb for done in ours.values() for each in done) / 1024
    section.goals.append(Goal.at_most("flat memory, peak RSS", peak_mib, 100, " MiB"))
    section.notes.append(
        "The protocol wants the hash before the first byte, and SHA-1 of one file is the work of one core: no client"
        " can be quicker than hashing and sending one after the other. `curl -T` here sends without knowing the hash."
    )
    return section
