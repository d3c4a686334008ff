"""Naming a key in a token (RFC 7512), its PIN, and the octets that go to a token and come from it.

Nothing here calls a token: that is ``fastsec.aio.pkcs11``.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fastsec.errors import ConfigError

SCHEME: Final = "pkcs11:"
URI_MAX: Final = 4096
PIN_MAX: Final = 256
SHA256_DIGEST_INFO: Final = bytes.fromhex("3031300d060960864801650304020105000420")  # RFC 8017, 9.2

_EXAMPLE: Final = 'write e.g. "pkcs11:token=plant;object=e2e?module-path=/usr/lib/softhsm/libsofthsm2.so"'
_KNOWN: Final = ("token", "serial", "manufacturer", "model", "slot-id", "object", "id", "type")
_KNOWN_QUERY: Final = ("module-path", "pin-source")
_REFUSED: Final = {
    "pin-value": "a PIN does not belong into a URI, which is logged and shown; use pin-source=file:/path",
    "module-name": "write module-path with the full path of the module",
}
# RFC 7512 section 2.3: what may stand unescaped in the path, and in the query besides.
_PATH: Final = re.compile(r"(?:[A-Za-z0-9\-._~:\[\]@!$'()*+,=&]|%[0-9A-Fa-f]{2})*\Z")
_QUERY: Final = re.compile(r"(?:[A-Za-z0-9\-._~:\[\]@!$'()*+,=/?|]|%[0-9A-Fa-f]{2})*\Z")
_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class PinSource:
    """Where the PIN is read, each time the token asks for it; the PIN itself is not kept.

    Attributes:
        file: its first line is the PIN; or None.
        variable: environment variable that is the PIN; or None.
    """

    file: Path | None = None
    variable: str | None = None

    def read(self) -> bytearray:
        """The PIN, to be wiped by the caller; ConfigError without it."""
        if self.file is not None:
            pin = _first_line(self.file)
            where = str(self.file)
        else:
            name = self.variable or ""
            value = os.environb.get(name.encode())
            if value is None:
                raise ConfigError(f"the environment variable {name} for the PIN is not set")
            pin, where = bytearray(value), f"the environment variable {name}"
        if 0 < len(pin) <= PIN_MAX:
            return pin
        wipe(pin)
        raise ConfigError(f"{where} holds no PIN of 1 to {PIN_MAX} octets")

    def doubt(self) -> str:
        """What is wrong with the rights of the file, empty if nothing."""
        if self.file is None:
            return ""
        try:
            mode = self.file.stat().st_mode
        except OSError:
            return ""
        if mode & (stat.S_IRGRP | stat.S_IROTH | stat.S_IWGRP | stat.S_IWOTH):
            return f"{self.file} may be read or written by other users; chmod 600 {self.file}"
        return ""


def _first_line(path: Path) -> bytearray:
    octets = bytearray(PIN_MAX + 2)
    try:
        with open(path, "rb", buffering=0) as file:
            count = file.readinto(octets) or 0
    except OSError as error:
        raise ConfigError(f"{path}: the PIN cannot be read: {error.strerror}") from None
    end = octets.find(b"\n", 0, count)
    end = count if end < 0 else end
    if end and octets[end - 1] == 0x0D:
        end -= 1
    pin = bytearray(memoryview(octets)[:end])
    wipe(octets)
    return pin


def wipe(octets: bytearray) -> None:
    """Overwrite with zeros."""
    octets[:] = bytes(len(octets))


@dataclass(frozen=True, slots=True)
class Pkcs11Uri:
    """A key in a token; what is None or empty does not matter for the choice.

    Attributes:
        module: path of the PKCS#11 module, a shared library.
        token, serial, manufacturer, model, slot: which token.
        label, id: which key in it (CKA_LABEL, CKA_ID).
        pin: where the PIN is, or None.
        text: the URI as written.
    """

    module: str
    token: str | None = None
    serial: str | None = None
    manufacturer: str | None = None
    model: str | None = None
    slot: int | None = None
    label: str | None = None
    id: bytes | None = None
    pin: PinSource | None = None
    text: str = field(default="", compare=False)

    @classmethod
    def parse(cls, text: str) -> Pkcs11Uri:
        """Read a URI of RFC 7512; ConfigError says what is wrong with it.

        Known are token, serial, manufacturer, model, slot-id, object, id, type=private, module-path and
        pin-source=file:. Any other attribute is refused: a choice that is not understood would select another key.
        """
        if not text.startswith(SCHEME):
            raise ConfigError(f"not a PKCS#11 URI; {_EXAMPLE}")
        if len(text) > URI_MAX:
            raise ConfigError(f"a PKCS#11 URI of more than {URI_MAX} characters")
        path, mark, query = text[len(SCHEME) :].partition("?")
        given = _attributes(path, ";", _PATH, _KNOWN)
        asked = _attributes(query, "&", _QUERY, _KNOWN_QUERY) if mark else {}
        if "module-path" not in asked:
            raise ConfigError(f"the PKCS#11 URI names no module; {_EXAMPLE}")
        module = _text("module-path", asked["module-path"])
        if not module.startswith("/"):
            raise ConfigError("module-path: write the full path of the module, from / on")
        kind = given.get("type", b"private")
        if kind != b"private":
            raise ConfigError("type: what is wanted is the private key; leave type out, or write type=private")
        slot = given.get("slot-id")
        if slot is not None and (not slot.isdigit() or len(slot) > 20):
            raise ConfigError("slot-id: write a number")
        identifier = given.get("id")
        if identifier == b"":
            raise ConfigError("id: is empty; write its octets as %01%02, or leave it out")
        source = asked.get("pin-source")

        def maybe(name: str) -> str | None:
            return _text(name, given[name]) if name in given else None

        return cls(
            module=module,
            token=maybe("token"),
            serial=maybe("serial"),
            manufacturer=maybe("manufacturer"),
            model=maybe("model"),
            slot=int(slot) if slot is not None else None,
            label=maybe("object"),
            id=identifier,
            pin=_pin_source(_text("pin-source", source)) if source is not None else None,
            text=text,
        )

    def __str__(self) -> str:
        return self.text


def _attributes(text: str, separator: str, allowed: re.Pattern[str], known: tuple[str, ...]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for part in text.split(separator) if text else ():
        name, equals, value = part.partition("=")
        if name in _REFUSED:
            raise ConfigError(f"{name}: {_REFUSED[name]}")
        if not equals or name not in known:
            # the name may be anything, also a secret in the wrong place: it is not repeated unless it is a plain word
            shown = f'"{name}"' if re.fullmatch(r"[a-z][a-z-]{0,30}", name) and equals else "something else"
            raise ConfigError(f"the PKCS#11 URI has {shown} where only these are known: {', '.join(known)}")
        if name in found:
            raise ConfigError(f"the PKCS#11 URI has {name} twice")
        if not allowed.match(value):
            raise ConfigError(f"{name}: has a character that must be written as %XX in a PKCS#11 URI")
        found[name] = _ESCAPE.sub(lambda match: bytes((int(match[1], 16),)), value.encode("ascii"))
    return found


def _text(name: str, octets: bytes) -> str:
    try:
        value = octets.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{name}: is not UTF-8") from None
    if not value or "\0" in value:
        raise ConfigError(f"{name}: is empty or holds a zero octet")
    return value


def _pin_source(value: str) -> PinSource:
    path = value.removeprefix("file:")
    if path == value and not value.startswith("/"):
        raise ConfigError("pin-source: write pin-source=file:/path/of/the/file")
    if path.startswith("///"):
        path = path[2:]
    if not path.startswith("/") or path.startswith("//"):
        raise ConfigError("pin-source: write the full path of the file, from / on")
    return PinSource(file=Path(path))


def der_signature(raw: bytes, size: int = 32) -> bytes:
    """SEQUENCE { INTEGER r, INTEGER s } from r || s, ``size`` octets each; ConfigError for another length."""
    if len(raw) != 2 * size:
        raise ConfigError(f"the token gave an ECDSA signature of {len(raw)} octets instead of {2 * size}")
    body = _integer(raw[:size]) + _integer(raw[size:])
    return b"\x30" + bytes((len(body),)) + body


def _integer(octets: bytes) -> bytes:
    value = octets.lstrip(b"\0") or b"\0"
    if value[0] & 0x80:
        value = b"\0" + value
    return b"\x02" + bytes((len(value),)) + value
