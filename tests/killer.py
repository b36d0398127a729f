"""Runs the command, and kills it without warning at one step.

    python killer.py STEP COUNT ARGUMENTS...

kills the process (SIGKILL: nothing is flushed, nothing is cleaned up) when STEP happens for the
COUNT-th time. The product has no failpoints: this wraps the functions from outside.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from camio_import.cli import main
from camio_import.hooks import CheckedHook
from camio_import.hooks.camio import CamioHook
from camio_import.sending import Sending
from camio_import.state import Ledger
from camio_import.uploader import Importer

STEPS: dict[str, tuple[type, str, str]] = {
    "run noted": (Ledger, "start_run", "after"),
    "file found": (Ledger, "add_clip", "after"),
    "scan done": (Importer, "_hash_first", "before"),
    "copies known": (Importer, "_hash_first", "after"),
    "cameras registered": (CamioHook, "register_cameras", "after"),
    "job announced": (Ledger, "begin_job", "after"),
    "job created, answer not recorded": (Ledger, "assign", "before"),
    "files assigned": (Ledger, "assign", "after"),
    "hash known": (Ledger, "set_hash", "after"),
    "upload begun": (CamioHook, "post_clip", "before"),
    "accepted, not recorded": (Ledger, "finish_upload", "before"),
    "upload recorded": (Sending, "_uploads_to_start", "before"),
    "shard due": (CheckedHook, "register_shard", "before"),
    "shard registered, not recorded": (Ledger, "shard_registered", "before"),
    "run over": (Ledger, "finish_run", "before"),
}


def arm(step: str, count: int) -> None:
    """Make the step deadly."""
    owner, name, when = STEPS[step]
    original = getattr(owner, name)
    left = count

    def wrapped(*arguments: Any, **keywords: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0 and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments, **keywords)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, wrapped)


if __name__ == "__main__":
    arm(sys.argv[1], int(sys.argv[2]))
    sys.exit(main(sys.argv[3:]))
