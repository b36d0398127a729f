"""Paths as `file:` addresses, which hold every path exactly, whatever its characters and bytes."""

from __future__ import annotations

from urllib.parse import quote

from camio_import.bookmarks import is_windows_path


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


def _path_bytes(path: str) -> bytes:
    try:
        return path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a character, which Windows allows in names
        return path.encode("utf-8", "surrogatepass")
