"""`camio-import --watch` and `--config station.toml`: watches folders until it is stopped.

A *session* is one beginning: settings read, ledger opened, hook made, folders watched. Whatever ends
one but a stop leads to the next one after a while: since every run carries on where the last one was
cut off, beginning anew is also the way to mend things.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from camio_import import __version__
from camio_import.cli import show_error
from camio_import.cli.import_command import split_targets
from camio_import.cli.logs import ALREADY_SHOWN
from camio_import.cli.options import box_address, environment, extensions_from, is_terminal, reader_from
from camio_import.cli.settings import TOKEN_VARIABLE, FolderSettings, Settings, settings_from, variables_with_token
from camio_import.cli.start_checks import check_new_session, refuse_files_as_folders
from camio_import.cli.stopping import stop_on_signals
from camio_import.cli.wiring import hook_data_of, open_parts, show_end
from camio_import.display import count, duration
from camio_import.errors import CamioImportError
from camio_import.lookout import FolderToWatch
from camio_import.systemd import Notifier
from camio_import.watch import Watcher, WatchOptions
from camio_import.watch_notes import FolderState
from camio_import.workers import StopRequest

log = logging.getLogger("camio_import")

FIRST_WAIT_S = 5.0
LONGEST_WAIT_S = 300.0
STATUS_EVERY_S = 2.0
LONG_SESSION_S = 600.0
"""After a session that lasted so long, the next trouble is a new one."""


@dataclass(slots=True)
class _Station:
    """What outlives a session.

    `is_asked_to_reload` is set by the signal; `next_settings` is what was then read, for the next
    session. `is_ready` says that systemd was told of the present one, `token` is what that began with.
    """

    settings: Settings
    notifier: Notifier
    is_asked_to_reload: bool = False
    next_settings: Settings | None = None
    wait_s: float = FIRST_WAIT_S
    has_watched: bool = False
    is_ready: bool = False
    token: str = field(default="", repr=False)
    status_due_at: float = 0.0

    def ask_to_reload(self) -> None:
        """Safe to call from a signal handler."""
        self.is_asked_to_reload = True


def run_watch(settings: Settings) -> int:
    """Watch the folders until asked to stop, and return the exit status.

    Raises:
        CamioImportError: the first session could not begin. Later ones are tried until they can.
    """
    refuse_files_as_folders(settings)
    station = _Station(settings, Notifier(os.environ))
    # Closing the terminal ends a watch that was typed there; a service is told to read its settings anew.
    on_hangup = None if is_terminal(sys.stdin) else station.ask_to_reload
    stop = StopRequest()
    with stop_on_signals(stop, on_hangup=on_hangup, is_quiet=settings.options.quiet):
        while not stop.is_set():
            _session(station, StopRequest(parent=stop))
            if station.next_settings is not None:
                station.settings, station.next_settings = station.next_settings, None
    station.notifier.stopping()
    return int(stop.exit_code or 0)


def _session(station: _Station, stop: StopRequest) -> None:
    """One session, to its end."""
    began_at = time.monotonic()
    with ExitStack() as stack:
        try:
            _watch(station, stop, stack)
        except CamioImportError as error:
            if not station.has_watched:
                raise
            _say(error)
        # Whatever it is: an unattended station goes on, and the log has the details.
        except Exception as error:
            if not station.has_watched:
                raise
            log.error("the watch was interrupted by a defect: %s", error, exc_info=error, extra=ALREADY_SHOWN)
            _say(CamioImportError(f"Something unexpected went wrong ({type(error).__name__}: {error})."))
        if not stop.is_set() and station.next_settings is None:
            _wait(station, stop)
    if time.monotonic() - began_at > LONG_SESSION_S:
        station.wait_s = FIRST_WAIT_S


def _watch(station: _Station, stop: StopRequest, stack: ExitStack) -> None:
    settings, options = station.settings, station.settings.options
    hook_spec, box_text = split_targets(options)
    folders = [_to_watch(folder) for folder in settings.folders]
    station.token = _token(settings)
    parts = open_parts(settings, hook_spec, box_address(box_text, options.port), stop, stack)
    assert parts.hook is not None  # a dry run does not watch
    folders = [replace(folder, reader=replace(folder.reader, probe=parts.guard.probe)) for folder in folders]
    watcher = Watcher(
        parts.ledger, parts.hook, folders,
        WatchOptions(
            parts.destination.label, options.workers, options.retry_failed, options.batch_seconds, options.batch_files
        ),
        reporter=parts.reporter, stop=stop,
        wants_end=lambda: station.next_settings is not None, on_turn=lambda: _on_turn(station, watcher),
    )  # fmt: skip
    log.info("camio-import %s, watching %s", __version__, count(len(folders), "folder"))
    station.has_watched, station.is_ready = True, False
    summary = watcher.run()
    parts.reporter.close()
    if station.next_settings is not None:
        return
    if stop.is_set():
        show_end(summary, options, is_watch=True)
    else:
        _say(CamioImportError(summary.stopped_because, next_step=summary.next_step))


def _to_watch(folder: FolderSettings) -> FolderToWatch:
    options = folder.options
    return FolderToWatch(
        reader_from(options, folder.folder),
        extensions_from(options),
        settle_s=options.settle,
        give_up_s=options.give_up,
        rescan_s=options.rescan,
        poll=options.poll,
    )


def _say(error: CamioImportError) -> None:
    """Why a session ended, to whoever may be looking, and to the log."""
    if log.handlers:  # otherwise logging would print it, too
        log.error("%s %s", error, error.next_step, extra=ALREADY_SHOWN)
    show_error(error)


def _wait(station: _Station, stop: StopRequest) -> None:
    """Before the next session; each time longer."""
    log.info("beginning anew in %s", duration(station.wait_s))
    until = time.monotonic() + station.wait_s
    station.wait_s = min(LONGEST_WAIT_S, 2 * station.wait_s)
    while time.monotonic() < until and not stop.is_set() and station.next_settings is None:
        station.notifier.alive()
        _reload_if_asked(station)
        time.sleep(0.2)


def _reload_if_asked(station: _Station) -> None:
    """Read the settings again; those with which no session could begin leave those that hold."""
    if not station.is_asked_to_reload:
        return
    station.is_asked_to_reload = False
    station.notifier.reloading()
    try:
        settings = settings_from(station.settings.arguments, os.environ)
        check_new_session(settings)
    except CamioImportError as error:
        _say(CamioImportError(f"The settings stay as they were. {error}", next_step=error.next_step))
        station.notifier.ready()
    else:
        station.next_settings = settings
        log.info("the settings were read again")


def _look_for_new_token(station: _Station) -> None:
    """The service refused the token. When another one stands in its place, it is for the next session."""
    try:
        token = _token(station.settings)
    except CamioImportError as error:  # it is being replaced at this moment, or was not replaced rightly
        log.debug("there is no new token yet: %s", error)
        return
    if token != station.token and station.next_settings is None:
        station.next_settings = station.settings
        log.info("there is a new access token: beginning anew with it")


def _token(settings: Settings) -> str:
    """The access token as it stands now in its file, the hook data or the environment; "" for none."""
    data = hook_data_of(settings)
    own = data.get("access_token")
    return str(own or variables_with_token(settings, data, environment()).get(TOKEN_VARIABLE, ""))


def _on_turn(station: _Station, watcher: Watcher) -> None:
    """In each turn of the watch: new settings, and what systemd wants to know."""
    _reload_if_asked(station)
    notifier = station.notifier
    notifier.alive()
    if not station.is_ready:
        station.is_ready = True
        notifier.ready()
    now = time.monotonic()
    if now < station.status_due_at:
        return
    station.status_due_at = now + STATUS_EVERY_S
    if watcher.has_refused_token:
        _look_for_new_token(station)
    paused = sum(status.state is FolderState.PAUSED for status in watcher.statuses)
    landing = sum(status.landing_count for status in watcher.statuses)
    notifier.status(
        f"watching {count(len(watcher.statuses), 'folder')}"
        + (f" ({paused} paused)" if paused else "")
        + f"; sent {watcher.uploaded:,}, {watcher.to_send:,} to send, {landing:,} still being written"
    )
