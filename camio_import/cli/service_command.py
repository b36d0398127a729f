"""`camio-import service`: lets the system run a station, from its start on and again after every trouble."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from camio_import.cli.arguments import Parser
from camio_import.cli.options import box_address, hook_data_from, state_folder
from camio_import.cli.service_files import SYSTEMS, Command, ServicePlan, Station, System, plan_for
from camio_import.display import shown
from camio_import.durable import write_whole
from camio_import.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from camio_import.cli.settings import Settings

USAGE = "camio-import service install --config FILE | uninstall | status [options]"

DESCRIPTION = """\
Lets this computer run a station by itself: at every start, without anybody
logged on, and again after whatever ended it. The station is described in a
file, see docs/configuration.md. On Linux it becomes a systemd unit of yours,
on macOS a launch agent, on Windows a scheduled task; no administrator is
needed on Linux and macOS.

  install     write the service, switch it on and start it
  uninstall   stop it and remove it; what was imported and recorded stays
  status      does it run? The exit status is 0 when it does, and 3 when not"""

EXAMPLES = """\
examples:
  camio-import service install --config ~/station.toml
  camio-import service install --config ~/station.toml --print
  camio-import service status

The service does not have the variables of your window: the access token has
to stand in a file, which token_file in the configuration names."""

_COMMAND_TIMEOUT_S = 660
"""A start may take ten minutes, see the unit's TimeoutStartSec."""

_VARIABLES_OF_A_SERVICE = frozenset(
    {"HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "XDG_RUNTIME_DIR"}
)


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command of the system ended. A program that is not there has the status 127."""

    status: int
    out: str = ""
    err: str = ""


Runner = Callable[[Sequence[str]], Ran]


def run_command(arguments: Sequence[str]) -> Ran:
    """Run one command of the system to its end."""
    try:
        done = subprocess.run(
            arguments, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace",
            timeout=_COMMAND_TIMEOUT_S, check=False,
        )  # fmt: skip
    except OSError as error:
        return Ran(127, err=f"{arguments[0]}: {error.strerror or error}")
    except subprocess.TimeoutExpired:
        return Ran(124, err=f"no answer within {_COMMAND_TIMEOUT_S // 60} minutes")
    return Ran(done.returncode, done.stdout, done.stderr)


def parser() -> Parser:
    parser = Parser(prog="camio-import service", usage=USAGE, description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument(
        "action", choices=("install", "uninstall", "status"), metavar="install|uninstall|status", help="what to do"
    )
    parser.add_argument("--config", metavar="FILE", help="for install: the file that describes the station")
    parser.add_argument(
        "--name", metavar="NAME", default="",
        help="tells this station from others on the same computer: small letters, digits and -",
    )  # fmt: skip
    parser.add_argument(
        "--print", action="store_true", dest="is_print",
        help="for install and uninstall: show the file and the commands, and do nothing",
    )  # fmt: skip
    parser.add_argument(
        "--system", choices=SYSTEMS, help="with --print: show it for another system than this computer's"
    )
    return parser


def main(arguments: Sequence[str], *, run: Runner = run_command, own_system: System | None = None) -> int:
    """Carry out one action. `run` gives the system its commands; `own_system` is found out when it is None."""
    options = parser().parse_strictly(arguments)
    _refuse_what_does_nothing(options)
    system: System = options.system or own_system or _this_system()
    if options.action == "install":
        return _install(options, system, run)
    plan = plan_for(system, _station(options.name, config="", system=system))
    if options.action == "status":
        return _status(options.name, plan, system, run)
    if options.is_print:
        _print_removal(plan)
        return int(ExitCode.OK)
    return _uninstall(plan, system, run)


def _refuse_what_does_nothing(options: argparse.Namespace) -> None:
    if options.action != "install" and options.config is not None:
        raise UsageError(
            f"--config has no meaning for {options.action}.",
            next_step="A service is told from others by --name, if it was installed with one.",
        )
    if options.action == "status" and options.is_print:
        raise UsageError("--print has no meaning for status.", next_step="Use it with install or uninstall.")
    if options.system is not None and not options.is_print:
        raise UsageError(
            "A service for another system can only be shown.", next_step="Add --print, or leave --system out."
        )


def _this_system() -> System:
    systems: Mapping[str, System] = {"linux": "linux", "darwin": "macos", "win32": "windows"}
    if sys.platform not in systems:
        raise UsageError(
            f"Services are not known for this system ({sys.platform}).",
            next_step="Let its own means run this at every start: camio-import --config FILE",
        )
    return systems[sys.platform]


def _station(name: str, *, config: str, system: System) -> Station:
    if not sys.executable:
        raise UsageError(
            "Python does not say where it is, so that no service can be told to start it.",
            next_step="Start camio-import from the place that it was installed to.",
        )
    home = Path.home()
    user, user_id = _user()
    return Station(
        name=name,
        python=sys.executable,
        config=config,
        home=home,
        config_home=_absolute(os.environ.get("XDG_CONFIG_HOME", "")) or home / ".config",
        state_home=str(_absolute(os.environ.get("XDG_STATE_HOME", "")) or "") if system == "linux" else "",
        user=user,
        user_id=user_id,
    )


def _absolute(text: str) -> Path | None:
    """The folder that an XDG variable names. By its specification a relative one does not count."""
    return Path(text) if text and Path(text).is_absolute() else None


def _user() -> tuple[str, int]:
    if sys.platform == "win32":
        domain, name = os.environ.get("USERDOMAIN", ""), os.environ.get("USERNAME", "")
        return (f"{domain}\\{name}" if domain else name), 0
    import pwd

    user_id = os.getuid()
    try:
        return pwd.getpwuid(user_id).pw_name, user_id
    except KeyError:  # a user without an entry, as in some containers
        return str(user_id), user_id


# --- install --------------------------------------------------------------------------------


def _install(options: argparse.Namespace, system: System, run: Runner) -> int:
    if options.config is None:
        raise UsageError(
            "Which station is to be installed?",
            next_step="Give its configuration: camio-import service install --config station.toml",
        )
    config = os.path.abspath(Path(options.config).expanduser())  # noqa: PTH100
    plan = plan_for(system, _station(options.name, config=config, system=system))
    settings = _checked_settings(config, system)
    if options.is_print:
        _print_plan(plan)
        return int(ExitCode.OK)
    _refuse_what_cannot_start(settings)
    if system == "linux":
        _refuse_without_user_manager(plan, run)
    _write(plan)
    print(f"Starting the service {_service(plan)} …", flush=True)
    _carry_out(plan.install, plan, run)
    print(f"The service {_service(plan)} is installed and runs.")
    for folder in settings.folders:
        print(f"  it watches   {shown(str(folder.folder))}")
    print(f"  its file     {shown(str(plan.file))}")
    print(f"  its words    {shown(plan.log_hint)}")
    print(f"  does it run? {_own_command('status', options.name)}")
    _say_when_it_runs(plan, system, run)
    return int(ExitCode.OK)


def _checked_settings(config: str, system: System) -> Settings:
    """The station's settings as the service will see them. Raises UsageError for what it could not run with."""
    from camio_import.cli.settings import settings_from

    arguments = ["--config", config]
    try:
        settings = settings_from(arguments, _variables_of_a_service(system))
    except UsageError as error:
        settings_from(arguments, os.environ)  # the same error, unless this window's variables make the difference
        raise UsageError(
            str(error),
            next_step="In this window that is all right, but a service does not have the variables of a window: write"
            " the value into the file, and the access token into a token_file.",
        ) from error
    if not settings.folders:
        raise UsageError(
            f"{config} names no folder to watch.",
            next_step='Add two lines to it: [[watch]] and, below it, folder = "/path/of/the/folder"',
        )
    _refuse_without_token(settings, config)
    return settings


def _variables_of_a_service(system: System) -> dict[str, str]:
    """What of this window's environment the service will have, too: nothing that was exported in it."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("CAMIO_") and (system == "windows" or name in _VARIABLES_OF_A_SERVICE)
    }


def _refuse_without_token(settings: Settings, config: str) -> None:
    from camio_import.cli.import_command import split_targets
    from camio_import.cli.settings import TOKEN_VARIABLE, variables_with_token

    options = settings.options
    hook, box = split_targets(options)
    if hook != "camio" or box_address(box, options.port).is_local:
        return
    data = {**settings.hook_data, **hook_data_from(options.hook_data_json, options.hook_data_json_file)}
    if not data.get("access_token") and TOKEN_VARIABLE not in variables_with_token(settings, data, {}):
        raise UsageError(
            f"{config} gives no access token for Camio, and a service does not have the variables of this window.",
            next_step='Put the token into a file that only you can read (chmod 600), and add token_file = "FILE".',
        )


def _refuse_what_cannot_start(settings: Settings) -> None:
    """Raises the first thing for which the service would end at once, again and again, with nobody looking."""
    from camio_import.cli.start_checks import folders_not_there, obstacles

    for obstacle in obstacles(settings, variables={}):
        raise obstacle
    for folder in folders_not_there(settings):
        print(f"camio-import: warning: the folder {shown(str(folder))} cannot be found now", file=sys.stderr)


def _refuse_without_user_manager(plan: ServicePlan, run: Runner) -> None:
    """Raises UsageError when no systemd of the user answers: its commands would fail half-way."""
    answer = run(("systemctl", "--user", "is-system-running"))
    # “degraded” means that some other service has failed, and its exit status says no more than that.
    if answer.out.strip() not in ("", "offline", "unknown"):
        return
    unit = plan.file.name
    raise UsageError(
        "No systemd answers for this user, so that it cannot be given a service. That is so after su and sudo, in"
        " containers, and on systems without systemd.",
        next_step="Log on as this user directly (ssh is all right), without sudo, and try again. Or let the whole"
        f" system run it: put what --print shows into /etc/systemd/system/{unit}, with the line User=NAME below"
        " [Service] and multi-user.target instead of default.target; then, as root: systemctl daemon-reload, and"
        f" systemctl enable --now {unit}",
    )


def _write(plan: ServicePlan) -> None:
    """Put the file in its place, whole or not at all. There is no secret in it: anybody may read it."""
    try:
        if plan.log_folder is not None:
            plan.log_folder.mkdir(parents=True, exist_ok=True)
        plan.file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(plan.file, plan.content, mode=0o644)
    except OSError as error:
        raise UsageError(
            f"{plan.file} cannot be written: {error.strerror or error}.",
            next_step="Check that you may write to its folder and that the disk is not full.",
        ) from error


def _carry_out(commands: Sequence[Command], plan: ServicePlan, run: Runner) -> None:
    """The commands in their order. Raises UsageError at the first that fails and may not."""
    for command in commands:
        ran = run(command.arguments)
        if ran.status != 0 and not command.may_fail:
            said = (ran.err.strip() or ran.out.strip() or f"exit status {ran.status}").splitlines()[0]
            raise UsageError(f"“{_as_typed(command)}” failed: {said}", next_step=plan.when_refused)


def _say_when_it_runs(plan: ServicePlan, system: System, run: Runner) -> None:
    """Lets it run without a login where that can be had, and says whether it does."""
    if system == "macos":
        print(
            "It runs while you are logged on. For a computer that nobody logs on to, switch on automatic login in"
            "\nSystem Settings > Users & Groups."
        )
    elif plan.without_login is None or _lingers(run) or run(plan.without_login.arguments).status == 0:
        print("It runs from the start of this computer on, without anybody logged on.")
    else:
        print(
            "For now it runs only while you are logged on: this computer asks an administrator to allow more."
            f"\n  -> Give this command once: sudo {_as_typed(plan.without_login)}"
        )


def _lingers(run: Runner) -> bool:
    return run(("loginctl", "show-user", _user()[0], "--property=Linger")).out.strip() == "Linger=yes"


# --- uninstall and status -------------------------------------------------------------------


def _uninstall(plan: ServicePlan, system: System, run: Runner) -> int:
    if not plan.file.exists():
        print(f"The service {_service(plan)} is not installed. Nothing was changed.")
        return int(ExitCode.OK)
    if system == "linux":
        _refuse_without_user_manager(plan, run)
    _carry_out(plan.before_removal, plan, run)
    try:
        plan.file.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(
            f"{plan.file} cannot be removed: {error.strerror or error}.", next_step="Remove it by hand."
        ) from error
    _carry_out(plan.after_removal, plan, run)
    print(f"The service {_service(plan)} is stopped and removed. What it left:")
    print(f"  the ledgers, unless storage names another place: {shown(str(state_folder()))}")
    print("  your configuration, the token file, and the log files")
    if plan.log_folder is not None:
        print(f"  what it printed: {shown(str(plan.log_folder))}")
    if system == "linux" and _lingers(run):
        print("  your services may still run without you. If no other one needs that: loginctl disable-linger")
    return int(ExitCode.OK)


def _status(name: str, plan: ServicePlan, system: System, run: Runner) -> int:
    """0 when the service runs, and 3 when not."""
    if not plan.file.exists():
        print(f"The service {_service(plan)} is not installed: there is no {shown(str(plan.file))}.")
        print(f"  -> {_own_command('install', name)} --config FILE")
        return int(ExitCode.INCOMPLETE)
    rows, is_active = {"linux": _systemd_state, "macos": _launchd_state, "windows": _task_state}[system](plan, run)
    print(f"The service {_service(plan)} {'runs' if is_active else 'does not run'}.")
    for what, value in (("installed", str(plan.file)), *rows, ("its words", plan.log_hint)):
        print(f"  {what:11}  {shown(value)}")
    return int(ExitCode.OK if is_active else ExitCode.INCOMPLETE)


_State = tuple[list[tuple[str, str]], bool]
"""What is shown of a service, and whether it runs."""


def _systemd_state(plan: ServicePlan, run: Runner) -> _State:
    wanted = "ActiveState,SubState,UnitFileState,ActiveEnterTimestamp,InactiveEnterTimestamp,StatusText,NRestarts"
    ran = run(("systemctl", "--user", "show", plan.file.name, f"--property={wanted}"))
    if ran.status != 0:
        return [("state", f"not known: {(ran.err.strip() or 'systemctl does not answer').splitlines()[0]}")], False
    state = dict(line.partition("=")[::2] for line in ran.out.splitlines())
    # While it reads its configuration again, it runs.
    is_active = state.get("ActiveState") in ("active", "reloading")
    since = state.get("ActiveEnterTimestamp" if is_active else "InactiveEnterTimestamp") or "the start"
    rows = [
        ("enabled", "yes" if state.get("UnitFileState") == "enabled" else "no: it will not start by itself"),
        ("state", f"{state.get('ActiveState')} ({state.get('SubState')}) since {since}"),
        ("restarts", state.get("NRestarts") or "0"),
        ("without you", "yes" if _lingers(run) else f"no: sudo loginctl enable-linger {shlex.quote(_user()[0])}"),
    ]
    if state.get("StatusText"):
        rows.append(("it says", state["StatusText"]))
    return rows, is_active


def _launchd_state(plan: ServicePlan, run: Runner) -> _State:
    ran = run(("launchctl", "print", f"gui/{_user()[1]}/{plan.file.stem}"))
    if ran.status != 0:
        return [("state", "not loaded")], False
    # The first of each name: further down are those of its sockets and so on.
    state = {key: value for key, _, value in reversed([line.strip().partition(" = ") for line in ran.out.splitlines()])}
    rows = [("state", state.get("state", "not known")), ("last exit", state.get("last exit code", "none"))]
    return rows, state.get("state") == "running"


def _task_state(plan: ServicePlan, run: Runner) -> _State:
    # Not schtasks /Query, whose words are in the language of the system.
    ran = run(("powershell", "-NoProfile", "-Command", f"(Get-ScheduledTask -TaskName '{plan.file.stem}').State"))
    state = ran.out.strip()
    return [("state", state or "not known to Windows")], state == "Running"


# --- what is shown --------------------------------------------------------------------------


def _service(plan: ServicePlan) -> str:
    return plan.file.stem


def _own_command(action: str, name: str) -> str:
    return f"camio-import service {action}" + (f" --name {name}" if name else "")


def _print_plan(plan: ServicePlan) -> None:
    print(f"The file {shown(str(plan.file))}:\n")
    # On the screen a program's own encoding counts, whatever the file's is.
    text = plan.content.decode("utf-16" if plan.content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8")
    print("\n".join(shown(line.expandtabs(2)) for line in text.splitlines()))
    print("\nThe commands after it was written:\n")
    _print_commands(plan.install)
    if plan.without_login is not None:
        print("\nSo that it runs without anybody logged on, from the computer's start:\n")
        _print_commands([plan.without_login])


def _print_removal(plan: ServicePlan) -> None:
    print("The commands:\n")
    _print_commands(plan.before_removal)
    print(f"\nThe file that is then removed: {shown(str(plan.file))}")
    if plan.after_removal:
        print("\nThe commands after that:\n")
        _print_commands(plan.after_removal)


def _print_commands(commands: Sequence[Command]) -> None:
    for command in commands:
        print(f"  {_as_typed(command)}")


def _as_typed(command: Command) -> str:
    if command.arguments[0] == "schtasks":
        return shown(subprocess.list2cmdline(command.arguments))
    return shown(shlex.join(command.arguments))
