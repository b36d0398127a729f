"""Runs the command as a user would: in a process of its own, with a home of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

PATTERN = r".*/(?P<camera>\w+?)\-(?P<epoch>\d+)\.mp4"
TOKEN = "canary-token-4711"

IN_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""A folder for many short-lived ledgers: none of them waits for a disk there. None: the usual one."""

IS_LONG = bool(os.environ.get("CAMIO_IMPORT_LONG_TESTS"))
"""Whether `make torture` runs: many more kills, files and examples."""


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    status: int
    out: str
    err: str

    def must(self, status: int) -> Ran:
        assert self.status == status, f"exit {self.status}, not {status}\n--- out\n{self.out}\n--- err\n{self.err}"
        return self


def environment(home: Path, **more: str) -> dict[str, str]:
    """An environment without the variables that could change what the command does."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CAMIO_", "XDG_")) and name not in ("HOME", "COLUMNS", "PYTHONPATH")
    }
    home.mkdir(parents=True, exist_ok=True)
    return {**kept, "HOME": str(home), "LOCALAPPDATA": str(home), "COLUMNS": "80", "PYTHONIOENCODING": "utf-8", **more}


def run(
    *arguments: str | Path,
    home: Path,
    cwd: Path | None = None,
    program: Sequence[str] = ("-m", "camio_import"),
    timeout_s: float = 120,
    **variables: str,
) -> Ran:
    """`camio-import ARGUMENTS`, to its end."""
    done = subprocess.run(
        [sys.executable, *program, *map(str, arguments)],
        env=environment(home, **variables), cwd=cwd, stdin=subprocess.DEVNULL,
        capture_output=True, timeout=timeout_s, check=False,
    )  # fmt: skip
    return Ran(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))


def needs(program: str, package: str) -> None:
    """Skips the test without the program, but not where everything is to be tested."""
    if shutil.which(program) is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{program} is missing: install the Debian package {package}")
        pytest.skip(f"{program} is not here (Debian's package {package})")


def make_certificate(place: Path) -> tuple[Path, Path]:
    """A key, and a certificate for this computer that nobody vouches for, in files of that folder."""
    needs("openssl", "openssl")
    key, certificate = place / "key.pem", place / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return key, certificate
