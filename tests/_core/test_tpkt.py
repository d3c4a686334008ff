"""TPKT and DT octets, RFC 1006 and X.224."""

from __future__ import annotations

import pytest

from fastsec._core.tpkt import dt, tpkt
from fastsec.errors import LocalError


def test_tpkt() -> None:
    assert tpkt(bytes.fromhex("06e00000000100")).hex() == "0300000b06e00000000100"
    assert tpkt(b"a" * 65531)[:4].hex() == "0300ffff"
    for size in (0, 2, 65532):
        with pytest.raises(LocalError):
            tpkt(bytes(size))


def test_dt_in_one_piece() -> None:
    assert dt(b"abc", 128).hex() == "0300000a" + "02f080" + "616263"
    assert dt(b"", 128).hex() == "0300000702f080"


def test_dt_segments() -> None:
    data = bytes(range(250))
    frames = dt(data, 128)
    first = bytes.fromhex("0300008402f000") + data[:125]
    last = bytes.fromhex("0300008402f080") + data[125:]
    assert frames == first + last
    assert dt(data[:126], 128) == first + bytes.fromhex("0300000802f080") + data[125:126]


@pytest.mark.parametrize("size", [0, 127, 65532])
def test_tpdu_size_has_bounds(size: int) -> None:
    with pytest.raises(LocalError):
        dt(b"a", size)
