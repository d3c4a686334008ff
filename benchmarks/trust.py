"""What trust costs a handshake: a CRL of 10,000 entries, OCSP answers in the cache, roles; each against none of it.

And what a new list of 100,000 or 1,000,000 entries costs open associations: the longest time that the loop's thread has
to wait for the interpreter while the list is parsed, verified and indexed in another thread.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable

import handshake
import harness
from fastsec._core.pk import PrivateKey
from fastsec.aio.revocation import RevocationService
from fastsec.config import Config
from fastsec.instant import now
from fastsec.peers import Endpoint
from fastsec.pki import builder
from fastsec.pki.certificate import Certificate
from fastsec.pki.credential import Credential, SoftwareSigner, make_credential
from fastsec.pki.crl import RevocationList
from fastsec.pki.identity import OsiName
from fastsec.pki.path import TrustStore
from fastsec.pki.revocation import Answer, RevocationPolicy, Revocations, Verdict
from fastsec.pki.roles import UserRoleInfo
from fastsec.pki.trial import TrialAuthority

HOUR = 3_600_000


class Unasked(Revocations):
    """Knows nothing and says so to nobody: a handshake without any revocation."""

    def judge(self, *_: object, **__: object) -> Verdict:
        return Verdict()


def big_list(authority: TrialAuthority, entries: int, at_ms: int) -> bytes:
    """A CRL of the authority with so many serial numbers, UUIDs as Annex G wants them, and reasons."""
    identifier = builder.key_identifier(builder.spki(authority._key.public_key()))
    return builder.revocation_list(
        issuer=authority._issuer,
        this_update_ms=at_ms,
        next_update_ms=at_ms + 24 * HOUR,
        revoked=[(uuid.uuid4().int, at_ms, 1) for _ in range(entries)],
        extensions=(builder.authority_key_identifier(identifier), builder.crl_number(2)),
        key=authority._key,
    )


class Setup(handshake.Setup):
    """Handshakes with some of it.

    Arguments:
        entries: of the CRL, 0 for none.
        ocsp: whether OCSP answers are there, and are looked at besides the CRL.
        roles: whether both certificates have roles.
    """

    def __init__(self, entries: int, *, ocsp: bool = False, roles: bool = False) -> None:
        self.entries, self.ocsp, self.roles = entries, ocsp, roles
        super().__init__("p256", 23)

    def _credential(self, name: OsiName, key: str) -> Credential:
        if not self.roles:
            return super()._credential(name, key)
        issued = self.authority.issue_e2e(
            f"roles-{name.oid[-4:]}", name, key=key, roles=(UserRoleInfo((0, 1, 2)), UserRoleInfo((3,)))
        )
        return make_credential(issued.certificate, (), SoftwareSigner(PrivateKey.from_pem(issued.key_pem)))

    def _endpoint(self, name: OsiName) -> Endpoint:
        at_ms = now().utc_ms
        known: Revocations = Unasked()
        if self.entries:
            known = Revocations(
                [big_list(self.authority, self.entries, at_ms)],
                RevocationPolicy(ocsp="always" if self.ocsp else "off"),
            )
        if self.ocsp:
            issuer = Certificate(self.authority.root, ca=True)
            for credential in self.credentials.values():
                serial = Certificate(credential.certificate).serial
                known.answered((issuer.authority_tag, serial), Answer(None, 0, at_ms, at_ms + HOUR))
        trust = TrustStore((self.authority.root,), revocation=known)
        return Endpoint(Config(credential=self.credentials[name], trust=trust, policy=self.policy), now=now())


# --- a list that comes while data flow --------------------------------------------------------------------------------
def stall(work: Callable[[], object]) -> tuple[float, float]:
    """Milliseconds: the longest gap between two turns of a thread that only looks at the clock, and how long ``work``
    took in another thread meanwhile."""
    done = threading.Event()
    taken = []

    def other() -> None:
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    longest, last = 0.0, time.perf_counter()
    while not done.is_set():
        time.sleep(0)  # as a loop that goes to select and comes back
        at = time.perf_counter()
        longest, last = max(longest, at - last), at
    thread.join()
    return longest * 1e3, taken[0] * 1e3


def slowly(octets: bytes) -> int:
    """The same list as the library ``cryptography`` walks it, holding the interpreter: what it is compared with."""
    from cryptography import x509

    return len({entry.serial_number for entry in x509.load_der_x509_crl(octets)})


def measure_list(report: harness.Report, entries: int) -> None:
    authority = TrialAuthority.in_memory(now().utc_ms - 24 * HOUR)
    issuer = Certificate(authority.root, ca=True)
    octets = big_list(authority, entries, now().utc_ms)
    service = RevocationService()
    service.known.know(issuer)
    ours = [stall(lambda: service.known.replace("x", [RevocationList(octets)])) for _ in range(5)]
    theirs = [stall(lambda: slowly(octets)) for _ in range(3)]
    gap, work = min(ours)
    other_gap, other_work = min(theirs)
    report.add(
        harness.Row("trust", "list-stall", entries, "cryptography", gap, "ms", other_gap, other_gap / gap, 5, 0.0)
    )
    report.add(
        harness.Row("trust", "list-parse", entries, "cryptography", work, "ms", other_work, other_work / work, 5, 0.0)
    )
    assert len(service.known.lists()[0].entries) == entries


def run(report: harness.Report, full: bool) -> None:
    rounds = harness.ROUNDS_FULL if full else harness.ROUNDS
    bare = Setup(0).handshakes()
    for case, setup in (
        ("crl-10000", Setup(10_000)),
        ("crl-10000+ocsp", Setup(10_000, ocsp=True)),
        ("crl-10000+ocsp+roles", Setup(10_000, ocsp=True, roles=True)),
    ):
        report.progress(f"trust {case}")
        harness.compare(report, "trust", case, None, "none of it", setup.handshakes(), bare, rounds)
    for entries in (100_000, 1_000_000) if full else (100_000,):
        report.progress(f"trust: a list of {entries}")
        measure_list(report, entries)
