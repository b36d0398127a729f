"""The command `camio-import`. The only package that reads the environment or ends the process."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module

from camio_import.errors import CamioImportError, ExitCode, UsageError

VERBS = ("check", "status", "why", "jobs", "labels", "hooks", "config", "service", "box", "demo")
"""First arguments that are not a folder. Each has its module in this package."""

_DISK_FULL = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})


def run() -> None:
    """The console command: runs `main` and ends the process with its status."""
    _open_missing_streams()
    status = main(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:  # whoever read our output has gone, or its disk is full: the status still counts
            if (problem := _problem_of_the_user(error)) is not None:
                show_error(problem)
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(status)


def main(arguments: Sequence[str]) -> int:
    """Carry out one command line and return its exit status. Shows messages, never tracebacks."""
    _make_output_safe()
    verb = arguments[0] if arguments and arguments[0] in VERBS else "import"
    rest = list(arguments[1:] if verb != "import" else arguments)
    try:
        if verb == "import" and not {"-h", "--help", "--version"}.isdisjoint(rest):
            # These show something and end; nothing else is loaded for them.
            import_module("camio_import.cli.import_parser").parser().parse_strictly(rest)
        module = import_module(f"camio_import.cli.{verb}_command")
        return int(module.main(rest))
    except CamioImportError as error:
        show_error(error)
        return int(error.exit_code)
    except KeyboardInterrupt:
        return _stopped()
    except BrokenPipeError:
        return int(ExitCode.OK)
    except OSError as error:
        problem = _problem_of_the_user(error)
        if problem is None:
            return _show_defect(error)
        show_error(problem)
        return int(problem.exit_code)
    # The last line of defence: whatever it is, the user gets a sentence and we get the details.
    except Exception as error:  # noqa: BLE001
        # A library that tidies up after Ctrl-C may fail in that (argparse does): what counts is that it was Ctrl-C.
        return _stopped() if isinstance(error.__context__, KeyboardInterrupt) else _show_defect(error)


def _problem_of_the_user(error: OSError) -> UsageError | None:
    """What the system refused for a reason that lies outside of this program; None if it is to blame itself."""
    if error.errno == errno.ENAMETOOLONG:
        return UsageError(
            "A file or folder is named that is longer than this system takes.",
            next_step="Check the names on the command line and in the settings.",
        )
    if error.errno in _DISK_FULL and error.filename is None:  # what is written to files has errors of its own
        return UsageError(
            f"The output cannot be written: {error.strerror}.",
            next_step="Make room where it is sent to, or send it to another place.",
        )
    return None


def _stopped() -> int:
    _tell("\nStopped.")
    return int(ExitCode.INTERRUPTED)


def show_error(error: CamioImportError) -> None:
    """The message and the next step, on the error output."""
    from camio_import.display import shown

    lines = [shown(line) for line in str(error).splitlines()] or ["something went wrong"]
    _tell("camio-import: " + "\n".join(lines))
    if error.next_step:
        _tell(f"  -> {shown(error.next_step)}")


def _tell(text: str) -> None:
    """To the error output. When nobody can read it any more, the exit status still says how it went."""
    with suppress(OSError):
        print(text, file=sys.stderr)


def _show_defect(error: Exception) -> int:
    import tempfile
    import traceback

    from camio_import import __version__
    from camio_import.secret import SecretFilter

    secrets = tuple(value for name, value in os.environ.items() if name.startswith("CAMIO_"))
    details = SecretFilter(secrets).clean(f"camio-import {__version__}\n" + "".join(traceback.format_exception(error)))
    where = "they could not be written down"
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="camio-import-error-", suffix=".txt", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as file:
            file.write(details)
            where = file.name
    except OSError:
        pass
    _tell(
        f"camio-import: something unexpected went wrong ({type(error).__name__}). This is a defect of the program.\n"
        "  -> What was recorded until now is safe, and the same command carries on.\n"
        f"  -> The details, to send to whoever maintains it: {where}"
    )
    return int(ExitCode.UNEXPECTED)


def _open_missing_streams() -> None:
    """Give the process the standard streams that whoever started it has closed.

    Otherwise the next files that are opened get their numbers, and what a library writes to "the error
    output" ends up in the ledger.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False))  # noqa: SIM115


def _make_output_safe() -> None:
    """A character that the terminal cannot show must not end an import."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
