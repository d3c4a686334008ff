"""Who takes part: identities right and wrong, made once into a directory that all processes of the soak read."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from fastsec import profile
from fastsec._core.pk import PrivateKey
from fastsec.config import Config, Policy
from fastsec.pki import builder, oids
from fastsec.pki.credential import Credential, SoftwareSigner
from fastsec.pki.identity import OsiName
from fastsec.pki.path import TrustStore
from fastsec.pki.trial import TrialAuthority
from forge import flip_last
from reference.transfer import Suite

SERVER = OsiName("1.1.1.999.1", 12)
DAY = 86_400_000

# How each kind of peer talks: the policy of both fastsec ends, and the same for the reference peer.
MODES = {
    "ae": (Policy(), Suite(aea=(profile.AES128_GCM, 16))),
    "hmac": (Policy(encryption="forbidden", ae="forbidden"), Suite(icv=(profile.HMAC_SHA256, 32))),
    "gmac": (
        Policy(encryption="forbidden", ae="forbidden", icv_algorithms=((profile.AES128_GCM, 16),)),
        Suite(icv=(profile.AES128_GCM, 16)),
    ),
    "cbc": (Policy(ae="forbidden"), Suite(encr=profile.AES128_CBC, icv=(profile.HMAC_SHA256, 32))),
}
HONEST = 8
_HONEST_MODES = ("ae", "ae", "ae", "hmac", "cbc", "gmac", "ae", "cbc")
# name -> (last arc, mode); each attacker has places of its own, so that none hides behind the limits of another.
PEOPLE = {
    **{f"honest{i}": (100 + i, _HONEST_MODES[i]) for i in range(HONEST)},
    "victim-ae": (200, "ae"),
    "victim-hmac": (201, "hmac"),
    "victim-gmac": (202, "gmac"),
    "victim-cbc": (203, "cbc"),
    "second-ae": (204, "ae"),
    "mallory": (300, "ae"),
    "mallory-hmac": (301, "hmac"),
    "mallory-gmac": (302, "gmac"),
    "mallory-cbc": (303, "cbc"),
    "flooder": (310, "ae"),
    "sleeper": (311, "ae"),
    "repeater": (312, "ae"),
    "strict": (313, "ae"),
}


@dataclass(frozen=True)
class Actor:
    """A name with a certificate, which need not be a good one, and its key."""

    name: OsiName
    mode: str
    certificate: bytes
    key_pem: bytes

    @cached_property
    def key(self) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey:
        return serialization.load_pem_private_key(self.key_pem, None)

    @cached_property
    def credential(self) -> Credential:
        """For ``forge`` and for fastsec's own peers."""
        return Credential(self.certificate, (), SoftwareSigner(PrivateKey.from_pem(self.key_pem)), self.name)


@dataclass(frozen=True)
class People:
    """All of them, and what the good ones believe in."""

    actors: dict[str, Actor]
    root: bytes
    crl: bytes

    def __getitem__(self, name: str) -> Actor:
        return self.actors[name]

    @cached_property
    def trust(self) -> TrustStore:
        return TrustStore([self.root], [self.crl])

    def config(self, name: str, **more: object) -> Config:
        """The configuration of a fastsec end of this name."""
        actor = self[name]
        if name == "server":
            policies = tuple((other.name, MODES[other.mode][0]) for other in self.actors.values())
            more = {"policies": policies, **more}
        return Config(credential=actor.credential, trust=self.trust, policy=MODES[actor.mode][0], **more)


def _pem(key: builder.PrivateKey) -> bytes:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption())


def _odd(authority: TrialAuthority, name: OsiName, utc_ms: int, **changes: object) -> Actor:
    """A leaf of ``authority`` with something wrong in it."""
    private = changes.pop("private", None) or builder.generate_key("p256")
    facts = {
        "serial": int.from_bytes(name.oid.encode()) % (1 << 60) + len(changes),
        "issuer": authority._issuer,
        "subject": builder.osi_subject(name),
        "public": builder.spki(private.public_key()),
        "not_before_ms": utc_ms - DAY,
        "not_after_ms": utc_ms + DAY,
        "extensions": (
            builder.key_usage(oids.KU_DIGITAL_SIGNATURE, oids.KU_KEY_AGREEMENT),
            builder.alternative_names(osi=name),
        ),
        "key": authority._key,
    } | changes
    return Actor(name, "ae", builder.certificate(**facts), _pem(private))


def _odd_ones(authority: TrialAuthority, name: OsiName, utc_ms: int, tag: str) -> dict[str, Actor]:
    """Every wrong certificate, under a name that has a good one too."""
    usage = (builder.key_usage(oids.KU_DIGITAL_SIGNATURE), builder.alternative_names(osi=name))
    good = _odd(authority, name, utc_ms)
    filler = builder.Extension("1.3.6.1.4.1.32473.1", b"\x04\x82\x20\x00" + bytes(8192))
    foreign = TrialAuthority.in_memory(utc_ms)
    self_key = builder.generate_key("p256")
    subject = builder.osi_subject(name)
    found = {
        "expired": _odd(authority, name, utc_ms, not_before_ms=utc_ms - 3 * DAY, not_after_ms=utc_ms - DAY),
        "future": _odd(authority, name, utc_ms, not_before_ms=utc_ms + DAY, not_after_ms=utc_ms + 3 * DAY),
        "usage": _odd(authority, name, utc_ms, extensions=usage),
        "oversize": _odd(authority, name, utc_ms, extensions=(*_good_extensions(name), filler)),
        "weak": _odd(authority, name, utc_ms, private=rsa.generate_private_key(65537, 1024)),
        "foreign": _odd(foreign, name, utc_ms),
        "self": _odd(authority, name, utc_ms, private=self_key, issuer=subject, key=self_key),
        "forged": Actor(name, "ae", flip_last(good.certificate), good.key_pem),
        "revoked": _odd(authority, name, utc_ms, serial=4711),
    }
    return {f"{tag}-{kind}": actor for kind, actor in found.items()}


def _good_extensions(name: OsiName) -> tuple[builder.Extension, ...]:
    usage = builder.key_usage(oids.KU_DIGITAL_SIGNATURE, oids.KU_KEY_AGREEMENT)
    return usage, builder.alternative_names(osi=name)


def make(directory: Path, utc_ms: int) -> None:
    """Make everybody."""
    authority = TrialAuthority.in_memory(utc_ms)
    actors: dict[str, Actor] = {}
    for name, (arc, mode) in {"server": (1, "ae"), **PEOPLE}.items():
        osi = OsiName(f"1.1.1.999.{arc}", 12)
        issued = authority.issue_e2e(name, osi)
        actors[name] = Actor(osi, mode, issued.certificate, issued.key_pem)
    actors |= _odd_ones(authority, OsiName("1.1.1.999.400", 12), utc_ms, "caller")
    actors |= _odd_ones(authority, SERVER, utc_ms, "called")
    authority.revoke(actors["caller-revoked"].certificate)
    with open(directory / "people.pickle", "wb") as file:
        pickle.dump(People(actors, authority.root, authority.crl), file)


def load(directory: Path) -> People:
    """Who was made in this run's own directory."""
    with open(directory / "people.pickle", "rb") as file:
        return pickle.load(file)
