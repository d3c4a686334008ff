"""Two associations in memory, to find out whether something works: no socket, no file, nothing is kept."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from functools import cache
from typing import Final

from fastsec._core.pk import PrivateKey
from fastsec.association import Association
from fastsec.config import Config, Policy
from fastsec.engine import Role
from fastsec.errors import FastsecError
from fastsec.instant import Instant
from fastsec.outputs import AssociateIndication, Ended, Raised, Received, ReleaseIndication, Run, Send
from fastsec.peers import Endpoint
from fastsec.pki.credential import Credential, SoftwareSigner, make_credential
from fastsec.pki.identity import OsiName
from fastsec.pki.path import TrustStore
from fastsec.pki.trial import TrialAuthority
from fastsec.secpdu.der import kind_of
from fastsec.secpdu.fields import Carrier, SecPduKind

NAMES: Final = {Role.CLIENT: OsiName("1.1.1.999.1", 12), Role.SERVER: OsiName("1.1.1.999.2", 12)}
REQUEST: Final = bytes.fromhex("a803810101")
RESPONSE: Final = bytes.fromhex("a903810101")
DATA: Final = bytes.fromhex("a003020101")


@cache
def authority() -> TrialAuthority:
    """Made once, valid for this hour's work."""
    return TrialAuthority.in_memory(time.time_ns() // 1_000_000 - 3_600_000)


@cache
def credential(role: Role, key: str) -> Credential:
    """A trial credential with a key of this kind."""
    issued = authority().issue_e2e(f"{role.value}-{key}", NAMES[role], key=key)
    return make_credential(issued.certificate, (), SoftwareSigner(PrivateKey.from_pem(issued.key_pem)))


class Pair:
    """A client and a server.

    Arguments:
        policy: of both.
        key: kind of both keys.
        damage: what becomes of each PDU on its way.
        accept: whether the server's application accepts.
        crl: the list they know (DER); by default one on which nobody stands.

    Attributes:
        sent: kinds of the SecPDUs that went from each role.
        received: what each role's application got.
        events: identifiers of the security events raised at each role.
    """

    def __init__(
        self,
        policy: Policy,
        key: str = "p256",
        *,
        damage: Callable[[Send], Send] | None = None,
        accept: bool = True,
        crl: bytes = b"",
    ) -> None:
        self.now = Instant(time.time_ns() // 1_000_000, 1_000_000)
        before = Instant(self.now.utc_ms - 1_800_000, 0)
        trust = TrustStore((authority().root,), (crl or authority().crl,))
        ends = {
            role: Endpoint(Config(credential=credential(role, key), trust=trust, policy=policy), now=before)
            for role in Role
        }
        self.client = Association(Role.CLIENT, ends[Role.CLIENT], peer=NAMES[Role.SERVER])
        self.server = Association(Role.SERVER, ends[Role.SERVER])
        self.sent: dict[Role, set[SecPduKind]] = {role: set() for role in Role}
        self.received: dict[Role, list[bytes]] = {role: [] for role in Role}
        self.events: dict[Role, list[str]] = {role: [] for role in Role}
        self.ended: dict[Role, FastsecError | None] = {}
        self._damage = damage
        self._accept = accept
        self._link: deque[tuple[Association, Send]] = deque()

    def open(self) -> Pair:
        """Handshake, one PDU each way."""
        self.client.start(REQUEST, self.now)
        self.run()
        self.send(self.client)
        self.send(self.server)
        return self

    def send(self, side: Association) -> None:
        """One PDU of this side."""
        side.send(DATA, self.now)
        self.run()

    def run(self) -> None:
        """Until nothing is left to do."""
        for side in (self.client, self.server):
            self._collect(side)
        while self._link:
            to, sent = self._link.popleft()
            other = self.client if to is self.server else self.server
            to.receive(
                sent.carrier,
                sent.pdu,
                self.now,
                calling=NAMES[Role.CLIENT] if sent.carrier is Carrier.ASSOCIATE_REQ else None,
                responding=NAMES[Role.SERVER] if sent.carrier is Carrier.ASSOCIATE_RSP else None,
                source="127.0.0.1",
                disposition=sent.disposition,
            )
            self._collect(to)
            self._collect(other)

    def later(self, seconds: int) -> None:
        """Time passes."""
        self.now = Instant(self.now.utc_ms + seconds * 1000, self.now.mono_ms + seconds * 1000)
        for side in (self.client, self.server):
            side.tick(self.now)
        self.run()

    def _collect(self, side: Association) -> None:
        while outputs := side.outputs():
            for output in outputs:
                match output:
                    case Run(job):
                        job.run()
                        side.job_done(job, self.now)
                    case Send():
                        if output.pdu:
                            self.sent[side.role].add(kind_of(output.carrier, output.pdu))
                        sent = self._damage(output) if self._damage else output
                        self._link.append((self.client if side is self.server else self.server, sent))
                    case Received(pdus):
                        self.received[side.role] += pdus
                    case AssociateIndication():
                        if self._accept:
                            side.accept(RESPONSE, self.now)
                        else:
                            side.reject(None, False, self.now)
                    case ReleaseIndication():
                        side.release_accept(self.now)
                    case Raised(event):
                        self.events[side.role].append(event.id)
                    case Ended(error):
                        self.ended[side.role] = error
                    case _:
                        pass


def carries(policy: Policy, key: str = "p256") -> Pair | None:
    """An association by this policy that carried data both ways; None if it did not."""
    pair = Pair(policy, key)
    pair.open()
    delivered = [DATA]
    return pair if pair.received == {Role.CLIENT: delivered, Role.SERVER: delivered} else None


def works(attempt: Callable[..., object], *given: object) -> bool:
    """Whether ``attempt`` gives something, and raises nothing."""
    try:
        return bool(attempt(*given))
    except Exception:
        return False
