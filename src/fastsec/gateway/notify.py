"""Telling systemd how the service is doing (sd_notify), without a dependency."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from typing import Final

_ABSTRACT: Final = "@"


class Notifier:
    """Sends state to the service manager; silent where there is none.

    Arguments:
        environ: where ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID`` are looked up.
    """

    __slots__ = ("_address", "watchdog")

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        env = os.environ if environ is None else environ
        address = env.get("NOTIFY_SOCKET", "")
        # An abstract socket's name starts with NUL, which the variable writes as @.
        self._address = "\0" + address[1:] if address.startswith(_ABSTRACT) else address
        interval = env.get("WATCHDOG_USEC", "")
        ours = env.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        #: seconds between two signs of life, half of what systemd waits; None where it does not watch
        self.watchdog = int(interval) / 2_000_000 if interval.isdigit() and int(interval) and ours else None

    def send(self, **fields: object) -> bool:
        """Send fields such as ``READY=1``; False if nobody listens. Never raises."""
        if not self._address:
            return False
        text = "\n".join(f"{name}={str(value).splitlines()[0] if str(value) else ''}" for name, value in fields.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)
                sock.sendto(text.encode(), self._address)
        except OSError:
            return False
        return True

    def ready(self, status: str) -> bool:
        """Up, or up again after ``reloading``."""
        return self.send(READY=1, STATUS=status)

    def reloading(self) -> bool:
        """Configuration is being read again."""
        return self.send(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)

    def stopping(self, status: str) -> bool:
        """On the way down."""
        return self.send(STOPPING=1, STATUS=status)

    def alive(self, status: str) -> bool:
        """The sign of life for the watchdog."""
        return self.send(WATCHDOG=1, STATUS=status)
