"""Two associations over a fake link, for tests of the engine: no sockets, no threads, a clock that tests turn.

``ConnectionPair`` moves SecPDUs between a client and a server ``Association``, their jobs run inline. ``wire`` holds
what went over the link, ``outputs`` of each ``Side`` what its adapter got, ``events`` the security events of that side.
Tests tamper with PDUs by setting ``on_wire``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fastsec._core.pk import PrivateKey
from fastsec.association import (
    AssociateIndication,
    Association,
    Ended,
    Environment,
    Established,
    Output,
    Raised,
    Received,
    ReleaseIndication,
    Role,
    Run,
    Send,
)
from fastsec.config import Config, Policy
from fastsec.events import DOMAIN_E2E, SecurityEvent
from fastsec.instant import Instant
from fastsec.peers import Endpoint
from fastsec.pki.credential import Credential, SoftwareSigner, make_credential
from fastsec.pki.identity import OsiName
from fastsec.pki.path import TrustStore
from fastsec.pki.trial import TrialAuthority
from fastsec.secpdu.fields import Carrier

UTC = 1_795_000_000_000  # 2026-11-18
CLIENT = OsiName("1.1.1.999.1", 11)
SERVER = OsiName("1.1.1.999.2", 12)
INITIATE = bytes.fromhex("a803810101")
RESPONSE = bytes.fromhex("a903810101")
READ = bytes.fromhex("a003020101")
ANSWER = bytes.fromhex("a103020101")


_made: dict[tuple[Any, ...], Any] = {}


def _once(key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
    if key not in _made:
        _made[key] = make()
    return _made[key]


def authority(name: str = "one") -> TrialAuthority:
    """A trial authority, one per name and test run."""
    return _once(("authority", name), lambda: TrialAuthority.in_memory(UTC - 86_400_000))


def credential(name: OsiName, key: str = "p256", number: int = 0, by: str = "one") -> Credential:
    """A credential of the trial authority, the same at every call; ``number`` tells several of one name apart."""

    def make() -> Credential:
        issued = authority(by).issue_e2e(f"c{number}", name, key=key)
        return make_credential(issued.certificate, (), SoftwareSigner(PrivateKey.from_pem(issued.key_pem)))

    return _once((name, key, number, by), make)


def trust(by: str = "one") -> TrustStore:
    """Trusts the trial authority."""
    return _once(("trust", by), lambda: TrustStore((authority(by).root,), (authority(by).crl,)))


def config(name: OsiName, *, key: str = "p256", policy: Policy | None = None, **more: Any) -> Config:
    """A configuration with a trial credential."""
    more.setdefault("credential", credential(name, key))
    more.setdefault("trust", trust())
    return Config(policy=policy or Policy(), **more)


class Side:
    """One end of the link."""

    def __init__(self, pair: ConnectionPair, association: Association, name: OsiName) -> None:
        self.pair = pair
        self.association = association
        self.name = name
        self.outputs: list[Output] = []
        self.received: list[bytes] = []
        self.hold_jobs = False
        self.jobs: deque[Any] = deque()
        self.auto = True

    @property
    def events(self) -> list[str]:
        """Mnemonics of the events of the domain IEC62351-4 raised here."""
        return [event.mnemonic for event in self.raised if event.id.startswith(DOMAIN_E2E + ":")]

    @property
    def details(self) -> list[str]:
        """Identifiers of the events of all other domains raised here: what was wrong with certificates and roles."""
        return [event.id for event in self.raised if not event.id.startswith(DOMAIN_E2E + ":")]

    @property
    def raised(self) -> list[SecurityEvent]:
        """The events raised here."""
        return [output.event for output in self.outputs if isinstance(output, Raised)]

    @property
    def error(self) -> Any:
        """What the association ended with; AssertionError while it lives."""
        for output in self.outputs:
            if isinstance(output, Ended):
                return output.error
        raise AssertionError(f"not ended: {self.association!r} {self.outputs}")

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return any(isinstance(output, Ended) for output in self.outputs)

    def seen(self, kind: type) -> list[Any]:
        """The outputs of one kind."""
        return [output for output in self.outputs if isinstance(output, kind)]

    def __getattr__(self, name: str) -> Any:
        """Calls of the association at the pair's time: ``side.send(data)``, ``side.release()`` …"""
        call = getattr(self.association, name)
        if not callable(call):
            return call

        def at_now(*facts: Any, **more: Any) -> Any:
            result = call(*facts, self.pair.now, **more)
            self.pair.collect(self)
            return result

        return at_now

    def run_jobs(self) -> None:
        """Run what is held back."""
        while self.jobs:
            job = self.jobs.popleft()
            job.run()
            self.association.job_done(job, self.pair.now)
            self.pair.collect(self)


class ConnectionPair:
    """A client and a server.

    Arguments:
        client, server: configurations.
        endpoints: to share them between pairs: (client, server).
        accept: the server's application: True answers, False refuses, None leaves it to the test.
    """

    def __init__(
        self,
        client: Config | None = None,
        server: Config | None = None,
        *,
        endpoints: tuple[Endpoint, Endpoint] | None = None,
        accept: bool | None = True,
        environment: Environment | None = None,
        now: Instant | None = None,
    ) -> None:
        self.now = now or Instant(UTC, 1_000_000)
        start = Instant(self.now.utc_ms - 3_600_000, self.now.mono_ms)
        if endpoints is None:
            endpoints = (
                Endpoint(client or config(CLIENT), now=start),
                Endpoint(server or config(SERVER), now=start),
            )
        self.endpoints = endpoints
        environment = environment or Environment()
        names = tuple(endpoint.config.credential.name for endpoint in endpoints)
        self.client = Side(
            self, Association(Role.CLIENT, endpoints[0], peer=names[1], environment=environment), names[0]
        )
        self.server = Side(self, Association(Role.SERVER, endpoints[1], environment=environment), names[1])
        self.accept = accept
        self.wire: list[tuple[str, Send]] = []
        self.link: deque[tuple[Side, Send]] = deque()
        self.on_wire: Callable[[str, Send], Send | None] | None = None
        self.calling: OsiName | None = names[0]
        self.responding: OsiName | None = names[1]

    # --- moving ---

    def other(self, side: Side) -> Side:
        return self.server if side is self.client else self.client

    def collect(self, side: Side) -> None:
        """Take the outputs of one side, run its jobs, put its PDUs on the link."""
        for output in side.association.outputs():
            side.outputs.append(output)
            match output:
                case Run(job):
                    side.jobs.append(job)
                case Send():
                    who = "client" if side is self.client else "server"
                    sent = self.on_wire(who, output) if self.on_wire else output
                    self.wire.append((who, output))
                    if sent is not None:
                        self.link.append((self.other(side), sent))
                case Received(pdus):
                    side.received += pdus
                case AssociateIndication():
                    if self.accept is True:
                        side.accept(RESPONSE)
                    elif self.accept is False:
                        side.reject(None, False)
                case ReleaseIndication():
                    if side.auto:
                        side.release_accept()
        if not side.hold_jobs:
            side.run_jobs()

    def deliver(self, to: Side, sent: Send) -> None:
        """One PDU arrives."""
        to.association.receive(
            sent.carrier,
            sent.pdu,
            self.now,
            calling=self.calling if sent.carrier is Carrier.ASSOCIATE_REQ else None,
            responding=self.responding if sent.carrier is Carrier.ASSOCIATE_RSP else None,
            source="192.0.2.1",
            disposition=sent.disposition,
        )
        self.collect(to)

    def move(self) -> None:
        """Until the link is empty."""
        while self.link:
            self.deliver(*self.link.popleft())

    def elapse(self, seconds: float, *, ticking: bool = True) -> None:
        """Time passes; each side is woken at its deadlines, and the link moves."""
        end = self.now.mono_ms + int(seconds * 1000)
        while True:
            due = [
                side.association.deadline
                for side in (self.client, self.server)
                if side.association.deadline is not None and ticking
            ]
            step = min([*due, end])
            step = max(step, self.now.mono_ms)
            if step >= end and not any(d <= end for d in due):
                step = end
            passed = step - self.now.mono_ms
            self.now = Instant(self.now.utc_ms + passed, step)
            before = [side.association.deadline for side in (self.client, self.server)]
            if ticking:
                for side in (self.client, self.server):
                    if side.association.deadline is not None and side.association.deadline <= step:
                        side.tick()
            self.move()
            after = [side.association.deadline for side in (self.client, self.server)]
            if step >= end and (before == after or not any(d is not None and d <= end for d in after)):
                return
            if passed == 0 and before == after and step < end and any(d is not None and d <= step for d in after):
                raise AssertionError(f"a deadline stays in the past: {after} at {step}")

    # --- ready-made ---

    def open(self) -> ConnectionPair:
        """Handshake, whole."""
        self.client.start(INITIATE)
        self.move()
        assert self.client.seen(Established), self.client.outputs
        assert self.server.seen(Established), self.server.outputs
        return self

    def confirm(self) -> ConnectionPair:
        """One PDU each way."""
        self.client.send(READ)
        self.move()
        self.server.send(ANSWER)
        self.move()
        assert self.server.received[-1:] == [READ]
        assert self.client.received[-1:] == [ANSWER]
        return self


def with_policy(base: Config, **changes: Any) -> Config:
    """``base`` with changed policy fields."""
    return replace(base, policy=replace(base.policy, **changes))
