"""Hooks are found by name, module and file; nothing else is ever run; and what is wrong is said plainly."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import run

from camio_import.errors import HookUnusable, Refused, UsageError
from camio_import.hooks import HookContext, template
from camio_import.hooks.loader import FoundHook, describe, find_hook, installed_names, looks_like_hook, ready_hook

ROOT = Path(__file__).parent.parent
GOOD = (
    "def register_cameras(*, camera_names): return {}\n"
    "def post_clip(*, clip, camera, progress, cancelled): return None\n"
)


MADE_HERE = ("camio_import_hook_", "reef_hooks", "beside_my_hook", "just_here")


@pytest.fixture(autouse=True)
def _clean_modules() -> Iterator[None]:
    """Modules that a test made, and its paths, are gone after it."""
    path = list(sys.path)
    yield
    sys.path[:] = path
    for name in [name for name in sys.modules if name.startswith(MADE_HERE)]:
        del sys.modules[name]


def hook_file(folder: Path, source: str = GOOD, name: str = "my_hook.py") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source, "utf-8")
    return path


def why_not(spec: str | Path) -> str:
    """The message, and the next step, with which a hook is refused."""
    with pytest.raises(HookUnusable) as raised:
        find_hook(str(spec))
    assert raised.value.next_step
    return f"{raised.value} -> {raised.value.next_step}"


# --- files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["absolute", "relative", "dotted relative", "home", "capitals"])
def test_a_file_is_found_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    path = hook_file(tmp_path / "place", name="my_hook.PY" if form == "capitals" else "my_hook.py")
    monkeypatch.chdir(path.parent)
    monkeypatch.setenv("HOME", str(tmp_path))
    spec = {
        "absolute": str(path),
        "relative": "my_hook.py",
        "dotted relative": "../place/my_hook.py",
        "home": "~/place/my_hook.py",
        "capitals": "my_hook.PY",
    }[form]
    found = find_hook(spec)
    assert (found.name, Path(found.origin).resolve(), found.spec) == ("my_hook", path.resolve(), spec)
    assert looks_like_hook(spec)
    assert ready_hook(found, HookContext()).name == "my_hook"


def test_a_file_may_import_what_lies_beside_it_and_leaves_no_trace(tmp_path: Path) -> None:
    hook_file(tmp_path, "answer = 42\n", "beside_my_hook.py")
    path = hook_file(tmp_path, "from beside_my_hook import answer\n" + GOOD)
    before = list(sys.path)
    assert find_hook(str(path)).module.answer == 42  # type: ignore[attr-defined]
    assert sys.path == before
    assert not (tmp_path / "__pycache__").exists() or not list((tmp_path / "__pycache__").glob("my_hook*"))


def test_dataclasses_and_annotations_work_in_a_file(tmp_path: Path) -> None:
    source = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom typing import ClassVar\n"
        "@dataclass\nclass Thing:\n    size: int\n    count: ClassVar[int] = 0\nthing = Thing(1)\n"
    )
    assert find_hook(str(hook_file(tmp_path, source + GOOD))).module.thing.size == 1  # type: ignore[attr-defined]


def test_our_own_future_imports_are_not_the_files(tmp_path: Path) -> None:
    path = hook_file(tmp_path, "def f(x: int): pass\nkind = f.__annotations__['x']\n" + GOOD)
    assert find_hook(str(path)).module.kind is int  # type: ignore[attr-defined]


def test_cached_bytecode_beside_a_file_is_not_trusted(tmp_path: Path) -> None:
    import py_compile

    path = hook_file(tmp_path, "value = 'planted'\n" + GOOD)
    py_compile.compile(str(path), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    path.write_text("value = 'checked'\n" + GOOD)
    assert find_hook(str(path)).module.value == "checked"  # type: ignore[attr-defined]


@pytest.mark.skipif(os.name != "posix", reason="rights of this kind are POSIX")
def test_a_file_that_everybody_can_change_is_not_run(tmp_path: Path) -> None:
    path = hook_file(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')\n" + GOOD)
    path.chmod(0o666)
    message = why_not(path)
    assert "can be changed by everybody" in message
    assert f'chmod o-w "{path}"' in message
    path.chmod(0o644)
    tmp_path.chmod(0o777)
    message = why_not(path)
    assert "can be replaced by everybody" in message
    assert not (tmp_path / "ran").exists()
    tmp_path.chmod(0o1777)  # as /tmp: others can add files, but not replace ours
    find_hook(str(path))


@pytest.mark.skipif(os.name != "posix", reason="rights of this kind are POSIX")
def test_in_a_folder_where_everybody_can_add_files_nothing_beside_the_hook_is_imported(tmp_path: Path) -> None:
    hook_file(tmp_path, "", "beside_my_hook.py")
    path = hook_file(tmp_path, "import beside_my_hook\n" + GOOD)
    tmp_path.chmod(0o1777)
    assert "needs the Python module beside_my_hook" in why_not(path)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("print 'hello'\n", "not valid Python 3 (line 1: print 'hello')"),
        ("try:\n    pass\nexcept Exception, e:\n    pass\n", "not valid Python 3 (line 3: except Exception, e:)"),
        ("if True:\n\tx = 1\n        y = 2\n", "not valid Python 3 (line 3"),
        ("import urllib2\n", "urllib2 is a module of Python 2"),
        ("x = 1\nfor i in xrange(3): pass\n", "(line 2). -> That name is of Python 2"),
        ("import no_such_module_4711\n", "pip install no_such_module_4711"),
        ("x = 1\n1 / 0\n", "could not be loaded: ZeroDivisionError: division by zero (line 2)"),
        ("raise SystemExit(3)\n", "could not be loaded: SystemExit: 3 (line 1)"),
        ("import sys\nsys.exit()\n", "could not be loaded: SystemExit"),
        ("def f(:\n", "not valid Python 3 (line 1"),
        ("x = '\0'\n", "null bytes"),
        ("HOOK_NAME = 'a/../b'\n" + GOOD, "calls itself 'a/../b', which cannot be a name"),
        ("HOOK_NAME = 7\n" + GOOD, "calls itself 7"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_plainly(tmp_path: Path, source: str, expected: str) -> None:
    message = why_not(hook_file(tmp_path, source))
    assert expected in message
    assert "Traceback" not in message


def test_a_mistake_in_a_module_that_the_file_imports_is_said_to_be_there(tmp_path: Path) -> None:
    beside = hook_file(tmp_path, "print 1\n", "beside_my_hook.py")
    assert f"(line 1 of {beside}" in why_not(hook_file(tmp_path, "import beside_my_hook\n"))


def test_paths_that_are_no_python_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "notes.txt").write_text("")
    assert "cannot be read: No such file" in why_not("missing.py")
    assert "is not a Python file" in why_not("folder.py")
    assert "is not a Python file" in why_not("./notes.txt")
    assert "is not a Python file" in why_not(str(tmp_path))
    assert "cannot be read" in why_not("~no_such_user_4711/hook.py")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.py")
        assert "is not a Python file" in why_not("pipe.py")


# --- names ---------------------------------------------------------------------------------------


def test_a_file_shares_a_ledger_with_another_hook_only_when_it_says_so(tmp_path: Path) -> None:
    assert find_hook(str(hook_file(tmp_path, name="camio.py"))).name == "camio.py"
    assert find_hook(str(hook_file(tmp_path, "HOOK_NAME = 'camio'\n" + GOOD))).name == "camio"
    assert find_hook(str(hook_file(tmp_path, name="my lab's hook.py"))).name == "my_lab_s_hook"


def test_the_built_in_hook_is_found_by_name_and_by_module() -> None:
    assert find_hook("camio").name == "camio"
    assert installed_names()["camio"] == "camio_import.hooks.camio"
    assert looks_like_hook("camio")
    assert find_hook("camio_import.hooks.template").module is template


@pytest.mark.parametrize("text", ["192.168.1.57", "box.local", "local", "box.lan:8080", "no_such_hook"])
def test_addresses_do_not_look_like_hooks(text: str) -> None:
    assert not looks_like_hook(text)


def test_a_name_that_nobody_has_is_refused_with_a_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "no hook called “no_such_hook” -> camio-import hooks list" in why_not("no_such_hook").replace(".", "", 1)
    assert "Did you mean camio?" in why_not("camoi")
    hook_file(tmp_path)
    assert "given by its path: ./my_hook.py" in why_not("my_hook")
    for nonsense in ("", ".my_hook", "..", "a..b"):
        assert "There is no hook called" in why_not(nonsense)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages, with one that declares hooks."""
    site = tmp_path / "site"
    hook_file(site / "reef_hooks", "HOOK = 'a package'\n" + GOOD, "__init__.py")
    hook_file(site / "reef_hooks", GOOD, "inner.py")
    hook_file(site / "reef_hooks", "class Reef:\n    pass\nreef = Reef()\n", "thing.py")
    info = site / "reef_hooks-1.0.dist-info"
    hook_file(info, "Metadata-Version: 2.1\nName: reef_hooks\nVersion: 1.0\n", "METADATA")
    points = "[camio_import.hooks]\nreef = reef_hooks\nthing = reef_hooks.thing:reef\ncamio = reef_hooks\n"
    hook_file(info, points, "entry_points.txt")
    monkeypatch.setattr(sys, "path", [sys.path[0], *sys.path[1:], str(site)])
    return site


def test_an_installed_package_can_name_hooks(installed: Path) -> None:
    assert installed_names()["reef"] == "reef_hooks"
    assert looks_like_hook("reef")
    found = find_hook("reef")
    assert (found.name, found.module.HOOK) == ("reef", "a package")  # type: ignore[attr-defined]
    assert type(find_hook("thing").module).__name__ == "Reef"
    assert find_hook("camio").origin == "camio_import.hooks.camio", "built-in names cannot be taken"


def test_a_dotted_module_is_imported(installed: Path) -> None:
    assert find_hook("reef_hooks.inner").name == "reef_hooks_inner"
    assert "needs the Python module reef_hooks.missing" in why_not("reef_hooks.missing")


def test_nothing_is_imported_from_the_current_folder(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under `python -m`, the current folder stands first where Python looks."""
    here = tmp_path / "here"
    hook_file(here / "reef_hooks", "HOOK = 'planted'\n" + GOOD, "__init__.py")
    hook_file(here, GOOD, "just_here.py")
    info = here / "evil-1.0.dist-info"
    hook_file(info, "Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n", "METADATA")
    hook_file(info, "[camio_import.hooks]\nevil = just_here\n", "entry_points.txt")
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "path", [str(here), "", *sys.path[1:]])
    assert "There is no hook called “just_here”" in why_not("just_here")
    assert not looks_like_hook("evil")
    assert find_hook("reef").module.HOOK == "a package"  # type: ignore[attr-defined]


@pytest.mark.parametrize("spec", ["my_hook", "evil"])
def test_nor_by_the_command_itself(tmp_path: Path, spec: str) -> None:
    here = tmp_path / "here"
    hook_file(here, f"open({str(tmp_path / 'ran')!r}, 'w')\n" + GOOD)
    info = here / "evil-1.0.dist-info"
    hook_file(info, "Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n", "METADATA")
    hook_file(info, "[camio_import.hooks]\nevil = my_hook\n", "entry_points.txt")
    ran = run("hooks", "check", spec, home=tmp_path / "home", cwd=here).must(2)
    assert f"There is no hook called “{spec}”" in ran.err
    assert not (tmp_path / "ran").exists()


# --- making a hook ready -----------------------------------------------------------------------------


def test_a_module_gets_its_settings_once(tmp_path: Path) -> None:
    path = hook_file(tmp_path, "got = []\ndef configure(*, context): got.append(dict(context.data))\n" + GOOD)
    found = find_hook(str(path))
    ready_hook(found, HookContext(data={"a": 1}))
    assert found.module.got == [{"a": 1}]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def make_hook(*, context): return None", "its make_hook returned nothing"),
        ("def make_hook(*, context): return 7", "no function “register_cameras”"),
        ("def make_hook(*, context): return context.data['url']", "KeyError: 'url' (line 1)"),
        ("def configure(*, context): raise SystemExit(1)\n" + GOOD, "SystemExit: 1 (line 1)"),
        ("def configure(): pass\n" + GOOD, "TypeError"),
        ("def post_clip(*, clip, camera, progress, cancelled): pass", "no function “register_cameras”"),
        ("def register_camera(camera_name): pass", "no function “post_video_content”"),
        ("x = 1", "no function “register_cameras”"),
    ],
)
def test_a_module_that_is_no_hook_is_refused_before_anything_is_sent(tmp_path: Path, source: str, message: str) -> None:
    found = find_hook(str(hook_file(tmp_path, source + "\n")))
    with pytest.raises(HookUnusable) as raised:
        ready_hook(found, HookContext())
    assert message in str(raised.value)


def test_what_a_module_itself_says_about_its_settings_is_passed_on(tmp_path: Path) -> None:
    source = "from camio_import.errors import UsageError\ndef configure(*, context): raise UsageError('no url')\n"
    with pytest.raises(UsageError, match=r"^no url$"):
        ready_hook(find_hook(str(hook_file(tmp_path, source + GOOD))), HookContext())


def test_secrets_in_such_an_error_are_not_shown(tmp_path: Path) -> None:
    found = find_hook(
        str(hook_file(tmp_path, "def configure(*, context): raise ValueError(dict(context.data))\n" + GOOD))
    )
    with pytest.raises(HookUnusable) as raised:
        ready_hook(found, HookContext(data={"access_token": "geheim-4711"}))
    assert "geheim" not in str(raised.value)


# --- describing ---------------------------------------------------------------------------------------


def problems(tmp_path: Path, source: str) -> list[str]:
    return describe(find_hook(str(hook_file(tmp_path, source))))[1]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (GOOD, None),
        (GOOD + "THREAD_SAFE = True\nNEEDS_ALL_HASHES = True\n", None),
        (GOOD + "def connect(): pass\ndef close(): pass\ndef configure(*, context): pass\n", None),
        ("def post_clip(**everything): pass\ndef register_cameras(*, camera_names): pass\n", None),
        ("def make_hook(*, context): pass\n", None),
        ("def make_hook(): pass\n", "“make_hook” cannot be called with context by keyword"),
        ("def register_cameras(*, camera_names): pass\n", "no function “post_clip”"),
        (GOOD.replace("post_clip", "post_clips"), "no function “post_clip”, which is required (is “post_clips” meant"),
        (GOOD.replace("progress, ", ""), "“post_clip” cannot be called with clip, camera, progress, cancelled"),
        (GOOD.replace("camera_names)", "names)"), "“register_cameras” cannot be called with camera_names"),
        (GOOD.replace("def post", "async def post"), "“post_clip” is async"),
        (GOOD.replace("return {}", "yield {}"), "“register_cameras” is async, or a generator"),
        (GOOD + "def connect(context): pass\n", "“connect” cannot be called without arguments"),
        (GOOD + "def close(x): pass\n", "“close” cannot be called without arguments"),
        (GOOD + "def configure(data): pass\n", "“configure” cannot be called with context"),
        (GOOD + "def create_job(jobs): pass\n", "“create_job” cannot be called with request"),
        (GOOD + "def create_job(*, request): pass\ndef register_shard(): pass\n", "“register_shard” cannot be called"),
        (GOOD + "def register_shard(*, report): pass\n", "no “create_job”"),
        (GOOD + "connect = 1\n", "“connect” is not a function"),
        (GOOD + "THREAD_SAFE = 'no'\n", "THREAD_SAFE is 'no', not True or False"),
        (GOOD + "NEEDS_ALL_HASHES = 1\n", "NEEDS_ALL_HASHES is 1, not True or False"),
    ],
)
def test_a_check_says_what_is_wrong(tmp_path: Path, source: str, expected: str | None) -> None:
    wrong = problems(tmp_path, source)
    if expected is None:
        assert wrong == []
    else:
        assert any(expected in problem for problem in wrong), wrong


def test_a_check_says_what_there_is(tmp_path: Path) -> None:
    source = GOOD + "THREAD_SAFE = True\nNEEDS_ALL_HASHES = True\ndef connect(): pass\n"
    provided, _ = describe(find_hook(str(hook_file(tmp_path, source))))
    assert provided == [
        "register_cameras: provided",
        "post_clip: provided",
        "connect: provided",
        "sends several clips at once",
        "all files are hashed before the first one is sent, because of NEEDS_ALL_HASHES",
    ]


# --- the template ---------------------------------------------------------------------------------------


def test_the_template_is_in_order_and_says_that_it_is_not_finished() -> None:
    from datetime import UTC, datetime

    from clips import found as found_file

    from camio_import.model import Camera, Clip, HashedClip, TimeSource

    found = FoundHook("template", "", template)
    assert describe(found)[1] == []
    hook = ready_hook(found, HookContext(data={"url": "x"}))
    hook.connect()
    assert hook.register_cameras(["CAM_A"]) == {"CAM_A": Camera("CAM_A", "CAM_A")}
    clip = Clip(found_file(Path(__file__)), "CAM_A", datetime(2016, 10, 9, tzinfo=UTC), TimeSource.REGEX)
    with pytest.raises(Refused, match="not written yet") as raised:
        hook.post_clip(HashedClip(clip, "0" * 40), Camera("CAM_A", "1"), lambda count: None, lambda: False)
    assert "post_clip" in raised.value.next_step
    hook.close()


def test_what_the_template_has_as_comments_is_valid_too(tmp_path: Path) -> None:
    source = Path(template.__file__).read_text("utf-8")
    head, jobs = source.split("# Optional, and rare.")
    jobs = "\n".join(line.removeprefix("# ").removeprefix("#") for line in jobs.splitlines()[1:])
    path = hook_file(tmp_path, head.replace('# HOOK_NAME = "my-lab"', 'HOOK_NAME = "my-lab"') + jobs)
    found = find_hook(str(path))
    provided, wrong = describe(found)
    assert (found.name, wrong) == ("my-lab", [])
    assert "create_job: provided" in provided
    assert "register_shard: provided" in provided


def test_a_module_of_functions_satisfies_the_protocol_under_mypy(tmp_path: Path) -> None:
    """So that somebody who writes a hook can have it checked, too."""
    path = hook_file(
        tmp_path,
        "from camio_import.hooks import Hook, camio, template\n"
        "from camio_import.hooks import HookContext\n"
        "a_module: Hook = template\n"
        "an_object: Hook = camio.make_hook(context=HookContext())\n"
        "not_a_hook: Hook = camio\n",
        "typed.py",
    )
    cache = ROOT / ".mypy_cache"
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file", "", "--cache-dir", str(cache / "hooks"), str(path)],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    errors = [line for line in done.stdout.splitlines() if "error:" in line]
    assert len(errors) == 1, done.stdout + done.stderr
    assert "typed.py:5: error" in errors[0]
