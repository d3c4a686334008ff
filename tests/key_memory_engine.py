"""The searched process of test_key_memory.py: whole associations, each ended in its own way and kept as an object.

Prints one JSON object: ending to what of its secrets is found in memory.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from typing import Any

import peephole

from engine_pair import CLIENT, INITIATE, READ, SERVER, ConnectionPair, config
from fastsec import handshake, key_update, keys
from fastsec._core.crypto import Secret
from fastsec._core.pk import Ephemeral
from fastsec.association import Send
from fastsec.config import Policy
from forge import flip_last, forge, on_response
from leaks.rounds import POLICIES
from memory_search import traces

noted: list[tuple[str, str, bytes]] = []
kept: list[ConnectionPair] = []
now = ""


class Keys:
    """In place of Ephemeral."""

    @staticmethod
    def generate(group: int) -> Ephemeral:
        key = Ephemeral.generate(group)
        private = peephole.of_ephemeral(key)
        noted.extend((now, "private value", octets) for octets in (private, private[::-1]))
        return key


def derive(params: Any, z: Secret, h2: bytes) -> Secret:
    okm = keys.derive(params, z, h2)
    noted.append((now, "z", peephole.of_secret(z)[:32]))
    octets = peephole.of_secret(okm)
    noted.extend((now, "okm", octets[at : at + 16]) for at in range(0, len(octets), 16))
    return okm


for module in (handshake, key_update):
    module.Ephemeral = Keys  # type: ignore[attr-defined]
    module.derive = derive  # type: ignore[attr-defined]


def opened(mode: str = "ae") -> ConnectionPair:
    """An association with two key updates behind it."""
    global now
    pair = ConnectionPair(config(CLIENT, policy=POLICIES[mode]), config(SERVER, policy=POLICIES[mode])).open().confirm()
    final = now
    for number in (1, 2):
        if number == 2 and final.endswith("alive"):
            now = f"{final}, after the update"
        pair.client.update_keys()
        pair.move()
        pair.confirm()
        pair.elapse(1000)
    now = final
    return pair


def released(mode: str) -> ConnectionPair:
    pair = opened(mode)
    pair.client.release()
    pair.move()
    return pair


def aborted(mode: str) -> ConnectionPair:
    pair = opened(mode)
    pair.server.abort(None)
    pair.move()
    return pair


def lost(mode: str) -> ConnectionPair:
    pair = opened(mode)
    pair.client.connection_lost()
    pair.server.connection_lost()
    return pair


def damaged(mode: str) -> ConnectionPair:
    pair = opened(mode)
    pair.client.send(READ)
    to, sent = pair.link.popleft()
    pair.deliver(to, Send(sent.carrier, flip_last(sent.pdu)))
    pair.move()
    return pair


def refused(mode: str) -> ConnectionPair:
    pair = ConnectionPair(config(CLIENT, policy=POLICIES[mode]), config(SERVER, policy=POLICIES[mode]))
    pair.accept = False
    pair.client.start(INITIATE)
    pair.move()
    return pair


def wrong_response(mode: str) -> ConnectionPair:
    pair = ConnectionPair(config(CLIENT, policy=POLICIES[mode]), config(SERVER, policy=POLICIES[mode]))
    on_response(pair, flip_last)
    pair.client.start(INITIATE)
    pair.move()
    return pair


def wrong_number(mode: str) -> ConnectionPair:
    from engine_pair import credential
    from fastsec.secpdu.fields import Carrier

    pair = ConnectionPair(config(CLIENT, policy=POLICIES[mode]), config(SERVER, policy=POLICIES[mode]))
    on_response(pair, lambda pdu: forge(Carrier.ASSOCIATE_RSP, pdu, credential(SERVER), asso_id="1"))
    pair.client.start(INITIATE)
    pair.move()
    return pair


def lost_in_update(mode: str) -> ConnectionPair:
    pair = ConnectionPair(config(CLIENT, policy=Policy(groups=(28,))), config(SERVER)).open().confirm()
    pair.server.hold_jobs = True
    pair.client.update_keys()
    pair.move()
    pair.client.connection_lost()
    pair.server.connection_lost()
    pair.server.hold_jobs = False
    pair.server.run_jobs()
    return pair


ENDS: dict[str, tuple[Callable[[str], ConnectionPair], tuple[str, ...]]] = {
    "released": (released, tuple(POLICIES)),
    "aborted": (aborted, tuple(POLICIES)),
    "lost": (lost, ("ae", "cbc-hmac")),
    "damaged": (damaged, ("gmac", "cbc-gmac")),
    "refused": (refused, ("ae", "ae256")),
    "wrong response": (wrong_response, ("ae", "ae256")),
    "wrong number": (wrong_number, ("ae",)),
    "lost in an update": (lost_in_update, ("ae",)),
    "alive": (opened, tuple(POLICIES)),
}


def main() -> None:
    global now
    for end, (run, modes) in ENDS.items():
        for mode in modes:
            now = f"{mode} {end}"
            kept.append(run(mode))
            assert end == "alive" or (kept[-1].client.ended and kept[-1].server.ended), now
    gc.collect()
    found: dict[str, dict[str, int]] = {}
    for name, what, _ in noted:
        found.setdefault(name, {})[what] = 0
    for index, hits in traces([masked for _, _, masked in noted]).items():
        name, what, _ = noted[index]
        found[name][what] += hits
    print(json.dumps(found))


main()
