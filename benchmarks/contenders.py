"""What `camio-import` is measured against; each is a program of its own.

    python benchmarks/contenders.py NAME ARGUMENT ...

shell FOLDER PORT         the shell loop: per file, `openssl dgst -sha1`, then `curl -T`
curl FOLDER PORT          `curl -T` alone, file by file, with no hash at all
original FOLDER PORT      the original's order: all hashes, 4 KiB at a time; then, per file, the hash again and a POST
bare FOLDER PORT LEDGER   a bare keep-alive client: per file, hash, commit (FULL), POST
hashing FOLDER            SHA-1 of every file, once
walk FOLDER               os.scandir and stat
pyav FOLDER               opening every file with PyAV
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

CAMERA_NAME = "CAM_A"
ORIGINAL_BLOCK_BYTES = 4096

# The headers are those that the Box wants, and no others: "Expect" would cost an answer more per file.
_LOOP = r"""
set -eu
export TZ=UTC
shopt -s globstar
for file in "$1"/**/*.mp4; do
    epoch=${file##*-}
    printf -v timestamp '%(%Y-%m-%dT%H:%M:%S)T.000' "${epoch%.mp4}"
    hash=
    if [ "$3" = with_hash ]; then
        hash=$(openssl dgst -sha1 -r "$file")
        hash=${hash%% *}
    fi
    curl -sS -f -o /dev/null -X POST -H 'Expect:' -H 'Content-Type:' -T "$file" "$2&hash=$hash&timestamp=$timestamp"
done
"""


class _Box:
    """The calls that every client has to make before it can send clips."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        device_id = self._json("GET", "/box/settings")["device_id"]
        camera = hashlib.sha1(CAMERA_NAME.encode()).hexdigest()
        config = {"local_camera_id": camera, "name": CAMERA_NAME, "device_id_discovering": device_id}
        self._json("POST", "/api/cameras/discovered", {camera: config})
        camera_id = self._json("GET", "/api/cameras/discovered")[camera]["camera_id"]
        query = {"access_token": device_id, "local_camera_id": camera, "camera_id": camera_id}
        self.content_path = f"/box/content?{urlencode(query)}"
        self.content_url = f"http://127.0.0.1:{port}{self.content_path}"

    def _json(self, method: str, path: str, value: Any = None) -> Any:
        body = None if value is None else json.dumps(value)
        self.connection.request(method, path, body, {"Authorization": "token benchmark"})
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status not in (200, 204):
            sys.exit(f"{method} {path} was answered with {answer.status}: {content[:200]!r}")
        return json.loads(content) if content else None


def _files(folder: str) -> list[str]:
    return sorted(str(path) for path in Path(folder).rglob("*.mp4"))


def _rest_of_query(path: str, sha1: str) -> str:
    starts_at = datetime.fromtimestamp(int(Path(path).stem.rpartition("-")[2]), UTC).replace(tzinfo=None)
    return "&" + urlencode({"hash": sha1, "timestamp": starts_at.isoformat(timespec="milliseconds")})


def shell(folder: str, port: str) -> None:
    _loop(folder, port, "with_hash")


def curl(folder: str, port: str) -> None:
    _loop(folder, port, "without_hash")


def _loop(folder: str, port: str, how: str) -> None:
    url = _Box(int(port)).content_url
    bash = shutil.which("bash") or "bash"
    began_at = time.perf_counter()
    subprocess.run([bash, "-c", _LOOP, "loop", folder, url, how], check=True)
    print(time.perf_counter() - began_at)


def original(folder: str, port: str) -> None:
    import requests

    def sha1_of(path: str) -> str:
        sha1 = hashlib.sha1()
        with open(path, "rb") as file:
            while block := file.read(ORIGINAL_BLOCK_BYTES):
                sha1.update(block)
        return sha1.hexdigest()

    url = _Box(int(port)).content_url
    began_at = time.perf_counter()
    paths = _files(folder)
    by_hash = {sha1_of(path): path for path in paths}
    if len(by_hash) != len(paths):
        sys.exit("two files have the same content")
    for path in paths:
        with open(path, "rb") as file:
            requests.post(url + _rest_of_query(path, sha1_of(path)), data=file).raise_for_status()
    print(time.perf_counter() - began_at)


def bare(folder: str, port: str, ledger: str) -> None:
    """One commit per file says that the one before was uploaded, and that this one is about to be."""
    import sqlite3

    box = _Box(int(port))
    database = sqlite3.connect(ledger, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE file (path TEXT PRIMARY KEY, sha1 TEXT, state TEXT)")
    began_at = time.perf_counter()
    before = None
    for path in _files(folder):
        content = Path(path).read_bytes()
        sha1 = hashlib.sha1(content).hexdigest()
        database.execute("BEGIN")
        database.execute("UPDATE file SET state = 'uploaded' WHERE path = ?", (before,))
        database.execute("INSERT INTO file VALUES (?, ?, 'uploading')", (path, sha1))
        database.execute("COMMIT")
        box.connection.request("POST", box.content_path + _rest_of_query(path, sha1), content)
        answer = box.connection.getresponse()
        answer.read()
        if answer.status not in (200, 204):
            sys.exit(f"{path} was answered with {answer.status}")
        before = path
    database.execute("UPDATE file SET state = 'uploaded' WHERE path = ?", (before,))
    print(time.perf_counter() - began_at)


def hashing(folder: str) -> None:
    began_at = time.perf_counter()
    for path in _files(folder):
        with open(path, "rb", buffering=0) as file:
            hashlib.file_digest(file, "sha1")
    print(time.perf_counter() - began_at)


def walk(folder: str) -> None:
    def statuses(path: str) -> Iterator[os.stat_result]:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir():
                    yield from statuses(entry.path)
                else:
                    yield entry.stat()

    began_at = time.perf_counter()
    files = sum(1 for _ in statuses(folder))
    seconds = time.perf_counter() - began_at
    print(files)
    print(seconds)


def pyav(folder: str) -> None:
    import av

    for path in _files(folder):
        with av.open(path) as container:
            if not container.streams.video:
                sys.exit(f"{path} has no video")


CONTENDERS = {each.__name__: each for each in (shell, curl, original, bare, hashing, walk, pyav)}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in CONTENDERS:
        sys.exit(__doc__)
    CONTENDERS[sys.argv[1]](*sys.argv[2:])
