"""The security checklist, as far as no other test has it: docs/security.md names them all.

A canary is a secret that nothing else contains: wherever it turns up, it has leaked.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import socket
import ssl
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from clips import many_clips
from command import PATTERN, Ran, environment, make_certificate, run
from harness import Bench

from camio_import.box import EmbeddedBox, Fault, RequestInfo
from camio_import.cloud import Cloud
from camio_import.errors import Unreachable
from camio_import.secret import Secret

PACKAGE = Path(__file__).parent.parent / "camio_import"
CANARY = "canary-8f21c0de"
DEVICE = "canary-device-5d0c"

linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


@pytest.fixture
def box(tmp_path: Path) -> Iterator[EmbeddedBox]:
    """A Box whose id, the secret that it shares with its senders, is a canary, too."""
    with EmbeddedBox(tmp_path / "box", shard_size=2, device_id=DEVICE, fsync=False) as running:
        yield running


# --- canaries --------------------------------------------------------------------------------------


def by_environment(place: Path) -> tuple[list[str], dict[str, str]]:
    return [], {"CAMIO_OAUTH_TOKEN": CANARY}


def by_hook_data(place: Path) -> tuple[list[str], dict[str, str]]:
    return ["--hook_data_json_file", str(private(place / "hook-data.json", json.dumps({"access_token": CANARY})))], {}


def by_token_file(place: Path) -> tuple[list[str], dict[str, str]]:
    return ["--token_file", str(private(place / "token", CANARY))], {}


WAYS = [by_environment, by_hook_data, by_token_file]


def private(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)
    return path


def leaks(*places: Path, secrets: tuple[str, ...] = (CANARY, DEVICE)) -> list[str]:
    """The files below these places that hold a secret, in their names or in their bytes."""
    return [
        str(file)
        for place in places
        for file in place.rglob("*")
        for secret in secrets
        if secret in str(file.relative_to(place)) or (file.is_file() and secret.encode() in file.read_bytes())
    ]


def arguments_of(pid: int) -> bytes:
    """The arguments of a process and of those that it has begun: everybody on the computer can read them."""
    parents, arguments = {}, {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            # The parent is the second word behind the name, which may contain anything.
            parents[int(process.name)] = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            arguments[int(process.name)] = (process / "cmdline").read_bytes()
        except OSError:
            pass  # it has ended
    family = [pid]
    for member in family:
        family += [child for child, parent in parents.items() if parent == member]
    return b"\n".join(arguments.get(member, b"") for member in family)


def listening(pid: int) -> list[str]:
    """The TCP addresses at which a process listens, as the system writes them."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(os.readlink(descriptor).removeprefix("socket:[").removesuffix("]"))
        except OSError:
            pass
    lines = [
        line.split() for kind in ("tcp", "tcp6") for line in Path(f"/proc/{pid}/net/{kind}").read_text().splitlines()
    ]
    return [line[1] for line in lines if line[3] == "0A" and line[9] in inodes]


@linux_only
@pytest.mark.parametrize("way", WAYS)
def test_a_secret_is_nowhere(way: object, tmp_path: Path, box: EmbeddedBox) -> None:
    """Through an import in which everything goes wrong once, and each answer repeats the secrets."""
    options, variables = way(tmp_path / "secrets")  # type: ignore[operator]
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    temporary.mkdir()
    many_clips(tmp_path / "vids", 6)
    arguments: list[bytes] = []
    sockets: list[str] = []
    during: list[str] = []
    processes: list[subprocess.Popen[bytes]] = []

    def look(info: RequestInfo) -> None:
        arguments.append(arguments_of(processes[0].pid))
        sockets.extend(listening(processes[0].pid))
        during.extend(leaks(home, temporary))

    said = f"no {CANARY} at /box/content?access_token={DEVICE}&hash=1".encode()
    for number, status in enumerate((500, 400, 429, 418)):
        box.faults.add(
            Fault(status=status, body=said, headers={"Retry-After": "0"}, callback=look if not number else None)
        )
    box.faults.add(Fault(reset_after_bytes=10))
    box.faults.add(Fault(on="shard", status=500, body=said))
    box.faults.add(Fault(on="jobs", status=503, body=said, headers={"Retry-After": "0"}))
    log = tmp_path / "logs" / "run.log"
    log.parent.mkdir()
    command = [
        sys.executable, "-m", "camio_import", "-v", "--log_file", str(log), "--api_url", box.url, *options,
        "--regex", PATTERN, str(tmp_path / "vids"), f"127.0.0.1:{box.port}",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, env=environment(home, TMPDIR=str(temporary), **variables),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    processes.append(process)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 3, err
    shown = out + err
    account = ["--api_url", box.url, *options]
    for verb in (
        ["status", "--list", "failed"],
        ["jobs", *account],
        ["config", "show", *account, str(tmp_path / "vids")],
    ):
        ran = run(*verb, home=home, **variables, TMPDIR=str(temporary))
        shown += (ran.out + ran.err).encode()
    assert b"CAM_A" in shown and log.stat().st_size > 1000 and arguments, "there was something to look at"
    assert CANARY in str([record.headers for record in box.log.records()]), "the token was used"
    for secret in (CANARY, DEVICE):
        assert secret.encode() not in shown
        assert secret.encode() not in b"".join(arguments)
    assert during == leaks(home, temporary, log.parent) == []
    assert sockets == [], "an import listens nowhere"


def test_a_leak_is_seen(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "binary").write_bytes(b"\0" + CANARY.encode() + b"\xff")
    (tmp_path / f"{DEVICE}.txt").touch()
    assert len(leaks(tmp_path)) == 2


@linux_only
def test_a_secret_among_arguments_and_a_listening_socket_are_seen() -> None:
    with socket.create_server(("127.0.0.1", 0)), subprocess.Popen(["sleep", "61.4711"]) as process:
        try:
            assert b"61.4711" in arguments_of(os.getpid())
            assert len(listening(os.getpid())) == 1
        finally:
            process.kill()


def test_labels_and_their_files_hold_no_secret(tmp_path: Path, box: EmbeddedBox) -> None:
    many_clips(tmp_path / "vids", 2)
    variables = {"CAMIO_OAUTH_TOKEN": CANARY, "CAMIO_API_URL": box.url, "TMPDIR": str(tmp_path / "temporary")}
    (tmp_path / "temporary").mkdir()
    run("--regex", PATTERN, tmp_path / "vids", f"127.0.0.1:{box.port}", home=tmp_path / "home", **variables).must(0)
    for content in box.contents():
        box.add_labels(content.sha1, ["human", "_ml_human"], offset_s=0.1)
    formats = "json,csv,xml,jsonl,html,vtt,xspf,edl"
    arguments = ["-v", "--job", "latest", "--format", formats, "-o", tmp_path / "out"]
    ran = run("labels", *arguments, home=tmp_path / "home", **variables).must(0)
    assert len(list((tmp_path / "out").iterdir())) >= 8
    box.faults.add(Fault(on="search", times=None, status=400, body=f"no {CANARY}".encode()))
    failed = run("labels", *arguments, home=tmp_path / "home", **variables)
    assert failed.status != 0
    for said in (ran, failed):
        assert CANARY not in said.out + said.err and DEVICE not in said.out + said.err
    assert leaks(tmp_path / "out", tmp_path / "home", tmp_path / "temporary") == []


@pytest.mark.skipif(os.environ.get("CAMIO_IMPORT_LONG_TESTS") != "1", reason="long: CAMIO_IMPORT_LONG_TESTS=1")
def test_the_demonstration_uses_and_shows_no_secret_of_yours(tmp_path: Path) -> None:
    ran = run("demo", "--dir", tmp_path / "demo", home=tmp_path / "home", CAMIO_OAUTH_TOKEN=CANARY).must(0)
    assert CANARY not in ran.out + ran.err
    assert leaks(tmp_path / "demo", tmp_path / "home") == []


@pytest.mark.skipif(os.name != "posix", reason="rights of this kind are POSIX")
def test_what_an_import_keeps_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Whatever the umask: the ledger names cameras, places and times, and `local` keeps the videos."""
    many_clips(tmp_path / "vids", 2)
    before = os.umask(0)
    try:
        run("--regex", PATTERN, tmp_path / "vids", "local", home=tmp_path / "home").must(0)
    finally:
        os.umask(before)
    state = tmp_path / "home" / ".local" / "state" / "camio-import"
    assert stat.S_IMODE(state.stat().st_mode) == 0o700, "nobody else comes so far"
    open_files = [file.name for file in state.glob("*") if file.is_file() and stat.S_IMODE(file.stat().st_mode) & 0o077]
    assert open_files == []


# --- the network -------------------------------------------------------------------------------------------


@contextmanager
def tls_server(place: Path) -> Iterator[tuple[str, list[bytes]]]:
    """A server with a certificate that nobody vouches for: its address, and what it was told."""
    key, certificate = make_certificate(place)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    told: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(connection, server_side=True) as secured:
                    told.append(secured.recv(65536))
                    secured.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]")
            except OSError:
                pass  # the client does not want it

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}", told
    finally:
        listener.close()


def test_a_server_that_cannot_prove_its_identity_gets_no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tls_server(tmp_path) as (url, told):
        # What other programs take for permission counts for nothing.
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PYTHONHTTPSVERIFY"):
            monkeypatch.setenv(name, "" if name == "CURL_CA_BUNDLE" else "0")
        cloud = Cloud(url, Secret(CANARY))
        with pytest.raises(Unreachable, match="could not prove its identity") as caught:
            cloud.json("GET", "/api/devices")
        cloud.close()
        assert CANARY not in str(caught.value)
        assert told == []
        # The negative control: it is a working server for who does not ask.
        unverified = ssl._create_unverified_context()
        host, port = url.removeprefix("https://").split(":")
        with unverified.wrap_socket(socket.create_connection((host, int(port)))) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
        assert len(told) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_in_the_middle_of_an_import_takes_no_secret_elsewhere(bench: Bench, status: int) -> None:
    visits: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.setblocking(False)
        target = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/there"
        bench.clips(1)
        for call in ("cameras", "jobs", "content", "shard"):
            bench.box.faults.add(Fault(on=call, status=status, headers={"Location": target}))  # type: ignore[arg-type]
            bench.run(retry_failed=True)
            try:
                visits.append(elsewhere.accept())
            except BlockingIOError:
                pass
    assert visits == []
    bench.run(retry_failed=True).must(0)
    bench.assert_accounted()


def name_the_camera(bench: Bench, camera_id: str) -> None:
    """The service answers with this camera id."""
    bench.clips(1)
    local_id = hashlib.sha1(b"CAM_A").hexdigest()
    config = {local_id: {"camera_id": camera_id, "local_camera_id": local_id, "name": "CAM_A"}}
    bench.box.faults.add(
        Fault(
            on=lambda info: info.call == "cameras" and info.method == "GET",
            status=200, body=json.dumps(config).encode(), times=None,
        )
    )  # fmt: skip


HOSTILE_IDS = ["../../etc/passwd", "a?b=c", "a#b", "a%2e%2e", "a&hash=0", "日本", "a/b\\c;d=e+f"]


@pytest.mark.parametrize("camera_id", HOSTILE_IDS)
def test_ids_of_the_service_stay_values_in_addresses(bench: Bench, camera_id: str) -> None:
    """Whatever a camera's id contains, the Box is told exactly that, and nothing else of the request changes."""
    name_the_camera(bench, camera_id)
    shard = {"item_count": 1, "shard_id": "0", "upload_url": f"{bench.box.url}/api/jobs/J1/shards/0"}
    job = {"job_id": "J1", "shard_map": {"0": shard}}
    bench.box.faults.add(Fault(on="jobs", status=200, body=json.dumps(job).encode()))
    bench.box.faults.add(Fault(status=204))
    bench.run()
    (post,) = bench.box.log.posts()
    assert post.path == "/box/content"
    assert post.query["camera_id"] == camera_id
    assert set(post.query) == {"access_token", "local_camera_id", "camera_id", "hash", "timestamp"}


def test_an_id_with_a_line_end_is_refused(bench: Bench) -> None:
    name_the_camera(bench, "a\r\nX-Header: b")
    assert bench.run().must(5).summary.pending == 1
    assert bench.box.log.posts() == []


# --- the code ---------------------------------------------------------------------------------------------------

FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "os.chmod", "tempfile.mktemp", "yaml.load",
    "ssl._create_unverified_context", "ssl.CERT_NONE",
}  # fmt: skip
FORBIDDEN_MODULES = {"pickle", "cPickle", "marshal", "shelve", "dill", "yaml", "xml.sax", "telnetlib", "ftplib"}
ALLOWED = {("hooks/loader", "exec"), ("hooks/loader", "compile")}
"""A hook module is code that the user names; it is checked who can have written it, and never cached."""


def dangers(name: str, code: ast.Module) -> Iterator[str]:
    for node in ast.walk(code):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (f"{name}: imports {module}" for module in modules if module in FORBIDDEN_MODULES)
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in FORBIDDEN_CALLS and (name, called) not in ALLOWED:
                yield f"{name}: {called}"
            for keyword in node.keywords:
                value = ast.unparse(keyword.value)
                if (keyword.arg, value) in (("shell", "True"), ("verify", "False"), ("check_hostname", "False")):
                    yield f"{name}: {keyword.arg}={value}"
        elif isinstance(node, ast.Constant) and node.value == "0.0.0.0":
            yield f"{name}: listens everywhere"


def test_the_code_has_no_way_to_run_what_it_reads() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 60
    found = [
        danger
        for file in files
        for danger in dangers(file.relative_to(PACKAGE).with_suffix("").as_posix(), ast.parse(file.read_text("utf-8")))
    ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    ["import pickle", "from pickle import loads", "eval(x)", "exec(x)", "os.system(x)", "run(x, shell=True)",
     "get(url, verify=False)", "bind(('0.0.0.0', 80))"],
)  # fmt: skip
def test_the_look_at_the_code_sees_each_danger(line: str) -> None:
    assert len(list(dangers("x", ast.parse(line)))) == 1


# --- files are whole or not there -----------------------------------------------------------------------------------

RECORD = """\
import os, pathlib, sys
said = []
def note(event, details):
    if event == "open" and isinstance(details[0], str) and details[2] & (os.O_CREAT | os.O_TRUNC):
        said.append(("open", os.path.abspath(details[0])))
    elif event == "os.rename":
        said.append(("rename", os.path.abspath(os.fspath(details[0])), os.path.abspath(os.fspath(details[1]))))
original = os.fsync
def fsync(descriptor):
    number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
    said.append(("sync", os.readlink(f"/proc/self/fd/{number}")))
    original(descriptor)
os.fsync = fsync
sys.addaudithook(note)
from camio_import.cli import main
status = main(sys.argv[1:])
import json
print("RECORD", json.dumps(said))
sys.exit(status)
"""


@linux_only
def test_results_are_written_beside_their_place_synced_and_renamed(tmp_path: Path, box: EmbeddedBox) -> None:
    many_clips(tmp_path / "vids", 2)
    variables = {"CAMIO_OAUTH_TOKEN": CANARY, "CAMIO_API_URL": box.url}
    run("--regex", PATTERN, tmp_path / "vids", f"127.0.0.1:{box.port}", home=tmp_path / "home", **variables).must(0)
    for content in box.contents():
        box.add_labels(content.sha1, ["human", "_ml_human"], offset_s=0.1)
    out = tmp_path / "out"
    recorder = tmp_path / "recorder.py"
    recorder.write_text(RECORD)
    arguments = ["labels", "--job", "latest", "--format", "json,csv,html", "-o", out]
    ran: Ran = run(*arguments, home=tmp_path / "home", program=[str(recorder)], **variables).must(0)
    (record,) = [
        json.loads(line.removeprefix("RECORD ")) for line in ran.out.splitlines() if line.startswith("RECORD ")
    ]
    made = sorted(str(file) for file in out.iterdir())
    assert len(made) == 3
    assert not [entry for entry in record if entry[0] == "open" and entry[1] in made], "none is written in its place"
    for file in made:
        (rename,) = [entry for entry in record if entry[0] == "rename" and entry[2] == file]
        temporary = rename[1]
        assert Path(temporary).is_relative_to(out), "on the same file system, so that renaming is one step"
        assert record.index(["sync", temporary]) < record.index(rename)
