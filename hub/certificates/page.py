"""A certificate as a page to print: one file, no script, nothing loaded from elsewhere. A4."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

_STYLE = """
@page { size: A4; margin: 16mm 14mm; }
body { font: 10pt/1.4 system-ui, "Segoe UI", "Liberation Sans", sans-serif; color: #111; max-width: 182mm;
       margin: 8mm auto; padding: 0 4mm; }
@media print { body { margin: 0; padding: 0; max-width: none; } }
h1 { font-size: 17pt; margin: 0 0 1mm; }
h2 { font-size: 12pt; margin: 7mm 0 2mm; border-bottom: 1px solid #999; break-after: avoid; }
h3 { font-size: 10.5pt; margin: 4mm 0 1mm; break-after: avoid; }
p { margin: 1mm 0; }
table { border-collapse: collapse; width: 100%; font-size: 8.5pt; }
th, td { text-align: left; vertical-align: top; padding: 0.8mm 2mm 0.8mm 0; border-bottom: 1px solid #ddd;
         overflow-wrap: break-word; }
th { font-weight: 600; color: #444; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
tr { break-inside: avoid; }
.state { border: 1px solid; border-radius: 2mm; padding: 2mm 4mm; margin: 4mm 0; }
.final { border-color: #1a7f37; } .waiting { border-color: #9a6700; } .open { border-color: #57606a; }
.state b { text-transform: uppercase; letter-spacing: 0.05em; }
.id { font-family: ui-monospace, "Liberation Mono", monospace; font-size: 8pt; overflow-wrap: anywhere; }
.dim { color: #555; }
"""
_STATES = {
    "open": "The session runs. Nothing here is settled yet.",
    "waiting": "The session has ended. Something that belongs to it may still come.",
    "final": "All agents have said that everything up to the session's end was taken, and all of it is accounted for.",
}


def page_of(document: Mapping[str, Any]) -> str:
    """The page of a certificate with its signature, as JSON has them."""
    certificate, signature = document["certificate"], document["signature"]
    session = certificate["session"]
    title = f"Certificate of completeness: {session['run_name']}, session {session['ordinal_number']}"
    parts = [
        f"<h1>Certificate of completeness</h1><p>{_text(_place(session))}</p>",
        _state(certificate),
        _waits(certificate["waits"]),
        _session(certificate),
        _totals(certificate["totals"]),
        _sensors(certificate["sensors"]),
        _missing(certificate["sensors"]),
        _agents(certificate["agents"]),
        _retention(certificate["retention"]),
        _signature(certificate, signature),
    ]
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{_text(title)}</title>'
    return (
        f'<!doctype html><html lang="en"><head>{head}<style>{_STYLE}</style></head><body>{"".join(parts)}</body></html>'
    )


def _text(value: object) -> str:
    return escape("–" if value is None or value == "" else str(value))


def _moment(value: str | None) -> str:
    return "–" if value is None else value.replace("T", " ").replace("Z", " UTC")


def _number(value: int) -> str:
    return f"{value:,}".replace(",", "\u202f")


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; columns whose head begins with `#` hold numbers."""
    kinds = [' class="n"' if head.startswith("#") else "" for head in heads]
    head = "".join(f"<th{kind}>{escape(one.lstrip('#'))}</th>" for kind, one in zip(kinds, heads, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{_cell(one)}</td>" for kind, one in zip(kinds, row, strict=True)) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: object) -> str:
    return _number(value) if isinstance(value, int) else _text(value)


def _place(session: Mapping[str, Any]) -> str:
    return (
        f"{session['project_name']} · {session['experiment_name']} · {session['run_name']} · "
        f"session {session['ordinal_number']}"
    )


def _state(certificate: Mapping[str, Any]) -> str:
    state = certificate["state"]
    number = f", version {certificate['version']}" if certificate["version"] else ""
    totals = certificate["totals"]
    loose = totals["unexplained_readings"] + totals["unexplained_batches"]
    verdict = "Nothing is unexplained." if not loose else "Something is unexplained: see the totals."
    made = _moment(certificate["made_at"])
    return (
        f'<div class="state {_text(state)}"><b>{_text(state)}</b>{_text(number)}<p>{_text(_STATES[state])} '
        f'{_text(verdict)}</p><p class="dim">Made {_text(made)} by {_text(certificate["hub"])}</p></div>'
    )


def _waits(waits: Sequence[Mapping[str, Any]]) -> str:
    if not waits:
        return ""
    rows = [
        (one["agent_name"], one["epoch"][:8], _seqs(one["seqs"]), _moment(one["through"]), one["detail"])
        for one in waits
    ]
    return "<h2>Waits for</h2>" + _table(("agent", "epoch", "batches", "through", "what"), rows)


def _session(certificate: Mapping[str, Any]) -> str:
    session = certificate["session"]
    facts = [
        ("status", session["status"]),
        ("from", _moment(session["started_at"])),
        ("to", _moment(session["stopped_at"])),
        ("late data of agents", session["late_agents"]),
        ("late posts", session["late_posts"]),
        ("session", session["id"]),
        ("run", session["run_id"]),
    ]
    return "<h2>Session</h2>" + _table(("fact", ""), facts)


_COUNTS = ("#taken", "#stored", "#of these held", "#repeated", "#set aside")


def _counts(tally: Mapping[str, Any]) -> tuple[int, ...]:
    aside = sum(tally["set_aside"].values())
    return (tally["taken"], tally["stored"], tally["held"], tally["repeated"], aside)


def _totals(totals: Mapping[str, Any]) -> str:
    rows = [("delivered by agents", *_counts(totals["agents"])), ("posted", *_counts(totals["posts"]))]
    rest = [
        ("missing, with a cause", totals["missing"]),
        ("gap records that cannot say how many, once a sensor", totals["missing_uncounted"]),
        ("dropped by retention", totals["dropped_by_retention"]),
        ("unexplained readings", totals["unexplained_readings"]),
        ("unexplained batches", totals["unexplained_batches"]),
    ]
    note = '<p class="dim">Taken is stored, repeated and set aside. Nobody vouches for what was never posted.</p>'
    return "<h2>Totals</h2>" + _table(("", *_COUNTS), rows) + note + _table(("", "#readings"), rest)


def _sensors(sensors: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (one["name"], way, *_counts(one[key]), _reasons(one[key]["set_aside"]))
        for one in sensors
        for way, key in (("agents", "agents"), ("posts", "posts"))
        if key == "agents" or one["posts"]["taken"]
    ]
    times = [
        (one["name"], _moment(one["first_at"]), _moment(one["last_at"]), _profiles(one["profiles"])) for one in sensors
    ]
    first = _table(("sensor", "from", *_COUNTS, "reasons"), rows)
    return f"<h2>Sensors</h2>{first}<h3>Times and profiles</h3>" + _table(
        ("sensor", "first reading", "last reading", "converted with"), times
    )


def _reasons(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {readings}" for name, readings in reasons.items())


def _profiles(profiles: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{one['version'] or 'no profile'}: {one['readings']}" for one in profiles)


def _missing(sensors: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            sensor["name"],
            one["cause"] + (" (reaches beyond the session)" if one["reaches_beyond"] else ""),
            one["gaps"],
            one["readings"],
            one["uncounted"],
            f"{_moment(one['time_from'])} – {_moment(one['time_to'])}",
        )
        for sensor in sensors
        for one in sensor["missing"]
    ]
    if not rows:
        return ""
    heads = ("sensor", "cause", "#records", "#readings", "#without a count", "time")
    return "<h2>Missing</h2>" + _table(heads, rows)


def _agents(agents: Sequence[Mapping[str, Any]]) -> str:
    return "".join(_agent(agent) for agent in agents)


def _agent(agent: Mapping[str, Any]) -> str:
    epochs = [
        (
            one["epoch"][:8],
            f"{one['seqs']['first']}–{one['seqs']['last']}",
            _moment(one["taken_through"]),
            one["stored"],
            one["present"],
            _seqs(one["unexplained"]),
            one["closed_reason"],
        )
        for one in agent["epochs"]
    ]
    clocks = [
        (one["epoch"][:8], clock["segment"], clock["basis"], _us(clock["correction_us"]), _us(clock["uncertainty_us"]))
        for one in agent["epochs"]
        for clock in one["clock"]
    ]
    heads = ("epoch", "batches", "taken through", "#stored", "#present", "unexplained", "closed because")
    title = f'<h2>Agent {_text(agent["name"])}</h2><p class="id">{_text(agent["agent_id"])}</p>'
    segments = _table(("epoch", "#segment", "basis", "#correction", "#uncertainty"), clocks) if clocks else ""
    return title + _table(heads, epochs) + ("<h3>Clock</h3>" + segments if segments else "")


def _us(value: int | None) -> str:
    return "–" if value is None else f"{_number(value)} µs"


def _seqs(ranges: Sequence[Mapping[str, int]]) -> str:
    return ", ".join(
        str(one["first"]) if one["first"] == one["last"] else f"{one['first']}–{one['last']}" for one in ranges[:20]
    ) + (" …" if len(ranges) > 20 else "")


def _retention(ranges: Sequence[Mapping[str, str]]) -> str:
    if not ranges:
        return ""
    rows = [(_moment(one["time_from"]), _moment(one["time_to"]), _moment(one["dropped_at"])) for one in ranges]
    return "<h2>Dropped by retention</h2>" + _table(("from", "to", "dropped"), rows)


def _signature(certificate: Mapping[str, Any], signature: Mapping[str, str]) -> str:
    return (
        f'<h2>Signature</h2><p class="id">{_text(signature["algorithm"])} · key {_text(signature["key_id"])} · '
        f'{_text(signature["value"])}</p><p class="dim">Of the certificate as JSON ({_text(certificate["format"])}); '
        "save that and check it with <code>labrelay verify FILE</code>.</p>"
    )
