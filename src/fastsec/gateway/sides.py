"""Reading OSI addresses: the tables ``local`` and ``remote`` below ``[route.near]`` and ``[route.a_profile]``."""

from __future__ import annotations

from fastsec import limits
from fastsec.gateway import tables
from fastsec.gateway.model import OsiAddress
from fastsec.gateway.tables import Table


def read(below: Table, title: str) -> tuple[OsiAddress, OsiAddress]:
    """``local`` and ``remote`` of the table ``below``, which messages call ``title``."""
    return _side(below, "local", title), _side(below, "remote", title)


def _side(below: Table, side: str, title: str) -> OsiAddress:
    part = below.table(side, f"[{title}.{side}]")
    if part is None:
        return OsiAddress()
    found = OsiAddress(
        tsel=part.get("tsel", tables.octets(0, limits.OUR_TSEL_MAX), None),
        ssel=part.get("ssel", tables.octets(0, limits.OUR_SELECTOR_MAX), None),
        psel=part.get("psel", tables.octets(0, limits.OUR_SELECTOR_MAX), None),
        ap_title=part.get("ap_title", tables.oid, None),
        ae_qualifier=part.get("ae_qualifier", tables.integer(0, 2**31 - 1), None),
    )
    part.done()
    return found
