"""Records as text for people. All that came from a peer has been made printable before (``words.printable``)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Record = dict[str, Any]


def lines(record: Record) -> Iterator[str]:
    """The lines of one record."""
    kind = record["type"]
    if kind == "damage":
        yield f"DAMAGED  {record['where']}: {record['why']}"
    elif kind == "end":
        counts = ", ".join(f"{name} {count}" for name, count in record["counts"].items())
        yield f"PDUs {record['pdus']}; {counts}"
    else:
        yield from _pdu(record)


def _pdu(record: Record) -> Iterator[str]:
    yield " ".join(_head(record))
    layers = record.get("layers")
    if layers:
        yield "    " + " | ".join(_layers(layers))
        acse = layers.get("acse", {})
        for which in ("calling", "called", "responding"):
            if which in acse:
                yield f"    {which:<11} {_title(acse[which])}"
        if "a_profile" in acse:
            yield f"    {'A-profile':<11} {_a_profile(acse['a_profile'])}"
    if "secpdu" in record:
        yield from _secpdu(record["secpdu"])
    for name in ("mms", "data"):
        if name in record:
            about = record[name]
            title = "MMS in clear, without end-to-end security" if name == "mms" else "data"
            shown = f" {about['kind']}" if "kind" in about else ""
            yield f"    {title}:{shown}, {about['octets']} octets"
            if "hex" in about:
                yield f"      {about['hex']}"
    for one in record["anomalies"]:
        at = f" ({one['at']})" if one.get("at") else ""
        yield f"    ! {one['severity']} {one['event']} {one['mnemonic']}: {one['text']}{at}"


def _head(record: Record) -> Iterator[str]:
    yield f"#{record['pdu']}"
    if "connection" in record:
        yield f" {record['time'] or 'time unknown'}  {record['from']} -> {record['to']} "
        yield f"connection {record['connection']}, frame {record['frame']}"
    if "octet" in record:
        yield f" octet {record['octet']}"
    if "from_side" in record:
        yield f" from the {record['from_side']}"


def _layers(layers: Record) -> Iterator[str]:
    tpkt, cotp, session = layers.get("tpkt", {}), layers.get("cotp", {}), layers.get("session", {})
    count = f"{tpkt['count']} TPKTs, " if tpkt.get("count", 1) > 1 else "TPKT "
    yield f"{count}{tpkt.get('octets', 0)} octets"
    if cotp:
        more = "".join(
            f", {name} {cotp[name]}" for name in ("tpdu_size", "text", "cause") if cotp.get(name) is not None
        )
        yield f"COTP {cotp['tpdu']}{more}"
    if session:
        yield f"session {session['spdu']}" + (f", {session['reason']}" if "reason" in session else "")
    shown = layers.get("presentation")
    if shown:
        parts = [shown["ppdu"]]
        if "contexts" in shown:
            parts.append("contexts " + " ".join(f"{one['id']}={one['name']}" for one in shown["contexts"]))
        if "results" in shown:
            parts.append(f"results {' '.join(map(str, shown['results']))}")
        parts += [f"context {one['context']}" for one in shown.get("user_data", ())]
        if "reason" in shown:
            parts.append(shown["reason"])
        yield "presentation " + ", ".join(parts)
    acse = layers.get("acse")
    if acse:
        words = [acse["apdu"]] + ([acse["context_name"], acse["context"]] if "context" in acse else [])
        yield " ".join([*words, *(str(acse[name]) for name in ("result", "diagnostic", "source") if name in acse)])


def _a_profile(about: Record) -> str:
    words = [about["subject"]] if "subject" in about else []
    words += [f"{name} {about[name]}" for name in ("time", "signature") if name in about]
    return ", ".join(words + ([f"malformed: {about['fault']}"] if "fault" in about else []))


def _title(title: Record) -> str:
    return f"{title['ap_title'] or '-'}:{'-' if title['ae_qualifier'] is None else title['ae_qualifier']}"


def _secpdu(about: Record) -> Iterator[str]:
    kind = about["kind"] + (f" or {about['or']}" if "or" in about else "")
    notes = [f"{about['octets']} octets"]
    notes += [f"mode {about['mode']}"] if "mode" in about else []
    notes += ["malformed"] if about.get("malformed") else []
    notes += ["guessed: its presentation context was not seen"] if about.get("guessed") else []
    yield f"    {kind}, {', '.join(notes)}"
    if "pp" in about:
        yield f"      {'pp':<11} {about['pp']}"
    for token in ("token1", "token2", "token3"):
        for name, value in about.get(token, {}).items():
            yield f"      {name:<11} {_value(name, value)}"
    if "diag" in about:
        diag = about["diag"]
        yield f"      {'diag':<11} " + ("none: an alarm" if diag is None else f"{diag['number']} {diag['name']}")
    if "certificate" in about:
        yield from _certificate("certificate", about["certificate"])
        for one in about["certPath"]:
            yield from _certificate("certPath", one)
    if "signature" in about:
        signature = about["signature"]
        verdict = {True: "verifies", False: "DOES NOT VERIFY", None: "not verified: no usable certificate"}
        yield (
            f"      {'signature':<11} {signature['algorithm']['name']}, {signature['octets']} octets, "
            f"{verdict[signature['verifies']]}"
        )
    if "opened" in about:
        opened = about["opened"]
        if opened["icv"] == "verified":
            text = f"ICV verified, {opened['mode']}, key of the {opened['from']}, epoch {opened['epoch']}"
        else:
            text = ("ICV WRONG: " if opened["icv"] == "wrong" else "not opened: ") + opened["problem"]
        yield f"      {'opened':<11} {text}"
    if "applData" in about:
        appl = about["applData"]
        yield f"      {'applData':<11} MMS {appl['mms']}, {appl['octets']} octets"
        if "hex" in appl:
            yield f"        {appl['hex']}"


def _value(name: str, value: Any) -> str:
    if name == "encr_mode":
        return "; ".join(f"{which}: {', '.join(map(_algorithm, entries))}" for which, entries in value.items())
    if name in ("sigAlg", "hmac"):
        return _algorithm(value)
    if name == "dhKey":
        return ", ".join(map(_group, value))
    if name == "rekey":
        return _group(value)
    if name == "auth":
        nonce = f", nonce {value['nonce']}" if "nonce" in value else ""
        return f"{_algorithm(value['algorithm'])}, ICV {value['icv']} ({value['icv_octets']} octets){nonce}"
    if name == "applData_octets":
        return f"{value} octets"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "absent" if value is None else str(value)


def _algorithm(value: Record) -> str:
    name = value["oid"] if value["name"] == "unknown" else value["name"]
    return f"{name} (ICV {value['icv_octets']})" if "icv_octets" in value else str(name)


def _group(value: Record) -> str:
    return f"group {value['group']} {value['name']}, {value['octets']} octets"


def _certificate(label: str, about: Record) -> Iterator[str]:
    if "problem" in about:
        yield f"      {label:<11} {about['octets']} octets, not usable: {about['problem']}"
        return
    yield f"      {label:<11} {about['subject']}, issued by {about['issuer']}, serial {about['serial']}"
    usage = ", ".join(about["key_usage"]) or "none stated"
    yield f"      {'':<11} {about['key']}, {about['not_before']} .. {about['not_after']}, usage {usage}"
