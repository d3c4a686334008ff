"""What the formal model takes for granted about the code. If one of these fails, look at the model first."""

from __future__ import annotations

import hashlib
import hmac
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from cases import CASES
from check import HERE, INPUTS, STATES, promela_table, rows, spin_switches, switches_of

from engine_pair import CLIENT, SERVER, ConnectionPair, config
from fastsec import limits, profile
from fastsec._core.crypto import Secret
from fastsec._core.guard import MODE_CBC_HMAC
from fastsec._core.pk import Ephemeral, check_public
from fastsec.config import Policy
from fastsec.errors import PeerError
from fastsec.key_update import Phase, _digest
from fastsec.keys import _slices, derive, hash_acceptance, hash_request
from fastsec.replay import ReplayMemory
from fastsec.secpdu import fields
from fastsec.secpdu.der import decode
from fastsec.secpdu.fields import Carrier, SecPduKind, Token
from fastsec.secpdu.timestamp import time_text
from fastsec.state import CALLS, DATA_STATES, TABLE, Input, Rule, State

UTC = 1_795_000_000_000


def names(table: tuple[fields.Field, ...]) -> list[str]:
    return [field.name for field in table]


# --- what is signed, what is hashed, what is under the ICV ------------------------------------------------------------


def test_the_fields_of_the_tokens_are_those_of_the_model() -> None:
    assert names(fields.CLEAR_TOKEN_1) == [
        *("sigAlg", "pkCert", "certPath", "version", "assoID", "dhKey", "hmac", "time", "encr-mode", "confParams"),
        "attCert",
    ]
    assert names(fields.CLEAR_TOKEN_2) == ["assoID", "time", "seq", "iv", "rekey", "reqRekey", "changedKey"]
    assert names(fields.CLEAR_TOKEN_3) == ["sigAlg", "version", "assoID", "time", "pkCert", "certPath"]


def test_control_pdus_have_one_shape_and_no_binding_but_number_and_time() -> None:
    """So one constructor stands for all of them in control.maude."""
    transfers = {SecPduKind.CLEAR_TRANSFER, SecPduKind.ENCR_TRANSFER}
    handshake = {SecPduKind.HANDSHAKE_REQ, SecPduKind.HANDSHAKE_ACC}
    for pdu in fields.SEC_PDUS:
        wanted = Token.CLEAR_TOKEN_2 if pdu.kind in transfers else Token.CLEAR_TOKEN_3
        assert pdu.token is (Token.CLEAR_TOKEN_1 if pdu.kind in handshake else wanted)


@pytest.mark.parametrize("groups", [(23,), (23, 14)])
def test_identity_number_values_modes_and_time_are_in_the_signed_octets_and_pp_is_not(groups: tuple[int, ...]) -> None:
    pair = ConnectionPair(config(CLIENT, policy=Policy(groups=groups)), config(SERVER)).open()
    for carrier, sent in (
        (Carrier.ASSOCIATE_REQ, pair.wire[0][1]),
        (Carrier.ASSOCIATE_RSP, pair.wire[1][1]),
    ):
        assert sent.pdu is not None
        pdu = decode(carrier, sent.pdu)
        token = pdu.token1
        assert token.pk_cert in pdu.tbs
        assert token.time.encode() in pdu.tbs
        assert token.asso_id.encode() in pdu.tbs
        assert all(value.public in pdu.tbs for value in token.dh_key)
        assert all(algorithm.der in pdu.tbs for algorithm in token.encr_mode.algorithms)
        assert b"IEC 61850-8-1" in sent.pdu
        assert b"IEC 61850-8-1" not in pdu.tbs


def test_the_request_has_the_clients_number_alone_and_the_answer_both() -> None:
    pair = ConnectionPair().open()
    request, answer = (
        decode(carrier, sent.pdu).token1.asso_id
        for carrier, (_, sent) in zip((Carrier.ASSOCIATE_REQ, Carrier.ASSOCIATE_RSP), pair.wire, strict=False)
    )
    assert re.fullmatch(r"\d+", request)
    assert re.fullmatch(rf"{request}:\d+", answer)


def test_the_request_names_nobody_it_is_for() -> None:
    """Hence the limit "a may have called somebody else"."""
    pair = ConnectionPair().open()
    pdu = pair.wire[0][1].pdu
    assert pdu is not None
    assert pair.endpoints[1].config.credential.certificate not in pdu


def test_both_handshake_pdus_go_into_the_salt() -> None:
    h1 = hash_request(b"request")
    h2 = hash_acceptance(b"answer", h1)
    assert h1 == hashlib.sha256(b"request" + bytes(32)).digest()
    assert h2 == hashlib.sha256(b"answer" + h1).digest()
    pair = ConnectionPair(config(CLIENT, policy=Policy(groups=(23,)))).open()
    params = pair.client.association._params
    assert params is not None
    z = bytes(range(32))
    size = 2 * (params.mac_key_size + params.aes_key_size)
    prk = hmac.digest(h2, z, "sha256")
    blocks, okm = b"", b""
    for number in range(1, 9):
        blocks = hmac.digest(prk, blocks + bytes([number]), "sha256")
        okm += blocks
    assert derive(params, Secret.from_bytes(z), h2).reveal() == okm[:size]


def test_both_sides_hash_what_went_over_the_wire() -> None:
    pair = ConnectionPair().open()
    request = decode(Carrier.ASSOCIATE_REQ, pair.wire[0][1].pdu)
    answer = decode(Carrier.ASSOCIATE_RSP, pair.wire[1][1].pdu)
    h2 = hash_acceptance(answer.tbs, hash_request(request.tbs))
    assert pair.client.association._keys.h2 == h2
    assert pair.server.association._keys.h2 == h2


def test_each_direction_has_its_own_keys() -> None:
    class Sizes:
        mac_key_size, aes_key_size, mode = 32, 16, MODE_CBC_HMAC

    client, server = _slices(Sizes, False), _slices(Sizes, True)  # type: ignore[arg-type]
    octets = [set(range(at, at + length)) for part in (*client, *server) if part for at, length in (part,)]
    assert sum(map(len, octets)) == len(set().union(*octets)) == 96


# --- replay, numbers, values ------------------------------------------------------------------------------------------


def test_a_request_is_remembered_by_its_time_stamp_for_as_long_as_that_is_fresh() -> None:
    assert limits.OUR_REPLAY_WINDOW >= limits.SPEC_CLOCK_SKEW
    ahead = UTC + limits.SPEC_CLOCK_SKEW * 1000
    memory = ReplayMemory()
    assert memory.remember("peer", "Q", time_text(ahead), "1", bytes(32), UTC) == "new"
    last = ahead + limits.SPEC_CLOCK_SKEW * 1000
    assert memory.remember("peer", "Q", time_text(ahead), "1", bytes(32), last) == "replay"


def test_the_client_keeps_the_longer_distance_between_updates() -> None:
    """The Promela model has no time: no honest client may be refused for being early."""
    assert limits.OUR_REKEY_DISTANCE_CLIENT > limits.OUR_REKEY_DISTANCE_SERVER


def test_a_value_and_its_negative_are_remembered_as_one() -> None:
    point = Ephemeral.generate(23).public
    assert _digest(point) == _digest(point[:33] + bytes(32))
    value = Ephemeral.generate(14).public
    negative = (profile.MODP_2048_PRIME - int.from_bytes(value, "big")).to_bytes(256, "big")
    assert _digest(value) == _digest(negative) != _digest(Ephemeral.generate(14).public)


def test_the_prime_is_the_one_of_the_key_agreement() -> None:
    check_public(14, (profile.MODP_2048_PRIME - 2).to_bytes(256, "big"))
    with pytest.raises(PeerError):
        check_public(14, (profile.MODP_2048_PRIME - 1).to_bytes(256, "big"))


# --- the state machines -----------------------------------------------------------------------------------------------


def test_the_promela_model_has_every_action_state_and_phase() -> None:
    text = (HERE / "phases.pml").read_text()
    used = {f"A_{row[3]}" for row in rows()}
    written = set(re.findall(r"\bA_[A-Z_]+\b", text))
    assert used == written
    phases = re.search(r"mtype = \{([\w, ]+)\}\s*/\* fastsec.key_update.Phase", text)
    assert phases is not None
    assert {name.strip().upper() for name in phases[1].split(",")} == {phase.name for phase in Phase}
    assert {row[0] for row in rows()} == set(STATES)
    assert "inline lookup" in promela_table()


# What the Promela model leaves out, and why that loses nothing.
HANDSHAKE = {
    *("START", "ACCEPT", "REJECT", "HANDSHAKE_REQ", "HANDSHAKE_ACC", "APPLICATION_REJECT", "HANDSHAKE_SEC_REJECT"),
    *("HANDSHAKE_SEC_ABORT", "PLAIN_REJECT", "REQUEST_MADE", "REQUEST_TAKEN", "ACCEPTANCE_MADE", "ACCEPTANCE_TAKEN"),
}
AS_ANOTHER = {"DT_SEC_ABORT": "APPL_ABORT", "PLAIN_ABORT": "LOST", "ENVIRONMENT_FAULT": "LOST"}
TIME = {"TIMEOUT", "PEER_CHECKED"}


def test_no_input_is_forgotten() -> None:
    assert {given.name for given in INPUTS} | HANDSHAKE | set(AS_ANOTHER) | TIME == set(Input.__members__)


def test_inputs_left_out_do_what_their_stand_in_does() -> None:
    for state in DATA_STATES:
        for name, other in AS_ANOTHER.items():
            left, modelled = TABLE[state, Input[name]], TABLE[state, Input[other]]
            assert isinstance(left, Rule)
            assert isinstance(modelled, Rule)
            assert left.next is modelled.next is State.ENDED


def test_the_application_of_the_model_calls_only_what_is_allowed() -> None:
    calls = {given for given in INPUTS if given in CALLS}
    assert calls == {Input.SEND, Input.UPDATE_KEYS, Input.RELEASE, Input.RELEASE_ACCEPT, Input.ABORT}
    sending = {state for state in STATES if isinstance(TABLE[state, Input.SEND], Rule)}
    assert sending == {State.OPEN, State.ASKED}


def test_every_switch_is_thrown_by_some_case() -> None:
    for part in ("handshake", "replay", "control", "update"):
        thrown = {switch for case in CASES if case.part == part for switch in case.broken}
        own = set(re.findall(r"\bon\((\w+)\)", (HERE / f"{part}.maude").read_text()))
        assert own <= thrown
        assert thrown <= set(switches_of(part))
    assert {switch for case in CASES if case.part == "phases" for switch in case.broken} == set(spin_switches())
