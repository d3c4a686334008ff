"""From what came of a life to one word for it, and the rules that hold whatever the fault was."""

from __future__ import annotations

import re
from typing import Any

from fastsec.errors import Aborted, FastsecError, LimitReached, PeerError
from fastsec.events import CATALOGUE
from faults.script import DOWN, UP, Result
from faults.tap import PASSIVE, Fault, Kind

TIMES = re.compile(r"in time|OUR_UNCONFIRMED_TIMEOUT|does not answer")
_SEVERITY = {row.id: row.severity for row in CATALOGUE.values()}
TELLS = ("4", "5", "6")  # groups of a reject or abort received: the peer says that it found a fault


def _told(event: str) -> bool:
    """Whether the event is of a peer's verified abort or reject, not of a fault found here."""
    group, _, number = event.partition(":")[2].partition(".")
    return group in TELLS and int(number) >= 11


def word(result: Result, fault: Fault) -> str:
    """One of: ``on`` (nothing noticed, all went its way), ``env`` + event of group 15, the id of a security event,
    ``time`` (a named limit ended it), ``lost`` (a side heard of the lost connection), ``open`` (still there at the
    horizon), ``quiet`` (ended, nothing said)."""
    receiver = result.server if fault.to_server else result.client
    sender = result.client if fault.to_server else result.server
    found = [event for event in receiver.events if not _told(event)]
    other = [event for event in sender.events if not _told(event)]
    if found:
        return found[0].removeprefix("IEC62351-4:")
    if other:
        return "sender " + other[0].removeprefix("IEC62351-4:")
    if result.finished and _as_undisturbed(result):
        return "on"
    if any(result.alive):
        return "open"
    texts = f"{result.client.error} / {result.server.error}"
    if TIMES.search(texts):
        return "time"
    return "lost"


def _as_undisturbed(result: Result) -> bool:
    """Both ended as without a fault: released, or the one aborted and the other was told so."""
    client, server = result.client.error, result.server.error
    if client is None and server is None:
        return True
    told = isinstance(server, Aborted) and server.side == "peer"
    return told and isinstance(client, Aborted) and client.side == "local" and "own application" in client.reason


# SecPDU that was found bad -> group of the event that its sender raises for the reject or abort.
TOLD_BY = {"1": "4", "2": "5", "10": "6", "11": "6", "12": "6"}


def _what_the_sender_is_told(result: Result, fault: Fault, limited: bool) -> list[str]:
    """The undamaged direction brings a signed reject or abort: of an alarm without, else with a diagnostic. Nothing is
    told of faults of the environment, of aborts and of ReleaseRsp."""
    receiver, sender = (result.server, result.client) if fault.to_server else (result.client, result.server)
    found = [event for event in receiver.events if not _told(event)]
    told = [event.partition(":")[2] for event in sender.events if _told(event)]
    if len(found) != 1:
        return []
    group = found[0].partition(":")[2].partition(".")[0]
    if group not in TOLD_BY:
        return [f"sender was told {told} of {found}"] if told else []
    if not told and limited:
        return []  # so many rejects at once that a plain ABRT went out (flood rules)
    alarm = _SEVERITY[found[0]] == "alarm"
    wanted = f"{TOLD_BY[group]}.11"
    if len(told) != 1 or (told[0] == wanted) != alarm or not told[0].startswith(f"{TOLD_BY[group]}."):
        return [f"sender was told {told} of {found}, an {'alarm' if alarm else 'error'}"]
    return []


def broken_rules(
    result: Result, fault: Fault, before: tuple[int, int], *, tls: bool = False, limited: bool = False
) -> list[str]:
    """What holds for every fault; returns what did not.

    Arguments:
        before: PDUs (up, down) whose frames were sent, and so delivered, before the struck one.
        tls: the fault struck a record of TLS below: no event of the association may come of it.
        limited: the sender may be told nothing: so many at the same moment that signed rejects are limited, say.
    """
    broken: list[str] = []
    ends = (("client", result.client, DOWN, before[1]), ("server", result.server, UP, before[0]))
    if result.complaints:
        broken.append(f"the loop was told of {result.complaints}")
    if result.left:
        broken.append(f"left: {result.left}")
    for name, end, sent, least in ends:
        if end.pdus != sent[: len(end.pdus)]:
            broken.append(f"{name} got {[pdu.hex() for pdu in end.pdus]}")
        if len(end.pdus) < least:
            broken.append(f"{name} has lost what came before the fault: {len(end.pdus)} < {least}")
        if end.after_end:
            broken.append(f"{name} was told {end.after_end} after its end")
        if end.calls.count("ended") > 1:
            broken.append(f"{name} ended twice")
        if end.error is not None and not isinstance(end.error, FastsecError):
            broken.append(f"{name} ended with {end.error!r}")
        if len([event for event in end.events if not _told(event)]) > 1:
            broken.append(f"{name} raised {end.events}")
        if end.details and not end.events:
            broken.append(f"{name} raised {end.details} alone")
    if fault.kind in PASSIVE and not (
        result.finished
        and _as_undisturbed(result)
        and len(result.server.pdus) == len(UP)
        and len(result.client.pdus) == len(DOWN)
    ):
        broken.append("every octet came, in order, and yet not everything was delivered")
    deaf = [not fault.to_server, fault.to_server]  # of client and server: hears nothing after the fault
    if any(result.alive) and not all(result.alive) and not (fault.kind is Kind.STALL and result.alive == deaf):
        broken.append(f"one side ended, the other did not: {result.alive}")
    receiver = result.server if fault.to_server else result.client
    mine = before[0] if fault.to_server else before[1]
    if (
        fault.kind is Kind.CORRUPT
        and [event for event in receiver.events if not _told(event)]
        and len(receiver.pdus) > mine
    ):
        broken.append(f"delivered although the fault was seen: {[pdu.hex() for pdu in receiver.pdus[mine:]]}")
    if fault.kind is Kind.STALL and not tls and result.frame[5] == 0xF0 and result.frame[7] in (0x09, 0x0A):
        asked = fault.to_server == (result.frame[7] == 0x09)  # FN goes from who asks, DN to it
        if result.alive[0 if asked else 1]:
            broken.append("who asked for release waits for ever")
    if not tls and fault.kind is Kind.CORRUPT:
        broken += _what_the_sender_is_told(result, fault, limited)
    heard = (*result.client.events, *result.server.events, *result.client.details, *result.server.details)
    if tls and any(not _told(event) for event in heard):
        broken.append(f"events {result.client.events} {result.server.events}, though TLS stands below")
    return broken


def kind_of_error(error: Any) -> str:
    """For tables of what came out."""
    if error is None:
        return "released"
    if isinstance(error, Aborted):
        return f"aborted by {error.side}"
    return type(error).__name__ if isinstance(error, PeerError | LimitReached) else "other"
