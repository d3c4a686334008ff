"""Whole conversations of the real engine and the real OSI environment, at a fixed time, as TPKTs and as captures."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from engine_pair import ANSWER, CLIENT, READ, SERVER, UTC, ConnectionPair, Side, config
from envs.osi.support import take
from fastsec import profile
from fastsec._core.osidata import OsiChannel
from fastsec.association import Send
from fastsec.config import Policy
from fastsec.envs.osi import OsiAddress, OsiEndpoint, OsiParams
from fastsec.inspect.keylog import KeyLog
from fastsec.inspect.run import Inspector
from fastsec.inspect.source import Source
from fastsec.pki.identity import OsiName
from fastsec.secpdu.fields import Carrier

POLICIES = {
    "ae": Policy(),
    "ae-256-12": Policy(ae_algorithms=((profile.AES256_GCM, 12),)),
    "cbc-hmac": Policy(ae="forbidden"),
    "cbc-gmac": Policy(ae="forbidden", icv_algorithms=((profile.AES256_GCM, 14),)),
    "hmac": Policy(encryption="forbidden"),
    "gmac": Policy(encryption="forbidden", icv_algorithms=((profile.AES128_GCM, 16),)),
}


def address(name: OsiName) -> OsiAddress:
    return OsiAddress(ap_title=name.ap_title, ae_qualifier=name.ae_qualifier)


@dataclass
class World:
    """A secured association and the octets of its connection.

    Attributes:
        pair: the engines.
        frames: (True from the initiator, octets, ms since 1970).
        sent: SecPDUs in order: (who, carrier, octets).
        keys: lines of the client's key log.
    """

    pair: ConnectionPair
    keys: list[str]
    tpdu_size: int | None = None
    frames: list[tuple[bool, bytes, int]] = field(default_factory=list)
    sent: list[tuple[str, Carrier, bytes]] = field(default_factory=list)
    change: Callable[[str, Send], Send | None] | None = None

    def __post_init__(self) -> None:
        more: dict[str, Any] = {} if self.tpdu_size is None else {"max_tpdu_size": self.tpdu_size}
        client, server = (address(side.name) for side in (self.pair.client, self.pair.server))
        self.initiator = OsiEndpoint(
            "initiator", OsiParams(security=True, local=client, remote=server, **more), OsiChannel(70_000)
        )
        self.responder = OsiEndpoint("responder", OsiParams(security=True, local=server), OsiChannel(70_000))
        self.pair.on_wire = self._on_wire
        self.initiator.connect_transport()
        self._carry(True)
        self._carry(False)

    def _on_wire(self, who: str, sent: Send) -> Send | None:
        changed = self.change(who, sent) if self.change else sent
        if changed is not None:
            self.put(who, changed.carrier, changed.pdu, changed.disposition)
        return changed

    def put(self, who: str, carrier: Carrier, pdu: bytes | None, disposition: str = "") -> None:
        """Onto the wire, whatever the engines think of it."""
        if pdu is not None:
            self.sent.append((who, carrier, pdu))
        end = self.initiator if who == "client" else self.responder
        if carrier is Carrier.ASSOCIATE_REQ:
            end.associate(pdu or b"")
        elif carrier is Carrier.ASSOCIATE_RSP and disposition.startswith("rejected"):
            end.reject(pdu, permanent=disposition == "rejected-permanent")
        elif carrier is Carrier.ASSOCIATE_RSP:
            end.accept(pdu or b"")
        elif carrier is Carrier.DATA:
            end.data(pdu or b"")
        elif carrier is Carrier.RELEASE_REQ:
            end.release(pdu)
        elif carrier is Carrier.RELEASE_RSP:
            end.release_response(pdu)
        else:
            end.abort(pdu)
        self._carry(who == "client")

    def _carry(self, request: bool) -> None:
        source, target = (self.initiator, self.responder) if request else (self.responder, self.initiator)
        octets = source.data_to_send()
        if octets:
            self.frames.append((request, octets, self.pair.now.utc_ms))
            if not target.closed:
                take(target, octets)

    def side(self, who: str) -> Side:
        return self.pair.client if who == "client" else self.pair.server

    @property
    def key_log(self) -> KeyLog:
        return KeyLog(self.keys)


def world(policy: Policy | None = None, *, key: str = "p256", tpdu_size: int | None = None, **more: Any) -> World:
    """A pair that has not begun yet."""
    keys: list[str] = []
    policy = policy or Policy()
    pair = ConnectionPair(
        config(CLIENT, policy=policy, key=key, key_log=keys.append), config(SERVER, policy=policy, key=key), **more
    )
    return World(pair, keys, tpdu_size)


def whole_life(policy: Policy | None = None, **more: Any) -> World:
    """Handshake, data, a key update of the client's, one that the server asks for, release."""
    made = world(policy, **more)
    pair = made.pair.open().confirm()
    for _ in range(3):
        pair.client.send(READ)
        pair.server.send(ANSWER)
    pair.move()
    pair.client.update_keys()
    pair.move()
    pair.confirm()
    pair.elapse(61)
    pair.server.update_keys()
    pair.move()
    pair.confirm()
    pair.client.release()
    pair.move()
    assert pair.client.ended
    assert pair.server.ended
    assert pair.client.error is None
    return made


def records(
    octets: bytes, keys: KeyLog | None = None, *, form: str = "auto", full: bool = False
) -> list[dict[str, Any]]:
    """What inspect says of a file; each record goes through JSON."""
    found = list(Inspector(keys, full=full).run(Source(io.BytesIO(octets)), form))
    assert [record["type"] for record in found].count("end") == 1
    assert found[-1]["type"] == "end"
    return [json.loads(json.dumps(record)) for record in found]


def pdus(found: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record for record in found if record["type"] == "pdu"]


def secpdus(found: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record["secpdu"] for record in pdus(found) if "secpdu" in record]


def anomalies(found: Iterable[dict[str, Any]]) -> list[tuple[str, str]]:
    """(SecPDU kind, check) of all anomalies."""
    return [
        (record.get("secpdu", {}).get("kind", "-"), one["check"])
        for record in pdus(found)
        for one in record["anomalies"]
    ]


def damages(found: Iterable[dict[str, Any]]) -> list[str]:
    return [f"{record['where']}: {record['why']}" for record in found if record["type"] == "damage"]


NOW_MS = UTC
