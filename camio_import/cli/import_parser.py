"""The command line of `camio-import DIR`: the import and the watch."""

from __future__ import annotations

import argparse

from camio_import import __version__
from camio_import.cli.arguments import (
    DEFAULT_PORT,
    Parser,
    add_output_options,
    add_reading_options,
    add_watching_options,
    bytes_from,
    log_count_from,
    port_number,
)

USAGE = "camio-import [options] DIR [HOOK_MODULE] [BOX_IP]"

DESCRIPTION = """\
Sends the videos below a folder to a Camio Box, and accounts for every one of
them. Stop it at any time, even by pulling the plug: the same command goes on.
With --watch it stays, and sends what arrives.

other commands (camio-import COMMAND --help says more):
  check DIR      look at the files without sending anything; proposes a --regex
  status [DIR]   what has been sent, what has not, and why
  why FILE       everything that happened to one file
  jobs [JOB_ID]  the account's jobs, and whether one is complete
  labels JOB_ID  download what was seen, as bookmarks into the original files
  hooks          list and check hook modules
  config show    every setting, its value, and where that comes from
  service        keep watching folders, also after a restart of the computer
  box            a Camio Box in this program, for trying things out
  demo           see the whole thing work, without a Box and without videos"""

EXAMPLES = """\
examples:
  Look first. Nothing is sent or written:
    camio-import check ~/videos

  Send everything below ~/videos to the Box at 192.168.1.57. The files are
  called like CAM_A-1475973147.mp4: camera first, then seconds since 1970:
    export CAMIO_OAUTH_TOKEN=...
    camio-import --regex ".*/(?P<camera>\\w+?)\\-(?P<epoch>\\d+)\\.mp4" \\
      ~/videos 192.168.1.57

  Files in one folder per camera, with the ship's local time in the name, such
  as port/20161009_003227.MP4:
    camio-import --timezone Pacific/Palau \\
      --regex ".*/(?P<camera>[^/]+)/(?P<timestamp>\\d{8}_\\d{6})\\.mp4" \\
      ~/videos 192.168.1.57

  Plans and picture sizes for each camera, from a file:
    camio-import --hook_data_json_file cameras.json ~/videos 192.168.1.57

  Watch the folders of a station, as its file says (docs/configuration.md):
    camio-import --config station.toml

  Try it without a Box, on your own files:
    camio-import --regex "..." ~/videos local

Long options may be written with dashes, too: --hook-data-json-file. A folder
that is called like a command is written ./status.
What the exit status means: docs/exit-codes.md"""


def parser() -> Parser:
    parser = Parser(prog="camio-import", usage=USAGE, description=DESCRIPTION, epilog=EXAMPLES)
    places = parser.add_argument_group("what goes where")
    places.add_argument(
        "places", metavar="DIR [HOOK_MODULE] [BOX_IP]", nargs="*",
        help="DIR: the folder with the videos; its subfolders are included. HOOK_MODULE: a .py file, or the name of"
        " an installed hook, that sends the files elsewhere than to Camio. BOX_IP: the address of the Box, with"
        " :port if it is not 8080; or the word local, for a Box inside this program; without it, the Box's address"
        " is taken from your Camio account",
    )  # fmt: skip
    places.add_argument("--host", metavar="BOX_IP", help="the address of the Box, instead of BOX_IP at the end")
    places.add_argument(
        "-p", "--port", type=port_number, metavar="PORT", help=f"the port of the Box (default: {DEFAULT_PORT})"
    )
    places.add_argument(
        "--hooks", metavar="HOOK",
        help="the hook, by name, dotted module or .py file, instead of HOOK_MODULE (default: camio)",
    )  # fmt: skip
    reading = parser.add_argument_group("reading camera and time")
    add_reading_options(reading)
    camio = parser.add_argument_group("settings for Camio, or for the hook")
    camio.add_argument(
        "-d", "--hook_data_json", metavar="JSON",
        help="settings such as plans and picture sizes, as a text: '{\"plan\": \"pro\"}'",
    )  # fmt: skip
    camio.add_argument(
        "-f", "--hook_data_json_file", metavar="FILE", help="the same from a file; where both say something, -d wins"
    )
    camio.add_argument(
        "--api_url", metavar="URL", help="another address for the Camio service than https://www.camio.com"
    )
    camio.add_argument("-t", "--testing", action="store_true", help="use Camio's testing servers (for developers)")
    camio.add_argument(
        "--token_file", metavar="FILE",
        help="a file with the access token, which only you can read, instead of CAMIO_OAUTH_TOKEN",
    )  # fmt: skip
    watching = parser.add_argument_group("watching")
    add_watching_options(watching)
    running = parser.add_argument_group("running")
    running.add_argument(
        "--config", metavar="FILE",
        help="take options from this file (TOML), and the folders to watch; what the command line says wins",
    )  # fmt: skip
    running.add_argument(
        "--dry_run", action="store_true", help="show what would be sent, and neither send nor write anything"
    )
    running.add_argument(
        "--retry_failed", action="store_true", help="also try the files again that failed in earlier runs"
    )
    running.add_argument(
        "--workers", type=_workers, metavar="N",
        help="how many files are sent at once (default: found out while sending, between 1 and 8)",
    )  # fmt: skip
    running.add_argument(
        "--patience", type=_minutes, metavar="MINUTES",
        help="how long to wait for a Box that does not answer (default: at the start a few seconds, later for ever);"
        " not for a watch, which waits for ever",
    )  # fmt: skip
    running.add_argument(
        "-s", "--storage", metavar="FILE",
        help="where to keep the ledger, which remembers what was sent (default: a place of its own for each"
        " destination, shown by camio-import status)",
    )  # fmt: skip
    showing = parser.add_argument_group("what is shown")
    add_output_options(showing)
    showing.add_argument("--json", action="store_true", help="print every event as a line of JSON, for other programs")
    showing.add_argument("--log_file", metavar="FILE", help="add a protocol of the run to this file")
    showing.add_argument(
        "--log_size", type=bytes_from, metavar="SIZE", default=10_000_000,
        help="when the log file is put aside and a new one begun: 500kB, 10MB, 1GB (default: 10MB)",
    )  # fmt: skip
    showing.add_argument(
        "--log_count", type=log_count_from, metavar="N", default=5,
        help="how many such old log files are kept, as FILE.1, FILE.2 and so on (default: %(default)s)",
    )  # fmt: skip
    showing.add_argument(
        "-c", "--csv", action="store_true", help="send nothing; print what the ledger knows of DIR's files as CSV"
    )
    showing.add_argument("--version", action="version", version=f"camio-import {__version__}")
    return parser


def _workers(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError(f"“{text}” is not a number of uploads from 1 to 64")
    return int(text)


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = -1
    if not 0 <= minutes < 1e6:
        raise argparse.ArgumentTypeError(f"“{text}” is not a number of minutes")
    return minutes * 60
