"""How things are shown to people: names made harmless, sizes, durations, tables."""

from __future__ import annotations

import re
import shutil
import textwrap
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from camio_import.model import Reason

_HARMFUL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_IN_A_SENTENCE: Final = 60
"""How many characters of a text a sentence can take."""


def shown(text: str) -> str:
    r"""The text without what could move the cursor or reorder a line: such characters become \xNN.

    Bytes of a file name that are not UTF-8 come out as the same escapes.
    """
    return _HARMFUL.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00  # a byte that os.fsdecode could not decode
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def shown_end(text: str) -> str:
    """`shown`, for a sentence: of a long text only the end, which says most of a path."""
    harmless = shown(text)
    return harmless if len(harmless) <= _IN_A_SENTENCE else "…" + harmless[-_IN_A_SENTENCE:]


def shown_start(text: str) -> str:
    """`shown`, for a sentence: of a long text only the beginning."""
    harmless = shown(text)
    return harmless if len(harmless) <= _IN_A_SENTENCE else harmless[:_IN_A_SENTENCE] + "…"


def size(size_bytes: float) -> str:
    """`3.4 GB`: decimal units, as drives and networks are labelled."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size_bytes) < 999.5:
            return f"{size_bytes:.0f} B" if unit == "B" else f"{size_bytes:.3g} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:,.1f} TB" if size_bytes < 100 else f"{size_bytes:,.0f} TB"


def duration(seconds: float) -> str:
    """`1.5 s`, `45 s`, `3 min 20 s`, `2 h 05 min`, `4 d 03 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86400} d {whole % 86400 // 3600:02} h"


def moment(at: datetime | None) -> str:
    """`2016-10-09 00:32:27` in UTC; an empty text for None."""
    return "" if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def count(number: int, noun: str, plural: str | None = None) -> str:
    """`1 file`, `10,000 files`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def columns_wide(text: str) -> int:
    """How many columns of a terminal the text takes: wide East Asian characters take two."""
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def shortened(text: str, columns: int) -> str:
    """At most `columns` wide; what is left out in the middle is shown as “…”.

    The end of a path says more than its middle, so that it gets two thirds.
    """
    if columns_wide(text) <= columns:
        return text
    tail = (columns - 1) * 2 // 3
    head = columns - 1 - tail
    return text[:head] + "…" + text[len(text) - tail :]


def wrapped(text: str, columns: int | None = None) -> str:
    """The text's lines broken at blanks to the width of the terminal, continued four columns in."""
    columns = columns or shutil.get_terminal_size().columns
    lines = []
    for line in text.splitlines():
        indent = line[: len(line) - len(line.lstrip())]
        lines += textwrap.wrap(
            line, columns, subsequent_indent=indent + "    ", drop_whitespace=True, break_long_words=False,
            break_on_hyphens=False,
        ) or [line]  # fmt: skip
    return "\n".join(lines)


def table(rows: Sequence[Sequence[str]], *, header: Sequence[str], right: Sequence[int] = ()) -> str:
    """Columns as wide as they need, two blanks apart; those in `right` are aligned to the right."""
    lines = [header, *rows]
    widths = [max(columns_wide(line[column]) for line in lines) for column in range(len(header))]
    out = []
    for line in lines:
        cells = []
        for column, cell in enumerate(line):
            gap = " " * (widths[column] - columns_wide(cell))
            cells.append(gap + cell if column in right else cell + gap)
        out.append("  ".join(cells).rstrip())
    return "\n".join(out)


def fitting_table(
    rows: Sequence[Sequence[str]], *, header: Sequence[str], right: Sequence[int] = (), columns: int | None = None
) -> str:
    """`table`, with the first column shortened if it would be wider than the terminal, or `columns`, otherwise."""
    columns = columns or shutil.get_terminal_size().columns
    others = [("", *row[1:]) for row in rows]
    rest = max(map(columns_wide, table(others, header=("", *header[1:]), right=right).splitlines()))
    room = max(len(header[0]) + 2, columns - rest)
    return table([(shortened(row[0], room), *row[1:]) for row in rows], header=header, right=right)


def by_reason(counts: dict[Reason, int]) -> list[tuple[Reason, int]]:
    """The reasons with the most frequent first."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
