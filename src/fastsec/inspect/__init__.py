"""``fastsec inspect``: what SecPDUs a capture, a hex dump or a DER file holds, and what our checks would say of them.

Reads only; opens nothing but the file it is given. See docs/inspect.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

LUA: Final = Path(__file__).with_name("fastsec.lua")  # the dissector for Wireshark and tshark
