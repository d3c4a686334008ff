"""What all targets share: the description of one, and the octets of an input taken bit by bit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from fastsec.errors import DecodeError


@dataclass(frozen=True)
class Target:
    """One function to be called with any octets.

    Attributes:
        run: called with an input; what it raises is a finding.
        max_len: inputs are not made longer than this.
        seeds: inputs to begin with.
        der: octets at the front that are not DER, if the rest is; None where inputs are not DER.
    """

    run: Callable[[bytes], object]
    max_len: int
    seeds: Callable[[], Iterable[bytes]]
    der: int | None = None


class Bits:
    """An input read from its front: small numbers decide what is done, runs of octets are what it is done with.

    An input that is used up gives zeros, so every input means something and cutting one off keeps its beginning.
    """

    __slots__ = ("at", "data", "size")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.size = len(data)

    def more(self) -> bool:
        """Whether something is left."""
        return self.at < self.size

    def octet(self) -> int:
        """The next octet."""
        at = self.at
        self.at = at + 1
        return self.data[at] if at < self.size else 0

    def word(self) -> int:
        """The next two octets."""
        return self.octet() << 8 | self.octet()

    def signed(self) -> int:
        """The next octet as -128 .. 127."""
        value = self.octet()
        return value - 256 if value & 0x80 else value

    def run(self, size: int) -> bytes:
        """The next ``size`` octets, fewer at the end."""
        at = self.at
        self.at = at + size
        return self.data[at : at + size]

    def chunk(self) -> bytes:
        """A run with its length before it: one octet, or 255 and two more."""
        size = self.octet()
        return self.run(self.word() if size == 255 else size)

    def rest(self) -> bytes:
        """All that is left."""
        at = self.at
        self.at = self.size
        return self.data[at:]


def packed(*parts: int | bytes) -> bytes:
    """What ``Bits`` reads as these octets and chunks, for seeds."""
    out = bytearray()
    for part in parts:
        if isinstance(part, int):
            out.append(part & 0xFF)
        elif len(part) < 255:
            out += bytes((len(part),)) + part
        else:
            out += b"\xff" + len(part).to_bytes(2, "big") + part
    return bytes(out)


def edited(bits: Bits, octets: bytes) -> bytes:
    """``octets`` after up to three changes that the input names: bits flipped, octets set, inserted, left out, doubled.

    This is how an input damages something that it could not hold itself, a signed certificate for one.
    """
    many = bits.octet()
    for _ in range(many & 3):
        how, at = bits.octet(), bits.word() % (len(octets) + 1)
        match how & 7:
            case 0 | 1:
                octets = (
                    octets[:at] + bytes((octets[at] ^ (bits.octet() or 1),)) + octets[at + 1 :]
                    if at < len(octets)
                    else octets
                )
            case 2 | 3:
                octets = octets[:at] + bytes((bits.octet(),)) + octets[at + 1 :]
            case 4:
                octets = octets[:at] + bits.run(how >> 3) + octets[at:]
            case 5:
                octets = octets[:at] + octets[at + 1 + (how >> 3) :]
            case 6:
                octets = octets[:at] + octets[at : at + 1 + bits.octet()] + octets[at:]
            case _:
                octets = octets[: len(octets) - at]
    return octets


def tree(der: bytes, depth: int = 0) -> bytes:
    """``der``, all whose TLVs have definite lengths, written anew with the shortest length octets everywhere.

    Python alone, without the reader under test. ValueError for what is not a run of TLVs.
    """
    out = bytearray()
    at, end = 0, len(der)
    while at < end:
        first = at
        tag = der[at]
        at += 1
        if tag & 31 == 31:
            while True:
                if at >= end:
                    raise ValueError("tag")
                at += 1
                if not der[at - 1] & 0x80:
                    break
        head = der[first:at]
        if at >= end:
            raise ValueError("length")
        size = der[at]
        at += 1
        if size & 0x80:
            count = size & 0x7F
            if not count or at + count > end:
                raise ValueError("length")
            size = int.from_bytes(der[at : at + count], "big")
            at += count
        if at + size > end:
            raise ValueError("length")
        content = der[at : at + size]
        at += size
        if tag & 0x20:
            content = tree(content, depth + 1)
        size = len(content)
        if size < 128:
            length = bytes((size,))
        else:
            octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
            length = bytes((0x80 | len(octets),)) + octets
        out += head + length + content
    return bytes(out)


def decodes(function: Callable[[bytes], object], data: bytes) -> object:
    """What ``function`` makes of the octets, None for a DecodeError; nothing else may come out."""
    try:
        return function(data)
    except DecodeError:
        return None


def only(function: Callable[[bytes], object]) -> Callable[[bytes], object]:
    """``function`` as a target that may raise DecodeError and nothing else."""
    return partial(decodes, function)
