"""What systemd wants to hear from a service: sd_notify(3), spoken here without its library."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping

from camio_import.display import shown

_log = logging.getLogger("camio_import")

_SEND_TIMEOUT_S = 5.0
"""A manager that reads no messages must not hold up the import."""

_STATUS_CHARACTERS = 400
"""More than anybody reads in `systemctl status`, and far below the limit of a datagram."""


class Notifier:
    """Tells systemd how the service is. Does nothing when systemd did not start this process.

    Nothing here raises: a message that cannot be delivered is a line in the debug log, and the
    import goes on. To be used by one thread.

    Attributes:
        alive_every_s: how often `alive` sends something, or None when systemd does not ask for it. Call it
            at least that often.
    """

    def __init__(self, environment: Mapping[str, str], *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`environment` is the process's; `monotonic` gives seconds of CLOCK_MONOTONIC."""
        self._address = _socket_address(environment.get("NOTIFY_SOCKET", ""))
        self._monotonic = monotonic
        self.alive_every_s = None if self._address is None else _alive_every_s(environment)
        self._last_alive_s: float | None = None
        self._last_status = ""

    def ready(self) -> None:
        """The start, or a reload, is complete."""
        self._send("READY=1")

    def reloading(self) -> None:
        """The configuration is being read again; `ready` has to follow."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={round(self._monotonic() * 1_000_000)}")

    def stopping(self) -> None:
        """The service is on its way to its end."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """One line for people, shown by `systemctl status`. Sent only when it differs from the last one."""
        # A line break would begin another variable, which a file's name could thus set: `shown` escapes it.
        line = shown(text)[:_STATUS_CHARACTERS]
        if line != self._last_status and self._send(f"STATUS={line}"):
            self._last_status = line

    def alive(self) -> None:
        """The work goes on: systemd restarts a service that has not said so for its WatchdogSec.

        Cheap, to be called in every turn of the loop that does the work, and from nowhere else:
        a thread of its own would go on saying so when the loop hangs.
        """
        if self.alive_every_s is None:
            return
        now_s = self._monotonic()
        is_due = self._last_alive_s is None or now_s - self._last_alive_s >= self.alive_every_s
        if is_due and self._send("WATCHDOG=1"):
            self._last_alive_s = now_s

    def _send(self, message: str) -> bool:
        """Whether the message was delivered, or nobody wants it."""
        if self._address is None:
            return True
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to_systemd:
                to_systemd.settimeout(_SEND_TIMEOUT_S)
                to_systemd.connect(self._address)
                to_systemd.send(message.encode("utf-8"))
        except OSError as error:
            _log.debug("systemd could not be told %s: %s", message.partition("\n")[0], error)
            return False
        return True


def _socket_address(text: str) -> str | None:
    """The address for `connect`; None when there is no socket, or none that this process can speak to."""
    if not hasattr(socket, "AF_UNIX"):
        return None
    if text.startswith("@"):
        return "\0" + text[1:]
    return text if text.startswith("/") else None


def _alive_every_s(environment: Mapping[str, str]) -> float | None:
    """Half of the time after which systemd gives up; None when it does not watch this process."""
    limit_us = environment.get("WATCHDOG_USEC", "")
    watched_pid = environment.get("WATCHDOG_PID", str(os.getpid()))
    if not (limit_us.isascii() and limit_us.isdigit()) or int(limit_us) == 0 or watched_pid != str(os.getpid()):
        return None
    return int(limit_us) / 1_000_000 / 2
