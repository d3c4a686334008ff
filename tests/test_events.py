"""The event catalogue: complete, well-formed, and addressable both ways."""

import re

import pytest

from fastsec import events

GROUP_SIZES = {1: 22, 2: 21, 3: 10, 4: 27, 5: 25, 6: 16, 7: 10, 10: 10, 11: 11, 12: 10, 13: 10, 15: 16, 18: 6}


def test_domain_4_is_complete() -> None:
    sizes: dict[int, int] = {}
    for domain, group, number in events.CATALOGUE:
        assert domain == events.DOMAIN_E2E
        sizes[group] = max(sizes.get(group, 0), number)
    assert sizes == GROUP_SIZES
    assert len(events.CATALOGUE) == sum(GROUP_SIZES.values())


def test_every_row_keeps_the_field_rules_of_62351_14() -> None:
    for entry in events.CATALOGUE.values():
        assert re.fullmatch(r"IEC62351-4:[1-9]\d{0,4}\.[1-9]\d{0,4}", entry.id)
        assert re.fullmatch(r"[A-Z0-9_]{1,64}", entry.mnemonic)
        assert entry.severity in {"alarm", "error"}  # the domain has no warning and no notice
        assert 1 <= len(entry.text) <= 128
        assert events.by_mnemonic(entry.mnemonic) is entry


@pytest.mark.parametrize(
    ("group", "number", "mnemonic", "severity"),
    [
        (1, 11, "REPLAY_DETEC_ASS_REQ", "alarm"),
        (2, 19, "SINGLE_AE_ALGO_ASS_ACC", "error"),
        (4, 27, "ENCR_IS_REQUIRED_SEC_REJ_DIA", "error"),
        (6, 16, "UNEXP_CHG_KEYS_DTSEC_ABT_DIA", "error"),
        (10, 5, "CLEAR_BAD_ICV", "alarm"),
        (11, 9, "AES_IV_REQ", "error"),
        (12, 10, "REPLAY_DETECT_REL_REQ", "alarm"),
        (15, 16, "AUTH_MECH_NOT_USED_ABT", "error"),
    ],
)
def test_rows_taken_from_the_published_extract(group: int, number: int, mnemonic: str, severity: str) -> None:
    entry = events.CATALOGUE["IEC62351-4", group, number]
    assert (entry.mnemonic, entry.severity) == (mnemonic, severity)


def test_facts_are_cut_to_the_sizes_of_a_record() -> None:
    happened = events.event("IEC62351-4", 11, 5, peer="p" * 100, detail="d" * 500)
    assert len(happened.peer) == 64
    assert happened.params == (("detail", "d" * 128),)
    assert "IEC62351-4:11.5 ENCR_BAD_ICV alarm" in str(happened)


def test_unknown_event_is_an_error() -> None:
    with pytest.raises(KeyError):
        events.event("IEC62351-4", 8, 1)
    with pytest.raises(KeyError):
        events.named("NO_SUCH_EVENT")
