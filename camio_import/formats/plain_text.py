"""Labels, camera names and paths as text that any program can read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

NO_LABEL: Final = "(no label)"

LONGEST_TITLE: Final = 250
"""How many characters of a title are written: more than players show, fewer than trouble their parsers."""

_UNREADABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")


def one_line(text: str) -> str:
    r"""The text on one line and in UTF-8: what cannot be in either is written as \xNN or \uNNNN.

    That is control characters, line ends of every kind, and what is no character at all. The bytes of a file name
    that are not UTF-8 become \xNN, too.
    """
    return _UNREADABLE.sub(_as_escape, text)


def _as_escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00  # a byte that os.fsdecode could not decode
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def label_list(labels: Iterable[str]) -> str:
    """The labels as one line for people to read, never empty."""
    text = one_line(", ".join(labels))
    return text if text.strip() else NO_LABEL


def title(labels: Iterable[str], *, longest: int = LONGEST_TITLE) -> str:
    """`label_list`, cut to a length that fits a title."""
    text = label_list(labels)
    return text if len(text) <= longest else text[: longest - 1] + "…"
