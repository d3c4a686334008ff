"""sd_notify: what systemd would read, and silence where there is no systemd."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from fastsec.gateway.notify import Notifier


def test_messages_arrive(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        listener.settimeout(5)
        notifier = Notifier({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getpid())})
        assert notifier.watchdog == 5.0
        assert notifier.ready("3 routes\nFORGED=1")
        assert listener.recv(1000) == b"READY=1\nSTATUS=3 routes"
        assert notifier.reloading()
        assert listener.recv(1000).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert notifier.alive("")
        assert listener.recv(1000) == b"WATCHDOG=1\nSTATUS="
        assert notifier.stopping("bye")
        assert listener.recv(1000) == b"STOPPING=1\nSTATUS=bye"


def test_abstract_socket() -> None:
    name = f"fastsec-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{name}")
        listener.settimeout(5)
        assert Notifier({"NOTIFY_SOCKET": f"@{name}"}).ready("up")
        assert listener.recv(1000) == b"READY=1\nSTATUS=up"


def test_without_systemd_nothing_happens(tmp_path: Path) -> None:
    assert not Notifier({}).ready("up")
    assert not Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready("up")
    assert Notifier({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}).watchdog is None
    assert Notifier({"WATCHDOG_USEC": "x"}).watchdog is None
