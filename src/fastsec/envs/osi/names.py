"""The name of an application entity."""

from __future__ import annotations

from typing import NamedTuple


class AeTitle(NamedTuple):
    """Name of an application entity (X.227).

    Attributes:
        ap_title: dotted OBJECT IDENTIFIER (form 2), or the TLV of another form as received, or None.
        ae_qualifier: INTEGER (form 2), or the TLV of another form as received, or None.
        ap_invocation_id, ae_invocation_id: invocation identifiers, or None.
    """

    ap_title: str | bytes | None = None
    ae_qualifier: int | bytes | None = None
    ap_invocation_id: int | None = None
    ae_invocation_id: int | None = None
