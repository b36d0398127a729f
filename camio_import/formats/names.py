"""Paths for other programs: as `file:` addresses, which hold every path exactly, and as names for new files."""

from __future__ import annotations

import ntpath
import posixpath
import re
from functools import lru_cache
from typing import Final
from urllib.parse import quote

from camio_import.bookmarks import is_windows_path

_LONGEST_NAME_BYTES: Final = 150
_NOT_IN_NAMES = re.compile(
    r'[<>:"/\\|?*\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]'
)
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\.|$)", re.IGNORECASE)


@lru_cache(maxsize=256)  # many bookmarks, one after the other, have the same clips
def file_uri(path: str) -> str:
    r"""The address of an absolute path, of this system or of Windows (`D:\...`, `\\server\share\...`).

    Bytes of a name that are not UTF-8, carried as surrogate escapes, become those bytes again (RFC 8089).
    """
    if not is_windows_path(path):
        return ("file://" if path.startswith("/") else "") + quote(_path_bytes(path))
    slashed = path.replace("\\", "/")
    if slashed.startswith("//?/"):  # the form of long paths
        slashed = slashed[4:] if slashed[4:8].upper() != "UNC/" else "//" + slashed[8:]
    if slashed.startswith("//"):
        return "file:" + quote(_path_bytes(slashed))
    return "file:///" + slashed[:2] + quote(_path_bytes(slashed[2:]))


def base_name(path: str) -> str:
    """The file's name, of a path of this system or of Windows."""
    return ntpath.basename(path) if is_windows_path(path) else posixpath.basename(path)


def file_name(text: str) -> str:
    """The text as a name, without an extension, that every file system takes; never empty.

    Cut where it is too long, with room left for an extension.
    """
    name = _NOT_IN_NAMES.sub("_", text)
    name = name.encode("utf-8")[:_LONGEST_NAME_BYTES].decode("utf-8", "ignore").strip(". ")
    return "_" + name if not name or _RESERVED.match(name) else name


def _path_bytes(path: str) -> bytes:
    try:
        return path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a character, which Windows allows in names
        return path.encode("utf-8", "surrogatepass")
