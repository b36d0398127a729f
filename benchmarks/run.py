"""Runs the benchmarks of the importer, and writes their results.

    python benchmarks/run.py [--only NAME ...] [--quick] [--output FILE] [--place FOLDER]

Each benchmark has a section in the results; those that are not run now keep what they had. What stands outside of the
two marks is left as it is. Linux only. Ends with status 1 when a goal was not met, or something could not be measured.
"""

from __future__ import annotations

import argparse
import compileall
import re
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import many_files
import network
import small_work
import whole_files
from contest import PLACE_PREFIX, Bench, ContestError, Section
from station import machine

import camio_import

BENCHMARKS = {
    "first_import": whole_files.first_import,
    "equal_sizes": whole_files.equal_sizes,
    "cold": whole_files.cold,
    "large_file": whole_files.large_file,
    "small_files": many_files.small_files,
    "rerun": many_files.rerun,
    "million": many_files.million,
    "remount": many_files.remount,
    "slow_link": network.slow_link,
    "busy_box": network.busy_box,
    "start_up": small_work.start_up,
    "check": small_work.check,
}
"""In the order of the results. The first line of each one's docstring is its title."""

BEGIN = "<!-- Written by benchmarks/run.py from here on -->"
END = "<!-- until here -->"
_SECTION = re.compile(r"^## (?P<name>\w+): .*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)


def measured(name: str, bench: Bench) -> tuple[str, Section]:
    """Run one benchmark; returns its section of the results, also as text."""
    benchmark = BENCHMARKS[name]
    about = f"{machine(bench.place)}; {_cpu()}; {_programs()}"
    section = benchmark(bench)
    size = " **A tenth of the size (`--quick`).**" if bench.is_quick else ""
    return f"## {name}: {benchmark.__doc__}\n\n{about}.{size}\n\n{section.text()}\n", section


def _cpu() -> str:
    names = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory_kb = int(re.findall(r"^MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)[0])
    return f"{names[0] if names else 'unknown CPU'}, {memory_kb / 2**20:.0f} GiB"


def _programs() -> str:
    def first_words(*command: str) -> str:
        try:
            return " ".join(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[:2])
        except (OSError, subprocess.CalledProcessError):
            return f"no {command[0]}"

    libraries = ", ".join(f"{name} {version(name)}" for name in ("requests", "av"))
    return f"{first_words('curl', '--version')}, {first_words('openssl', 'version')}, {libraries}"


def write(output: Path, sections: dict[str, str]) -> None:
    """Put the sections between the marks, beside those of other benchmarks that are there."""
    text = output.read_text() if output.exists() else f"# Results\n\n{BEGIN}\n{END}\n"
    if BEGIN not in text:
        text = f"{text.rstrip()}\n\n{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    generated, _, after = rest.partition(END)
    kept = {found["name"]: found[0] for found in _SECTION.finditer(generated)}
    kept |= sections
    body = "\n\n".join(kept[name].strip() for name in BENCHMARKS if name in kept)
    output.write_text(f"{before}{BEGIN}\n\n{body}\n\n{END}{after}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=BENCHMARKS, default=list(BENCHMARKS), metavar="NAME", help=", ".join(BENCHMARKS)
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the size, one round: to see that it works")
    parser.add_argument(
        "--output", type=Path, help="where the results go (default: benchmarks/results.md, unless quick)"
    )
    parser.add_argument("--place", help="a folder with 16 GB of room, on the disk to be measured (default: temporary)")
    options = parser.parse_args()
    output = options.output or (None if options.quick else Path(__file__).with_name("results.md"))
    # As an installer does: otherwise each start would compile the program anew where it may not write the result.
    compileall.compile_dir(Path(camio_import.__file__).parent, quiet=1)
    are_met = True
    for name in options.only:
        print(f"{name}:", flush=True)
        with tempfile.TemporaryDirectory(prefix=PLACE_PREFIX, dir=options.place) as place:
            try:
                text, section = measured(name, Bench(Path(place), options.quick))
            except ContestError as error:  # the others can still be measured
                print(f"not measured: {error}", flush=True)
                are_met = False
                continue
        print(f"\n{text}", flush=True)
        if output is not None:
            write(output, {name: text})
        are_met &= all(goal.is_met is not False for goal in section.goals)
    return 0 if are_met else 1


if __name__ == "__main__":
    sys.exit(main())
