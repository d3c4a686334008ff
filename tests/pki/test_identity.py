"""OSI names and the OBJECT IDENTIFIER certificates name them by."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsec.errors import ConfigError
from fastsec.pki.identity import OsiName

ARCS = st.integers(0, 2**63 - 1)


def test_name_and_oid() -> None:
    name = OsiName.parse("1.1.1.999.2:12")
    assert (name.ap_title, name.ae_qualifier, name.oid, str(name)) == (
        "1.1.1.999.2",
        12,
        "1.1.1.999.2.12",
        "1.1.1.999.2:12",
    )
    assert OsiName.from_oid("1.1.1.999.2.12") == name == OsiName.of("1.1.1.999.2", 12)
    assert OsiName("1.1.1.999", 2) != name


@given(st.lists(ARCS, max_size=4), ARCS)
def test_round_trip(arcs: list[int], qualifier: int) -> None:
    try:
        name = OsiName(".".join(map(str, [1, 3, *arcs])), qualifier)
    except ConfigError:
        assert sum((arc.bit_length() + 6) // 7 or 1 for arc in [*arcs, qualifier]) > 60
        return
    assert OsiName.parse(str(name)) == name
    assert OsiName.from_oid(name.oid) == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1.1.1",
        "1.1.1:",
        ":12",
        "1:12",
        "1.1:-1",
        "1.1:+1",
        "1.1:1.2",
        "1.1: 1",
        "3.1:1",
        "1.40:1",
        "1..1:1",
        "a.b:1",
        "1.1:1:1",
        "1.1:" + "9" * 20,
        "1.1:9223372036854775808",
        "1.01:1",
        "1.1:²",
        " 1.1:1",
    ],
)
def test_not_a_name(text: str) -> None:
    with pytest.raises(ConfigError):
        OsiName.parse(text)


@pytest.mark.parametrize("oid", ["", "1", "1.1", "1.1.x", "1.1.²"])
def test_not_an_oid_of_a_name(oid: str) -> None:
    with pytest.raises(ConfigError):
        OsiName.from_oid(oid)


@pytest.mark.parametrize(
    ("ap_title", "qualifier"), [(None, 1), ("1.1.1", None), ("1.1.1", -1), ("x", 1), ("1.1.1", 2**63), ("", 0)]
)
def test_of_a_peers_fields(ap_title: str | None, qualifier: int | None) -> None:
    assert OsiName.of(ap_title, qualifier) is None
