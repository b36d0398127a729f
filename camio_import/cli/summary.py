"""The end of a run, in words: what happened to every file, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from camio_import.display import by_reason, count, duration, shortened, shown, size, wrapped
from camio_import.errors import ExitCode
from camio_import.model import Reason, Summary
from camio_import.walker import (
    LINK_TO_FOLDER_READ_BEFORE,
    MACOS_SIDE_FILE,
    STILL_BEING_COPIED,
    WASTE_OR_SYSTEM_FOLDER,
)

VIDEO_ENDINGS: Final = frozenset((
    ".mp4", ".m4v", ".mov", ".mkv", ".avi", ".webm", ".ts", ".mts", ".m2ts", ".m2t", ".mpg", ".mpeg", ".vob", ".wmv",
    ".asf", ".flv", ".f4v", ".3gp", ".3g2", ".ogv", ".mxf", ".divx", ".dav", ".dv", ".mjpg", ".mjpeg", ".264", ".h264",
    ".265", ".h265", ".hevc", ".avc",
))  # fmt: skip
"""Endings that videos have, with which a file that is left alone is likely to be missed."""

_KINDS_NAMED: Final = 5
"""So many endings are named of what is left alone; those of videos in any case."""


def describe(
    summary: Summary, *, status_command: str, plan_only: bool = False, has_retried_failed: bool = False
) -> str:
    """The summary as lines of at most about 80 columns. `status_command` lists what is left.

    `has_retried_failed`: the run tried files again that had failed before, so that what failed has failed again.
    """
    lines = [""]
    if summary.stopped_because:
        lines += [f"Stopped early: {shown(summary.stopped_because)}", ""]
    lines += _counts(summary, plan_only=plan_only)
    lines += _notes(summary)
    steps = _next_steps(summary, status_command, plan_only=plan_only, has_retried_failed=has_retried_failed)
    if steps:
        lines += ["", "Next:"] + [f"  -> {shown(step)}" for step in steps]
    return wrapped("\n".join(lines))


def describe_watch(summary: Summary, *, status_command: str) -> str:
    """The end of a watch, as lines of at most about 80 columns."""
    sent = f"sent, {size(summary.uploaded_bytes)}" if summary.uploaded_bytes else "sent"
    rows = [
        (summary.uploaded, sent),
        (summary.duplicate, f"{_of_others('copy', 'copies', summary.duplicate)}, not sent again"),
        *_reasons(summary),
        (summary.pending, f"still to be sent, {size(summary.pending_bytes)}"),
    ]
    lines = ["", f"Stopped watching, after {duration(summary.seconds)}.", "", *_table(rows, always=1)]
    steps = ["The same command carries on."]
    if summary.skipped or summary.failed:
        steps.append(f"What was not sent, and why: {status_command}")
    return wrapped("\n".join([*lines, "", *(f"  -> {shown(step)}" for step in steps)]))


def _counts(summary: Summary, *, plan_only: bool) -> list[str]:
    rate = summary.uploaded_bytes / summary.seconds if summary.seconds else 0
    sent = f"  {size(summary.uploaded_bytes)} in {duration(summary.seconds)}, {size(rate)}/s"
    whole = "" if summary.is_scan_complete else " until then; the rest of the folder was not looked at"
    rows: list[tuple[int, str]] = [(summary.found, "found" + whole)]
    if not plan_only:
        rows.append((summary.uploaded, "uploaded" + (sent if summary.uploaded_bytes else "")))
    rows.append((summary.already_uploaded, "already uploaded in earlier runs"))
    rows.append((summary.duplicate, f"{_of_others('duplicate', 'duplicates', summary.duplicate)}, not sent again"))
    rows += _reasons(summary)
    what = "would be uploaded" if plan_only else "still to be uploaded"
    rows.append((summary.pending, f"{what}, {size(summary.pending_bytes)}"))
    lines = _table(rows, always=1 if plan_only else 2)
    if summary.accounted_for != summary.found:
        lines.append(
            f"  These counts do not add up ({summary.accounted_for:,} of {summary.found:,}): this is a defect."
        )
    return lines


def _of_others(one: str, several: str, files: int) -> str:
    return f"{one} of another file" if files == 1 else f"{several} of other files"


def _reasons(summary: Summary) -> list[tuple[int, str]]:
    return [
        *((files, f"skipped: {reason.phrase}") for reason, files in by_reason(dict(summary.skipped))),
        *((files, f"failed: {reason.phrase}") for reason, files in by_reason(dict(summary.failed))),
    ]


def _table(rows: list[tuple[int, str]], *, always: int) -> list[str]:
    """The rows that are not 0, and the first `always` ones in any case."""
    width = max(len(f"{files:,}") for files, _ in rows)
    return [f"  {files:>{width},}  {text}" for position, (files, text) in enumerate(rows) if files or position < always]


def _notes(summary: Summary) -> list[str]:
    notes = []
    if summary.gone:
        notes.append(
            f"{count(summary.gone, 'file')} that earlier runs found, and had not sent yet,"
            f" {'is' if summary.gone == 1 else 'are'} gone from the disk."
        )
    if summary.job_ids:
        notes.append(f"Job: {', '.join(shown(job_id) for job_id in summary.job_ids)}")
    if summary.shards_open and not summary.pending:
        notes.append(
            f"{count(summary.shards_open, 'part')} of the job {'is' if summary.shards_open == 1 else 'are'} not"
            " registered with Camio yet; the next run does that."
        )
    if summary.orphaned_jobs:
        notes.append(f"Camio may hold {count(summary.orphaned_jobs, 'empty job')} whose creation was interrupted.")
    if summary.with_warnings:
        notes.append(f"{count(summary.with_warnings, 'file')} read with a warning; camio-import check shows them.")
    notes += left_alone(summary.ignored)
    return ["", *notes] if notes else []


def left_alone(ignored: Mapping[str, int]) -> list[str]:
    """What a walker has left alone (`Walker.ignored`) and why, a line for each reason; the endings of videos first."""
    lines = []
    endings = {kind: files for kind, files in ignored.items() if kind not in _NOT_FOR_THEIR_ENDING}
    if endings:
        lines.append(f"Left alone, because of their ending: {_endings_and_rest(endings)}.")
        if not VIDEO_ENDINGS.isdisjoint(endings):
            lines.append("Videos are among them: they are taken when --ext names their ending, too.")
    for kind, (one, several) in _NOT_FOR_THEIR_ENDING.items():
        if files := ignored.get(kind, 0):
            lines.append(f"Left alone, because {one if files == 1 else several.format(files)}.")
    return lines


_NOT_FOR_THEIR_ENDING: Final = {
    STILL_BEING_COPIED: (
        "it is still being copied, by its name: 1 file or folder",
        "they are still being copied, by their names: {:,} files or folders",
    ),
    MACOS_SIDE_FILE: ("macOS made it beside a video: 1 ._ file", "macOS made them beside videos: {:,} ._ files"),
    WASTE_OR_SYSTEM_FOLDER: (
        "what is in it was deleted, or is the system's own: 1 folder",
        "what is in them was deleted, or is the system's own: {:,} folders",
    ),
    LINK_TO_FOLDER_READ_BEFORE: (
        "it leads to a folder that was read already: 1 link",
        "they lead to folders that were read already: {:,} links",
    ),
}


def _endings_and_rest(endings: Mapping[str, int]) -> str:
    """`3 .mov, 1 .avi, 20 .txt, 9 .log, 4 .jpg and 12 of 3 other kinds`."""
    in_order = sorted(endings.items(), key=lambda item: (item[0] not in VIDEO_ENDINGS, -item[1], item[0]))
    named = max(_KINDS_NAMED, sum(ending in VIDEO_ENDINGS for ending in endings))
    if len(in_order) == named + 1:  # to say that there is one more takes as long as to name it
        named += 1
    text = ", ".join(f"{files:,} {_ending(ending)}" for ending, files in in_order[:named])
    rest = in_order[named:]
    return f"{text} and {sum(files for _, files in rest):,} of {len(rest):,} other kinds" if rest else text


def _ending(ending: str) -> str:
    return shortened(shown(ending), 20) if ending else "without ending"


def most_names_do_not_match(summary: Summary) -> bool:
    """Whether the pattern is likely to be the wrong one for these files."""
    return summary.skipped.get(Reason.NO_MATCH, 0) * 2 > summary.found


def _next_steps(summary: Summary, status_command: str, *, plan_only: bool, has_retried_failed: bool) -> list[str]:
    steps = []
    if summary.next_step:
        steps.append(summary.next_step)
    if plan_only:
        if summary.pending:
            steps.append("Nothing was sent. To send it, run the same command without --dry_run.")
    elif summary.pending and "same command" not in summary.next_step:
        steps.append("Run the same command again: it carries on where it stopped.")
    if most_names_do_not_match(summary):
        steps.append("Most names do not match the pattern. For patterns that fit them: camio-import check DIR")
    if summary.gone:
        steps.append("Is a drive not connected? When the files are back, the same command sends them.")
    if (summary.skipped or summary.gone) and not plan_only:
        steps.append(f"See the skipped files: {status_command} --list skipped")
    if summary.failed and not plan_only:
        steps.append(f"See the failed files: {status_command} --list failed")
        if has_retried_failed:
            steps.append(
                "They have failed with --retry_failed, too. When the cause is mended: the same command once more."
            )
        else:
            steps.append("Try them again: the same command with --retry_failed.")
    if not summary.found:
        steps.append("No video was found. Are the files elsewhere, or is their ending another one (--ext)?")
    if not steps and summary.exit_code == ExitCode.OK and summary.uploaded:
        steps.append("Everything is uploaded. Keep the originals until you have seen the labels.")
    return steps
