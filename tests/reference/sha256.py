"""SHA-256 (FIPS 180-4) in plain Python, as far as its state after one block is wanted."""

from __future__ import annotations

import struct
from math import isqrt

MASK = 0xFFFFFFFF


def _primes(count: int) -> list[int]:
    found: list[int] = []
    number = 2
    while len(found) < count:
        if all(number % prime for prime in found):
            found.append(number)
        number += 1
    return found


def _cube_root(value: int) -> int:
    low, high = 0, 1 << 64
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**3 <= value else (low, middle - 1)
    return low


START = [isqrt(prime << 64) & MASK for prime in _primes(8)]
ROUND = [_cube_root(prime << 96) & MASK for prime in _primes(64)]


def _turn(x: int, by: int) -> int:
    return (x >> by | x << (32 - by)) & MASK


def state(block: bytes) -> list[int]:
    """The eight words after the first block of a message."""
    w = list(struct.unpack(">16L", block))
    for i in range(16, 64):
        s0 = _turn(w[i - 15], 7) ^ _turn(w[i - 15], 18) ^ w[i - 15] >> 3
        s1 = _turn(w[i - 2], 17) ^ _turn(w[i - 2], 19) ^ w[i - 2] >> 10
        w.append((w[i - 16] + s0 + w[i - 7] + s1) & MASK)
    a, b, c, d, e, f, g, h = START
    for i in range(64):
        t1 = h + (_turn(e, 6) ^ _turn(e, 11) ^ _turn(e, 25)) + ((e & f) ^ (~e & MASK & g)) + ROUND[i] + w[i]
        t2 = (_turn(a, 2) ^ _turn(a, 13) ^ _turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))
        a, b, c, d, e, f, g, h = (t1 + t2) & MASK, a, b, c, (d + t1) & MASK, e, f, g
    return [(x + y) & MASK for x, y in zip(START, (a, b, c, d, e, f, g, h), strict=True)]


def state_after(block: bytes) -> bytes:
    """The same as this machine keeps it in memory."""
    return struct.pack("=8L", *state(block))
