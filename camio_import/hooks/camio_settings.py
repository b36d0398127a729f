"""What the hook data says of cameras: plans and image sizes. Checked before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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
        _check_settings(data, "")
        for name, values in cameras.items():
            _check_settings(values, f" of the camera “{name}”")
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
