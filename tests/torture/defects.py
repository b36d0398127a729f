"""Defects that are switched on in a run from outside, to show that the checks see them. Each one is an action."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import camio_import.hooks
import camio_import.intake
import camio_import.ledger_file
import camio_import.uploader
from camio_import.content import BoundedBody
from camio_import.model import Rejected, ShardReport, Summary
from camio_import.opened_file import OpenedFile
from camio_import.secret import SecretFilter
from camio_import.state import Ledger, ShardKey
from camio_import.uploader import Importer
from camio_import.walker import VideoFolder, Walker


def mark_before_sending() -> None:
    """Uploads are recorded when they begin."""
    original = Ledger.begin_upload

    def begin_upload(self: Ledger, file_id: int) -> bool:
        begins = original(self, file_id)
        self.finish_upload(file_id)
        return begins

    Ledger.begin_upload = begin_upload  # type: ignore[method-assign]


def overlook_files() -> None:
    """Every second file is not seen."""
    original = Walker.folders

    def some(self: Walker) -> Iterator[VideoFolder | Rejected]:
        for folder in original(self):
            yield folder if isinstance(folder, Rejected) else folder._replace(names=folder.names[1::2])

    Walker.folders = some  # type: ignore[method-assign]


def trust_files() -> None:
    """Nobody looks whether a file is still the one that was hashed."""
    camio_import.hooks._check_unchanged = lambda *arguments: None
    OpenedFile.check_unchanged = lambda *arguments: None  # type: ignore[method-assign]
    BoundedBody.check_unchanged = lambda *arguments: None  # type: ignore[method-assign]


def garble() -> None:
    """The bytes that are sent are not those of the file."""
    original = BoundedBody.read
    BoundedBody.read = lambda *arguments: original(*arguments)[::-1]  # type: ignore[method-assign]


def overlook_copies() -> None:
    """A file whose content was sent already is sent again."""
    Ledger.mark_if_duplicate = lambda *arguments: None  # type: ignore[method-assign]


class NoLock:
    """Lets everybody in."""

    was_left_behind = False

    def __init__(self, *arguments: Any, **keywords: Any) -> None: ...

    def release(self) -> None: ...


def share_the_ledger() -> None:
    """Two imports can use one ledger."""
    camio_import.ledger_file.ProcessLock = NoLock  # type: ignore[assignment,misc]


def register_less() -> None:
    """A shard is registered without its first file."""
    original = Ledger.shard_report

    def shard_report(self: Ledger, key: ShardKey) -> ShardReport:
        report = original(self, key)
        return replace(report, delivered=report.delivered[1:])

    Ledger.shard_report = shard_report  # type: ignore[method-assign]


def read_everything_again() -> None:
    """No file is taken for the one that the ledger knows."""
    camio_import.intake.is_same = lambda *arguments: False


def log_the_token() -> None:
    original = Importer.run

    def run(self: Importer) -> Summary:
        logging.getLogger("camio_import").warning("the token is %s", os.environ["CAMIO_OAUTH_TOKEN"])
        return original(self)

    Importer.run = run  # type: ignore[method-assign]


def hide_no_secrets() -> None:
    SecretFilter.clean = lambda self, text: text  # type: ignore[method-assign]


def mark_files() -> None:
    """What was read is changed: a byte more."""
    original = OpenedFile.__init__

    def opened(self: OpenedFile, path: str, *arguments: Any) -> None:
        with open(path, "ab") as file:
            file.write(b"\0")
        original(self, path, *arguments)

    OpenedFile.__init__ = opened  # type: ignore[method-assign]


def keep_the_lock() -> None:
    """The file of the lock stays."""
    original = camio_import.ledger_file.ProcessLock.release

    def release(self: Any) -> None:
        original(self)
        self._path.touch()

    camio_import.ledger_file.ProcessLock.release = release  # type: ignore[method-assign]


def end_well() -> None:
    """The exit status is 0, whatever happened."""
    camio_import.uploader._with_exit_code = lambda summary, *arguments, **keywords: summary


def count_too_little() -> None:
    """One of the files found is missing in the summary."""
    original = camio_import.uploader._with_exit_code

    def with_exit_code(summary: Summary, *arguments: Any, **keywords: Any) -> Summary:
        return replace(original(summary, *arguments, **keywords), found=summary.found - 1)

    camio_import.uploader._with_exit_code = with_exit_code
