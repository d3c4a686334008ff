"""Reading typed values out of a TOML table; every complaint has its line and a remedy, and reading goes on after it."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from fastsec.gateway.positions import Path as Where
from fastsec.gateway.positions import Positions

T = TypeVar("T")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_UNITS: Final = {"ms": 0.001, "s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d)")
_LABEL: Final = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST: Final = re.compile(rf"(?=.{{1,254}}$){_LABEL}(\.{_LABEL})*\.?")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a configuration file.

    Attributes:
        line: from 1, or None where no line is to blame.
        message: what is wrong, and what to write instead.
    """

    line: int | None
    message: str

    def __str__(self) -> str:
        return self.message if self.line is None else f"line {self.line}: {self.message}"


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address.

    Attributes:
        host: IP address without brackets, or a host name.
        port: 1..65535.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """True if only this machine can reach a listener at this address."""
        try:
            return ipaddress.ip_address(self.host.split("%")[0]).is_loopback
        except ValueError:
            return self.host.lower().rstrip(".") == "localhost"

    @property
    def everywhere(self) -> bool:
        """True for 0.0.0.0 and [::]."""
        try:
            return ipaddress.ip_address(self.host).is_unspecified
        except ValueError:
            return False


class Wrong(ValueError):
    """A value cannot be used; the text says why and what to write."""


class Problems:
    """What was found wrong (``errors``) or doubtful (``warnings``) in one file."""

    def __init__(self, positions: Positions) -> None:
        self.positions = positions
        self._errors: dict[Problem, None] = {}  # in order, each once
        self._warnings: dict[Problem, None] = {}

    @property
    def errors(self) -> list[Problem]:
        """The file cannot be used because of these."""
        return list(self._errors)

    @property
    def warnings(self) -> list[Problem]:
        """What may not be meant so."""
        return list(self._warnings)

    def error(self, where: Where, message: str) -> None:
        """The file cannot be used as it is. An inherited value is read more than once, but complained about once."""
        self._errors[Problem(self.positions.line(where), message)] = None

    def warn(self, where: Where, message: str) -> None:
        """The file can be used, but it may not be what was meant."""
        self._warnings[Problem(self.positions.line(where), message)] = None


class Table:
    """One table of the file. Each getter marks its key as known; ``done`` complains about the others.

    Arguments:
        values: as ``tomllib`` returns them.
        where: path of the table.
        problems: where complaints go.
        title: how messages call the table, e.g. ``[trust]``.
        general: the table whose keys count where this one lacks them.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        where: Where,
        problems: Problems,
        title: str,
        general: Table | None = None,
    ) -> None:
        self.values: Mapping[str, Any] = values if general is None else {**general.values, **values}
        self._inherited: dict[str, Where] = (
            {} if general is None else {key: general.where for key in general.values if key not in values}
        )
        self.where: Where = where
        self.problems = problems
        self.title = title
        self._known: list[str] = []

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def at(self, key: str) -> Where:
        """Path of ``key``."""
        return (*self._inherited.get(key, self.where), key)

    def error(self, key: str, message: str) -> None:
        """Complain about ``key``."""
        self.problems.error(self.at(key) if key else self.where, message)

    def warn(self, key: str, message: str) -> None:
        """Doubt ``key``."""
        self.problems.warn(self.at(key) if key else self.where, message)

    def get(self, key: str, read: Callable[[Any], T], default: T, *, required: str = "") -> T:
        """The value of ``key`` as ``read`` makes it.

        Arguments:
            read: raises ``Wrong`` for an unusable value.
            default: the result where the key is absent or its value unusable.
            required: not empty: the key must be there, and this is the example to show.
        """
        self._known.append(key)
        if key not in self.values:
            if required:
                self.problems.error(self.where, f"{self.title} lacks {key}; write for example {key} = {required}")
            return default
        try:
            return read(self.values[key])
        except Wrong as wrong:
            self.error(key, f"{key}: {wrong}")
            return default

    def each(self, key: str, read: Callable[[Any], T], *, required: str = "", maximum: int = 64) -> tuple[T, ...]:
        """A list whose elements ``read`` makes; unusable elements are complained about and left out."""
        values: list[Any] = self.get(key, _list, [], required=required)
        if len(values) > maximum:
            self.error(key, f"{key}: {len(values)} entries; write at most {maximum}")
            values = values[:maximum]
        result: list[T] = []
        for index, value in enumerate(values):
            try:
                made = read(value)
            except Wrong as wrong:
                self.problems.error((*self.at(key), index), f"{key}: {wrong}")
                continue
            if made in result:
                self.problems.error((*self.at(key), index), f"{key}: {value!r} stands here twice; remove one")
            else:
                result.append(made)
        return tuple(result)

    def table(self, key: str, title: str) -> Table | None:
        """The table below ``key``, or None if it is absent or no table."""
        value = self.get(key, _mapping, None)
        return None if value is None else Table(value, self.at(key), self.problems, title)

    def done(self) -> None:
        """Complain about every key that no getter asked for."""
        for key in self.values:
            if key not in self._known:
                near = difflib.get_close_matches(key, self._known, 1)
                remedy = f"did you mean {near[0]}?" if near else f"known here: {', '.join(sorted(self._known))}"
                self.error(key, f"{self.title} has no key {key!r}; {remedy}")


# --- readers: a TOML value in, a checked value out --------------------------------------------------------------------
def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise Wrong(f"write a list, e.g. [{_shown(value)}]")
    return value


def _mapping(value: Any) -> Mapping[str, Any] | None:
    if not isinstance(value, Mapping):
        raise Wrong("write a table here")
    return value


def _shown(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)


def string(value: Any) -> str:
    """A string of at least one character, without control characters."""
    if not isinstance(value, str):
        raise Wrong(f'write a string in quotes, "{value}"')
    if not value or not value.isprintable():
        raise Wrong("write at least one character, and none that cannot be printed")
    return value


def secret(value: Any) -> bytes:
    """A string that no message repeats."""
    if not isinstance(value, str) or not value:
        raise Wrong("write a string in quotes, of at least one character")
    return value.encode()


def boolean(value: Any) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise Wrong(f"write true or false, without quotes (not {_shown(value)})")
    return value


def integer(low: int, high: int) -> Callable[[Any], int]:
    """A reader of whole numbers from ``low`` to ``high``."""

    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise Wrong(f"write a whole number from {low} to {high} (not {_shown(value)})")
        return value

    return read


def choice(*words: str) -> Callable[[Any], str]:
    """A reader of one of these words."""

    def read(value: Any) -> str:
        if value not in words:
            near = difflib.get_close_matches(str(value), words, 1)
            hint = f' (did you mean "{near[0]}"?)' if near and isinstance(value, str) else ""
            raise Wrong(f"write one of {', '.join(_shown(word) for word in words)}, not {_shown(value)}{hint}")
        return str(value)

    return read


def duration(low: float, high: float) -> Callable[[Any], float]:
    """A reader of durations such as "90s", "15min", "1h" or a number of seconds; ``low`` and ``high`` in seconds."""

    def read(value: Any) -> float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            seconds = float(value)
        else:
            match = _DURATION.fullmatch(value) if isinstance(value, str) and len(value) < 32 else None
            if match is None:
                raise Wrong(f'write a duration such as "90s", "15min" or "1h" (not {_shown(value)})')
            seconds = float(match[1]) * _UNITS[match[2]]
        if not low <= seconds <= high:
            raise Wrong(f"write a duration from {in_words(low)} to {in_words(high)} (not {_shown(value)})")
        return seconds

    return read


def in_words(seconds: float) -> str:
    """A duration for people: the largest unit that leaves no fraction, e.g. ``15 min``."""
    if seconds != int(seconds):
        return f"{seconds:g} s"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{int(seconds) // size} {unit}"
    return f"{int(seconds)} s"


def address(value: Any) -> Address:
    """A TCP address: "host:port", IPv6 in brackets."""
    if not isinstance(value, str):
        raise Wrong(f'write a TCP address such as "127.0.0.1:102" (not {_shown(value)})')
    host, colon, port = value.rpartition(":")
    if not colon:
        raise Wrong(f'"{value}" lacks a port; write for example "{value}:102"')
    if not port.isascii() or not port.isdigit() or len(port) > 5 or not 1 <= int(port) <= 65535:
        raise Wrong(f'"{port}" is no TCP port; write a number from 1 to 65535')
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise Wrong(f'"{host}" is no IPv6 address') from None
    elif ":" in host:
        raise Wrong(f'write IPv6 addresses in brackets: "[{host}]:{port}"')
    elif host.replace(".", "").isdigit():
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            raise Wrong(f'"{host}" is no IPv4 address; write four numbers from 0 to 255') from None
    elif not _HOST.fullmatch(host):
        raise Wrong(f'"{host}" is neither an IP address nor a host name; write for example "127.0.0.1:{port}"')
    return Address(host, int(port))


def network(value: Any) -> Network:
    """A range of IP addresses in CIDR form."""
    if not isinstance(value, str):
        raise Wrong(f'write a range such as "10.1.0.0/16" (not {_shown(value)})')
    try:
        return ipaddress.ip_network(value)
    except ValueError:
        pass
    try:
        near = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise Wrong(f'"{value}" is no address range; write for example "10.1.0.0/16", or one address') from None
    raise Wrong(f'"{value}" has bits set beyond its length; write "{near}"')


def octets(low: int, high: int) -> Callable[[Any], bytes]:
    """A reader of octets written as hexadecimal digits, e.g. "00 01"."""

    def read(value: Any) -> bytes:
        try:
            result = bytes.fromhex(value) if isinstance(value, str) else None
        except ValueError:
            result = None
        if result is None or not low <= len(result) <= high:
            raise Wrong(f'write {low} to {high} octets as hexadecimal digits, e.g. "00 01" (not {_shown(value)})')
        return result

    return read


def oid(value: Any) -> str:
    """An object identifier in dotted form."""
    parts = value.split(".") if isinstance(value, str) and len(value) <= 256 else []
    plain = all(part.isascii() and part.isdigit() and (part == "0" or part[0] != "0") for part in parts)
    if len(parts) < 2 or not plain or len(parts[0]) > 1 or parts[0] > "2":
        raise Wrong(f'write an object identifier with dots, e.g. "1.1.1.999.2" (not {_shown(value)})')
    if parts[0] in "01" and (len(parts[1]) > 2 or int(parts[1]) > 39):
        raise Wrong(f'in "{value}" the second number must be at most 39')
    if any(len(part) > 18 for part in parts):
        raise Wrong(f'"{value}" has a number with more than 18 digits')
    return str(value)


def file_in(directory: Path) -> Callable[[Any], Path]:
    """A reader of file names; relative ones are meant from ``directory``. Whether the file exists is asked later."""

    def read(value: Any) -> Path:
        return directory / string(value)

    return read
