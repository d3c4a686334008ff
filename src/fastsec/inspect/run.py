"""``fastsec inspect`` without its command line: records out of a stream of octets, whatever these are.

A record is a dict for JSON. ``type`` is ``pdu``; ``damage`` where the file is not what it should be, with ``where`` and
``why``; and last, once, ``end`` with counts.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from typing import Any, Final

from fastsec._core.cursor import Reader
from fastsec.errors import DecodeError
from fastsec.inspect import words
from fastsec.inspect.association import Association, Replays
from fastsec.inspect.capture import Frame, is_capture, read_capture
from fastsec.inspect.connection import Conversation, bare_record
from fastsec.inspect.hexdump import is_hex, read_hex
from fastsec.inspect.keylog import KeyLog
from fastsec.inspect.osi import Splitter, Tpdu
from fastsec.inspect.packets import Endpoint, Segment, endpoint_text, segment_of
from fastsec.inspect.source import Damage, Source
from fastsec.inspect.tcp import Piece, Stream

FORMATS: Final = ("auto", "pcap", "hex", "der", "tpkt")
TEXT_MAX: Final = 64 << 20
CONNECTIONS_MAX: Final = 1024
HELD_MAX: Final = 64 << 20
DER_MAX: Final = 256 * 1024

Record = dict[str, Any]


class _Connection:
    """One TCP connection: both directions and what they have in common."""

    def __init__(self, number: int, conversation: Conversation) -> None:
        self.number = number
        self.conversation = conversation
        self.streams: dict[Endpoint, Stream] = {}
        self.splitters: dict[Endpoint, Splitter] = {}

    @property
    def held(self) -> int:
        return sum(stream.pending for stream in self.streams.values()) + sum(
            splitter.held for splitter in self.splitters.values()
        )


class Inspector:
    """Reads one file.

    Arguments:
        keys: a key log.
        full: show octets of applData.
    Attributes:
        counts: what was seen so far, by kind.
        damaged: whether anything was.
    """

    def __init__(self, keys: KeyLog | None = None, *, full: bool = False) -> None:
        self.counts: Counter[str] = Counter()
        self.damaged = False
        self._keys = keys or KeyLog()
        self._full = full
        self._replays = Replays()
        self._number = 0
        self._connections: OrderedDict[tuple[Endpoint, Endpoint], _Connection] = OrderedDict()
        self._connections_seen = 0
        self._held = 0

    def run(self, source: Source, form: str = "auto") -> Iterator[Record]:
        """All records; the last is ``end``.

        Arguments:
            source: the file.
            form: one of FORMATS.
        """
        try:
            chosen = self._detect(source) if form == "auto" else form
            self.counts[f"format {chosen}"] = 1
            if chosen == "pcap":
                yield from self._capture(source)
            elif chosen == "hex":
                octets = read_hex(source.rest(TEXT_MAX))
                yield from self._octets(octets)
            elif chosen == "tpkt":
                yield from self._tpkts(iter(source.chunk, b""))
            else:
                yield from self._ders(source)
        except Damage as damage:
            yield self._damage(damage.where, damage.why)
        yield {
            "type": "end",
            "pdus": self._number,
            "damaged": self.damaged,
            "counts": dict(sorted(self.counts.items())),
        }

    @staticmethod
    def _detect(source: Source) -> str:
        head = source.peek(4)
        if not head:
            raise Damage("octet 0", "the file is empty")
        if is_capture(head):
            return "pcap"
        if head[:2] == b"\x03\x00":
            return "tpkt"
        if is_hex(source.peek(512)):
            return "hex"
        if head[0] in (0x30, 0xA0, 0xA1, 0xA2):
            return "der"
        raise Damage("octet 0", f"neither a capture, hex digits, a SecPDU nor TPKTs: begins with {head.hex(' ')}")

    def _damage(self, where: str, why: str) -> Record:
        self.damaged = True
        return {"type": "damage", "where": words.printable(where), "why": words.printable(why)}

    def _pdu(self, about: Record) -> Record:
        self._number += 1
        if "secpdu" in about:
            self.counts[about["secpdu"]["kind"]] += 1
        elif "mms" in about:
            self.counts["MMS without end-to-end security"] += 1
        self.counts["anomalies"] += len(about["anomalies"])
        return {"type": "pdu", "pdu": self._number, **about}

    # --- octets without a network ---

    def _octets(self, octets: bytes) -> Iterator[Record]:
        """What hex digits stood for."""
        import io

        inner = Source(io.BytesIO(octets))
        if is_capture(octets[:4]):
            yield from self._capture(inner)
        elif octets[:2] == b"\x03\x00":
            yield from self._tpkts(iter(inner.chunk, b""))
        else:
            yield from self._ders(inner)

    def _tpkts(self, chunks: Iterator[bytes]) -> Iterator[Record]:
        """TPKTs of one or of both directions, one after the other."""
        conversation = Conversation(self._keys, self._replays, self._full)
        splitter = Splitter(begun=True)
        offset = 0
        for octets in chunks:
            offset += len(octets)
            for tpdu in splitter.take(octets):
                if tpdu.fault and not tpdu.data:
                    yield self._damage(f"before octet {offset}", f"no TPKT here: {tpdu.fault}")
                else:
                    for about in conversation.records(tpdu, None, None):
                        yield self._pdu(about)
        if splitter.held:
            yield self._damage(
                f"octet {offset}", f"the file ends within a PDU of which {splitter.held} octets are there"
            )
        elif splitter.kind != "tpkt":
            yield self._damage("octet 0", "not TPKTs")

    def _ders(self, source: Source) -> Iterator[Record]:
        """SecPDUs one after the other."""
        association = Association(self._keys, self._replays)
        while head := source.peek(DER_MAX + 16):
            reader = Reader(head)
            try:
                reader.next()
            except DecodeError as error:
                yield self._damage(f"octet {source.offset}", f"no whole SecPDU here: {error}")
                return
            at = source.offset
            about = bare_record(association, source.take(reader.after, "a SecPDU"), self._full)
            yield self._pdu({"octet": at, **about})
            if "secpdu" not in about:
                yield self._damage(f"octet {at}", about["anomalies"][0]["text"])
                return

    # --- captures ---

    def _capture(self, source: Source) -> Iterator[Record]:
        skipped: set[str] = set()
        try:
            for frame in read_capture(source):
                self.counts["frames"] += 1
                segment = segment_of(frame)
                if isinstance(segment, str):
                    self.counts[f"frames left out: {_LEFT_OUT[segment]}"] += 1
                    if segment in ("fragment", "link") and segment not in skipped:
                        skipped.add(segment)
                        yield self._damage(f"frame {frame.number}", f"{_LEFT_OUT[segment]} (told once)")
                    continue
                yield from self._segment(segment)
        except Damage as damage:
            yield self._damage(damage.where, damage.why)
        while self._connections:
            yield from self._close(*self._connections.popitem(last=False))

    def _segment(self, segment: Segment) -> Iterator[Record]:
        key = min(segment.source, segment.target), max(segment.source, segment.target)
        connection = self._connections.get(key)
        if connection is not None and any(
            end == segment.source and stream.is_other(segment) for end, stream in connection.streams.items()
        ):
            yield from self._close(key, self._connections.pop(key))
            connection = None
        if connection is None:
            self._connections_seen += 1
            conversation = Conversation(self._keys, self._replays, self._full)
            connection = self._connections[key] = _Connection(self._connections_seen, conversation)
        else:
            self._connections.move_to_end(key)
        before = connection.held
        stream = connection.streams.setdefault(segment.source, Stream())
        if segment.target in connection.streams:
            answered = connection.streams[segment.target].acknowledged(segment)
            yield from self._pieces(answered, connection, segment.target, segment.source)
        yield from self._pieces(stream.take(segment), connection, segment.source, segment.target)
        self._held += connection.held - before
        while len(self._connections) > CONNECTIONS_MAX or (self._held > HELD_MAX and len(self._connections) > 1):
            self.counts["connections given up for memory"] += 1
            yield from self._close(*self._connections.popitem(last=False))

    def _close(self, key: tuple[Endpoint, Endpoint], connection: _Connection) -> Iterator[Record]:
        """No more of this connection is kept."""
        self._held -= connection.held
        for end, stream in connection.streams.items():
            other = key[1] if end == key[0] else key[0]
            yield from self._pieces(stream.finish(), connection, end, other)
        for end, splitter in connection.splitters.items():
            if splitter.held and splitter.kind == "tpkt":
                where = f"connection {connection.number}, from {endpoint_text(end)}"
                yield self._damage(where, f"ends within a PDU of which {splitter.held} octets are there")
            self.counts[f"directions: {_KINDS[splitter.kind]}"] += 1

    def _pieces(
        self, pieces: list[Piece], connection: _Connection, source: Endpoint, target: Endpoint
    ) -> Iterator[Record]:
        for piece in pieces:
            splitter = connection.splitters.get(source)
            if splitter is None:
                begun = connection.streams[source].begun
                splitter = connection.splitters[source] = Splitter(begun)
            if piece.missing:
                splitter.lose()
                connection.conversation.lost()
                if splitter.kind in ("", "tpkt"):
                    where = f"frame {piece.frame.number}, from {endpoint_text(source)}"
                    yield self._damage(where, f"the capture lacks {piece.missing} octets before this frame")
            for tpdu in splitter.take(piece.data):
                yield from self._tpdu(tpdu, connection, piece.frame, source, target)

    def _tpdu(
        self, tpdu: Tpdu, connection: _Connection, frame: Frame, source: Endpoint, target: Endpoint
    ) -> Iterator[Record]:
        place: Record = {
            "connection": connection.number,
            "frame": frame.number,
            "time": words.utc(frame.time_ns),
            "from": endpoint_text(source),
            "to": endpoint_text(target),
        }
        for about in connection.conversation.records(tpdu, place["from"], frame.time_ns):
            yield self._pdu(place | about)


_LEFT_OUT: Final = {
    "link": "link type not known",
    "other": "no TCP",
    "fragment": "IP fragment, not put together",
    "short": "headers not whole",
}
_KINDS: Final = {"": "empty or too short to tell", "tpkt": "TPKT", "tls": "TLS, not readable", "other": "other"}
