"""The demo's points and how a value is searched for in recorded octets."""

from __future__ import annotations

import struct

import pytest

from fastsec.demo.points import BY_NAME, POINTS, float32, value_octets


def test_paths_and_constraints() -> None:
    assert BY_NAME["AnIn1"].path == "GGIO1.AnIn1.mag.f"
    assert BY_NAME["AnIn1"].constraint == "MX"
    assert {point.constraint for point in POINTS if point.writable} == {"SP"}


@pytest.mark.parametrize(
    ("value", "octets"),
    [
        (0, "850100"),
        (127, "85017f"),
        (128, "85020080"),
        (-1, "8501ff"),
        (-128, "850180"),
        (-129, "8502ff7f"),
        (2_147_483_647, "85047fffffff"),
        (-2_147_483_648, "850480000000"),
        (1.5, "8705083fc00000"),
        (True, ""),
    ],
)
def test_value_octets_are_mms_data(value: float | bool | int, octets: str) -> None:
    assert value_octets(value).hex() == octets


def test_float32_is_what_four_octets_hold() -> None:
    assert float32(0.1) != 0.1
    assert struct.unpack(">f", struct.pack(">f", float32(0.1)))[0] == float32(0.1)
