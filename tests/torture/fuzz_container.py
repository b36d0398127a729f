"""Coverage-guided fuzzing of what reads containers; needs atheris (requirements-torture.txt).

    python tests/torture/fuzz_container.py CORPUS_FOLDER -max_total_time=600

The arguments are libFuzzer's. An input that breaks something is written to the current folder, and
`python tests/torture/fuzz_container.py FILE` tries it again. `test_fuzz_container.py` runs this for a while in the
long version of the tests, and tries its own mutations of real videos in the ordinary one.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
from pathlib import Path
from types import FunctionType

from camio_import import container
from camio_import.container import probe, walk_boxes
from camio_import.errors import FileProblem
from camio_import.model import ContainerFacts

MOST_CPU_S = 10.0
"""For one file of some kilobytes; what is usual is a millisecond."""


def check(content: bytes, path: Path) -> ContainerFacts:
    """Read a file of this content, made at `path`, in every way; whatever it is, there is a result, soon."""
    path.write_bytes(content)
    began_s = time.process_time()
    ends = [box.end for box in walk_boxes(io.BytesIO(content), len(content))]
    assert ends == sorted(set(ends)), "a box ends where the one before it ended, or earlier"
    facts = probe(str(path))
    assert isinstance(facts, ContainerFacts)
    assert facts.problem is None or facts.problem
    assert facts.duration_s is None or facts.duration_s > 0
    assert time.process_time() - began_s < MOST_CPU_S
    return facts


def main() -> None:
    import atheris

    for function in vars(container).values():
        if isinstance(function, FunctionType):
            atheris.instrument_func(function)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "clip.mp4")

        def try_one(content: bytes) -> None:
            try:
                check(content, path)
            except FileProblem as problem:
                raise AssertionError("the file can be read, and is called unreadable") from problem

        atheris.Setup(sys.argv, try_one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
