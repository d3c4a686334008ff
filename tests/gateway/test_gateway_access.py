"""The access policy of a route at work: real associations with role certificates through a gateway pair."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from gateway_pair import (
    CC,
    CONCLUDE_REQUEST,
    CONCLUDE_RESPONSE,
    HEAD,
    Pair,
    answer_to,
    authority,
    gateways,
    run,
    until,
)

from fastsec import limits
from fastsec._core.cursor import tlv
from fastsec.access.judge import Judge, answer
from fastsec.access.policy import AccessPolicy, Grant
from fastsec.access.rights import Right
from fastsec.aio.connection import Connection
from fastsec.aio.stream import AssociationStream
from fastsec.engine import Engine
from fastsec.gateway import access, enforce, service, settings
from fastsec.gateway.bridge import End
from fastsec.gateway.far import DialledEnd
from fastsec.gateway.model import Settings, SettingsError
from fastsec.mms import pdu as mms
from fastsec.pki.credential import load_certificates
from fastsec.pki.roles import RoleGrant, RoleTrust, UserRoleInfo
from fastsec.pki.trial_roles import TrialAttributeAuthority
from mms_requests import get_name_list, read, request, usual, variables, write

LOOK = read(variables("GGIO1$ST$Ind1$stVal"))
OPERATE = write(variables("GGIO1$CO$SPCSO1$Oper"))
CONFIGURE = write(variables("GGIO1$CF$Mod$ctlModel"))
ACCESS = "access = true\n"
ROLES = {
    "viewer": (UserRoleInfo((0,)),),
    "operator": (UserRoleInfo((1,)),),
    "engineer": (UserRoleInfo((2,)),),
    "both": (UserRoleInfo((1, 2)),),
    "private": (UserRoleInfo((-1,)),),
    "older": (UserRoleInfo((0,), revision=1),),
}


@pytest.fixture(scope="session")
def roles(pki: Path) -> Path:
    """The trial authority, with certificates of the client's identity that grant roles."""
    issue_roles(pki)
    return pki


@cache
def issue_roles(pki: Path) -> None:
    for name, granted in ROLES.items():
        authority(pki).issue_e2e(name, CC, roles=granted)


def denied(body: bytes, invoke: int = 7, *, absent: bool = False) -> bytes:
    """How a request with this body is denied."""
    refusal = Judge(AccessPolicy(), ()).refusal(request(body, invoke))
    assert refusal is not None
    return answer(invoke, refusal[0]._replace(absent=absent))


async def ask(client: AssociationStream, body: bytes, invoke: int = 7) -> bytes:
    await client.send(request(body, invoke))
    return await client.recv()


async def asked(client: AssociationStream, body: bytes) -> bool:
    """Whether a request reached the server and came back answered."""
    found = await ask(client, body)
    if found == answer_to(request(body)):
        return True
    assert found in (denied(body), denied(body, absent=True))
    return False


class Seen:
    """A server that keeps what it was asked."""

    def __init__(self) -> None:
        self.pdus: list[bytes] = []

    async def serve(self, stream: AssociationStream) -> None:
        async for pdu in stream:
            self.pdus.append(pdu)
            await stream.send(answer_to(pdu))


def scenario(
    roles: Path, name: str, test: Callable[[Pair, AssociationStream, Seen], Awaitable[None]], **changes: Any
) -> None:
    """Run ``test`` with a client that has the certificate ``name``."""

    async def body() -> None:
        seen = Seen()
        values = {"cc_name": name, "der_extra": ACCESS, "serve": seen.serve, **changes}
        async with gateways(roles, **values) as pair:
            client = await pair.client()
            await test(pair, client, seen)
            if client.connection.is_open:
                await client.send(CONCLUDE_REQUEST)
                assert await client.recv() == CONCLUDE_RESPONSE
                await client.release()
                await pair.no_bridges()

    run(body())


# --- what the roles may do --------------------------------------------------------------------------------------------
@pytest.mark.event("IEC62351-14:5.1", "IEC62351-14:1.1", "IEC62351-14:1.8")
def test_a_viewer_reads_and_may_not_operate(roles: Path) -> None:
    async def test(pair: Pair, client: AssociationStream, seen: Seen) -> None:
        assert await ask(client, LOOK, 1) == answer_to(request(LOOK, 1))
        assert await ask(client, OPERATE, 2) == bytes.fromhex("a1080201 02a503800103")
        assert await ask(client, usual(72), 3) == bytes.fromhex("a20a8001 03a205a003870103")
        assert await ask(client, LOOK, 4) == answer_to(request(LOOK, 4))
        assert await asked(client, get_name_list())
        assert seen.pdus == [request(LOOK, 1), request(LOOK, 4), request(get_name_list())]
        await client.send(CONCLUDE_REQUEST)
        assert await client.recv() == CONCLUDE_RESPONSE
        await client.release()
        await pair.no_bridges()
        first, second = pair.records.about("a request was denied")
        assert (first["mnemonic"], first["peer"]) == ("REQUEST_INVALID", str(CC))
        assert first["p_service"] == "write"
        assert first["p_object"] == "A1LD0/GGIO1$CO$SPCSO1$Oper"
        assert first["p_needs"] == "CONTROL"
        assert first["p_Role"] == "0:0:IEC62351-8"
        assert (second["p_service"], second["p_needs"]) == ("fileOpen", "FILEREAD")
        events = [name for name in pair.records.events() if name != "REQUEST_INVALID"]
        assert events == ["LOGIN_SUCCESS", "ACCESS_LOGOUT"]
        ended = {entry["route"]: entry for entry in pair.records.about("association released")}
        assert ended["plant"]["denied"] == 2
        assert ended["plant"]["from_secured"] == 4
        assert "denied" not in ended["north"]

    scenario(roles, "viewer", test)


@pytest.mark.parametrize(
    ("name", "operates", "configures"),
    [("operator", True, False), ("engineer", False, True), ("both", True, True), ("viewer", False, False)],
)
@pytest.mark.parametrize("reverse", [False, True], ids=["dialled", "dials"])
def test_roles(roles: Path, name: str, operates: bool, configures: bool, reverse: bool) -> None:
    async def test(pair: Pair, client: AssociationStream, seen: Seen) -> None:
        assert await asked(client, OPERATE) == operates
        assert await asked(client, CONFIGURE) == configures
        assert await asked(client, LOOK)

    scenario(roles, name, test, reverse=reverse)


def test_without_a_role_there_is_nothing_but_the_association(roles: Path) -> None:
    async def test(pair: Pair, client: AssociationStream, seen: Seen) -> None:
        for body in (LOOK, OPERATE, get_name_list(), usual(2)):
            assert not await asked(client, body)
        assert await asked(client, usual(0))
        assert seen.pdus == [request(usual(0))]
        assert len(pair.records.about("no role that gives it any right")) == 1

    scenario(roles, "cc", test)


def test_what_everyone_has_and_private_roles(roles: Path) -> None:
    head = '[access.a]\ndefault = ["LISTOBJECTS"]\n[access.a.roles]\n"-1" = ["READVALUES", "CONTROL:A1LD0/GGIO?$CO"]\n'

    async def test(pair: Pair, client: AssociationStream, seen: Seen) -> None:
        assert await asked(client, get_name_list())
        assert await asked(client, LOOK)
        assert await asked(client, OPERATE)
        assert not await asked(client, write(variables("XCBR1$CO$Pos$Oper")))

    scenario(roles, "private", test, der_head=head, der_extra='access = "a"\n')


def test_a_role_granted_for_another_revision_of_the_map_gives_nothing(roles: Path) -> None:
    async def test(pair: Pair, client: AssociationStream, seen: Seen) -> None:
        assert not await asked(client, LOOK)

    scenario(roles, "older", test, der_head="[access.a]\nrevision = 2\n", der_extra='access = "a"\n')


def test_roles_matter_only_where_a_policy_stands(roles: Path) -> None:
    async def test(pair: Pair, client: AssociationStream, seen: Seen) -> None:
        assert await asked(client, OPERATE)
        for runner in (pair.cc_route, pair.der_route):
            for bridge in runner.bridges:
                assert type(bridge.incoming).pdus_received is End.pdus_received
                assert bridge.outgoing is not None
                assert type(bridge.outgoing).pdus_received is End.pdus_received

    scenario(roles, "viewer", test, der_extra="")
    for kind in (End, DialledEnd):
        assert kind.pdus_received is End.pdus_received


# --- when roles are there ---------------------------------------------------------------------------------------------
def test_the_first_request_already_has_the_roles_of_its_sender(roles: Path) -> None:
    """The first transfer confirms the association, so it does not come before the roles do."""
    order: list[str] = []
    meet, passed = enforce.Guard.meet, enforce.Guard.passed

    def meeting(self: enforce.Guard, assoc: Any, log: Any) -> Any:
        order.append(f"roles {len(assoc.roles)}")
        return meet(self, assoc, log)

    def passing(self: enforce.Guard, end: Any, assoc: Any, pdus: list[bytes]) -> list[bytes]:
        order.append(f"pdus {len(pdus)}, roles {len(assoc.roles)}")
        return passed(self, end, assoc, pdus)

    async def test(pair: Pair, client: AssociationStream, seen: Seen) -> None:
        assert await asked(client, OPERATE)
        assert order == ["roles 1", "pdus 1, roles 1"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(enforce.Guard, "meet", meeting)
        patch.setattr(enforce.Guard, "passed", passing)
        scenario(roles, "operator", test)


def test_roles_that_shrink_count_at_once(roles: Path) -> None:
    now: dict[str, tuple[RoleGrant, ...]] = {}
    real = Engine.roles.fget
    assert real is not None

    def current(engine: Engine) -> tuple[RoleGrant, ...]:
        found: tuple[RoleGrant, ...] = real(engine)
        return now.get("roles", found) if found else ()

    async def test(pair: Pair, client: AssociationStream, seen: Seen) -> None:
        assert await asked(client, OPERATE)
        now["roles"] = (RoleGrant(0, "", 0, "IEC62351-8", "certificate"),)
        assert not await asked(client, OPERATE)
        assert await asked(client, LOOK)
        now["roles"] = ()
        assert not await asked(client, LOOK)
        del now["roles"]
        assert await asked(client, OPERATE)
        assert [entry["roles"] for entry in pair.records.about("roles are others")] == [
            "0:0:IEC62351-8", "none", "1:0:IEC62351-8"
        ]  # fmt: skip

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "roles", property(current))
        scenario(roles, "operator", test)


@pytest.mark.parametrize("reverse", [False, True], ids=["dialled", "dials"])
def test_roles_of_an_attribute_certificate_until_its_authority_is_not_believed_any_more(
    roles: Path, reverse: bool
) -> None:
    root = authority(roles)
    name = f"aa{reverse:d}"
    issuer = TrialAttributeAuthority.create(root, name)
    other = TrialAttributeAuthority.create(root, f"other{name}")
    (holder,) = load_certificates(roles / "cc.e2e.pem")[:1]
    issuer.save(issuer.issue(holder, (UserRoleInfo((1,)),), revocable=False), name)

    async def test(pair: Pair, client: AssociationStream, seen: Seen) -> None:
        assert await asked(client, OPERATE)
        assert not await asked(client, CONFIGURE)
        (roles / f"{name}.aa.pem").write_bytes((roles / f"other{name}.aa.pem").read_bytes())
        assert pair.der.reload()
        (bridge,) = pair.der_route.bridges
        assert bridge.incoming.connection is not None
        bridge.incoming.connection.update_keys()
        await until(lambda: bool(pair.records.about("roles are others")))
        assert not await asked(client, OPERATE)
        assert not await asked(client, LOOK)
        assert await asked(client, usual(0))

    assert other.certificate != issuer.certificate
    scenario(
        roles,
        "cc",
        test,
        reverse=reverse,
        cc_head=f'[roles]\ntoken = "{name}.roles.pem"\n',
        der_head=f'[roles]\nauthorities = ["{name}.aa.pem"]\n',
    )


# --- many, and hostile ------------------------------------------------------------------------------------------------
def test_what_passes_keeps_its_order_and_everything_is_answered(roles: Path) -> None:
    bodies = [(LOOK, OPERATE, get_name_list(), CONFIGURE)[number % 4] for number in range(400)]
    pdus = [request(body, number) for number, body in enumerate(bodies)]
    wanted = {answer_to(pdu) if number % 2 == 0 else denied(bodies[number], number) for number, pdu in enumerate(pdus)}

    async def test(pair: Pair, client: AssociationStream, seen: Seen) -> None:
        client.connection.write_many(pdus)
        assert {await client.recv() for _ in pdus} == wanted
        assert seen.pdus == pdus[::2]

    scenario(roles, "viewer", test)


@pytest.fixture
def long_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, no minute passes."""
    monkeypatch.setattr(enforce, "MINUTE", 1e6)


@pytest.mark.usefixtures("long_minute")
def test_a_flood_of_denied_requests_does_not_fill_the_log(roles: Path) -> None:
    count = 3000

    async def test(pair: Pair, client: AssociationStream, seen: Seen) -> None:
        for number in range(count):
            await client.send(request(OPERATE, number))
        for number in range(count):
            assert await client.recv() == denied(OPERATE, number)
        assert await asked(client, LOOK)
        await client.send(CONCLUDE_REQUEST)
        assert await client.recv() == CONCLUDE_RESPONSE
        await client.release()
        await pair.no_bridges()
        told = pair.records.events().count("REQUEST_INVALID")
        silent = sum(entry["count"] for entry in pair.records.about("not told one by one"))
        assert told == limits.OUR_ACCESS_TOLD
        assert told + silent == count
        assert len(pair.records.about("not told one by one")) == 1

    scenario(roles, "viewer", test)


@pytest.mark.usefixtures("long_minute")
def test_all_associations_of_a_route_share_an_allowance(roles: Path) -> None:
    async def test(pair: Pair, client: AssociationStream, seen: Seen) -> None:
        clients = [client, *[await pair.client() for _ in range(11)]]
        for one in clients:
            for number in range(limits.OUR_ACCESS_TOLD):
                assert await ask(one, OPERATE, number) == denied(OPERATE, number)
        pair.der.events._telling.sum_up()  # of one peer, the log has fewer, and their number
        told = [fields for _, fields in pair.records.lines if fields.get("mnemonic") == "REQUEST_INVALID"]
        assert sum(int(fields.get("count", 1)) for fields in told) == limits.OUR_ACCESS_TOLD_ROUTE
        for one in clients[1:]:
            await one.release()
            assert await one.wait_ended() is None

    scenario(roles, "viewer", test)


def give_room(connections: list[Connection], octets: int) -> None:
    """So much room in the system's buffers; by default megabytes have to be sent before anything waits."""
    for connection in connections:
        assert connection.transport is not None
        sock = connection.transport.get_extra_info("socket")
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, octets)


def test_a_peer_that_does_not_read_its_denials_is_not_read_either(roles: Path) -> None:
    """Answers of the gateway itself wait for the peer like those of the server."""

    async def test(pair: Pair, client: AssociationStream, seen: Seen) -> None:
        assert await asked(client, LOOK)
        (bridge,), (near,) = pair.der_route.bridges, pair.cc_route.bridges
        ends = [end for end in (near.incoming, near.outgoing, bridge.incoming) if end is not None]
        connections = [client.connection, *[end.connection for end in ends if end.connection is not None]]
        give_room(connections, 1 << 16)
        client.connection.pause_reading()
        sent = 0
        async with asyncio.timeout(40):
            while not bridge.incoming._clogged:
                for _ in range(200 if client.connection.can_write else 0):
                    client.connection.write(request(OPERATE, sent))
                    sent += 1
                await asyncio.sleep(0.001)
        transport = bridge.incoming.connection.transport if bridge.incoming.connection else None
        assert transport is not None
        assert transport.get_write_buffer_size() < 4 << 20
        give_room(connections, 1 << 20)
        client.connection.resume_reading()
        for number in range(sent):
            assert await client.recv() == denied(OPERATE, number)
        assert await asked(client, LOOK)
        assert len(seen.pdus) == 2

    scenario(roles, "viewer", test)


@pytest.mark.parametrize(
    ("pdu", "wanted"),
    [
        (request(usual(4) + b"\x00", 9), mms.reject(mms.RejectReason.INVALID_PDU, 9)),
        (request(b"\xa4\x80\x00\x00", 9), mms.reject(mms.RejectReason.INVALID_PDU, 9)),
        (tlv(0xA0, b""), mms.reject(mms.RejectReason.INVALID_PDU)),
        (tlv(0xA8, b""), mms.reject(mms.RejectReason.INVALID_PDU)),
        (tlv(0xBF7F, b""), mms.reject(mms.RejectReason.UNKNOWN_PDU_TYPE)),
        (tlv(0xA3, tlv(0xA0, b"")), None),
        (request(read(variables("GGIO1$ST\x00$CO$a")), 9), denied(read(variables("a\x00")), 9)),
        (request(read(variables("ggio1$co$a$oper")), 9), denied(read(variables("a\x00")), 9)),
        (request(b"\xbf\x64\x00", 9), denied(usual(72), 9)),
        (request(read(variables(*["G$XX$a"] * 2900)), 9), denied(read(variables(*["G$XX$a"] * 2900)), 9)),
        (request(tlv(0xA4, bytes.fromhex("a17f") * 60)), mms.reject(mms.RejectReason.INVALID_PDU, 7)),
    ],
    ids=[
        "trailing", "indefinite", "empty", "initiate", "no MMS", "unconfirmed", "NUL", "case", "unknown service",
        "many", "deep",
    ],
)  # fmt: skip
def test_hostile_requests_stop_here(roles: Path, pdu: bytes, wanted: bytes | None) -> None:
    async def test(pair: Pair, client: AssociationStream, seen: Seen) -> None:
        # By way of the secured side: the client's own gateway lets no plain peer send what is no MMS PDU.
        (bridge,) = pair.cc_route.bridges
        assert bridge.outgoing is not None
        assert bridge.outgoing.connection is not None
        bridge.outgoing.connection.write(pdu)
        if wanted is not None:
            assert await client.recv() == wanted
        assert await asked(client, LOOK)
        assert seen.pdus == [request(LOOK)]

    scenario(roles, "engineer", test)


def test_one_invoke_id_for_everything(roles: Path) -> None:
    """Two requests under one number: each has its own answer, in whatever order."""

    async def test(pair: Pair, client: AssociationStream, seen: Seen) -> None:
        client.connection.write_many([request(LOOK, 1), request(OPERATE, 1), request(LOOK, 1)])
        found = [await client.recv() for _ in range(3)]
        assert sorted(found) == sorted([answer_to(request(LOOK, 1))] * 2 + [denied(OPERATE, 1)])
        assert await ask(client, OPERATE, 0xFFFFFFFF) == denied(OPERATE, 0xFFFFFFFF)

    scenario(roles, "viewer", test)


def test_answers_and_cancels_of_the_client_go_through(roles: Path) -> None:
    pdus = [
        bytes.fromhex("a103020101"),
        bytes.fromhex("850101"),
        bytes.fromhex("a203800101"),
        tlv(0xA4, b"\x85\x01\x01"),
    ]

    async def test(pair: Pair, client: AssociationStream, seen: Seen) -> None:
        for pdu in pdus:
            await client.send(pdu)
        await until(lambda: seen.pdus == pdus)
        for _ in pdus:
            await client.recv()

    scenario(roles, "cc", test)


def test_a_sink_that_fails_harms_nobody(roles: Path) -> None:
    async def test(pair: Pair, client: AssociationStream, seen: Seen) -> None:
        enforcer = pair.der_route._enforcer
        assert enforcer is not None

        def broken(_event: object) -> None:
            raise ValueError("no")

        enforcer.sink = broken
        complaints: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
        assert not await asked(client, OPERATE)
        assert await asked(client, LOOK)
        assert len(complaints) == 2  # of the roles, which came with the first request, and of the denial

    scenario(roles, "viewer", test)


def test_the_count_is_told_within_a_minute(roles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a flood that has stopped, while the association goes on."""
    monkeypatch.setattr(enforce, "MINUTE", 0.5)
    monkeypatch.setattr(enforce.Allowance, "take", lambda _self, _now: False)

    async def test(pair: Pair, client: AssociationStream, seen: Seen) -> None:
        for number in range(20):
            assert await ask(client, OPERATE, number) == denied(OPERATE, number)
        await until(lambda: sum(entry["count"] for entry in pair.records.about("not told one by one")) == 20)
        assert await asked(client, LOOK)
        assert "REQUEST_INVALID" not in pair.records.events()

    scenario(roles, "viewer", test)


@pytest.mark.usefixtures("long_minute")
def test_after_a_reload_events_go_where_the_new_configuration_says(roles: Path) -> None:
    async def test(pair: Pair, client: AssociationStream, seen: Seen) -> None:
        enforcer = pair.der_route._enforcer
        assert enforcer is not None
        assert pair.der.reload()
        assert enforcer.sink is pair.der_route._config.sink
        assert not await asked(client, OPERATE)
        assert pair.records.events().count("REQUEST_INVALID") == 1

    scenario(roles, "viewer", test)


def test_an_association_that_is_cut_tells_what_it_was_denied(roles: Path) -> None:
    async def test(pair: Pair, client: AssociationStream, seen: Seen) -> None:
        for number in range(30):
            assert await ask(client, OPERATE, number) == denied(OPERATE, number)
        client.connection.cut()
        await pair.no_bridges()
        assert sum(entry["count"] for entry in pair.records.about("not told one by one")) == 30 - limits.OUR_ACCESS_TOLD
        (ended,) = [entry for entry in pair.records.about("association ended") if entry["route"] == "plant"]
        assert ended["denied"] == 30

    scenario(roles, "viewer", test)


# --- the file ---------------------------------------------------------------------------------------------------------
ROUTE = '[[route]]\nrole = "server"\nlisten = "10.0.0.2:3782"\nconnect = "127.0.0.1:102"\npeers = "any"\n'


def parse(extra: str, route: str = "") -> Settings:
    return settings.parse(HEAD.format(name="x") + extra + ROUTE + route, Path("x.toml"))


def complaint(extra: str, route: str = "") -> str:
    with pytest.raises(SettingsError) as caught:
        parse(extra, route)
    return str(caught.value)


def policy(extra: str, route: str) -> AccessPolicy | None:
    return parse(extra, route).routes[0].access


def test_which_policy_a_route_has() -> None:
    assert policy("", "") is None
    assert policy("", "access = false\n") is None
    assert policy("", "access = true\n") == AccessPolicy()
    found = policy('[access.a]\nrevision = 3\nunknown = "all-rights"\n', 'access = "a"\n')
    assert found == AccessPolicy(name="a", revision=3, unknown="all-rights")
    found = policy('[access.a.roles]\nVIEWER = ["View", "CONTROL:A/B$CO"]\n"1" = []\n', 'access = "a"\n')
    assert found is not None
    assert dict(found.roles)[0] == (Grant.parse("LISTOBJECTS"), Grant.parse("CONTROL:A/B$CO"))
    assert dict(found.roles)[1] == ()
    assert dict(found.roles)[2] == dict(AccessPolicy().roles)[2]
    found = policy('[access.a]\ndefinition = "ours"\n[access.a.roles]\n"-5" = ["READVALUES"]\n', 'access = "a"\n')
    assert found is not None
    assert found.roles == ((-5, (Grant(Right.READVALUES),)),)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("[access]\nx = 1\n", "has no keys of its own"),
        ("[access.a]\nrevsion = 1\n", "did you mean revision?"),
        ("[access.a]\nrevision = 256\n", "write a whole number from 0 to 255"),
        ('[access.a]\ndefinition = "%s"\n' % ("x" * 24), "at most 23 characters"),
        ('[access.a]\nunknown = "allow"\n', 'write one of "deny", "all-rights"'),
        ('[access.a]\ndefault = ["ALL"]\n', '"ALL" is no right'),
        ("[access.a]\ndefault = [1]\n", "write a right"),
        ('[access.a.roles]\nBOSS = ["READVALUES"]\n', "BOSS: no role of IEC 62351-8"),
        ('[access.a.roles]\n"-0" = []\n', "no role of IEC 62351-8"),
        ('[access.a.roles]\n"٣" = []\n', "no role of IEC 62351-8"),
        ('[access.a.roles]\n"40000" = []\n', "no role of IEC 62351-8"),
        ('[access.a.roles]\nVIEWER = []\n"0" = []\n', "the same role as VIEWER"),
        ('[access.a.roles]\nVIEWER = ["CONTROL:GGIO1"]\n', "is no object pattern"),
        ("".join(f"[access.a{number}]\n" for number in range(65)), "more than 64 policies"),
        ('[access.a.roles]\nVIEWER = ["READVALUES", "READVALUES"]\n', "stands here twice"),
    ],
)
def test_what_is_wrong_with_a_policy(extra: str, words: str) -> None:
    assert words in complaint(extra)


def test_too_many_roles_and_rights() -> None:
    many = "".join(f'"{number}" = []\n' for number in range(-1, -300, -1))
    assert "at most 256 roles" in complaint(f"[access.a.roles]\n{many}")
    patterns = ", ".join(f'"CONTROL:A/B{number}"' for number in range(65))
    assert "65 entries; write at most 64" in complaint(f"[access.a.roles]\nVIEWER = [{patterns}]\n")


def test_what_is_wrong_with_a_route() -> None:
    assert "the file has no [access.NAME]" in complaint("", 'access = "a"\n')
    assert "the file has a, b" in complaint("[access.a]\n[access.b]\n", 'access = "c"\n')
    assert "write true" in complaint("", "access = 1\n")
    client = ROUTE.replace("server", "client").replace("peers", "peer").replace('"any"', '"1.1.1.999.2:12"')
    client = client.replace("10.0.0.2:3782", "127.0.0.1:10102")
    with pytest.raises(SettingsError, match='access belongs to role = "server"'):
        settings.parse(HEAD.format(name="x") + client + "access = true\n", Path("x.toml"))
    assert settings.parse(HEAD.format(name="x") + client + "access = false\n", Path("x.toml")).routes


def test_check_shows_the_matrix(roles: Path) -> None:
    (roles / "access.toml").write_text(HEAD.format(name="der") + ROUTE + "access = true\n", encoding="utf-8")
    _, fine = service.check(settings.load(roles / "access.toml"))
    assert [line for line in fine if "OPERATOR" in line] == [
        "    OPERATOR (1): LISTOBJECTS, READVALUES, REPORTING, CONTROL"
    ]


def test_the_roles_a_policy_speaks_of_are_believed() -> None:
    plain = RoleTrust()
    assert access.believed(plain, None) is plain
    found = access.believed(plain, AccessPolicy(roles=((-1, ()), (0, ()))))
    assert set(found.roles) == {*plain.roles, -1}
    assert found.definitions == plain.definitions
    strict = RoleTrust(definitions=(("IEC62351-8", 2),))
    assert access.believed(strict, AccessPolicy()).definitions == (("IEC62351-8", 2),)
    assert access.believed(strict, AccessPolicy(revision=3)).definitions == (("IEC62351-8", 3),)
    assert access.believed(plain, AccessPolicy(definition="ours", revision=1)).definitions == (
        ("IEC62351-8", None), ("ours", 1)
    )  # fmt: skip


def test_allowance() -> None:
    allowance = enforce.Allowance(6)
    assert [allowance.take(100.0) for _ in range(8)] == [True] * 6 + [False] * 2
    assert not allowance.take(105.0)
    assert allowance.take(110.0)
    assert not allowance.take(111.0)
    assert [allowance.take(1000.0) for _ in range(8)] == [True] * 6 + [False] * 2
