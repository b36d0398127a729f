"""Finds a hook by name, module or file. Only what was named is ever loaded.

A hook runs with the rights of its user, so: a file that others can change is not run, source is
compiled from the very bytes that were checked (no cached bytecode), and nothing is imported from
the current folder only because the program was started in it.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import logging
import os
import re
import stat
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import PathFinder, SourceFileLoader
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from camio_import.errors import CamioImportError, HookUnusable
from camio_import.hooks import (
    OPTIONAL,
    REQUIRED,
    CheckedHook,
    HookContext,
    cleaner_for,
    legacy,
    module_problems,
    one_line,
)
from camio_import.hooks.printed import printing_to

BUILT_IN = {"camio": "camio_import.hooks.camio"}
ENTRY_POINT_GROUP = "camio_import.hooks"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FoundHook:
    """A module that was found and loaded, but not told anything yet.

    `name` labels it in messages and names its ledger: two files of one name share a ledger, and a
    module that delivers to the same place as another one says so with `HOOK_NAME`. `origin` is
    where it came from, `spec` what the user typed. `module` is a module, or the object that an
    entry point names.
    """

    name: str
    origin: str
    module: object
    spec: str = ""

    @property
    def is_original_contract(self) -> bool:
        return legacy.is_original_contract(self.module)

    def place(self, data: Mapping[str, Any]) -> str:
        """Where the hook sends files under these settings, in its own words; "" when it does not say.

        Asked before the hook is configured, because each place has a ledger of its own.
        """
        function: Any = getattr(self.module, "place", None)
        if not callable(function):
            return ""
        text = _guarded(self.name, lambda: function(data=data))
        if not isinstance(text, str):
            raise HookUnusable(f"The hook module “{self.name}” cannot be used: its function place returned no text.")
        return text


def installed_names() -> dict[str, str]:
    """The names that can be given to --hooks, and the module behind each."""
    return {**{point.name: point.value for point in _points()}, **BUILT_IN}


def looks_like_hook(text: str) -> bool:
    """Whether a positional argument means a hook module rather than the address of a Box."""
    return _is_python_file(text) or text in BUILT_IN or any(point.name == text for point in _points())


def find_hook(spec: str) -> FoundHook:
    """Load the hook that `spec` names: an installed name, a path of a .py file, or a dotted module.

    Raises:
        HookUnusable: there is none, it may not be loaded, or loading it failed.
    """
    if spec in BUILT_IN:
        return FoundHook(spec, BUILT_IN[spec], importlib.import_module(BUILT_IN[spec]), spec)
    for point in _points():
        if point.name == spec:
            with _search_path():
                return _named(spec, spec, point.value, _guarded(spec, point.load))
    if _is_path(spec):
        return _from_file(spec)
    return _from_module(spec)


def ready_hook(found: FoundHook, context: HookContext) -> CheckedHook:
    """Give the module its settings and return it as the engine takes it.

    Raises:
        HookUnusable: it lacks something that its contract requires.
        CamioImportError: what the module itself says is wrong with its settings.
    """
    module: Any = found.module
    hook: Any = module
    clean = cleaner_for(context)
    file = Path(getattr(module, "__file__", None) or "")
    if callable(getattr(module, "make_hook", None)):
        hook = _guarded(found.name, lambda: module.make_hook(context=context), file=file, clean=clean)
        if hook is None:
            raise HookUnusable(f"The hook module “{found.name}” cannot be used: its make_hook returned nothing.")
    elif found.is_original_contract:
        _refuse(found, describe(found)[1])
        hook = _guarded(found.name, lambda: legacy.OriginalHook(module, context=context), file=file, clean=clean)
    elif callable(getattr(module, "configure", None)):
        _guarded(found.name, lambda: module.configure(context=context), file=file, clean=clean)
    _refuse(found, module_problems(hook))
    return CheckedHook(hook, name=found.name, logger=context.logger, clean=clean)


def _refuse(found: FoundHook, problems: list[str]) -> None:
    if problems:
        raise HookUnusable(
            f"The hook module “{found.name}” cannot be used: {problems[0]}.",
            next_step=f"See everything that is wrong with it: camio-import hooks check {found.spec or found.name}",
        )


# --- describing -----------------------------------------------------------------------------------


def describe(found: FoundHook) -> tuple[list[str], list[str]]:
    """What a module provides, and what is wrong with it, in plain sentences; it is not configured."""
    module = found.module
    if callable(getattr(module, "make_hook", None)):
        return ["makes its hook in make_hook(context)"], _signature_problems(module, ("make_hook",))
    if found.is_original_contract:
        return legacy.describe(module)
    names = ("configure", *REQUIRED, *OPTIONAL)
    provided = [f"{name}: provided" for name in names if callable(getattr(module, name, None))]
    is_thread_safe = getattr(module, "THREAD_SAFE", False) is True
    provided.append("sends several clips at once" if is_thread_safe else "sends one clip at a time")
    if getattr(module, "NEEDS_ALL_HASHES", False) is True:
        provided.append("all files are hashed before the first one is sent, because of NEEDS_ALL_HASHES")
    return provided, [
        *(problem + _suggestion(module, problem) for problem in module_problems(module)),
        *_signature_problems(module, names),
    ]


_KEYWORDS = {
    "make_hook": ("context",),
    "configure": ("context",),
    "connect": (),
    "register_cameras": ("camera_names",),
    "post_clip": ("clip", "camera", "progress", "cancelled"),
    "create_job": ("request",),
    "register_shard": ("report",),
    "close": (),
}


def _suggestion(module: object, problem: str) -> str:
    """For a missing function: one of nearly that name, if the module has one."""
    missing = re.search(r"no function “(\w+)”, which", problem)
    own = [name for name, value in vars(module).items() if inspect.isroutine(value)] if missing else []
    close = difflib.get_close_matches(missing[1], own, n=1, cutoff=0.8) if missing else []
    return f" (is “{close[0]}” meant to be it?)" if close else ""


def _signature_problems(module: object, functions: tuple[str, ...]) -> list[str]:
    problems = []
    for function in functions:
        target = getattr(module, function, None)
        if not callable(target):
            continue
        if inspect.iscoroutinefunction(target) or inspect.isgeneratorfunction(target):
            problems.append(f"“{function}” is async, or a generator; it has to be a plain function")
        names = _KEYWORDS[function]
        try:
            inspect.signature(target).bind(**dict.fromkeys(names))
        except (TypeError, ValueError) as error:
            given = f"with {', '.join(names)} by keyword" if names else "without arguments"
            problems.append(f"“{function}” cannot be called {given}: {error}")
    return problems


# --- finding --------------------------------------------------------------------------------------


def _points() -> list[EntryPoint]:
    with _search_path():
        return [point for point in entry_points(group=ENTRY_POINT_GROUP) if point.name not in BUILT_IN]


def _is_python_file(text: str) -> bool:
    return text.lower().endswith(".py")


def _is_path(text: str) -> bool:
    return _is_python_file(text) or text.startswith("~") or os.sep in text or bool(os.altsep and os.altsep in text)


def _from_file(spec: str) -> FoundHook:
    try:
        path = Path(spec).expanduser().absolute()
    except RuntimeError as error:  # ~ of a user that does not exist
        raise HookUnusable(
            f"The hook module {spec} cannot be read: {error}", next_step="Give its whole path, without ~."
        ) from error
    source = _trusted_source(path, spec)
    name = "camio_import_hook_" + re.sub(r"\W", "_", path.stem)
    module_spec = importlib.util.spec_from_file_location(name, path, loader=SourceFileLoader(name, str(path)))
    assert module_spec is not None  # a loader was given
    module = importlib.util.module_from_spec(module_spec)
    neighbours = () if _anybody_can_write(path.parent) else (str(path.parent),)

    def run() -> ModuleType:
        code = compile(source, str(path), "exec", dont_inherit=True)
        # Dataclasses, among others, look their module up there.
        sys.modules[name] = module
        with _search_path(*neighbours):
            exec(code, module.__dict__)
        return module

    try:
        _guarded(spec, run, file=path)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    # A file that happens to be called like a built-in hook does not share its ledger.
    return _named(spec, path.name if path.stem in BUILT_IN else path.stem, str(path), module)


def _trusted_source(path: Path, spec: str) -> bytes:
    """The file's bytes, if nobody else can have put them there."""
    try:
        if not stat.S_ISREG(path.stat().st_mode) or not _is_python_file(path.name):
            raise HookUnusable(
                f"The hook module {spec} is not a Python file.",
                next_step="Give the path of a file whose name ends in .py.",
            )
        with path.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            source = stream.read()
    except OSError as error:
        raise HookUnusable(
            f"The hook module {spec} cannot be read: {error.strerror or error}.",
            next_step="Give the path of an existing .py file, or a name that camio-import hooks list shows.",
        ) from error
    if os.name == "posix" and mode & stat.S_IWOTH:
        raise HookUnusable(
            f"The hook module {spec} can be changed by everybody on this computer, so it is not run.",
            next_step=f'Take that right away first: chmod o-w "{path}" (where that has no effect, as on a USB'
            " drive, copy it to a folder of your own).",
        )
    if _anybody_can_write(path.parent) and not path.parent.stat().st_mode & stat.S_ISVTX:
        raise HookUnusable(
            f"The hook module {spec} can be replaced by everybody on this computer, so it is not run.",
            next_step=f'Take the right to write in its folder away first: chmod o-w "{path.parent}"',
        )
    return source


def _anybody_can_write(folder: Path) -> bool:
    return os.name == "posix" and bool(folder.stat().st_mode & stat.S_IWOTH)


def _from_module(name: str) -> FoundHook:
    """Import a dotted module, but never from the current folder just because we happen to be in it."""
    top = name.partition(".")[0]
    with _search_path():
        if not top or (top not in sys.modules and PathFinder.find_spec(top) is None and not _is_found(top)):
            raise HookUnusable(f"There is no hook called “{name}”.", next_step=_other_ways(name))
        module = _guarded(name, lambda: importlib.import_module(name))
    return _named(name, name.replace(".", "_"), name, module)


def _is_found(top: str) -> bool:
    """Whether some other finder knows it: packages that are installed for editing may have their own."""
    try:
        return importlib.util.find_spec(top) is not None
    except (ImportError, ValueError):
        return False


def _other_ways(name: str) -> str:
    if os.path.isfile(name + ".py"):  # noqa: PTH113  (False, too, for what cannot be a name)
        return f"The file in this folder is given by its path: ./{name}.py"
    close = difflib.get_close_matches(name, installed_names(), n=1)
    if close:
        return f"Did you mean {close[0]}?"
    return (
        "camio-import hooks list shows the installed ones; a file of your own is given by its path,"
        " such as ./my_hook.py."
    )


def _named(spec: str, default: str, origin: str, module: object) -> FoundHook:
    """With the name that the module gives itself, if it does."""
    name = getattr(module, "HOOK_NAME", default)
    if not isinstance(name, str) or not re.fullmatch(r"[\w.-][\w. -]{0,63}", name):
        if name is default:
            name = re.sub(r"[^\w.-]+", "_", default)[:64]
        else:
            raise HookUnusable(
                f"The hook module {spec} calls itself {name!r:.80}, which cannot be a name.",
                next_step="HOOK_NAME is a short text of letters, digits, - and _.",
            )
    return FoundHook(name, origin, module, spec)


@contextmanager
def _search_path(*also: str) -> Iterator[None]:
    """Imports look where Python looks, but not in the current folder, and at last in `also`.

    `python -m` and a script put the folder they were started in first. What a module itself
    adds to the path while it is loaded stays, at the end.
    """
    try:
        here = os.getcwd()  # noqa: PTH109
    except OSError:  # it was removed
        here = ""
    before = list(sys.path)
    searched = [
        entry
        for number, entry in enumerate(before)
        if entry not in ("", ".") and not (number == 0 and os.path.realpath(entry) == os.path.realpath(here))
    ]
    sys.path[:] = [*searched, *also]
    try:
        yield
    finally:
        added = [entry for entry in sys.path if entry not in searched and entry not in also]
        sys.path[:] = [*before, *(entry for entry in added if entry not in before)]


# --- running a module's own code ------------------------------------------------------------------

_PYTHON_2_MODULES = frozenset(
    (
        "urllib2",
        "urlparse",
        "httplib",
        "ConfigParser",
        "StringIO",
        "cStringIO",
        "Queue",
        "cPickle",
        "anydbm",
        "commands",
    )
)
_PYTHON_2_NAMES = (
    "'unicode'",
    "'xrange'",
    "'raw_input'",
    "'basestring'",
    "'long'",
    "'reload'",
    "'file'",
    "'iteritems'",
)


def _guarded(
    name: str, load: Callable[[], T], *, file: Path | None = None, clean: Callable[[str], str] | None = None
) -> T:
    """Run a module's own code; whatever it raises becomes a message that names the module and the line."""
    clean = clean or cleaner_for(HookContext())
    try:
        with printing_to(logging.getLogger("camio_import.hook")):
            return load()
    except CamioImportError:
        raise
    except SyntaxError as error:
        raise _not_python_3(name, error, file) from error
    except ModuleNotFoundError as error:
        next_step = f'Install it for this Python: "{sys.executable}" -m pip install {error.name}'
        if error.name in _PYTHON_2_MODULES:
            next_step = f"{error.name} is a module of Python 2: the hook has to be changed to Python 3."
        raise HookUnusable(
            f"The hook module “{name}” needs the Python module {error.name}, which is not installed.",
            next_step=next_step,
        ) from error
    except (Exception, SystemExit) as error:
        what = one_line(clean(f"{type(error).__name__}: {error}"))
        is_python_2 = isinstance(error, NameError | AttributeError) and any(
            word in str(error) for word in _PYTHON_2_NAMES
        )
        raise HookUnusable(
            f"The hook module “{name}” could not be loaded: {what}{_where(error, file)}.",
            next_step="That name is of Python 2: the hook has to be changed to Python 3."
            if is_python_2
            else "Tell whoever wrote the module.",
        ) from error


def _not_python_3(name: str, error: SyntaxError, file: Path | None) -> HookUnusable:
    elsewhere = file is not None and error.filename not in (None, str(file))
    where = f"line {error.lineno}" + (f" of {error.filename}" if elsewhere else "")
    text = f": {error.text.strip()[:80]}" if error.text else ""
    return HookUnusable(
        f"The hook module “{name}” is not valid Python 3 ({where}{text}): {error.msg}.",
        next_step="A module written for Python 2 usually needs print(…) with parentheses, “except X as e”, and"
        " spaces instead of tabs.",
    )


def _where(error: BaseException, file: Path | None) -> str:
    """The last line of the module's own file that was being run."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return f" (line {lines[-1]})" if lines else ""
