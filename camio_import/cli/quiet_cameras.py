"""Which cameras have sent nothing for longer than they may: `--max_silence` of `status`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from camio_import.display import duration, moment, shown

if TYPE_CHECKING:
    from camio_import.ledger_report import LedgerReport

CLOCK_SLACK = timedelta(minutes=1)
"""A clock that is set by the network may be set back by so much; an arrival later than that was noted wrongly."""


@dataclass(frozen=True, slots=True)
class SilenceLimits:
    """How long cameras may send nothing. `by_camera_s` wins over `everyone_s`; None: as long as they like."""

    everyone_s: float | None = None
    by_camera_s: Mapping[str, float] = field(default_factory=dict)

    def of(self, camera: str) -> float | None:
        return self.by_camera_s.get(camera, self.everyone_s)


@dataclass(frozen=True, slots=True)
class QuietCamera:
    """A camera that has sent nothing for longer than `limit_s`.

    `last_arrival` and `quiet_for_s` are None when it has never sent anything, or at no time that
    can be believed. `arrival_in_future` is the time of an arrival that lies in the future: the
    clock of this computer was wrong then, or is wrong now.
    """

    name: str
    limit_s: float
    last_arrival: datetime | None
    quiet_for_s: float | None
    arrival_in_future: datetime | None

    @property
    def sentence(self) -> str:
        """In plain words, such as `CAM_A has been quiet for 3 h 10 min (limit 2 h).`"""
        name, limit = shown(self.name), _limit(self.limit_s)
        if self.quiet_for_s is not None:
            said = f"{name} has been quiet for {duration(self.quiet_for_s)} (limit {limit})."
        elif self.arrival_in_future is None:
            said = f"{name} has not sent anything yet (limit {limit})."
        else:
            said = f"{name}: whether it is quiet cannot be told (limit {limit})."
        if self.arrival_in_future is None:
            return said
        return (
            f"{said} Its last arrival was noted for {moment(self.arrival_in_future)} (UTC), which is in the future:"
            " the clock of this computer was wrong then, or is wrong now."
        )


def quiet_cameras(
    report: LedgerReport, limits: SilenceLimits, now: datetime, *, below: str | None = None
) -> list[QuietCamera]:
    """In the order of their names; those that have a limit of their own count even if they never sent anything.

    An arrival in the future is not taken for one, or a wrong clock would hide a silence.
    """
    if limits.everyone_s is None and not limits.by_camera_s:
        return []
    latest = {camera.name: camera.last_arrival for camera in report.cameras(below) if camera.name}
    quiet = []
    for name in sorted({*latest, *limits.by_camera_s}):
        limit_s = limits.of(name)
        if limit_s is None:
            continue
        last, in_future = latest.get(name), None
        if last is not None and last > now + CLOCK_SLACK:
            in_future = last
            last = report.last_arrival(name, not_after=now + CLOCK_SLACK, below=below)
        quiet_for_s = None if last is None else max(0.0, (now - last).total_seconds())
        if quiet_for_s is None or quiet_for_s > limit_s:
            quiet.append(QuietCamera(name, limit_s, last, quiet_for_s, in_future))
    return quiet


def _limit(seconds: float) -> str:
    """`2 h`, as it was typed, rather than `2 h 00 min`."""
    for unit, factor in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= factor and seconds % factor == 0:
            return f"{seconds / factor:,.0f} {unit}"
    return duration(seconds)
