"""Links and Boxes that are the bottleneck: whether they are kept busy, and not more than that."""

from __future__ import annotations

from statistics import median

from contest import Bench, ContestError, Goal, Run, Section, contest, make_clips, median_s, run, table, warm
from sink import Counts, Sink
from station import Station

SLOW_FILES = 40
SLOW_FILE_BYTES = 32_000_000
SLOW_RATE = 40e6
"""Bytes per second: about a third of a gigabit link."""

BUSY_FILES = 600
BUSY_FILE_BYTES = 500_000
BUSY_RATE = 10e6
"""Bytes per second and connection: a Box that is as fast as its uploads are many, up to `MOST_AT_ONCE`."""
MOST_AT_ONCE = 3
FIXED_WORKERS = (1, 2, 4, 8)
OURS = "found out"


def slow_link(bench: Bench) -> Section:
    """A slow link, 4 files at a time"""
    files = bench.amount(SLOW_FILES)
    folder = make_clips(bench.place / "videos", files, SLOW_FILE_BYTES)
    warm(folder)
    counts: list[Counts] = []
    with Sink(rate=SLOW_RATE) as sink:

        def importing() -> Run:
            station = Station(bench.fresh("station"), [folder], sink.port)
            sink.count_anew()
            done = run(station.import_command(folder, "--workers", "4"), variables=station.variables)
            counts.append(sink.counts())
            if counts[-1].uploads != files:
                raise ContestError(f"{counts[-1].uploads} uploads instead of {files}")
            return done

        runs = contest({"camio-import": importing}, bench.rounds(3))
        command = Station(bench.fresh("station"), [folder], sink.port).import_command(folder, "--workers", "4")
    data_bytes = files * SLOW_FILE_BYTES
    carried = median(each.body_bytes / each.busy_s for each in counts) / SLOW_RATE
    whole = data_bytes / median_s(runs["camio-import"]) / SLOW_RATE
    return Section(
        table(runs, against="camio-import", data_bytes=data_bytes),
        [
            Goal(
                "of the link's rate, from the first upload's first byte to the last one's end: at least 97 %",
                f"{100 * carried:.1f} %",
                carried >= 0.97,
            )
        ],
        [
            f"The link carries {SLOW_RATE / 1e6:.0f} MB/s, which is {data_bytes / SLOW_RATE:.1f} s for these"
            f" {data_bytes / 1e9:.2f} GB; with start-up and the first hash, {100 * whole:.1f} % of its rate."
        ],
        {"camio-import": command},
    )


def busy_box(bench: Bench) -> Section:
    """A Box that answers 429 beyond 3 at once"""
    files = bench.amount(BUSY_FILES)
    folder = make_clips(bench.place / "videos", files, BUSY_FILE_BYTES)
    warm(folder)
    counts: dict[str, list[Counts]] = {}
    commands: dict[str, list[str]] = {}
    ways = {OURS: [], **{f"--workers {workers}": ["--workers", str(workers)] for workers in FIXED_WORKERS}}
    with Sink(connection_rate=BUSY_RATE, most=MOST_AT_ONCE) as sink:

        def importing(name: str) -> Run:
            station = Station(bench.fresh("station"), [folder], sink.port)
            commands[name] = station.import_command(folder, *ways[name])
            sink.count_anew()
            done = run(commands[name], variables=station.variables)
            counts.setdefault(name, []).append(sink.counts())
            if counts[name][-1].uploads != files:
                raise ContestError(f"{counts[name][-1].uploads} uploads instead of {files}")
            return done

        runs = contest({name: lambda name=name: importing(name) for name in ways}, bench.rounds(3))
    best = min((name for name in ways if name != OURS), key=lambda name: median_s(runs[name]))
    lines = table(runs, against=best, data_bytes=files * BUSY_FILE_BYTES)
    lines += ["", "| contender | refused, share of the requests |", "|---|---|"]
    lines += [
        f"| {name} | " + ", ".join(f"{100 * each.refused_share:.1f} %" for each in done) + " |"
        for name, done in counts.items()
    ]
    return Section(
        lines,
        [
            Goal.at_most(
                f"of the time with {best}, the best fixed value", median_s(runs[OURS]) / median_s(runs[best]), 1.1
            ),
            Goal.at_most("refused", 100 * max(each.refused_share for each in counts[OURS]), 2, " %"),
        ],
        [f"Each upload goes at {BUSY_RATE / 1e6:.0f} MB/s, so that three at once are three times as fast as one."],
        commands,
    )
