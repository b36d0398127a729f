"""Log files and warnings: no secret in them, and no fault of theirs ends an import."""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
from collections.abc import Callable, Collection
from contextlib import suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path

from camio_import.errors import UsageError
from camio_import.secret import SecretFilter

FORMAT = "%(asctime)s %(levelname)s %(message)s"


ALREADY_SHOWN = {"is_shown": True}
"""`extra` of a warning for the log alone, because the user sees it in another way."""


class WarningsTo(logging.Handler):
    """Hands the text of warnings to whoever draws the run."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        if not getattr(record, "is_shown", False):
            self._say(record.getMessage())


class RotatingLog(RotatingFileHandler):
    """A log file, private to its user, that is put aside as FILE.1 before it grows beyond `size_bytes`.

    `count` such files are kept. When one cannot be put aside, the log goes on in the same file.
    """

    def __init__(self, path: Path, *, size_bytes: int, count: int) -> None:
        self._tried_at_bytes = 0
        """How large the file was when it could not be put aside; 0 when that has not happened."""
        super().__init__(path, maxBytes=size_bytes, backupCount=count, encoding="utf-8", errors="backslashreplace")

    def _open(self) -> io.TextIOWrapper:
        return open(self.baseFilename, "a", encoding=self.encoding, errors=self.errors, opener=_private)

    def shouldRollover(self, record: logging.LogRecord) -> int:  # noqa: N802
        if not super().shouldRollover(record):
            return 0
        # Each try moves the older files on by one: trying for every line would lose them all.
        return int(not self._tried_at_bytes or self._size_bytes() >= self._tried_at_bytes + self.maxBytes)

    def doRollover(self) -> None:  # noqa: N802
        size_bytes = self._size_bytes()
        try:
            super().doRollover()
            self._tried_at_bytes = 0
        except OSError:  # the disk is full, the folder read-only, or another program holds the file
            self._tried_at_bytes = size_bytes
            # A stream that could not be closed is of no more use; the next line opens the file again.
            self.stream = None

    def _size_bytes(self) -> int:
        return self.stream.tell() if self.stream is not None else 0


def start_logging(
    *,
    log_file: str | None,
    log_size_bytes: int,
    log_count: int,
    verbose: bool,
    secrets: Collection[str],
    say: Callable[[str], None],
) -> list[logging.Handler]:
    """Set up the program's logger. Returns the handlers, to be given to `stop_logging`.

    The log file is put aside before it grows beyond `log_size_bytes`; `log_count` old ones are kept.

    Raises:
        UsageError: the log file cannot be written.
    """
    logging.raiseExceptions = False  # a full disk under the log must not end the import
    logger = logging.getLogger("camio_import")
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    logger.propagate = False
    handlers: list[logging.Handler] = [WarningsTo(say)]
    if verbose:
        handlers.append(logging.StreamHandler(sys.stderr))
    if log_file is not None:
        path = Path(log_file).expanduser()
        try:
            handlers.append(RotatingLog(path, size_bytes=log_size_bytes, count=log_count))
        except OSError as error:
            raise _cannot_be_written(log_file, error) from error
    for handler in handlers:
        handler.setFormatter(logging.Formatter(FORMAT))
        handler.addFilter(SecretFilter(secrets))
        logger.addHandler(handler)
    return handlers


def check_log_file(log_file: str) -> None:
    """Raise UsageError when the log file could not be written. Makes none."""
    path = Path(log_file).expanduser()
    try:
        if path.exists():
            path.open("ab").close()
        elif not path.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, f"there is no folder {path.parent}")
        elif not os.access(path.parent, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise _cannot_be_written(log_file, error) from error


def _cannot_be_written(log_file: str, error: OSError) -> UsageError:
    return UsageError(
        f"The log file {log_file} cannot be written: {error.strerror or error}.",
        next_step="Give another place after --log_file.",
    )


def stop_logging(handlers: list[logging.Handler]) -> None:
    """Take back what `start_logging` did."""
    logger = logging.getLogger("camio_import")
    logger.propagate = True
    for handler in handlers:
        logger.removeHandler(handler)
        with suppress(OSError):  # the last lines did not fit on the disk
            handler.close()


def _private(path: str, flags: int) -> int:
    """Opens a file that, when it is made now, only its owner can read: it names cameras and places."""
    return os.open(path, flags, 0o600)
