"""Start-up, and looking at videos: what a user waits for before anything is sent."""

from __future__ import annotations

import sys
from pathlib import Path

from contest import Bench, Goal, Run, Section, clip_paths, contest, median_s, python, run, table, warm
from station import Station, environment

from camio_import.sample_clips import make_clip

CHECKED_CLIPS = 2_000
DIFFERENT_CLIPS = 20
HEAVY_MODULES = ("requests", "av", "watchdog")
OURS, PYAV = "camio-import check", "PyAV alone"


def start_up(bench: Bench) -> Section:
    """`--version` and `--help`"""
    program = Path(sys.executable).with_name("camio-import")
    ours = [str(program)] if program.exists() else [sys.executable, "-m", "camio_import"]
    variables = environment(bench.place / "home")
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "camio-import --version": [*ours, "--version"],
        "camio-import --help": [*ours, "--help"],
    }
    empty, *others = commands

    def runs_of(command: list[str]) -> Run:
        return run(command, variables=variables)

    runs = contest({name: lambda name=name: runs_of(commands[name]) for name in commands}, bench.rounds(31))
    goals = [Goal.at_most(f"{name}, times {empty}", median_s(runs[name]) / median_s(runs[empty]), 3) for name in others]
    for name in others:
        option = commands[name][-1]
        traced = run([sys.executable, "-X", "importtime", "-m", "camio_import", option], variables=variables)
        imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in traced.output.splitlines()}
        loaded = sorted(imported.intersection(HEAVY_MODULES))
        goals.append(Goal(f"{name} loads none of {', '.join(HEAVY_MODULES)}", ", ".join(loaded) or "none", not loaded))
    return Section(table(runs, against=empty), goals, commands=commands)


def check(bench: Bench) -> Section:
    """`check` of 2,000 real clips, warm page cache"""
    folder = bench.place / "videos"
    clips = []
    for number in range(DIFFERENT_CLIPS):
        clip = bench.place / "clip.mp4"
        make_clip(clip, seconds=2.0, width=320, height=180, seed=number + 1)
        clips.append(clip.read_bytes())
    longest = max(map(len, clips))
    for number, path in enumerate(clip_paths(folder, bench.amount(CHECKED_CLIPS))):
        clip = clips[number % len(clips)]
        # No two have the same size, as in `make_clips`.
        mark = b"%09d" % number + bytes(longest - len(clip) + number)
        path.write_bytes(clip + (8 + len(mark)).to_bytes(4, "big") + b"free" + mark)
    warm(folder)
    station = Station(bench.place, [folder], 1)
    pattern = next(word for word in station.command() if "?P<camera>" in word)
    ours = [sys.executable, "-m", "camio_import", "check", "--regex", pattern, str(folder)]
    pyav = python("contenders.py", "pyav", folder)
    runs = contest(
        {PYAV: lambda: run(pyav), OURS: lambda: run(ours, variables=station.variables, statuses=(0, 3))},
        bench.rounds(7),
    )
    return Section(
        table(runs, against=PYAV),
        [Goal.at_most("of PyAV's time", median_s(runs[OURS]) / median_s(runs[PYAV]), 1.3)],
        ["Both with their start-up."],
        {PYAV: pyav, OURS: ours},
    )
