"""Reading a key log (docs/inspect.md), as ``Config.key_log`` writes it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from fastsec.inspect.source import Damage
from fastsec.inspect.transfer import Key
from fastsec.keys import LOGGED_MODES

LINE_MAX: Final = 1024
LINES_MAX: Final = 1 << 18
SAME_NUMBER_MAX: Final = 64
_HEX: Final = r"(-|[0-9a-f]{32}|[0-9a-f]{64})"
_LINE: Final = re.compile(
    r"fastsec-key 1 h2=([0-9a-f]{64}) asso=(\d{1,3}:\d{1,3}) from=(client|server) epoch=(\d{1,4})"
    rf" mode=({'|'.join(LOGGED_MODES.values())}) icv=(\d\d) ik={_HEX} ek={_HEX}"
)
# Octets of IK (None: 16 or 32), whether there is an EK, lengths of the ICV.
_SHAPES: Final = {
    "hmac": (32, False, range(32, 33)),
    "gmac": (None, False, range(12, 17)),
    "cbc-hmac": (32, True, range(32, 33)),
    "cbc-gmac": (None, True, range(12, 17)),
    "ae": (0, True, range(12, 17)),
}

Epochs = dict[tuple[str, int], Key]


class KeyLog:
    """The keys of a key log, by association.

    Arguments:
        lines: of the file.
    Errors:
        Damage: a line that is neither a key nor a comment, or too many of them.
    """

    def __init__(self, lines: Iterable[str] = ()) -> None:
        self._by_hash: dict[bytes, Epochs] = {}
        self._by_number: dict[str, list[bytes]] = {}
        for number, line in enumerate(lines, 1):
            if number > LINES_MAX:
                raise Damage(f"key log, line {number}", f"more than {LINES_MAX} lines")
            text = line.strip()
            if text and not text.startswith("#"):
                self._add(text, number)

    def _add(self, text: str, number: int) -> None:
        match = _LINE.fullmatch(text) if len(text) <= LINE_MAX else None
        if match is None:
            raise Damage(f"key log, line {number}", "not a line of a fastsec key log of version 1")
        h2, asso, side, epoch, mode, icv, ik, ek = match.groups()
        key = Key(mode, int(icv), *(b"" if part == "-" else bytes.fromhex(part) for part in (ik, ek)))
        ik_size, has_ek, icv_sizes = _SHAPES[mode]
        fits = len(key.ik) in (16, 32) if ik_size is None else len(key.ik) == ik_size
        if not fits or bool(key.ek) != has_ek or key.icv_len not in icv_sizes:
            raise Damage(f"key log, line {number}", f"keys that do not fit mode {mode}")
        digest = bytes.fromhex(h2)
        if digest not in self._by_hash:
            self._by_hash[digest] = {}
            self._by_number.setdefault(asso, []).append(digest)
        self._by_hash[digest][side, int(epoch)] = key

    def __bool__(self) -> bool:
        return bool(self._by_hash)

    def of_handshake(self, h2: bytes) -> Epochs | None:
        """The keys of the association whose handshake has this running hash, by (side, epoch)."""
        return self._by_hash.get(h2)

    def of_number(self, asso_id: str) -> list[Epochs]:
        """The keys of the associations with this number, the latest first, no more than SAME_NUMBER_MAX."""
        known = self._by_number.get(asso_id, [])
        return [self._by_hash[h2] for h2 in reversed(known[-SAME_NUMBER_MAX:])]
