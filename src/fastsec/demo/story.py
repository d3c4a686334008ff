"""The demo's story: real MMS peers, two gateways, an untrusted middle, and what it can and cannot do.

Every number in the result is counted where it happens; a step that does not turn out as told ends the demo as failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from fastsec.demo import pki
from fastsec.demo.gateways import Gateway
from fastsec.demo.intermediary import Intermediary, Link, Trick, Way, payload
from fastsec.demo.output import Narrator
from fastsec.demo.points import BY_NAME, DOMAIN, POINTS, Value, float32, value_octets
from fastsec.demo.process import PeerProcess, PeerRefused, ProcessError, free_port

REKEY_MESSAGES = 12
ROUNDS = 10
LIMIT_S = 120.0
_EXPECTED = {
    # Which events may follow: the order of checks at reception and, for reordering, whether the two PDUs were
    # protected within one millisecond (62351-4: same time and wrong seq, or a time that goes back).
    Trick.FLIP: {"IEC62351-4:11.5"},
    Trick.REPLAY: {"IEC62351-4:11.7"},
    Trick.REORDER: {"IEC62351-4:11.6", "IEC62351-4:11.8"},
}


class DemoFailed(Exception):
    """A step did not turn out as told."""


@dataclass(slots=True)
class Tally:
    """What was measured."""

    reads: int = 0
    writes: int = 0
    rekeys: int = 0
    plaintext_seen: bool = True
    detected: dict[Trick, str] = field(default_factory=dict)
    values: list[Value] = field(default_factory=list)


class Story:
    """One run of the demo.

    Arguments:
        out: where it is told.
        directory: an empty directory for keys, certificates and configurations.
        key_log: a file for the keys of both gateways' associations, or None.

    Attributes:
        step: name of the step under way.
        tally: results so far.
    """

    def __init__(self, out: Narrator, directory: Path, key_log: Path | None = None) -> None:
        self.out = out
        self.key_log = None if key_log is None else key_log.absolute()
        self.directory = directory
        self.step = "start"
        self.tally = Tally()
        self._number = 0
        self._next = 0
        self._stack = AsyncExitStack()
        self._server: PeerProcess
        self._client: PeerProcess
        self._middle: Intermediary
        self._cc: Gateway
        self._der: Gateway
        self._ports: pki.Ports

    async def run(self) -> None:
        """Tell the whole story.

        Errors: DemoFailed, ProcessError, PeerRefused or another error of the step named in ``step``.
        """
        async with asyncio.timeout(LIMIT_S), self._stack:
            await self._trial_pki()
            await self._peers()
            await self._without_security()
            await self._gateways()
            await self._reads_and_writes()
            await self._key_updates()
            await self._what_the_middle_saw()
            await self._attack(Trick.FLIP, "flips one bit of a protected write")
            await self._attack(Trick.REPLAY, "sends a protected write a second time")
            await self._attack(Trick.REORDER, "swaps two protected writes")
            await self._farewell()

    def _begin(self, step: str, title: str) -> None:
        self.step = step
        self._number += 1
        self.out.step(self._number, title)

    # --- setting the stage --------------------------------------------------------------------------------------------
    async def _trial_pki(self) -> None:
        self._begin("pki", "A trial authority issues certificates")
        names = pki.issue(self.directory, time.time_ns() // 1_000_000)
        self.out.say(f"{len(names)} files: " + ", ".join(name for name in names if name.endswith(".pem")))
        self.out.say(f"End-to-end identities: control centre {pki.CONTROL_CENTRE}, DER {pki.DER}.")
        self.out.say("The intermediary gets a TLS certificate, as any broker has, and no end-to-end one.")

    async def _peers(self) -> None:
        self._begin("peers", "An MMS server and an MMS client that know nothing of security start")
        argv = ["-m", "fastsec.demo.peer_server"]
        self._server = await self._stack.enter_async_context(await PeerProcess.start("server", argv, self.directory))
        argv = ["-m", "fastsec.demo.peer_client"]
        self._client = await self._stack.enter_async_context(await PeerProcess.start("client", argv, self.directory))
        for what, peer in (("server", self._server), ("client", self._client)):
            self.out.say(f"{what}: process {peer.pid}, PyPI package {peer.facts['package']}")

    async def _without_security(self) -> None:
        """The positive control: what the middle finds when nothing protects the traffic."""
        self._begin("without-security", "Without fastsec, the intermediary reads everything")
        middle = Intermediary(self._server.port)
        port = await middle.start()
        try:
            await self._client.ask("open", name="plain", port=port)
            values: list[Value] = await self._client.ask("read", name="plain", points=[point.name for point in POINTS])
            await self._client.ask("close", name="plain")
        finally:
            await middle.stop()
        frames = [frame for frame in middle.frames if frame.data]
        found = middle.find(*self._needles(values))
        missing = [needle for needle in self._needles(values) if needle not in found]
        if missing or not frames:
            raise DemoFailed(f"the check for plaintext is blind: it missed {missing} in plain traffic")
        octets = frames[0].octets
        self.out.dump("the first MMS request, as the intermediary has it", payload(octets) or octets)
        self.out.proof(f"all {len(found)} names and values of this read are found in the recording")

    def _needles(self, values: list[Value]) -> list[bytes]:
        """What must not be found: names of variables and the encoded values."""
        names = [DOMAIN.encode(), *(point.item.encode() for point in POINTS)]
        return names + [octets for value in values if len(octets := value_octets(value)) >= 6]

    async def _gateways(self) -> None:
        self._begin("gateways", "Two gateways with TLS start, and the intermediary between them ends TLS on both sides")
        server_tls, client_tls = pki.broker_contexts(self.directory)
        secured = free_port()
        self._middle = Intermediary(secured, server_tls=server_tls, client_tls=client_tls)
        self._stack.push_async_callback(self._middle.stop)
        broker = await self._middle.start()
        self._ports = pki.Ports(free_port(), broker, secured, self._server.port)
        files = pki.write_configurations(self.directory, self._ports, REKEY_MESSAGES)
        self._der = await self._gateway("der", files["der"])
        self._cc = await self._gateway("cc", files["cc"])
        self.out.say(
            f"client → 127.0.0.1:{self._ports.plain_client} gateway cc ═TLS═ :{broker} intermediary ═TLS═ "
            f":{secured} gateway der → :{self._server.port} server"
        )

    async def _gateway(self, name: str, config: Path) -> Gateway:
        gateway = await Gateway.start(name, config, key_log=self.key_log)
        self._stack.push_async_callback(gateway.process.stop)
        return gateway

    # --- using the secured path ---------------------------------------------------------------------------------------
    async def _open(self, name: str) -> Link:
        """Open an association through the gateways; returns the intermediary's link that carries it."""
        before = len(self._middle.links)
        await self._client.ask("open", name=name, port=self._ports.plain_client)
        if len(self._middle.links) != before + 1:
            raise DemoFailed(f"association {name} did not pass the intermediary")
        return self._middle.links[-1]

    async def _read(self, name: str, *expected: tuple[str, Value]) -> None:
        values = await self._client.ask("read", name=name, points=[point for point, _ in expected])
        if values != [value for _, value in expected]:
            raise DemoFailed(f"read {values}, expected {[value for _, value in expected]}")
        self.tally.reads += 1
        self.tally.values += values

    async def _write(self, name: str, point: str, value: Value) -> None:
        """Write, and see at the server itself that the value arrived unchanged."""
        await self._client.ask("write", name=name, point=point, value=value)
        if (await self._server.ask("written"))[-1] != [point, value]:
            raise DemoFailed(f"the server did not get {value} for {point}")
        self.tally.writes += 1
        self.tally.values.append(value)

    def _fresh(self, point: str) -> Value:
        """A value never used before, long enough to be found if it ever appeared in the clear."""
        self._next += 1
        kinds: dict[str, Value] = {
            "float": float32(-1_234.5678 * self._next),
            "int": 1_357_924_680 + 97_531 * self._next,
            "bool": self._next % 2 == 0,
        }
        return kinds[BY_NAME[point].kind]

    async def _reads_and_writes(self) -> None:
        self._begin("reads-and-writes", "The same client and server, now through the gateways")
        await self._open("A")
        await self._open("B")
        self.out.say("Two associations A and B are open.")
        for name in ("A", "B"):
            await self._read(name, *((point.name, point.initial) for point in POINTS if not point.writable))
        for point in (point.name for point in POINTS if point.writable):
            value = self._fresh(point)
            await self._write("A", point, value)
            await self._read("B", (point, value))
            self.out.say(f"A writes {point} = {value}; B reads it back, and the server confirms it")
        measured = float32(50.0217)
        await self._server.ask("set", point="AnIn1", value=measured)
        await self._read("A", ("AnIn1", measured))
        self.out.proof("floats, integers and booleans pass unchanged in both directions")

    async def _key_updates(self) -> None:
        self._begin("key-updates", "The keys change while traffic flows")
        updated = {link.number: self._middle.key_changes(link) for link in self._middle.links}

        async def traffic(name: str) -> None:
            for _ in range(ROUNDS):
                value = self._fresh("SetI1" if name == "A" else "SetA1")
                point = "SetI1" if name == "A" else "SetA1"
                await self._client.ask("write", name=name, point=point, value=value)
                self.tally.writes += 1
                self.tally.values.append(value)
                await self._read(name, (point, value))

        await asyncio.gather(traffic("A"), traffic("B"))
        for link in self._middle.links:
            changes = self._middle.key_changes(link) - updated[link.number]
            carried = self._middle.key_changes(link)
            self.out.say(
                f"link {link.number}: {carried} key update(s), {changes} of them in these {ROUNDS * 2} requests"
            )
            if not carried:
                raise DemoFailed(f"no key update on link {link.number} after {REKEY_MESSAGES} messages")
        self.out.proof("the peers noticed nothing; the intermediary sees that keys change, not the keys")

    async def _what_the_middle_saw(self) -> None:
        self._begin("eavesdropping", "What the intermediary has, although TLS ended there")
        frames = [frame for frame in self._middle.frames if frame.data]
        self.out.dump(
            "one protected request, as the intermediary has it", payload(frames[0].octets) or frames[0].octets
        )
        self._check_plaintext()
        self.out.proof(
            f"of {len(set(self._needles(self.tally.values)))} names and values, none occurs in the "
            f"{len(self._middle.after_handshake())} octets "
            f"of {sum(frame.opened for frame in self._middle.frames)} frames after the handshakes"
        )

    def _check_plaintext(self) -> None:
        found = self._middle.find(*self._needles(self.tally.values))
        self.tally.plaintext_seen = bool(found)
        if found:
            raise DemoFailed(f"the intermediary found {found[:3]} in the clear")

    # --- attacks ------------------------------------------------------------------------------------------------------
    async def _attack(self, trick: Trick, what: str) -> None:
        name = trick.name.lower()
        self._begin(name, f"The intermediary {what}")
        victim = f"victim of {name}"
        link = await self._open(victim)
        await self._read(victim, ("Ind1", True))
        before = len(await self._server.ask("written"))
        first, second = self._fresh("SetI1"), self._fresh("SetI1")
        requests = [["SetI1", first], ["SetI1", second]] if trick is Trick.REORDER else [["SetI1", first]]
        mark = self._der.mark()
        self._middle.order(link, trick, Way.REQUEST)
        # Mostly the association ends under the request; a replay may be found only after its answer.
        with contextlib.suppress(PeerRefused):
            await self._client.ask("burst", name=victim, requests=requests)
        if not link.done.is_set():
            raise DemoFailed("the intermediary found nothing to tamper with")
        event = await self._der.event(mark)
        self.out.log("der", event.text)
        if event.id not in _EXPECTED[trick]:
            raise DemoFailed(f"detected as {event.id}, expected one of {sorted(_EXPECTED[trick])}")
        self.tally.detected[trick] = event.id
        self.out.proof(f"detected as {event.id} {event.mnemonic}")
        if await self._client.ask("ended", name=victim) is not True:
            raise DemoFailed("the association under attack is still open")
        arrived = [value for _, value in (await self._server.ask("written"))[before:]]
        # At most what was delivered in order before the fault; never a forged, doubled or reordered write.
        allowed: dict[Trick, list[Value]] = {Trick.FLIP: [], Trick.REPLAY: [first], Trick.REORDER: [second]}
        if arrived and arrived != allowed[trick]:
            raise DemoFailed(f"the server got {arrived}")
        self.out.say(f"The association has ended; of its writes the server got {arrived or 'nothing'}.")
        await self._still_alive(name)

    async def _still_alive(self, after: str) -> None:
        for name in ("A", "B"):
            await self._write(name, "SetA1", value := self._fresh("SetA1"))
            await self._read(name, ("SetA1", value))
        self.out.proof("associations A and B are alive, on the same gateways")
        name = f"new after {after}"
        await self._open(name)
        await self._read(name, ("Ind1", True))
        await self._client.ask("close", name=name)
        self.out.proof("a new association works")

    async def _farewell(self) -> None:
        self._begin("end", "The client concludes both associations, and the gateways are told to end")
        for name in ("A", "B"):
            await self._client.ask("close", name=name)
        async with asyncio.timeout(10):
            while await self._server.ask("connections"):  # noqa: ASYNC110 - the other process raises no event here
                await asyncio.sleep(0.05)
        self.out.say("The server has no client any more.")
        self._check_plaintext()
        self.tally.rekeys = sum(self._middle.key_changes(link) for link in self._middle.links)
        for gateway in (self._cc, self._der):
            code = await gateway.process.stop()
            if code != 0:
                raise ProcessError(f"gateway {gateway.name} ended with code {code}; {gateway.process.tail()}")
        self.out.proof("both gateways ended with code 0")
