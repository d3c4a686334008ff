"""An association of the A-profile, as ``fastsec inspect`` shows it: good, forged, malformed, and ended by P-ABORT."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from typing import Any

import pytest

from aprofile_world import INITIATE, INITIATE_RESPONSE, AWorld, authentication, connect_by_hand, der, value_of
from envs.osi.support import CALLED, CALLING, Pair
from fastsec.envs.osi import OsiParams
from fastsec.inspect.run import Inspector
from fastsec.inspect.source import Source
from fastsec.inspect.text import lines

WORLD = AWorld()
TEXT = "20260921141320."


def records(frames: Iterable[bytes]) -> list[dict[str, Any]]:
    source = Source(io.BytesIO(b"".join(frames)))
    found = [json.loads(json.dumps(record)) for record in Inspector().run(source, "tpkt")]
    return [record for record in found if record["type"] == "pdu"]


def conversation(request: bytes, answer: bytes | None) -> list[bytes]:
    initiator = OsiParams(security=False, a_profile=True, local=CALLING, remote=CALLED)
    pair = Pair.make(initiator, OsiParams(security=False, a_profile=True, local=CALLED))
    pair.transport()
    pair.initiator.associate(INITIATE, request)
    pair.to_responder()
    if answer is None:
        pair.responder.provider_abort()
    else:
        pair.responder.accept(INITIATE_RESPONSE, answer)
    pair.to_initiator()
    return [octets for _, octets in pair.log]


def proofs(frames: Iterable[bytes]) -> list[dict[str, Any]]:
    found = records(frames)
    acse = [record["layers"]["acse"] for record in found if "acse" in record["layers"]]
    return [about["a_profile"] for about in acse if "a_profile" in about]


def test_a_good_association() -> None:
    encoded = value_of(WORLD.der, TEXT, signed=b"\x81\x0f" + TEXT.encode())
    frames = conversation(value_of(WORLD.centre, TEXT), encoded)
    mine, theirs = proofs(frames)
    assert mine["subject"] == "O=Utility,CN=centre"
    assert mine["signature"] == "verified, over the characters of the time"
    assert (mine["carrier"], mine["time"], mine["key"]) == ("external", TEXT, "rsa of 2048 bits")
    assert theirs["subject"] == "O=Utility,CN=der"
    assert theirs["signature"] == "verified, over its encoding as on the wire"
    shown = "\n".join(line for record in records(frames) for line in lines(record))
    assert "5=mmsAuthenticationAS" in shown
    assert "A-profile   O=Utility,CN=centre, time 20260921141320., signature verified, over the characters" in shown
    assert "MMS in clear" in shown


def test_p_abort() -> None:
    last = records(conversation(value_of(WORLD.centre, TEXT), None))[-1]
    assert last["layers"]["presentation"] == {"ppdu": "ARP", "reason": "reason not specified"}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (der(0x80, b"password"), "no authentication-value"),
        (der(0xA2, b"\x02\x01\x05"), ""),
        (der(0xA2, b"\x02\x01\x05", der(0xA0, der(0xA0, b""))), "MMS-Authentication-value"),
        (der(0xA2, b"\x02\x01\x05", der(0xA0, value_of(WORLD.centre, "2026092114132\x1b."))), "GeneralizedTime"),
        (
            der(0xA2, b"\x02\x01\x05", der(0xA0, der(0xA0, der(0x80, b"c"), der(0x81, TEXT.encode()), der(0x82, b"")))),
            "certificate",
        ),
    ],
)
def test_faults_are_told(value: bytes, words: str) -> None:
    (found,) = proofs([connect_by_hand(authentication(value))])
    assert words in found["fault"]


def test_a_forged_signature() -> None:
    (found,) = proofs(
        [connect_by_hand(authentication(der(0xA2, der(0xA0, value_of(WORLD.centre, TEXT, signed=b"x")))))]
    )
    assert found["signature"] == "does not verify"
