def tpkt(tpdu: bytes) -> bytes:
    """One TPDU as a TPKT frame."""

def dt(tsdu: bytes, tpdu_size: int) -> bytes:
    """A TSDU as the frames of its DT TPDUs."""
