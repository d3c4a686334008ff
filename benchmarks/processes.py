"""Child processes of the benchmarks: started on free ports, stopped by their own process id."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def child(argv: Sequence[str], *, log: Path) -> Iterator[subprocess.Popen[str]]:
    """A child whose standard input stays open as long as it may run; its standard error goes to ``log``."""
    with log.open("w") as errors:
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        yield process
    finally:
        if process.stdin:
            process.stdin.close()
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()


@contextlib.contextmanager
def ready(argv: Sequence[str], *, log: Path) -> Iterator[int]:
    """A child that prints ``READY port``; gives the port."""
    with child(argv, log=log) as process:
        assert process.stdout
        line = process.stdout.readline().split()
        if len(line) != 2 or line[0] != "READY":
            raise RuntimeError(f"{argv[1]} did not start: {log.read_text()[-500:]}")
        yield int(line[1])


def wait_for(port: int, seconds: float = 10) -> None:
    """Until somebody listens on the port."""
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise RuntimeError(f"nobody listens on port {port}") from None
            time.sleep(0.05)


@contextlib.contextmanager
def plain_server(folder: Path) -> Iterator[int]:
    with ready([sys.executable, str(HERE / "plain.py")], log=folder / "plain.log") as port:
        yield port


@contextlib.contextmanager
def stunnel_pair(folder: Path, server_port: int) -> Iterator[int]:
    """Two stunnel processes with mutual certificates, TLS 1.3, full handshakes; gives the port of the plain side."""
    path = shutil.which("stunnel", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin:/sbin")
    if path is None:
        raise RuntimeError("stunnel is not installed (scripts/system-packages.sh bench)")
    near, far = free_port(), free_port()
    common = """foreground = yes
pid =
debug = err
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
sessionResume = no
[mms]
verifyChain = yes
CAfile = {folder}/ca.pem
cert = {folder}/{name}.pem
sslVersionMin = TLSv1.3
"""
    settings = {
        "client": f"client = yes\naccept = 127.0.0.1:{near}\nconnect = 127.0.0.1:{far}\n",
        "server": f"accept = 127.0.0.1:{far}\nconnect = 127.0.0.1:{server_port}\n",
    }
    with contextlib.ExitStack() as stack:
        for name in ("server", "client"):
            file = folder / f"stunnel-{name}.conf"
            file.write_text(common.format(folder=folder, name=name) + settings[name])
            stack.enter_context(child([path, str(file)], log=folder / f"stunnel-{name}.log"))
        wait_for(far)
        wait_for(near)
        yield near
