"""What targets there are, where each stands, and its share of the time of ``make fuzz``."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Final

from fuzz.kit import Target

CORPUS: Final = Path(__file__).resolve().parent / "corpus"

# name: (module below fuzz.targets, weight). Modules are imported when one of their targets runs, not before.
TARGETS: Final[dict[str, tuple[str, int]]] = {
    "handshake_req": ("secpdu", 5),
    "handshake_rsp": ("secpdu", 6),
    "abort": ("secpdu", 7),
    "release": ("secpdu", 8),
    "secpdu_reference": ("secpdu", 3),
    "components": ("secpdu", 4),
    "appl_data": ("secpdu", 9),
    "transfer": ("secpdu", 9),
    "time": ("secpdu", 8),
    "reader": ("secpdu", 4),
    "oid": ("secpdu", 9),
    "open_raw": ("guard", 5),
    "open_stream": ("guard", 3),
    "open_resealed": ("guard", 3),
    "certificate": ("pki", 3),
    "der": ("pki", 8),
    "crl": ("pki", 4),
    "attribute": ("pki", 3),
    "public_key": ("pki", 2),
    "signature": ("pki", 2),
    "dh_value": ("pki", 2),
    "path": ("pki", 4),
    "cotp": ("osi", 9),
    "session": ("osi", 9),
    "presentation": ("osi", 8),
    "acse": ("osi", 8),
    "channel": ("osi", 3),
    "osi_initiator": ("osi", 4),
    "osi_responder": ("osi", 4),
    "server_open": ("live", 7),
    "client_open": ("live", 7),
    "server_handshake": ("live", 7),
    "client_handshake": ("live", 7),
    "plain": ("live", 4),
    "config": ("config", 3),
    "osi_name": ("config", 4),
    "mms": ("config", 5),
    "inspect": ("files", 3),
    "replay": ("files", 4),
}

# Modules of targets whose Python code is worth tracing; the others are almost all compiled.
TRACED: Final = frozenset(("secpdu", "pki", "osi", "live", "config", "files"))

# How many mutated inputs ``make test`` tries per target, by module: a second or so.
QUICK: Final = {"secpdu": 2500, "guard": 1200, "pki": 800, "osi": 1200, "live": 120, "config": 500, "files": 300}


def load(name: str) -> Target:
    """The target of this name."""
    module = import_module(f"fuzz.targets.{TARGETS[name][0]}")
    target: Target = module.load()[name]
    return target


def corpus(name: str) -> list[Path]:
    """The committed inputs of a target, in order."""
    return sorted(path for path in (CORPUS / name).glob("*") if path.is_file())
