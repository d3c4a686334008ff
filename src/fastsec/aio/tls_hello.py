"""A look at a ClientHello before OpenSSL judges it: for events only, it decides nothing.

Reads the first record, no more than 16 KiB of it, and gives None for whatever it does not understand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

RECORD_MAX: Final = 5 + 16 * 1024
LIST_MAX: Final = 512  # entries of one list that are looked at

_SIGNATURE_ALGORITHMS: Final = 13
_TRUSTED_CA_KEYS: Final = 3
_ENCRYPT_THEN_MAC: Final = 22
_SESSION_TICKET: Final = 35
_PRE_SHARED_KEY: Final = 41
_EARLY_DATA: Final = 42
_SUPPORTED_VERSIONS: Final = 43
_PSK_MODES: Final = 45
_CERTIFICATE_AUTHORITIES: Final = 47
_RENEGOTIATION_INFO: Final = 0xFF01
_RENEGOTIATION_SCSV: Final = 0x00FF


@dataclass(frozen=True, slots=True)
class Hello:
    """What a ClientHello says.

    Attributes:
        versions: protocol numbers offered (0x0303 is TLS 1.2), GREASE left out.
        suites: their numbers, in the client's order.
        session: octets of the session identifier.
        ticket: octets of the session ticket, None where the extension is missing.
        psk: TLS 1.3: a session to resume is offered.
        psk_modes: TLS 1.3: how; 1 is with (EC)DHE.
        signatures: signature_algorithms; None where the extension is missing.
        secure_renegotiation: RFC 5746 is signalled.
        encrypt_then_mac: RFC 7366 is offered.
        early_data: TLS 1.3: data come with the ClientHello.
        trusted: trusted_ca_keys (RFC 6066): (type, value).
        authorities: certificate_authorities (TLS 1.3): DER names.
    """

    versions: tuple[int, ...]
    suites: tuple[int, ...] = ()
    session: int = 0
    ticket: int | None = None
    psk: bool = False
    psk_modes: tuple[int, ...] = ()
    signatures: tuple[int, ...] | None = None
    secure_renegotiation: bool = False
    encrypt_then_mac: bool = False
    early_data: bool = False
    trusted: tuple[tuple[int, bytes], ...] = ()
    authorities: tuple[bytes, ...] = ()

    @property
    def highest(self) -> int:
        """The highest protocol number."""
        return max(self.versions)


class _Cut(Exception):
    """Something is longer than what is there."""


class _Octets:
    """Reads numbers and vectors; ``_Cut`` at the end."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def more(self) -> bool:
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            raise _Cut
        found, self._at = self._data[self._at : end], end
        return found

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> _Octets:
        return _Octets(self.take(self.number(size)))

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._at)

    def numbers(self, size: int) -> tuple[int, ...]:
        found = []
        while self.more():
            found.append(self.number(size))
            if len(found) > LIST_MAX:
                raise _Cut
        return tuple(found)


def read_hello(data: bytes) -> Hello | None:
    """The ClientHello at the beginning of ``data``, or None if there is none that can be read."""
    try:
        if len(data) >= 5 and data[0] & 0x80 and data[2] == 1:  # the form of SSL 2.0
            return Hello((int.from_bytes(data[3:5], "big"),))
        outer = _Octets(data[:RECORD_MAX])
        if outer.number(1) != 22 or outer.number(1) != 3:
            return None
        outer.take(1)
        record = outer.vector(2)
        if record.number(1) != 1:
            return None
        return _client_hello(record.vector(3))
    except _Cut:
        return None


def _client_hello(body: _Octets) -> Hello:
    legacy = body.number(2)
    body.take(32)
    session = len(body.vector(1).rest())
    suites = body.vector(2).numbers(2)
    body.vector(1)
    found: dict[int, _Octets] = {}
    if body.more():
        extensions = body.vector(2)
        while extensions.more():
            kind = extensions.number(2)
            found[kind] = extensions.vector(2)
            if len(found) > LIST_MAX:
                raise _Cut
    versions: tuple[int, ...] = (legacy,)
    if _SUPPORTED_VERSIONS in found:
        offered = found[_SUPPORTED_VERSIONS].vector(1).numbers(2)
        versions = tuple(number for number in offered if number >> 8 == 3) or versions
    ticket = found.get(_SESSION_TICKET)
    modes = found.get(_PSK_MODES)
    signatures = found.get(_SIGNATURE_ALGORITHMS)
    return Hello(
        versions,
        suites,
        session,
        len(ticket.rest()) if ticket is not None else None,
        _PRE_SHARED_KEY in found,
        modes.vector(1).numbers(1) if modes is not None else (),
        signatures.vector(2).numbers(2) if signatures is not None else None,
        _RENEGOTIATION_INFO in found or _RENEGOTIATION_SCSV in suites,
        _ENCRYPT_THEN_MAC in found,
        _EARLY_DATA in found,
        _trusted(found[_TRUSTED_CA_KEYS].vector(2)) if _TRUSTED_CA_KEYS in found else (),
        _authorities(found[_CERTIFICATE_AUTHORITIES].vector(2)) if _CERTIFICATE_AUTHORITIES in found else (),
    )


def _trusted(entries: _Octets) -> tuple[tuple[int, bytes], ...]:
    """TrustedAuthority of RFC 6066: pre_agreed 0, key_sha1_hash 1, x509_name 2, cert_sha1_hash 3."""
    found = []
    while entries.more():
        kind = entries.number(1)
        found.append((kind, b"" if kind == 0 else entries.vector(2).rest() if kind == 2 else entries.take(20)))
        if len(found) > LIST_MAX:
            raise _Cut
    return tuple(found)


def _authorities(entries: _Octets) -> tuple[bytes, ...]:
    found = []
    while entries.more():
        found.append(entries.vector(2).rest())
        if len(found) > LIST_MAX:
            raise _Cut
    return tuple(found)
