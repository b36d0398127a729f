"""Log files and warnings: no secret in them, and no fault of theirs ends an import."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path

from camio_import.errors import UsageError
from camio_import.transport import SecretFilter

FORMAT = "%(asctime)s %(levelname)s %(message)s"


class WarningsTo(logging.Handler):
    """Hands the text of warnings to whoever draws the run."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(record.getMessage())


def start_logging(
    *, log_file: str | None, verbose: bool, secrets: tuple[str, ...], say: Callable[[str], None]
) -> list[logging.Handler]:
    """Set up the program's logger. Returns the handlers, to be given to `stop_logging`.

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
            handlers.append(logging.FileHandler(path, encoding="utf-8", errors="backslashreplace"))
        except OSError as error:
            raise UsageError(
                f"The log file {log_file} cannot be written: {error.strerror or error}.",
                next_step="Give another place after --log_file.",
            ) from error
    for handler in handlers:
        handler.setFormatter(logging.Formatter(FORMAT))
        handler.addFilter(SecretFilter(secrets))
        logger.addHandler(handler)
    return handlers


def stop_logging(handlers: list[logging.Handler]) -> None:
    logger = logging.getLogger("camio_import")
    for handler in handlers:
        logger.removeHandler(handler)
        handler.close()
