"""What the hook data says of cameras: plans and image sizes. Checked before anything is sent."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from camio_import.cloud import text_setting
from camio_import.display import count, shown_start
from camio_import.errors import UsageError

PLANS = ("basic", "plus", "pro")
IMAGE_SIZES = (
    "img_x_size",
    "img_y_size",
    "img_x_size_cover",
    "img_y_size_cover",
    "img_x_size_extraction",
    "img_y_size_extraction",
)
_TEXTS: Final = ("access_token", "device_id", "ip_address", "api_url")
_OF_A_CAMERA: Final = ("plan", *IMAGE_SIZES)
_SETTINGS: Final = (*_OF_A_CAMERA, "cameras", *_TEXTS, "test")

_CLOSE_KEYS: Final = 0.7
"""From this likeness on (`difflib`), one key is taken for a slip of the pen for another."""
_CLOSE_NAMES: Final = 0.8


class CameraSettings:
    """Plans and image sizes: a value under `cameras.{name}` wins over the same key at the top level.

    Attributes:
        warnings: what the user should know, in plain sentences.
    """

    def __init__(self, data: Mapping[str, Any]) -> None:
        cameras = data.get("cameras", {})
        if not isinstance(cameras, Mapping) or not all(isinstance(value, Mapping) for value in cameras.values()):
            raise UsageError(
                'In the hook data, "cameras" is not a table of camera names.',
                next_step='Write it like this: "cameras": {"CAM_A": {"plan": "pro"}}.',
            )
        self._global = data
        self._cameras: Mapping[str, Mapping[str, Any]] = cameras
        self.warnings: list[str] = []
        self._check_keys(data, _SETTINGS, "")
        _check_settings(data, "")
        for key in _TEXTS:
            text_setting(data, key)
        for name, values in cameras.items():
            of = f" of the camera “{shown_start(name)}”"
            self._check_keys(values, _OF_A_CAMERA, of)
            _check_settings(values, of)
        for name in (None, *cameras):
            self._warn_of_raised_height(name)

    def values_for(self, camera_name: str) -> dict[str, Any]:
        """The camera's `actual_values`, as the registration takes them."""
        plan = self._value(camera_name, "plan")
        values: dict[str, Any] = {
            "plan": {"is_multiselect": False, "options": [{"name": "Plan", "value": str(plan or "plus").upper()}]}
        }
        for key in IMAGE_SIZES:
            size = self._value(camera_name, key)
            if size is not None:
                values[key] = {"options": [{"name": key, "value": int(size)}]}
        return values

    def cameras_without_plan(self, camera_names: Sequence[str]) -> list[str]:
        """Those that will be registered under PLUS because nothing else was said."""
        return [name for name in camera_names if self._value(name, "plan") is None]

    def warnings_about_names(self, registered: Sequence[str], told: set[tuple[str, str | None]]) -> list[str]:
        """What the user should know of settings that no camera gets, while others get those for all cameras: it may be
        one camera under two names, and a plan is paid for.

        There is nothing to say when each camera has settings of its own: a file of settings may be for many folders.
        `registered` names all cameras registered so far; `told` keeps what has been said, which is said once.
        """
        without_own = [name for name in registered if name not in self._cameras]
        if not without_own:
            return []
        unused = {name: _closest_camera(name, without_own) for name in self._cameras if name not in registered}
        new = {name: close for name, close in unused.items() if (name, close) not in told}
        told.update(new.items())
        warnings = [
            f"The hook data has settings for the camera “{shown_start(name)}”, from which there is nothing to send now,"
            f" and none for “{shown_start(close)}”, which gets those for all cameras. Is it the same camera? Then write"
            " its name in the hook data as it is read from the files."
            for name, close in new.items()
            if close is not None
        ]
        if others := [name for name, close in new.items() if close is None]:
            warnings.append(
                f"The hook data has settings for {_quoted(others)}, from which there is nothing to send now."
                f" The settings for all cameras are used for {_quoted(without_own)}."
            )
        return warnings

    def _check_keys(self, values: Mapping[str, Any], known: Sequence[str], of: str) -> None:
        """Warn of what is no setting: it may be there for another program, and it may be a slip of the pen."""
        unused = []
        for key in values:
            if key in known:
                continue
            close = difflib.get_close_matches(key.casefold(), known, n=1, cutoff=_CLOSE_KEYS)
            if close and key.casefold() == close[0] and close[0] in values:
                raise UsageError(
                    f"The hook data has both “{key}” and “{close[0]}”{of}: only one of them can count.",
                    next_step=f"Keep “{close[0]}”, written with small letters, and take the other one out.",
                )
            if close:
                slip = f"“{shown_start(key)}”{of} is no setting of Camio, and is not used"
                self.warnings.append(f"Hook data: {slip}; is “{close[0]}” meant?")
            else:
                unused.append(f"“{shown_start(key)}”")
        if unused:
            self.warnings.append(f"Hook data: {', '.join(unused)}{of} {'is' if len(unused) == 1 else 'are'} not used.")

    def _value(self, camera_name: str | None, key: str) -> Any:
        own = self._cameras.get(camera_name, {}).get(key) if camera_name is not None else None
        return self._global.get(key) if own is None else own

    def _warn_of_raised_height(self, name: str | None) -> None:
        extraction = self._value(name, "img_y_size_extraction")
        others = [self._value(name, key) for key in ("img_y_size", "img_y_size_cover")]
        larger = max((int(size) for size in others if size is not None), default=0)
        if extraction is not None and larger > int(extraction):
            of = "" if name is None else f" of the camera “{name}”"
            self.warnings.append(
                f"Camio will raise img_y_size_extraction{of} from {extraction} to {larger}: pictures cannot be"
                " taken out at a smaller height than they are stored with."
            )


def _closest_camera(name: str, candidates: Sequence[str]) -> str | None:
    """The candidate of which the name may be another way of writing.

    Cameras are told apart by numbers and single letters, in which two names must agree: CAM_A is not CAM_B.
    """
    words = _words(name)
    best, most = None, 0.0
    for candidate in candidates:
        others = _words(candidate)
        if "".join(words) == "".join(others):
            return candidate
        if _marks(words) != _marks(others):
            continue
        likeness = difflib.SequenceMatcher(None, "".join(words), "".join(others)).ratio()
        if likeness >= _CLOSE_NAMES and likeness > most:
            best, most = candidate, likeness
    return best


def _words(name: str) -> list[str]:
    """`Deck-cam07` -> `deck`, `cam`, `7`."""
    return [
        word.lstrip("0") or "0" if word.isdigit() else word for word in re.findall(r"\d+|[^\W\d_]+", name.casefold())
    ]


def _marks(words: Sequence[str]) -> list[str]:
    return [word for word in words if word.isdigit() or len(word) == 1]


def _quoted(names: Sequence[str]) -> str:
    """`“A”, “B”, “C” and 5 others`."""
    rest = f" and {count(len(names) - 3, 'other')}" if len(names) > 3 else ""
    return ", ".join(f"“{shown_start(name)}”" for name in names[:3]) + rest


def _check_settings(values: Mapping[str, Any], of: str) -> None:
    plan = values.get("plan")
    if plan is not None and str(plan).lower() not in PLANS:
        raise UsageError(
            f"The hook data gives the plan{of} as “{plan}”, which Camio does not have.",
            next_step=f"Use one of: {', '.join(PLANS)}.",
        )
    for key in IMAGE_SIZES:
        size = values.get(key)
        if size is None:
            continue
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= 20000:
            raise UsageError(
                f"The hook data gives {key}{of} as {size!r}.", next_step="Give a whole number of pixels, such as 1080."
            )
