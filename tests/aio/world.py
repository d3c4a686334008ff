"""Identities, a handler that records, and pairs of associations over loopback."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses

from fastsec._core.pk import PrivateKey
from fastsec.aio.client import connect_handler, plain_connect_handler
from fastsec.aio.handler import AssociationHandler
from fastsec.aio.server import Server, plain_serve, serve
from fastsec.config import Config
from fastsec.envs.osi import OsiParams
from fastsec.instant import now
from fastsec.pki.credential import SoftwareSigner, make_credential
from fastsec.pki.identity import OsiName
from fastsec.pki.path import TrustStore
from fastsec.pki.trial import TrialAuthority

INITIATE = bytes.fromhex("a803800101")  # shaped like an MMS initiate-Request
RESPONSE = bytes.fromhex("a903800102")
PDU = bytes.fromhex("a0050102030405")
CENTRE = OsiName.parse("1.1.1.999.1:12")
DER = OsiName.parse("1.1.1.999.2:12")
PLAIN = OsiParams(security=False)


async def until(condition, seconds: float = 5) -> None:
    """Wait for something that has no event of its own."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


class World:
    """A trial authority and the configurations of two identities."""

    def __init__(self) -> None:
        self.authority = TrialAuthority.in_memory(now().utc_ms)
        self.centre = self.config(CENTRE)
        self.der = self.config(DER)

    def config(self, name: OsiName, **more) -> Config:
        issued = self.authority.issue_e2e(str(name).replace(":", "_"), name)
        signer = SoftwareSigner(PrivateKey.from_pem(issued.key_pem, None))
        credential = make_credential(issued.certificate, (), signer)
        trust = TrustStore([self.authority.root], [self.authority.crl])
        return Config(credential=credential, trust=trust, **more)

    def events(self, config: Config) -> tuple[Config, list[str]]:
        """``config`` with a sink that notes mnemonics."""
        noted: list[str] = []
        return dataclasses.replace(config, sink=lambda event: noted.append(event.mnemonic)), noted


class Recorder(AssociationHandler):
    """Notes every callback; ``wait(name)`` waits for the first of a kind."""

    def __init__(self, echo: bool = False) -> None:
        self.echo = echo
        self.calls: list[str] = []
        self.pdus: list[bytes] = []
        self.assoc = None
        self.error = None
        self._news = asyncio.Event()

    def note(self, name: str, assoc) -> None:
        self.calls.append(name)
        self.assoc = assoc
        self._news.set()

    async def wait(self, name: str) -> None:
        await self.until(lambda: name in self.calls)

    async def until(self, condition) -> None:
        while not condition():
            self._news.clear()
            await self._news.wait()

    def association_requested(self, assoc, appl_data):
        self.note("association_requested", assoc)
        return RESPONSE

    def associated(self, assoc) -> None:
        self.note("associated", assoc)

    def pdus_received(self, assoc, pdus) -> None:
        self.pdus += pdus
        self._news.set()
        if self.echo:
            assoc.write_many(pdus)

    def confirmed(self, assoc) -> None:
        self.note("confirmed", assoc)

    def resumed(self, assoc) -> None:
        self.note("resumed", assoc)

    def released(self, assoc) -> None:
        self.note("released", assoc)

    def ended(self, assoc, error) -> None:
        self.error = error
        self.note("ended", assoc)

    def event_received(self, assoc, event) -> None:
        self.note(event.mnemonic, assoc)


@dataclasses.dataclass
class Pair:
    """Both ends of one association, by role."""

    client: Recorder
    server: Recorder
    listener: Server

    async def opened(self) -> Pair:
        await self.client.until(lambda: {"associated", "ended"} & set(self.client.calls))
        if self.client.error is not None:
            raise self.client.error
        await self.server.wait("associated")
        return self

    async def ended(self) -> None:
        await self.client.wait("ended")
        await self.server.wait("ended")


KINDS = ("secured", "secured-tls", "plain")


@contextlib.asynccontextmanager
async def pair(world: World, authority, kind="secured", dials="client", client=None, server=None, **configs):
    """Dial one association; leaving the block closes the listener and checks that nothing is left.

    Arguments:
        kind: one of KINDS.
        dials: which role dials TCP.
        client, server: handlers instead of Recorders.
        configs: ``client_config``, ``server_config``.
    """
    client, server = client or Recorder(), server or Recorder()
    tls = authority.config("client") if kind.endswith("tls") else None
    tls_accepting = authority.config("server") if kind.endswith("tls") else None
    config = {
        "client": configs.get("client_config") or world.centre,
        "server": configs.get("server_config") or world.der,
    }
    accepts = "server" if dials == "client" else "client"
    handler = {"client": client, "server": server}
    extra = {"client": {"peer": DER, "initiate": INITIATE}, "server": {}}
    if kind == "plain":
        extra["client"] = {"initiate": INITIATE}
        opening = plain_serve(lambda: handler[accepts], "osi://127.0.0.1:0", PLAIN, role=accepts, **extra[accepts])
    else:
        opening = serve(
            lambda: handler[accepts],
            "osi://127.0.0.1:0",
            config[accepts],
            tls=tls_accepting,
            role=accepts,
            **extra[accepts],
        )
    listener = await opening
    host, port = listener.addresses[0]
    address = f"osi://{host}:{port}"
    try:
        if kind == "plain":
            connection = await plain_connect_handler(handler[dials], address, PLAIN, role=dials, **extra[dials])
        else:
            connection = await connect_handler(
                handler[dials], address, config[dials], tls=tls, role=dials, **extra[dials]
            )
        made = Pair(client, server, listener)
        yield made
        connection.abort()
        await listener.close(0)
        assert not listener.connections
        assert listener.half_open == 0
    finally:
        await listener.close(0)
