"""`camio-import hooks`: which hook modules there are, and whether one is in order."""

from __future__ import annotations

from collections.abc import Sequence

from camio_import.cli.arguments import Parser
from camio_import.display import shown, table
from camio_import.errors import ExitCode, UsageError

DESCRIPTION = """\
A hook module sends the files: to Camio, or wherever it was written for.
How to write one: docs/hooks.md; camio_import/hooks/template.py to begin with."""

EXAMPLES = """\
examples:
  camio-import hooks list               the hooks that can be given by name
  camio-import hooks check ./my_hook.py  what a module provides, what is wrong"""

USAGE = "camio-import hooks list | check MODULE"


def parser() -> Parser:
    parser = Parser(prog="camio-import hooks", usage=USAGE, description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("action", choices=("list", "check"), metavar="list|check", help="what to do")
    parser.add_argument("module", nargs="?", metavar="MODULE", help="for check: a name, a dotted module or a .py file")
    return parser


def main(arguments: Sequence[str]) -> int:
    options = parser().parse_strictly(arguments)
    if options.action == "list":
        return _list()
    if options.module is None:
        raise UsageError(
            "Which module is to be checked?", next_step="For example: camio-import hooks check ./my_hook.py"
        )
    return _check(options.module)


def _list() -> int:
    from camio_import.hooks.loader import installed_names

    rows = [(shown(name), shown(origin)) for name, origin in sorted(installed_names().items())]
    print(table(rows, header=("HOOK", "MODULE")))
    return int(ExitCode.OK)


def _check(spec: str) -> int:
    from camio_import.hooks.loader import describe, find_hook

    found = find_hook(spec)
    provided, problems = describe(found)
    print(f"{shown(found.name)} ({shown(found.origin)})")
    for line in provided:
        print(f"  {shown(line)}")
    for line in problems:
        print(f"  WRONG: {shown(line)}")
    print("It can be used." if not problems else "It cannot be used like this.")
    return int(ExitCode.USAGE if problems else ExitCode.OK)
