"""Path validation: what passes passes at the oracles too, and every rule has something it refuses."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pki_forge as forge
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from pki_forge import DAY, NOW, OSI, Ca

from fastsec import limits
from fastsec._core.cursor import tlv
from fastsec.errors import ConfigError, HandshakeError
from fastsec.pki import builder, oids
from fastsec.pki.certificate import Certificate
from fastsec.pki.identity import OsiName
from fastsec.pki.path import TrustStore

ROOT = forge.root()
INTERMEDIATE = forge.intermediate(ROOT)
LEAF = forge.leaf(ROOT)


def store(*anchors: Ca, crls: Sequence[bytes] = (), binding: Any = "either") -> TrustStore:
    return TrustStore([ca.certificate for ca in anchors or (ROOT,)], crls, binding)


def refused(check: str, trust: TrustStore, leaf: bytes, path: Sequence[bytes] = (), now: int = NOW) -> HandshakeError:
    with pytest.raises(HandshakeError) as caught:
        trust.validate(leaf, path, now)
    assert caught.value.check == check, caught.value
    return caught.value


def issued_by(child: bytes, issuer: bytes) -> bool:
    """The oracle's word on name and signature."""
    try:
        x509.load_der_x509_certificate(child).verify_directly_issued_by(x509.load_der_x509_certificate(issuer))
    except Exception:
        return False
    return True


# --- what passes ----------------------------------------------------------------------------------------------------
def test_leaf_under_the_anchor() -> None:
    peer = store().validate(LEAF, [], NOW)
    assert issued_by(LEAF, ROOT.certificate)
    assert peer.names == {OSI.oid}
    assert peer.certificate.der == LEAF
    assert peer.not_after_ms == peer.certificate.not_after_ms
    assert [ca.der for ca in peer.chain] == [ROOT.certificate]


@pytest.mark.parametrize("kind", ["p256", "brainpool", "rsa2048"])
@pytest.mark.parametrize(
    "root_key",
    [
        ec.SECP256R1(),
        ec.BrainpoolP256R1(),
        ec.SECP384R1(),
        ec.SECP521R1(),
        ec.BrainpoolP384R1(),
        ec.BrainpoolP512R1(),
        "rsa",
    ],
    ids=str,
)
@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
def test_keys_and_signatures(kind: str, root_key: Any, digest: str) -> None:
    key = forge.RSA_2048 if root_key == "rsa" else ec.generate_private_key(root_key)
    root = forge.root(key=key, digest=digest)
    leaf = forge.leaf(root, key=forge.RSA_2048 if kind == "rsa2048" else builder.generate_key(kind))
    assert issued_by(leaf, root.certificate)
    assert store(root).validate(leaf, [], NOW).names == {OSI.oid}


def test_every_order_of_a_long_path() -> None:
    chain = [forge.root("r")]
    for number in range(4):
        chain.append(forge.intermediate(chain[-1], f"i{number}", path_len=3 - number))
    leaf = forge.leaf(chain[-1])
    trust = store(chain[0])
    path = [ca.certificate for ca in chain[1:]]
    for order in itertools.permutations(path):
        peer = trust.validate(leaf, order, NOW)
        assert [ca.der for ca in peer.chain] == [*reversed(path), chain[0].certificate]
    assert refused("path", trust, leaf, path[1:])
    assert refused("path", trust, leaf, path[:-1])


def test_several_anchors() -> None:
    roots = [forge.root(f"root {number}") for number in range(7)]
    trust = store(*roots)
    for root in roots:
        assert trust.validate(forge.leaf(root), [], NOW).chain[0].der == root.certificate
    assert len(trust.anchors) == 7


def test_namesake_anchors_with_other_keys() -> None:
    old, new = forge.root("root"), forge.root("root")
    for issuer in (old, new):
        for order in ((old, new), (new, old)):
            assert store(*order).validate(forge.leaf(issuer), [], NOW).chain[0].der == issuer.certificate
    bare = (builder.key_usage(*forge.LEAF_USAGE),)
    leaf = forge.leaf(new, extensions=bare)
    for order in ((old, new), (new, old)):
        assert store(*order).validate(leaf, [], NOW).chain[0].der == new.certificate


def test_root_in_the_path_does_no_harm() -> None:
    leaf = forge.leaf(INTERMEDIATE)
    trust = store()
    assert trust.validate(leaf, [ROOT.certificate, INTERMEDIATE.certificate], NOW).names == {OSI.oid}
    assert trust.validate(leaf, [INTERMEDIATE.certificate] * 3, NOW).names == {OSI.oid}
    assert trust.validate(LEAF, [INTERMEDIATE.certificate, forge.root("stranger").certificate], NOW).names == {OSI.oid}


def test_intermediate_as_anchor() -> None:
    assert len(store(INTERMEDIATE).validate(forge.leaf(INTERMEDIATE), [], NOW).chain) == 1


def test_validity_includes_both_ends() -> None:
    leaf = forge.leaf(ROOT, not_before_ms=NOW, not_after_ms=NOW + 5000)
    trust = store()
    assert trust.validate(leaf, [], NOW)
    assert trust.validate(leaf, [], NOW + 5999)
    assert "not yet" in str(refused("certificate", trust, leaf, now=NOW - 1))
    assert "expired" in str(refused("certificate", trust, leaf, now=NOW + 6000))


def test_certificates_that_do_not_expire() -> None:
    end = 253_402_300_799_000  # 99991231235959Z
    root = forge.root(not_after_ms=end)
    leaf = forge.leaf(root, not_after_ms=end)
    assert b"99991231235959Z" in leaf
    assert store(root).validate(leaf, [], NOW).not_after_ms == end


def test_not_after_is_the_first_of_the_chain() -> None:
    root = forge.root(not_after_ms=NOW + 3 * DAY)
    middle = forge.intermediate(root, not_after_ms=NOW + 2 * DAY)
    leaf = forge.leaf(middle, not_after_ms=NOW + 5 * DAY)
    assert store(root).validate(leaf, [middle.certificate], NOW).not_after_ms == NOW + 2 * DAY


# --- forged and foreign ---------------------------------------------------------------------------------------------
def test_forged_leaf() -> None:
    impostor = Ca(ROOT.name, builder.generate_key("p256"))
    public = builder.spki(builder.generate_key("p256").public_key())
    # Under the name of the root, with the root's key identifier, and with the impostor's own.
    for extensions in (
        forge.leaf_extensions(ROOT, public),
        forge.without(forge.leaf_extensions(ROOT, public), oids.AUTHORITY_KEY_IDENTIFIER),
    ):
        leaf = forge.leaf(impostor, public=public, extensions=extensions)
        assert not issued_by(leaf, ROOT.certificate)
        refused("certificate-signature", store(), leaf)
    refused("certificate-signature", store(), forge.leaf(impostor))


def test_every_octet_of_the_signed_part_counts() -> None:
    trust = store()
    verdicts = set()
    for position in range(len(LEAF)):
        changed = bytearray(LEAF)
        changed[position] ^= 0x01
        with pytest.raises(HandshakeError) as caught:
            trust.validate(bytes(changed), [], NOW)
        verdicts.add(caught.value.check)
    assert verdicts == {"certificate", "path", "certificate-signature"}


def test_forged_intermediate() -> None:
    impostor = Ca(ROOT.name, builder.generate_key("p256"))
    middle = forge.intermediate(impostor)
    refused("certificate-signature", store(), forge.leaf(middle), [middle.certificate])


def test_other_authority() -> None:
    stranger = forge.root("stranger")
    refused("path", store(), forge.leaf(stranger))
    refused("path", store(), forge.leaf(stranger), [stranger.certificate])
    middle = forge.intermediate(stranger)
    refused("path", store(), forge.leaf(middle), [middle.certificate, stranger.certificate])


def test_missing_intermediate() -> None:
    refused("path", store(), forge.leaf(INTERMEDIATE))


def test_names_are_compared_octet_by_octet() -> None:
    leaf = forge.leaf(ROOT, issuer=builder.text_name(cn="ROOT"))
    refused("path", store(), leaf)


def test_signature_by_a_hash_the_issuers_key_does_not_have() -> None:
    # An EC signature labelled RSA: both algorithm fields say so.
    leaf = Certificate(LEAF)
    ecdsa = builder.signature_algorithm(ROOT.key, "sha256")
    rsa_id = builder.signature_algorithm(forge.RSA_2048, "sha256")
    tbs = leaf.tbs.replace(ecdsa, rsa_id)
    content = tbs[4:]
    changed = tlv(0x30, tlv(0x30, content) + rsa_id + tlv(0x03, b"\x00" + leaf.signature))
    refused("certificate-signature", store(), changed)


# --- authorities ----------------------------------------------------------------------------------------------------
def test_intermediate_that_is_no_authority() -> None:
    public_key = builder.generate_key("p256")
    fake = Ca(builder.text_name(cn="fake"), public_key)
    identifiers = (builder.subject_key_identifier(fake.identifier), builder.authority_key_identifier(ROOT.identifier))
    for extensions in (
        (builder.key_usage(*forge.CA_USAGE), *identifiers),
        (builder.basic_constraints(False), builder.key_usage(*forge.CA_USAGE), *identifiers),
        (),
    ):
        certificate = ROOT.sign(fake.name, builder.spki(public_key.public_key()), extensions)
        assert "not an authority" in str(refused("path", store(), forge.leaf(fake), [certificate]))


def test_a_peers_own_certificate_issues_nothing() -> None:
    key = builder.generate_key("p256")
    peer = forge.leaf(ROOT, key=key)
    impostor = Ca(builder.osi_subject(OSI), key)
    refused(
        "path",
        store(),
        forge.leaf(
            impostor,
            subject=builder.osi_subject(OsiName("1.1.1.999.1", 1)),
            extensions=(builder.key_usage(*forge.LEAF_USAGE),),
        ),
        [peer],
    )


@pytest.mark.parametrize("usage", [(), (oids.KU_CRL_SIGN,), (oids.KU_DIGITAL_SIGNATURE, oids.KU_KEY_AGREEMENT), None])
def test_intermediate_that_may_not_sign_certificates(usage: tuple[int, ...] | None) -> None:
    key = builder.generate_key("p256")
    fake = Ca(builder.text_name(cn="fake"), key)
    extensions = forge.ca_extensions(fake.identifier, ROOT.identifier)
    extensions = (
        forge.without(extensions, oids.KEY_USAGE)
        if usage is None
        else forge.replace(extensions, builder.key_usage(*usage))
    )
    middle = forge.intermediate(ROOT, key=key, extensions=extensions)
    assert "may not sign" in str(refused("path", store(), forge.leaf(middle), [middle.certificate]))


@pytest.mark.parametrize(
    ("path_len", "depth", "passes"), [(0, 1, False), (0, 0, True), (1, 1, True), (1, 2, False), (2, 2, True)]
)
def test_path_length_of_the_anchor(path_len: int, depth: int, passes: bool) -> None:
    chain = [forge.root("r", path_len=path_len)]
    for number in range(depth):
        chain.append(forge.intermediate(chain[-1], f"i{number}"))
    leaf = forge.leaf(chain[-1])
    path = [ca.certificate for ca in chain[1:]]
    if passes:
        assert store(chain[0]).validate(leaf, path, NOW)
    else:
        assert "pathLen" in str(refused("path", store(chain[0]), leaf, path))


def test_path_length_of_an_intermediate() -> None:
    upper = forge.intermediate(ROOT, "upper", path_len=0)
    lower = forge.intermediate(upper, "lower")
    assert store().validate(forge.leaf(upper), [upper.certificate], NOW)
    refused("path", store(), forge.leaf(lower), [lower.certificate, upper.certificate])


def test_self_issued_intermediates_do_not_count() -> None:
    # A key rollover within one name (RFC 5280 6.1.4 l).
    root = forge.root("r", path_len=1)
    old = forge.intermediate(root, "ca", path_len=0)
    new = forge.intermediate(old, "ca", path_len=0)
    assert store(root).validate(forge.leaf(new), [new.certificate, old.certificate], NOW)


@pytest.mark.parametrize("fields", [{"not_after_ms": NOW - 1000 - 1}, {"not_before_ms": NOW + 1000}])
def test_intermediate_out_of_its_time(fields: dict[str, int]) -> None:
    middle = forge.intermediate(ROOT, **fields)
    refused("path", store(), forge.leaf(middle), [middle.certificate])


def test_anchor_out_of_its_time() -> None:
    refused("path", store(), LEAF, now=NOW + 101 * DAY)


def test_unknown_critical_extension_of_an_intermediate() -> None:
    key = builder.generate_key("p256")
    identifier = builder.key_identifier(builder.spki(key.public_key()))
    constraints = builder.Extension("2.5.29.30", b"\x30\x00", critical=True)  # nameConstraints is not processed
    extensions = (*forge.ca_extensions(identifier, ROOT.identifier), constraints)
    middle = forge.intermediate(ROOT, key=key, extensions=extensions)
    refused("path", store(), forge.leaf(middle), [middle.certificate])


def test_weak_keys_of_intermediates() -> None:
    for key in (rsa.generate_private_key(65537, 1024), ec.generate_private_key(ec.SECP256K1())):
        middle = forge.intermediate(ROOT, key=key)
        refused("path", store(), forge.leaf(middle), [middle.certificate])


def test_circle_of_authorities() -> None:
    one, other = (
        Ca(builder.text_name(cn="a"), builder.generate_key("p256")),
        Ca(builder.text_name(cn="b"), builder.generate_key("p256")),
    )
    first = other.sign(
        one.name, builder.spki(one.key.public_key()), forge.ca_extensions(one.identifier, other.identifier)
    )
    second = one.sign(
        other.name, builder.spki(other.key.public_key()), forge.ca_extensions(other.identifier, one.identifier)
    )
    refused("path", store(), forge.leaf(one), [first, second])


def test_signature_verifications_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    # Four namesakes that all signed each other and the leaf: without a bound every permutation would be tried.
    count = 0
    original = Certificate.tbs.fget
    assert original is not None

    def counted(self: Certificate) -> bytes:
        nonlocal count
        count += 1
        return original(self)

    monkeypatch.setattr(Certificate, "tbs", property(counted))
    key = builder.generate_key("p256")
    name = builder.text_name(cn="x")
    ca = Ca(name, key)
    path = [
        ca.sign(name, builder.spki(key.public_key()), forge.ca_extensions(ca.identifier, ca.identifier))
        for _ in range(4)
    ]
    refused("path", store(), forge.leaf(ca), path)
    assert count == limits.OUR_PATH_VERIFICATIONS


def test_path_limits() -> None:
    leaf = forge.leaf(INTERMEDIATE)
    others = [forge.root(f"other {number}").certificate for number in range(4)]
    assert store().validate(leaf, [INTERMEDIATE.certificate, *others[:3]], NOW)
    refused("path", store(), leaf, [INTERMEDIATE.certificate, *others])
    key = builder.generate_key("p256")
    identifier = builder.key_identifier(builder.spki(key.public_key()))
    filler = builder.Extension("1.2.3", b"\x04\x82\x3a\x98" + bytes(15_000))
    large = forge.intermediate(ROOT, key=key, extensions=(*forge.ca_extensions(identifier, ROOT.identifier), filler))
    assert store().validate(forge.leaf(large), [large.certificate], NOW)
    assert len(large.certificate) + 4 * len(others[0]) > limits.OUR_CERT_PATH_MAX
    refused(
        "path",
        store(),
        forge.leaf(large),
        [
            large.certificate,
            others[0],
            others[1],
            others[2],
        ],
    )


def test_malformed_path() -> None:
    leaf = forge.leaf(INTERMEDIATE)
    for wrong in (b"", b"\x30\x00", INTERMEDIATE.certificate[:-1], INTERMEDIATE.certificate + b"\x00"):
        refused("path", store(), leaf, [wrong])


# --- identity -------------------------------------------------------------------------------------------------------
def named(subject: OsiName | None, registered: OsiName | None) -> bytes:
    public = builder.spki(builder.generate_key("p256").public_key())
    name = builder.text_name(cn="device") if subject is None else builder.osi_subject(subject)
    return forge.leaf(ROOT, public=public, subject=name, extensions=forge.leaf_extensions(ROOT, public, registered))


OTHER = OsiName("1.1.1.999.1", 12)


@pytest.mark.parametrize(
    ("subject", "registered", "by_subject", "by_registered_id", "by_either"),
    [
        (OSI, OSI, OSI, OSI, OSI),
        (OSI, None, OSI, None, OSI),
        (None, OSI, None, OSI, OSI),
        (OSI, OTHER, OSI, OTHER, None),
        (None, None, None, None, None),
    ],
)
def test_binding(
    subject: OsiName | None,
    registered: OsiName | None,
    by_subject: OsiName | None,
    by_registered_id: OsiName | None,
    by_either: OsiName | None,
) -> None:
    leaf = named(subject, registered)
    for binding, expected in (("subject", by_subject), ("registered-id", by_registered_id), ("either", by_either)):
        trust = store(binding=binding)
        if expected is None:
            refused("certificate", trust, leaf)
        else:
            assert trust.validate(leaf, [], NOW).names == {expected.oid}


def test_unknown_binding() -> None:
    with pytest.raises(ConfigError):
        store(binding="cn")


# --- the leaf's rules reach the verdict -----------------------------------------------------------------------------
def test_leaf_rules() -> None:
    usage = forge.replace(
        forge.leaf_extensions(ROOT, builder.spki(forge.RSA_2048.public_key())),
        builder.key_usage(oids.KU_DIGITAL_SIGNATURE),
    )
    refused("certificate", store(), forge.leaf(ROOT, key=forge.RSA_2048, extensions=usage))
    refused("certificate", store(), INTERMEDIATE.certificate)
    refused("certificate", store(), ROOT.certificate)
    refused("certificate", store(), b"")


def test_a_parsed_certificate_is_taken_only_for_its_octets() -> None:
    other = Certificate(
        forge.leaf(ROOT, subject=builder.osi_subject(OTHER), extensions=(builder.key_usage(*forge.LEAF_USAGE),))
    )
    assert store().validate(LEAF, [], NOW, certificate=other).names == {OSI.oid}
    parsed = Certificate(LEAF)
    assert store().validate(LEAF, [], NOW, certificate=parsed).certificate is parsed


def test_nothing_is_remembered_of_a_validation() -> None:
    trust = store(crls=[ROOT.crl()])
    leaf = forge.leaf(ROOT, not_after_ms=NOW + 9 * DAY)
    before = trust.validate(leaf, [], NOW)
    assert trust.validate(leaf, [], NOW) == before
    refused("certificate-signature", trust, leaf[:-1] + bytes([leaf[-1] ^ 1]))
    assert len(trust.validate(leaf, [], NOW + 2 * DAY).warnings) == len(before.warnings) + 1 == 1
    refused("certificate", trust, leaf, now=NOW + 9 * DAY + 1000)


# --- anchors --------------------------------------------------------------------------------------------------------
def test_unusable_anchors() -> None:
    for anchors in ([], [b""], [LEAF], [ROOT.certificate + b"\x00"]):
        with pytest.raises(ConfigError):
            TrustStore(anchors)
    no_usage = forge.root(extensions=(builder.basic_constraints(True),))
    with pytest.raises(ConfigError):
        store(no_usage)


# --- looking again --------------------------------------------------------------------------------------------------
def test_recheck() -> None:
    root = forge.root()
    middle = forge.intermediate(root, not_after_ms=NOW + 3 * DAY)
    leaf = forge.leaf(middle, serial=77, not_after_ms=NOW + 2 * DAY)
    trust = store(root)
    peer = trust.validate(leaf, [middle.certificate], NOW)
    assert trust.recheck(peer, NOW + DAY).names == peer.names
    for check, moment in (("certificate", NOW + 2 * DAY + 1000), ("path", NOW + 3 * DAY + 1000)):
        with pytest.raises(HandshakeError) as caught:
            trust.recheck(peer, moment)
        assert caught.value.check == check
    # A reloaded store: the same anchors with a fresh CRL.
    assert store(root, crls=[middle.crl(78)]).recheck(peer, NOW).names == peer.names
    with pytest.raises(HandshakeError) as caught:
        store(root, crls=[middle.crl(77)]).recheck(peer, NOW)
    assert caught.value.check == "revoked"
    with pytest.raises(HandshakeError) as caught:
        store(forge.root("elsewhere")).recheck(peer, NOW)
    assert caught.value.check == "path"
