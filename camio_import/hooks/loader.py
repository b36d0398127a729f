"""Finds a hook by name, module or file. Only what was named is ever loaded."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import stat
import sys
from dataclasses import dataclass
from importlib.machinery import PathFinder
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from camio_import.errors import CamioImportError, HookUnusable
from camio_import.hooks import OPTIONAL, REQUIRED, CheckedHook, HookContext, legacy, module_problems

BUILT_IN = {"camio": "camio_import.hooks.camio"}
ENTRY_POINT_GROUP = "camio_import.hooks"


@dataclass(frozen=True, slots=True)
class FoundHook:
    """A module that was found and loaded, but not told anything yet. `name` labels it in messages
    and names its ledger; `origin` is where it came from."""

    name: str
    origin: str
    module: ModuleType

    @property
    def is_original_contract(self) -> bool:
        return legacy.is_original_contract(self.module)


def installed_names() -> dict[str, str]:
    """The names that can be given to --hooks, and the module behind each."""
    return {**{point.name: point.value for point in _points()}, **BUILT_IN}


def looks_like_hook(text: str) -> bool:
    """Whether a positional argument means a hook module rather than the address of a Box."""
    return text.endswith(".py") or text in BUILT_IN or any(point.name == text for point in _points())


def find_hook(spec: str) -> FoundHook:
    """Load the hook that `spec` names: an installed name, a path of a .py file, or a dotted module.

    Raises:
        HookUnusable: there is none, it may not be loaded, or loading it failed.
    """
    if spec in BUILT_IN:
        return FoundHook(spec, BUILT_IN[spec], importlib.import_module(BUILT_IN[spec]))
    for point in _points():
        if point.name == spec:
            return FoundHook(
                spec, point.value, _guarded(spec, lambda point=point: importlib.import_module(point.module))
            )
    if spec.endswith(".py") or os.sep in spec or (os.altsep and os.altsep in spec):
        return _from_file(Path(spec).expanduser())
    return _from_module(spec)


def ready_hook(found: FoundHook, context: HookContext) -> CheckedHook:
    """Give the module its settings and return it as the engine takes it.

    Raises:
        HookUnusable: it lacks something that its contract requires.
        CamioImportError: what the module itself says is wrong with its settings.
    """
    module: Any = found.module
    hook: Any = module
    if callable(getattr(module, "make_hook", None)):
        hook = _guarded(found.name, lambda: module.make_hook(context=context))
    elif found.is_original_contract:
        hook = _guarded(found.name, lambda: legacy.OriginalHook(module, context=context))
    elif callable(getattr(module, "configure", None)):
        _guarded(found.name, lambda: module.configure(context=context))
    problems = module_problems(hook)
    if problems:
        raise HookUnusable(
            f"The hook module “{found.name}” cannot be used: {problems[0]}.",
            next_step=f"See everything that is wrong with it: camio-import hooks check {found.name}",
        )
    return CheckedHook(hook, name=found.name)


def describe(found: FoundHook) -> tuple[list[str], list[str]]:
    """What a module provides, and what is wrong with it, in plain sentences; it is not configured."""
    module = found.module
    if callable(getattr(module, "make_hook", None)):
        return ["makes its hook in make_hook(context)"], _signature_problems(module, {"make_hook": ("context",)})
    if found.is_original_contract:
        return legacy.describe(module)
    provided = [f"{name}: provided" for name in (*REQUIRED, *OPTIONAL) if callable(getattr(module, name, None))]
    provided.append(
        "sends several clips at once" if getattr(module, "THREAD_SAFE", False) else "sends one clip at a time"
    )
    return provided, module_problems(module) + _signature_problems(module, _KEYWORDS)


_KEYWORDS = {
    "configure": ("context",),
    "register_cameras": ("camera_names",),
    "post_clip": ("clip", "camera", "progress", "cancelled"),
    "create_job": ("request",),
    "register_shard": ("report",),
}


def _signature_problems(module: object, keywords: dict[str, tuple[str, ...]]) -> list[str]:
    problems = []
    for function, names in keywords.items():
        target = getattr(module, function, None)
        if callable(target):
            try:
                inspect.signature(target).bind(**dict.fromkeys(names))
            except (TypeError, ValueError) as error:
                problems.append(f"“{function}” cannot be called with {', '.join(names)} by keyword: {error}")
    return problems


def _points() -> list[EntryPoint]:
    return [point for point in entry_points(group=ENTRY_POINT_GROUP) if point.name not in BUILT_IN]


def _from_file(path: Path) -> FoundHook:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise HookUnusable(
            f"The hook module {path} cannot be read: {error.strerror or error}.",
            next_step="Give the path of an existing .py file, or a name that camio-import hooks list shows.",
        ) from error
    if not stat.S_ISREG(mode):
        raise HookUnusable(f"The hook module {path} is not a file.", next_step="Give the path of a .py file.")
    if os.name == "posix" and mode & stat.S_IWOTH:
        raise HookUnusable(
            f"The hook module {path} can be changed by everybody on this computer, so it is not run.",
            next_step=f'Take that right away first: chmod o-w "{path}"',
        )
    spec = importlib.util.spec_from_file_location(f"camio_import_hook_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise HookUnusable(f"The hook module {path} is not a Python file.", next_step="Its name must end in .py.")
    module = importlib.util.module_from_spec(spec)
    loader = spec.loader
    _guarded(str(path), lambda: loader.exec_module(module))
    return FoundHook(path.stem, str(path), module)


def _from_module(name: str) -> FoundHook:
    """Import a dotted module, but never from the current folder just because we happen to be in it."""
    here = os.getcwd()  # noqa: PTH109
    search_path = [entry for entry in sys.path if entry and os.path.abspath(entry) != here]  # noqa: PTH100
    top = name.partition(".")[0]
    if top not in sys.modules and PathFinder.find_spec(top, search_path) is None:
        raise HookUnusable(
            f"There is no hook called “{name}”.",
            next_step="camio-import hooks list shows the installed ones; a file of your own is given by its path,"
            " such as ./my_hook.py.",
        )
    module = _guarded(name, lambda: importlib.import_module(name))
    return FoundHook(name.replace(".", "_"), name, module)


def _guarded(name: str, load: Any) -> Any:
    """Run a module's own code; whatever it raises becomes a message that names the module and the line."""
    try:
        return load()
    except CamioImportError:
        raise
    except SyntaxError as error:
        raise HookUnusable(
            f"The hook module “{name}” is not valid Python 3: {error.msg} (line {error.lineno}).",
            next_step="A module written for Python 2 usually needs print(…) with parentheses and “except X as e”.",
        ) from error
    except (Exception, SystemExit) as error:
        raise HookUnusable(
            f"The hook module “{name}” could not be loaded: {type(error).__name__}: {error}.",
            next_step="Tell whoever wrote the module.",
        ) from error
