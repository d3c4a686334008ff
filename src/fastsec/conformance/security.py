"""The tables about IEC 62351-4 itself: environments, modes, algorithms, SecPDUs, key update, diagnostics, limits."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from enum import IntEnum
from functools import cache
from importlib import resources
from importlib.util import find_spec
from itertools import product
from typing import Final

from fastsec import limits, profile
from fastsec._core.crypto import Secret, hkdf_sha256
from fastsec._core.cursor import tlv
from fastsec._core.guard import MODE_AE, MODE_CBC_HMAC, MODE_GMAC, MODE_HMAC
from fastsec._core.pk import check_der
from fastsec.config import Policy
from fastsec.conformance.model import Row, Table
from fastsec.conformance.proof import REQUEST, Pair, carries, credential, works
from fastsec.control import INPUT_OF
from fastsec.engine import Role
from fastsec.faults import CHECKS, RECEIVED, Group
from fastsec.negotiation import MODE_NAMES
from fastsec.outputs import Send
from fastsec.profile import DtDiag, HandshakeDiag, wire_name
from fastsec.secpdu.fields import SEC_PDUS, Carrier, SecPduKind
from fastsec.state import CLIENT_HANDSHAKE, DATA_STATES, SERVER_HANDSHAKE, TABLE, Rule

P4: Final = "62351-4"
ABSENT_TEST: Final = "tests/test_conformance.py::test_what_is_not_supported_is_known_and_says_why"
UPDATE_TEST: Final = "tests/test_key_update.py::test_one_update_in_every_mode_and_group"
MODE_TEST: Final = "tests/test_handshake.py::test_every_mode_group_and_signature"


def tables() -> Iterator[Table]:
    """All of them, in the order of the clauses."""
    yield Table("Environments and protected protocols", f"{P4}, clauses 15, 16", tuple(_environments()))
    yield Table("Modes of operation", f"{P4}, Table 1", tuple(_modes()))
    yield Table("Encryption modes", f"{P4}, native mode", tuple(_encryption_modes()))
    yield Table("Algorithms", f"{P4}, native mode", tuple(_algorithms()))
    yield Table("SecPDUs", f"{P4}, native mode", tuple(_secpdus()))
    yield Table("Encoding", f"{P4}, native mode", tuple(_encodings()))
    yield Table("Key update", f"{P4}, native mode", tuple(_key_update()))
    yield Table(
        "HandshakeDiagnostics", P4, tuple(_diagnostics(HandshakeDiag, _HANDSHAKE_GROUPS, Group.HANDSHAKE_SEC_REJECT))
    )
    yield Table("DtDiagnostics", P4, tuple(_diagnostics(DtDiag, _DATA_GROUPS, Group.DT_SEC_ABORT)))
    yield Table("Limits and timers", f"{P4}; OUR_: set by this implementation", tuple(_limits()))


# --- environments, modes ----------------------------------------------------------------------------------------------
def exists(module: str) -> bool:
    """Whether there is such a module; nothing is imported but the packages above it."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _environments() -> Iterator[Row]:
    yield Row(
        "OSI on TCP (RFC 1006)",
        exists("fastsec.envs.osi"),
        note=f"pp = {profile.PP_MMS_OSI}; ports {limits.SPEC_PORT_PLAIN}, with TLS {limits.SPEC_PORT_TLS}",
        test="tests/envs/osi/test_endpoint.py::test_secure_association_from_beginning_to_end",
    )
    yield Row(
        "XMPP (61850-8-2)",
        exists("fastsec.envs.xmpp"),
        note="" if exists("fastsec.envs.xmpp") else f"not implemented (pp = {profile.PP_MMS_XMPP})",
        test=ABSENT_TEST,
    )
    for role in Role:
        yield Row(
            f"{role.value} of the association",
            works(carries, Policy()),
            note="whoever dials TCP",
            test="tests/gateway/test_relay.py::test_release_by_the_server"
            if role is Role.SERVER
            else "tests/aio/test_end_to_end.py::test_echo_and_release",
        )


def _modes() -> Iterator[Row]:
    yield Row("native mode (end-to-end security)", works(carries, Policy()), "", "with or without TLS", MODE_TEST)
    compatible = exists("fastsec.aprofile")
    yield Row(
        "compatibility mode (A-security-profile of 2007)",
        compatible,
        "",
        "client and server; TLS below it is demanded" if compatible else "not implemented",
        "tests/test_aprofile.py::test_every_reading_of_what_is_signed_is_accepted",
    )
    tls = exists("fastsec.aio.tls")
    yield Row(
        "T-security (TLS) below either",
        tls,
        note="" if tls else "not implemented",
        test="tests/aio/test_end_to_end.py::test_echo_and_release",
    )
    yield Row(
        "fallback to a weaker mode",
        "fallback" in {field.name for field in fields(Policy)},
        note="by purpose: nothing falls back",
        test="tests/test_negotiation.py::test_any_offer_is_selected_from_or_refused_by_name",
    )


# --- modes and algorithms ---------------------------------------------------------------------------------------------
@cache
def policy_of(mode: int, cipher: str = profile.AES128_CBC, icv_len: int = 16, aes: str = profile.AES128_GCM) -> Policy:
    """A policy under which nothing but this mode is agreed on."""
    hmac = ((profile.HMAC_SHA256, profile.HMAC_ICV_LEN),)
    gmac = ((aes, icv_len),)
    if mode == MODE_AE:
        return Policy(ae="required", ae_algorithms=gmac)
    icv = hmac if mode in (MODE_HMAC, MODE_CBC_HMAC) else gmac
    if mode in (MODE_HMAC, MODE_GMAC):
        return Policy(encryption="forbidden", ae="forbidden", icv_algorithms=icv)
    return Policy(ae="forbidden", encr_algorithms=(cipher,), icv_algorithms=icv)


@cache
def agreed(policy: Policy, key: str = "p256") -> int | None:
    """The mode of an association by this policy that carried data; None if there was none."""
    pair = carries(policy, key)
    return None if pair is None else pair.client.mode


def _agrees(mode: int, cipher: str = profile.AES128_CBC, icv_len: int = 16, aes: str = profile.AES128_GCM) -> bool:
    """Whether an association in this mode, with these algorithms, carries data."""
    return agreed(policy_of(mode, cipher, icv_len, aes)) == mode


def _encryption_modes() -> Iterator[Row]:
    for mode, name in MODE_NAMES.items():
        yield Row(name, works(_agrees, mode), test=MODE_TEST)


_CBC: Final = {profile.AES128_CBC: "AES-128-CBC", profile.AES256_CBC: "AES-256-CBC"}
_GCM: Final = {profile.AES128_GCM: "AES-128-GCM", profile.AES256_GCM: "AES-256-GCM"}
_RFC9044: Final = {profile.AES128_GMAC_RFC9044: "aes128-GMAC", profile.AES256_GMAC_RFC9044: "aes256-GMAC"}
_KEYS: Final = {
    "p256": ("EC secp256r1", profile.ECDSA_SHA256),
    "brainpool": ("EC brainpoolP256r1", profile.ECDSA_SHA256),
    "rsa2048": ("RSA 2048", profile.SHA256_RSA),
    "rsa3072": ("RSA 3072", profile.SHA256_RSA),
}
_GROUPS: Final = {
    profile.Group.MODP_2048: ("2048-bit MODP (RFC 3526)", "m"),
    profile.Group.SECP256R1: ("secp256r1", ""),
    profile.Group.BRAINPOOL_P256R1: ("brainpoolP256r1", ""),
}
# RFC 5869, A.1
_IKM, _SALT, _INFO = bytes([0x0B]) * 22, bytes(range(13)), bytes(range(0xF0, 0xFA))
_OKM: Final = bytes.fromhex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865")


def _algorithms() -> Iterator[Row]:
    for oid, name in ((profile.SHA256_RSA, "sha256WithRSAEncryption"), (profile.ECDSA_SHA256, "ecdsa-with-SHA256")):
        key = next(kind for kind, (_, sig) in _KEYS.items() if sig == oid)
        yield Row(f"signature {name}", works(_signs, key, oid), "m", test=MODE_TEST)
    for key, (name, oid) in _KEYS.items():
        yield Row(
            f"certificate key {name}",
            works(_signs, key, oid),
            note=f"{limits.SPEC_RSA_BITS_MIN} to {limits.OUR_RSA_BITS_MAX} bits" if key == "rsa2048" else "",
            test="tests/pki/test_path.py::test_keys_and_signatures",
        )
    for group in profile.Group:
        name, asked = _GROUPS[group]
        usual = "offered by default" if group in Policy().groups else "offered by policy"
        taken = "accepted by default" if group in Policy().accept_groups else "accepted by policy"
        yield Row(
            f"key agreement group {int(group)}, {name}",
            works(carries, Policy(groups=(group,), accept_groups=(group,))),
            asked,
            f"{usual}, {taken}",
            "tests/_core/test_dh.py::test_agreement",
        )
    yield Row(
        "key derivation HKDF with hmacWithSHA256",
        works(_derives),
        "m",
        test="tests/_core/test_crypto.py::test_hkdf_rfc_5869",
    )
    for oid, name in _CBC.items():
        yield Row(
            f"encryption {name}",
            works(_agrees, MODE_CBC_HMAC, oid),
            note=f"{profile.CBC_KEY_SIZE[oid] * 8}-bit keys, an ICV besides",
            test="tests/_core/test_crypto.py::test_cbc_nist",
        )
    lengths = [n for n in profile.ICV_LEN_RANGE if works(_agrees, MODE_AE, profile.AES128_CBC, n)]
    for oid, name in _GCM.items():
        yield Row(
            f"authenticated encryption {name}",
            works(_agrees, MODE_AE, profile.AES128_CBC, 16, oid),
            note=f"ICV of {lengths[0]} to {lengths[-1]} octets" if lengths else "",
            test="tests/_core/test_crypto.py::test_gcm_mcgrew",
        )
    yield Row(
        "ICV hmacWithSHA256",
        works(_agrees, MODE_HMAC),
        note=f"{profile.HMAC_ICV_LEN} octets",
        test="tests/_core/test_crypto.py::test_hmac_rfc_4231",
    )
    for oid, name in _GCM.items():
        yield Row(
            f"ICV {name.replace('GCM', 'GMAC')}",
            works(_agrees, MODE_GMAC, profile.AES128_CBC, 16, oid),
            test="tests/_core/test_guard.py::test_opens_what_the_reference_seals_and_the_reverse",
        )
    for oid, name in _RFC9044.items():
        yield Row(
            f"ICV {name} by the identifier of RFC 9044",
            oid in profile.GMAC_KEY_SIZE,
            note="accepted and echoed, never offered",
            test="tests/test_negotiation.py::test_gmac_by_the_identifiers_of_rfc_9044_is_accepted_and_echoed",
        )


def _signs(key: str, oid: str) -> bool:
    """A credential with such a key opens an association, and signs with this algorithm."""
    own = credential(Role.CLIENT, key)
    return own.signer.algorithm == oid and carries(Policy(), key) is not None


def _derives() -> bool:
    return hkdf_sha256(Secret.from_bytes(_IKM), _SALT, _INFO, len(_OKM)).reveal() == _OKM


# --- SecPDUs ----------------------------------------------------------------------------------------------------------
@cache
def _senders() -> Mapping[SecPduKind, frozenset[Role]]:
    """Which role sent which SecPDU in a number of associations, some of them disturbed."""
    seen: dict[SecPduKind, set[Role]] = {kind: set() for kind in SecPduKind}
    pairs: list[Pair] = []

    def spoiled(carrier: Carrier) -> Callable[[Send], Send]:
        def spoil(sent: Send) -> Send:
            if sent.carrier is not carrier or not sent.pdu:
                return sent
            return replace(sent, pdu=sent.pdu[:-1] + bytes([sent.pdu[-1] ^ 1]))

        return spoil

    def ended(policy: Policy, role: Role, how: str) -> None:
        pair = Pair(policy)
        pairs.append(pair.open())
        side = pair.client if role is Role.CLIENT else pair.server
        if how == "release":
            side.release(pair.now)
        else:
            side.abort(None, pair.now)
        pair.run()

    def disturbed(carrier: Carrier, role: Role) -> None:
        pair = Pair(Policy(), damage=spoiled(carrier))
        pairs.append(pair)
        pair.client.start(REQUEST, pair.now)
        pair.run()
        pair.send(pair.client if role is Role.CLIENT else pair.server)

    def refused() -> None:
        pair = Pair(Policy(), accept=False)
        pairs.append(pair)
        pair.open()

    for policy, role, how in product((Policy(), policy_of(MODE_HMAC)), Role, ("release", "abort")):
        works(ended, policy, role, how)
    for carrier, role in product((Carrier.ASSOCIATE_REQ, Carrier.ASSOCIATE_RSP, Carrier.DATA), Role):
        works(disturbed, carrier, role)
    works(refused)
    for pair in pairs:
        for role, kinds in pair.sent.items():
            for kind in kinds:
                seen[kind].add(role)
    return {kind: frozenset(roles) for kind, roles in seen.items()}


_STATES: Final = {
    Role.CLIENT: CLIENT_HANDSHAKE | DATA_STATES,
    Role.SERVER: SERVER_HANDSHAKE | DATA_STATES,
}


def _takers(kind: SecPduKind) -> frozenset[Role]:
    """Which role has a state in which this SecPDU is legal."""
    found = set()
    for role, states in _STATES.items():
        rules = (TABLE[state, INPUT_OF[kind]] for state in states)
        if any(isinstance(rule, Rule) and not (rule.when == "awaits_client" and role is Role.CLIENT) for rule in rules):
            found.add(role)
    return frozenset(found)


def _names(roles: frozenset[Role]) -> str:
    return " and ".join(role.value for role in Role if role in roles) or "nobody"


def _secpdus() -> Iterator[Row]:
    for pdu in SEC_PDUS:
        senders, takers = _senders()[pdu.kind], _takers(pdu.kind)
        others = frozenset(role for role in Role if {role} != senders)
        yield Row(
            pdu.kind.standard_name,
            bool(senders) and takers == (others if len(senders) == 1 else frozenset(Role)),
            note=f"in {pdu.carrier.value}, ClearToken{int(pdu.token)}; sent by {_names(senders)}, "
            f"taken by {_names(takers)}",
            test="tests/secpdu/test_secpdu_roundtrip.py::test_the_kinds_are_eleven",
        )


def parts(octets: bytes) -> list[bytes]:
    """The TLVs in DER, of tags of one octet."""
    found = []
    while octets:
        size, head = octets[1], 2
        if size & 0x80:
            head += size & 0x7F
            size = int.from_bytes(octets[2:head], "big")
        found.append(octets[: head + size])
        octets = octets[head + size :]
    return found


def content(octets: bytes) -> bytes:
    """Of one such TLV."""
    return octets[2 + (octets[1] & 0x7F if octets[1] & 0x80 else 0) :]


def long_form(octets: bytes) -> bytes:
    """The same TLV with a length of four octets."""
    inner = content(octets)
    return octets[:1] + b"\x84" + len(inner).to_bytes(4, "big") + inner


def _answered(rewrite: Callable[[list[bytes]], list[bytes]]) -> bool:
    """Whether a server accepts a HandshakeReq whose parts were rewritten on the way."""

    def rewritten(sent: Send) -> Send:
        if sent.carrier is not Carrier.ASSOCIATE_REQ or not sent.pdu:
            return sent
        inner = b"".join(rewrite(parts(content(sent.pdu))))
        return replace(sent, pdu=long_form(tlv(0x30, inner)))

    pair = Pair(Policy(), damage=rewritten)
    pair.client.start(REQUEST, pair.now)
    pair.run()
    return SecPduKind.HANDSHAKE_ACC in pair.sent[Role.SERVER]


def _indefinite(components: list[bytes]) -> list[bytes]:
    """tbs of indefinite length, signed with its end."""
    pp, tbs, sign = components
    algorithm = parts(content(sign))[0]
    inner = content(tbs) + b"\x00\x00"
    signature = credential(Role.CLIENT, "p256").signer.sign(inner)
    return [pp, b"\x30\x80" + inner, tlv(0x30, algorithm + tlv(0x04, signature))]


def _is_der() -> bool:
    """What is sent reads as DER to the last octet."""
    sent: list[bytes] = []

    def note(each: Send) -> Send:
        if each.carrier is Carrier.ASSOCIATE_REQ and each.pdu:
            sent.append(each.pdu)
        return each

    works(Pair(Policy(), damage=note).open)
    for pdu in sent:
        check_der(pdu)
    return bool(sent)


def _encodings() -> Iterator[Row]:
    yield Row("DER, sent", works(_is_der), test="tests/secpdu/test_vectors.py::test_signed_secpdus")
    yield Row(
        "BER of definite length, received",
        works(_answered, lambda components: [long_form(components[0]), *components[1:]]),
        test="tests/secpdu/test_secpdu_rules.py::test_lengths_need_not_be_minimal",
    )
    yield Row(
        "BER of indefinite length for tbs, tbp and token2, received",
        works(_answered, _indefinite),
        note="elsewhere refused",
        test="tests/secpdu/test_secpdu_rules.py::test_tbs_of_indefinite_length_is_signed_with_its_end",
    )
    xer = exists("fastsec.secpdu.xer")
    yield Row(
        "XER",
        xer,
        note="" if xer else "not implemented: XMPP only",
        test=ABSENT_TEST,
    )


# --- key update -------------------------------------------------------------------------------------------------------
def _updated(role: Role, mode: int = MODE_AE, group: int = profile.Group.SECP256R1) -> bool:
    pair = Pair(replace(policy_of(mode), groups=(group,), accept_groups=(group,))).open()
    (pair.client if role is Role.CLIENT else pair.server).update_keys(pair.now)
    pair.run()
    pair.send(pair.client)
    pair.send(pair.server)
    return pair.client.key_updates == pair.server.key_updates == 1


def _by_interval() -> bool:
    pair = Pair(Policy(rekey_interval=limits.SPEC_REKEY_INTERVAL_MIN)).open()
    pair.later(limits.SPEC_REKEY_INTERVAL_MIN + 1)
    return pair.client.key_updates == 1


def _by_count() -> bool:
    pair = Pair(Policy(rekey_messages=3)).open()
    for _ in range(3):
        pair.send(pair.client)
    pair.later(1)
    return pair.client.key_updates == 1


def _key_update() -> Iterator[Row]:
    low, high = limits.SPEC_REKEY_INTERVAL_MIN // 60, limits.SPEC_REKEY_INTERVAL_MAX // 3600
    yield Row(
        "by interval", works(_by_interval), "m", f"{low} min to {high} h, usually {Policy().rekey_interval // 60} min",
        "tests/test_key_update.py::test_idle_associations_update_every_interval_for_days",
    )  # fmt: skip
    yield Row("by message count", works(_by_count), test="tests/test_key_update.py::test_by_message_count")
    yield Row(
        "at the client's call",
        works(_updated, Role.CLIENT),
        test=UPDATE_TEST,
    )
    yield Row(
        "at the server's request (reqRekey)",
        works(_updated, Role.SERVER),
        test="tests/test_key_update.py::test_server_asks_on_every_pdu_until_the_rekey_comes",
    )
    for mode, name in MODE_NAMES.items():
        yield Row(
            f"in the mode {name}",
            works(_updated, Role.CLIENT, mode),
            test=UPDATE_TEST,
        )
    for group in profile.Group:
        yield Row(
            f"with group {int(group)}",
            works(_updated, Role.CLIENT, MODE_AE, group),
            test=UPDATE_TEST,
        )


# --- diagnostics ------------------------------------------------------------------------------------------------------
_HANDSHAKE_GROUPS: Final = (Group.HANDSHAKE_REQ, Group.HANDSHAKE_ACC)
_DATA_GROUPS: Final = (Group.CLEAR_TRANSFER, Group.ENCR_TRANSFER, Group.RELEASE_REQ)


def _diagnostics(kind: type[IntEnum], sent_for: tuple[Group, ...], received_in: Group) -> Iterator[Row]:
    answers = {diag for group in sent_for for _, diag in CHECKS[group].values()}
    events = RECEIVED[received_in]
    for diag in kind:
        number = events.get(diag)
        heard = f"event IEC62351-4:{int(received_in)}.{number}" if number else "reported as protocol-error"
        yield Row(
            f"{int(diag)} {wire_name(diag)}",
            diag in answers,
            note=f"received: {heard}",
            test="tests/test_faults.py::test_every_diagnostic_is_sent_for_some_check",
        )


# --- limits -----------------------------------------------------------------------------------------------------------
def _limits() -> Iterator[Row]:
    listed = resources.files("fastsec").joinpath("data/conformance-limits.csv").read_text(encoding="utf-8")
    for row in csv.DictReader(listed.splitlines()):
        value = getattr(limits, row["limit"], None)
        note = f"{value:,}" if value is not None else "no such limit any more"
        yield Row(f"{row['limit']}: {row['what']}", value is not None, note=note, test=row["test"])
