"""Writes the JSON vectors beside this file from the reference implementation; with fixed keys, so always the same.

Run: ``PYTHONPATH=tests python tests/vectors/generate.py`` (``--check`` compares and writes nothing). Octets are hex.
The private keys here are public knowledge and protect nothing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from reference import keys, secpdu
from reference.keys import DhKey, Private
from reference.peer import ReferencePeer
from reference.secpdu import AES, HMAC_SHA256, NULL, Token, algorithm
from reference.tlv import Fault, tlv
from reference.transfer import Sender, Suite, time_digits, time_ms, time_text

HERE = Path(__file__).parent
T0 = 1_795_175_059_123  # 2026-11-20T11:44:19.123Z
INITIATE = bytes.fromhex("a826800300fde881010a82010a830105a416800101810305f100820c03ee1c00000408000079ef18")
INITIATED = bytes.fromhex("a926800300fde881010a82010a830105a416800101810305f100820c03ee1c00000408000079ef18")
READ = bytes.fromhex("a00b020101a406a1040402abcd")
ANSWER = bytes.fromhex("a10a020101a405a103830101")
SUITES = {
    "integrity, HMAC": Suite(icv=(HMAC_SHA256, 32)),
    "integrity, GMAC 128, ICV 12": Suite(icv=(AES["aes128-GCM"], 12)),
    "integrity, GMAC 256, ICV 16": Suite(icv=(AES["aes256-GCM"], 16)),
    "CBC 128, HMAC": Suite(encr=AES["aes128-CBC"], icv=(HMAC_SHA256, 32)),
    "CBC 256, GMAC 128, ICV 16": Suite(encr=AES["aes256-CBC"], icv=(AES["aes128-GCM"], 16)),
    "AE 128, ICV 16": Suite(aea=(AES["aes128-GCM"], 16)),
    "AE 256, ICV 12": Suite(aea=(AES["aes256-GCM"], 12)),
}
RSA_KEY = serialization.load_pem_private_key((HERE / "rsa2048-public-knowledge.pem").read_bytes(), None)
assert isinstance(RSA_KEY, rsa.RSAPrivateKey)
EC_KEY = ec.derive_private_key(0x1234567890ABCDEF << 160, ec.SECP256R1())
BRAINPOOL_KEY = ec.derive_private_key(0xFEDCBA0987654321 << 128, ec.BrainpoolP256R1())


def certificate(key: Private, name: str) -> bytes:
    """An RSA signature, because it needs no random number."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), 7, datetime(2026, 1, 1), datetime(2046, 1, 1))
    return builder.sign(RSA_KEY, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


IDENTITIES: dict[str, tuple[Private, bytes]] = {
    "rsa": (RSA_KEY, certificate(RSA_KEY, "vector rsa")),
    "secp256r1": (EC_KEY, certificate(EC_KEY, "vector secp256r1")),
    "brainpoolP256r1": (BRAINPOOL_KEY, certificate(BRAINPOOL_KEY, "vector brainpoolP256r1")),
}


def plain(value: Any) -> Any:
    """As JSON has it."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, set):
        return sorted(value)
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value


# --- signed SecPDUs -------------------------------------------------------------------------------------------------


def signed(name: str, identity: str, token: Token, *, diag: int | None = None, appl_data: bytes | None = None) -> Any:
    key, leaf = IDENTITIES[identity]
    algo = algorithm(keys.algorithm_of(key))
    token = {"sigAlg": algo, "pkCert": leaf} | token
    tbs = secpdu.encode_tbs(name, token, diag, appl_data)
    pp = "IEC 61850-8-1" if "dhKey" in token else None
    signature = keys.sign(key, tbs, deterministic=True)
    return {
        "name": name,
        "carrier": secpdu.OUTER[name][0],
        "identity": identity,
        "pp": pp,
        "token": token,
        "diag": diag,
        "applData": appl_data,
        "tbs": tbs,
        "algo": algo,
        "signature": signature,
        "der": secpdu.assemble(name, pp, tbs, algo, signature),
    }


def secpdus() -> Any:
    gcm = AES["aes128-GCM"], AES["aes256-GCM"]
    aea = ("aea", [algorithm(oid, size) for size in (16, 12) for oid in gcm])
    hmac = algorithm(HMAC_SHA256)
    non_aea = ("non-aea", [algorithm(AES["aes128-CBC"]), algorithm(AES["aes256-CBC"])], [hmac, algorithm(gcm[0], 16)])
    only_icv = ("non-aea", None, [hmac])
    offer = [(group, DhKey(group, 1000 + group).public) for group in (23, 28, 14)]
    base = {"version": {0}, "hmac": hmac, "time": time_text(T0)}
    path = [IDENTITIES["rsa"][1], IDENTITIES["brainpoolP256r1"][1]]
    req = base | {"assoID": "17", "dhKey": offer[:1], "encr-mode": aea, "confParams": {1}}
    acc = req | {"assoID": "17:5", "encr-mode": ("aea", aea[1][:1])}
    full = req | {"certPath": path, "dhKey": offer, "encr-mode": non_aea, "confParams": {0, 1, 2}, "attCert": b"\x30\0"}
    control = {"version": {0}, "assoID": "17:5", "time": time_text(T0 + 1)}
    early = {"version": {0}, "time": time_text(T0 + 1)}
    icv_req = req | {"encr-mode": only_icv, "confParams": set()}
    icv_acc = icv_req | {"assoID": "17:5"}
    return [
        signed("HandshakeReq", "secp256r1", req, appl_data=INITIATE),
        signed("HandshakeReq", "rsa", full, appl_data=INITIATE),
        signed("HandshakeReq", "brainpoolP256r1", icv_req, appl_data=INITIATE),
        signed("HandshakeAcc", "secp256r1", acc, appl_data=INITIATED),
        signed("HandshakeAcc", "rsa", icv_acc, appl_data=INITIATED),
        signed("ApplicationReject", "rsa", early | {"assoID": "17"}, appl_data=tlv(0xAC, b"\x80\x01\x00")),
        signed("HandshakeSecReject", "secp256r1", early | {"assoID": "17"}, diag=10),
        signed("HandshakeSecReject", "secp256r1", early),
        signed("HandshakeSecAbort", "secp256r1", control, diag=12),
        signed("DtSecAbort", "secp256r1", control, diag=6),
        signed("DtSecAbort", "brainpoolP256r1", control | {"certPath": path[:1]}),
        signed("ApplAbort", "secp256r1", control),
        signed("ApplAbort", "rsa", control, appl_data=tlv(0xA4, b"\x80\x01\x01")),
        signed("ReleaseReq", "secp256r1", control),
        signed("ReleaseRsp", "rsa", control),
    ]


# --- key schedule ---------------------------------------------------------------------------------------------------


def key_schedule() -> Any:
    groups = []
    for group in (14, 23, 28):
        client, server = 0xC11E47 << 200 | group, 0x5E4FE4 << 200 | group
        ours, theirs = DhKey(group, client), DhKey(group, server)
        groups.append(
            {
                "group": group,
                "client_private": f"{client:x}",
                "client_public": ours.public,
                "server_private": f"{server:x}",
                "server_public": theirs.public,
                "Z": ours.shared(theirs.public),
            }
        )
    tbs_req, tbs_acc = b"content of tbs of HandshakeReq", b"content of tbs of HandshakeAcc"
    h1 = keys.h1(tbs_req)
    h2 = keys.h2(tbs_acc, h1)
    cases = []
    for name, suite in SUITES.items():
        for group in groups:
            z = group["Z"]
            assert isinstance(z, bytes)
            cut = keys.cut(z, h2, suite.mac_size, suite.aes_size)
            cases.append({"suite": name, "IK": suite.mac_size, "EK": suite.aes_size, "Z": z} | cut)
    return {"groups": groups, "tbs_req": tbs_req, "tbs_acc": tbs_acc, "h1": h1, "h2": h2, "cases": cases}


# --- transfers ------------------------------------------------------------------------------------------------------


def suite_json(suite: Suite) -> Any:
    return {"aea": suite.aea, "encr": suite.encr, "icv": suite.icv, "mode": suite.mode}


def transfers() -> Any:
    found = []
    for name, suite in SUITES.items():
        ik, ek = bytes(range(suite.mac_size)), bytes(range(0x80, 0x80 + suite.aes_size))
        start = time_text(T0)
        tx = Sender(suite, "17:5", ik, ek, start)
        messages: list[dict[str, Any]] = [
            {"utc_ms": T0 - 5, "applData": READ},  # the clock is behind: the time is that of ClearToken1
            {"utc_ms": T0, "applData": NULL},
            {"utc_ms": T0 + 1, "applData": READ, "rekey": (23, DhKey(23, 4711).public)},
            {"utc_ms": T0 + 1, "applData": ANSWER, "changed_key": True},
            {"utc_ms": T0 + 1, "applData": tlv(0xA0, bytes(1000)), "req_rekey": True},
            {"utc_ms": T0 + 60_000, "applData": tlv(0xC0, b"another protocol")},
        ]
        for number, message in enumerate(messages):
            flags: dict[str, Any] = {
                key: message[key] for key in message.keys() & {"rekey", "changed_key", "req_rekey"}
            }
            if suite.encr:
                message["iv"] = flags["iv"] = bytes([number]) * 16
            message["der"] = tx.seal(message["applData"], message["utc_ms"], **flags)
        case = {"suite": name, "assoID": "17:5", "start_time": start, "IK": ik, "EK": ek, "messages": messages}
        found.append(case | suite_json(suite))
    return found


# --- whole associations ---------------------------------------------------------------------------------------------


def association(name: str, group: int, client_identity: str, server_identity: str) -> Any:
    """All SecPDUs of an association with a key update, in the order in which they are sent."""
    suite = SUITES[name]
    (client_key, client_cert), (server_key, server_cert) = IDENTITIES[client_identity], IDENTITIES[server_identity]
    secrets = {"client": 0xC11E47 << 200 | group, "server": 0x5E4FE4 << 200 | group, "update": 0xF4E54 << 200 | group}
    common: dict[str, Any] = {"suite": suite, "group": group, "deterministic": True}
    client = ReferencePeer(
        True, client_cert, client_key, number="17", dh_secret=secrets["client"], peer_certificate=server_cert, **common
    )
    server = ReferencePeer(
        False, server_cert, server_key, number="5", dh_secret=secrets["server"], peer_certificate=client_cert, **common
    )
    steps: list[dict[str, Any]] = []

    def step(sender: str, utc_ms: int, carrier: str, der: bytes) -> bytes:
        steps.append({"sender": sender, "utc_ms": utc_ms, "carrier": carrier, "der": der})
        return der

    server.take_handshake(step("client", T0, "AARQ", client.start(INITIATE, T0)), T0)
    client.take_handshake(step("server", T0 + 2, "AARE", server.accept(INITIATED, T0 + 2)), T0)
    data = "presentation data"
    server.receive(step("client", T0 + 3, data, client.send(READ, T0 + 3)), T0)
    client.receive(step("server", T0 + 4, data, server.send(ANSWER, T0 + 4)), T0)
    carrier = client.update_keys(T0 + 5, dh_secret=secrets["update"])
    server.receive(step("client", T0 + 5, data, carrier), T0)
    server.receive(step("client", T0 + 5, data, client.send(READ, T0 + 5)), T0)
    client.receive(step("server", T0 + 6, data, server.send(NULL, T0 + 6)), T0)
    client.receive(step("server", T0 + 6, data, server.send(ANSWER, T0 + 6)), T0)
    server.take_control("RLRQ", step("client", T0 + 7, "RLRQ", client.control("ReleaseReq", T0 + 7)), T0)
    client.take_control("RLRE", step("server", T0 + 8, "RLRE", server.control("ReleaseRsp", T0 + 8)), T0)
    head = {"suite": name, "group": group, "client_certificate": client_cert, "server_certificate": server_cert}
    return head | {"dh_private": {side: f"{n:x}" for side, n in secrets.items()}, "steps": steps} | suite_json(suite)


def associations() -> Any:
    return [
        association("AE 128, ICV 16", 23, "secp256r1", "secp256r1"),
        association("integrity, HMAC", 14, "rsa", "secp256r1"),
        association("integrity, GMAC 256, ICV 16", 28, "brainpoolP256r1", "rsa"),
        association("AE 256, ICV 12", 28, "secp256r1", "brainpoolP256r1"),
    ]


# --- time -----------------------------------------------------------------------------------------------------------


def timestamps() -> Any:
    texts = ["20261120114419.123Z", "20261120114419Z", "20261120114419,5Z", "20261120114419.123456789Z"]
    texts += [
        "20240229235959.999Z",
        "20161231235960Z",
        "20161231235960.5Z",
        "19700101000000.000Z",
        "99991231235959.999Z",
    ]
    refused = [
        "20261120114419",
        "20261120T114419Z",
        "20261120114419.Z",
        "20261120114419.1234567890Z",
        "20260229114419Z",
    ]
    refused += ["20261320114419Z", "20261120244419Z", "20261120116019Z", "20261120114461Z", "202611201144Z"]
    refused += ["20261120114419+0100", "20261120114419.123z"]
    for text in refused:
        try:
            time_digits(text)
        except Fault:
            continue
        raise AssertionError(text)
    accepted = [{"text": text, "key": time_digits(text), "utc_ms": time_ms(text)} for text in texts]
    return {"emitted": [{"utc_ms": ms, "text": time_text(ms)} for ms in (0, T0, T0 + 999)], "accepted": accepted} | {
        "refused": refused
    }


FILES: dict[str, Callable[[], Any]] = {
    "secpdus.json": secpdus,
    "key_schedule.json": key_schedule,
    "transfers.json": transfers,
    "associations.json": associations,
    "timestamps.json": timestamps,
}


def text_of(name: str) -> str:
    """What the file should hold."""
    return json.dumps(plain(FILES[name]()), indent=1, ensure_ascii=True) + "\n"


def main() -> int:
    different = [name for name in FILES if not (HERE / name).exists() or (HERE / name).read_text() != text_of(name)]
    if "--check" not in sys.argv:
        for name in different:
            (HERE / name).write_text(text_of(name))
    print("different:" if different else "no difference", *different)
    return 1 if different and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
