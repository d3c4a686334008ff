"""A gateway pair in one process on loopback, between a plain MMS server and plain MMS clients of fastsec itself."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from fastsec.aio.client import plain_connect
from fastsec.aio.endpoints import forget_identities
from fastsec.aio.handler import Reject
from fastsec.aio.loop import run as run_loop
from fastsec.aio.server import Server, plain_serve
from fastsec.aio.stream import AssociationStream, streams
from fastsec.envs.osi import OsiAddress, OsiParams
from fastsec.gateway import service, settings
from fastsec.gateway.runner import Runner
from fastsec.gateway.service import Gateway
from fastsec.pki.identity import OsiName
from fastsec.pki.trial import TrialAuthority

CC, DER, OTHER = OsiName("1.1.1.999.1", 12), OsiName("1.1.1.999.2", 12), OsiName("1.1.1.999.3", 12)

INITIATE_REQUEST = bytes.fromhex("a826800300fde881010582010583010aa416800101810305f100820c03ee1c00000408000079ef18")
INITIATE_RESPONSE = bytes.fromhex("a926800300fde881010582010583010aa416800101810305f100820c03ee1c000000000000000118")
INITIATE_ERROR = bytes.fromhex("aa05a003880103")
CONCLUDE_REQUEST, CONCLUDE_RESPONSE = b"\x8b\x00", b"\x8c\x00"


def confirmed(number: int, size: int = 8) -> bytes:
    """A confirmed-Request with this invokeID and so many octets of service."""
    body = b"\x02\x04" + number.to_bytes(4, "big") + b"\xa4\x83" + size.to_bytes(3, "big") + bytes(size)
    return b"\xa0\x83" + len(body).to_bytes(3, "big") + body


def answer_to(pdu: bytes) -> bytes:
    """The confirmed-Response that the test's MMS server gives: the same content."""
    return CONCLUDE_RESPONSE if pdu == CONCLUDE_REQUEST else b"\xa1" + pdu[1:]


class Records(logging.Handler):
    """What the gateways logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((record.getMessage(), getattr(record, "fields", {})))

    def about(self, words: str) -> list[dict[str, Any]]:
        """The fields of all records with these words."""
        return [fields for message, fields in self.lines if words in message]

    def events(self) -> list[str]:
        """The events logged, by mnemonic."""
        return [fields["mnemonic"] for _, fields in self.lines if "mnemonic" in fields]

    def __str__(self) -> str:
        return "\n".join(f"{message} {fields}" for message, fields in self.lines)


def free_port() -> int:
    """Below the ports that the system gives to outgoing connections: one of the tests' own would take it."""
    while True:
        port = secrets.randbelow(12_000) + 20_000
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


@cache
def authority(directory: Path) -> TrialAuthority:
    """A trial authority with what the tests need."""
    made = TrialAuthority.create(directory, time.time_ns() // 1_000_000)
    for name, osi in (("cc", CC), ("der", DER), ("other", OTHER)):
        made.issue_e2e(name, osi)
        made.issue_tls(name, ["localhost", "127.0.0.1"])
    return made


HEAD = """\
[identity]
certificate = "{name}.e2e.pem"
key = "{name}.e2e.key"
[trust]
anchors = ["root.pem"]
crls = ["root.crl.pem"]
[gateway]
drain = "5s"
"""
TLS = """\
[tls]
certificate = "{name}.tls.pem"
key = "{name}.tls.key"
anchors = ["root.pem"]
server_name = "localhost"
"""


@dataclass
class Pair:
    """Two gateways and what stands around them."""

    pki: Path
    cc: Gateway
    der: Gateway
    near: int
    records: Records
    served: list[AssociationStream] = field(default_factory=list)

    @property
    def cc_route(self) -> Runner:
        return self.cc.runners[0]

    @property
    def der_route(self) -> Runner:
        return self.der.runners[0]

    async def client(self, **changes: Any) -> AssociationStream:
        """A plain client, connected through the pair."""
        values: dict[str, Any] = {"initiate": INITIATE_REQUEST, "osi": plain(), **changes}
        osi = values.pop("osi")
        return await plain_connect(f"osi://127.0.0.1:{self.near}", osi, **values)

    async def open_bridges(self, count: int) -> None:
        """Wait until so many associations are relayed on both gateways."""
        await until(lambda: self.cc_route.associations == count and self.der_route.associations == count)

    async def no_bridges(self) -> None:
        """Wait until nothing of any association is left."""
        await until(lambda: not self.cc_route.bridges and self.der_route.associations == 0)


def plain(**changes: Any) -> OsiParams:
    """OSI parameters of the plain peers."""
    return OsiParams(security=False, local=OsiAddress(ap_title="1.1.999.1", ae_qualifier=12), **changes)


async def until(condition: Callable[[], bool], within: float = 10.0) -> None:
    """Wait until ``condition()`` holds."""
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110  # what is waited for is the state of several objects
            await asyncio.sleep(0.005)


async def echo(stream: AssociationStream) -> None:
    """The MMS server of the tests."""
    async for pdu in stream:
        await stream.send(answer_to(pdu))


Answer = bytes | Callable[[AssociationStream, bytes], "bytes | Reject | Awaitable[bytes | Reject]"]


@contextlib.asynccontextmanager
async def gateways(
    pki: Path,
    *,
    tls: bool = False,
    reverse: bool = False,
    serve: Callable[[AssociationStream], Awaitable[None]] = echo,
    answer: Answer = INITIATE_RESPONSE,
    cc_extra: str = "",
    der_extra: str = "",
    cc_head: str = "",
    der_head: str = "",
    cc_name: str = "cc",
    der_name: str = "der",
    peer: OsiName = DER,
    peers: OsiName = CC,
    server: bool = True,
    server_osi: OsiParams | None = None,
) -> AsyncIterator[Pair]:
    """A pair of gateways with a plain server behind the second."""
    authority(pki)
    forget_identities()
    near, far, plain_port = free_port(), free_port(), free_port()
    records = Records()
    logger = logging.getLogger("fastsec.gateway")
    logger.addHandler(records)
    logger.setLevel(logging.DEBUG)
    served: list[AssociationStream] = []

    async def serve_one(stream: AssociationStream) -> None:
        served.append(stream)
        await serve(stream)

    cc_dial = f'dial = "in"\nfar_listen = "127.0.0.1:{far}"\n' if reverse else f'connect = "127.0.0.1:{far}"\n'
    der_dial = f'dial = "out"\nfar_connect = "127.0.0.1:{far}"\n' if reverse else f'listen = "127.0.0.1:{far}"\n'
    texts = {
        "cc": HEAD.format(name=cc_name)
        + (TLS.format(name=cc_name) if tls else "")
        + cc_head
        + f'[[route]]\nname = "north"\nrole = "client"\nlisten = "127.0.0.1:{near}"\npeer = "{peer}"\n'
        + f"{cc_dial}{cc_extra}",
        "der": HEAD.format(name=der_name)
        + (TLS.format(name=der_name) if tls else "")
        + der_head
        + f'[[route]]\nname = "plant"\nrole = "server"\nconnect = "127.0.0.1:{plain_port}"\npeers = ["{peers}"]\n'
        + f"{der_dial}{der_extra}",
    }
    made: list[Gateway] = []
    plain_server: Server | None = None
    try:
        if server:
            plain_server = await plain_serve(
                streams(serve_one, answer), f"osi://127.0.0.1:{plain_port}", server_osi or plain()
            )
        for name in ("der", "cc"):
            gateway, _ = service.prepare(settings.parse(texts[name], pki / f"{name}.toml"))
            made.append(gateway)
            await gateway.start()
        pair = Pair(pki, made[1], made[0], near, records, served)
        if reverse:
            await until(lambda: pair.cc_route.waiting > 0)
        yield pair
    finally:
        for gateway in made:
            await gateway.end()
        if plain_server is not None:
            await plain_server.close(0)
        logger.removeHandler(records)
        logger.setLevel(logging.NOTSET)
        forget_identities()


def run(test: Coroutine[Any, Any, None], within: float = 60.0) -> None:
    """Run one test on the loop of operation."""

    async def limited() -> None:
        async with asyncio.timeout(within):
            await test

    run_loop(limited())


if "FASTSEC_TEST_LOG" in os.environ:
    logging.basicConfig(level=logging.DEBUG)
