"""The end of a run, in words: what happened to every file, and what to do next."""

from __future__ import annotations

from camio_import.display import by_reason, count, duration, shown, size, wrapped
from camio_import.errors import ExitCode
from camio_import.model import Summary
from camio_import.walker import LINK_TO_FOLDER_READ_BEFORE, MACOS_SIDE_FILE


def describe(summary: Summary, *, status_command: str, plan_only: bool = False) -> str:
    """The summary as lines of at most about 80 columns. `status_command` lists what is left."""
    lines = [""]
    if summary.stopped_because:
        lines += [f"Stopped early: {shown(summary.stopped_because)}", ""]
    lines += _counts(summary, plan_only=plan_only)
    lines += _notes(summary)
    steps = list(_next_steps(summary, status_command, plan_only=plan_only))
    if steps:
        lines += ["", "Next:"] + [f"  -> {shown(step)}" for step in steps]
    return wrapped("\n".join(lines))


def describe_watch(summary: Summary, *, status_command: str) -> str:
    """The end of a watch, as lines of at most about 80 columns."""
    sent = f"sent, {size(summary.uploaded_bytes)}" if summary.uploaded_bytes else "sent"
    rows = [
        (summary.uploaded, sent),
        (summary.duplicate, "copies of other files, not sent again"),
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
    rows.append((summary.duplicate, "duplicates of other files, not sent again"))
    rows += _reasons(summary)
    what = "would be uploaded" if plan_only else "still to be uploaded"
    rows.append((summary.pending, f"{what}, {size(summary.pending_bytes)}"))
    lines = _table(rows, always=1 if plan_only else 2)
    if summary.accounted_for != summary.found:
        lines.append(
            f"  These counts do not add up ({summary.accounted_for:,} of {summary.found:,}): this is a defect."
        )
    return lines


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
    others = {ending: files for ending, files in summary.ignored.items() if ending != LINK_TO_FOLDER_READ_BEFORE}
    if others:
        several = ", ".join(
            f"{files:,} {_ending(ending)}" for ending, files in sorted(others.items(), key=lambda item: -item[1])[:5]
        )
        notes.append(f"Left alone, because of their ending: {shown(several)}.")
    return ["", *notes] if notes else []


def _ending(ending: str) -> str:
    if ending == MACOS_SIDE_FILE:
        return "._ files of macOS"
    return ending or "without ending"


def _next_steps(summary: Summary, status_command: str, *, plan_only: bool) -> list[str]:
    steps = []
    if summary.next_step:
        steps.append(summary.next_step)
    if plan_only:
        if summary.pending:
            steps.append("Nothing was sent. To send it, run the same command without --dry_run.")
    elif summary.pending and "same command" not in summary.next_step:
        steps.append("Run the same command again: it carries on where it stopped.")
    if summary.gone:
        steps.append("Is a drive not connected? When the files are back, the same command sends them.")
    if (summary.skipped or summary.gone) and not plan_only:
        steps.append(f"See the skipped files: {status_command} --list skipped")
    if summary.failed and not plan_only:
        steps.append(f"See the failed files: {status_command} --list failed")
        steps.append("Try them again: the same command with --retry_failed.")
    if not summary.found:
        steps.append("No video was found. Are the files elsewhere, or is their ending another one (--ext)?")
    if not steps and summary.exit_code == ExitCode.OK and summary.uploaded:
        steps.append("Everything is uploaded. Keep the originals until you have seen the labels.")
    return steps
