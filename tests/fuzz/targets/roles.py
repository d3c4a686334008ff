"""Role tokens: IECUserRoles, attribute certificates, and those changed and signed anew before a whole judgement."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from engine_pair import CLIENT, SERVER, UTC, credential
from fastsec import limits
from fastsec._core.cursor import Reader, tlv
from fastsec._core.pk import check_der
from fastsec.attribute import recheck, take_roles
from fastsec.errors import DecodeError, HandshakeError
from fastsec.pki import builder, oids
from fastsec.pki.attribute import AttributeCertificate
from fastsec.pki.certificate import Certificate
from fastsec.pki.roles import EXTENSIONS, RoleTrust, UserRoleInfo, judge, read_user_roles, write_user_roles
from fuzz.kit import Bits, Target, edited, packed, tree
from odd_certificates import attribute_certificate
from role_world import (
    ACCESS,
    POINTS,
    TARGETS,
    attribute_authority,
    believing,
    other_key_identifier,
    token,
    trust_with,
)

HOLDER: Final = Certificate(credential(CLIENT).certificate)
AUTHORITY: Final = Certificate(attribute_authority().certificate)
_KEY: Final = attribute_authority()._key
TRUSTS: Final = (
    believing(),
    RoleTrust(),
    RoleTrust(issued_authorities=True, areas=("North",), definitions=(("IEC62351-8", 3),)),
    believing("aa", "other", roles=(0, 1, -1), certificates=False, required=True),
)
INFOS: Final = (
    [UserRoleInfo((1,))],
    [
        UserRoleInfo((0, 6, -1), "North", 3, operation=1, sequence=9),
        UserRoleInfo((255,), "Outstation", 255, operation=3),
    ],
    [UserRoleInfo((2,), None, 0, "", 2), UserRoleInfo((32767, -32768), "a" * 64, 255, "d" * 23, 255, 2**63 - 1)],
    [UserRoleInfo((number,)) for number in range(16)],
)


def user_roles(data: bytes) -> None:
    """IECUserRoles; what is accepted has one form, and what it grants is bounded and in it."""
    reader = Reader(data)
    try:
        check_der(data)  # as its callers do with what it stands in
        infos = read_user_roles(reader)
        reader.finish()
    except DecodeError:
        return
    assert tree(data) == data
    assert write_user_roles(infos) == data
    assert 1 <= len(infos) <= limits.OUR_ROLE_INFOS
    for trust in TRUSTS:
        judged = judge(infos, trust, "certificate")
        assert len(judged.findings) <= 7
        for grant in judged.grants:
            assert grant.role in trust.roles
            assert not grant.aor or grant.aor in trust.areas
            assert any(
                grant.role in info.roles and (grant.aor, grant.revision) == (info.aor or "", info.revision)
                for info in infos
                if info.operation != 2
            )


def attribute(data: bytes) -> None:
    """An attribute certificate; what is accepted is DER to the last octet."""
    try:
        found = AttributeCertificate(data)
        found.belongs_to(HOLDER)
        assert tree(data) == data
        assert found.tbs in data
        assert found.issuer in data
        found.read_extensions()
    except HandshakeError as error:
        assert error.check == "attribute-certificate"
        assert error.also


def _parts(bits: Bits) -> bytes:
    how = bits.octet()
    extensions = [extension for bit, extension in enumerate(_EXTENSIONS) if how >> bit & 1]
    facts: dict[str, Any] = {"extensions": tuple(extensions)}
    owner = bits.octet()
    if owner & 1:
        facts["holder"] = builder.holder_named(builder.registered_id(CLIENT if owner & 2 else SERVER))
    if owner & 4:
        facts["not_after_ms"] = UTC + bits.signed() * 100_000_000
    types = EXTENSIONS if owner & 8 else (oids.IEC_USER_ROLES,)
    facts["attributes"] = tuple((oid, write_user_roles(INFOS[(owner >> 4) % 4])) for oid in types)
    return token(CLIENT if owner & 128 else SERVER if owner & 64 else CLIENT, **facts)


_EXTENSIONS: Final = (
    POINTS,
    ACCESS,
    TARGETS,
    builder.no_revocation_available(),
    other_key_identifier(),
    builder.authority_key_identifier(builder.key_identifier(builder.spki(_KEY.public_key()))),
)


def role_token(data: bytes) -> None:
    """A token that the input puts together and changes, signed anew or not: refused with events, or the roles are those
    that it says, and its signature is good in somebody else's code too. Then looked at again, later."""
    bits = Bits(data)
    how = bits.octet()
    der = _parts(bits)
    if how & 1:
        der = edited(bits, der)
    elif how & 2:
        reader = Reader(der)
        reader.expect(0x30)
        parts = reader.enter()
        parts.expect(0x30)
        info = edited(bits, parts.value())
        if how & 4:
            with contextlib.suppress(ValueError):
                info = tree(info)
        der = builder.signed(info, _KEY, "sha256")
    roles = TRUSTS[how >> 3 & 3]
    path = (AUTHORITY.der,) if how & 32 else ()
    trust = trust_with()
    peer = trust.validate(HOLDER.der, (), UTC)
    try:
        found = take_roles(peer, der, path, roles, trust, UTC + bits.signed() * 1_000_000)
    except HandshakeError as error:
        assert error.check == "attribute-certificate"
        assert error.also
        return
    granted = [grant for grant in found.roles if grant.source == "attribute-certificate"]
    if not roles.attribute_certificates:
        assert not granted
        assert found.token is None
        return
    assert found.token is not None
    parsed = found.token.certificate
    assert parsed.der == der
    assert all(any(grant.role in info.roles for info in parsed.user_roles) for grant in granted)
    key = found.token.chain[0].public_key.octets
    point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key)
    point.verify(parsed.signature, parsed.tbs, ec.ECDSA(SHA256()))
    later = recheck(found, roles, trust, UTC + bits.octet() * 10_000_000)
    assert set(later.roles) <= set(found.roles)


def _tokens() -> Iterable[bytes]:
    yield attribute_certificate(HOLDER.der)
    yield token(CLIENT, holder=builder.holder_named(builder.registered_id(CLIENT)), extensions=_EXTENSIONS[3:])
    yield token(CLIENT, INFOS[1], extensions=(ACCESS,))
    yield token(CLIENT, INFOS[1], extensions=(POINTS, TARGETS))
    yield tlv(0x30, b"")


def _seeds() -> Iterable[bytes]:
    for how in (0, 1, 2, 6, 8, 18, 34):
        for parts in (0, 1, 8, 32):
            yield packed(how, parts, 16, 1, 0, 0, 90, 3, 0, 1)
    yield packed(2, 0, 61, 5, 1, 0, 0, 40, 7, 1, 0, 200)


def load() -> dict[str, Target]:
    """The targets of this module."""
    return {
        "attribute": Target(attribute, 700, _tokens, 0),
        "user_roles": Target(user_roles, 400, lambda: [write_user_roles(infos) for infos in INFOS], 0),
        "role_token": Target(role_token, 64, _seeds),
    }
