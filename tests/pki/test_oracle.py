"""Our verdict on whole paths beside that of pyhanko-certvalidator, a path validation by other people."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field

import pki_forge as forge
import pytest
from pki_forge import DAY, NOW, Ca

from fastsec.errors import HandshakeError
from fastsec.pki import builder, oids
from fastsec.pki.path import TrustStore

asn1crypto_x509 = pytest.importorskip("asn1crypto.x509")
asn1crypto_crl = pytest.importorskip("asn1crypto.crl")
certvalidator = pytest.importorskip("pyhanko_certvalidator")


@dataclass
class Case:
    """A leaf, what comes with it, and what should become of it."""

    passes: bool
    anchors: Sequence[Ca]
    leaf: bytes
    path: Sequence[bytes] = ()
    crls: Sequence[bytes] = field(default_factory=tuple)


def oracle(case: Case) -> bool:
    """Whether pyhanko-certvalidator accepts; without revocation information it is told to go on, as we do."""
    load = asn1crypto_x509.Certificate.load
    context = certvalidator.ValidationContext(
        trust_roots=[load(ca.certificate) for ca in case.anchors],
        other_certs=[load(der) for der in case.path],
        moment=datetime.datetime.fromtimestamp(NOW / 1000, datetime.UTC),
        allow_fetching=False,
        revocation_mode="require" if case.crls else "soft-fail",
        crls=list(case.crls),
    )
    validator = certvalidator.CertificateValidator(
        load(case.leaf), intermediate_certs=[load(der) for der in case.path], validation_context=context
    )
    try:
        asyncio.run(validator.async_validate_usage({"digital_signature", "key_agreement"}))
    except Exception:
        return False
    return True


def ours(case: Case) -> bool:
    trust = TrustStore([ca.certificate for ca in case.anchors], case.crls)
    try:
        trust.validate(case.leaf, case.path, NOW)
    except HandshakeError:
        return False
    return True


def cases() -> dict[str, Case]:
    root, stranger = forge.root(), forge.root("stranger")
    middle = forge.intermediate(root, serial=50)
    low = forge.intermediate(middle, "low")
    narrow = forge.intermediate(root, "narrow", path_len=0)
    below_narrow = forge.intermediate(narrow, "below")
    expired = forge.intermediate(root, "expired", not_after_ms=NOW - DAY)
    impostor = Ca(root.name, builder.generate_key("p256"))
    brainpool = forge.root("brainpool", key=builder.generate_key("brainpool"))
    plain_key = builder.generate_key("p256")
    plain = Ca(builder.text_name(cn="plain"), plain_key)
    not_an_authority = root.sign(
        plain.name, builder.spki(plain_key.public_key()), (builder.key_usage(oids.KU_KEY_CERT_SIGN),)
    )
    usage = forge.replace(
        forge.leaf_extensions(root, builder.spki(plain_key.public_key())), builder.key_usage(oids.KU_DIGITAL_SIGNATURE)
    )
    critical = builder.Extension("1.2.3.4", b"\x05\x00", critical=True)
    unknown = (*forge.leaf_extensions(root, builder.spki(plain_key.public_key())), critical)
    leaf = forge.leaf(root, serial=7)
    return {
        "direct": Case(True, [root], leaf),
        "one of many anchors": Case(True, [stranger, brainpool, root], leaf),
        "brainpool": Case(True, [brainpool], forge.leaf(brainpool)),
        "intermediate": Case(True, [root], forge.leaf(middle), [middle.certificate]),
        "two intermediates": Case(True, [root], forge.leaf(low), [middle.certificate, low.certificate]),
        "clean list": Case(True, [root], leaf, crls=[root.crl(8)]),
        "revoked": Case(False, [root], leaf, crls=[root.crl(7)]),
        "clean lists": Case(True, [root], forge.leaf(middle), [middle.certificate], [root.crl(51), middle.crl()]),
        "revoked intermediate": Case(
            False, [root], forge.leaf(middle), [middle.certificate], [root.crl(50), middle.crl()]
        ),
        "stranger": Case(False, [root], forge.leaf(stranger)),
        "missing intermediate": Case(False, [root], forge.leaf(middle)),
        "forged": Case(False, [root], forge.leaf(impostor)),
        "expired": Case(False, [root], forge.leaf(root, not_after_ms=NOW - DAY)),
        "early": Case(False, [root], forge.leaf(root, not_before_ms=NOW + DAY)),
        "expired intermediate": Case(False, [root], forge.leaf(expired), [expired.certificate]),
        "not an authority": Case(False, [root], forge.leaf(plain), [not_an_authority]),
        "path length": Case(False, [root], forge.leaf(below_narrow), [narrow.certificate, below_narrow.certificate]),
        "usage": Case(False, [root], forge.leaf(root, key=plain_key, extensions=usage)),
        "unknown critical": Case(False, [root], forge.leaf(root, key=plain_key, extensions=unknown)),
    }


@pytest.mark.parametrize("name", list(cases()))
def test_same_verdict(name: str) -> None:
    case = cases()[name]
    assert ours(case) == case.passes
    assert oracle(case) == case.passes
