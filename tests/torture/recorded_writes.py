"""Records what a command writes below a folder, system call by system call, with strace.

    recording = record([sys.executable, "script.py"], folder=tmp_path / "store", told=tmp_path / "told.txt")

What the command appends to the file `told`, and what it sends over sockets, stands between the writes as
`Said`: it is what others have been told at that moment.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TRACED = (
    "openat,write,pwrite64,pwritev,pwritev2,writev,ftruncate,truncate,fallocate,copy_file_range,sendfile,fsync,fdatasync,"
    "sync_file_range,lseek,unlink,unlinkat,rmdir,rename,renameat,renameat2,link,linkat,symlink,symlinkat,mkdir,mkdirat,sendto"
)
"""Every call that changes files or folders, so that one that is not understood is noticed."""


@dataclass(frozen=True, slots=True)
class Made:
    """A file was created, empty."""

    path: str


@dataclass(frozen=True, slots=True)
class Wrote:
    path: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Cut:
    """The file was given this size."""

    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Synced:
    """The file's content was brought to the disk."""

    path: str


@dataclass(frozen=True, slots=True)
class Removed:
    path: str


@dataclass(frozen=True, slots=True)
class Moved:
    path: str
    to: str


@dataclass(frozen=True, slots=True)
class MadeFolder:
    path: str


@dataclass(frozen=True, slots=True)
class FolderSynced:
    """The folder's list of names was brought to the disk."""

    path: str


@dataclass(frozen=True, slots=True)
class Said:
    """Others were told this."""

    data: bytes


Step = Made | Wrote | Cut | Synced | Removed | Moved | MadeFolder | FolderSynced | Said


@dataclass(frozen=True, slots=True)
class Recording:
    """What a command did below `folder`, which held the files `before`."""

    folder: Path
    before: Mapping[str, bytes]
    steps: Sequence[Step]
    output: str
    """What it printed."""


def record(
    command: Sequence[str | Path],
    *,
    folder: Path,
    told: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 300,
) -> Recording:
    """Run the command, which must end with 0, under strace.

    Raises:
        ValueError: it made a call on a file below `folder` that is not understood here.
    """
    folder = folder.resolve()
    trace = folder.with_name(folder.name + ".strace")
    before = files_below(folder)
    told_path = None if told is None else str(told.resolve())
    done = subprocess.run(
        ["strace", "-f", "--seccomp-bpf", "-qq", "-y", "-xx", "-s", "1000000", "-e", "signal=none",
         "-e", f"trace={TRACED}", "-o", str(trace), *map(str, command)],
        env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", timeout=timeout_s, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}"
    with trace.open(encoding="ascii") as lines:
        steps = list(_Steps(str(folder), told_path, before).of(_calls(lines)))
    trace.unlink()
    return Recording(folder, before, steps, done.stdout)


def files_below(folder: Path) -> dict[str, bytes]:
    """Path -> content of all files there, but for what SQLite keeps in shared memory, which is worth nothing
    after a power loss."""
    return {
        str(path): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not is_shared_memory(str(path))
    }  # fmt: skip


def is_shared_memory(path: str) -> bool:
    return path.endswith("-shm")


# --- the trace's lines ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Call:
    name: str
    arguments: list[str]
    result: int


_LINE = re.compile(r"(?P<pid>\d+) +(?:<\.\.\. \w+ resumed>(?P<rest>.*)|(?P<begin>\w+\(.*))")
_CALL = re.compile(r"(?P<name>\w+)\((?P<arguments>.*?)\) += (?P<result>-?\d+)(?P<why>.*)")
_UNFINISHED = " <unfinished ...>"
_OPEN_FILE = re.compile(r"(?P<number>\d+|AT_FDCWD)<(?P<path>(?:\\x[0-9a-f]{2})*)>(?P<gone>\(deleted\))?")


def _calls(lines: Iterator[str]) -> Iterator[_Call]:
    """The calls that succeeded, in the order in which they were completed."""
    unfinished: dict[str, str] = {}
    for line in lines:
        match = _LINE.match(line.rstrip("\n"))
        if match is None:
            continue  # how a process or a thread ended
        pid, begin = match["pid"], match["begin"]
        whole = unfinished.pop(pid) + match["rest"] if begin is None else begin
        if whole.endswith(_UNFINISHED):
            unfinished[pid] = whole.removesuffix(_UNFINISHED)
            continue
        call = _CALL.match(whole)
        if call is not None and not call["result"].startswith("-"):
            yield _Call(call["name"], call["arguments"].split(", "), int(call["result"]))


def _bytes(text: str) -> bytes:
    """A string of the trace, in which each byte is written as \\xNN."""
    if not (text.startswith('"') and text.endswith('"')):
        raise ValueError(f"not a whole string: {text[:80]}")
    return _unescaped(text[1:-1])


def _unescaped(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


class _Steps:
    """Turns calls into steps."""

    def __init__(self, folder: str, told: str | None, before: Mapping[str, bytes]) -> None:
        self._folder = folder
        self._told = told
        self._files = set(before)
        self._position: dict[str, int] = {}

    def of(self, calls: Iterator[_Call]) -> Iterator[Step]:
        for call in calls:
            yield from self._steps(call)

    def _steps(self, call: _Call) -> Iterator[Step]:
        name, arguments, result = call.name, call.arguments, call.result
        if name == "sendto":
            yield Said(_bytes(arguments[1])[:result])
        elif name == "openat":
            yield from self._opened(self._path_at(*arguments[:2]), arguments[2])
        elif name in ("mkdir", "unlink", "rmdir", "rename"):
            yield from self._renamed(name, [os.fsdecode(_bytes(each)) for each in arguments[: 1 + (name == "rename")]])
        elif name in ("mkdirat", "unlinkat"):
            yield from self._renamed(name.removesuffix("at"), [self._path_at(*arguments[:2])])
        elif name in ("renameat", "renameat2"):
            yield from self._renamed("rename", [self._path_at(*arguments[:2]), self._path_at(*arguments[2:4])])
        else:
            yield from self._on_open_file(call)

    def _opened(self, path: str, flags: str) -> Iterator[Step]:
        self._position[path] = 0
        if not self._is_ours(path):
            return
        if path in self._files:
            if "O_TRUNC" in flags:
                yield Cut(path, 0)
        elif "O_CREAT" in flags:
            self._files.add(path)
            yield Made(path)

    def _renamed(self, name: str, paths: list[str]) -> Iterator[Step]:
        if not self._is_ours(paths[-1]):
            return
        if name == "mkdir":
            yield MadeFolder(paths[0])
        elif name in ("unlink", "rmdir"):
            self._files.discard(paths[0])
            yield Removed(paths[0])
        else:
            self._files.discard(paths[0])
            self._files.add(paths[1])
            yield Moved(paths[0], paths[1])

    def _on_open_file(self, call: _Call) -> Iterator[Step]:
        name, arguments, result = call.name, call.arguments, call.result
        match = _OPEN_FILE.fullmatch(arguments[0])
        if match is None or match["gone"]:
            return
        path = os.fsdecode(_unescaped(match["path"]))
        if name == "lseek":
            self._position[path] = result
        elif path == self._told:
            yield Said(_bytes(arguments[1])[:result])
        elif not self._is_ours(path):
            return
        elif name == "pwrite64":
            yield Wrote(path, int(arguments[3]), _bytes(arguments[1])[:result])
        elif name == "write":
            offset = self._position[path]
            self._position[path] = offset + result
            yield Wrote(path, offset, _bytes(arguments[1])[:result])
        elif name == "ftruncate":
            yield Cut(path, int(arguments[1]))
        elif name in ("fsync", "fdatasync"):
            yield Synced(path) if path in self._files else FolderSynced(path)
        else:
            raise ValueError(f"{name} on {path} is not understood")

    def _path_at(self, folder: str, name: str) -> str:
        match = _OPEN_FILE.fullmatch(folder)
        assert match is not None, folder
        return os.path.join(os.fsdecode(_unescaped(match["path"])), os.fsdecode(_bytes(name)))

    def _is_ours(self, path: str) -> bool:
        return (path + "/").startswith(self._folder + "/") and not is_shared_memory(path)
