"""Why a path does not match a pattern: how far the pattern gets, and what it wants there. Pure."""

from __future__ import annotations

import re
import time
import warnings
from typing import Final

import regex

from camio_import.display import shown, shown_end, shown_start

_EXPLAINING_S: Final = 0.2


class MismatchExplainer:
    """Finds how far a pattern gets on a path that it does not match, and what it wants next."""

    def __init__(self, pattern: str) -> None:
        self._branches = split_pattern(pattern)
        self._prefixes: dict[tuple[int, int], regex.Pattern[str] | None] = {}
        # A pattern that begins with "anything" matches nowhere if it does not match at the start.
        begins_open = pattern.startswith(".*")
        self._anywhere = None if begins_open else _compiled_or_none(pattern, regex.VERSION0)
        self._any_character = _compiled_or_none(pattern, regex.DOTALL)
        self._any_case = _compiled_or_none(pattern, regex.IGNORECASE)
        # In verbose patterns white space and comments are not elements; they are not cut.
        self._can_cut = not re.match(r"\(\?[a-zA-Z]*x", pattern)

    def explain(self, candidates: list[str], ends_at: float) -> str:
        """One or two sentences; a general one if none is found by `ends_at` or within a fifth of a second."""
        # A tree of a million names that do not match must not take a second for each.
        ends_at = min(ends_at, time.monotonic() + _EXPLAINING_S)
        said = f'the pattern does not match "{shown_end(candidates[0])}"'
        try:
            if hint := self._hint(candidates[:2], ends_at):
                return f"{said}; {hint}"
            return self._nearest(candidates[:2], ends_at) or said
        except (TimeoutError, RecursionError, MemoryError):
            return said

    def _nearest(self, paths: list[str], ends_at: float) -> str | None:
        """The sentence for the path and alternative of which the largest part matches."""
        if not self._can_cut:
            return None
        best: tuple[int, int, str] | None = None
        for path in paths:
            for branch in range(len(self._branches)):
                found = self._nearest_in_branch(branch, path, ends_at)
                if found is not None and (best is None or found[:2] > best[:2]):
                    best = found
        return best[2] if best else None

    def _nearest_in_branch(self, branch: int, path: str, ends_at: float) -> tuple[int, int, str] | None:
        """Elements matched, characters matched, and the sentence."""
        elements = self._branches[branch]
        # A longer prefix matches only where a shorter one does: the longest is found by halving.
        matched, unmatched = 0, len(elements)
        while unmatched - matched > 1:
            middle = (matched + unmatched) // 2
            if self._prefix_end(branch, middle, path, ends_at) is None:
                unmatched = middle
            else:
                matched = middle
        if not elements:
            return None
        # "Anything" at the end of what matched has swallowed the rest of the path: say what comes
        # after it and cannot be found, not that the path ends there.
        wanted_from = matched
        while wanted_from > 0 and _OPEN_ENDED.fullmatch(elements[wanted_from - 1]):
            wanted_from -= 1
        end = self._prefix_end(branch, wanted_from, path, ends_at) if wanted_from else 0
        if end is None:
            return None
        wanted, rest = "".join(elements[wanted_from : matched + 1]), path[end:]
        if not rest:
            finds = "the path ends there"
        elif wanted_from < matched:
            finds = f'there is no such text in "{shown_start(rest)}"'
        else:
            finds = f'finds "{shown_start(rest)}"'
        if end == 0:
            return matched, end, f"expects {shown(wanted)} at the start of the path, but {finds}"
        return (
            matched,
            end,
            f'matches up to "{shown_end(path[:end])}", then expects {shown(wanted)} but {finds}',
        )

    def _prefix_end(self, branch: int, count: int, path: str, ends_at: float) -> int | None:
        """Where the longest match of the first `count` elements ends, or None."""
        key = (branch, count)
        if key not in self._prefixes:
            self._prefixes[key] = _compiled_or_none("".join(self._branches[branch][:count]), regex.POSIX)
        prefix = self._prefixes[key]
        match = prefix and prefix.match(path, timeout=left_s(ends_at), concurrent=True)
        return match.end() if match else None

    def _hint(self, paths: list[str], ends_at: float) -> str:
        """What would make one of `paths` match, if that is one of the usual slips, else ""."""
        for path in paths:
            found = self._anywhere and self._anywhere.search(path, timeout=left_s(ends_at), concurrent=True)
            if found and found.start() > 0:
                return (
                    f'it would match from "{shown_start(path[found.start() :])}" on, but has to '
                    "match from the start of the path: begin the pattern with .*/"
                )
            if self._any_case and self._any_case.match(path, timeout=left_s(ends_at), concurrent=True):
                return "it would match if capital and small letters were the same: begin the pattern with (?i)"
            if (
                "\n" in path
                and self._any_character
                and self._any_character.match(path, timeout=left_s(ends_at), concurrent=True)
            ):
                return "the path holds a line break, which a dot does not match: begin the pattern with (?s)"
        return ""


def left_s(ends_at: float) -> float:
    """Seconds until `ends_at` on the monotonic clock, at least a millisecond."""
    return max(ends_at - time.monotonic(), 0.001)


def _compiled_or_none(pattern: str, flags: int) -> regex.Pattern[str] | None:
    """None for a part of a pattern that does not stand on its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return regex.compile(pattern, flags | regex.VERSION0)
        except (regex.error, OverflowError, RecursionError, ValueError, MemoryError, IndexError):
            return None


# --- the elements of a pattern ------------------------------------------------------------------

_ESCAPE_FORM: Final = re.compile(
    r"\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|N\{[^}]*\}|[0-9]{1,3}|.)", re.DOTALL
)
_CLASS_FORM: Final = re.compile(r"\[\^?\]?(?:[^\]\\]|\\.)*\]", re.DOTALL)
_QUANTIFIER_FORM: Final = re.compile(r"(?:[*+?]|\{\d+(?:,\d*)?\}|\{,\d*\})[?+]?")
_OPEN_ENDED: Final = re.compile(r"(?:\.|\[\^[^\]]*\])[*+][?+]?")


def split_pattern(pattern: str) -> list[list[str]]:
    """The pattern's top-level alternatives, each cut into its elements, which joined give it back.

    An element is a group, a class, an escape or a dot, with its quantifier, or a run of plain
    characters. The pattern must be valid.
    """
    branches: list[list[str]] = [[]]
    run_is_open = False
    at = 0
    while at < len(pattern):
        if pattern[at] == "|":
            branches.append([])
            run_is_open = False
            at += 1
            continue
        atom_end = _atom_end(pattern, at)
        quantifier = _QUANTIFIER_FORM.match(pattern, atom_end)
        end = quantifier.end() if quantifier else atom_end
        element = pattern[at:end]
        is_plain = quantifier is None and _is_plain(element)
        if is_plain and run_is_open:
            branches[-1][-1] += element
        else:
            branches[-1].append(element)
        run_is_open = is_plain
        at = end
    return branches


def _is_plain(atom: str) -> bool:
    if atom[0] == "\\":
        return len(atom) == 2 and not atom[1].isalnum()
    return len(atom) == 1 and atom not in ".^$"


def _atom_end(pattern: str, at: int) -> int:
    """Where the atom (without quantifier) that begins at `at` ends."""
    form = {"\\": _ESCAPE_FORM, "[": _CLASS_FORM}.get(pattern[at])
    if form is not None:
        found = form.match(pattern, at)
        return found.end() if found else len(pattern)
    if pattern[at] != "(":
        return at + 1
    if pattern.startswith("(?#", at):
        close = pattern.find(")", at)
        return close + 1 if close >= 0 else len(pattern)
    inner = at + 1
    while inner < len(pattern) and pattern[inner] != ")":
        inner = _atom_end(pattern, inner)
    return inner + 1
