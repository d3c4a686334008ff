"""Responders and CRL servers for tests, all on loopback: ``openssl ocsp``, and servers that answer whatever is set."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from fastsec.pki import builder, oids
from fastsec.pki.certificate import Certificate
from fastsec.pki.trial import TrialAuthority


class Http:
    """A small HTTP server on loopback. ``answers[path](headers and all, body)`` gives the whole answer.

    Attributes:
        url: without path.
        hits: paths asked for, in order.
        heads: what was said before the body.
    """

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[bytes], Any]] = {}
        self.hits: list[str] = []
        self.tasks: list[Any] = []
        self.heads: list[str] = []
        self.raw: dict[str, Callable[[asyncio.StreamWriter], Awaitable[None]]] = {}
        self.url = ""

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Http]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tasks.append(asyncio.current_task())
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            path = head.split(" ")[1]
            length = next(
                (int(line[15:]) for line in head.split("\r\n") if line.lower().startswith("content-length:")), 0
            )
            body = await reader.readexactly(length)
            self.hits.append(path)
            self.heads.append(head)
            if path in self.raw:
                await self.raw[path](writer)
                return
            made = self.answers[path](body)
            if asyncio.iscoroutine(made):
                made = await made
            writer.write(made if made.startswith(b"HTTP") else http(made))
            await writer.drain()
        except (OSError, RuntimeError, asyncio.IncompleteReadError, KeyError, asyncio.CancelledError):
            pass  # the other side has gone, or the test is over
        finally:
            writer.close()


def http(body: bytes, status: str = "200 OK", *lines: str) -> bytes:
    """An HTTP answer."""
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *lines, "", ""])
    return head.encode() + body


class OpenSsl:
    """``openssl ocsp`` as the responder: a process per question, behind our HTTP so that it stays on loopback.

    Arguments:
        directory: for its files.
        authority: whose responder it is.
        minutes: until its answers run out.
    """

    def __init__(self, directory: Path, authority: TrialAuthority, minutes: int = 60) -> None:
        self.directory = directory
        self.minutes = minutes
        self.rows: list[str] = []
        directory.mkdir()
        (directory / "ca.pem").write_bytes(pem("CERTIFICATE", authority.root))
        delegate = authority.issue(
            "responder.ocsp",
            builder.text_name(cn="responder"),
            (
                builder.key_usage(oids.KU_DIGITAL_SIGNATURE),
                builder.extended_key_usage(oids.OCSP_SIGNING),
                builder.Extension(oids.OCSP_NO_CHECK, b"\x05\x00"),
            ),
            "p256",
            30,
        )
        (directory / "responder.pem").write_bytes(delegate.certificate_pem + delegate.key_pem)

    def knows(self, certificate: bytes, status: str = "V", reason: str = "") -> None:
        """Write a certificate into the index: ``V`` valid, ``R`` revoked."""
        serial = Certificate(certificate).serial.hex().upper()
        serial = serial[2:] if serial.startswith("00") and len(serial) > 2 else serial
        self.rows = [row for row in self.rows if f"\t{serial}\t" not in row]
        when = f"261101000000Z,{reason}" if reason else "261101000000Z"
        revoked = when if status == "R" else ""
        self.rows.append(f"{status}\t351101000000Z\t{revoked}\t{serial}\tunknown\t/CN={serial}\n")
        (self.directory / "index.txt").write_text("".join(self.rows))

    def __call__(self, request: bytes) -> Any:
        return self._answer(request)

    async def _answer(self, request: bytes) -> bytes:
        return await asyncio.to_thread(self.answer, request)

    def answer(self, request: bytes) -> bytes:
        """The answer of one process."""
        number = len(list(self.directory.glob("request*")))
        asked, answered = self.directory / f"request{number}", self.directory / f"answer{number}"
        asked.write_bytes(request)
        (self.directory / "index.txt").touch()
        command = ["openssl", "ocsp", "-index", "index.txt", "-CA", "ca.pem", "-rsigner", "responder.pem"]
        command += ["-reqin", asked.name, "-respout", answered.name, "-nmin", str(self.minutes)]
        done = subprocess.run(command, cwd=self.directory, capture_output=True, timeout=30, check=False)
        assert answered.exists(), done.stderr.decode()
        return answered.read_bytes()


assert shutil.which("openssl"), "the tests need openssl"


def pem(label: str, der: bytes) -> bytes:
    text = base64.encodebytes(der).decode()
    return f"-----BEGIN {label}-----\n{text}-----END {label}-----\n".encode()
