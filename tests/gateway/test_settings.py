"""The configuration file: what is accepted, and how each mistake is answered: with its line and with a remedy."""

from __future__ import annotations

import contextlib
import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsec import profile
from fastsec.gateway import settings, tables
from fastsec.gateway.model import Settings, SettingsError
from fastsec.gateway.tables import Address, Wrong
from fastsec.pki.identity import OsiName

CC = """\
[identity]
certificate = "cc.e2e.pem"
key = "cc.e2e.key"
[trust]
anchors = ["root.pem"]
crls = []
binding = "either"
[tls]
certificate = "cc.tls.pem"
key = "cc.tls.key"
anchors = ["root.pem"]
[policy]
encryption = "required"
ae = "allowed"
groups = [23]
rekey = "1h"
[[route]]
role = "client"
listen = "127.0.0.1:10102"
connect = "127.0.0.1:3782"
peer = "1.1.1.999.2:12"
"""
DER_ROUTE = """\
[[route]]
role = "server"
listen = "0.0.0.0:3782"
connect = "127.0.0.1:102"
peers = ["1.1.1.999.1:12"]
"""
BASE = CC[: CC.index("[[route]]")]
ROUTE_LINE = BASE.count("\n") + 1


def read(text: str) -> Settings:
    return settings.parse(text, Path("/etc/fastsec/cc.toml"))


def complaints(text: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read(text)
    return [str(problem) for problem in caught.value.problems]


def complaint(text: str) -> str:
    found = complaints(text)
    assert len(found) == 1, found
    return found[0]


# --- what is accepted -------------------------------------------------------------------------------------------------
def test_the_two_examples() -> None:
    client = read(CC).routes[0]
    assert client.role == "client"
    assert client.dial == "out"
    assert client.near == Address("127.0.0.1", 10102)
    assert client.far == Address("127.0.0.1", 3782)
    assert client.peer == OsiName("1.1.1.999.2", 12)
    assert client.policy.rekey_interval == 3600
    assert client.policy.groups == (23,)
    assert client.tls is not None
    assert client.tls.certificate == Path("/etc/fastsec/cc.tls.pem")
    assert client.listens == (client.near,)
    server = read(BASE + DER_ROUTE).routes[0]
    assert server.role == "server"
    assert server.dial == "in"
    assert server.near == Address("127.0.0.1", 102)
    assert server.far == Address("0.0.0.0", 3782)
    assert server.peers == (OsiName("1.1.1.999.1", 12),)
    assert server.listens == (server.far,)
    assert not client.reversed
    assert not server.reversed


def test_dial_reverses_only_tcp() -> None:
    server = read(
        BASE + '[[route]]\nrole = "server"\ndial = "out"\nfar_connect = "cc.example:3782"\n'
        'connect = "127.0.0.1:102"\npeers = ["1.1.1.999.1:12"]\nspare = 3\n'
    ).routes[0]
    assert (server.near, server.far) == (Address("127.0.0.1", 102), Address("cc.example", 3782))
    assert server.reversed
    assert server.spare == 3
    assert server.listens == ()
    client = read(
        BASE + '[[route]]\nrole = "client"\ndial = "in"\nlisten = "127.0.0.1:102"\n'
        'far_listen = "0.0.0.0:3782"\npeer = "1.1.1.999.2:12"\nfar_allow = ["10.0.0.0/8"]\n'
    ).routes[0]
    assert (client.near, client.far) == (Address("127.0.0.1", 102), Address("0.0.0.0", 3782))
    assert client.reversed
    assert client.listens == (client.near, client.far)
    assert client.far_allow == (ipaddress.ip_network("10.0.0.0/8"),)


def test_routes_have_their_own_near_tls_and_policy() -> None:
    text = CC + (
        'name = "north"\n'
        '[route.near]\npassword = "secret"\napplication_context = "1.0.9506.1.1"\n'
        '[route.near.local]\ntsel = "0001"\nssel = "00 02"\npsel = "00000003"\nap_title = "1.1.9"\nae_qualifier = 7\n'
        '[route.near.remote]\nap_title = "1.1.8"\n'
        '[route.tls]\ncertificate = "north.pem"\nserver_name = "der.example"\n'
        '[route.policy]\nencryption = "allowed"\nae = "forbidden"\nencryption_algorithms = ["aes256-cbc"]\n'
        'icv_algorithms = ["aes256-gmac-12", "hmac-sha256"]\nrekey_messages = 1000\nmax_lifetime = "1d"\n'
    )
    parsed = read(text + DER_ROUTE)
    north, south = parsed.routes
    assert north.name == "north"
    assert north.osi.local.ssel == b"\0\2"
    assert north.osi.local.ae_qualifier == 7
    assert north.osi.remote.ap_title == "1.1.8"
    assert north.osi.password == b"secret"
    assert "secret" not in repr(parsed)
    keyed = read(CC.replace('key = "cc.e2e.key"', 'key = "cc.e2e.key"\npassword = "hidden"'))
    assert keyed.identity.password == b"hidden"
    assert "hidden" not in repr(keyed)
    assert north.tls is not None
    assert north.tls.certificate.name == "north.pem"
    assert north.tls.key.name == "cc.tls.key"
    assert north.policy.encr_algorithms == (profile.AES256_CBC,)
    assert north.policy.icv_algorithms == ((profile.AES256_GCM, 12), (profile.HMAC_SHA256, 32))
    assert north.policy.max_association_lifetime == 86400
    assert north.policy.rekey_interval == 3600  # inherited
    assert south.name == "route2"
    assert south.policy.encryption == "required"
    assert south.tls is not None
    assert south.tls.certificate.name == "cc.tls.pem"


def test_tls_can_be_switched_off_for_a_route() -> None:
    assert read(CC + "tls = false\n").routes[0].tls is None


def test_any_peer_must_be_said() -> None:
    assert read(BASE + DER_ROUTE.replace('["1.1.1.999.1:12"]', '"any"')).routes[0].peers == ()


def test_state_directory_of_systemd() -> None:
    text = CC
    parsed = settings.parse(text, Path("x.toml"), environ={"STATE_DIRECTORY": "/var/lib/fastsec:/other"})
    assert parsed.state == Path("/var/lib/fastsec")
    assert read(text).state is None


def test_windows_line_ends_keep_the_lines() -> None:
    text = CC.replace("rekey = ", "rekeys = ").replace("\n", "\r\n")
    assert complaint(text).startswith("line 16: ")


# --- what is refused --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("[identity]", "[identiti]", 1, ["no key 'identiti'", "did you mean identity?"]),
        ("rekey =", "rekye =", 16, ["[policy] has no key 'rekye'", "did you mean rekey?"]),
        ('"1h"', '"25h"', 16, ["15 min to 1 d", '"25h"']),
        ('"1h"', '"10min"', 16, ["15 min to 1 d"]),
        ('"1h"', '"soon"', 16, ['"90s"', '"soon"']),
        ('"1h"', "true", 16, ["write a duration"]),
        ("[23]", "[2]", 15, ["14, 23, 28", "not 2"]),
        ("[23]", "[23, 23]", 15, ["twice"]),
        ("[23]", "[]", 15, ["at least one"]),
        ("[23]", "23", 15, ["write a list, e.g. [23]"]),
        ('ae = "allowed"', 'ae = "requird"', 14, ['did you mean "required"?']),
        ('"required"\nae = "allowed"', '"forbidden"\nae = "required"', 14, ["ae = required needs encryption"]),
        ('"either"', '"both"', 7, ['"subject", "registered-id", "either"']),
        ('"1.1.1.999.2:12"', '"1.1.1.999.2"', 21, ["AP-title and AE-qualifier", '"1.1.1.999.2:12"']),
        ('"1.1.1.999.2:12"', '"5.1:12"', 21, ["object identifier"]),
        ('"127.0.0.1:3782"', '"127.0.0.1"', 20, ["lacks a port"]),
        ('"127.0.0.1:3782"', '"127.0.0.300:3782"', 20, ["0 to 255"]),
        ('"127.0.0.1:3782"', '"::1:3782"', 20, ['"[::1]:3782"']),
        ('"127.0.0.1:3782"', '"127.0.0.1:99999"', 20, ["1 to 65535"]),
        ('"127.0.0.1:3782"', '"127.0.0.1:0"', 20, ["1 to 65535"]),
        ('"127.0.0.1:3782"', '"ex ample:3782"', 20, ["neither an IP address nor a host name"]),
        ('"127.0.0.1:3782"', '"sub..station:3782"', 20, ["neither an IP address nor a host name"]),
        ('"127.0.0.1:3782"', "3782", 20, ['"127.0.0.1:102"']),
        ('role = "client"', 'role = "klient"', 18, ['did you mean "client"?']),
        ('anchors = ["root.pem"]\ncrls', "anchors = []\ncrls", 5, ["nobody can be trusted"]),
        ('"cc.tls.pem"', '"cc.e2e.pem"', 9, ["separate certificates"]),
        ('key = "cc.e2e.key"', "key = 3", 3, ["in quotes"]),
        ("[trust]\n", '[trust]\nanchor = "x"\n', 5, ["did you mean anchors?"]),
    ],
)
def test_mistakes_name_line_and_remedy(old: str, new: str, line: int, words: list[str]) -> None:
    assert old in CC
    found = [text for text in complaints(CC.replace(old, new, 1)) if text.startswith(f"line {line}: ")]
    assert found, complaints(CC.replace(old, new, 1))
    for word in words:
        assert any(word in text for text in found), found


@pytest.mark.parametrize(
    ("listen", "allow", "fine"),
    [
        ("127.0.0.1:102", "", True),
        ("[::1]:102", "", True),
        ("localhost:102", "", True),
        ("0.0.0.0:102", "", False),
        ("[::]:102", "", False),
        ("192.168.1.1:102", "", False),
        ("gateway.local:102", "", False),
        ("0.0.0.0:102", 'allow = ["192.168.1.0/24", "10.1.2.3"]', True),
        ("0.0.0.0:102", "allow = []", False),
    ],
)
def test_an_open_plain_listener_needs_allow(listen: str, allow: str, fine: bool) -> None:
    text = CC.replace("127.0.0.1:10102", listen) + allow + "\n"
    if fine:
        read(text)
    else:
        assert "allow" in complaint(text)
        assert complaint(text).startswith(("line 19: ", "line 22: "))


def test_allow_for_everyone_is_doubted() -> None:
    parsed = read(CC.replace("127.0.0.1:10102", "0.0.0.0:102") + 'allow = ["0.0.0.0/0"]\n')
    assert any("everyone" in str(problem) and problem.line == 22 for problem in parsed.warnings)


def test_no_message_repeats_a_password() -> None:
    found = complaints(CC + "[route.near]\npassword = 4711\n")
    assert not any("4711" in text for text in found)


def test_network_with_host_bits_shows_the_right_one() -> None:
    assert 'write "10.1.0.0/16"' in complaint(CC + 'allow = ["10.1.2.3/16"]\n')


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ('far_connect = "10.0.0.1:3782"\n', "far_connect has no meaning"),
        ('peers = ["1.2:3"]\n', 'peers belongs to role = "server"'),
        ("spare = 2\n", "spare has no meaning"),
        ('far_allow = ["10.0.0.0/8"]\n', "far_allow has no meaning"),
        ("max_associations = 0\n", "1 to 100000"),
        ("accept_rate = 1.5\n", "whole number"),
        ('connect_timeout = "1h"\n', "0.1 s to 25 s"),
        ('near = "x"\n', "write a table here"),
        ("tls = true\n", "write a table here"),
        ('[route.near.local]\ntsel = "zz"\n', "hexadecimal"),
        ("[route.near.local]\nae_qualifier = -1\n", "whole number"),
        ('[route.near.local]\nap_title = "1.99"\n', "at most 39"),
        ('[route.near]\npassword = "a"\npassword_file = "b"\n', "not both"),
        ("[route.near]\npassword = 4711\n", "password: write a string in quotes"),
        (f'[route.near]\npassword = "{"x" * 129}"\n', "1 to 128 octets"),
    ],
)
def test_what_does_not_belong_to_a_route(extra: str, words: str) -> None:
    found = complaints(CC + extra)
    assert any(words in text for text in found), found
    assert all(int(text[5 : text.index(":")]) > 21 for text in found), found


def test_missing_keys_of_a_route() -> None:
    found = complaints(BASE + '[[route]]\nrole = "client"\n')
    assert all(text.startswith(f"line {ROUTE_LINE}: ") for text in found)
    assert any("lacks listen: where plain MMS clients connect" in text for text in found)
    assert any("lacks connect: the far gateway" in text for text in found)
    assert any("lacks peer" in text for text in found)
    found = complaints(BASE + '[[route]]\nrole = "server"\ndial = "out"\n')
    assert any("lacks far_connect" in text for text in found)
    assert any("lacks peers" in text for text in found)
    assert any("lacks role" in text for text in complaints(BASE + "[[route]]\n"))


def test_no_route_at_all() -> None:
    assert "no [[route]]" in complaint(BASE)
    assert any("two brackets" in text for text in complaints(BASE + '[route]\nrole = "client"\n'))


def test_missing_tables() -> None:
    found = complaints(CC[CC.index("[policy]") :])
    assert any("no table [identity]" in text for text in found)
    assert any("no table [trust]" in text for text in found)


def test_two_routes_at_one_port() -> None:
    route = CC[CC.index("[[route]]") :]
    assert 'route "route1" already does' in complaint(CC + route)
    assert complaint(CC + route).startswith("line 22: ")
    everywhere = route.replace("127.0.0.1:10102", "0.0.0.0:10102") + 'allow = ["10.0.0.0/8"]\n'
    assert "already does" in complaint(CC + everywhere)
    assert "taken by another route" in complaint(CC + 'name = "a"\n' + route.replace("10102", "10103") + 'name = "a"\n')


def test_own_identity_as_peer() -> None:
    text = CC.replace("[identity]\n", '[identity]\nname = "1.1.1.999.2:12"\n')
    assert "this gateway itself" in complaint(text)


def test_all_mistakes_come_at_once_in_order() -> None:
    text = CC.replace("[23]", "[5]").replace('"1h"', '"2"').replace('"127.0.0.1:10102"', '"x"')
    lines = [int(entry[5 : entry.index(":")]) for entry in complaints(text)]
    assert lines == [15, 16, 19]


def test_a_mistake_in_an_inherited_table_is_told_once() -> None:
    text = CC.replace('anchors = ["root.pem"]\n[policy]', "anchors = []\n[policy]")
    assert complaint(text).startswith("line 11: ")


def test_a_mistake_in_a_routes_own_policy_has_its_own_line() -> None:
    assert complaint(CC + '[route.policy]\nae = "no"\n').startswith("line 23: ")


def test_broken_toml_names_the_line() -> None:
    assert complaint(CC.replace("[trust]", "[trust")).startswith("line 4: is not TOML")
    assert "is not TOML" in complaint(CC + 'x = "')
    assert "nested" in complaint("a = " + "[" * 100_000)
    assert "thousands of digits" in complaint("a = " + "1" * 5000)
    for depth in range(100, 1000, 10):
        complaints("a = " + "[" * depth + "]" * depth)
        complaints("a = " + "{a = " * depth + "1" + "}" * depth)


def test_many_mistakes_take_no_more_than_their_number() -> None:
    # Comparing each with all before it once made minutes of this.
    text = CC + "[log]\n" + "".join(f"x{number} = 1\n" for number in range(50_000))
    assert len(complaints(text)) == 50_000


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        settings.load(tmp_path / "missing.toml")
    (tmp_path / "latin.toml").write_bytes(b"# ok\n# \xff\n")
    with pytest.raises(SettingsError, match="line 2: is not UTF-8"):
        settings.load(tmp_path / "latin.toml")
    (tmp_path / "big.toml").write_bytes(b"#" * (settings.FILE_MAX + 1))
    with pytest.raises(SettingsError, match="larger"):
        settings.load(tmp_path / "big.toml")


def test_password_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"hidden\r\nrest")
    (tmp_path / "cc.toml").write_text(CC + '[route.near]\npassword_file = "secret"\n')
    assert settings.load(tmp_path / "cc.toml").routes[0].osi.password == b"hidden"
    (tmp_path / "cc.toml").write_text(CC + '[route.near]\npassword_file = "nowhere"\n')
    with pytest.raises(SettingsError, match=r"line 23: .*cannot be read"):
        settings.load(tmp_path / "cc.toml")


def test_plain_server_elsewhere_is_doubted() -> None:
    parsed = read(BASE + DER_ROUTE.replace("127.0.0.1:102", "10.0.0.7:102"))
    assert any("unprotected" in str(problem) for problem in parsed.warnings)


@given(st.one_of(st.none(), st.integers(), st.floats(), st.booleans(), st.text(), st.lists(st.integers())))
def test_readers_take_or_refuse_any_value(value: object) -> None:
    readers = [
        tables.string, tables.boolean, tables.integer(0, 9), tables.choice("a", "b"), tables.duration(0, 9),
        tables.address, tables.network, tables.octets(0, 4), tables.oid, tables.file_in(Path(".")), settings.osi_name,
    ]  # fmt: skip
    for read_value in readers:
        with contextlib.suppress(Wrong):
            read_value(value)


@given(st.text("[]=\"'#.{}\n abroute123", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        read(text)
