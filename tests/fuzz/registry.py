"""What targets there are, where each stands, and its share of the time of ``make fuzz``."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Final

from fuzz.kit import Target

CORPUS: Final = Path(__file__).resolve().parent / "corpus"

# name: (module below fuzz.targets, weight). Half of the time goes to what makes 100,000 executions a second, a fifth to
# the receive path. Modules are imported when one of their targets runs, not before.
TARGETS: Final[dict[str, tuple[str, int]]] = {
    "handshake_req": ("secpdu", 18),
    "handshake_rsp": ("secpdu", 18),
    "abort": ("secpdu", 18),
    "release": ("secpdu", 18),
    "secpdu_reference": ("secpdu", 8),
    "components": ("secpdu", 10),
    "appl_data": ("secpdu", 80),
    "transfer": ("secpdu", 18),
    "time": ("secpdu", 18),
    "reader": ("secpdu", 8),
    "oid": ("secpdu", 100),
    "open_raw": ("guard", 10),
    "open_stream": ("guard", 8),
    "open_resealed": ("guard", 10),
    "certificate": ("pki", 10),
    "der": ("pki", 100),
    "crl": ("pki", 10),
    "attribute": ("roles", 6),
    "user_roles": ("roles", 20),
    "role_token": ("roles", 8),
    "ocsp_response": ("revocation", 10),
    "ocsp_answer": ("revocation", 6),
    "points": ("revocation", 20),
    "http_answer": ("revocation", 8),
    "public_key": ("pki", 6),
    "signature": ("pki", 5),
    "dh_value": ("pki", 5),
    "path": ("pki", 16),
    "cotp": ("osi", 110),
    "session": ("osi", 110),
    "presentation": ("osi", 18),
    "acse": ("osi", 18),
    "channel": ("osi", 8),
    "osi_initiator": ("osi", 10),
    "osi_responder": ("osi", 10),
    "a_profile_value": ("aprofile", 20),
    "a_profile_fields": ("aprofile", 10),
    "a_profile_verdict": ("aprofile", 4),
    "server_open": ("live", 45),
    "client_open": ("live", 45),
    "server_handshake": ("live", 45),
    "client_handshake": ("live", 45),
    "plain": ("live", 20),
    "config": ("config", 8),
    "osi_name": ("config", 8),
    "mms": ("config", 6),
    "mms_request": ("access", 30),
    "client_hello": ("tls", 10),
    "inspect": ("files", 10),
    "replay": ("files", 8),
}

# Modules of targets whose Python code is worth tracing; the others are almost all compiled.
TRACED: Final = frozenset(
    ("secpdu", "pki", "roles", "revocation", "osi", "live", "config", "tls", "files", "access", "aprofile")
)

# How many mutated inputs ``make test`` tries per target, by module: a second or so.
QUICK: Final = {
    "secpdu": 2500,
    "guard": 1200,
    "pki": 800,
    "roles": 500,
    "revocation": 400,
    "osi": 1200,
    "aprofile": 200,
    "live": 120,
    "config": 500,
    "tls": 300,
    "files": 300,
    "access": 800,
}


def load(name: str) -> Target:
    """The target of this name."""
    module = import_module(f"fuzz.targets.{TARGETS[name][0]}")
    target: Target = module.load()[name]
    return target


def corpus(name: str) -> list[Path]:
    """The committed inputs of a target, in order."""
    return sorted(path for path in (CORPUS / name).glob("*") if path.is_file())
