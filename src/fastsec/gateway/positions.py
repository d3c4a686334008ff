"""Where in a TOML text each key and value stands, so that an error can name the line. ``tomllib`` does not tell.

The scanner trusts that ``tomllib`` has accepted the text; it only follows the structure. A path is a tuple of table
names, keys and array indexes, e.g. ``("route", 1, "listen")``.
"""

from __future__ import annotations

import json
import re
from typing import Final

Path = tuple[str | int, ...]

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR_END: Final = frozenset(",]}#\n")


class Positions:
    """Lines of a TOML text by path.

    Arguments:
        text: TOML that ``tomllib.loads`` accepts.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._lines: dict[Path, int] = {}
        self._arrays: dict[Path, int] = {}  # how many tables each array of tables has so far
        self._newlines = [index for index, char in enumerate(text) if char == "\n"]
        self._document()

    def line(self, path: Path) -> int | None:
        """Line, from 1, of ``path`` or of its nearest ancestor that stands in the text; None if there is none."""
        while path:
            found = self._lines.get(path)
            if found is not None:
                return found
            path = path[:-1]
        return None

    # --- structure ---------------------------------------------------------------------------------------------------
    def _document(self) -> None:
        table: Path = ()
        while self._skip_blank(newlines=True):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> Path:
        here = self._at
        array = self._text.startswith("[[", here)
        self._at += 2 if array else 1
        names = self._key()
        self._at += 2 if array else 1  # the closing brackets
        path = self._resolve(names[:-1])
        if array:
            path = (*path, names[-1])
            index = self._arrays.get(path, 0)
            self._arrays[path] = index + 1
            self._note(path, here)
            path = (*path, index)
        else:
            path = self._into((*path, names[-1]))
        self._note(path, here)
        return path

    def _resolve(self, names: list[str]) -> Path:
        path: Path = ()
        for name in names:
            path = self._into((*path, name))
        return path

    def _into(self, path: Path) -> Path:
        """A name that stands for an array of tables means its last table."""
        count = self._arrays.get(path)
        return path if count is None else (*path, count - 1)

    def _pair(self, table: Path) -> None:
        here = self._at
        path = table
        for name in self._key():
            path = (*path, name)
            self._note(path, here)
        self._skip_blank(newlines=False)
        self._at += 1  # the equals sign
        self._value(path)

    def _key(self) -> list[str]:
        names = []
        while True:
            self._skip_blank(newlines=False)
            char = self._text[self._at : self._at + 1]
            if char in ('"', "'"):
                names.append(self._quoted_key(char))
            else:
                match = _BARE.match(self._text, self._at)
                if match is None:  # not TOML; leave without a loop
                    self._at = len(self._text)
                    return names or [""]
                names.append(match.group())
                self._at = match.end()
            self._skip_blank(newlines=False)
            if not self._text.startswith(".", self._at):
                return names
            self._at += 1

    def _quoted_key(self, quote: str) -> str:
        start = self._at
        self._string()
        raw = self._text[start + 1 : self._at - 1]
        if quote == '"' and "\\" in raw:
            try:
                return str(json.loads(f'"{raw}"'))
            except ValueError:  # an escape that JSON lacks; the line is then that of the table
                return raw
        return raw

    # --- values ------------------------------------------------------------------------------------------------------
    def _value(self, path: Path) -> None:
        self._skip_blank(newlines=False)
        if self._at >= len(self._text):
            return
        char = self._text[self._at]
        self._lines.setdefault(path, self._line_of(self._at))
        if char in "\"'":
            self._string()
        elif char == "[":
            self._array(path)
        elif char == "{":
            self._inline_table(path)
        else:
            while self._at < len(self._text) and self._text[self._at] not in _SCALAR_END:
                self._at += 1

    def _array(self, path: Path) -> None:
        self._at += 1
        index = 0
        while self._skip_blank(newlines=True) and self._text[self._at] != "]":
            self._value((*path, index))
            index += 1
            if self._skip_blank(newlines=True) and self._text[self._at] == ",":
                self._at += 1
        self._at += 1

    def _inline_table(self, path: Path) -> None:
        self._at += 1
        while self._skip_blank(newlines=True) and self._text[self._at] != "}":
            self._pair(path)
            if self._skip_blank(newlines=True) and self._text[self._at] == ",":
                self._at += 1
        self._at += 1

    def _string(self) -> None:
        quote = self._text[self._at]
        fence = quote * 3 if self._text.startswith(quote * 3, self._at) else quote
        self._at += len(fence)
        while self._at < len(self._text):
            if quote == '"' and self._text[self._at] == "\\":
                self._at += 2
            elif self._text.startswith(fence, self._at):
                self._at += len(fence)
                # up to two more quotes may stand right before the closing three
                while len(fence) == 3 and self._text.startswith(quote, self._at):
                    self._at += 1
                return
            else:
                self._at += 1

    # --- characters --------------------------------------------------------------------------------------------------
    def _skip_blank(self, *, newlines: bool) -> bool:
        """Skip spaces, and with ``newlines`` line ends and comments too; False at the end of the text."""
        text = self._text
        while self._at < len(text):
            char = text[self._at]
            if char in " \t\r" or (newlines and char == "\n"):
                self._at += 1
            elif newlines and char == "#":
                end = text.find("\n", self._at)
                self._at = len(text) if end < 0 else end
            else:
                return True
        return False

    def _note(self, path: Path, at: int) -> None:
        self._lines.setdefault(path, self._line_of(at))

    def _line_of(self, at: int) -> int:
        low, high = 0, len(self._newlines)
        while low < high:
            middle = (low + high) // 2
            if self._newlines[middle] < at:
                low = middle + 1
            else:
                high = middle
        return low + 1
