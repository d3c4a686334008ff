"""The vectors in tests/vectors: what the reference writes today, and what fastsec makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import secpdu_values as values
import transfer_values
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_der_x509_certificate

from fastsec import keys
from fastsec._core.crypto import Secret, hkdf_sha256
from fastsec._core.guard import GuardParams, OpenGuard, SealGuard
from fastsec._core.pk import Ephemeral, PublicKey, check_public
from fastsec.errors import DecodeError
from fastsec.secpdu import der
from fastsec.secpdu.fields import Carrier, SecPduKind
from fastsec.secpdu.model import Handshake
from fastsec.secpdu.timestamp import time_key, time_text, time_utc_ms
from reference import keys as reference_keys
from reference.transfer import Receiver, Suite, Window
from vectors import generate

NULL = b"\x05\x00"


def load(name: str) -> Any:
    return json.loads((Path(generate.__file__).parent / name).read_text())


SECPDUS = load("secpdus.json")
SCHEDULE = load("key_schedule.json")
TRANSFERS = load("transfers.json")
ASSOCIATIONS = load("associations.json")
TIMES = load("timestamps.json")


@pytest.mark.parametrize("name", generate.FILES)
def test_the_reference_still_writes_them(name: str) -> None:
    assert generate.text_of(name) == (Path(generate.__file__).parent / name).read_text()


# --- signed SecPDUs -------------------------------------------------------------------------------------------------


def verify(certificate: bytes, oid: str, data: bytes, signature: bytes) -> None:
    key = load_der_x509_certificate(certificate).public_key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    PublicKey.from_spki(spki).verify(oid, data, signature)


@pytest.mark.parametrize("vector", SECPDUS, ids=lambda vector: f"{vector['name']}-{vector['identity']}")
def test_signed_secpdus(vector: Any) -> None:
    octets = bytes.fromhex(vector["der"])
    pdu = der.decode(Carrier(vector["carrier"]), octets)
    assert pdu.kind.standard_name == vector["name"]
    said = values.as_reference(pdu)
    assert generate.plain(said.token) == vector["token"]
    assert generate.plain(said[1:2] + said[3:]) == [
        vector[name] for name in ("pp", "diag", "applData", "tbs", "algo", "signature")
    ]
    token = pdu.token1 if isinstance(pdu, Handshake) else pdu.token3
    assert token.sig_alg == pdu.algo
    verify(token.pk_cert, pdu.algo.oid, pdu.tbs, pdu.signature)
    if isinstance(pdu, Handshake):
        assert der.encode_handshake_tbs(pdu.token1, pdu.appl_data) == pdu.tbs
        assert der.assemble(pdu.kind, pdu.pp, pdu.tbs, pdu.algo, pdu.signature) == octets
    else:
        assert der.encode_control_tbs(pdu.kind, pdu.token3, pdu.diag, pdu.appl_data) == pdu.tbs
        assert der.assemble(pdu.kind, None, pdu.tbs, pdu.algo, pdu.signature) == octets


def test_all_nine_kinds_are_there() -> None:
    assert {vector["name"] for vector in SECPDUS} == {row.kind.standard_name for row in values.SIGNED_ROWS}


# --- key schedule ---------------------------------------------------------------------------------------------------


def test_running_hash() -> None:
    h1 = keys.hash_request(bytes.fromhex(SCHEDULE["tbs_req"]))
    h2 = keys.hash_acceptance(bytes.fromhex(SCHEDULE["tbs_acc"]), h1)
    assert [h1.hex(), h2.hex()] == [SCHEDULE["h1"], SCHEDULE["h2"]]


@pytest.mark.parametrize("case", SCHEDULE["cases"], ids=lambda case: f"{case['suite']}, {len(case['Z']) // 2}")
def test_keys_of_each_mode(case: Any) -> None:
    size = 2 * (case["IK"] + case["EK"])
    z = Secret.from_bytes(bytes.fromhex(case["Z"]))
    okm = hkdf_sha256(z, bytes.fromhex(SCHEDULE["h2"]), b"", size).reveal()
    assert okm.hex() == case["IK_client"] + case["IK_server"] + case["EK_client"] + case["EK_server"]


@pytest.mark.parametrize("vector", SCHEDULE["groups"], ids=lambda vector: str(vector["group"]))
def test_groups(vector: Any) -> None:
    """libcrypto takes no private value from outside, so one side of the agreement is the reference."""
    group = vector["group"]
    client = reference_keys.DhKey(group, int(vector["client_private"], 16))
    server = reference_keys.DhKey(group, int(vector["server_private"], 16))
    assert [client.public.hex(), server.public.hex()] == [vector["client_public"], vector["server_public"]]
    assert client.shared(server.public).hex() == server.shared(client.public).hex() == vector["Z"]
    check_public(group, client.public)
    own = Ephemeral.generate(group)
    assert own.derive(client.public).reveal() == client.shared(own.public)


# --- transfers ------------------------------------------------------------------------------------------------------


def suite_of(vector: Any) -> Suite:
    pair = {name: tuple(vector[name]) if vector[name] else None for name in ("aea", "icv")}
    return Suite(pair["aea"], vector["encr"], pair["icv"])


@pytest.mark.parametrize("vector", TRANSFERS, ids=lambda vector: str(vector["suite"]))
def test_transfers(vector: Any) -> None:
    suite = suite_of(vector)
    ik, ek = bytes.fromhex(vector["IK"]), bytes.fromhex(vector["EK"])
    params = transfer_values.params(suite, vector["assoID"])
    start = vector["start_time"]
    tx = SealGuard(params, *transfer_values.guard_keys(ik, ek), start_time=start)
    rx = OpenGuard(params, *transfer_values.guard_keys(ik, ek), start_time=start)
    other = Receiver(suite, vector["assoID"], ik, ek, Window(start))
    for message in vector["messages"]:
        octets, appl_data = bytes.fromhex(message["der"]), bytes.fromhex(message["applData"])
        rekey = (message["rekey"][0], bytes.fromhex(message["rekey"][1])) if "rekey" in message else None
        req_rekey, changed_key = message.get("req_rekey", False), message.get("changed_key", False)
        tx.rekey, tx.req_rekey, tx.changed_key = rekey, req_rekey, changed_key
        sealed = tx.seal(appl_data, message["utc_ms"])
        assert len(sealed) == len(octets)
        if suite.encr is None:
            assert sealed == octets
        expected = (None if appl_data == NULL else appl_data, rekey, req_rekey, changed_key)
        opened = rx.open(octets, message["utc_ms"])
        assert (opened.appl_data, opened.rekey, opened.req_rekey, opened.changed_key) == expected
        assert other.open(octets, message["utc_ms"]) == expected


# --- whole associations ---------------------------------------------------------------------------------------------


def guards(
    params: GuardParams, okm: Secret, client: bool, times: list[str], old: tuple[SealGuard, OpenGuard] | None
) -> tuple[SealGuard, OpenGuard]:
    if old is not None:
        return keys.next_guards(params, okm, is_client=client, tx=old[0], rx=old[1])
    own, peer = times if client else reversed(times)
    return keys.first_guards(params, okm, is_client=client, own_time=own, peer_time=peer)


@pytest.mark.parametrize("vector", ASSOCIATIONS, ids=lambda vector: f"{vector['suite']}, group {vector['group']}")
def test_associations(vector: Any) -> None:
    """fastsec listens in on both sides: it verifies each signature, derives all keys, and opens each transfer."""
    suite, group = suite_of(vector), vector["group"]
    params = transfer_values.params(suite)
    dh = {side: reference_keys.DhKey(group, int(n, 16)) for side, n in vector["dh_private"].items()}
    steps = [(step, bytes.fromhex(step["der"])) for step in vector["steps"]]
    req, acc = (der.decode(Carrier(step["carrier"]), octets) for step, octets in steps[:2])
    assert isinstance(req, Handshake)
    assert isinstance(acc, Handshake)
    h2 = keys.hash_acceptance(acc.tbs, keys.hash_request(req.tbs))
    times = [req.token1.time, acc.token1.time]

    def secret(client: str) -> Secret:
        return keys.derive(params, Secret.from_bytes(dh[client].shared(dh["server"].public)), h2)

    # Each side's guard for what it receives; the client's belongs to what the server sends.
    at_client = guards(params, secret("client"), True, times, None)
    at_server = guards(params, secret("client"), False, times, None)
    received = []
    for step, octets in steps:
        if step["carrier"] != "presentation data":
            pdu = der.decode(Carrier(step["carrier"]), octets)
            token = pdu.token1 if isinstance(pdu, Handshake) else pdu.token3
            assert token.pk_cert.hex() == vector[f"{step['sender']}_certificate"]
            verify(token.pk_cert, token.sig_alg.oid, pdu.tbs, pdu.signature)
            received.append(pdu.kind)
            continue
        if step["sender"] == "server":
            if b"\x83\x01\xff" in octets:  # changedKey
                at_client = guards(params, secret("update"), True, times, at_client)
            opened = at_client[1].open(octets, step["utc_ms"])
        else:
            opened = at_server[1].open(octets, step["utc_ms"])
            if opened.rekey is not None:
                assert opened.rekey == (group, dh["update"].public)
                at_server = guards(params, secret("update"), False, times, at_server)
        received.append(der.kind_of(Carrier.DATA, octets))
    transfer = SecPduKind.ENCR_TRANSFER if suite.aea else SecPduKind.CLEAR_TRANSFER
    assert received == [
        SecPduKind.HANDSHAKE_REQ,
        SecPduKind.HANDSHAKE_ACC,
        *[transfer] * 6,
        SecPduKind.RELEASE_REQ,
        SecPduKind.RELEASE_RSP,
    ]


# --- time -----------------------------------------------------------------------------------------------------------


def test_timestamps() -> None:
    for vector in TIMES["emitted"]:
        assert time_text(vector["utc_ms"]) == vector["text"]
    for vector in TIMES["accepted"]:
        assert time_key(vector["text"]) == vector["key"]
        assert time_utc_ms(vector["text"]) == vector["utc_ms"]
    for text in TIMES["refused"]:
        with pytest.raises(DecodeError):
            time_key(text)
