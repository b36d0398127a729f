"""Asking for a job: what is asked for, and what a failure means for the ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from camio_import.errors import CredentialsRefused, Refused, RetryLater, Unreachable
from camio_import.model import Camera, JobRequest, RecordedClip
from camio_import.state import JobOutline


def request_for(
    outline: JobOutline, cameras: Mapping[str, Camera], clips: Callable[[], Iterator[RecordedClip]]
) -> JobRequest:
    """The request for a job that holds what `outline` says."""
    return JobRequest(
        cameras=tuple(cameras[name] for name in outline.camera_names),
        item_count=outline.item_count,
        earliest=outline.earliest,
        latest=outline.latest,
        clips=clips,
    )


def is_surely_not_created(error: BaseException) -> bool:
    """Whether the service has no job from an attempt that ended so. Otherwise it may have an empty one."""
    if isinstance(error, Unreachable):
        return not error.may_have_arrived
    return isinstance(error, RetryLater | Refused | CredentialsRefused)
