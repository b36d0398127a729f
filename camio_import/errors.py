"""The one family of errors. Each leaf knows its exit code and whether waiting can help.

Messages are read by people who are not programmers: they name the file or address, say
what is wrong, and what to do next.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the command's exit status means. The same table is in docs/exit-codes.md."""

    OK = 0
    """Every file is accounted for and uploaded."""
    UNEXPECTED = 1
    """A defect, in this program or in a hook module."""
    USAGE = 2
    """The command line, a file it names, or the ledger cannot be used as given."""
    INCOMPLETE = 3
    """Finished, and some files were skipped, failed, or are still to do."""
    CREDENTIALS = 4
    """The access token is missing or was refused."""
    UNREACHABLE = 5
    """The Box or the cloud did not answer, or not in a way that can be used."""
    LOCKED = 6
    """Another import is using the ledger."""
    QUIET = 7
    """`status` only: a camera has sent nothing for longer than it may, or a station is not working."""
    INTERRUPTED = 130
    """Stopped by Ctrl-C; the same command carries on."""
    TERMINATED = 143
    """Stopped by a termination signal; the same command carries on."""


class CamioImportError(Exception):
    """Base of every error that this project raises on purpose.

    Attributes:
        exit_code: what the command returns when this error ends it.
        next_step: one sentence that says what the user can do, or "".
    """

    exit_code: ExitCode = ExitCode.UNEXPECTED

    def __init__(self, message: str, *, next_step: str = "") -> None:
        super().__init__(message)
        self.next_step = next_step


# --- what the user gave us cannot be used ---------------------------------------------------


class UsageError(CamioImportError):
    """An option, a folder, or a file named on the command line cannot be used."""

    exit_code = ExitCode.USAGE


class PatternError(UsageError):
    """`--regex` is not a valid pattern, or lacks the group `camera`. The message has a caret line."""


class LedgerError(CamioImportError):
    """Nothing can be recorded, so nothing may be sent, and the run ends without a summary in the ledger."""


class LedgerUnusable(LedgerError, UsageError):
    """The ledger is of a newer version, damaged, or not a ledger. It is left as it is."""


class LedgerLocked(LedgerError):
    """Another import holds the ledger."""

    exit_code = ExitCode.LOCKED


class LedgerWriteFailed(LedgerError):
    """The ledger could not be written (disk full, read-only): nothing more may be sent."""

    exit_code = ExitCode.USAGE


# --- one file cannot be sent now ------------------------------------------------------------


class FileProblem(CamioImportError):
    """This one file cannot be sent; the run goes on."""

    exit_code = ExitCode.INCOMPLETE


class FileChanged(FileProblem):
    """The file is no longer the one that was hashed. It is taken anew."""


class FileVanished(FileProblem):
    """The file is not there any more."""


class FileUnreadable(FileProblem):
    """The operating system would not give us the file's bytes (permission, I/O error)."""


# --- answers of the service, raised by hooks ------------------------------------------------


class HookError(CamioImportError):
    """Base of what a hook may raise to tell the engine how to go on."""


class Refused(HookError):
    """The service will never take this clip. The clip is recorded as failed and the run goes on.

    `recheck_hash` asks the engine to hash the file once more first, because the service
    said that the bytes it received do not have the hash that was declared.
    """

    exit_code = ExitCode.INCOMPLETE

    def __init__(self, message: str, *, next_step: str = "", recheck_hash: bool = False) -> None:
        super().__init__(message, next_step=next_step)
        self.recheck_hash = recheck_hash


class RetryLater(HookError):
    """The service is there and asks us to try again; `retry_after_s` when it said how long.

    `busy` means that the service as a whole is busy (HTTP 429, 503): every upload waits and
    the clip's attempts are not counted. Otherwise the trouble may lie with this clip, and the
    engine stops trying it after a few attempts in one run.
    """

    exit_code = ExitCode.UNREACHABLE

    def __init__(
        self, message: str, *, next_step: str = "", retry_after_s: float | None = None, busy: bool = False
    ) -> None:
        super().__init__(message, next_step=next_step)
        self.retry_after_s = retry_after_s
        self.busy = busy


class Unreachable(HookError):
    """Nobody answers (name not found, refused, reset, silent). Costs waiting, and
    a clip's attempts only when the connection had been made: then the clip itself may be the cause.

    `may_have_arrived`: the connection was made, so that the request may have been carried out.
    """

    exit_code = ExitCode.UNREACHABLE

    def __init__(self, message: str, *, next_step: str = "", may_have_arrived: bool = True) -> None:
        super().__init__(message, next_step=next_step)
        self.may_have_arrived = may_have_arrived


class BadAnswer(HookError):
    """The service answered, but not with what its protocol promises; sending on would be guessing."""

    exit_code = ExitCode.UNREACHABLE


class CredentialsRefused(HookError):
    """The token, or the Box's device id, is missing or was refused. The run stops."""

    exit_code = ExitCode.CREDENTIALS


class HookBroken(HookError):
    """A hook module raised something unexpected, or returned what its contract does not allow."""


class HookUnusable(UsageError):
    """The hook module cannot be found or loaded, or lacks a required function."""


class Cancelled(CamioImportError):
    """The user asked to stop; whatever was in flight is abandoned and stays pending."""

    def __init__(self, message: str, *, next_step: str = "", exit_code: ExitCode = ExitCode.INTERRUPTED) -> None:
        super().__init__(message, next_step=next_step)
        self.exit_code = exit_code
