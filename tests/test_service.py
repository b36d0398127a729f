"""The service: what each system is given, in which order, and what systemd is told and makes of it."""

from __future__ import annotations

import configparser
import logging
import os
import plistlib
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import pytest
from clips import Video, tree
from command import TOKEN, environment, needs, run
from hypothesis import example, given
from hypothesis import strategies as st

from camio_import.cli import service_command
from camio_import.cli.service_command import Ran, run_command
from camio_import.cli.service_files import SYSTEMS, Station, System, launch_agent, scheduled_task, systemd_unit
from camio_import.errors import UsageError
from camio_import.systemd import Notifier

DEADLINE_S = 60.0
"""For what a process of its own has to do. Nothing waits that long unless it is broken."""

NASTY_FOLDERS = [
    "plain", "two words", "50% off", "100%% %h %n", "$HOME", "a$$b ${HOME}", 'quo"te', "it's", "back\\slash\\",
    "comma,semi;colon #hash", "-dash @at !bang", "Übergröße 船", " leading and trailing ", "\\x41\\n",
]  # fmt: skip


def station(*, name: str = "", python: str = "/usr/bin/python3", config: str = "/srv/station.toml") -> Station:
    home = Path("/home/alex")
    return Station(
        name=name, python=python, config=config, home=home, config_home=home / ".config", state_home="",
        user="alex", user_id=1000,
    )  # fmt: skip


# --- what systemd is told -------------------------------------------------------------------


class Manager:
    """The receiving end of the messages: systemd's place."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)

    def received(self) -> list[str]:
        """Everything that was sent until now."""
        messages = []
        self._socket.setblocking(False)
        while True:
            try:
                messages.append(self._socket.recv(65536).decode("utf-8"))
            except BlockingIOError:
                return messages

    def wait_for(self, beginning: str, *, within_s: float = DEADLINE_S) -> list[str]:
        """The messages up to the first that begins like this."""
        messages: list[str] = []
        until = time.monotonic() + within_s
        while not (messages and messages[-1].startswith(beginning)):
            self._socket.settimeout(max(0.01, until - time.monotonic()))
            try:
                messages.append(self._socket.recv(65536).decode("utf-8"))
            except TimeoutError:
                pytest.fail(f"no {beginning} within {within_s} s, only {messages}")
        return messages

    def close(self) -> None:
        self._socket.close()


pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there are no sockets in folders here")


@pytest.fixture
def manager() -> Iterator[Manager]:
    # Not below tmp_path: such an address may have 107 characters.
    with tempfile.TemporaryDirectory(prefix="ci-") as folder:
        manager = Manager(f"{folder}/notify")
        yield manager
        manager.close()


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_each_message_is_one_datagram(manager: Manager) -> None:
    clock = Clock()
    notifier = Notifier({"NOTIFY_SOCKET": manager.address}, monotonic=clock)
    notifier.ready()
    notifier.status("3 files wait")
    clock.now_s = 1234.5678
    notifier.reloading()
    notifier.stopping()
    assert manager.received() == [
        "READY=1", "STATUS=3 files wait", "RELOADING=1\nMONOTONIC_USEC=1234567800", "STOPPING=1",
    ]  # fmt: skip


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has abstract addresses")
def test_an_abstract_address_is_understood() -> None:
    manager = Manager(f"@camio-import-test-{os.getpid()}")
    Notifier({"NOTIFY_SOCKET": manager.address}).ready()
    assert manager.received() == ["READY=1"]
    manager.close()


def test_a_status_is_sent_only_when_it_changed(manager: Manager) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.address})
    for text in ("a", "a", "b", "a", "a"):
        notifier.status(text)
    assert manager.received() == ["STATUS=a", "STATUS=b", "STATUS=a"]


@given(st.text(st.characters(codec=None), min_size=1))
@example("clip\nWATCHDOG=trigger.mp4")
@example("\ud800 broken \udcff name")
@example("x" * 100_000)
def test_a_status_cannot_carry_other_variables(text: str) -> None:
    with tempfile.TemporaryDirectory(prefix="ci-") as folder:
        manager = Manager(f"{folder}/notify")
        Notifier({"NOTIFY_SOCKET": manager.address}).status(text)
        (message,) = manager.received()
        manager.close()
    assert message.startswith("STATUS=")
    assert len(message.splitlines()) == 1


def test_alive_is_said_every_half_of_the_limit(manager: Manager) -> None:
    clock = Clock()
    variables = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getpid())}
    notifier = Notifier(variables, monotonic=clock)
    assert notifier.alive_every_s == 5.0
    said_at = []
    for tick in range(100):
        clock.now_s = 1000 + tick / 4
        notifier.alive()
        said_at += [tick / 4] * len(manager.received())
    assert said_at == [0, 5, 10, 15, 20]


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "²"},
        {"WATCHDOG_USEC": "-1"},
        {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"},
    ],
)
def test_alive_is_not_said_when_nobody_asks(variables: dict[str, str], manager: Manager) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.address, **variables})
    assert notifier.alive_every_s is None
    notifier.alive()
    assert manager.received() == []


@pytest.mark.parametrize("address", ["", "nowhere/notify", "vsock:2:1234"])
def test_without_systemd_nothing_happens(address: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"})
    notifier.ready()
    notifier.status("x")
    notifier.reloading()
    notifier.alive()
    notifier.stopping()
    assert notifier.alive_every_s is None


def test_a_manager_that_is_away_is_logged_and_told_when_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "camio_import")
    clock = Clock()
    with tempfile.TemporaryDirectory(prefix="ci-") as folder:
        address = f"{folder}/notify"
        notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "10000000"}, monotonic=clock)
        notifier.status("here")
        notifier.alive()
        ours = {record.getMessage().split(":")[0]: record.levelname for record in caplog.records}
        assert ours["systemd could not be told STATUS=here"] == "DEBUG"
        assert ours["systemd could not be told WATCHDOG=1"] == "DEBUG"
        manager = Manager(address)
        notifier.status("here")
        notifier.alive()
        assert manager.received() == ["STATUS=here", "WATCHDOG=1"]
        manager.close()


def test_an_address_that_is_too_long_is_no_error() -> None:
    Notifier({"NOTIFY_SOCKET": "/" + "x" * 4000}).ready()


# --- Linux: the unit ------------------------------------------------------------------------


def words_of(line: str) -> list[str]:
    """The arguments that systemd makes of an ExecStart= value, by systemd.syntax(7) and systemd.service(5)."""
    words: list[str] = []
    at = 0
    while at < len(line):
        if line[at] == " ":
            at += 1
            continue
        word = ""
        quote = ""
        while at < len(line) and (quote or line[at] != " "):
            character = line[at]
            if character == "\\":
                at += 1
                word += {"\\": "\\", '"': '"', "'": "'", "n": "\n", "t": "\t", "s": " "}[line[at]]
            elif quote and character == quote:
                quote = ""
            elif not quote and character in "\"'":
                quote = character
            else:
                word += character
            at += 1
        assert not quote
        words.append(word)
    specified = [re.sub(r"%(.)", lambda match: {"%": "%"}[match[1]], word) for word in words]
    variables = {"$$": "$"}
    return [re.sub(r"\$(\$|\{\w+\}|\w*)", lambda match: variables[match[0]], word) for word in specified]


def unit_lines(unit: str, key: str) -> list[str]:
    return [line.partition("=")[2] for line in unit.split("\n") if line.startswith(f"{key}=")]


def arguments_run_by(unit: str) -> list[str]:
    """What is run in the end: the shell, if there is one, hands over to its arguments."""
    (line,) = unit_lines(unit, "ExecStart")
    words = words_of(line)
    if words[0] == "/bin/sh":
        assert words[:3] == ["/bin/sh", "-c", 'exec "$0" "$@"']
        return words[3:]
    assert not set(words[0]) & set("\"'\\$"), "systemd takes no such program"
    return words


PATHS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1).map(lambda text: "/" + text)


@given(python=PATHS, config=PATHS)
@example(python="/p", config="/ends with a \\")
@example(python="/a \"b' $c \\ %d", config="/${HOME} $HOME %h $$ %%")
def test_the_unit_runs_exactly_the_words_that_were_meant(python: str, config: str) -> None:
    unit = systemd_unit(station(python=python, config=config))
    assert arguments_run_by(unit) == [python, "-m", "camio_import", "--config", config]


@pytest.mark.parametrize("path", ["/new\nline", "/nul\0", "/escape\x1b[2J", "/not utf-8 \udcff", "/del\x7f"])
def test_a_path_that_no_service_can_be_given_is_refused(path: str) -> None:
    for broken in ({"python": path}, {"config": path}):
        with pytest.raises(UsageError, match="cannot be given") as caught:
            station(**broken)
        assert str(caught.value).isprintable()
        assert "Rename" in caught.value.next_step


@pytest.mark.parametrize("name", ["port", "a-2", "7"])
def test_a_second_station_has_its_own_service(name: str) -> None:
    assert station(name=name).service_name == f"camio-import-{name}"


@pytest.mark.parametrize("name", ["Port", "a b", "../x", "-a", "a-", "a.b", "ä", "a\n"])
def test_a_name_that_could_lead_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="name of a station"):
        station(name=name)


def test_the_unit_comes_back_after_anything_and_sees_drives_that_are_plugged_in_later() -> None:
    parsed = configparser.RawConfigParser(strict=True)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read_string(systemd_unit(station()))
    assert parsed["Service"]["Restart"] == "always"
    assert parsed["Unit"]["StartLimitIntervalSec"] == "0"
    assert parsed["Service"]["Type"] == "notify"
    assert parsed["Install"]["WantedBy"] == "default.target"
    keys = set(parsed["Service"])
    # Each of these would give it a mount namespace, where later mounts are not seen, or needs privileges.
    for key in keys:
        assert not re.match(r"Protect|Private|ReadOnly|ReadWrite|Inaccessible|Bind|TemporaryFile|RootD|Capab", key)
    assert not {"RestartPreventExitStatus", "User", "Group"} & keys


def verified(unit: str, folder: Path) -> str:
    """What `systemd-analyze verify --user` has to say against the unit; nothing, if it is in order."""
    file = folder / "camio-import.service"
    file.write_text(unit, "utf-8")
    runtime = folder / "runtime"
    runtime.mkdir(mode=0o700, exist_ok=True)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", str(file)],
        env=environment(folder / "home", XDG_RUNTIME_DIR=str(runtime)), capture_output=True, text=True, check=False,
        timeout=DEADLINE_S,
    )  # fmt: skip
    return (done.stdout + done.stderr).strip() + ("" if done.returncode == 0 else f"\nexit {done.returncode}")


@pytest.mark.parametrize("folder", NASTY_FOLDERS)
def test_systemd_takes_the_unit_without_a_word(folder: str, tmp_path: Path) -> None:
    needs("systemd-analyze", "systemd")
    place = tmp_path / folder
    place.mkdir()
    (place / "python").symlink_to("/bin/true")
    unit = systemd_unit(
        Station(
            name="x", python=str(place / "python"), config=str(place / "station.toml"), home=tmp_path,
            config_home=tmp_path, state_home=str(place), user="alex", user_id=1000,
        )
    )  # fmt: skip
    assert verified(unit, tmp_path) == ""


def test_systemd_would_have_complained(tmp_path: Path) -> None:
    needs("systemd-analyze", "systemd")
    unit = systemd_unit(station(python="/bin/true"))
    assert verified(unit, tmp_path) == ""
    assert "Restrat" in verified(unit.replace("Restart=", "Restrat="), tmp_path)
    assert "not-there" in verified(unit.replace("/bin/true", "/not-there"), tmp_path)


# --- macOS and Windows ----------------------------------------------------------------------


@pytest.mark.parametrize("folder", NASTY_FOLDERS)
def test_the_launch_agent_runs_the_words_that_were_meant(folder: str) -> None:
    python, config = f"/{folder}/python", f"/{folder}/station.toml"
    agent = plistlib.loads(launch_agent(station(name="port", python=python, config=config)))
    assert agent["ProgramArguments"] == [python, "-m", "camio_import", "--config", config]
    assert agent["Label"] == "com.camio.camio-import-port"
    assert agent["RunAtLoad"] is True
    assert agent["KeepAlive"] is True
    assert agent["Umask"] == 0o077


@pytest.mark.parametrize("folder", [*NASTY_FOLDERS, "<&>"])
def test_the_scheduled_task_runs_the_words_that_were_meant(folder: str) -> None:
    config = f"C:\\{folder}\\station.toml"
    content = scheduled_task(station(python=f"C:\\{folder}\\python.exe", config=config))
    assert content[:2] in (b"\xff\xfe", b"\xfe\xff"), "UTF-16 with its mark, as schtasks wants it"
    task = ElementTree.fromstring(content)
    texts = {element.tag.rpartition("}")[2]: element.text for element in task.iter()}
    assert texts["Command"] == f"C:\\{folder}\\python.exe"
    assert windows_words(texts["Arguments"] or "") == ["-m", "camio_import", "--config", config]
    assert texts["ExecutionTimeLimit"] == "PT0S"
    assert texts["DisallowStartIfOnBatteries"] == texts["StopIfGoingOnBatteries"] == "false"
    assert texts["MultipleInstancesPolicy"] == "IgnoreNew"
    triggers = next(element for element in task if element.tag.endswith("Triggers"))
    assert [element.tag.rpartition("}")[2] for element in triggers] == ["BootTrigger", "LogonTrigger"]


def windows_words(line: str) -> list[str]:
    """The arguments that a program of Windows finds in its command line, by the rules of its C library."""
    words: list[str] = []
    for match in re.finditer(r'(?:[^\s"\\]|\\+"?|"(?:[^"\\]|\\.|\\)*")+', line):
        word, is_quoted, at = "", False, 0
        text = match[0]
        while at < len(text):
            backslashes = len(text[at:]) - len(text[at:].lstrip("\\"))
            at += backslashes
            if at < len(text) and text[at] == '"':
                word += "\\" * (backslashes // 2)
                if backslashes % 2:
                    word += '"'
                else:
                    is_quoted = not is_quoted
                at += 1
            else:
                word += "\\" * backslashes
                if at < len(text):
                    word += text[at]
                    at += 1
        assert not is_quoted
        words.append(word)
    return words


# --- install, uninstall, status -------------------------------------------------------------


class Recorder:
    """In the place of the system's commands: remembers them, and answers as it was told to."""

    def __init__(self, **answers: Ran) -> None:
        self.commands: list[str] = []
        self._answers = {"is-system-running": Ran(0, "running\n"), "show-user": Ran(0, "Linger=no\n")}
        self._answers |= {word.replace("_", "-"): answer for word, answer in answers.items()}

    def __call__(self, arguments: Sequence[str]) -> Ran:
        self.commands.append(" ".join(arguments))
        return next((answer for word, answer in self._answers.items() if word in arguments), Ran(0))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, and an environment without anything that this program knows."""
    for name in os.environ:
        if name.startswith(("CAMIO_", "XDG_")):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return station_file(tmp_path, 'host = "local"')


def station_file(tmp_path: Path, *lines: str) -> Path:
    (tmp_path / "videos").mkdir(exist_ok=True)
    file = tmp_path / "station.toml"
    file.write_text("\n".join([*lines, "[[watch]]", 'folder = "videos"', ""]))
    return file


def service(*arguments: str | Path, run: Callable[[Sequence[str]], Ran], system: System = "linux") -> int:
    return service_command.main([str(argument) for argument in arguments], run=run, own_system=system)


UNIT = Path(".config/systemd/user/camio-import.service")


def test_install_writes_the_unit_and_then_starts_it(
    home: Path, config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(config.parent)
    monkeypatch.setattr(service_command, "_user", lambda: ("alex", 1000))
    recorder = Recorder()
    assert service("install", "--config", "station.toml", run=recorder) == 0
    assert recorder.commands == [
        "systemctl --user is-system-running",
        "systemctl --user daemon-reload",
        "systemctl --user enable camio-import.service",
        "systemctl --user restart camio-import.service",
        "loginctl show-user alex --property=Linger",
        "loginctl enable-linger alex",
    ]
    unit = (home / UNIT).read_text("utf-8")
    assert arguments_run_by(unit) == [sys.executable, "-m", "camio_import", "--config", str(config)]
    assert stat.S_IMODE((home / UNIT).stat().st_mode) == 0o644
    assert [path.name for path in (home / UNIT).parent.iterdir()] == ["camio-import.service"]
    out = capsys.readouterr().out
    assert str(config.parent / "videos") in out
    assert "without anybody logged on" in out
    assert "journalctl --user -u camio-import" in out


def test_the_folder_of_units_may_be_elsewhere(home: Path, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "conf"))
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "my state"))
    service("install", "--name", "port", "--config", config, run=Recorder())
    unit = (home / "conf/systemd/user/camio-import-port.service").read_text("utf-8")
    assert unit_lines(unit, "Environment") == [f'"XDG_STATE_HOME={home}/my state"']


def test_a_computer_that_refuses_to_let_it_linger_is_no_error(
    home: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert service("install", "--config", config, run=Recorder(enable_linger=Ran(1, err="Access denied"))) == 0
    out = capsys.readouterr().out
    assert "sudo loginctl enable-linger " in out
    assert "only while you are logged on" in out


def test_what_lingers_already_is_left_alone(home: Path, config: Path) -> None:
    recorder = Recorder(show_user=Ran(0, "Linger=yes\n"))
    service("install", "--config", config, run=recorder)
    assert not any("enable-linger" in command for command in recorder.commands)


@pytest.mark.parametrize("answer", [Ran(127, err="systemctl: not found"), Ran(1, "offline\n"), Ran(1, "unknown\n")])
@pytest.mark.parametrize("action", ["install", "uninstall"])
def test_without_a_systemd_for_the_user_nothing_is_done(answer: Ran, action: str, home: Path, config: Path) -> None:
    if action == "uninstall":
        (home / UNIT).parent.mkdir(parents=True)
        (home / UNIT).write_text("mine")
    recorder = Recorder(is_system_running=answer)
    with pytest.raises(UsageError, match="No systemd answers for this user") as caught:
        service(*(["install", "--config", config] if action == "install" else ["uninstall"]), run=recorder)
    assert "/etc/systemd/system/camio-import.service" in caught.value.next_step
    assert "--print" in caught.value.next_step
    assert recorder.commands == ["systemctl --user is-system-running"]
    assert (home / UNIT).exists() == (action == "uninstall")


def test_a_manager_with_another_failed_service_is_used(home: Path, config: Path) -> None:
    assert service("install", "--config", config, run=Recorder(is_system_running=Ran(1, "degraded\n"))) == 0


def test_a_refused_command_is_said_and_the_rest_left_undone(home: Path, config: Path) -> None:
    recorder = Recorder(enable=Ran(1, err="Failed to enable unit: it is masked\nmore"))
    with pytest.raises(UsageError, match=r"enable camio-import\.service” failed: Failed to enable unit: it is masked$"):
        service("install", "--config", config, run=recorder)
    assert not any("restart" in command for command in recorder.commands)


def test_a_folder_that_cannot_be_written_is_said(home: Path, config: Path) -> None:
    (home / ".config").write_text("a file in the way")
    recorder = Recorder()
    with pytest.raises(UsageError, match=r"camio-import\.service cannot be written"):
        service("install", "--config", config, run=recorder)
    assert recorder.commands == ["systemctl --user is-system-running"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['host = "192.168.1.57"'], "gives no access token"),
        ([], "gives no access token"),
        (['hook = "x"'], "hook"),
        (['host = "local"', "workers = 0"], "workers"),
        (['hooks = "no_such_hook.py"', 'host = "x"'], "no_such_hook.py"),
        (['host = "local"', 'storage = "station.toml/ledger.db"'], "cannot be written"),
        (['host = "local"', 'log_file = "videos"'], "videos"),
    ],
)
def test_a_station_that_could_not_run_is_refused(
    lines: list[str], message: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAMIO_OAUTH_TOKEN", TOKEN)  # of this window, not of the service
    recorder = Recorder()
    with pytest.raises(UsageError, match=message) as caught:
        service("install", "--config", station_file(tmp_path, *lines), run=recorder)
    assert caught.value.next_step
    assert TOKEN not in str(caught.value)
    assert recorder.commands == []
    assert list(home.iterdir()) == []


def test_a_broken_token_of_this_window_is_no_obstacle(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAMIO_OAUTH_TOKEN", "two words\nand a line")
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o600)
    file = station_file(tmp_path, 'host = "192.168.1.57"', 'token_file = "token"')
    assert service("install", "--config", file, run=Recorder()) == 0


def test_a_folder_that_may_come_later_is_no_obstacle(
    home: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "videos").rmdir()
    assert service("install", "--config", config, run=Recorder()) == 0
    assert f"the folder {tmp_path / 'videos'} cannot be found now" in capsys.readouterr().err
    assert (home / UNIT).exists()


def test_a_station_without_folders_is_refused(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "station.toml"
    file.write_text('host = "local"\n')
    with pytest.raises(UsageError, match="no folder to watch") as caught:
        service("install", "--config", file, run=Recorder())
    assert "[[watch]]" in caught.value.next_step


def test_a_variable_of_this_window_is_no_variable_of_the_service(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = station_file(tmp_path, 'host = "local"', 'camera_name_suffix = "${TRIP}"')
    with pytest.raises(UsageError, match="TRIP") as nowhere:
        service("install", "--config", file, run=Recorder())
    assert "window" not in nowhere.value.next_step
    monkeypatch.setenv("TRIP", "-2016")
    with pytest.raises(UsageError, match="TRIP") as only_here:
        service("install", "--config", file, run=Recorder())
    assert "does not have the variables of a window" in only_here.value.next_step


@pytest.mark.parametrize("where", ["token_file", "hook_data"])
def test_a_token_never_gets_into_the_service(
    where: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN)
    token_file.chmod(0o600)
    if where == "token_file":
        file = station_file(tmp_path, 'host = "192.168.1.57"', 'token_file = "token"')
    else:
        file = station_file(tmp_path, 'host = "192.168.1.57"')
        file.write_text(file.read_text() + f'[hook_data]\naccess_token = "{TOKEN}"\n')
    service("install", "--config", file, run=Recorder())
    service("install", "--config", file, "--print", run=Recorder())
    written = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert b"ExecStart" in written
    assert TOKEN.encode() not in written
    printed = capsys.readouterr()
    assert TOKEN not in printed.out + printed.err


def test_a_token_file_that_others_can_read_is_refused(home: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o644)
    with pytest.raises(UsageError) as caught:
        service("install", "--config", station_file(tmp_path, 'token_file = "token"'), run=Recorder())
    assert "chmod 600" in caught.value.next_step


@pytest.mark.parametrize("system", SYSTEMS)
def test_print_shows_everything_and_does_nothing(
    system: System, home: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder = Recorder()
    assert service("install", "--config", config, "--print", "--system", system, run=recorder) == 0
    out = capsys.readouterr().out
    assert str(config) in out
    assert {"linux": "systemctl --user enable", "macos": "launchctl bootstrap", "windows": "schtasks /Create"}[
        system
    ] in out
    assert service("uninstall", "--print", "--system", system, run=recorder) == 0
    out = capsys.readouterr().out
    assert {"linux": "disable --now", "macos": "launchctl bootout", "windows": "schtasks /Delete"}[system] in out
    assert recorder.commands == []
    assert list(home.iterdir()) == []


def test_uninstall_stops_it_first_and_says_what_it_left(
    home: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service("install", "--config", config, run=Recorder())
    recorder = Recorder(disable=Ran(1, err="it was disabled by hand"), show_user=Ran(0, "Linger=yes\n"))
    capsys.readouterr()
    assert service("uninstall", run=recorder) == 0
    assert recorder.commands[:4] == [
        "systemctl --user is-system-running",
        "systemctl --user disable --now camio-import.service",
        "systemctl --user daemon-reload",
        "systemctl --user reset-failed camio-import.service",
    ]
    assert not (home / UNIT).exists()
    assert config.exists()
    out = capsys.readouterr().out
    assert "ledger" in out
    assert "loginctl disable-linger" in out


def test_uninstall_of_what_is_not_there_is_no_error(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorder = Recorder()
    assert service("uninstall", "--name", "port", run=recorder) == 0
    assert "camio-import-port is not installed" in capsys.readouterr().out
    assert recorder.commands == []


SHOW = """ActiveState={0}
SubState={1}
UnitFileState=enabled
ActiveEnterTimestamp=Mon 2026-11-23 02:11:45 UTC
InactiveEnterTimestamp=Mon 2026-11-23 01:00:00 UTC
StatusText=watching 2 folders
NRestarts=3
"""


@pytest.mark.parametrize(
    ("state", "sub_state", "status", "since"),
    [
        ("active", "running", 0, "02:11:45"),
        ("reloading", "reload", 0, "02:11:45"),
        ("activating", "auto-restart", 3, "01:00:00"),
        ("failed", "failed", 3, "01:00:00"),
        ("inactive", "dead", 3, "01:00:00"),
    ],
)
def test_status_says_whether_it_runs(
    state: str, sub_state: str, status: int, since: str, home: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service("install", "--config", config, run=Recorder())
    capsys.readouterr()
    assert service("status", run=Recorder(show=Ran(0, SHOW.format(state, sub_state)))) == status
    out = capsys.readouterr().out
    assert f"{state} ({sub_state}) since Mon 2026-11-23 {since} UTC" in out
    assert "watching 2 folders" in out
    assert "journalctl --user -u camio-import" in out
    assert "sudo loginctl enable-linger" in out


def test_status_without_a_service_says_how_to_install_one(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert service("status", "--name", "port", run=Recorder()) == 3
    assert "camio-import service install --name port --config FILE" in capsys.readouterr().out


def test_status_when_systemd_does_not_answer(home: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    service("install", "--config", config, run=Recorder())
    assert service("status", run=Recorder(show=Ran(1, err="Failed to connect to bus: No medium found\n"))) == 3
    assert "not known: Failed to connect to bus" in capsys.readouterr().out


AGENT = Path("Library/LaunchAgents/com.camio.camio-import.plist")


def test_a_launch_agent_is_installed_asked_and_removed(
    home: Path, config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_command, "_user", lambda: ("alex", 501))
    recorder = Recorder(bootout=Ran(3, err="No such process"))
    assert service("install", "--config", config, run=recorder, system="macos") == 0
    assert recorder.commands == [
        "launchctl bootout gui/501/com.camio.camio-import",
        "launchctl enable gui/501/com.camio.camio-import",
        f"launchctl bootstrap gui/501 {home / AGENT}",
    ]
    agent = plistlib.loads((home / AGENT).read_bytes())
    assert Path(agent["StandardOutPath"]).parent.is_dir()
    for text, status in (
        ("\tstate = running\n\tpid = 7\n\tendpoints = {\n\t\tstate = closed\n", 0), ("\tstate = exited\n", 3),
    ):  # fmt: skip
        assert service("status", run=Recorder(print=Ran(0, text)), system="macos") == status
    assert service("status", run=Recorder(print=Ran(113, err="Could not find service")), system="macos") == 3
    assert service("uninstall", run=Recorder(), system="macos") == 0
    assert not (home / AGENT).exists()
    assert "automatic login" in capsys.readouterr().out


def test_a_scheduled_task_is_installed_asked_and_removed(home: Path, config: Path) -> None:
    file = home / "AppData/Local/camio-import/camio-import.xml"
    recorder = Recorder()
    assert service("install", "--config", config, run=recorder, system="windows") == 0
    assert recorder.commands[0] == f"schtasks /Create /TN \\camio-import /XML {file} /F"
    assert recorder.commands[-1] == "schtasks /Run /TN \\camio-import"
    assert file.exists()
    assert service("status", run=Recorder(powershell=Ran(0, "Running\r\n")), system="windows") == 0
    assert service("status", run=Recorder(powershell=Ran(0, "Ready\r\n")), system="windows") == 3
    refused = Recorder(**{"/Create": Ran(1, err="ERROR: Access is denied.")})
    with pytest.raises(UsageError, match="Access is denied") as caught:
        service("install", "--config", config, run=refused, system="windows")
    assert "administrator" in caught.value.next_step
    assert service("uninstall", run=Recorder(), system="windows") == 0
    assert not file.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["install"], "Which station"),
        (["uninstall", "--config", "x.toml"], "--config has no meaning"),
        (["status", "--print"], "--print has no meaning"),
        (["install", "--config", "x.toml", "--system", "macos"], "can only be shown"),
        (["install", "--config", "x.toml", "--name", "../x"], "name of a station"),
        (["start"], "[Ii]nvalid choice"),
        ([], "required"),
    ],
)
def test_a_mistake_gets_one_message_with_the_next_step(arguments: list[str], message: str, home: Path) -> None:
    recorder = Recorder()
    with pytest.raises(UsageError, match=message) as caught:
        service(*arguments, run=recorder)
    assert caught.value.next_step
    assert recorder.commands == []


def test_the_help_fits_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert [line for line in service_command.parser().format_help().splitlines() if len(line) > 80] == []


def test_commands_that_cannot_be_run_have_a_status() -> None:
    assert run_command(["no-such-program-4711"]).status == 127
    assert run_command([sys.executable, "-c", "print('x'); raise SystemExit(3)"]) == Ran(3, "x\n", "")


def test_the_command_line_knows_the_service(tmp_path: Path) -> None:
    config = station_file(tmp_path, 'host = "local"')
    ran = run("service", "install", "--print", "--config", config, "--system", "linux", home=tmp_path / "home").must(0)
    assert "Type=notify" in ran.out
    assert str(config) in ran.out


# --- a real systemd -------------------------------------------------------------------------

_START_MANAGER = """
set -e
mount --make-rprivate /
umount -R /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs none /run/systemd
mkdir /run/systemd/system
own=/sys/fs/cgroup/camio-import-test-$$
mkdir $own
# The manager takes the root of what it sees for its own: that has to be the new group, and no other.
manage='umount /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec /lib/systemd/systemd --user'
(echo 0 > $own/cgroup.procs; exec unshare --cgroup --mount bash -c "$manage") &
echo $!
trap 'kill $!' TERM
while kill -0 $! 2> /dev/null; do wait $! || true; done
find $own -depth -type d -exec rmdir {} +
"""
"""A manager for one user, in a corner of its own: nothing of the computer's own systemd is touched."""


@pytest.fixture
def systemd_runner(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Sequence[str]], Ran]]:
    """Runs commands where a real user's systemd answers, with `home` as its home."""
    needs("systemd-analyze", "systemd")
    if not sys.platform.startswith("linux") or os.geteuid() != 0 or shutil.which("nsenter") is None:
        pytest.skip("a systemd of its own needs root on Linux")
    with tempfile.TemporaryDirectory(prefix="ci-") as runtime:  # the address of its socket must be short
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
        started = subprocess.Popen(
            ["unshare", "--mount", "bash", "-c", _START_MANAGER], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=environment(home, XDG_RUNTIME_DIR=runtime, SYSTEMD_LOG_LEVEL="warning"), text=True,
        )  # fmt: skip
        assert started.stdout is not None
        assert started.stderr is not None
        pid = started.stdout.readline().strip()
        if not pid:
            pytest.skip(f"a systemd of its own cannot be started here: {started.communicate()[1].strip()}")

        def run_there(arguments: Sequence[str]) -> Ran:
            if arguments[0] == "loginctl":  # it would be the computer's own
                return Ran(1)
            return run_command(["nsenter", "--mount", "--cgroup", f"--target={pid}", *arguments])

        try:
            if not _comes_true(lambda: run_there(("systemctl", "--user", "is-system-running")).out.strip() in RUNNING):
                pytest.skip("a systemd of its own does not run here")
            yield run_there
        finally:
            started.terminate()
            started.communicate(timeout=DEADLINE_S)


RUNNING = ("running", "degraded")


def _comes_true(condition: Callable[[], bool], *, within_s: float = DEADLINE_S) -> bool:
    """Whether it becomes true: what another process does cannot be waited for in a better way."""
    until = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


STAND_IN = """#!{python}
# Stands in for the import: whatever that needs must work under the unit's hardening.
import ctypes, os, signal, socket, sqlite3, ssl, subprocess, sys, time
import av, regex, requests
from camio_import.container import probe
from camio_import.systemd import Notifier

ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda x: x)(1)
ssl.create_default_context()
socket.getaddrinfo("localhost", 80)
subprocess.run(["/bin/true"], check=True)
with av.open({video!r}) as video:
    assert len(list(video.decode(video=0))) > 1
db = sqlite3.connect("ledger.db")
db.execute("CREATE TABLE IF NOT EXISTS starts (pid)")
db.execute("INSERT INTO starts VALUES (?)", (os.getpid(),))
db.commit()

notifier = Notifier(os.environ)
def stop(*_):
    notifier.stopping()
    sys.exit(143)
def reload(*_):
    notifier.reloading()
    open("reloaded", "w").close()
    notifier.ready()
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGHUP, reload)
with open("arguments", "wb") as file:
    file.write(b"\\0".join(map(os.fsencode, sys.argv)))
with open("limits", "w") as file:
    file.write(open("/proc/self/status").read() + open("/proc/self/mountinfo").readline())
notifier.status("stands in")
notifier.ready()
while True:
    notifier.alive()
    time.sleep(0.1)
"""


@pytest.mark.parametrize("folder", ["plain", "50% $HOME 'it\"s' back\\slash ${X}"])
def test_a_real_systemd_runs_it_reloads_it_and_brings_it_back(
    folder: str,
    systemd_runner: Callable[[Sequence[str]], Ran],
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = tmp_path / folder
    place.mkdir()
    config = station_file(place, 'host = "local"')
    video = tree(place / "videos", {"CAM_A-1475973147.mp4": Video(1)}) / "CAM_A-1475973147.mp4"
    program = place / "python"
    program.write_text(STAND_IN.format(python=sys.executable, video=str(video)))
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    drop_in = home / f"{UNIT}.d" / "soon.conf"
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text("[Service]\nRestartSec=10ms\nWatchdogSec=2s\n")

    def state(of: str) -> str:
        return systemd_runner(("systemctl", "--user", "show", UNIT.name, f"--property={of}", "--value")).out.strip()

    assert service("install", "--config", config, run=systemd_runner) == 0
    assert (home / "arguments").read_bytes().split(b"\0") == [
        os.fsencode(word) for word in (program, "-m", "camio_import", "--config", config)
    ]
    capsys.readouterr()
    assert service("status", run=systemd_runner) == 0
    out = capsys.readouterr().out
    assert "active (running)" in out
    assert "stands in" in out
    assert "enabled      yes" in out
    limits = (home / "limits").read_text()
    assert "NoNewPrivs:\t1" in limits
    assert "Seccomp:\t2" in limits, "the hardening lines hold"

    assert systemd_runner(("systemctl", "--user", "reload", UNIT.name)).status == 0
    assert _comes_true((home / "reloaded").exists)

    def is_another_than(pid: str) -> bool:
        # In one question: between two of them it may have been replaced.
        asked = ("systemctl", "--user", "show", UNIT.name, "--property=ActiveState", "--property=MainPID")
        told = systemd_runner(asked).out.splitlines()
        return "ActiveState=active" in told and not {f"MainPID={pid}", "MainPID=0"} & set(told)

    def show() -> str:
        return systemd_runner(("systemctl", "--user", "status", "--no-pager", "--full", UNIT.name)).out

    first = state("MainPID")
    os.kill(int(first), signal.SIGKILL)
    assert _comes_true(lambda: is_another_than(first)), show()
    second = state("MainPID")
    os.kill(int(second), signal.SIGSTOP)  # it hangs, and says nothing any more
    assert _comes_true(lambda: is_another_than(second)), f"{second} still runs?\n{show()}"

    assert systemd_runner(("systemctl", "--user", "stop", UNIT.name)).status == 0
    assert (state("ActiveState"), state("Result")) == ("inactive", "success"), "its status 143 is no failure"
    assert service("status", run=systemd_runner) == 3
    assert service("install", "--config", config, run=systemd_runner) == 0
    assert service("uninstall", run=systemd_runner) == 0
    assert state("LoadState") == "not-found"


# --- the command line that the unit runs ----------------------------------------------------


@pytest.mark.skipif(find_spec("camio_import.cli.watching") is None, reason="this version does not watch folders")
def test_the_units_own_command_line_speaks_to_systemd(manager: Manager, tmp_path: Path) -> None:
    config = station_file(tmp_path, 'host = "local"')
    arguments = arguments_run_by(systemd_unit(station(python=sys.executable, config=str(config))))
    output = tmp_path / "output"
    variables = environment(tmp_path / "home", NOTIFY_SOCKET=manager.address, WATCHDOG_USEC="2000000")
    with output.open("wb") as file:
        process = subprocess.Popen(arguments, env=variables, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    try:
        manager.wait_for("READY=1")
        manager.wait_for("WATCHDOG=1")
        manager.wait_for("WATCHDOG=1")
        process.send_signal(signal.SIGHUP)
        manager.wait_for("RELOADING=1\nMONOTONIC_USEC=")
        manager.wait_for("READY=1")
        manager.wait_for("WATCHDOG=1")
        process.send_signal(signal.SIGTERM)
        manager.wait_for("STOPPING=1", within_s=10)
        assert process.wait(timeout=10) == 143
    except BaseException:
        print(output.read_text("utf-8", "replace"))
        raise
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in output.read_text("utf-8", "replace")
