"""``trace.json``: the recorded episodes for Perfetto (https://ui.perfetto.dev), chrome://tracing.

The trace-event format of Chrome: a process of agents, a thread an agent; ticks, updates and
arrivals as slices, messages as flows between them, gradients and losses on the way as instants; and
a process of metrics, as counters. One unit of world time is one millisecond.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dnicomm.report.episodes import chosen_recordings, sampling
from dnicomm.report.reading import RunView, number, part
from dnicomm.runs import Recording
from dnicomm.runs.atomic import replacing

TRACE = "trace.json"
MOST_EVENTS = 10_000  # ticks and messages
UNIT = 1000  # microseconds a unit of world time
AGENTS, METRICS = 1, 2  # processes
ARRIVED, TICK, UPDATE = -300, 0, 550  # microseconds after a time, and how long each slice is
LONG = {"arrived": 200, "tick": 500, "update": 100}
Event = dict[str, Any]


def write_trace(view: RunView) -> Path | None:
    """Write the trace into the run's folder; where it is, None where nothing was recorded."""
    found = trace(view)
    if found is None:
        return None
    target = view.path / TRACE
    with replacing(target) as temporary, temporary.open("w", encoding="utf-8") as file:
        json.dump(found, file, separators=(",", ":"), allow_nan=False)
    return target


def trace(view: RunView) -> dict[str, Any] | None:
    """The trace as JSON; None where nothing was recorded."""
    chosen = chosen_recordings(view.recordings, MOST_EVENTS)
    if not chosen:
        return None
    events = [_named("process_name", AGENTS, 0, "agents"), *_counters(view)]
    for place, name in enumerate(chosen[-1].facts["agents"]):
        events.append(_named("thread_name", AGENTS, place, name))
        order = {"name": "thread_sort_index", "ph": "M", "pid": AGENTS, "tid": place}
        events.append({**order, "args": {"sort_index": place}})
    for recording in chosen:
        events += _ticks(recording)
        events += _messages(recording)
        events += _updates(recording)
    return {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {
            "run": view.path.absolute().name,
            "unit": "one millisecond is one unit of world time",
            "sampling": sampling(view),
            "recorded": [r.facts["began"] for r in chosen],
        },
    }


def _ticks(recording: Recording) -> Iterator[Event]:
    names = ("time", "agent", "action", "label")
    for time, agent, action, label in _rows(recording, "tick", names):
        known = {"action": action, "label": label}
        args = {name: int(value) for name, value in known.items() if value >= 0}
        yield _slice("tick", agent, _at(recording, time) + TICK, args)


def _updates(recording: Recording) -> Iterator[Event]:
    for time, agent in _rows(recording, "update", ("time", "agent")):
        yield _slice("update", agent, _at(recording, time) + UPDATE, {})


def _messages(recording: Recording) -> Iterator[Event]:
    facts = recording.facts
    agents, place = facts["agents"], {name: i for i, name in enumerate(facts["agents"])}
    names = ("channel", "sent", "arrival", "lost", "settled", "reads",
             "injected", "target", "cosine", "error")  # fmt: skip
    for i, row in enumerate(_rows(recording, "message", names)):
        of = dict(zip(names, row, strict=True))
        sender, receiver = (place[name] for name in facts["edges"][int(of["channel"])])
        sent = _at(recording, of["sent"])
        channel = {"from": agents[sender], "to": agents[receiver]}
        if of["injected"] > 0:  # not of one that is not a number
            norm = {"norm": _short(of["injected"])}
            yield _instant("synthetic gradient", sender, sent + 100, channel | norm)
        if of["lost"] == 1:
            yield _instant("message lost", sender, sent + 200, channel)
        elif not of["lost"]:
            arrived = _at(recording, of["arrival"]) + ARRIVED
            yield _slice("arrived", receiver, arrived, {**channel, "sent": int(of["sent"])})
            flow = {"name": "message", "cat": "message", "pid": AGENTS,
                    "id": f"{facts['began']}.{i}"}  # fmt: skip
            yield {**flow, "ph": "s", "tid": sender, "ts": sent}
            yield {**flow, "ph": "f", "bp": "e", "tid": receiver, "ts": arrived}
        if of["settled"] >= 0 and of["reads"] > 0:
            known = {name: _short(of[name]) for name in ("target", "cosine", "error")
                     if math.isfinite(of[name])}  # fmt: skip
            after = _at(recording, of["settled"]) + UPDATE
            yield _instant("true gradient", receiver, after, channel | known)


def _counters(view: RunView) -> Iterator[Event]:
    if view.is_bench:  # evaluated by updates, which are no world time
        return
    yield _named("process_name", METRICS, 0, "metrics")
    for record in view.metrics:
        time = number(record.get("time"))
        for name, value in part(record, "metrics").items():
            if number(value) is not None and time is not None:
                at = {"pid": METRICS, "tid": 0, "ts": time * UNIT}
                yield {"name": name, "ph": "C", **at, "args": {name: value}}


def _rows(recording: Recording, kind: str, names: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
    return zip(*(recording.columns[f"{kind}.{name}"].tolist() for name in names), strict=True)


def _at(recording: Recording, time: float) -> int:
    """Microseconds of a time of the episode."""
    return int(recording.facts["began"] + time) * UNIT


def _slice(name: str, agent: float, at: int, args: Event) -> Event:
    place = {"pid": AGENTS, "tid": int(agent), "ts": at, "dur": LONG[name]}
    return {"name": name, "cat": name, "ph": "X", **place, "args": args}


def _instant(name: str, agent: int, at: int, args: Event) -> Event:
    place = {"pid": AGENTS, "tid": agent, "ts": at}
    return {"name": name, "cat": name, "ph": "i", "s": "t", **place, "args": args}


def _named(kind: str, process: int, thread: int, name: str) -> Event:
    return {"name": kind, "ph": "M", "pid": process, "tid": thread, "args": {"name": name}}


def _short(value: float) -> float:
    return float(f"{value:.4g}")
