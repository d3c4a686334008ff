"""One transport connection, or what stands for one: from its octets to the records of the output."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastsec import profile
from fastsec.envs.osi import acse
from fastsec.events import DOMAIN_E2E, event
from fastsec.faults import Group
from fastsec.inspect import words
from fastsec.inspect.association import Association, Replays, Seen
from fastsec.inspect.keylog import KeyLog
from fastsec.inspect.osi import Carried, Contexts, Layers, Tpdu, osi_name, read_layers
from fastsec.inspect.secpdu import candidates
from fastsec.mms.pdu import kind_of
from fastsec.pki.identity import OsiName
from fastsec.secpdu.fields import Carrier

_ASSOCIATE = (Carrier.ASSOCIATE_REQ, Carrier.ASSOCIATE_RSP)


class Conversation:
    """What both directions of a connection have in common.

    Arguments:
        keys: the key log, perhaps empty.
        replays: handshakes of the whole file.
        full: show the octets of applData.
    """

    def __init__(self, keys: KeyLog, replays: Replays, full: bool) -> None:
        self.association = Association(keys, replays)
        self.contexts = Contexts()
        self._full = full
        self._client: str | None = None  # who sent AARQ
        self._called: OsiName | None = None

    def lost(self) -> None:
        """PDUs of this connection are missing from here on."""
        self.association.lost()

    def records(self, tpdu: Tpdu, origin: str | None, at_ns: int | None) -> Iterator[dict[str, Any]]:
        """The records of one TPDU or TSDU, without who and when.

        Arguments:
            origin: which end sent it, or None where nothing tells.
            at_ns: when it was captured.
        """
        layers = read_layers(tpdu, self.contexts)
        about: dict[str, Any] = {"layers": layers.description}
        anomalies = [_fault(text) for text in layers.faults]
        apdu = layers.apdu
        if isinstance(apdu, acse.Aarq):
            self._client = origin
            self._called = osi_name(apdu.called)
        elif isinstance(apdu, acse.Aare) and origin is not None and self._client is None:
            self._client = "the other of " + origin
        side = self._side(origin, apdu)
        if side is not None:
            about["from_side"] = side
        for carried in layers.carried:
            self._describe(carried, layers, side, at_ns, about, anomalies)
        about["anomalies"] = anomalies
        yield about

    def _side(self, origin: str | None, apdu: acse.Apdu | None) -> str | None:
        if isinstance(apdu, acse.Aarq):
            return "client"
        if isinstance(apdu, acse.Aare):
            return "server"
        if origin is None or self._client is None:
            return None
        if self._client.startswith("the other of "):
            return "server" if self._client == "the other of " + origin else "client"
        return "client" if origin == self._client else "server"

    def _describe(
        self,
        carried: Carried,
        layers: Layers,
        side: str | None,
        at_ns: int | None,
        about: dict[str, Any],
        anomalies: list[dict[str, Any]],
    ) -> None:
        if not self._is_secure(carried, layers):
            shown: dict[str, Any] = {"kind": words.mms_kind(carried.value), "octets": len(carried.value)}
            if self._full:
                shown["hex"] = carried.value[: 1 << 17].hex()
            about["mms" if carried.context == "mms" or kind_of(carried.value) else "data"] = shown
            return
        apdu = layers.apdu
        address = None
        if isinstance(apdu, acse.Aarq):
            address = osi_name(apdu.calling)
        elif isinstance(apdu, acse.Aare):
            address = osi_name(apdu.responding)
        at_ms = None if at_ns is None else at_ns // 1_000_000
        seen = Seen(carried.carrier, side, at_ms, address, carried.carrier in _ASSOCIATE, self._full)
        secpdu = self.association.take(carried.value, seen)
        anomalies += secpdu.pop("anomalies")
        if isinstance(apdu, acse.Aare) and secpdu["kind"] == "HandshakeAcc" and self._called not in (None, address):
            text = f"{address or 'nobody'} answers, {self._called} was called"
            anomalies.append(words.anomaly(Group.HANDSHAKE_ACC, "address", text))
        if carried.context == "unknown":
            secpdu["guessed"] = True
        about["secpdu"] = secpdu

    @staticmethod
    def _is_secure(carried: Carried, layers: Layers) -> bool:
        """By the abstract syntax; where the CP was not seen, by the octets themselves."""
        if carried.context != "unknown":
            return carried.context == "e2e"
        apdu = layers.apdu
        if isinstance(apdu, acse.Aarq | acse.Aare):
            return apdu.context_name == profile.OID_E2E_MMS_AC
        return carried.carrier in candidates(carried.value)


def bare_record(association: Association, data: bytes, full: bool) -> dict[str, Any]:
    """The record of a SecPDU that came without its environment."""
    carriers = candidates(data)
    if not carriers:
        return {
            "data": {"octets": len(data)},
            "anomalies": [_fault(f"not a SecPDU: tag {data[0]:02X}" if data else "no octets")],
        }
    if carriers[0] is Carrier.RELEASE_REQ and association.releasing:
        carriers.reverse()
    secpdu = association.take(data, Seen(carriers[0], full=full))
    anomalies = secpdu.pop("anomalies")
    if len(carriers) > 1:
        secpdu["or"] = _other_kind(data, carriers[1])
    return {"secpdu": secpdu, "anomalies": anomalies}


def _other_kind(data: bytes, carrier: Carrier) -> str:
    from fastsec.secpdu.der import kind_of as kind_by_carrier

    return kind_by_carrier(carrier, data[:1] + b"\0").standard_name


def _fault(text: str) -> dict[str, Any]:
    """A fault below the SecPDUs, by group 15 of the catalogue."""
    number = 4 if text.startswith(("ACSE", "AARQ", "AARE", "RLRQ", "RLRE", "ABRT")) else 1
    kind = event(DOMAIN_E2E, 15, number).type
    return {
        "event": kind.id,
        "mnemonic": kind.mnemonic,
        "severity": kind.severity,
        "check": "environment",
        "text": words.printable(text),
    }
