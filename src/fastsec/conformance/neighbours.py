"""The tables about the neighbours of IEC 62351-4: TLS (-3), certificates (-9), roles (-8), events (-14), tokens."""

from __future__ import annotations

import csv
import ssl
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from importlib import resources
from time import time_ns
from typing import Final

from fastsec._core.cursor import Reader
from fastsec.access.rights import DEFAULT as RIGHTS
from fastsec.aio.tls_profile import SUITES, USUAL, Suite, TLSRules
from fastsec.aprofile import ANY_PEER, AProfileConfig, key_name, make_a_profile_credential, make_value, take_value
from fastsec.config import Policy
from fastsec.conformance.model import Row, Table
from fastsec.conformance.proof import Pair, authority, credential, works
from fastsec.conformance.security import ABSENT_TEST, exists
from fastsec.engine import Role
from fastsec.events import CATALOGUE
from fastsec.pki import oids
from fastsec.pki.path import TrustStore
from fastsec.pki.revocation import RevocationPolicy
from fastsec.pki.roles import ROLE_NAMES, UserRoleInfo, read_user_roles, write_user_roles
from fastsec.profile import A_PROFILE_SIGNED, A_PROFILE_TIME
from fastsec.secpdu.authentication import SIGNED, TIME_FORMS, Signed, TimeForm, time_characters

TLS_TEST: Final = "tests/aio/test_tls_conformance.py"
PEER_TEST: Final = "tests/aio/test_tls_certificates.py"
RENEWAL_TEST: Final = "tests/aio/test_tls_renewal.py"
ROLE_TEST: Final = "tests/pki/test_user_roles.py"
GRANT_TEST: Final = "tests/test_roles.py"
ASK_TEST: Final = "tests/aio/test_revocation.py"


def tables() -> Iterator[Table]:
    """All of them."""
    yield Table("Compatibility mode", "62351-4, A-security-profile of 2007", tuple(_a_profile()))
    yield Table("TLS cipher suites", "62351-4, Tables 3, 8, 10; 62351-3:2023", tuple(_suites()))
    yield Table("T-security", "62351-3, as 62351-4 uses it", tuple(_tls()))
    yield Table("Certificates and revocation", "62351-9; RFC 5280, RFC 6960", tuple(_revocation()))
    yield Table("Roles", "62351-8", tuple(_roles()))
    yield Table("Security events", "62351-14 (CDV 2025)", tuple(_events()))
    yield Table("Event log", "62351-14; RFC 5424, RFC 5425", tuple(_log()))
    yield Table("Keys in hardware", "PKCS#11", tuple(_tokens()))


# --- compatibility mode -----------------------------------------------------------------------------------------------
def proves(form: TimeForm, signed: Signed) -> bool:
    """Whether one side's MMS-Authentication-value, made so, convinces the other."""
    trust = TrustStore((authority().root,), (authority().crl,))
    sides = []
    for role in Role:
        own = credential(role, "rsa2048")
        made = make_a_profile_credential(own.certificate, own.signer)
        sides.append(AProfileConfig(credential=made, trust=trust, peers=(ANY_PEER,), signed=signed, time=form))
    utc_ms = time_ns() // 1_000_000
    value = make_value(sides[0], time_characters(utc_ms, form))
    return take_value(value, sides[1], trust, utc_ms).key == key_name(sides[0].credential.key)


def _a_profile() -> Iterator[Row]:
    for signed in SIGNED:
        usual = ", usually so" if signed == A_PROFILE_SIGNED else ""
        yield Row(
            f"signature over the {signed} of the time" if signed == "characters" else "signature over the encoded time",
            works(proves, A_PROFILE_TIME, signed),
            note=f"sent by setting{usual}; accepted always",
            test="tests/test_aprofile.py::test_every_reading_of_what_is_signed_is_accepted",
        )
    for form in TIME_FORMS:
        yield Row(
            f"time in the form {form}",
            works(proves, form, A_PROFILE_SIGNED),
            note=time_characters(1_800_000_000_000, form),
            test="tests/test_aprofile.py::test_own_values_are_signed_as_configured",
        )
    yield Row(
        "sha256WithRSAEncryption, RSA 2048 and more",
        works(proves, A_PROFILE_TIME, A_PROFILE_SIGNED),
        "m",
        test="tests/test_aprofile.py::test_keys_that_are_not_rsa_of_enough_bits",
    )
    yield Row(
        "both sides authenticate; the same time twice is refused",
        exists("fastsec.aio.aprofile"),
        "m",
        test="tests/test_aprofile.py::test_the_same_time_twice",
    )


# --- TLS --------------------------------------------------------------------------------------------------------------
@cache
def _in_openssl(suite: Suite) -> bool:
    """Whether the TLS library of this installation has the suite, and lets it be used."""
    if not suite.openssl:
        return False
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if suite.chosen:
        context.set_ciphers(f"{suite.openssl}:@SECLEVEL=1")
    return any(each["name"] == suite.openssl for each in context.get_ciphers())


def _suites() -> Iterator[Row]:
    for suite in SUITES:
        supported = works(_in_openssl, suite)
        usual = "" if suite.name in USUAL or suite.version == "1.3" or not supported else "only where it is named"
        compatible = f"{suite.compatible}, compatibility mode" if suite.compatible else ""
        yield Row(
            f"{suite.name} (0x{suite.code:04X})",
            supported,
            suite.native or suite.ed2 or compatible,
            suite.note or usual,
            f"{TLS_TEST}::test_suites_normal" if supported else f"{TLS_TEST}::test_suites_table",
        )


def _tls() -> Iterator[Row]:
    rules = {field.name for field in fields(TLSRules)}
    usual = TLSRules()
    for version in usual.versions:
        has = ssl.HAS_TLSv1_2 if version == "1.2" else ssl.HAS_TLSv1_3
        yield Row(f"TLS {version}", has, "m" if version == "1.2" else "o", test=f"{TLS_TEST}::test_versions_normal")
    older = f"{TLS_TEST}::test_versions_negative_before_1_2"
    yield Row("SSL 3.0, TLS 1.0, TLS 1.1", works(_older), note="refused", test=older)
    both = f"{PEER_TEST}::test_authentication_negative_no_certificate"
    yield Row("certificates on both sides", exists("fastsec.aio.tls_checks"), "m", test=both)
    yield Row("several trust anchors", "trust" in rules, "m", test=f"{PEER_TEST}::test_several_anchors")
    pinned = f"{PEER_TEST}::test_pinned_certificates"
    yield Row("certificates accepted one by one (pinned)", "pinned" in rules, "o", test=pinned)
    yield Row(
        "RSA keys of 2048 bits and more",
        "rsa_bits_min" in rules and usual.rsa_bits_min >= 2048,
        "m",
        "1024 bits on demand, each use with a warning",
        f"{PEER_TEST}::test_keys_of_1024_bits_where_they_are_allowed",
    )
    yield Row(
        "session resumption",
        "resumption" in rules,
        "m",
        f"usually {usual.resumption / 3600:g} h after the full handshake, at most 24 h",
        f"{TLS_TEST}::test_resumption_with_foreign_clients",
    )
    yield Row(
        "renegotiation on the same connection (RFC 5746)",
        hasattr(ssl.SSLObject, "renegotiate"),
        "m",
        "Python's ssl has none; instead the next row, or the connection ends in order at the limit",
        f"{TLS_TEST}::test_renegotiation_asked_for_by_the_peer",
    )
    yield Row(
        "authentication anew on the same connection, with another fastsec",
        "rehandshake" in rules,
        "",
        f"usually after {usual.renewal / 3600:g} h; no PDU is lost or held up",
        f"{RENEWAL_TEST}::test_traffic_both_ways",
    )
    yield Row(
        "no session beyond 24 h",
        works(_limited),
        "m",
        f"a peer that cannot begin anew: {usual.at_limit} after {usual.limit / 3600:g} h",
        f"{RENEWAL_TEST}::test_an_association_at_the_limit_is_released",
    )
    revoked = f"{PEER_TEST}::test_revocation_lists"
    yield Row("revoked certificates refused", exists("fastsec.aio.tls_revocation"), "m", test=revoked)
    stapling = hasattr(ssl.SSLContext, "set_ocsp_client_callback")
    yield Row("OCSP stapling (RFC 6066)", stapling, note="Python's ssl has none", test=ABSENT_TEST)


def _older() -> bool:
    return bool(TLSRules(versions=("1.1",)))  # type: ignore[arg-type]  # refused, as it should


def _limited() -> bool:
    try:
        TLSRules(limit=24 * 3600 + 1)
    except Exception:
        return True
    return False


# --- certificates -----------------------------------------------------------------------------------------------------
def _revoked_is_refused() -> bool:
    """A handshake with a certificate on the list; the list is made for this attempt alone."""
    before = authority().crl
    revoked = authority().revoke(credential(Role.CLIENT, "p256").certificate)
    try:
        pair = Pair(Policy(), crl=revoked)
        pair.client.start(b"\xa8\x00", pair.now)
        pair.run()
        return "IEC62351-9:4.1" in pair.events[Role.SERVER] and pair.server.peer is None
    finally:
        authority().crl = before


def _revocation() -> Iterator[Row]:
    policy = RevocationPolicy()
    names = {field.name for field in fields(RevocationPolicy)}
    ocsp = exists("fastsec.pki.ocsp")
    yield Row(
        "path validation (RFC 5280)",
        works(lambda: Pair(Policy()).open()),
        "m",
        test="tests/pki/test_path.py::test_keys_and_signatures",
    )
    yield Row(
        "identity in the subject (Annex G) or in subjectAltName",
        works(lambda: Pair(Policy()).open()),
        "",
        "subject: one RDN, an object identifier",
        "tests/pki/test_certificate.py::test_subjects",
    )
    yield Row(
        "CRL: a revoked peer is refused",
        works(_revoked_is_refused),
        "m",
        test="tests/pki/test_crl.py::test_revoked_and_not",
    )
    yield Row(
        "CRL from files",
        works(lambda: authority().crl),
        "m",
        "read again when they change",
        f"{ASK_TEST}::test_a_file_that_changes",
    )
    yield Row(
        "CRL from distribution points (HTTP)",
        "lists" in names,
        "m",
        "fetched in the background",
        f"{ASK_TEST}::test_a_list_of_a_distribution_point",
    )
    yield Row(
        "delta CRL, indirect CRL",
        exists("fastsec.pki.delta_crl"),
        "o",
        "not used; such a list is left aside",
        "tests/pki/test_crl.py::test_lists_that_are_not_used",
    )
    yield Row(
        "OCSP (RFC 6960) with nonce (RFC 9654)",
        ocsp and "ocsp" in names,
        "o",
        f"usually {policy.ocsp}, nonce {policy.nonce}",
        f"{ASK_TEST}::test_openssl_says_good",
    )
    yield Row(
        "no revocation information: warning, or refusal on demand",
        "hard_fail" in names,
        "m",
        f"hard_fail usually {str(policy.hard_fail).lower()}",
        f"{ASK_TEST}::test_answers_that_say_nothing_warn_or_refuse",
    )
    yield Row(
        "open associations end when their peer is revoked",
        exists("fastsec.aio.recheck"),
        "m",
        test=f"{ASK_TEST}::test_a_new_list_ends_open_associations",
    )
    yield Row(
        "enrolment (SCEP, EST), group keys (GDOI)",
        exists("fastsec.pki.enrolment"),
        "",
        "not implemented: files and tokens are given",
        ABSENT_TEST,
    )


# --- roles ------------------------------------------------------------------------------------------------------------
def _kept(role: int) -> bool:
    """A token with this role reads as it was written."""
    info = UserRoleInfo((role,), aor="plant", revision=1)
    return read_user_roles(Reader(write_user_roles((info,)))) == (info,)


def _roles() -> Iterator[Row]:
    for number, name in enumerate(ROLE_NAMES):
        rights = next((row for row in RIGHTS if row.role == number), None)
        yield Row(
            f"role {number} {name}",
            works(_kept, number) and rights is not None,
            "m",
            "with rights of its own in the default map",
            f"{ROLE_TEST}::test_a_plain_grant_counts_by_default",
        )
    yield Row(
        "private roles (negative numbers)",
        works(_kept, -1),
        "o",
        "where the policy knows them",
        f"{ROLE_TEST}::test_private_roles_count_where_they_are_known",
    )
    yield Row(
        "area of responsibility, revision of the map",
        works(_kept, 0),
        "m",
        test=f"{GRANT_TEST}::test_a_grant_that_is_not_known_here_is_left_out",
    )
    for oid, edition in ((oids.IEC_USER_ROLES, "2020"), (oids.IEC_USER_ROLES_2011, "2011")):
        yield Row(
            f"IECUserRoles in the certificate, {oid} ({edition})",
            works(Reader, b"\x30\x00"),
            "m",
            "written and read" if edition == "2020" else "read",
            f"{ROLE_TEST}::test_both_oids_are_read",
        )
    yield Row(
        "attribute certificate (RFC 5755) in attCert",
        exists("fastsec.pki.attribute"),
        "o",
        "issuer, holder, validity, revocation and signature are checked",
        f"{GRANT_TEST}::test_an_attribute_certificate_grants_its_roles_once_confirmed",
    )
    yield Row(
        "roles granted only once the association is confirmed",
        _only_confirmed(),
        "",
        test=f"{GRANT_TEST}::test_the_certificate_grants_its_roles_by_default",
    )
    yield Row(
        "enforced per MMS service and functional constraint (gateway)",
        exists("fastsec.access"),
        "",
        "a denied request gets its MMS error, the association stays",
        "tests/gateway/test_gateway_access.py::test_a_viewer_reads_and_may_not_operate",
    )
    yield Row(
        "software tokens (JWT), RADIUS, LDAP",
        exists("fastsec.pki.jwt"),
        "o",
        "not implemented: tokens come with the association",
        ABSENT_TEST,
    )


def _only_confirmed() -> bool:
    pair = Pair(Policy())
    pair.client.start(b"\xa8\x00", pair.now)
    pair.run()
    return pair.server.peer is not None and not pair.server.confirmed and pair.server.roles == ()


# --- events -----------------------------------------------------------------------------------------------------------
def _events() -> Iterator[Row]:
    listed = resources.files("fastsec").joinpath("data/raised.csv").read_text(encoding="utf-8")
    raised = Counter(row["id"].partition(":")[0] for row in csv.DictReader(listed.splitlines()) if row["where"])
    for domain, count in Counter(domain for domain, _, _ in CATALOGUE).items():
        yield Row(
            f"domain {domain}",
            raised[domain] > 0,
            note=f"{count} events in the catalogue; "
            + ("fastsec events list: where each is raised" if raised[domain] else "none raised: not of this protocol"),
            test="tests/test_events_table.py::test_it_is_current",
        )


def _log() -> Iterator[Row]:
    folder = "tests/eventlog"
    yield Row(
        "record fields, sequence number that survives restarts",
        exists("fastsec.eventlog.record"),
        "m",
        test=f"{folder}/test_event_file.py::test_numbers_go_on_after_an_orderly_end_without_a_gap",
    )
    yield Row(
        "RFC 5424 lines",
        exists("fastsec.eventlog.record"),
        "m",
        test=f"{folder}/test_event_record.py::test_the_line_of_the_standard",
    )
    yield Row(
        "file with rotation and hash chain",
        exists("fastsec.aio.event_file"),
        "",
        test=f"{folder}/test_event_chain.py::test_tampering_shows_where",
    )
    yield Row(
        "syslog over TLS (RFC 5425), bounded spool",
        exists("fastsec.aio.event_syslog"),
        "m",
        test=f"{folder}/test_event_rsyslog.py::test_rsyslog_parses_our_lines_and_misses_none_over_its_restart",
    )
    yield Row(
        "limits of a flood, with a count of what was suppressed",
        exists("fastsec.eventlog.limiter"),
        "",
        test=f"{folder}/test_event_log.py::test_a_flood_is_counted_and_the_others_are_seen",
    )


def _tokens() -> Iterator[Row]:
    module = exists("fastsec.pki.pkcs11")
    yield Row(
        "private keys in tokens, EC and RSA",
        module,
        "",
        "by python-pkcs11 (extra pkcs11)" if module else "not implemented",
        "tests/aio/test_signers_token.py::test_signatures_verify",
    )
    yield Row(
        "a slow token holds up no other association",
        exists("fastsec.aio.signers"),
        "",
        test="tests/aio/test_signers.py::test_open_associations_go_on_while_a_signature_is_made",
    )
