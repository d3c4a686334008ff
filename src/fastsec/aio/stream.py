"""The awaitable door: send and receive one PDU after the other."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final

from fastsec.aio.handler import AssociationHandler, Reject
from fastsec.errors import FastsecError, StateError

if TYPE_CHECKING:
    from fastsec.aio.connection import Connection
    from fastsec.pki.path import VerifiedPeer

QUEUE_OCTETS: Final = 256 * 1024  # received and not yet fetched; above, reading stops
QUEUE_PDUS: Final = 1024

Answer = bytes | Callable[["AssociationStream", bytes], "bytes | Reject | Awaitable[bytes | Reject]"]


class AssociationStream:
    """An open association for ``await``. One task may send while another receives.

    Use it as an asynchronous context manager: leaving the block releases the association, leaving it by an exception
    aborts it. Every coroutine may be cancelled: a cancelled ``send`` has not sent, a cancelled ``recv`` has taken
    nothing, a cancelled ``release`` goes on by itself.
    """

    __slots__ = (
        "_answer",
        "_assoc",
        "_ended",
        "_ending",
        "_error",
        "_octets",
        "_opening",
        "_queue",
        "_reader",
        "_room",
    )

    def __init__(self, answer: Answer | None = None) -> None:
        self._answer = answer
        self._assoc: Connection | None = None
        self._queue: deque[bytes] = deque()
        self._octets = 0
        self._ended = False
        self._error: FastsecError | None = None
        self._opening: asyncio.Future[None] | None = None
        self._reader: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._ending: asyncio.Future[None] | None = None

    # --- what one asks --------------------------------------------------------------------------------------------

    @property
    def connection(self) -> Connection:
        """The association of the callback door. StateError before there is one."""
        if self._assoc is None:
            raise StateError("there is no association yet")
        return self._assoc

    @property
    def peer(self) -> VerifiedPeer | None:
        """The verified peer; None without security."""
        return self.connection.peer

    @property
    def confirmed(self) -> bool:
        """Whether the peer has proved that it saw our handshake unaltered (62351-4 §6)."""
        return self.connection.confirmed

    @property
    def initiate_response(self) -> bytes:
        """Client: the protected protocol's response from the handshake."""
        return self.connection.initiate_response

    @property
    def initiate_request(self) -> bytes:
        """Server: the protected protocol's request from the handshake."""
        return self.connection.initiate_request

    # --- what one does --------------------------------------------------------------------------------------------

    async def send(self, pdu: bytes) -> None:
        """Protect and send one PDU; waits first while the network does not take what was sent before.

        Errors:
            StateError: released. Aborted, PeerError: ended, as ``recv``. LocalError: not exactly one PDU.
        """
        assoc = self.connection
        while not assoc.can_write and not self._ended:
            if self._room is None:
                self._room = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._room)
        if self._ended and self._error is not None:
            raise self._error
        assoc.write(pdu)

    async def recv(self) -> bytes:
        """The next PDU; b"" once the association has been released and nothing is left.

        Errors:
            StateError: another task is receiving.
            Aborted, PeerError, LimitReached: how the association ended otherwise, after all PDUs before that.
        """
        while not self._queue:
            if self._ended:
                if self._error is not None:
                    raise self._error
                return b""
            if self._reader is not None:
                raise StateError("another task is already waiting in recv()")
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        pdu = self._queue.popleft()
        self._octets -= len(pdu)
        if self._assoc is not None and self._octets <= QUEUE_OCTETS // 2 and len(self._queue) <= QUEUE_PDUS // 2:
            self._assoc.resume_reading()
        return pdu

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """All PDUs up to the release."""
        while pdu := await self.recv():
            yield pdu

    async def release(self) -> None:
        """Release and wait until it is done. What still arrives is kept for ``recv``.

        Errors:
            Aborted: the peer did not answer within 10 s, or ended the association otherwise.
        """
        if not self._ended and self.connection.is_open:
            with contextlib.suppress(StateError):  # the peer was faster: its release is under way
                self.connection.release()
        await self.wait_ended()
        if self._error is not None:
            raise self._error

    def abort(self, appl_data: bytes | None = None) -> None:
        """End at once; ``appl_data``: the protected protocol's own abort, if it has one."""
        if self._assoc is not None:
            self._assoc.abort(appl_data)

    def update_keys(self) -> None:
        """Start a key update, or as server ask the client for one (62351-4 key update)."""
        self.connection.update_keys()

    async def wait_ended(self) -> FastsecError | None:
        """Wait for the end; None after orderly release, else what ended the association."""
        if not self._ended:
            if self._ending is None:
                self._ending = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._ending)
        return self._error

    async def __aenter__(self) -> AssociationStream:
        """The association itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release, or abort if the block ended by an exception."""
        if self._ended:
            return
        if kind is not None:
            self.abort()
            return
        try:
            await self.release()
        except asyncio.CancelledError:
            self.abort()
            raise

    async def opened(self) -> None:
        """Wait until data may be sent. Errors: how the attempt ended."""
        if not self._ended and not (self._assoc is not None and self._assoc.is_open):
            if self._opening is None:
                self._opening = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._opening)
        if self._ended and self._error is not None and not self._queue:
            raise self._error

    def _make_room(self) -> None:
        room, self._room = self._room, None
        _wake(room)


class StreamHandler(AssociationHandler):
    """The handler behind an ``AssociationStream``.

    Attributes:
        stream: what the application uses.
    """

    __slots__ = ("stream",)

    def __init__(self, stream: AssociationStream) -> None:
        self.stream = stream

    def association_requested(self, assoc: Connection, appl_data: bytes) -> bytes | Reject | Awaitable[bytes | Reject]:
        """The answer given at the start."""
        self.stream._assoc = assoc
        answer = self.stream._answer
        if callable(answer):
            return answer(self.stream, appl_data)
        return answer or super().association_requested(assoc, appl_data)

    def associated(self, assoc: Connection) -> None:
        """Data may be sent."""
        self.stream._assoc = assoc
        _wake(self.stream._opening)

    def pdus_received(self, assoc: Connection, pdus: list[bytes]) -> None:
        """Queue them; stop reading when there are too many."""
        stream = self.stream
        stream._queue.extend(pdus)
        stream._octets += sum(map(len, pdus))
        if stream._octets > QUEUE_OCTETS or len(stream._queue) > QUEUE_PDUS:
            assoc.pause_reading()
        _wake(stream._reader)

    def resumed(self, assoc: Connection) -> None:
        """The transport takes more."""
        self.stream._make_room()

    def ended(self, assoc: Connection, error: FastsecError | None) -> None:
        """Wake all that wait."""
        stream = self.stream
        stream._ended = True
        stream._error = error
        _wake(stream._opening)
        _wake(stream._reader)
        _wake(stream._ending)
        stream._make_room()


def _wake(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)


def streams(
    serve_one: Callable[[AssociationStream], Awaitable[None]], answer: Answer
) -> Callable[[], AssociationHandler]:
    """A handler factory for ``serve`` that runs a coroutine per association.

    When the coroutine returns the association is released, when it raises it is aborted.

    Arguments:
        serve_one: gets each association once it is open.
        answer: the protected protocol's response for all, or what finds the answer for a request.
    """
    return lambda: _Serving(AssociationStream(answer), serve_one)


class _Serving(StreamHandler):
    __slots__ = ("_main", "_task")

    def __init__(self, stream: AssociationStream, serve_one: Callable[[AssociationStream], Awaitable[None]]) -> None:
        super().__init__(stream)
        self._main = serve_one
        self._task: asyncio.Task[None] | None = None

    def associated(self, assoc: Connection) -> None:
        super().associated(assoc)
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            async with self.stream:
                await self._main(self.stream)
        except FastsecError:
            return  # the association ended first; its events and ended() have told
        finally:
            self._task = None
