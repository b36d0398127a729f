"""`camio-import box`: the embedded Box, in the foreground."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from camio_import.cli.arguments import Parser, port_number
from camio_import.cli.options import state_folder
from camio_import.display import count, shown
from camio_import.errors import ExitCode

DESCRIPTION = """\
Runs a Camio Box, and the part of Camio's service that an import needs, inside
this program, on this computer only. What it receives is checked and kept in a
folder. For trying things out, and for people without a Box. Ctrl-C ends it."""

EXAMPLES = """\
example:
  camio-import box --port 8080
and in another window, without a Camio account:
  camio-import --api_url http://127.0.0.1:8080 \\
    -d '{"access_token": "any"}' ~/videos 127.0.0.1:8080"""

REQUESTS_REMEMBERED = 100


def parser() -> Parser:
    parser = Parser(
        prog="camio-import box", usage="camio-import box [options]", description=DESCRIPTION, epilog=EXAMPLES
    )
    parser.add_argument(
        "-p", "--port", type=port_number, default=8080, metavar="PORT", help="the port to listen on (default: 8080)"
    )
    parser.add_argument("--dir", metavar="DIR", help="where to keep what it receives (default: a folder for this user)")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Serve until Ctrl-C."""
    from camio_import.box import EmbeddedBox

    options = parser().parse_strictly(arguments)
    folder = Path(options.dir).expanduser() if options.dir else state_folder() / "box"
    box = EmbeddedBox(folder, port=options.port, log_limit=REQUESTS_REMEMBERED)
    box.start()
    try:
        print(f"A Box is listening at {box.url} (device {box.device_id}).")
        print(f"It keeps what it receives in {shown(str(folder))}: {count(len(box.contents()), 'video')} so far.")
        print("Ctrl-C ends it.", flush=True)
        box.serve_forever()
    except KeyboardInterrupt:
        print(file=sys.stderr)
    finally:
        box.stop()
    print(f"The Box has {count(len(box.contents()), 'video')}.")
    return int(ExitCode.OK)
