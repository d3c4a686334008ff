"""A peer that breaks one rule on purpose: real SecPDUs, changed in one place and signed again with a trial key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine_pair import ConnectionPair, credential
from fastsec import profile
from fastsec.association import Send
from fastsec.control import make_control
from fastsec.pki.credential import Credential
from fastsec.secpdu.der import assemble, decode, encode_control_tbs, encode_handshake_tbs
from fastsec.secpdu.fields import Carrier, SecPduKind
from fastsec.secpdu.model import AlgorithmId, Control, Handshake, algorithm_id

KEEP: Any = object()
UNKNOWN_SIGNATURE = AlgorithmId("1.2.840.10045.4.3.3")  # ecdsa-with-SHA384
RSA = algorithm_id(profile.SHA256_RSA)

Change = Callable[[Handshake], dict[str, Any]]


def forge(
    carrier: Carrier,
    pdu: bytes,
    by: Credential,
    *,
    pp: str | None = None,
    algo: AlgorithmId | None = None,
    signature: Callable[[bytes], bytes] | None = None,
    appl_data: Any = KEEP,
    diag: Any = KEEP,
    **changes: Any,
) -> bytes:
    """``pdu`` with changed token fields, signed again.

    Arguments:
        pp, algo: other values outside tbs.
        signature: makes another signature of the good one.
        appl_data, diag: other values in tbs.
        changes: fields of the token; ``algo`` follows a changed sig_alg.
    """
    decoded = decode(carrier, pdu)
    data = decoded.appl_data if appl_data is KEEP else appl_data
    if isinstance(decoded, Handshake):
        token = decoded.token1._replace(**changes)
        tbs = encode_handshake_tbs(token, data)
        outer_pp = pp or decoded.pp
        sig_alg = token.sig_alg
    else:
        token3 = decoded.token3._replace(**changes)
        tbs = encode_control_tbs(decoded.kind, token3, decoded.diag if diag is KEEP else diag, data)
        outer_pp = None
        sig_alg = token3.sig_alg
    signed = by.signer.sign(tbs)
    return assemble(decoded.kind, outer_pp, tbs, algo or sig_alg, signature(signed) if signature else signed)


def on_request(pair: ConnectionPair, change: Callable[[bytes], bytes]) -> None:
    """The client's HandshakeReq goes through ``change``."""
    _on(pair, "client", Carrier.ASSOCIATE_REQ, change)


def on_response(pair: ConnectionPair, change: Callable[[bytes], bytes]) -> None:
    """What the server answers goes through ``change``."""
    _on(pair, "server", Carrier.ASSOCIATE_RSP, change)


def on_abort(pair: ConnectionPair, who: str, change: Callable[[bytes], bytes]) -> None:
    """The abort of ``who`` goes through ``change``."""
    _on(pair, who, Carrier.ABORT, change)


def _on(pair: ConnectionPair, who: str, carrier: Carrier, change: Callable[[bytes], bytes]) -> None:
    def wire(sender: str, sent: Send) -> Send:
        if sender == who and sent.carrier is carrier and sent.pdu is not None:
            return Send(carrier, change(sent.pdu), sent.disposition)
        return sent

    pair.on_wire = wire


def flip_last(octets: bytes) -> bytes:
    """One bit of the last octet flipped."""
    return octets[:-1] + bytes((octets[-1] ^ 1,))


def replies(pair: ConnectionPair, who: str) -> list[Control | Handshake | None]:
    """The signed PDUs that ``who`` put on the wire, decoded; None for a plain ABRT."""
    return [
        None if sent.pdu is None else decode(sent.carrier, sent.pdu)
        for sender, sent in pair.wire
        if sender == who and sent.carrier is not Carrier.DATA
    ]


def control(
    pair: ConnectionPair, who: str, kind: SecPduKind, *, diag: int | None = None, after_ms: int = 1, **more: Any
) -> bytes:
    """A genuine control PDU of ``who`` for this association, at the present time + ``after_ms``."""
    side = getattr(pair, who)
    more.setdefault("by", credential(side.name))
    more.setdefault("asso_id", side.association.asso_id)
    by, asso_id, data = more["by"], more["asso_id"], more.get("appl_data")
    return make_control(by, kind, asso_id, pair.now.utc_ms + after_ms, diag, data)
