"""Role tokens in handshakes (IEC 62351-8, 62351-9 group 3): what they grant, and every check by a real PDU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from engine_pair import CLIENT, INITIATE, SERVER, UTC, ConnectionPair, Side, config, credential
from event_record import marked
from fastsec._core.cursor import tlv
from fastsec.association import RolesChanged
from fastsec.attribute import recheck, settle, take_roles
from fastsec.config import Policy
from fastsec.errors import ConfigError
from fastsec.handshake import make_request
from fastsec.pki import builder, oids
from fastsec.pki.attribute import AttributeCertificate
from fastsec.pki.certificate import Certificate
from fastsec.pki.identity import OsiName
from fastsec.pki.roles import OPERATION_DELETE, RoleTrust, UserRoleInfo, write_user_roles
from fastsec.profile import HandshakeDiag
from fastsec.secpdu.der import decode
from fastsec.secpdu.fields import Carrier
from forge import forge, on_request, on_response
from odd_certificates import flip_last, odd_certificate
from role_world import (
    ACCESS,
    GRANT,
    HOUR,
    ISSUED,
    OPERATOR,
    POINTS,
    TARGETS,
    WEEK,
    attribute_authority,
    authority_certificate,
    believing,
    holding,
    open_with,
    other_key_identifier,
    own_crl,
    resigned,
    revoked_authority,
    root,
    serial_of,
    token,
    trust_with,
    with_roles,
)

STRANGER = OsiName("1.1.1.999.3", 1)


def presenting(
    sender: OsiName, att_cert: bytes | None, roles: RoleTrust, path: Sequence[bytes] = (), **more: Any
) -> tuple[ConnectionPair, Side]:
    """A handshake in which ``sender`` presents this attribute certificate; and the side that judges it."""
    sides = {
        "client" if sender == SERVER else "server": config(SERVER if sender == CLIENT else CLIENT, roles=roles, **more)
    }
    pair = ConnectionPair(**sides)

    def change(carrier: Carrier) -> Callable[[bytes], bytes]:
        by = credential(sender)
        return lambda pdu: forge(carrier, pdu, by, att_cert=att_cert, cert_path=tuple(path))

    if sender == CLIENT:
        on_request(pair, change(Carrier.ASSOCIATE_REQ))
    else:
        on_response(pair, change(Carrier.ASSOCIATE_RSP))
    pair.client.start(INITIATE)
    pair.move()
    return pair, pair.server if sender == CLIENT else pair.client


# --- what is granted --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sender", [CLIENT, SERVER])
def test_an_attribute_certificate_grants_its_roles_once_confirmed(sender: OsiName) -> None:
    own = config(sender, credential=holding(sender, token(sender)))
    judge = config(SERVER if sender == CLIENT else CLIENT, roles=believing())
    pair = ConnectionPair(client=own if sender == CLIENT else judge, server=judge if sender == CLIENT else own).open()
    side, other = (pair.server, pair.client) if sender == CLIENT else (pair.client, pair.server)
    assert side.association.peer.roles == (GRANT,)
    assert side.association.roles == ()  # not confirmed yet
    pair.confirm()
    assert side.association.roles == (GRANT,)
    assert other.association.roles == ()
    assert not side.raised
    pair.client.release()
    pair.move()
    assert side.association.roles == ()


@pytest.mark.parametrize("oid", [oids.IEC_USER_ROLES, oids.IEC_USER_ROLES_2011])
def test_the_certificate_grants_its_roles_by_default(oid: str) -> None:
    infos = UserRoleInfo((0, 1), None, 3), UserRoleInfo((2,), "North", 3)
    pair = ConnectionPair(client=config(CLIENT, credential=with_roles(CLIENT, *infos, oid=oid))).open().confirm()
    assert [grant.role for grant in pair.server.association.roles] == [0, 1]
    assert pair.server.details == ["IEC62351-8:1.6"]
    own = config(SERVER, roles=RoleTrust(areas=("North",)))
    pair = ConnectionPair(config(CLIENT, credential=with_roles(CLIENT, *infos, oid=oid)), own).open().confirm()
    assert [(grant.role, grant.aor) for grant in pair.server.association.roles] == [(0, ""), (1, ""), (2, "North")]
    own = config(SERVER, roles=RoleTrust(certificates=False))
    pair = ConnectionPair(config(CLIENT, credential=with_roles(CLIENT, *infos, oid=oid)), own).open().confirm()
    assert pair.server.association.roles == ()
    assert not pair.server.raised


def test_nobody_who_does_not_believe_an_authority_grants_anything() -> None:
    pair = ConnectionPair(client=config(CLIENT, credential=holding(CLIENT, token(CLIENT)))).open().confirm()
    assert pair.server.association.roles == ()
    assert not pair.server.raised


def test_an_attribute_certificate_that_is_out_of_date_is_not_sent() -> None:
    late = token(CLIENT, not_before_ms=UTC - 2 * HOUR, not_after_ms=UTC - HOUR)
    pair = ConnectionPair(config(CLIENT, credential=holding(CLIENT, late)), config(SERVER, roles=believing()))
    pair.open().confirm()
    assert pair.server.association.roles == ()


@pytest.mark.parametrize(
    "name",
    [
        builder.registered_id(CLIENT),
        tlv(0xA4, builder.osi_subject(CLIENT)),
    ],
    ids=["registeredID", "directoryName"],
)
def test_a_holder_named_by_its_identity(name: bytes) -> None:
    named = token(CLIENT, holder=builder.holder_named(name))
    assert open_with(named).server.association.roles == (GRANT,)
    owner = builder.holder_of(Certificate(credential(CLIENT).certificate))
    both = token(CLIENT, holder=owner + builder.holder_named(name))
    assert open_with(both).server.association.roles == (GRANT,)


def test_an_authority_that_an_anchor_has_issued() -> None:
    der = attribute_authority().certificate
    pair = open_with(token(CLIENT), RoleTrust(issued_authorities=True), path=[der])
    assert pair.server.association.roles == (GRANT,)
    assert not pair.server.raised


def test_of_two_authorities_of_one_name_the_one_whose_key_fits() -> None:
    one, two = attribute_authority("aa"), attribute_authority("namesake")
    forged = builder.certificate(
        serial=99,
        issuer=root()._issuer,
        subject=Certificate(one.certificate).subject,
        public=builder.spki(two._key.public_key()),
        not_before_ms=UTC - HOUR,
        not_after_ms=UTC + HOUR,
        extensions=(builder.key_usage(oids.KU_DIGITAL_SIGNATURE),),
        key=root()._key,
    )
    trust = RoleTrust(authorities=(forged, one.certificate))
    _, side = presenting(CLIENT, token(CLIENT), trust)
    assert side.association.peer.roles == (GRANT,)


def test_what_is_found_out_about_a_token_is_not_lost_when_more_is_asked_about_the_peer() -> None:
    trust, roles = trust_with(own_crl(77)), believing()
    peer = trust.validate(credential(CLIENT).certificate, (), UTC)
    granted = take_roles(peer, token(CLIENT), (), roles, trust_with(), UTC)
    assert granted.roles == (GRANT,)
    later = recheck(granted, roles, trust, UTC)  # the token is revoked by now
    settled = settle(replace(later, questions=()), roles, trust, UTC, establishing=False)
    for found in (later, settled):
        assert found.roles == ()
        assert [event.id for event in found.findings] == ["IEC62351-9:4.1"]
    # Found out only then: as if the answer of a responder had come.
    settled = settle(granted, roles, trust, UTC, establishing=False)
    assert settled.roles == ()
    assert [event.id for event in settled.findings] == ["IEC62351-9:4.1"]


def test_what_one_token_takes_away_the_other_does_not_grant() -> None:
    by_name = token(
        CLIENT,
        [UserRoleInfo((1,), operation=OPERATION_DELETE)],
        holder=builder.holder_named(builder.registered_id(CLIENT)),
    )
    own = replace(with_roles(CLIENT, UserRoleInfo((0, 1))), attribute_certificate=AttributeCertificate(by_name))
    pair = ConnectionPair(config(CLIENT, credential=own), config(SERVER, roles=believing())).open().confirm()
    assert [grant.role for grant in pair.server.association.roles] == [0]
    assert pair.server.details == ["IEC62351-8:1.1"]


@pytest.mark.event("IEC62351-8:1.1")
def test_roles_of_both_tokens_count() -> None:
    by_name = token(CLIENT, [UserRoleInfo((4,))], holder=builder.holder_named(builder.registered_id(CLIENT)))
    own = replace(with_roles(CLIENT, UserRoleInfo((0, 1))), attribute_certificate=AttributeCertificate(by_name))
    pair = ConnectionPair(config(CLIENT, credential=own), config(SERVER, roles=believing())).open().confirm()
    assert [(grant.role, grant.source) for grant in pair.server.association.roles] == [
        (0, "certificate"),
        (1, "certificate"),
        (4, "attribute-certificate"),
    ]
    assert pair.server.details == ["IEC62351-8:1.1"]


# --- every check ------------------------------------------------------------------------------------------------------

_ALGORITHM = bytes.fromhex("300a06082a8648ce3d040302")


def _other_algorithm(content: bytes) -> bytes:
    assert content.count(_ALGORITHM) == 1
    return content.replace(_ALGORITHM, bytes.fromhex("300a06082a8648ce3d040303"))


def _version_1(content: bytes) -> bytes:
    assert content[:3] == b"\x02\x01\x01"
    return b"\x02\x01\x00" + content[3:]


@dataclass(frozen=True)
class Bad:
    """A token that is refused: how it is made, the events besides that of the SecPDU, and who is believed."""

    make: Callable[[OsiName], bytes]
    events: tuple[str, ...]
    roles: RoleTrust = field(default_factory=believing)
    path: Callable[[], Sequence[bytes]] = tuple
    crls: Callable[[], Sequence[bytes]] = tuple


BAD: dict[str, Bad] = {
    "not one": Bad(lambda to: b"\x30\x00", ("9:3.1",)),
    "not DER": Bad(lambda to: token(to) + b"\0", ("9:3.1",)),
    "roles malformed": Bad(
        lambda to: token(to, attributes=((oids.IEC_USER_ROLES, tlv(0x30, tlv(0x30, b""))),)), ("9:3.1",)
    ),
    "an attribute twice": Bad(
        lambda to: token(to, attributes=((oids.IEC_USER_ROLES, write_user_roles([OPERATOR])),) * 2), ("9:3.1",)
    ),
    "unique identifier": Bad(lambda to: resigned(token(to), lambda content: content + b"\x03\x02\x00\x01"), ("9:3.1",)),
    "version 1": Bad(lambda to: resigned(token(to), _version_1), ("9:3.3",)),
    "holder by certificate": Bad(
        lambda to: token(to, holder=builder.holder_of(Certificate(credential(STRANGER).certificate))),
        ("9:3.4", "8:2.1"),
    ),
    "holder by certificate of another issuer": Bad(
        lambda to: token(
            to,
            holder=tlv(0xA0, tlv(0x30, tlv(0xA4, builder.text_name(cn="other"))) + tlv(0x02, serial_of(to))),
        ),
        ("9:3.4", "8:2.1"),
    ),
    "holder by name": Bad(
        lambda to: token(to, holder=builder.holder_named(builder.registered_id(STRANGER))), ("9:3.5", "8:2.1")
    ),
    "one of two holders": Bad(
        lambda to: token(to, holder=builder.holder_named(builder.registered_id(to), builder.registered_id(STRANGER))),
        ("9:3.5", "8:2.1"),
    ),
    "no holder": Bad(lambda to: token(to, holder=b""), ("9:3.5", "8:2.1")),
    "holder by digest": Bad(lambda to: token(to, holder=tlv(0xA2, b"")), ("9:3.5", "8:2.1")),
    "holder by e-mail": Bad(lambda to: token(to, holder=builder.holder_named(tlv(0x81, b"a@b"))), ("9:3.5", "8:2.1")),
    "two algorithms": Bad(lambda to: resigned(token(to), _other_algorithm), ("9:3.1", "8:2.2")),
    "issuer not configured": Bad(lambda to: token(to, by="other"), ("9:3.6", "8:2.4")),
    "issuer configured, expired": Bad(
        lambda to: token(to),
        ("9:3.6", "9:2.6", "8:2.4"),
        RoleTrust(authorities=(authority_certificate(not_after_ms=UTC - 2000),)),
    ),
    "issuer configured, revoked": Bad(
        lambda to: token(to, by="revoked"), ("9:3.6", "9:4.1", "8:2.5"), believing("revoked"), crls=revoked_authority
    ),
    "issuer's certificate not there": Bad(lambda to: token(to), ("9:3.7", "8:2.4"), ISSUED),
    "issuer issued by nobody": Bad(
        lambda to: token(to),
        ("9:3.7", "9:2.2", "8:2.4"),
        ISSUED,
        lambda: [authority_certificate(key=builder.generate_key("p256"))],
    ),
    "issuer issued, no sOAIdentifier": Bad(
        lambda to: token(to),
        ("9:3.7", "8:2.4"),
        ISSUED,
        lambda: [authority_certificate(extensions=(builder.key_usage(oids.KU_DIGITAL_SIGNATURE),))],
    ),
    "issuer issued, no digitalSignature": Bad(
        lambda to: token(to),
        ("9:3.7", "8:2.4"),
        ISSUED,
        lambda: [authority_certificate(extensions=(builder.soa_identifier(),))],
    ),
    "issuer issued, expired": Bad(
        lambda to: token(to),
        ("9:3.7", "9:2.6", "8:2.4"),
        ISSUED,
        lambda: [authority_certificate(not_after_ms=UTC - 2000)],
    ),
    "issuer issued, revoked": Bad(
        lambda to: token(to, by="revoked"),
        ("9:3.7", "9:4.1", "8:2.5"),
        ISSUED,
        lambda: [attribute_authority("revoked").certificate],
        revoked_authority,
    ),
    "signature": Bad(lambda to: flip_last(token(to)), ("9:3.2", "8:2.3")),
    "signed by another": Bad(
        lambda to: token(to, key=attribute_authority("other")._key), ("9:3.2", "8:2.3"), believing("aa", "other")
    ),
    "early": Bad(lambda to: token(to, not_before_ms=UTC + 2000), ("9:3.9", "8:1.3")),
    "expired": Bad(lambda to: token(to, not_after_ms=UTC - 2000), ("9:3.8", "8:1.3")),
    "expired, of nobody": Bad(lambda to: token(to, not_after_ms=UTC - 2000), ("9:3.8", "8:1.3"), RoleTrust()),
    "extension unknown and critical": Bad(lambda to: token(to, extensions=(TARGETS,)), ("9:3.12",)),
    "extension twice": Bad(lambda to: token(to, extensions=(POINTS, POINTS)), ("9:3.10",)),
    "two ways to learn of revocation": Bad(lambda to: token(to, extensions=(POINTS, ACCESS)), ("9:3.10",)),
    "revocable and not": Bad(lambda to: token(to, extensions=(POINTS, builder.no_revocation_available())), ("9:3.10",)),
    "extension malformed": Bad(
        lambda to: token(to, extensions=(builder.Extension(oids.NO_REVOCATION_AVAILABLE, b"\x02\x01\x00"),)),
        ("9:3.11",),
    ),
    "distribution point malformed": Bad(
        lambda to: token(to, extensions=(builder.Extension(oids.CRL_DISTRIBUTION_POINTS, b"\x02\x01\x00"),)),
        ("9:3.11",),
    ),
    "another key of the issuer": Bad(lambda to: token(to, extensions=(other_key_identifier(),)), ("9:3.13",)),
    "revoked": Bad(lambda to: token(to), ("9:4.1",), crls=lambda: [own_crl(77)]),
    "revoked, though it says nobody tells": Bad(
        lambda to: token(to, extensions=(builder.no_revocation_available(),)),
        ("9:4.1",),
        crls=lambda: [own_crl(77)],
    ),
}
FULL = {name: tuple(f"IEC62351-{event}" for event in bad.events) for name, bad in BAD.items()}


@pytest.mark.parametrize("sender", [CLIENT, SERVER], ids=["request", "acceptance"])
@pytest.mark.parametrize("name", marked(BAD, lambda name: (*FULL[name],)))
def test_a_bad_token_refuses_the_handshake(name: str, sender: OsiName) -> None:
    bad = BAD[name]
    pair, side = presenting(sender, bad.make(sender), bad.roles, bad.path(), trust=trust_with(*bad.crls()))
    assert side.error.check == "attribute-certificate"
    assert side.error.code == HandshakeDiag.INVALID_ATTRIBUTE_CERTIFICATE == 16
    assert tuple(side.details) == FULL[name]
    assert len(side.events) == 1  # that of the SecPDU, after the others
    assert side.raised[-1].id.startswith("IEC62351-4:")
    assert all(event.peer == str(sender) for event in side.raised)
    assert side.association.roles == ()
    other = pair.other(side)
    assert other.ended
    if sender == CLIENT:
        assert other.error.code == 16


@pytest.mark.event("IEC62351-8:1.2")
@pytest.mark.parametrize("sender", [CLIENT, SERVER])
def test_a_token_is_required(sender: OsiName) -> None:
    _, side = presenting(sender, None, RoleTrust(required=True))
    assert side.error.code == 16
    assert side.details == ["IEC62351-8:1.2"]
    empty = token(sender, attributes=(("1.2.3", b"\x05\x00"),))
    _, side = presenting(sender, empty, believing(required=True))
    assert side.details == ["IEC62351-8:1.2"]
    _, side = presenting(sender, token(sender), believing(required=True))
    assert not side.raised


def test_what_the_policy_does_not_believe_is_no_token() -> None:
    _, side = presenting(CLIENT, token(CLIENT), RoleTrust(required=True))
    assert side.details == ["IEC62351-8:1.2"]


# --- findings: the association comes about, with less or with a word --------------------------------------------------

LEFT_OUT = {
    "role": (UserRoleInfo((7,)), "8:1.4"),
    "revision": (UserRoleInfo((1,), None, 9), "8:1.5"),
    "area": (UserRoleInfo((1,), "South"), "8:1.6"),
    "definition": (UserRoleInfo((1,), None, 0, "mine"), "8:1.7"),
    "no definition": (UserRoleInfo((1,), None, 0, ""), "8:1.8"),
    "operation": (UserRoleInfo((1,), operation=9), "8:1.9"),
}


@pytest.mark.parametrize("kind", ["certificate", "attribute certificate"])
@pytest.mark.parametrize("name", marked(LEFT_OUT, lambda name: (f"IEC62351-{LEFT_OUT[name][1]}",)))
def test_a_grant_that_is_not_known_here_is_left_out(name: str, kind: str) -> None:
    info, event = LEFT_OUT[name]
    roles = believing(areas=("North",), definitions=(("IEC62351-8", 0),))
    infos = (info, UserRoleInfo((0,), "North"))
    own = with_roles(CLIENT, *infos) if kind == "certificate" else holding(CLIENT, token(CLIENT, infos))
    pair = ConnectionPair(config(CLIENT, credential=own), config(SERVER, roles=roles)).open().confirm()
    assert [(grant.role, grant.aor) for grant in pair.server.association.roles] == [(0, "North")]
    assert pair.server.details == [f"IEC62351-{event}"]


@pytest.mark.event("IEC62351-9:2.13")
def test_a_malformed_extension_of_the_certificate_grants_nothing() -> None:
    extensions = (
        builder.key_usage(oids.KU_DIGITAL_SIGNATURE, oids.KU_KEY_AGREEMENT),
        builder.alternative_names(osi=CLIENT),
        builder.authority_key_identifier(builder.key_identifier(builder.spki(root()._key.public_key()))),
        builder.Extension(oids.IEC_USER_ROLES, tlv(0x30, tlv(0x30, b"\x05\x00"))),
    )
    own = config(CLIENT, credential=odd_certificate(CLIENT, "p256", extensions=extensions))
    pair = ConnectionPair(own).open().confirm()
    assert pair.server.association.roles == ()
    assert pair.server.details == ["IEC62351-9:2.13"]
    pair = ConnectionPair(own, config(SERVER, roles=RoleTrust(required=True)))
    pair.client.start(INITIATE)
    pair.move()
    assert pair.server.error.code == 16


@pytest.mark.event("IEC62351-9:3.14")
def test_a_token_that_says_nobody_tells_of_its_revocation() -> None:
    pair = open_with(token(CLIENT, extensions=(builder.no_revocation_available(),)))
    assert pair.server.association.roles == (GRANT,)
    assert pair.server.details == ["IEC62351-9:3.14"]


@pytest.mark.event("IEC62351-9:3.15", "IEC62351-9:3.16", "IEC62351-9:4.2")
def test_a_long_lived_token_that_does_not_say_where_to_learn_of_its_revocation() -> None:
    pair = open_with(token(CLIENT, not_after_ms=UTC + WEEK))
    assert pair.server.association.roles == (GRANT,)
    assert pair.server.details == ["IEC62351-9:3.15", "IEC62351-9:3.16", "IEC62351-9:4.2"]
    pair = open_with(token(CLIENT, not_after_ms=UTC + WEEK), None, own_crl(5))
    assert pair.server.details == ["IEC62351-9:3.15", "IEC62351-9:3.16"]


def test_a_token_that_says_where_to_learn_of_its_revocation() -> None:
    pair = open_with(token(CLIENT, extensions=(POINTS,)))
    assert pair.server.details == ["IEC62351-9:4.2"]
    pair = open_with(token(CLIENT, extensions=(POINTS,)), None, own_crl(5))
    assert not pair.server.raised


def test_a_list_for_attribute_certificates_alone_covers_tokens_and_one_for_others_does_not() -> None:
    own = attribute_authority()

    def listed(octets: str) -> bytes:
        scope = builder.Extension(oids.ISSUING_DISTRIBUTION_POINT, tlv(0x30, bytes.fromhex(octets)), critical=True)
        return builder.revocation_list(
            issuer=Certificate(own.certificate).subject,
            this_update_ms=UTC,
            next_update_ms=UTC + WEEK,
            revoked=[],
            extensions=(scope,),
            key=own._key,
        )

    assert not open_with(token(CLIENT, extensions=(POINTS,)), None, listed("8501ff")).server.raised
    for other in ("8101ff", "8201ff"):
        assert open_with(token(CLIENT, extensions=(POINTS,)), None, listed(other)).server.details == ["IEC62351-9:4.2"]


def with_token(endpoints: Any, der: bytes) -> ConnectionPair:
    """A further association between the same two, in which the client presents this token."""
    endpoints[0].config = replace(endpoints[0].config, credential=holding(CLIENT, der))
    return ConnectionPair(endpoints=endpoints).open().confirm()


@pytest.mark.event("IEC62351-8:1.10")
@pytest.mark.parametrize("later", [None, OPERATION_DELETE], ids=["granted anew", "taken away"])
def test_what_a_later_token_has_outdated_is_not_granted_any_more(later: int | None) -> None:
    """The sequence number of a change of status: of two tokens that are both valid the newer counts."""
    old = token(CLIENT, [UserRoleInfo((1,), sequence=6), UserRoleInfo((0,))])
    first = ConnectionPair(config(CLIENT, credential=holding(CLIENT, old)), config(SERVER, roles=believing()))
    first.open().confirm()
    assert [grant.role for grant in first.server.association.roles] == [1, 0]
    second = with_token(first.endpoints, token(CLIENT, [UserRoleInfo((1,), operation=later, sequence=7)]))
    assert [grant.role for grant in second.server.association.roles] == ([] if later else [1])
    assert not second.server.raised
    third = with_token(first.endpoints, old)
    assert [grant.role for grant in third.server.association.roles] == [0]
    assert third.server.details == ["IEC62351-8:1.10"]
    first.client.update_keys()
    first.move()
    assert [grant.role for grant in first.server.association.roles] == [0]
    assert first.server.details == ["IEC62351-8:1.10"]
    assert len(first.server.seen(RolesChanged)) == 1


@pytest.mark.event("IEC62351-8:1.10")
def test_of_two_numbers_in_one_token_the_higher_counts() -> None:
    pair = open_with(token(CLIENT, [UserRoleInfo((1,), None, 1, sequence=6), UserRoleInfo((1,), None, 2, sequence=7)]))
    assert [(grant.role, grant.revision) for grant in pair.server.association.roles] == [(1, 2)]
    assert pair.server.details == ["IEC62351-8:1.10"]


def test_certpath_is_left_out_first_where_there_is_no_room_and_never_the_token() -> None:
    own = config(CLIENT, credential=holding(CLIENT, token(CLIENT), [root().root]), policy=Policy())
    for maximum in (10_000, 1200):
        made = make_request(own, own.policy, 5, UTC, INITIATE, maximum)
        sent = decode(Carrier.ASSOCIATE_REQ, made.pdu).token1
        assert sent.att_cert == token_of(own)
        assert bool(sent.cert_path) == (maximum == 10_000)
        made.wipe()


def test_configurations_of_one_identity_keep_their_own_roles() -> None:
    """Routes of one identity share numbers and memory, not what they believe."""
    own = config(CLIENT, credential=with_roles(CLIENT, OPERATOR))
    believes = ConnectionPair(own, config(SERVER)).open().confirm()
    client, server = believes.endpoints
    other = copy(server)
    other.config = config(SERVER, roles=RoleTrust(certificates=False))
    does_not = ConnectionPair(endpoints=(client, other)).open().confirm()
    again = ConnectionPair(endpoints=(client, server)).open().confirm()
    assert [len(pair.server.association.roles) for pair in (believes, does_not, again)] == [1, 0, 1]


@pytest.mark.parametrize(
    ("der", "why"),
    [
        (lambda: root().root, "authority for certificates too"),
        (lambda: credential(CLIENT).certificate[:-1], "not usable"),
        (lambda: authority_certificate(extensions=(builder.key_usage(oids.KU_CRL_SIGN),)), "digitalSignature"),
    ],
)
def test_what_cannot_be_an_attribute_authority_is_told_at_once(der: Callable[[], bytes], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        config(SERVER, roles=RoleTrust(authorities=(der(),)))


def token_of(own: Any) -> bytes:
    der: bytes = own.credential.attribute_certificate.der
    return der
