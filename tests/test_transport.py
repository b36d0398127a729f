"""HTTP as it goes wrong: early answers, silence, cut connections, redirects, secrets."""

from __future__ import annotations

import http.server
import io
import json
import logging
import os
import socket
import ssl
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from command import make_certificate
from harness import eventually

import camio_import.connection
from camio_import.box import EmbeddedBox, Fault
from camio_import.content import open_body
from camio_import.errors import (
    BadAnswer,
    Cancelled,
    CredentialsRefused,
    FileChanged,
    HookError,
    Refused,
    RetryLater,
    Unreachable,
)
from camio_import.model import FoundFile
from camio_import.secret import SecretFilter
from camio_import.transport import (
    Answer,
    HttpClient,
    is_loopback,
    origin,
    parse_retry_after,
    raise_for_status,
)

TOKEN = "canary-token-4711"
LARGE = 64 << 20


def sparse(path: Path, size_bytes: int) -> FoundFile:
    """A file of zeros that takes no room on the disk."""
    with open(path, "wb") as file:
        file.truncate(size_bytes)
    status = path.stat()
    return FoundFile(str(path), path.name, status.st_size, status.st_mtime_ns)


@pytest.fixture
def large(tmp_path: Path) -> FoundFile:
    return sparse(tmp_path / "large.mp4", LARGE)


@contextmanager
def client_of(url: str, **options: object) -> Iterator[HttpClient]:
    client = HttpClient(url, who="the Box", headers={"Authorization": f"token {TOKEN}"}, **options)  # type: ignore[arg-type]
    try:
        yield client
    finally:
        client.close()


@contextmanager
def peer(
    talk: Callable[[socket.socket], object],
    *,
    connections: int = 1,
    tls: ssl.SSLContext | None = None,
    buffer_bytes: int | None = None,
) -> Iterator[str]:
    """A server of one's own: `talk` is given each connection, which is closed afterwards.

    With `buffer_bytes`, the system takes little more than that before `talk` reads it.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    if buffer_bytes is not None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)

    def serve() -> None:
        for _ in range(connections):
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            if tls is not None:
                connection = tls.wrap_socket(connection, server_side=True)
            with connection:
                talk(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for this computer, and its key, in one file."""
    key, certificate = make_certificate(tmp_path_factory.mktemp("certificate"))
    with open(certificate, "ab") as file:
        file.write(key.read_bytes())
    return certificate


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """What a server of one's own needs for TLS; clients trust it."""
    monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture(params=["http", "https"])
def tls(request: pytest.FixtureRequest) -> ssl.SSLContext | None:
    """For what holds with TLS as without."""
    return request.getfixturevalue("trusted") if request.param == "https" else None


def head_of(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(4096)
        if not piece:
            break
        data += piece
    return data


def post(client: HttpClient, file: FoundFile, cancelled: Callable[[], bool] = lambda: False) -> Answer:
    with open_body(file, cancelled=cancelled) as body:
        return client.call("POST", "/box/content", body=body)


# --- early answers ----------------------------------------------------------------------------


@pytest.mark.parametrize("then", ["close", "drain", "stop_reading"])
@pytest.mark.parametrize("status", [400, 413, 429])
def test_an_answer_before_the_body_was_read_is_taken_at_once(
    box: EmbeddedBox, large: FoundFile, then: str, status: int
) -> None:
    box.faults.add(Fault(status=status, headers={"Retry-After": "7"}, body=b"no", before_body=True, then=then))  # type: ignore[arg-type]
    started_at = time.monotonic()
    with client_of(box.url) as client:
        answer = post(client, large)
        assert (answer.status, answer.content, answer.retry_after_s) == (status, b"no", 7.0)
        assert answer.sent_bytes < LARGE
        # The half-sent connection is not used for the next request, which would be read as more of the body.
        assert client.call("GET", "/box/settings").status == 200
    assert time.monotonic() - started_at < 5


def test_a_success_that_came_before_the_body_was_sent_says_how_much_was_sent(tmp_path: Path) -> None:
    """Also when the whole file fits into one block that has been read from the disk already."""
    small = sparse(tmp_path / "small.mp4", 800_000)

    def talk(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        head_of(connection)
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        time.sleep(0.5)

    with peer(talk) as url, client_of(url, stall_timeout_s=5) as client:
        gate = threading.Event()

        class Slow(io.BytesIO):
            def __len__(self) -> int:
                return small.size_bytes

            def check_cancelled(self) -> None:
                gate.wait(0.05)  # so that the answer is there first

        answer = client.call("POST", "/box/content", body=Slow(bytes(small.size_bytes)))
        assert answer.status == 204
        assert answer.sent_bytes < small.size_bytes


def test_a_body_sent_whole_is_counted_whole_and_the_connection_is_kept(box: EmbeddedBox, tmp_path: Path) -> None:
    file = sparse(tmp_path / "file.mp4", 3 << 20)
    box.faults.add(Fault(status=204, times=3))
    with client_of(box.url) as client:
        for _ in range(3):
            assert post(client, file).sent_bytes == 3 << 20
    ports = []
    accepted: list[int] = []

    def talk(connection: socket.socket) -> None:
        accepted.append(1)
        while head_of(connection):
            ports.append(connection.getpeername()[1])
            connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with peer(talk) as url, client_of(url) as client:
        for _ in range(3):
            client.call("GET", "/")
    assert len(ports) == 3 and len(set(ports)) == 1


# --- silence ------------------------------------------------------------------------------------


def test_a_server_that_stops_reading(large: FoundFile) -> None:
    def talk(connection: socket.socket) -> None:
        head_of(connection)
        release.wait(10)

    release = threading.Event()
    with peer(talk) as url, client_of(url, stall_timeout_s=0.3) as client:
        started_at = time.monotonic()
        with pytest.raises(Unreachable, match="no answer within the time allowed") as caught:
            post(client, large)
        assert time.monotonic() - started_at < 3
        assert caught.value.may_have_arrived
        release.set()


def test_a_server_that_reads_all_and_never_answers(box: EmbeddedBox, tmp_path: Path) -> None:
    box.faults.add(Fault(status=204, hold=threading.Event()))
    with client_of(box.url, stall_timeout_s=0.3) as client, pytest.raises(Unreachable, match="time allowed"):
        post(client, sparse(tmp_path / "file.mp4", 1000))


def test_a_slow_transfer_that_is_never_silent_is_left_in_peace(box: EmbeddedBox, tmp_path: Path) -> None:
    file = sparse(tmp_path / "file.mp4", 32 << 20)
    box.faults.add(Fault(status=204, drip_read_s=0.1, drip_read_bytes=2 << 20))
    with client_of(box.url, stall_timeout_s=1.0) as client:
        started_at = time.monotonic()
        assert post(client, file).status == 204
        assert time.monotonic() - started_at > 1.2


def test_a_slow_upload_over_tls_is_left_in_peace(trusted: ssl.SSLContext, tmp_path: Path) -> None:
    def talk(connection: socket.socket) -> None:
        head_of(connection)
        left, next_pause = 24 << 20, 22 << 20
        while left > 0:
            left -= len(connection.recv(1 << 16)) or left
            if left <= next_pause:
                next_pause -= 2 << 20
                time.sleep(0.1)
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    file = sparse(tmp_path / "file.mp4", 24 << 20)
    with peer(talk, tls=trusted, buffer_bytes=1 << 16) as url, client_of(url, stall_timeout_s=0.9) as client:
        started_at = time.monotonic()
        assert post(client, file).status == 204
        assert time.monotonic() - started_at > 1.1


def drip(connection: socket.socket, data: bytes, pause_s: float = 0.05) -> None:
    """Sends byte by byte, until nobody listens any more."""
    try:
        for byte in data:
            connection.sendall(bytes((byte,)))
            time.sleep(pause_s)
    except OSError:
        pass


def assert_given_up(url: str, **options: object) -> None:
    """The answer that begins there does not end; with the usual time-out, its end would be waited for for a minute."""
    with client_of(url, stall_timeout_s=0.4, **options) as client:
        started_at = time.monotonic()
        with pytest.raises(
            Unreachable, match=r"^The Box does not answer \(no answer within the time allowed\)"
        ) as caught:
            client.call("GET", "/", answer_cap_bytes=16 << 20)
        assert time.monotonic() - started_at < 3
    assert caught.value.may_have_arrived
    assert_plain(caught.value)


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nX-Long: ",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n" + bytes(1 << 20),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;",
    ],
    ids=["status line", "head", "body", "body that began well", "chunk"],
)
def test_an_answer_that_drips_for_ever(tls: ssl.SSLContext | None, begun: bytes) -> None:
    def talk(connection: socket.socket) -> None:
        head_of(connection)
        connection.sendall(begun)
        drip(connection, b"HTTP/1.1 200 " + b"x" * 90)

    with peer(talk, tls=tls) as url:
        assert_given_up(url)


def test_a_tls_record_that_drips_has_an_end(trusted: ssl.SSLContext) -> None:
    """Not one byte of the answer can be had before the whole record is there, while the network is never silent."""

    def talk(connection: socket.socket) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        secured = trusted.wrap_bio(incoming, outgoing, server_side=True)

        def until_done(step: Callable[[], object]) -> None:
            while True:
                try:
                    step()
                    return
                except ssl.SSLWantReadError:
                    connection.sendall(outgoing.read())
                    incoming.write(connection.recv(65536))

        until_done(secured.do_handshake)
        until_done(lambda: secured.read(65536))
        connection.sendall(outgoing.read())
        secured.write(b"HTTP/1.1 204 No Content\r\n\r\n" + bytes(100))
        drip(connection, outgoing.read())

    with peer(talk) as url:
        assert_given_up(url.replace("http:", "https:"))


def test_an_answer_that_never_comes_to_its_content_has_an_end(
    tls: ssl.SSLContext | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However fast it is."""
    monkeypatch.setattr(camio_import.connection, "LONGEST_BYTES", 1 << 20)

    def talk(connection: socket.socket) -> None:
        head_of(connection)
        until = time.monotonic() + 5
        try:
            while time.monotonic() < until:
                connection.sendall(b"HTTP/1.1 100 Continue\r\nX-Wait: " + b"x" * 60_000 + b"\r\n\r\n")
        except OSError:
            pass

    with peer(talk, tls=tls) as url:
        assert_given_up(url)


def test_a_long_answer_that_comes_slowly_but_steadily_is_read_whole(tls: ssl.SSLContext | None) -> None:
    piece = bytes(range(256)) * 1100
    assert len(piece) > camio_import.connection.STRETCH_BYTES

    def talk(connection: socket.socket) -> None:
        head_of(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (5 * len(piece)))
        for _ in range(5):
            time.sleep(0.35)
            connection.sendall(piece)

    with peer(talk, tls=tls) as url, client_of(url, stall_timeout_s=1.0) as client:
        started_at = time.monotonic()
        assert client.call("GET", "/", answer_cap_bytes=2 << 20).content == 5 * piece
        assert time.monotonic() - started_at > 1.5


def test_what_was_left_of_the_time_for_an_answer_does_not_bound_the_next_request(
    trusted: ssl.SSLContext, large: FoundFile
) -> None:
    def talk(connection: socket.socket) -> None:
        head_of(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        time.sleep(0.6)
        connection.sendall(b"Content-Length: 2\r\n\r\n")
        time.sleep(0.05)
        connection.sendall(b"{}")
        head_of(connection)
        time.sleep(0.6)
        left = LARGE
        while left > 0:
            left -= len(connection.recv(1 << 20)) or left
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with peer(talk, tls=trusted, buffer_bytes=1 << 16) as url, client_of(url, stall_timeout_s=1.0) as client:
        assert client.call("GET", "/").status == 200
        assert post(client, large).status == 204


def test_cancelling_while_the_server_does_not_read(large: FoundFile) -> None:
    def talk(connection: socket.socket) -> None:
        head_of(connection)
        blocked.set()
        release.wait(10)

    blocked, release = threading.Event(), threading.Event()
    with peer(talk) as url, client_of(url, stall_timeout_s=30) as client:
        started_at = time.monotonic()
        with pytest.raises(Cancelled):
            post(client, large, blocked.is_set)
        assert time.monotonic() - started_at < 5
        release.set()


def test_the_answer_to_what_was_sent_whole_is_not_cancelled(tmp_path: Path) -> None:
    path = tmp_path / "small.mp4"

    def talk(connection: socket.socket) -> None:
        data = head_of(connection)
        while not data.endswith(bytes(10)):
            data += connection.recv(100)
        is_cancelled.set()
        time.sleep(0.5)
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    is_cancelled = threading.Event()
    with peer(talk) as url, client_of(url, stall_timeout_s=30) as client:
        assert post(client, sparse(path, 10), is_cancelled.is_set).status == 204


# --- connections that break ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=204, reset_after_bytes=0),
        Fault(status=204, reset_after_bytes=LARGE // 2),
        Fault(status=204, reset_after_bytes=LARGE),
        Fault(status=204, cut_answer_after_bytes=5),
    ],
    ids=["at byte 0", "in the middle", "after the last byte", "in the answer"],
)
def test_resets(box: EmbeddedBox, large: FoundFile, fault: Fault) -> None:
    box.faults.add(fault)
    with client_of(box.url) as client:
        with pytest.raises(Unreachable) as caught:
            post(client, large)
        assert caught.value.may_have_arrived
        assert_plain(caught.value)
        assert client.call("GET", "/box/settings").status == 200


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with client_of(f"http://127.0.0.1:{port}") as client, pytest.raises(Unreachable, match="refused") as caught:
        client.call("GET", "/")
    assert not caught.value.may_have_arrived
    assert_plain(caught.value)


def test_no_such_name() -> None:
    with client_of("http://no-such-host.invalid") as client, pytest.raises(Unreachable, match="no such name") as caught:
        client.call("GET", "/")
    assert not caught.value.may_have_arrived
    assert_plain(caught.value)


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".example", "exa mple", "[::1"])
def test_a_host_that_no_name_can_have(host: str) -> None:
    with client_of(f"http://{host}:8080") as client, pytest.raises(BadAnswer, match="not an address that can be used"):
        client.call("GET", "/box/settings")


def assert_plain(error: HookError) -> None:
    """No names of Python classes, no address of a request, no secret."""
    for word in ("Error", "Exception", "urllib3", "http.client", "object at", "/box/content", TOKEN, "("):
        assert word not in str(error).replace("answer (", "").replace("(the", ""), str(error)


# --- answers --------------------------------------------------------------------------------------


def test_answers_are_read_with_a_cap(box: EmbeddedBox) -> None:
    box.faults.add(Fault(on="settings", status=200, body=bytes(2 << 20)))
    with client_of(box.url) as client, pytest.raises(BadAnswer, match="more than 1 MB"):
        client.call("GET", "/box/settings")


def test_what_is_not_http() -> None:
    def talk(connection: socket.socket) -> None:
        head_of(connection)
        connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

    with peer(talk) as url, client_of(url) as client, pytest.raises(BadAnswer, match="cannot be read") as caught:
        client.call("GET", "/")
    assert_plain(caught.value)


def test_what_is_not_json(box: EmbeddedBox) -> None:
    box.faults.add(Fault(on="devices", status=200, body=b"<html>\x1b[2J hello"))
    with (
        client_of(box.url) as client,
        pytest.raises(BadAnswer, match=r"something that is not JSON: “.*hello”") as caught,
    ):
        client.call_json("GET", "/api/devices")
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(box: EmbeddedBox, status: int) -> None:
    visits: list[bytes] = []
    with peer(lambda connection: visits.append(head_of(connection))) as elsewhere:
        box.faults.add(Fault(on="devices", status=status, headers={"Location": f"{elsewhere}/api/devices"}))
        with client_of(box.url) as client, pytest.raises(Refused):
            client.call_json("GET", "/api/devices")
        time.sleep(0.05)
    assert visits == []


@pytest.mark.parametrize(
    "url",
    [
        "http://evil.example/shard",
        "https://127.0.0.1:{port}/shard",
        "http://127.0.0.1:1/shard",
        "http://127.0.0.1:{port}@evil.example/shard",
        "http://evil.example\\@127.0.0.1:{port}/shard",
        "http://user:word@127.0.0.1:{port}/shard",
        "http://127.0.0.1:{port}.evil.example/shard",
        "ftp://127.0.0.1:{port}/shard",
        "http://[::1/shard",
    ],
)
def test_the_token_goes_to_its_own_server_only(box: EmbeddedBox, url: str) -> None:
    with client_of(box.url) as client, pytest.raises(BadAnswer, match="another server"):
        client.call("PUT", url.format(port=box.port), json_body={})
    assert len(box.log) == 0


def test_origins() -> None:
    assert origin("HTTPS://Www.Camio.com/x") == origin("https://www.camio.com:443") == ("https", "www.camio.com", 443)
    assert origin("https://camio.com") != origin("https://www.camio.com")
    assert is_loopback("http://127.0.0.1:8080") and is_loopback("http://localhost") and is_loopback("http://[::1]:80")
    assert not is_loopback("http://127.evil.example") and not is_loopback("http://192.168.1.57")


def test_what_goes_over_the_wire() -> None:
    heads: list[list[str]] = []

    def talk(connection: socket.socket) -> None:
        for _ in range(3):
            heads.append(head_of(connection).decode("ascii").split("\r\n"))
            connection.sendall(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 2\r\n\r\n{}")

    with peer(talk) as url, client_of(url) as client:
        client.call("GET", "/an address/\xe4")
        client.call("GET", f"{url}/api", query={"name": "a b&c=\xe4"})
        client.call("DELETE", "/api", query={"id": "1%2"})
    host = url.removeprefix("http://")
    always = {
        f"Host: {host}", "User-Agent: camio-import", "Accept: */*", "Accept-Encoding: identity",
        "Connection: keep-alive", f"Authorization: token {TOKEN}", "",
    }  # fmt: skip
    assert [head[0] for head in heads] == [
        "GET /an%20address/%C3%A4 HTTP/1.1",
        "GET /api?name=a+b%26c%3D%C3%A4 HTTP/1.1",
        "DELETE /api?id=1%252 HTTP/1.1",
    ]
    assert [set(head[1:]) for head in heads] == [always] * 3, "no cookie comes back"


def test_netrc_and_proxies_do_not_apply(box: EmbeddedBox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login thief password stolen\ndefault login thief password stolen\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_bytes(netrc.read_bytes())
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with client_of(box.url) as client:
        client.call("GET", "/api/devices")
    assert box.log.records()[0].headers["authorization"] == f"token {TOKEN}"


def test_a_proxy_applies_where_it_is_wanted_and_no_proxy_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    visits: list[bytes] = []

    def talk(connection: socket.socket) -> None:
        visits.append(head_of(connection))
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with peer(talk) as proxy:
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.setenv("no_proxy", "inside.invalid")
        with client_of("http://camio.invalid", use_proxy=True) as client:
            assert client.call("GET", "/x").status == 204
        with client_of("http://inside.invalid", use_proxy=True) as client, pytest.raises(Unreachable):
            client.call("GET", "/x")
    assert len(visits) == 1 and visits[0].startswith(b"GET http://camio.invalid/x")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_drips_for_ever(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    """Be it the server's answer that it passes on, or its own to the request for a tunnel."""

    def talk(connection: socket.socket) -> None:
        head_of(connection)
        drip(connection, b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 90)

    with peer(talk) as proxy:
        monkeypatch.setenv(f"{scheme}_proxy", proxy)
        assert_given_up(f"{scheme}://camio.invalid", use_proxy=True, connect_timeout_s=0.4)


def test_what_is_sent_through_a_proxy_is_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def talk(connection: socket.socket) -> None:
        left = 3 << 20
        left -= len(head_of(connection).partition(b"\r\n\r\n")[2])
        while left > 0:
            left -= len(connection.recv(65536)) or left
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with peer(talk) as proxy:
        monkeypatch.setenv("http_proxy", proxy)
        with client_of("http://camio.invalid", use_proxy=True) as client:
            assert post(client, sparse(tmp_path / "file.mp4", 3 << 20)).sent_bytes == 3 << 20


# --- statuses ---------------------------------------------------------------------------------------

EXPECTED = {
    200: None, 204: None, 401: CredentialsRefused, 403: CredentialsRefused, 408: RetryLater, 429: RetryLater,
    501: Refused, 505: Refused,
}  # fmt: skip


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html>\n<html><title>404</title><p>Not <b>here</b></html>", "404 Not here"),
        (b"<style>p {color: red}</style><script>if (1 < 2) {</script><p>Log in</p>", "Log in"),
        (b"<!-- a > b --> <a href='http://x/?token=s3cret'>here</a>", "here"),
        (b"<html><body>never ended <a href='", "never ended"),
        (b"1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        (b"<CAM_A> is not a camera of this Box", "<CAM_A> is not a camera of this Box"),
        (b"<?xml version='1.0'?><Error Code='Full'/>", "<?xml version='1.0'?><Error Code='Full'/>"),
        (b"<html><style>" + b"p {color: red} " * 400 + b"</style><p>Log in</html>", "Log in"),
        (b"<html></html>", "<html></html>"),
    ],
)
def test_of_a_web_page_the_words_on_it_are_told(content: bytes, words: str) -> None:
    assert Answer(500, {}, content, secrets=("s3cret",)).first_words == words


def test_every_status_has_a_rule() -> None:
    for status in range(100, 600):
        answer = Answer(status, {"Retry-After": "3"}, b"words")
        expected = EXPECTED.get(status, RetryLater if status < 200 or status >= 500 else Refused)
        if expected is None:
            raise_for_status(answer, "the Box", what="it")
            continue
        with pytest.raises(expected, match=rf"^The Box answered it with {status}\. It said: “words”\.$") as caught:
            raise_for_status(answer, "the Box", what="it")
        if isinstance(caught.value, RetryLater):
            assert caught.value.busy == (status in (429, 503))
            assert caught.value.retry_after_s == 3


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("7", 7.0),
        (" 2.5 ", 2.5),
        ("0", 0.0),
        ("-3", None),
        ("soon", None),
        ("999999999", 999_999_999.0),
        ("9" * 400, None),
        ("Thu, 01 Jan 2026 00:00:30 GMT", 30.0),
        ("Thu, 01 Jan 2026 01:00:30 +0100", 30.0),
        ("Thu, 01 Jan 2015 00:00:00 GMT", 0.0),
        ("Thu, 99 Jan 2026 00:00:30 GMT", None),
        ("Thu, 01 Jan 99999999999999 00:00:30 GMT", None),
        ("\x00\xff", None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, now=lambda: 1_767_225_600.0) == seconds


# --- bodies -------------------------------------------------------------------------------------------


def test_what_the_body_raises_comes_out_as_it_is(box: EmbeddedBox, tmp_path: Path) -> None:
    file = sparse(tmp_path / "file.mp4", 32 << 20)
    box.faults.add(Fault(status=204, at_bytes=1 << 20, callback=lambda info: os.truncate(file.path, 1 << 20)))
    with client_of(box.url) as client, pytest.raises(FileChanged):
        post(client, file)
    assert eventually(lambda: box.log.posts()[0].status is None and not box.log.posts()[0].answered)


def test_a_large_body_takes_no_memory(tmp_path: Path) -> None:
    """1 GB to a server that counts and drops it."""
    received: list[int] = []

    class Sink(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the library's name
            left, buffer = int(self.headers["Content-Length"]), bytearray(1 << 20)
            total = 0
            while total < left:
                total += self.connection.recv_into(buffer, min(len(buffer), left - total))
            received.append(total)
            self.send_response(204)
            self.end_headers()

        def setup(self) -> None:
            super().setup()
            self.rfile = io.BufferedReader(socket.SocketIO(self.connection, "r"), 1)

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Sink)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    file = sparse(tmp_path / "huge.mp4", 1 << 30)
    tracemalloc.start()
    try:
        with client_of(f"http://127.0.0.1:{server.server_port}") as client:
            assert post(client, file).sent_bytes == 1 << 30
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        server.shutdown()
        server.server_close()
    assert received == [1 << 30]
    assert peak_bytes < 16 << 20


# --- secrets ------------------------------------------------------------------------------------------


def test_secrets_never_reach_a_log() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.addFilter(SecretFilter((TOKEN, "BOX-SECRET", "")))
    logger = logging.Logger("test")
    logger.addHandler(handler)
    logger.warning("token %s and %s", TOKEN, {"device": "BOX-SECRET"})
    logger.warning("GET /box/content?access_token=abc123&hash=1 {'Authorization': 'token abc124'}")
    logger.warning('{"access_token": "abc125"}')
    logger.warning("too few arguments %s %s " + TOKEN, 1)
    try:
        raise ValueError(f"in the exception: {TOKEN} access_token=abc126")
    except ValueError:
        logger.exception("failed", stack_info=True)
    said = stream.getvalue()
    for secret in (TOKEN, "BOX-SECRET", "abc12"):
        assert secret not in said
    assert "hash=1" in said and "in the exception: ***" in said and "too few arguments" in said


def test_what_a_server_says_is_quoted_without_secrets(box: EmbeddedBox) -> None:
    said = json.dumps({"error": f"bad token {TOKEN}"}).encode()
    box.faults.add(Fault(on="devices", status=400, body=said))
    with client_of(box.url, secrets=(TOKEN, "")) as client, pytest.raises(Refused) as caught:
        client.call_json("GET", "/api/devices")
    assert TOKEN not in str(caught.value) and "bad token ***" in str(caught.value)
