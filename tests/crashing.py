"""Videos that crash the library, and with it the process that looks into them."""

from __future__ import annotations

from pathlib import Path

from clips import distinct_clip_bytes, with_free_box

MARK = b"this one crashes"
SITE = f"""
import os, signal
import camio_import.container as container

def crashes(view, layout, look=container._ask_ffmpeg):
    view.seek(0)
    if {MARK!r} in view.read():
        import resource
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.kill(os.getpid(), signal.SIGSEGV)
    view.seek(0)
    return look(view, layout)

container._ask_ffmpeg = crashes
"""


def crashing_clip() -> bytes:
    """A video that crashes a process with the PYTHONPATH of `crashing_path`, and no other one."""
    return with_free_box(distinct_clip_bytes(4711), MARK)


def crashing_path(place: Path) -> str:
    """A PYTHONPATH whose `sitecustomize.py` Python runs at its start: in the command, and in what that starts."""
    site = place / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE, "utf-8")
    return str(site)
