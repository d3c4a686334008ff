"""Search of a process's own writable memory for keys that should no longer be there.

Keys are remembered masked (tests/native/peephole.pyx) and compared octet by octet, so the search finds no copy of its
own. AddressSanitizer's shadow, terabytes of address space without any octet of the program, is left out.
"""

from __future__ import annotations

from collections.abc import Iterable

import peephole

CHUNK = 1 << 20
HUGE = 1 << 40  # no mapping of the program is that large; those of AddressSanitizer's shadow are


def traces(patterns: Iterable[bytes]) -> dict[int, int]:
    """How often each pattern, given masked, is found: index to count, zeros left out."""
    wanted = list(patterns)
    longest = max(map(len, wanted))
    found: dict[int, int] = {}
    with open("/proc/self/maps") as maps:
        lines = maps.read().splitlines()
    with open("/proc/self/mem", "rb", 0) as memory:
        for line in lines:
            place, rights, *rest = line.split()
            start, end = (int(x, 16) for x in place.split("-"))
            path = rest[3] if len(rest) > 3 else ""
            if not rights.startswith("rw") or end - start >= HUGE or path.startswith("[v"):
                continue
            tail = b""
            while start < end:
                memory.seek(start)
                octets = memory.read(min(CHUNK, end - start))
                start += len(octets)
                for index, hits in peephole.count(tail + octets, wanted).items():
                    found[index] = found.get(index, 0) + hits
                # What lies wholly in the tail was counted before.
                for index, hits in peephole.count(tail, wanted).items():
                    found[index] -= hits
                tail = (tail + octets)[1 - longest :]
    return {index: count for index, count in found.items() if count}
