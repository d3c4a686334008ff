"""The untrusted middle: a broker that ends TLS on both of its sides, forwards, records, and tampers when told to.

It knows TPKT (RFC 1006) and just enough of the layers above to tell the opening of an association from its data. TLS
does not stop it: each hop's TLS ends here, as it does in any broker. That is what end-to-end security is for.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from fastsec._core.guard import scan_transfer
from fastsec.errors import DecodeError

GIVE_TOKENS_AND_DATA: Final = b"\x01\x00\x01\x00"
_DATA_TPDU: Final = 0xF0
_END_OF_TSDU: Final = 0x80
_SESSION_ACCEPT: Final = 0x0E


class Way(Enum):
    """Direction of a frame."""

    REQUEST = "client → server"
    RESPONSE = "server → client"


class Trick(Enum):
    """What the intermediary can do to the data frames of one link and direction."""

    FLIP = auto()  # invert one bit of the next data frame
    REPLAY = auto()  # send the next data frame twice
    REORDER = auto()  # swap the next two data frames


@dataclass(frozen=True, slots=True)
class Frame:
    """One TPKT as it arrived.

    Attributes:
        link: number of the link, from 1.
        way: direction.
        octets: the whole TPKT.
        opened: it came after the association's opening was accepted.
        data: it carries data of an open association.
    """

    link: int
    way: Way
    octets: bytes
    opened: bool
    data: bool


@dataclass(slots=True)
class _Direction:
    """What the intermediary remembers per link and direction."""

    inside_tsdu: bool = False
    data: bool = False
    trick: Trick | None = None
    held: bytes | None = None


@dataclass(slots=True)
class Link:
    """One forwarded connection.

    Attributes:
        number: from 1, in order of acceptance.
        opened: the server has accepted the association on this link.
        done: set as soon as an ordered trick was played completely.
        closed: set when both sides have gone.
    """

    number: int
    opened: bool = False
    done: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    directions: dict[Way, _Direction] = field(default_factory=lambda: {way: _Direction() for way in Way})


class Intermediary:
    """A forwarding broker on 127.0.0.1.

    Arguments:
        target: port on 127.0.0.1 that every accepted connection is forwarded to.
        server_tls, client_tls: contexts of the two hops; None forwards without TLS.
        on_frame: sees each recorded frame.

    Attributes:
        frames: everything that passed, in order of arrival.
        links: the connections so far.
    """

    def __init__(
        self,
        target: int,
        *,
        server_tls: ssl.SSLContext | None = None,
        client_tls: ssl.SSLContext | None = None,
        on_frame: Callable[[Frame], None] | None = None,
    ) -> None:
        self.frames: list[Frame] = []
        self.links: list[Link] = []
        self.target = target
        self._server_tls = server_tls
        self._client_tls = client_tls
        self._on_frame = on_frame
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, port: int = 0) -> int:
        """Listen; returns the port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port, ssl=self._server_tls)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Close the listener and every link."""
        if self._server is not None:
            self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def order(self, link: Link, trick: Trick, way: Way = Way.REQUEST) -> None:
        """Play ``trick`` on the coming data frames of ``link``; ``link.done`` tells when it has happened."""
        link.done.clear()
        link.directions[way].trick = trick

    # --- forwarding ---------------------------------------------------------------------------------------------------
    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(len(self.links) + 1)
        self.links.append(link)
        task = asyncio.create_task(self._forward(link, reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far: asyncio.StreamWriter | None = None
        try:
            # No name check: the certificates of the trial authority alone decide, as between gateways.
            far_reader, far = await asyncio.open_connection("127.0.0.1", self.target, ssl=self._client_tls)
            await asyncio.gather(
                self._pump(link, Way.REQUEST, reader, far),
                self._pump(link, Way.RESPONSE, far_reader, writer),
            )
        except (OSError, asyncio.IncompleteReadError, ssl.SSLError):
            pass  # one side is gone; the other is told below
        finally:
            link.closed.set()
            for end in (writer, far):
                if end is not None:
                    end.close()
                    with contextlib.suppress(OSError, ssl.SSLError, asyncio.CancelledError):
                        await end.wait_closed()

    async def _pump(self, link: Link, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = await reader.readexactly(4)
            except asyncio.IncompleteReadError:
                break
            octets = head + await reader.readexactly(int.from_bytes(head[2:4], "big") - 4)
            frame = self._record(link, way, octets)
            for forwarded in self._play(link, link.directions[way], frame):
                writer.write(forwarded)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
        else:
            writer.close()  # TLS knows no half-closed connection

    def _record(self, link: Link, way: Way, octets: bytes) -> Frame:
        direction = link.directions[way]
        if len(octets) > 7 and octets[5] == _DATA_TPDU:
            if not direction.inside_tsdu:
                direction.data = octets[7:11] == GIVE_TOKENS_AND_DATA
            direction.inside_tsdu = not octets[6] & _END_OF_TSDU
            data = direction.data
        else:
            data = False
        frame = Frame(link.number, way, octets, link.opened, data)
        if way is Way.RESPONSE and len(octets) > 7 and octets[5] == _DATA_TPDU and octets[7] == _SESSION_ACCEPT:
            link.opened = True
        self.frames.append(frame)
        if self._on_frame is not None:
            self._on_frame(frame)
        return frame

    def _play(self, link: Link, direction: _Direction, frame: Frame) -> list[bytes]:
        """The octets to forward for one frame, after the trick that was ordered, if any."""
        trick, octets = direction.trick, frame.octets
        if trick is None or not frame.data:
            return [octets]
        if trick is Trick.REORDER and direction.held is None:
            direction.held = octets
            return []
        direction.trick = None
        link.done.set()
        if trick is Trick.FLIP:
            return [octets[:-1] + bytes((octets[-1] ^ 0x01,))]
        if trick is Trick.REPLAY:
            return [octets, octets]
        held, direction.held = direction.held, None
        return [octets, held] if held is not None else [octets]

    # --- what it learned ----------------------------------------------------------------------------------------------
    def after_handshake(self) -> bytes:
        """Everything recorded after the opening of the links, one frame after the other."""
        return b"".join(frame.octets for frame in self.frames if frame.opened)

    def find(self, *needles: bytes) -> list[bytes]:
        """Those of ``needles`` that occur in what passed after the handshakes."""
        hay = self.after_handshake()
        return [needle for needle in needles if needle and needle in hay]

    def key_changes(self, link: Link) -> int:
        """How many finished key updates the middle can count on ``link``: changedKey is protected, yet visible."""
        own = (frame for frame in self.frames if frame.link == link.number and frame.opened and frame.data)
        return sum(1 for frame in own if _changed_key(frame.octets))


def payload(octets: bytes) -> bytes | None:
    """What a data TPKT carries in its presentation user data: an MMS PDU or a SecPDU. None if it is not one."""
    at = 7 + len(GIVE_TOKENS_AND_DATA)
    if len(octets) < at or octets[7:at] != GIVE_TOKENS_AND_DATA:
        return None
    end = len(octets)
    for tag in (0x61, 0x30, 0x02, 0xA0):
        if at + 2 > end or octets[at] != tag:
            return None
        size, at = octets[at + 1], at + 2
        if size & 0x80:
            count = size & 0x7F
            size, at = int.from_bytes(octets[at : at + count], "big"), at + count
        if at + size > end:
            return None
        if tag == 0x02:
            at += size  # the context id; the next field follows it
    return octets[at:end]


def _changed_key(octets: bytes) -> bool:
    secpdu = payload(octets)
    if secpdu is None:
        return False
    try:
        return bool(scan_transfer(secpdu)[3])
    except DecodeError:
        return False
