"""How keys are masked, see memory_search.py; for who does not search itself."""

MASK = 0xA5


def masked(octets: bytes) -> bytes:
    """As tests/native/peephole.pyx does it."""
    return bytes(x ^ MASK for x in octets)
