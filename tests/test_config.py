"""What a policy may say; the bounds of IEC 62351-4 and our own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from engine_pair import CLIENT, INITIATE, SERVER, ConnectionPair, config
from fastsec import limits, profile
from fastsec._core.guard import MODE_HMAC
from fastsec.config import Policy
from fastsec.errors import ConfigError

GCM_LIST = tuple((oid, size) for oid in profile.GCM_KEY_SIZE for size in profile.ICV_LEN_RANGE)


@pytest.mark.parametrize(
    "fields",
    [
        {"rekey_interval": limits.SPEC_REKEY_INTERVAL_MIN},
        {"rekey_interval": limits.SPEC_REKEY_INTERVAL_MAX},
        {"rekey_messages": 1},
        {"max_association_lifetime": 60},
        {"groups": (14, 23, 28), "accept_groups": (14,)},
        {"ae_algorithms": GCM_LIST},
        {"encryption": "forbidden", "ae": "forbidden"},
        {"icv_algorithms": tuple((oid, 16) for oid in profile.GMAC_KEY_SIZE)},
    ],
    ids=str,
)
def test_good_policies(fields: dict[str, Any]) -> None:
    policy = Policy(**fields)
    assert all(getattr(policy, name) == value for name, value in fields.items())


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"rekey_interval": limits.SPEC_REKEY_INTERVAL_MIN - 1}, "15 min .. 24 h"),
        ({"rekey_interval": limits.SPEC_REKEY_INTERVAL_MAX + 1}, "15 min .. 24 h"),
        ({"rekey_messages": 0}, "rekey_messages"),
        ({"max_association_lifetime": 59}, "max_association_lifetime"),
        ({"groups": ()}, "groups"),
        ({"groups": (23, 23)}, "groups"),
        ({"groups": (19,)}, "groups"),
        ({"accept_groups": ()}, "accept_groups"),
        ({"encryption": "maybe"}, "encryption"),
        ({"ae": "maybe"}, "ae"),
        ({"encryption": "forbidden", "ae": "required"}, "ae = required"),
        ({"ae_algorithms": ()}, "ae_algorithms"),
        ({"ae_algorithms": ((profile.AES128_GCM, 11),)}, "ae_algorithms"),
        ({"ae_algorithms": ((profile.AES128_GCM, 17),)}, "ae_algorithms"),
        ({"ae_algorithms": ((profile.AES128_CBC, 16),)}, "ae_algorithms"),
        ({"ae_algorithms": ((profile.AES128_GCM, 16),) * 2}, "different entries"),
        ({"encr_algorithms": (profile.AES128_GCM,)}, "encr_algorithms"),
        ({"encr_algorithms": ()}, "encr_algorithms"),
        ({"icv_algorithms": ((profile.HMAC_SHA256, 16),)}, "icv_algorithms"),
        ({"icv_algorithms": ((profile.AES128_GCM, 8),)}, "icv_algorithms"),
        (
            {"icv_algorithms": tuple((oid, size) for oid in profile.GMAC_KEY_SIZE for size in profile.ICV_LEN_RANGE)},
            f"1..{limits.OUR_LIST_MAX}",
        ),
    ],
    ids=str,
)
def test_bad_policies(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace(".", r"\.")):
        Policy(**fields)


def test_a_peer_may_have_a_policy_of_its_own() -> None:
    own = Policy(strict_peer=True)
    made = replace(config(CLIENT), policies=((SERVER, own),))
    assert made.policy_for(SERVER) is own
    assert made.policy_for(CLIENT) is made.policy
    assert made.policy_for(None) is made.policy


def test_the_policy_of_a_peer_rules_negotiation_and_data_transfer() -> None:
    patient = Policy(encryption="forbidden", strict_peer=True, rekey_messages=5)
    pair = ConnectionPair(
        config(CLIENT, policies=((SERVER, replace(patient, rekey_messages=7)),)),
        config(SERVER, policies=((CLIENT, patient),)),
    ).open()
    assert pair.server.association.mode == MODE_HMAC
    assert (pair.client.association.tx.soft_limit, pair.server.association.tx.soft_limit) == (7, 5)
    pair.elapse(70)
    pair.client.tick()
    pair.server.tick()
    assert len(pair.wire) == 2  # no NULL transfer to a strict peer, and no end for want of one
    assert not pair.client.ended
    assert not pair.server.ended
    other = ConnectionPair(config(CLIENT), config(SERVER, policies=((CLIENT, Policy(ae="forbidden")),)))
    other.client.start(INITIATE)
    other.move()
    assert other.server.error.check == "ae-not-allowed"
