"""The event catalogue: complete, well-formed, and addressable both ways."""

import re

import pytest

from fastsec import events

GROUP_SIZES = {1: 22, 2: 21, 3: 10, 4: 27, 5: 25, 6: 16, 7: 10, 10: 10, 11: 11, 12: 10, 13: 10, 15: 16, 18: 6}


def sizes(domain: str) -> dict[int, list[int]]:
    groups: dict[int, list[int]] = {}
    for of, group, number in events.CATALOGUE:
        if of == domain:
            groups.setdefault(group, []).append(number)
    return groups


def test_domain_4_is_complete() -> None:
    assert sizes(events.DOMAIN_E2E) == {group: list(range(1, size + 1)) for group, size in GROUP_SIZES.items()}


@pytest.mark.parametrize(
    ("domain", "groups"),
    [
        ("IEC62351-3", [21, 14]),
        ("IEC62351-5", [14, 6]),
        ("IEC62351-8", [10, 5, 3, 22]),
        ("IEC62351-9", [6, 27, 16, 9, 8]),
        ("IEC62351-11", [2]),
        ("IEC62351-14", [9, 12, 1, 5, 4, 13, 6, 6, 5]),
    ],
)
def test_the_other_domains_are_complete(domain: str, groups: list[int]) -> None:
    assert sizes(domain) == {group: list(range(1, size + 1)) for group, size in enumerate(groups, 1)}


def test_domain_6_has_a_gap_and_a_number_of_ours() -> None:
    assert sizes("IEC62351-6") == {1: [1, 2, 3, 4, 5, 14, 15], 2: [1, 2, 3, 4, 5, 6]}
    assert "1.14 in the CDV" in events.CATALOGUE["IEC62351-6", 1, 15].note


def test_every_row_keeps_the_field_rules_of_62351_14() -> None:
    for entry in events.CATALOGUE.values():
        assert re.fullmatch(r"IEC62351-(3|4|5|6|8|9|11|14):[1-9]\d{0,4}\.[1-9]\d{0,4}", entry.id)
        assert re.fullmatch(r"[A-Z0-9_]{1,64}", entry.mnemonic.replace("IKEv1", "IKEV1"))
        assert entry.severity in {"alarm", "error", "warning", "notice"}
        if entry.id.startswith("IEC62351-4:"):
            assert entry.severity in {"alarm", "error"}  # the domain has no warning and no notice
        assert 1 <= len(entry.text) <= 128
        assert entry.edition == "CDV2025"
        if entry.mnemonic != "CERT_V_FORMAT":
            assert events.by_mnemonic(entry.mnemonic) is entry


def test_a_mnemonic_of_two_events_is_refused() -> None:
    for ask in (events.by_mnemonic, events.named):
        with pytest.raises(KeyError, match=r"CERT_V_FORMAT is IEC62351-9:2\.1 and IEC62351-9:3\.1: use event\("):
            ask("CERT_V_FORMAT")
    assert events.event("IEC62351-9", 3, 1).mnemonic == "CERT_V_FORMAT"


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


@pytest.mark.parametrize(
    ("domain", "group", "number", "mnemonic", "severity"),
    [
        ("IEC62351-3", 1, 17, "TLS_NO_EPSK_MODE", "alarm"),
        ("IEC62351-3", 2, 14, "TLS_DEP_HASH", "warning"),
        ("IEC62351-5", 2, 6, "KEYS_INV_CERTREV", "alarm"),
        ("IEC62351-6", 2, 4, "SV_MAC_GEN_FAIL", "error"),
        ("IEC62351-8", 2, 5, "AT_ISSUER_REVOKE", "alarm"),
        ("IEC62351-8", 4, 7, "ROLE_PERMISSION_REMOVE_OK", "notice"),
        ("IEC62351-8", 4, 14, "ROLE_PERMISSION_REMOVE_FAIL", "warning"),
        ("IEC62351-8", 4, 22, "O2OS_INT_FAIL", "warning"),
        ("IEC62351-9", 2, 2, "CERT_V_PK_SIG_WRONG", "alarm"),
        ("IEC62351-9", 3, 14, "CERT_V_ACE_NRII", "notice"),
        ("IEC62351-9", 4, 9, "CERT_V_OCSP_SIG_FAIL", "warning"),
        ("IEC62351-14", 2, 8, "ACCOUNT_DELETION_FAIL", "warning"),
        ("IEC62351-14", 6, 13, "UNAUTHORIZED_CONFIG_OR_FW", "alarm"),
        ("IEC62351-14", 9, 5, "COMM_LOG_SUBSCRIBER_FAIL", "alarm"),
    ],
)
def test_rows_of_the_other_domains(domain: str, group: int, number: int, mnemonic: str, severity: str) -> None:
    entry = events.CATALOGUE[domain, group, number]
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
