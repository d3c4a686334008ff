"""Attacks by a man in the middle: a fastsec client talks to the server through an attacker who owns the line.

Each side has an OSI stack of the middle's own, so it handles SecPDUs as they are: it may hold, change, drop, double or
make them. What it does not touch is passed on unchanged.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from aio.world import Recorder
from fastsec.aio.client import connect_handler
from fastsec.control import make_control
from fastsec.envs.osi import (
    AbortInd,
    AssociateCnf,
    AssociateInd,
    DataInd,
    ProviderAbort,
    ReleaseCnf,
    ReleaseInd,
    TransportConnected,
)
from fastsec.envs.osi.indications import Indication
from fastsec.events import DOMAIN_E2E
from fastsec.secpdu.der import assemble, decode, encode_handshake_tbs
from fastsec.secpdu.fields import Carrier, SecPduKind
from forge import flip_last, forge

from . import pki
from .arena import INITIATE, REQUEST, Attempt, World, attack
from .serving import answer_to
from .wire import PATIENCE, Line, TurnedAway, params, utc_ms

UP, DOWN = "up", "down"


class Victim(Recorder):
    """A fastsec client that is attacked, or whose server is."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []

    def event_received(self, assoc, event) -> None:
        if event.id.startswith(DOMAIN_E2E + ":"):  # another may say more about a certificate
            self.events.append(event.mnemonic)
        super().event_received(assoc, event)


async def call(world: World, name: str, port: int) -> Victim:
    """A fastsec client of this name calls the server by way of ``port``."""
    victim = Victim()
    config = world.people.config(name, sink=lambda event: None)
    await connect_handler(victim, f"osi://127.0.0.1:{port}", _configs.setdefault(name, config), peer=pki.SERVER,
                          initiate=INITIATE)  # fmt: skip
    return victim


_configs: dict[str, object] = {}  # one each: associations of one identity share numbers and memory


class Middle:
    """One victim's line.

    Attributes:
        down, up: towards the victim, towards the server.
        victim: the client.
        request, acceptance: the handshake as it passed.
    """

    def __init__(self, world: World, kind: str, name: str) -> None:
        self.world = world
        self.kind = kind
        self.name = name
        self.down: Line
        self.up: Line
        self.victim: Victim
        self.request = b""
        self.acceptance = b""
        self._caught: dict[str, asyncio.Queue[Indication | None]] = {UP: asyncio.Queue(), DOWN: asyncio.Queue()}
        self._holding: set[str] = set()
        self.told = False  # whether this line stands in an attempt
        self._tasks: list[asyncio.Task[None]] = []

    # --- the line ---

    async def start(self, *held: str) -> None:
        """Let the victim call; hold what goes these ways."""
        self._holding = set(held)
        accepted: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
        accepted = asyncio.get_running_loop().create_future()
        listener = await asyncio.start_server(lambda *both: accepted.set_result(both), "127.0.0.1", 0)
        try:
            self.victim = await call(self.world, self.name, listener.sockets[0].getsockname()[1])
            self.down = Line(*await accepted, "responder", params(pki.SERVER))
        finally:
            listener.close()
        self.up = await self.world.dial(self.kind, self.world.people[self.name].name)
        try:
            await self.up.transport()
        except TurnedAway:
            self.close()
            raise TurnedAway(self.up.at) from None
        self._tasks = [
            asyncio.create_task(self._pass(UP, self.down, self.up)),
            asyncio.create_task(self._pass(DOWN, self.up, self.down)),
        ]

    async def _pass(self, way: str, source: Line, target: Line) -> None:
        while (found := await source.take()) is not None:
            if isinstance(found, TransportConnected):
                continue  # each side has its own
            if isinstance(found, AssociateInd):
                self.request = found.user_data
            elif isinstance(found, AssociateCnf) and found.result == "accepted":
                self.acceptance = found.user_data or b""
            if way in self._holding:
                self._caught[way].put_nowait(found)
            else:
                self.hand_on(found, target)
        self._caught[way].put_nowait(None)
        target.end()

    def hand_on(self, found: Indication, target: Line) -> None:
        """Pass an indication on as it came."""
        if target.osi.closed:
            return
        match found:
            case AssociateInd(user_data=pdu):
                target.associate(pdu)
            case AssociateCnf(result="accepted", user_data=pdu):
                target.accept(pdu)
            case AssociateCnf(result=result, user_data=pdu):
                target.reject(pdu, permanent=result == "rejected-permanent")
            case DataInd(pdu=pdu):
                target.data(pdu)
            case ReleaseInd(user_data=pdu):
                target.release(pdu)
            case ReleaseCnf(user_data=pdu):
                target.release_response(pdu)
            case AbortInd(user_data=pdu):
                target.abort(pdu)
            case ProviderAbort():
                target.abort(None)

    def hold(self, way: str) -> None:
        """From now on catch what goes this way."""
        self._holding.add(way)

    def let_go(self, way: str) -> None:
        """Pass on again, beginning with what was not asked for."""
        self._holding.discard(way)
        target = self.up if way == UP else self.down
        while not self._caught[way].empty():
            found = self._caught[way].get_nowait()
            if found is not None:
                self.hand_on(found, target)

    async def caught(self, way: str) -> Indication:
        """The next that was held; TurnedAway if the line was closed instead, as a full server does."""
        async with asyncio.timeout(PATIENCE):
            found = await self._caught[way].get()
        if found is None:
            raise TurnedAway(self.up.at)
        return found

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self.down.close()
        if hasattr(self, "up"):
            self.up.close()

    # --- steps of many attacks ---

    async def exchange(self) -> None:
        """One request and its answer: the association is confirmed on both sides."""
        victim = self.victim
        async with asyncio.timeout(PATIENCE):
            await victim.until(lambda: {"associated", "ended"} & set(victim.calls))
            if "ended" in victim.calls:
                raise TurnedAway(self.up.at)
            victim.assoc.write(REQUEST)
            await victim.until(lambda: bool(victim.pdus) or "ended" in victim.calls)
            if victim.pdus != [answer_to(REQUEST)]:
                raise AssertionError(f"no good answer before the attack: {victim.calls} {victim.error!r}")

    async def data(self) -> bytes:
        """The victim's next PDU, caught."""
        self.hold(UP)
        self.victim.assoc.write(REQUEST)
        found = await self.caught(UP)
        assert isinstance(found, DataInd), found
        return found.pdu

    async def two(self, apart: bool) -> tuple[bytes, bytes]:
        """Two PDUs of the victim, caught: of one time value, or of two."""
        if apart:
            first = await self.data()
            await asyncio.sleep(0.01)
            return first, await self.data()
        self.hold(UP)
        await asyncio.sleep(0.005)
        self.victim.assoc.write_many([REQUEST, REQUEST])
        first, second = await self.caught(UP), await self.caught(UP)
        return first.pdu, second.pdu

    def third(self, kind: SecPduKind, number: str | None = None) -> bytes:
        """A control PDU for this association, well signed by somebody whom the same authority vouches for."""
        if number is None:
            number = decode(Carrier.ASSOCIATE_RSP, self.acceptance).token1.asso_id
        return make_control(self.world.people["second-ae"].credential, kind, number, utc_ms() + 5, None, None)

    async def over(self) -> Attempt:
        """Pass on what is left until both sides have ended."""
        for way in (UP, DOWN):
            self.let_go(way)
        async with asyncio.timeout(PATIENCE):
            await self.victim.wait("ended")
        await asyncio.gather(*self._tasks)
        self.close()
        self.told = True
        return Attempt(self.kind, self.up.at, heard=self.victim.events, ending=self.up.ending or "closed")


@contextlib.asynccontextmanager
async def standing(world: World, kind: str, name: str) -> AsyncIterator[Middle]:
    """A middle whose sockets are closed whatever happens."""
    middle = Middle(world, kind, name)
    try:
        yield middle
    except TurnedAway as error:
        if hasattr(middle, "up") and middle.up.at != str(error) and not middle.told:  # another line of this attempt was
            world.asides.append(Attempt(kind, middle.up.at, aside=True))
        raise
    finally:
        if hasattr(middle, "down"):
            middle.close()


Script = Callable[[Middle], Awaitable[None]]
IN_DATA: dict[str, Script] = {}
IN_HANDSHAKE: dict[str, Script] = {}


def in_data(made: Script) -> Script:
    """After the handshake and one exchange; in each mode."""
    IN_DATA["middle-" + made.__name__.replace("_", "-")] = made
    return made


def in_handshake(made: Script) -> Script:
    """From the first PDU on; calls ``start`` itself."""
    IN_HANDSHAKE["middle-" + made.__name__.replace("_", "-")] = made
    return made


# --- data -------------------------------------------------------------------------------------------------------------
@in_data
async def flip(own: Middle) -> None:
    own.up.data(flip_last(await own.data()))


@in_data
async def flip_answer(own: Middle) -> None:
    own.hold(DOWN)
    own.victim.assoc.write(REQUEST)
    found = await own.caught(DOWN)
    own.down.data(flip_last(found.pdu))


@in_data
async def replay(own: Middle) -> None:
    pdu = await own.data()
    own.up.data(pdu)
    own.up.data(pdu)


@in_data
async def replay_older(own: Middle) -> None:
    first, second = await own.two(apart=True)
    for pdu in (first, second, first):
        own.up.data(pdu)


@in_data
async def reorder_same_time(own: Middle) -> None:
    first, second = await own.two(apart=False)
    own.up.data(second)
    own.up.data(first)


@in_data
async def reorder(own: Middle) -> None:
    first, second = await own.two(apart=True)
    own.up.data(second)
    own.up.data(first)


@in_data
async def drop(own: Middle) -> None:
    _, second = await own.two(apart=False)
    own.up.data(second)


@in_data
async def truncate(own: Middle) -> None:
    pdu = await own.data()
    own.up.data(pdu[: len(pdu) // 2])


@in_data
async def reflect_to_client(own: Middle) -> None:
    """The victim gets its own PDU."""
    own.down.data(await own.data())


@in_data
async def reflect_to_server(own: Middle) -> None:
    own.hold(DOWN)
    own.victim.assoc.write(REQUEST)
    found = await own.caught(DOWN)
    own.up.data(found.pdu)


# --- data of other associations, control PDUs -------------------------------------------------------------------------
AE_DATA: dict[str, Script] = {}


def in_ae_data(made: Script) -> Script:
    AE_DATA["middle-" + made.__name__.replace("_", "-")] = made
    return made


@in_ae_data
async def release_by_a_third(own: Middle) -> None:
    own.up.release(own.third(SecPduKind.RELEASE_REQ))


@in_ae_data
async def abort_by_a_third(own: Middle) -> None:
    own.up.abort(own.third(SecPduKind.APPL_ABORT))


@in_ae_data
async def security_abort_by_a_third(own: Middle) -> None:
    own.up.abort(own.third(SecPduKind.DT_SEC_ABORT))


@in_ae_data
async def release_to_client_by_a_third(own: Middle) -> None:
    own.down.release(own.third(SecPduKind.RELEASE_REQ))


@in_ae_data
async def abort_to_client_by_a_third(own: Middle) -> None:
    own.down.abort(own.third(SecPduKind.APPL_ABORT))


@in_ae_data
async def security_abort_to_client_by_a_third(own: Middle) -> None:
    own.down.abort(own.third(SecPduKind.DT_SEC_ABORT))


@in_ae_data
async def release_response_by_a_third(own: Middle) -> None:
    own.hold(UP)
    own.victim.assoc.release()
    await own.caught(UP)
    own.down.release_response(own.third(SecPduKind.RELEASE_RSP))


@in_ae_data
async def flip_release(own: Middle) -> None:
    own.hold(UP)
    own.victim.assoc.release()
    found = await own.caught(UP)
    own.up.release(flip_last(found.user_data))


@in_ae_data
async def reflect_release(own: Middle) -> None:
    """The victim's own ReleaseReq comes back as if the server wanted to release too."""
    own.hold(UP)
    own.victim.assoc.release()
    found = await own.caught(UP)
    own.down.release(found.user_data)


@in_ae_data
async def replay_into_another(own: Middle) -> None:
    """Data of one association of the victim, recorded, in another one of the same two."""
    async with standing(own.world, own.kind, own.name) as other:
        await other.start()
        await other.exchange()
        recorded = await other.data()
        other.let_go(UP)
        other.up.data(recorded)
        other.victim.assoc.release()
        attempt = await other.over()
        own.world.asides.append(Attempt(own.kind, attempt.at, aside=True))
    own.up.data(recorded)


# --- handshake --------------------------------------------------------------------------------------------------------
def _handshake_changed(carrier: Carrier, pdu: bytes, **changes: object) -> bytes:
    """A handshake PDU with changed fields and the signature it had."""
    found = decode(carrier, pdu)
    tbs = encode_handshake_tbs(found.token1._replace(**changes), found.appl_data)
    return assemble(found.kind, found.pp, tbs, found.algo, found.signature)


@in_handshake
async def flip_request(own: Middle) -> None:
    await own.start(UP)
    found = await own.caught(UP)
    own.up.associate(flip_last(found.user_data))


@in_handshake
async def flip_request_value(own: Middle) -> None:
    """One bit of the Diffie-Hellman value."""
    await own.start(UP)
    pdu = (await own.caught(UP)).user_data
    ((_, value),) = decode(Carrier.ASSOCIATE_REQ, pdu).token1.dh_key
    own.up.associate(pdu.replace(value, flip_last(value)))


@in_handshake
async def swap_certificate(own: Middle) -> None:
    """The certificate of another association's client, in the victim's request."""
    await own.start(UP)
    pdu = (await own.caught(UP)).user_data
    other = own.world.people["second-ae"].certificate
    own.up.associate(_handshake_changed(Carrier.ASSOCIATE_REQ, pdu, pk_cert=other))


@in_handshake
async def sign_request_anew(own: Middle) -> None:
    """The victim's request with the attacker's certificate and signature."""
    await own.start(UP)
    pdu = (await own.caught(UP)).user_data
    by = own.world.people["second-ae"].credential
    own.up.associate(forge(Carrier.ASSOCIATE_REQ, pdu, by, pk_cert=by.certificate))


@in_handshake
async def flip_acceptance(own: Middle) -> None:
    await own.start(DOWN)
    own.down.accept(flip_last((await own.caught(DOWN)).user_data))


@in_handshake
async def swap_certificate_of_acceptance(own: Middle) -> None:
    await own.start(DOWN)
    other = own.world.people["second-ae"].certificate
    pdu = (await own.caught(DOWN)).user_data
    own.down.accept(_handshake_changed(Carrier.ASSOCIATE_RSP, pdu, pk_cert=other))


@in_handshake
async def sign_acceptance_anew(own: Middle) -> None:
    await own.start(DOWN)
    pdu = (await own.caught(DOWN)).user_data
    by = own.world.people["second-ae"].credential
    own.down.accept(forge(Carrier.ASSOCIATE_RSP, pdu, by, pk_cert=by.certificate))


@in_handshake
async def reflect_request(own: Middle) -> None:
    """The victim's request comes back, in the form of an acceptance."""
    await own.start(UP)
    pdu = (await own.caught(UP)).user_data
    own.down.accept(b"\xa0" + pdu[1:])


@in_handshake
async def relay_acceptance(own: Middle) -> None:
    """The acceptance of another association of the same two."""
    async with standing(own.world, own.kind, own.name) as other:
        await other.start(DOWN)
        recorded = (await other.caught(DOWN)).user_data
        await own.start(DOWN)
        await own.caught(DOWN)
        own.down.accept(recorded)
        other.down.abort(None)
        attempt = await other.over()
        own.world.asides.append(Attempt(own.kind, attempt.at, aside=True))


@in_handshake
async def repeat_acceptance(own: Middle) -> None:
    """An acceptance that the victim has already taken, in another association."""
    async with standing(own.world, own.kind, own.name) as other:
        await other.start()
        await other.exchange()
        await own.start(DOWN)
        await own.caught(DOWN)
        own.down.accept(other.acceptance)
        await own.victim.wait("ended")
        other.victim.assoc.release()
        attempt = await other.over()
        own.world.asides.append(Attempt(own.kind, attempt.at, aside=True))


@in_handshake
async def reject_by_a_third(own: Middle) -> None:
    await own.start(UP)
    pdu = (await own.caught(UP)).user_data
    number = decode(Carrier.ASSOCIATE_REQ, pdu).token1.asso_id
    own.down.reject(own.third(SecPduKind.HANDSHAKE_SEC_REJECT, number))
    own.up.abort(None)


@in_handshake
async def application_reject_by_a_third(own: Middle) -> None:
    await own.start(UP)
    pdu = (await own.caught(UP)).user_data
    number = decode(Carrier.ASSOCIATE_REQ, pdu).token1.asso_id
    own.down.reject(own.third(SecPduKind.APPLICATION_REJECT, number))
    own.up.abort(None)


@in_handshake
async def handshake_abort_by_a_third(own: Middle) -> None:
    """While the server has not yet seen any data."""
    await own.start(DOWN)
    await own.caught(DOWN)
    own.up.abort(own.third(SecPduKind.HANDSHAKE_SEC_ABORT))


@in_handshake
async def replay_recorded_request(own: Middle) -> None:
    """The victim's own request, recorded, on a line of the attacker's."""
    await own.start()
    await own.exchange()
    own.victim.assoc.release()


def _enter(kind: str, name: str, script: Script, exchange: bool) -> None:
    @attack(kind)
    async def run(world: World, kind: str) -> Attempt:
        async with standing(world, kind, name) as middle:
            if exchange:
                await middle.start()
                await middle.exchange()
            await script(middle)
            return await middle.over()


for _kind, _script in IN_DATA.items():
    for _mode in pki.MODES:
        _enter(f"{_kind}-{_mode}", f"victim-{_mode}", _script, True)
for _kind, _script in AE_DATA.items():
    _enter(_kind, "victim-ae", _script, True)
for _kind, _script in IN_HANDSHAKE.items():
    if _script is not replay_recorded_request:
        _enter(_kind, "victim-ae", _script, False)


@attack("middle-replay-recorded-request")
async def _recorded(world: World, kind: str) -> Attempt:
    async with standing(world, kind, "victim-ae") as middle:
        await replay_recorded_request(middle)
        attempt = await middle.over()
        assert not attempt.heard, attempt.heard
        world.asides.append(Attempt(kind, attempt.at, aside=True))
        line = await world.dial(kind, world.people["victim-ae"].name)
        try:
            await line.call(middle.request)
        except TurnedAway:
            line.close()
            raise TurnedAway(line.at) from None
        await line.until_closed()
        return Attempt(kind, line.at, ending=line.ending or "closed")
