"""Files: what ``fastsec inspect`` reads, with or without a key log, and the lines of a shared replay memory."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from typing import Final

from envs.osi.support import CAPTURES
from fastsec._core.tpkt import tpkt
from fastsec.inspect import text
from fastsec.inspect.keylog import KeyLog
from fastsec.inspect.run import Inspector
from fastsec.inspect.source import Damage, Source
from fastsec.replay import ReplayMemory
from fuzz.kit import Bits, Target, packed
from fuzz.targets.osi import CONVERSATIONS
from fuzz.targets.secpdu import _vectors

FORMS: Final = ("auto", "pcap", "hex", "der", "tpkt")
UTC: Final = 1_795_000_000_000


def inspected(data: bytes) -> None:
    """The first octet picks the form, a chunk is the key log, the rest the file: records of text and JSON, always an
    end, and as many as there are octets at most."""
    bits = Bits(data)
    form = FORMS[bits.octet() % len(FORMS)]
    lines = bits.chunk().decode("ascii", "replace").splitlines(keepends=True)
    octets = bits.rest()
    try:
        keys = KeyLog(lines)
    except Damage as damage:
        assert str(damage)
        keys = None
    inspector = Inspector(keys, full=bool(data[:1] > b"\x7f"))
    kind = ""
    for count, record in enumerate(inspector.run(Source(io.BytesIO(octets)), form)):
        assert json.loads(json.dumps(record)) == record
        assert all(line.isprintable() for line in text.lines(record))
        kind = record["type"]
        assert count <= len(octets) + 2
    assert kind == "end"


def _inspect_seeds() -> Iterable[bytes]:
    facts = "asso=17:5 from=client epoch=0 mode=hmac icv=32"
    key = f"fastsec-key 1 h2={'00' * 32} {facts} ik={bytes(range(32)).hex()} ek=-\n"
    for path in sorted((CAPTURES / "pdu").glob("*.bin")):
        yield packed(0, b"") + path.read_bytes()
    for path in sorted(CAPTURES.glob("*.pcap*")):
        yield packed(0, b"") + path.read_bytes()[:3000]
    for frames in (CONVERSATIONS[:4], CONVERSATIONS[4:9]):
        yield packed(4, b"") + b"".join(tpkt(octets) for octets in frames)
    for vector in _vectors("secpdus.json"):
        yield packed(3, key.encode()) + bytes.fromhex(vector["der"])
        yield packed(2, b"") + vector["der"].encode()[:2000]
    for vector in _vectors("transfers.json"):
        for message in vector["messages"]:
            yield packed(128, key.encode()) + bytes.fromhex(message["der"])


def _living(lines: list[str]) -> list[str]:
    """Without pairs whose rest is over at 0: whether they are still named depends on what was read after them."""
    return sorted(line for line in lines if (key := line.split(" ")[1])[0] != "-" or int(key[1:]) > 0)


def replay(data: bytes) -> None:
    """Lines of a store: ValueError, or they are written as they were read."""
    memory = ReplayMemory()
    memory.tidy(UTC)
    for line in data.decode("latin-1").split("\n"):
        try:
            memory.take(line, 0)
        except ValueError:
            return
    lines = memory.lines(UTC)
    other = ReplayMemory()
    other.tidy(UTC)
    for line in lines:
        other.take(line, 0)
    assert _living(other.lines(UTC)) == _living(lines)


def _replay_seeds() -> Iterable[bytes]:
    memory = ReplayMemory()
    for number in range(3):
        memory.remember(f"1.1.1.999.{number}.12", "QAR"[number], "20261118104640.000Z", "1:2"[:number], bytes(32), UTC)
        memory.hold(f"1.1.1.999.{number}.12", (number, 7), served=bool(number & 1))
        memory.stamped(UTC + number)
        yield "\n".join(memory.lines(UTC)).encode()
    memory.rest("1.1.1.999.0.12", (0, 7), 1_200_000)
    yield "\n".join(memory.lines(UTC)).encode()


def load() -> dict[str, Target]:
    """The targets of this module."""
    return {
        "inspect": Target(inspected, 2048, _inspect_seeds),
        "replay": Target(replay, 512, _replay_seeds),
    }
