"""docs/gateway.md against the code: every key with type, default and limits, the matrix, the examples, the log."""

from __future__ import annotations

import dataclasses
import re
import shlex
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from fastsec import limits
from fastsec.events import DOMAIN_E2E, event
from fastsec.gateway import settings, words
from fastsec.gateway.material import DAY, Expiry
from fastsec.gateway.model import Settings, SettingsError

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "gateway.md").read_text(encoding="utf-8")

HEAD = '[identity]\ncertificate = "x.pem"\nkey = "x.key"\n[trust]\nanchors = ["root.pem"]\n'
TLS = '[tls]\ncertificate = "t.pem"\nkey = "t.key"\nanchors = ["root.pem"]\n'
A_PROFILE = '[a_profile]\ncertificate = "a.pem"\nkey = "a.key"\nanchors = ["root.pem"]\npeers = "any"\n'
CLIENT = 'role = "client"\nlisten = "127.0.0.1:10102"\nconnect = "10.0.0.2:3782"\npeer = "1.1.1.999.2:12"\n'
SERVER = 'role = "server"\nlisten = "10.0.0.2:3782"\nconnect = "127.0.0.1:102"\npeers = ["1.1.1.999.1:12"]\n'
SERVER_OUT = SERVER.replace("listen", 'dial = "out"\nfar_connect')
CLIENT_IN = CLIENT.replace("connect =", 'dial = "in"\nfar_listen =').replace("10.0.0.2:3782", "127.0.0.1:3782")


@dataclasses.dataclass(frozen=True)
class Key:
    """A row of the tables."""

    table: str
    name: str
    kind: str
    default: str
    meaning: str


def documented() -> list[Key]:
    found = []
    for section in re.split(r"^### ", TEXT, flags=re.M)[1:]:
        title, _, body = section.partition("\n")
        rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?)\s*\| (.*) \|$", body.partition("\n## ")[0], re.M)
        for table in re.findall(r"`(\[+[\w.]+\]+)`", title):
            found += [Key(table, *row) for row in rows]
    return found


KEYS = documented()
TABLES = (
    "[identity]", "[trust]", "[tls]", "[policy]", "[[route]]", "[route.near]", "[route.near.local]",
    "[route.near.remote]", "[gateway]", "[log]",
    "[access.NAME]", "[events]",
    "[metrics]", "[revocation]", "[roles]", "[a_profile]", "[a_profile.local]", "[a_profile.remote]",
)  # fmt: skip


def file_with(table: str, lines: str, route: str = SERVER) -> str:
    """A whole file in which ``table`` has these further lines."""
    parts = {"[identity]": "", "[trust]": "", "[tls]": "", "[policy]": "", "[gateway]": "", "[log]": "",
             "[a_profile]": "", table: lines}  # fmt: skip
    head = HEAD.replace("[trust]\n", f"{parts['[identity]']}\n[trust]\n") + parts["[trust]"]
    text = f"{head}\n{TLS}{parts['[tls]']}\n[policy]\n{parts['[policy]']}\n[gateway]\n{parts['[gateway]']}\n"
    text += f"[log]\n{parts['[log]']}\n{A_PROFILE}{parts['[a_profile]']}\n"
    text += f"{table}\n{lines}\n" if table not in (*TABLES[:10], "[[route]]", "[a_profile]") else ""
    text += f"[[route]]\n{route}{parts.get('[[route]]', '')}\n"
    return text if table in TABLES[:5] or table in TABLES[8:] else f"{text}{table}\n{lines}\n"


def parse(text: str) -> Settings:
    return settings.parse(text, Path("x.toml"))


def plain(value: Any) -> Any:
    """Settings without what says only where in the file they stood."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: plain(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if field.name not in ("where", "positions", "warnings")
        }
    return [plain(entry) for entry in value] if isinstance(value, tuple | list) else value


def complaints(text: str) -> str:
    try:
        parse(text)
    except SettingsError as error:
        return str(error)
    return ""


# --- keys -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("table", TABLES)
def test_keys_are_those_of_the_code(table: str) -> None:
    """The code lists the keys it knows when it meets one that it does not know."""
    below = table.strip("[]").split(".")
    lines = "".join(
        f"[{'[route]' if name == 'route' and len(below) == 1 else '.'.join(below)}]\n" for name in below[:1]
    )
    if len(below) > 1:
        lines = f"[[route]]\n{lines}"
    message = complaints(f"{lines}zzzzzz = 1\n")
    (known,) = re.findall(r"no key 'zzzzzz'; known here: (.*)", message)
    assert sorted(key.name for key in KEYS if key.table == table) == known.split(", ")


def test_no_other_tables() -> None:
    assert {key.table for key in KEYS} == set(TABLES)
    (known,) = re.findall(r"no key 'zzzzzz'; known here: (.*)", complaints("zzzzzz = 1\n"))
    assert {table.strip("[]").split(".")[0] for table in TABLES} == set(known.split(", "))


@pytest.mark.parametrize("key", [key for key in KEYS if key.default == "–"], ids=lambda key: f"{key.table}{key.name}")
def test_needed_keys_are_needed(key: Key) -> None:
    text = file_with("[log]", "")
    section = text.index(key.table)
    start = text.index(f"\n{key.name} = ", section) + 1
    assert key.name in complaints(text[:start] + text[text.index("\n", start) + 1 :])


def test_other_keys_are_not_needed() -> None:
    for table in TABLES:
        below = "[[route]]\n" if "." in table else ""
        needed = {key.name for key in KEYS if key.table == table and key.default == "–"}
        title = re.escape(table)
        found = set(re.findall(rf"(?<!\[){title} lacks (\w+)", complaints(f"{below}{table}\n")))
        assert found == needed, table


def literal_defaults() -> list[tuple[Key, str, str]]:
    """Key, route, and the default as it is written."""
    found = []
    for key in KEYS:
        both = re.fullmatch(r"(?:server|client) `(.+?)`, (?:server|client) `(.+?)`", key.default)
        if both:
            sides = dict(re.findall(r"(server|client) `(.+?)`", key.default))
            routes = (SERVER_OUT, CLIENT_IN) if key.name == "spare" else (SERVER, CLIENT)
            found += [(key, routes[0], sides["server"]), (key, routes[1], sides["client"])]
        elif re.fullmatch(r"`[^`$]+`…?", key.default) and key.default[1:-1] not in TABLES:
            found.append((key, SERVER, key.default.split("`")[1]))
    return found


@pytest.mark.parametrize(
    ("key", "route", "default"), literal_defaults(), ids=lambda value: value.name if isinstance(value, Key) else ""
)
def test_defaults_are_those_of_the_code(key: Key, route: str, default: str) -> None:
    usual = parse(file_with(key.table, "", route))
    assert plain(parse(file_with(key.table, f"{key.name} = {default}\n", route))) == plain(usual)


@pytest.mark.parametrize("key", [key for key in KEYS if key.default == "all, so ordered"], ids=lambda key: key.name)
def test_lists_of_algorithms_are_the_defaults(key: Key) -> None:
    names = key.kind.removeprefix("list of ").replace("`", "")
    usual = parse(file_with("[log]", ""))
    assert plain(parse(file_with(key.table, f"{key.name} = [{names}]\n"))) == plain(usual)


# --- types and limits -------------------------------------------------------------------------------------------------
def route_for(key: Key) -> str:
    bare = SERVER.replace('peers = ["1.1.1.999.1:12"]\n', "")
    if key.table == "[[route]]" and key.name in ("security", "a_profile"):
        return bare if key.name == "security" else bare + 'security = "a-profile"\n'
    needs = {"spare": SERVER_OUT, "far_connect": SERVER_OUT, "far_listen": CLIENT_IN, "allow": CLIENT, "peer": CLIENT}
    return needs.get(key.name, SERVER)


def accepted(key: Key, value: str) -> bool:
    route = re.sub(rf"(?m)^{key.name} = .*\n", "", route_for(key)) if key.table == "[[route]]" else route_for(key)
    text = file_with(key.table, "", route)
    if key.table in ("[identity]", "[trust]", "[tls]", "[a_profile]"):
        start = text.index(key.table)
        text = text[:start] + re.sub(rf"(?m)^{key.name} = .*\n", "", text[start:], count=1)
        text = text.replace(f"{key.table}\n", f"{key.table}\n{key.name} = {value}\n", 1)
    else:
        text = file_with(key.table, f"{key.name} = {value}\n", route)
    return key.name not in complaints(text)


def values_of(kind: str) -> tuple[list[str], list[str]]:
    """Values that a key of this documented type takes, and values that it refuses."""
    names = re.findall(r'`("[^`]+")`', kind)
    span = re.search(r"([\d.]+) ?(s|min|h|d)? to ([\d.]+) ?(s|min|h|d|octets)?", kind)
    if kind.startswith("list of `"):
        return [f"[{names[0]}]", f"[{', '.join(names)}]"], ['["no such"]', names[0], "[]", f"[{names[0]}, {names[0]}]"]
    if kind == "list of 14, 23, 28":
        return ["[14]", "[28, 23, 14]"], ["[19]", "14", "[]", "[14, 14]", '["14"]']
    if kind.startswith("duration"):
        assert span
        low, high = (f'"{span[index]}{span[index + 1]}"' for index in (1, 3))
        unit = {"s": 1, "min": 60, "h": 3600, "d": 86400}
        below, above = float(span[1]) * unit[span[2]] - 0.05, float(span[3]) * unit[span[4]] + 0.5
        refused = [f'"{above}s"', '"soon"', "true"]
        return [low, high], [*refused, f'"{below}s"'] if below > 0 else refused
    if kind.startswith("number"):
        assert span
        return [span[1], span[3]], [str(int(span[1]) - 1), str(int(span[3]) + 1), "1.5", "true", '"1"']
    if kind.startswith("hexadecimal"):
        assert span
        most = int(span[3])
        return ['""', f'"{"00" * most}"', '"00 01"'], [f'"{"00" * (most + 1)}"', '"0"', '"zz"', "1"]
    if kind == "true or false":
        return ["true", "false"], ["1", '"true"']
    known: dict[str, tuple[list[str], list[str]]] = {
        "file": (['"a b.pem"'], ["1", '""', '["x"]']),
        "file, or PKCS#11 URI": (
            ['"a b.pem"', '"pkcs11:token=a;id=%01?module-path=/lib/x.so"'],
            ["1", '""', '["x"]', '"pkcs11:token=a"', '"pkcs11:tocken=a?module-path=/lib/x.so"'],
        ),
        "variable": (['"FASTSEC_PIN"'], ["1", '""', '"A=B"', '"a b"', '"1A"']),
        "directory": (['"/var/lib/x"'], ["1", '""']),
        "word": (['"gw-1.example"'], ["1", '""', '"two words"', '"\u00fc"']),
        "string": (['"some text"'], ["1", '""']),
        "list of files": (['["a.pem", "b.pem"]'], ['"a.pem"', "[1]", '["a.pem", "a.pem"]']),
        "identity": (['"1.1.1.999.7:12"'], ['"1.1.1.999.7"', '"cc"', "12"]),
        'list of identities, or `"any"`': (['["1.1.1.999.7:12", "1.1.1.999.8:1"]', '"any"'], ["[]", '"all"', "[1]"]),
        'list of certificates, or `"any"`': (
            ['["subject:CN=x", "sha256:' + "ab" * 32 + '"]', '"any"'],
            ["[]", '"all"', '["x"]', '["sha256:ab"]'],
        ),
        "address": (['"127.0.0.1:3783"', '"[::1]:3783"', '"localhost:1"'], ['"127.0.0.1"', "102", '"::1:102"']),
        "list of ranges": (['["10.0.0.0/8", "fe80::/10"]', '["10.1.2.3"]'], ['"10.0.0.0/8"', '["10.0.0.1/8"]']),
        "list of URLs": (['["http://pki.example.org/root.crl"]', "[]"], ['"http://a/"', '["https://a/"]', "[1]"]),
        "list of strings": (['["North", "Süd 1"]', "[]"], ['"North"', '[""]', "[1]", '["a", "a"]']),
        "list of hosts": (
            ['["pki.example.org:8080", "*.example.org"]', '["*"]', '["[::1]:80", "::1"]', "[]"],
            ['"a"', '["a b"]', '["http://a/"]', '["a:0"]', "[1]"],
        ),
        "OID": (['"1.0.9506.1.1"'], ['"mms"', "1.0", '"1"']),
        "list of rights": (['["READVALUES", "CONTROL:A1LD0/XCBR?$CO"]', "[]"], ['"CONTROL"', '["ALL"]', "[1]"]),
        "`true`, `false`, or a name": (["true", "false"], ["1", '"no such"']),
        "`false`, or a table": (["false"], ["1", '"no"']),
        "table": (["{}"], ["1", "true"]),
    }
    if kind in known:
        return known[kind]
    assert len(names) > 1, f"unknown type {kind}"
    return names, ['"no such"', "1", f"[{names[0]}]"]


@pytest.mark.parametrize("key", KEYS, ids=lambda key: f"{key.table}{key.name}")
def test_types_and_limits_are_those_of_the_code(key: Key) -> None:
    if key.name == "password_file":
        return_of_missing = complaints(file_with(key.table, 'password_file = "no such file"\n'))
        assert "cannot be read" in return_of_missing or key.table in ("[identity]", "[tls]")
    good, bad = values_of(key.kind)
    if key.name not in ("role", "dial", "password_file"):  # these need other keys, or a file
        for value in good:
            assert accepted(key, value), value
    for value in bad:
        assert not accepted(key, value), value


def test_role_and_dial_take_what_is_documented() -> None:
    for route in (CLIENT, CLIENT_IN, SERVER, SERVER_OUT):
        assert not complaints(HEAD + "[[route]]\n" + route)


def test_the_matrix_is_that_of_the_code() -> None:
    (block,) = re.findall(r"```\n( +dial = \"out\".*?)```", TEXT, re.S)
    rows = {role: block[block.index(f'role = "{role}"') :].splitlines()[:3] for role in ("client", "server")}
    for role in ("client", "server"):
        for dial, column in (("out", slice(22, 68)), ("in", slice(68, None))):
            shown = set(
                re.findall(r"\b(far_listen|far_connect|listen|connect)\b", "\n".join(r[column] for r in rows[role]))
            )
            message = complaints(HEAD + f'[[route]]\nrole = "{role}"\ndial = "{dial}"\npeers = "any"\n')
            assert set(re.findall(r"lacks (\w*listen|\w*connect):", message)) == shown
            assert len(shown) == 2
            spare = complaints(HEAD + f'[[route]]\nrole = "{role}"\ndial = "{dial}"\nspare = 1\nlisten = "[::1]:1"\n'
                               'connect = "[::1]:2"\nfar_listen = "[::1]:3"\nfar_connect = "[::1]:4"\n')  # fmt: skip
            assert ("spare has no meaning" not in spare) == any("spare" in row[column] for row in rows[role])


# --- examples ---------------------------------------------------------------------------------------------------------
def examples() -> list[str]:
    """The files of each TOML block; where two stand side by side, the right one is in the comments."""
    found = []
    for block in re.findall(r"```toml\n(.*?)```", TEXT, re.S):
        found.append("\n".join(line.split("#")[0].rstrip() for line in block.splitlines()))
        right = "\n".join(line.split("#")[1].strip() if "#" in line else "" for line in block.splitlines())
        if "[[route]]" in right:
            found.append("\n".join(line for line in right.splitlines() if line[:1] == "[" or " = " in line))
    return found


def test_examples_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "bay4.password").write_text("secret\n", encoding="utf-8")
    assert len(examples()) == 5
    for text in examples():
        body = text if "[identity]" in text else HEAD + text
        assert tomllib.loads(body)["route"]
        assert settings.parse(body, tmp_path / "x.toml").routes


# --- log and limits ---------------------------------------------------------------------------------------------------
def test_the_log_speaks_like_this() -> None:
    (block,) = re.findall(r"```log\n(.*?)```", TEXT, re.S)
    source = (ROOT / "src/fastsec/gateway/bridge.py").read_text(encoding="utf-8")
    seen = 0
    for line in block.splitlines():
        fields = dict(part.split("=", 1) for part in shlex.split(line))
        if "event" in fields:
            group, _, number = fields["event"].removeprefix(f"{DOMAIN_E2E}:").partition(".")
            params = {name[2:]: value for name, value in fields.items() if name.startswith("p_")}
            happened = event(DOMAIN_E2E, int(group), int(number), peer=fields["peer"], **params)
            assert words.describe(happened) == fields["msg"]
            assert (happened.mnemonic, happened.severity) == (fields["mnemonic"], fields["level"])
        elif "expires" in fields["msg"]:
            now = time.time()
            expiry = Expiry("the end-to-end certificate", Path("der.e2e.pem"), now + 7 * DAY)
            assert expiry.warning(now) == (fields["level"], fields["msg"])
        else:
            assert f'self.log.{fields["level"]}("{fields["msg"]}"' in source
        seen += 1
    assert seen == 6


def test_limits_are_those_of_the_code() -> None:
    rows = dict(re.findall(r"^\| (.+?) \| (.+?) \|$", TEXT[TEXT.index("### Limits") :], re.M))
    first = {name: int(match[1]) for name, text in rows.items() if (match := re.match(r"(\d+)\b", text))}
    assert list(first.values()) == [
        limits.OUR_MMS_PDU_MAX,
        limits.SPEC_CERTIFICATE_MAX,
        limits.SPEC_CONNECT_USER_DATA_MAX,
        limits.SPEC_CLOCK_SKEW // 60,
        limits.OUR_ASSO_NUMBERS,
        limits.OUR_HALF_OPEN_MAX,
        60,
        settings.FILE_MAX >> 20,
    ]
