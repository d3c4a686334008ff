"""Who a peer is in the OSI environment: AP-title and AE-qualifier, and the OBJECT IDENTIFIER made of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastsec._core.cursor import encode_oid
from fastsec.errors import ConfigError, LocalError


@dataclass(frozen=True, slots=True)
class OsiName:
    """An application entity (X.650 AP-title and AE-qualifier).

    Attributes:
        ap_title: dotted OBJECT IDENTIFIER (AP-title form 2), at least two arcs.
        ae_qualifier: INTEGER 0 .. 2**63 - 1 (AE-qualifier form 2).
        oid: the AP-title's arcs followed by the AE-qualifier (62351-4 Annex G), dotted.

    Raises:
        ConfigError: the values do not make an OBJECT IDENTIFIER of at most 64 octets.
    """

    ap_title: str
    ae_qualifier: int
    oid: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "oid", f"{self.ap_title}.{self.ae_qualifier}")
        try:
            encode_oid(self.ap_title)
            encode_oid(self.oid)
        except LocalError as error:
            raise ConfigError(f"not an AP-title and AE-qualifier: {self}") from error

    @classmethod
    def parse(cls, text: str) -> OsiName:
        """From ``AP-TITLE:AE-QUALIFIER``, e.g. ``1.1.1.999.2:12``. ConfigError if it is not of this form."""
        ap_title, colon, qualifier = text.partition(":")
        if not colon or not qualifier.isascii() or not qualifier.isdigit() or len(qualifier) > 19:
            raise ConfigError(f"{text!r} is not AP-TITLE:AE-QUALIFIER, e.g. 1.1.1.999.2:12")
        return cls(ap_title, int(qualifier))

    @classmethod
    def of(cls, ap_title: str | None, ae_qualifier: int | None) -> OsiName | None:
        """From the address fields of a peer's PDU; None if one is absent or unusable, so that nothing equals it."""
        if ap_title is None or ae_qualifier is None or ae_qualifier < 0:
            return None
        try:
            return cls(ap_title, ae_qualifier)
        except ConfigError:
            return None

    @classmethod
    def from_oid(cls, oid: str) -> OsiName:
        """From the OBJECT IDENTIFIER of a certificate: all arcs but the last are the AP-title (62351-4 Annex G)."""
        ap_title, dot, qualifier = oid.rpartition(".")
        if not dot or not qualifier.isascii() or not qualifier.isdigit() or len(qualifier) > 19:
            raise ConfigError(f"{oid!r} is not an AP-title followed by an AE-qualifier")
        return cls(ap_title, int(qualifier))

    def __str__(self) -> str:
        return f"{self.ap_title}:{self.ae_qualifier}"
