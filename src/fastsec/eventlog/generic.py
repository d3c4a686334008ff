"""The generic events of 62351-14 that go with those of the parts (Annex A); an administrator may want both or not."""

from __future__ import annotations

from typing import Final

from fastsec.events import DOMAIN_E2E, SecurityEvent, named

_DOMAIN: Final = "IEC62351-14"
_FAIL: Final = "COMM_FAIL"
_ESTABLISHMENT: Final = "COMM_SA_ESTABLISHMENT_FAIL"
_PEER: Final = "COMM_PEER_AUTHENTICATION_FAIL"
_PACKET: Final = "COMM_PACKET_AUTHENTICATION_FAIL"
# Checks that show who the peer is.
_IDENTITY: Final = frozenset(
    ("signature", "signature-mismatch", "certificate", "path", "certificate-signature", "revoked", "address")
)
_HANDSHAKE: Final = frozenset((1, 2))
_TRANSFER: Final = frozenset((10, 11))


def of(event: SecurityEvent) -> SecurityEvent | None:
    """The generic event that says the same as ``event`` of another domain, or None. It refers to ``event``."""
    domain, _, place = event.id.partition(":")
    if domain == _DOMAIN or event.severity in ("notice", "warning"):
        return None
    group = int(place.partition(".")[0])
    params = dict(event.params)
    if domain == DOMAIN_E2E:
        if group in _TRANSFER:
            kind = _PACKET
        elif group in _HANDSHAKE and params.get("check") in _IDENTITY:
            kind = _PEER
        else:
            kind = _ESTABLISHMENT if group <= 5 else _FAIL
    elif domain == "IEC62351-3":
        kind = _PEER if group == 2 else _ESTABLISHMENT
    else:
        return None  # what a certificate or role lacks is followed by the event of the association that it ends
    return named(kind, peer=event.peer, RefEvtID=event.id)
