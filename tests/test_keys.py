"""The key schedule against the independent reference: hashes, HKDF, the cut, and that secrets do not stay behind."""

from __future__ import annotations

import pytest

from fastsec import profile
from fastsec._core.crypto import Secret, sha256
from fastsec._core.guard import GuardParams
from fastsec._core.pk import Ephemeral
from fastsec.errors import LocalError
from fastsec.keys import _slices, derive, first_guards, hash_acceptance, hash_request, next_guards
from fastsec.negotiation import HMAC_SHA256, ae_suite, icv_suite
from fastsec.secpdu.model import algorithm_id
from reference import keys as reference
from reference.keys import DhKey

TIME = "20261118000000.000Z"
LATER_MS = 1_795_000_000_000
SUITES = [
    ae_suite(algorithm_id(profile.AES128_GCM, 16)),
    ae_suite(algorithm_id(profile.AES256_GCM, 12)),
    icv_suite(None, HMAC_SHA256),
    icv_suite(None, algorithm_id(profile.AES256_GCM, 16)),
    icv_suite(algorithm_id(profile.AES256_CBC), HMAC_SHA256),
    icv_suite(algorithm_id(profile.AES128_CBC), algorithm_id(profile.AES256_GCM, 12)),
]


def test_running_hash() -> None:
    h1 = hash_request(b"request")
    assert h1 == sha256(b"request" + bytes(32)) == reference.h1(b"request")
    assert hash_acceptance(b"acceptance", h1) == reference.h2(b"acceptance", h1)


@pytest.mark.parametrize("suite", SUITES)
def test_okm_and_its_cut(suite: object) -> None:
    params: GuardParams = suite.guard_params("1:2")
    z, h2 = bytes(range(32)), bytes(range(100, 132))
    okm = derive(params, Secret.from_bytes(z), h2).reveal()
    expected = reference.cut(z, h2, params.mac_key_size, params.aes_key_size)
    for server, name in ((False, "client"), (True, "server")):
        ik, ek = _slices(params, server)
        for kind, place in (("IK", ik), ("EK", ek)):
            got = okm[place[0] : place[0] + place[1]] if place else b""
            assert got == expected.get(f"{kind}_{name}", b"")
    assert len(okm) == 2 * (params.mac_key_size + params.aes_key_size)


@pytest.mark.parametrize("group", [14, 23, 28])
def test_shared_value_agrees_with_the_reference(group: int) -> None:
    ours, theirs = Ephemeral.generate(group), DhKey(group)
    assert ours.derive(theirs.public).reveal() == theirs.shared(ours.public)


def test_secrets_are_wiped_on_the_way() -> None:
    params = SUITES[0].guard_params("1:2")
    z = Secret.from_bytes(bytes(range(1, 33)))
    okm = derive(params, z, bytes(32))
    with pytest.raises(LocalError):
        z.reveal()
    first_guards(params, okm, is_client=True, own_time=TIME, peer_time=TIME)
    with pytest.raises(LocalError):
        okm.reveal()


@pytest.mark.parametrize("suite", SUITES)
def test_both_sides_understand_each_other_over_a_change_of_keys(suite: object) -> None:
    params = suite.guard_params("1:2")

    def okm(seed: int) -> Secret:
        return derive(params, Secret.from_bytes(bytes([seed]) * 32), bytes(32))

    client = first_guards(params, okm(1), is_client=True, own_time=TIME, peer_time=TIME)
    server = first_guards(params, okm(1), is_client=False, own_time=TIME, peer_time=TIME)
    for seed in (2, 3):
        for (tx, _), (_, rx) in ((client, server), (server, client)):
            pdu = tx.seal(b"\xa0\x01\x07", LATER_MS)
            assert rx.open(pdu, LATER_MS).appl_data == b"\xa0\x01\x07"
        client = next_guards(params, okm(seed), is_client=True, tx=client[0], rx=client[1])
        server = next_guards(params, okm(seed), is_client=False, tx=server[0], rx=server[1])
    for (tx, _), (_, rx) in ((client, server), (server, client)):
        assert rx.open(tx.seal(b"\xa0\x01\x08", LATER_MS), LATER_MS).appl_data == b"\xa0\x01\x08"
