"""A hook to copy: the functions that send your videos somewhere else than to Camio.

Copy this file, give the copy a name of its own, and fill in the two places marked TO DO:

    camio-import hooks check ./my_hook.py       is it in order? Nothing is sent
    camio-import --regex "…" ~/videos ./my_hook.py

The importer does the rest. It finds the files, reads camera and time, remembers what was sent, waits
and tries again when the service is away, and carries on after a power cut. A hook makes one attempt
at one thing, and says how it ended: it returns a value, or raises one of these errors.

    raise …              means                                  and the importer then
    -------------------- -------------------------------------- -----------------------------------------
    Unreachable          nobody answers                         waits, and tries the same file again; no
                                                                file is given up for it
    RetryLater           it answers, but not now;               tries again later, or in the next run;
                         busy=True: it is full or overloaded    busy: everything waits, as for Unreachable
    Refused              it will never take this file           notes the file as failed, and goes on
    CredentialsRefused   password or token are wrong            stops the run
    UsageError           a setting is missing or wrong          stops the run
    BadAnswer            it answers, but makes no sense         stops the run

Each takes a message, which is shown to whoever runs the import, and a next step: what they can do.

    raise Refused("The server says that the video is too long.", next_step="Cut it in two.")

Network errors of Python and of the library `requests` that you do not catch count as Unreachable.
Any other error counts as a defect of the hook: the file is noted as failed, and after five in a row
the run stops. `print` writes to the log (--log_file), not to the screen.

Whatever a function is given, it is given by name: keep the names of the arguments as they are.
docs/hooks.md says more; examples/archive_copy.py is a hook that does real work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from camio_import.content import open_body
from camio_import.errors import Refused
from camio_import.hooks import Camera, HookContext, Receipt
from camio_import.model import HashedClip, utc_milliseconds

THREAD_SAFE = False
"""True: `post_clip` may run several times at once, for several files. Leave it at False if unsure."""

# HOOK_NAME = "my-lab"
# Under this name the importer keeps the list of what was sent. Without it, it is the file's name, so
# that a renamed hook would send everything again. Two hooks of one name share one list. If your hook
# sends to several places, each needs a list of its own: define place(*, data), which returns a text
# that names the place to which the settings in `data` send.

settings: dict[str, Any] = {}
"""What the user gave with --hook_data_json or --hook_data_json_file, set by `configure`."""


def configure(*, context: HookContext) -> None:
    """Take the settings. Optional; called once, before everything else. Nothing may be sent here.

    `context.data` is what the user wrote in JSON; `context.host` and `context.port` the address at
    the end of the command line (host is None when there was none); `context.logger` writes to the
    log; `context.environment` holds the variables whose names begin with CAMIO_.

    Raise `UsageError` when a setting is missing or wrong:

        if "url" not in context.data:
            raise UsageError(
                "The address of the server is not set.",
                next_step='Give it after the option -d: \'{"url": "https://videos.example.org"}\'',
            )
    """
    settings.update(context.data)


def connect() -> None:
    """Find out whether the service is there. Optional; called once, when there is something to send.

    It is the place to log in. Raise `Unreachable` when nobody answers, `CredentialsRefused` when the
    password is wrong: then the user knows at once, and not after an hour of reading files.
    """


def register_cameras(*, camera_names: Sequence[str]) -> Mapping[str, Camera]:
    """Make the cameras known to the service. Required; called once in each run that has something to send.

    Must return one `Camera` for each name, and not before their clips can be taken. `camera_id` is
    what the service calls the camera; `config` may hold anything you want to find in `post_clip`.
    A service that knows no cameras is served by this:
    """
    return {name: Camera(name=name, camera_id=name, config={}) for name in camera_names}


def post_clip(
    *, clip: HashedClip, camera: Camera, progress: Callable[[int], None], cancelled: Callable[[], bool]
) -> Receipt:
    """Send one file. Required; called once for each file, and again for one that was put off.

    What there is to know about the file:

        clip.clip.file.path          where it is
        clip.clip.file.size_bytes    how long it is
        clip.sha1                    SHA-1 of its bytes, 40 hex digits
        clip.clip.camera_name        as read with --regex
        clip.clip.starts_at          when it starts, a datetime in UTC
        clip.clip.duration_s         seconds, or None when the file does not say
        clip.clip.lat, .lng          position, or None
        camera                       what register_cameras returned for its camera

    Must return `Receipt(bytes_sent=…)`, with all the file's bytes, once the service has said that it
    has the file: then it is never sent again. The same file may come twice (when the power failed
    before the answer), so sending one that is already there must do no harm.

    Call `progress(count)` after each part with the number of bytes just sent, and raise `Cancelled`
    when `cancelled()` is true. `open_body` does both: it is an open file to read from, or to give to
    `requests` as `data=`. It never gives more bytes than the file had, and notices when the file is
    changed meanwhile.
    """
    with open_body(clip.clip.file, progress=progress, cancelled=cancelled, sha1=clip.sha1, checksum=clip.checksum):
        # TO DO: send it. With the library requests, for example (open_body(…) as body, above):
        #
        #   answer = requests.post(
        #       settings["url"],
        #       params={"camera": camera.camera_id, "start": utc_milliseconds(clip.clip.starts_at)},
        #       data=body,
        #       timeout=60,
        #   )
        #   if answer.status_code in (429, 503):
        #       raise RetryLater("The server is busy.", busy=True)
        #   if answer.status_code >= 500:
        #       raise RetryLater(f"The server failed ({answer.status_code}).")
        #   if answer.status_code in (401, 403):
        #       raise CredentialsRefused("The server does not accept the password.")
        #   if answer.status_code not in (200, 201, 204):
        #       raise Refused(f"The server does not take the file ({answer.status_code}).")
        #   body.check_unchanged()
        #   return Receipt(bytes_sent=clip.clip.file.size_bytes)
        #
        # TO DO: then take the next three lines away.
        start = utc_milliseconds(clip.clip.starts_at)
        message = f"Sending is not written yet, so the clip of {camera.name} at {start} was not sent."
        raise Refused(message, next_step="Fill in post_clip in the hook module.")


def close() -> None:
    """After the last call, also when the run was stopped. Optional; close what `connect` opened."""


# --- only for services that want to be told beforehand what will come ---------------------------------
#
# Optional, and rare. Most hooks have no use for jobs: leave these lines as they are.
#
# from camio_import.hooks import JobPlan, JobRequest, Shard, ShardReport
#
# def create_job(*, request: JobRequest) -> JobPlan:
#     """Announce the clips that will follow. Called once in each run that has new files.
#
#     `request` has `cameras`, `item_count` (how many clips), `earliest` and `latest` (datetimes in
#     UTC), and `clips()`, which gives them one by one; their `sha1` is None unless
#     NEEDS_ALL_HASHES = True stands in the module, which makes the importer read all files first.
#     A job's clips come in parts (shards); their item counts must add up to `request.item_count`.
#     """
#     return JobPlan(job_id="job-1", shards=(Shard(shard_id="0", item_count=request.item_count),))
#
#
# def register_shard(*, report: ShardReport) -> None:
#     """Say which clips of a shard have arrived: `report.delivered`. Needs `create_job`.
#
#     Called when each clip of it was sent or given up, and again when more of them are sent later.
#     """
#     print(report.job_id, report.shard.shard_id, len(report.delivered))
