"""What each system needs to run a station by itself: the file to write, the commands to give."""

from __future__ import annotations

import plistlib
import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from xml.etree import ElementTree

from camio_import.display import shown
from camio_import.errors import UsageError

System = Literal["linux", "macos", "windows"]
SYSTEMS: Final[tuple[System, ...]] = ("linux", "macos", "windows")

_RESTART_AFTER_S = 30
_STOP_WITHIN_S = 30
"""The import needs 10 s at most to break off cleanly."""


@dataclass(frozen=True, slots=True)
class Station:
    """What is to be run, and for whom.

    Attributes:
        name: "" for the only station of a computer, else what tells it from the others.
        python: absolute path of the interpreter that has this program.
        config: absolute path of the station's configuration.
        home: the user's home folder.
        config_home: where systemd looks for a user's units: ~/.config, or XDG_CONFIG_HOME.
        state_home: XDG_STATE_HOME, if set: the commands that people type look for the ledger there.
        user: the user's name; on Windows with its domain.
        user_id: the user's number; on Windows 0.
    """

    name: str
    python: str
    config: str
    home: Path
    config_home: Path
    state_home: str
    user: str
    user_id: int

    def __post_init__(self) -> None:
        if not re.fullmatch(r"([a-z0-9]+(-[a-z0-9]+)*)?", self.name):
            raise UsageError(
                f"“{self.name}” cannot be the name of a station.",
                next_step="Use small letters, digits and - only, such as --name port-side.",
            )
        for path in (self.python, self.config, self.state_home):
            if re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", path):
                raise UsageError(
                    f"The path {shown(path)} has characters in it that a service cannot be given.",
                    next_step="Rename it: letters, digits, blanks and the usual signs are all right.",
                )

    @property
    def service_name(self) -> str:
        return f"camio-import-{self.name}" if self.name else "camio-import"

    @property
    def arguments(self) -> tuple[str, ...]:
        """What the service runs."""
        return (self.python, "-m", "camio_import", "--config", self.config)


@dataclass(frozen=True, slots=True)
class Command:
    """One command of the system; `may_fail` when it only undoes what may not be there."""

    arguments: tuple[str, ...]
    may_fail: bool = False


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """How one system is given the service, asked about it, and rid of it.

    Attributes:
        file: what the system reads.
        content: of that file.
        log_folder: where the service's output goes, if that is a folder of ours.
        install: the commands after the file was written.
        without_login: the command that lets it run while nobody is logged on, if that needs one.
        before_removal, after_removal: those around the removal of the file.
        log_hint: how its output is read.
        when_refused: what can be done when the system refuses a command.
    """

    file: Path
    content: bytes
    log_folder: Path | None
    install: tuple[Command, ...]
    without_login: Command | None
    before_removal: tuple[Command, ...]
    after_removal: tuple[Command, ...]
    log_hint: str
    when_refused: str


def plan_for(system: System, station: Station) -> ServicePlan:
    """What is done on that system for the station."""
    match system:
        case "linux":
            return _systemd_plan(station)
        case "macos":
            return _launchd_plan(station)
        case "windows":
            return _task_plan(station)


# --- Linux: a unit of the user's systemd ----------------------------------------------------


def _systemd_plan(station: Station) -> ServicePlan:
    unit = f"{station.service_name}.service"
    user = ("systemctl", "--user")
    return ServicePlan(
        file=station.config_home / "systemd" / "user" / unit,
        content=systemd_unit(station).encode("utf-8"),
        log_folder=None,
        # Not `enable --now`: that leaves a service that runs already with its old unit.
        install=(
            Command((*user, "daemon-reload")),
            Command((*user, "enable", unit)),
            Command((*user, "restart", unit)),
        ),
        without_login=Command(("loginctl", "enable-linger", station.user), may_fail=True),
        before_removal=(Command((*user, "disable", "--now", unit), may_fail=True),),
        after_removal=(
            Command((*user, "daemon-reload")),
            Command((*user, "reset-failed", unit), may_fail=True),
        ),
        log_hint=f"journalctl --user -u {station.service_name}",
        when_refused=f"See what systemd and the service say: journalctl --user -u {station.service_name}",
    )


def systemd_unit(station: Station) -> str:
    """The unit's text.

    What it does not say is meant, too:

    - No `After=network-online.target`: the user's manager does not know the targets of the system's, and the
      import waits for a network and a Box by itself.
    - No `ProtectSystem=`, `PrivateTmp=` or other setting that gives the service a mount namespace of its own: a
      drive that is plugged in later would not be seen in there, and that is what a station is for.
    - No `CapabilityBoundingSet=`: a user's manager may not set it, and the start would fail. A user's service has no
      capabilities to lose.
    - No `RestartPreventExitStatus=`: nobody is there to start it again. A refused token gets replaced, a full
      disk emptied, a wrong line in the configuration corrected, and then the station has to come back by itself;
      until then, a try every 30 s costs nothing and says in the journal what is wrong.
    """
    name = f" ({station.name})" if station.name else ""
    state_home = [f"Environment={_unit_word('XDG_STATE_HOME=' + station.state_home)}"] if station.state_home else []
    lines = [
        "# Written by camio-import service install, and overwritten by the next one.",
        f"# Settings of your own: systemctl --user edit {station.service_name}",
        "[Unit]",
        f"Description=Camio import station{name}",
        "Documentation=https://camio.com/box",
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=notify",
        f"ExecStart={' '.join(_unit_command(station.arguments))}",
        "ExecReload=/bin/kill -HUP $MAINPID",
        *state_home,
        "WatchdogSec=5min",
        "# A large folder, or a slow drive, takes its time.",
        "TimeoutStartSec=10min",
        "Restart=always",
        f"RestartSec={_RESTART_AFTER_S}",
        "KillSignal=SIGTERM",
        f"TimeoutStopSec={_STOP_WITHIN_S}",
        "# What the import ends with when it is told to stop.",
        "SuccessExitStatus=143",
        "",
        "# The recorder that may run beside it comes first.",
        "Nice=5",
        "IOSchedulingClass=best-effort",
        "IOSchedulingPriority=6",
        "",
        "UMask=0077",
        "# A memory image would hold the access token.",
        "LimitCORE=0",
        "NoNewPrivileges=yes",
        "LockPersonality=yes",
        "# A hook module that compiles at run time needs MemoryDenyWriteExecute=no.",
        "MemoryDenyWriteExecute=yes",
        "RestrictRealtime=yes",
        "RestrictSUIDSGID=yes",
        "RestrictNamespaces=yes",
        "# Netlink: looking up a name asks the kernel which addresses this computer has.",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
        "SystemCallArchitectures=native",
        "",
        "[Install]",
        "WantedBy=default.target",
    ]
    return "\n".join(lines) + "\n"


def _unit_command(arguments: Sequence[str]) -> list[str]:
    """The words of an ExecStart= line."""
    program = arguments[0]
    if not re.search(r"""["'\\$]""", program):
        return [_unit_word(program), *(_unit_argument(argument) for argument in arguments[1:])]
    # systemd refuses such a program however it is quoted ("special characters"), but not such an argument. The
    # shell is replaced by the program, so that systemd still watches the right process.
    through_shell = ("-c", 'exec "$0" "$@"', *arguments)
    return ["/bin/sh", *(_unit_argument(argument) for argument in through_shell)]


def _unit_word(text: str) -> str:
    """Quoted where it has to be, as systemd.syntax(7) has it, and % escaped; not yet $, see `_unit_argument`."""
    if re.fullmatch(r"[\w./:=@+,-]+", text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'


def _unit_argument(text: str) -> str:
    return _unit_word(text.replace("$", "$$"))


# --- macOS: a launch agent ------------------------------------------------------------------


def _launchd_plan(station: Station) -> ServicePlan:
    label = f"com.camio.{station.service_name}"
    file = station.home / "Library" / "LaunchAgents" / f"{label}.plist"
    log = _macos_log(station)
    domain = f"gui/{station.user_id}"
    remove = Command(("launchctl", "bootout", f"{domain}/{label}"), may_fail=True)
    return ServicePlan(
        file=file,
        content=launch_agent(station),
        log_folder=log.parent,
        # A first bootout, since bootstrap refuses what is there; enable, since it may have been disabled by hand.
        install=(
            remove,
            Command(("launchctl", "enable", f"{domain}/{label}")),
            Command(("launchctl", "bootstrap", domain, str(file))),
        ),
        without_login=None,
        before_removal=(remove,),
        after_removal=(),
        log_hint=f"tail {shlex.quote(str(log))}",
        when_refused="Log on at the screen as this user, and try again: an agent belongs to a session there.",
    )


def _macos_log(station: Station) -> Path:
    return station.home / "Library" / "Logs" / "camio-import" / f"{station.service_name}.log"


def launch_agent(station: Station) -> bytes:
    """The property list."""
    log = str(_macos_log(station))
    return plistlib.dumps(
        {
            "Label": f"com.camio.{station.service_name}",
            "ProgramArguments": list(station.arguments),
            "RunAtLoad": True,
            "KeepAlive": True,
            "ThrottleInterval": _RESTART_AFTER_S,
            "ExitTimeOut": _STOP_WITHIN_S,
            # Not Background, under which macOS would hold up the uploads in favour of whatever else runs.
            "ProcessType": "Standard",
            "Nice": 5,
            "Umask": 0o077,
            "StandardOutPath": log,
            "StandardErrorPath": log,
        }
    )


# --- Windows: a scheduled task --------------------------------------------------------------

_TASK_NAMESPACE = "http://schemas.microsoft.com/windows/2004/02/mit/task"

_LOOK_AGAIN = "PT5M"
"""A task that is already running is not started twice (IgnoreNew), so that this means: if it has ended."""


def _task_plan(station: Station) -> ServicePlan:
    task = f"\\{station.service_name}"
    file = station.home / "AppData" / "Local" / "camio-import" / f"{station.service_name}.xml"
    return ServicePlan(
        file=file,
        content=scheduled_task(station),
        log_folder=None,
        install=(
            Command(("schtasks", "/Create", "/TN", task, "/XML", str(file), "/F")),
            Command(("schtasks", "/End", "/TN", task), may_fail=True),
            Command(("schtasks", "/Run", "/TN", task)),
        ),
        without_login=None,
        before_removal=(
            Command(("schtasks", "/End", "/TN", task), may_fail=True),
            Command(("schtasks", "/Delete", "/TN", task, "/F"), may_fail=True),
        ),
        after_removal=(),
        log_hint="the file that log_file names in the configuration",
        when_refused="Open the command window with “Run as administrator”, and try again: Windows lets nobody else"
        " have a task that begins with the computer.",
    )


def scheduled_task(station: Station) -> bytes:
    """The task's XML, in UTF-16 as schtasks wants it."""
    ElementTree.register_namespace("", _TASK_NAMESPACE)
    task = _element(None, "Task", version="1.2")
    about = _element(task, "RegistrationInfo")
    _element(about, "Description", "Imports video to a Camio Box as it arrives.")
    triggers = _element(task, "Triggers")
    for kind in ("BootTrigger", "LogonTrigger"):
        trigger = _element(triggers, kind)
        # RestartOnFailure heeds only some of the ways in which a program ends.
        _element(_element(trigger, "Repetition"), "Interval", _LOOK_AGAIN)
        _element(trigger, "Enabled", "true")
        if kind == "LogonTrigger":
            _element(trigger, "UserId", station.user)
    who = _element(_element(task, "Principals"), "Principal", id="Author")
    _element(who, "UserId", station.user)
    # As the user, logged on or not, without the password being kept anywhere. Such a task has no access to
    # network shares that ask for one.
    _element(who, "LogonType", "S4U")
    _element(who, "RunLevel", "LeastPrivilege")
    settings = _element(task, "Settings")
    _element(settings, "MultipleInstancesPolicy", "IgnoreNew")
    _element(settings, "DisallowStartIfOnBatteries", "false")
    _element(settings, "StopIfGoingOnBatteries", "false")
    _element(settings, "StartWhenAvailable", "true")
    _element(settings, "ExecutionTimeLimit", "PT0S")
    restart = _element(settings, "RestartOnFailure")
    _element(restart, "Interval", "PT1M")
    _element(restart, "Count", "999")
    action = _element(_element(task, "Actions", Context="Author"), "Exec")
    _element(action, "Command", station.python)
    _element(action, "Arguments", subprocess.list2cmdline(station.arguments[1:]))
    ElementTree.indent(task)
    content: bytes = ElementTree.tostring(task, encoding="utf-16", xml_declaration=True)
    return content


def _element(
    parent: ElementTree.Element | None, name: str, text: str | None = None, **attributes: str
) -> ElementTree.Element:
    tag = f"{{{_TASK_NAMESPACE}}}{name}"
    if parent is None:
        return ElementTree.Element(tag, attributes)
    element = ElementTree.SubElement(parent, tag, attributes)
    element.text = text
    return element
