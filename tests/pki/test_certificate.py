"""The parser against ``cryptography``, and every form it must refuse."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from typing import Any

import pki_forge as forge
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from pki_forge import DAY, NOW, OSI

from fastsec import limits
from fastsec._core.cursor import Reader, encode_oid, tlv
from fastsec._core.pk import read_time
from fastsec.errors import HandshakeError, PeerError
from fastsec.pki import builder, oids
from fastsec.pki.builder import Extension
from fastsec.pki.certificate import Certificate, name_text
from fastsec.pki.trial import TrialAuthority

ROOT = forge.root()
PUBLIC = builder.spki(builder.generate_key("p256").public_key())
EXTENSIONS = forge.leaf_extensions(ROOT, PUBLIC)
LEAF = forge.leaf(ROOT, public=PUBLIC)


def refused(der: bytes, words: str = "", *, ca: bool = False) -> None:
    with pytest.raises(HandshakeError) as caught:
        Certificate(der, ca=ca)
    assert caught.value.check == ("path" if ca else "certificate")
    assert words in str(caught.value)


def signed(*parts: bytes, algorithm: bytes | None = None) -> bytes:
    """A certificate of these components of the TBSCertificate."""
    outer = algorithm or builder.signature_algorithm(ROOT.key, "sha256")
    return tlv(0x30, tlv(0x30, b"".join(parts)) + outer + tlv(0x03, b"\x00" + bytes(70)))


def components(**changes: bytes) -> list[bytes]:
    """The components of a proper TBSCertificate, some of them changed."""
    parts = {
        "version": tlv(0xA0, b"\x02\x01\x02"),
        "serial": b"\x02\x01\x07",
        "algorithm": builder.signature_algorithm(ROOT.key, "sha256"),
        "issuer": ROOT.name,
        "validity": tlv(0x30, builder.time(NOW - DAY) + builder.time(NOW + DAY)),
        "subject": builder.osi_subject(OSI),
        "public": PUBLIC,
        "extensions": tlv(0xA3, tlv(0x30, b"")),
    }
    parts.update(changes)
    return list(parts.values())


def extension(oid: str, value: bytes, critical: bytes = b"") -> bytes:
    return tlv(0x30, tlv(0x06, encode_oid(oid)) + critical + tlv(0x04, value))


def with_extensions(*extensions: bytes) -> bytes:
    return signed(*components(extensions=tlv(0xA3, tlv(0x30, b"".join(extensions)))))


# --- against the oracle ---------------------------------------------------------------------------------------------
def samples() -> list[tuple[bytes, bool]]:
    authority = TrialAuthority.in_memory(NOW)
    middle = forge.intermediate(ROOT, path_len=1)
    wide = forge.root("wide", key=ec.generate_private_key(ec.SECP384R1()), digest="sha384")
    rsa_root = forge.root("rsa", key=forge.RSA_2048, digest="sha512")
    return [
        (LEAF, False),
        (ROOT.certificate, True),
        (middle.certificate, True),
        (wide.certificate, True),
        (rsa_root.certificate, True),
        (forge.leaf(rsa_root, key=forge.RSA_2048), False),
        (forge.leaf(wide, not_after_ms=253_402_300_799_000), False),
        (authority.root, True),
        (authority.issue_e2e("a", OSI).certificate, False),
        (authority.issue_e2e("a", OSI, key="brainpool").certificate, False),
        (authority.issue_tls("a", ["localhost", "127.0.0.1"]).certificate, False),
    ]


def ms(moment: datetime.datetime) -> int:
    return int(moment.timestamp()) * 1000


@pytest.mark.parametrize(("der", "ca"), samples())
def test_fields_as_the_oracle_reads_them(der: bytes, ca: bool) -> None:
    ours, theirs = Certificate(der, ca=ca), x509.load_der_x509_certificate(der)
    assert ours.tbs == theirs.tbs_certificate_bytes
    assert ours.signature == theirs.signature
    assert ours.signature_algorithm == theirs.signature_algorithm_oid.dotted_string
    assert int.from_bytes(ours.serial, "big") == theirs.serial_number
    assert ours.issuer == theirs.issuer.public_bytes()
    assert (ours.not_before_ms, ours.not_after_ms) == (ms(theirs.not_valid_before_utc), ms(theirs.not_valid_after_utc))
    assert ours.public_key.bits == theirs.public_key().key_size  # type: ignore[union-attr]  # RSA and EC keys have it
    spki = theirs.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert ours.public_key.octets in spki
    assert ours.sha256 == theirs.fingerprint(hashes.SHA256())
    found = theirs.extensions
    usage = found.get_extension_for_class(x509.KeyUsage).value
    assert ours.has_usage(oids.KU_DIGITAL_SIGNATURE) == usage.digital_signature
    assert ours.has_usage(oids.KU_KEY_AGREEMENT) == usage.key_agreement
    assert ours.has_usage(oids.KU_KEY_CERT_SIGN) == usage.key_cert_sign
    assert ours.has_usage(oids.KU_CRL_SIGN) == usage.crl_sign
    assert ours.subject_key_id == found.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert ours.authority_key_id == found.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    if ca:
        constraints = found.get_extension_for_class(x509.BasicConstraints).value
        assert (ours.is_ca, ours.path_len) == (constraints.ca, constraints.path_length)
    else:
        assert not ours.is_ca
        names = found.get_extension_for_class(x509.SubjectAlternativeName).value
        assert list(ours.registered_ids) == [oid.dotted_string for oid in names.get_values_for_type(x509.RegisteredID)]


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_a_changed_certificate_is_a_value_or_refused(data: st.DataObject) -> None:
    changed = bytearray(LEAF)
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(changed) - 1))
        kind = data.draw(st.sampled_from(["set", "insert", "delete"]))
        if kind == "set":
            changed[position] = data.draw(st.integers(0, 255))
        elif kind == "insert":
            changed[position:position] = data.draw(st.binary(max_size=3))
        else:
            del changed[position : position + data.draw(st.integers(1, 3))]
    try:
        ours = Certificate(bytes(changed))
    except PeerError:
        return
    # The oracle also looks into names, which we compare octet by octet; what both take they read alike.
    try:
        theirs = x509.load_der_x509_certificate(bytes(changed))
    except ValueError:
        return
    assert ours.tbs == theirs.tbs_certificate_bytes
    assert int.from_bytes(ours.serial, "big") == theirs.serial_number
    assert ours.not_after_ms == ms(theirs.not_valid_after_utc)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_noise(der: bytes) -> None:
    refused(der)


def test_every_truncation_and_extension() -> None:
    for size in range(len(LEAF)):
        refused(LEAF[:size])
    refused(LEAF + b"\x00")
    refused(LEAF + LEAF)


# --- components -----------------------------------------------------------------------------------------------------
def test_the_proper_form_passes() -> None:
    assert Certificate(signed(*components())).subject_oid == OSI.oid


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        ("version 3", {"version": tlv(0xA0, b"\x02\x01\x01")}),
        ("version 3", {"version": tlv(0xA0, b"\x02\x01\x03")}),
        ("version 3", {"version": tlv(0xA0, b"\x02\x02\x00\x02")}),
        ("malformed", {"version": b""}),
        ("malformed", {"version": tlv(0xA0, b"\x02\x01\x02\x05\x00")}),
        ("serial", {"serial": b"\x02\x01\x80"}),
        ("serial", {"serial": b"\x02\x00"}),
        ("serial", {"serial": b"\x02\x02\x00\x07"}),
        ("serial", {"serial": b"\x02\x16\x01" + bytes(21)}),
        ("two signature algorithms", {"algorithm": builder.signature_algorithm(ROOT.key, "sha384")}),
        ("time", {"validity": tlv(0x30, b"\x17\x0b2609210000Z" + builder.time(NOW))}),
        ("time", {"validity": tlv(0x30, b"\x17\x0d260921000060Z" + builder.time(NOW))}),
        ("time", {"validity": tlv(0x30, b"\x17\x0d261321000000Z" + builder.time(NOW))}),
        ("time", {"validity": tlv(0x30, b"\x17\x0d26092100000+Z" + builder.time(NOW))}),
        ("time", {"validity": tlv(0x30, b"\x17\x0d2609210000001" + builder.time(NOW))}),
        ("malformed", {"validity": tlv(0x30, b"\x18\x1320260921000000.000Z" + builder.time(NOW))}),
        ("malformed", {"validity": tlv(0x30, b"\x17\x11260921000000+0100" + builder.time(NOW))}),
        ("malformed", {"validity": tlv(0x30, builder.time(NOW))}),
        ("malformed", {"validity": tlv(0x30, builder.time(NOW) * 3)}),
        ("unique identifier", {"public": PUBLIC + b"\x82\x02\x00\x01"}),
        ("unique identifier", {"public": PUBLIC + b"\x81\x02\x00\x01"}),
        ("unknown component", {"extensions": tlv(0xA3, tlv(0x30, b"")) + tlv(0xA4, b"")}),
        ("malformed", {"extensions": tlv(0xA3, tlv(0x30, b"") + b"\x05\x00")}),
        ("malformed", {"issuer": b"\x05\x00"}),
        ("malformed", {"subject": tlv(0x30, tlv(0x31, tlv(0x30, tlv(0x06, b"\x55\x04\x03"))))}),
    ],
)
def test_components(words: str, changes: dict[str, bytes]) -> None:
    refused(signed(*components(**changes)), words)


def test_serial_numbers() -> None:
    assert Certificate(signed(*components(serial=b"\x02\x01\x00"))).serial == b"\x00"
    assert Certificate(signed(*components(serial=b"\x02\x11\x00" + b"\xff" * 16))).serial == b"\x00" + b"\xff" * 16


@pytest.mark.parametrize(
    "algorithm",
    [
        "1.2.840.113549.1.1.5",  # sha1WithRSAEncryption
        "1.2.840.113549.1.1.4",
        "1.2.840.10045.4.1",  # ecdsa-with-SHA1
        "1.2.840.113549.1.1.10",  # PSS
        "1.3.101.112",
    ],
)
def test_signature_algorithms(algorithm: str) -> None:
    identifier = tlv(0x30, tlv(0x06, encode_oid(algorithm)))
    refused(signed(*components(algorithm=identifier), algorithm=identifier), "not supported")


def test_signature_algorithm_parameters() -> None:
    for tail, good in (
        (b"", True),
        (b"\x05\x00", True),
        (b"\x05\x01\x00", False),
        (b"\x30\x00", False),
        (b"\x05\x00\x05\x00", False),
    ):
        identifier = tlv(0x30, tlv(0x06, encode_oid(oids.RSA_WITH["sha256"])) + tail)
        der = signed(*components(algorithm=identifier), algorithm=identifier)
        if good:
            assert Certificate(der).signature_algorithm == oids.RSA_WITH["sha256"]
        else:
            refused(der)


def test_signature_is_whole_octets() -> None:
    identifier = builder.signature_algorithm(ROOT.key, "sha256")
    refused(tlv(0x30, tlv(0x30, b"".join(components())) + identifier + b"\x03\x02\x01\x80"), "whole octets")


def test_lengths_are_der() -> None:
    der = signed(*components(serial=b"\x02\x81\x01\x07"))
    refused(der, "malformed")
    long = signed(*components(issuer=b"\x30\x81" + ROOT.name[1:]))
    refused(long, "malformed")
    indefinite = signed(*components(issuer=b"\x30\x80" + ROOT.name[2:] + b"\x00\x00"))
    refused(indefinite, "malformed")


# --- times ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"\x17\x0d700101000000Z", 0),
        (b"\x17\x0d491231235959Z", 2_524_607_999_000),
        (b"\x17\x0d500101000000Z", -631_152_000_000),
        (b"\x18\x0f20500101000000Z", 2_524_608_000_000),
        (b"\x18\x0f99991231235959Z", 253_402_300_799_000),
        (b"\x18\x0f00010101000000Z", -62_135_596_800_000),
        (b"\x17\x0d240229000000Z", 1_709_164_800_000),
    ],
)
def test_times(octets: bytes, expected: int) -> None:
    assert read_time(Reader(octets)) == expected


# --- extensions -----------------------------------------------------------------------------------------------------
USAGE = extension(oids.KEY_USAGE, b"\x03\x02\x03\x88", b"\x01\x01\xff")


@pytest.mark.parametrize(
    ("words", "extensions"),
    [
        ("unknown critical", [USAGE, extension("1.2.3", b"\x05\x00", b"\x01\x01\xff")]),
        ("unknown critical", [extension("2.5.29.30", b"\x30\x00", b"\x01\x01\xff")]),  # nameConstraints
        ("unknown critical", [extension("2.5.29.36", b"\x30\x00", b"\x01\x01\xff")]),  # policyConstraints
        ("twice", [USAGE, USAGE]),
        ("twice", [extension("1.2.3", b"\x05\x00"), extension("1.2.3", b"\x05\x00")]),
        ("critical is not DER", [extension(oids.KEY_USAGE, b"\x03\x02\x03\x88", b"\x01\x01\x00")]),
        ("critical is not DER", [extension(oids.KEY_USAGE, b"\x03\x02\x03\x88", b"\x01\x01\x01")]),
        ("malformed", [extension(oids.KEY_USAGE, b"")]),
        ("malformed", [extension(oids.KEY_USAGE, b"\x04\x02\x03\x88")]),
        ("malformed", [extension(oids.KEY_USAGE, b"\x03\x02\x03\x88\x00")]),
        ("malformed", [extension(oids.KEY_USAGE, b"\x03\x02\x09\x88")]),
        ("malformed", [extension("1.2.3", b"\x05")]),
        ("malformed", [extension(oids.SUBJECT_ALT_NAME, b"\x30\x02\x88\x00")]),
        ("malformed", [extension(oids.SUBJECT_ALT_NAME, b"\x30\x04\x88\x02\x80\x01")]),
        ("malformed", [extension(oids.SUBJECT_ALT_NAME, b"\x31\x00")]),
        ("malformed", [extension(oids.BASIC_CONSTRAINTS, b"\x30\x00\x30\x00")]),
        ("pathLen", [extension(oids.BASIC_CONSTRAINTS, b"\x30\x03\x02\x01\x01")]),
        ("pathLen", [extension(oids.BASIC_CONSTRAINTS, b"\x30\x06\x01\x01\x00\x02\x01\x01")]),
        ("pathLen", [extension(oids.BASIC_CONSTRAINTS, b"\x30\x06\x01\x01\xff\x02\x01\xff")]),
        ("malformed", [extension(oids.BASIC_CONSTRAINTS, b"\x30\x05\x01\x01\xff\x05\x00")]),
        ("malformed", [extension(oids.SUBJECT_KEY_IDENTIFIER, b"\x05\x00")]),
        ("malformed", [extension(oids.AUTHORITY_KEY_IDENTIFIER, b"\x04\x01\x00")]),
        ("malformed", [extension(oids.EXTENDED_KEY_USAGE, b"\x30\x02\x05\x00")]),
        ("malformed", [tlv(0x30, tlv(0x06, b"\x2a\x03"))]),
        ("malformed", [tlv(0x31, b"")]),
        ("malformed", [extension("1.2.3", b"\x05\x00")[:-2] + b"\x05\x00\x05\x00"]),
    ],
)
def test_extensions(words: str, extensions: Sequence[bytes]) -> None:
    refused(with_extensions(*extensions), words)


def test_extensions_that_may_be_critical() -> None:
    policies = extension(oids.CERTIFICATE_POLICIES, b"\x30\x00", b"\x01\x01\xff")
    assert Certificate(with_extensions(USAGE, policies)).key_usage == 0b10001
    unknown = extension("1.2.3", b"\x05\x00")
    assert Certificate(with_extensions(unknown, USAGE)).key_usage == 0b10001


def test_no_extensions() -> None:
    bare = Certificate(signed(*components(extensions=b"")))
    assert (bare.key_usage, bare.is_ca, bare.registered_ids, bare.subject_key_id) == (None, False, (), None)
    with pytest.raises(HandshakeError):
        bare.check_leaf()


def test_registered_ids_among_other_names() -> None:
    names = b"\x82\x01a" + b"\x88\x02\x2a\x03" + b"\x87\x04\x7f\x00\x00\x01" + b"\x88\x02\x2a\x04"
    certificate = Certificate(with_extensions(extension(oids.SUBJECT_ALT_NAME, tlv(0x30, names))))
    assert certificate.registered_ids == ("1.2.3", "1.2.4")


# --- subjects -------------------------------------------------------------------------------------------------------
ATTRIBUTE = tlv(0x30, tlv(0x06, encode_oid(oids.OBJECT_IDENTIFIER)) + tlv(0x06, encode_oid("1.2.3")))
COMMON_NAME = tlv(0x30, tlv(0x06, encode_oid("2.5.4.3")) + tlv(0x0C, b"device"))


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        (tlv(0x30, tlv(0x31, ATTRIBUTE)), "1.2.3"),
        (tlv(0x30, tlv(0x31, ATTRIBUTE) * 2), None),
        (tlv(0x30, tlv(0x31, ATTRIBUTE + COMMON_NAME)), None),
        (tlv(0x30, tlv(0x31, ATTRIBUTE) + tlv(0x31, COMMON_NAME)), None),
        (tlv(0x30, tlv(0x31, COMMON_NAME) + tlv(0x31, ATTRIBUTE)), None),
        (tlv(0x30, tlv(0x31, COMMON_NAME)), None),
        (b"\x30\x00", None),
        # The value must be an OBJECT IDENTIFIER, not text that looks like one.
        (tlv(0x30, tlv(0x31, tlv(0x30, tlv(0x06, b"\x55\x04\x6a") + tlv(0x0C, b"1.2.3")))), None),
    ],
)
def test_subjects(subject: bytes, expected: str | None) -> None:
    assert Certificate(signed(*components(subject=subject))).subject_oid == expected


def test_name_text() -> None:
    assert name_text(builder.text_name(o="TRIAL", cn="a\nb")) == "TRIAL, a?b"
    assert name_text(builder.osi_subject(OSI)) == OSI.oid
    assert name_text(b"\x30\x05") == "a name that cannot be read"
    assert len(name_text(builder.text_name(cn="x" * 500))) == 96


# --- the rules of Annex G -------------------------------------------------------------------------------------------
def leaf_refused(der: bytes, words: str) -> None:
    with pytest.raises(HandshakeError) as caught:
        Certificate(der).check_leaf()
    assert caught.value.check == "certificate"
    assert words in str(caught.value)


def test_leaf_passes() -> None:
    Certificate(LEAF).check_leaf()


@pytest.mark.parametrize(
    "bits",
    [(), (oids.KU_DIGITAL_SIGNATURE,), (oids.KU_KEY_AGREEMENT,), (oids.KU_DIGITAL_SIGNATURE, oids.KU_KEY_ENCIPHERMENT)],
)
def test_leaf_usage(bits: tuple[int, ...]) -> None:
    extensions = forge.replace(EXTENSIONS, builder.key_usage(*bits))
    leaf_refused(forge.leaf(ROOT, public=PUBLIC, extensions=extensions), "key usage")


def test_leaf_without_usage() -> None:
    leaf_refused(forge.leaf(ROOT, public=PUBLIC, extensions=forge.without(EXTENSIONS, oids.KEY_USAGE)), "key usage")


def test_tls_certificate_is_no_leaf() -> None:
    leaf_refused(TrialAuthority.in_memory(NOW).issue_tls("a", ["localhost"]).certificate, "key usage")


def test_leaf_for_other_purposes() -> None:
    purposes = builder.extended_key_usage(oids.SERVER_AUTH)
    critical = Extension(purposes.oid, purposes.value, critical=True)
    leaf_refused(forge.leaf(ROOT, public=PUBLIC, extensions=(*EXTENSIONS, critical)), "extended key usage")
    Certificate(forge.leaf(ROOT, public=PUBLIC, extensions=(*EXTENSIONS, purposes))).check_leaf()
    both = builder.extended_key_usage(oids.SERVER_AUTH, oids.ANY_PURPOSE)
    critical = Extension(both.oid, both.value, critical=True)
    Certificate(forge.leaf(ROOT, public=PUBLIC, extensions=(*EXTENSIONS, critical))).check_leaf()


def test_authority_is_no_leaf() -> None:
    extensions = (*EXTENSIONS, builder.basic_constraints(True))
    leaf_refused(forge.leaf(ROOT, public=PUBLIC, extensions=extensions), "authority")


def test_leaf_size() -> None:
    def sized(filler: int) -> bytes:
        return forge.leaf(ROOT, public=PUBLIC, extensions=(*EXTENSIONS, Extension("1.2.3", tlv(0x04, bytes(filler)))))

    # Signatures vary by some octets, so the exact size is searched.
    wanted: dict[int, bytes] = {}
    for _ in range(200):
        base = limits.SPEC_CERTIFICATE_MAX - len(sized(7000)) + 7000
        for filler in (base, base + 1):
            der = sized(filler)
            wanted.setdefault(len(der), der)
        if {limits.SPEC_CERTIFICATE_MAX, limits.SPEC_CERTIFICATE_MAX + 1} <= set(wanted):
            break
    Certificate(wanted[limits.SPEC_CERTIFICATE_MAX]).check_leaf()
    refused(wanted[limits.SPEC_CERTIFICATE_MAX + 1], "octets")
    with pytest.raises(HandshakeError):
        Certificate(wanted[limits.SPEC_CERTIFICATE_MAX + 1], ca=True).check_leaf()


@pytest.mark.parametrize(
    "make",
    [
        lambda: ec.generate_private_key(ec.SECP384R1()),
        lambda: ec.generate_private_key(ec.BrainpoolP384R1()),
        lambda: ec.generate_private_key(ec.SECP256K1()),
        lambda: rsa.generate_private_key(65537, 1024),
    ],
    ids=["P-384", "brainpoolP384r1", "secp256k1", "RSA 1024"],
)
def test_leaf_keys(make: Callable[[], Any]) -> None:
    refused(forge.leaf(ROOT, key=make()))


def test_leaf_keys_of_odd_forms() -> None:
    modulus = forge.RSA_2048.public_key().public_numbers().n
    algorithm = tlv(0x30, tlv(0x06, encode_oid("1.2.840.113549.1.1.1")) + b"\x05\x00")
    for exponent, good in ((65537, True), (65536, False), (1, False), (2**32 + 1, False)):
        key = tlv(0x30, builder.integer(modulus) + builder.integer(exponent))
        public = tlv(0x30, algorithm + tlv(0x03, b"\x00" + key))
        der = forge.leaf(ROOT, public=public, extensions=EXTENSIONS)
        if good:
            Certificate(der).check_leaf()
        else:
            refused(der)
    ec_public = tlv(0x06, encode_oid("1.2.840.10045.2.1"))
    point = PUBLIC[-66:]
    # Explicit and implicit parameters instead of a named curve.
    for parameters in (tlv(0x30, b"\x02\x01\x01"), b"\x05\x00", b""):
        public = tlv(0x30, tlv(0x30, ec_public + parameters) + tlv(0x03, point))
        refused(forge.leaf(ROOT, public=public, extensions=EXTENSIONS))
