"""Breaks invariants of _core on purpose, so that the assertions of a checked build can be seen to fire."""

from libc.stdlib cimport free

from fastsec._core.crypto cimport Secret
from fastsec._core.cursor cimport Reader, Writer
from fastsec._core.opening cimport OpenGuard
from fastsec._core.osidata cimport OsiChannel
from fastsec._core.sealing cimport SealGuard


def reader_end(Reader reader) -> None:
    """The current TLV ends past the level's octets."""
    reader.t.stop += 1000


def writer_used(Writer writer) -> None:
    """More written than there is room."""
    writer.used = writer.room + 1


def writer_opened(Writer writer) -> None:
    """The open TLV begins nowhere."""
    writer.opened[writer.depth - 1] = 0


def writer_buffer(Writer writer) -> None:
    """Room without a buffer."""
    free(writer.buffer)
    writer.buffer = NULL


def secret_size(Secret secret) -> None:
    """Wiped, with octets left."""
    secret.wipe()
    secret.size = 5


def secret_size_back(Secret secret) -> None:
    secret.size = 0


def seal_alive(SealGuard guard) -> None:
    """Wiped, but alive."""
    guard.alive = True


def seal_seq(SealGuard guard) -> None:
    """seq before the first."""
    guard.outgoing.seq = -2


def open_alive(OpenGuard guard) -> None:
    """Wiped, but alive."""
    guard.alive = True


def open_commit(OpenGuard guard) -> None:
    """A PDU is accepted a second time."""
    guard.commit()


def channel_tail(OsiChannel channel) -> None:
    """More octets kept than there is room."""
    channel.tail = channel.room + 1


def channel_tail_back(OsiChannel channel) -> None:
    channel.tail = channel.head


def channel_parts(OsiChannel channel) -> None:
    """Octets of a TSDU without a buffer."""
    channel.parts_size = 3


def channel_parts_back(OsiChannel channel) -> None:
    channel.parts_size = 0
