"""The recorded episodes: a play-by-play, and a timeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnicomm.report.markup import Html, element
from dnicomm.report.page import Page
from dnicomm.report.reading import COLUMNS, RunView
from dnicomm.runs import Recording

MOST_EVENTS = 30_000  # ticks and messages on the page
KEY = (
    ("M1 8H30M30 8l-6 -4v8z", "message", "message, from its sender's tick to its arrival", ""),
    ("M1 8H18M22 4l8 8M22 12l8 -8", "lost", "lost on the way", ""),
    ("M6 8H31M2 8l6 -4v8z", "synthetic", "synthetic gradient, back to the sender at once", "4 3"),
    ("M1 8H26M22 8l5 -5l5 5l-5 5z", "true", "true gradient, once the receiver knows it", "2 3"),
)


def add_episodes(page: Page, view: RunView) -> None:
    """Add the sections, where anything was recorded."""
    chosen = chosen_recordings(view.recordings)
    if not chosen:
        return
    page.data([_embedded(recording) for recording in chosen], "recordings")
    last = chosen[-1]
    agents, edges = last.facts["agents"], last.facts["edges"]
    counts = f"{len(agents)} agents and {len(edges)} channels"
    sent = len(last.columns["message.sent"])
    page.section(
        "Play-by-play",
        _key(("the colour of an agent", "changes with each update of its weights")),
        page.picture(
            "play",
            {},
            f"Animated graph of {counts}; what happens is listed below it in words",
            "Space plays and pauses, ← and → step, + and - change the speed, once the picture has "
            "the focus. What happens at one world time is drawn over a little less than a unit of "
            "it: a synthetic gradient really is there in the very tick in which the message is "
            "sent. Weights change, and true gradients are known, at the end of a window.",
        ),
        name="play",
    )
    page.section(
        "Timeline",
        _key(("a lane", "is an agent, a dot a tick; its colour changes with each update")),
        page.picture(
            "timeline",
            {},
            f"Timeline of {counts}: {len(last.columns['tick.time'])} ticks, {sent} messages, "
            f"{int(last.columns['message.lost'].sum())} of them lost",
            "Drag to move, Ctrl and the wheel (or + and -) to zoom, a click to send the "
            "play-by-play there, a click on a name to see that agent alone. Faint messages were "
            f"never read: a newer one came first, or the episode ended. {sampling(view)}",
        ),
        name="timeline",
    )


def chosen_recordings(recordings: Sequence[Recording], most: int = MOST_EVENTS) -> list[Recording]:
    """As many as there is room for: the last, the first, then the later ones; oldest first."""
    order = [*recordings[-1:], *recordings[:1], *reversed(recordings[1:-1])]
    chosen: dict[int, Recording] = {}
    for recording in order:
        size = len(recording.columns["tick.time"]) + len(recording.columns["message.sent"])
        if size <= most and recording.time not in chosen:
            chosen[recording.time] = recording
            most -= size
    return [chosen[time] for time in sorted(chosen)]


def sampling(view: RunView) -> str:
    """What was recorded of all that happened, in words."""
    last = view.recordings[-1]
    facts = last.facts
    said = (
        f"Recorded is world {facts['world']} of {facts['num_worlds']}, in the last training "
        "episodes before the 1st, 2nd, 4th, 8th … and the last evaluation"
    )
    if len(recordings := view.recordings) > len(chosen_recordings(recordings)):
        said += ", as many as there is room for"
    if facts["until"] < facts["length"]:
        said += f"; of this one the first {facts['until']} of {facts['length']} units of time"
    return said + "."


def _embedded(recording: Recording) -> dict[str, Any]:
    """What the scripts read: columns of numbers, null where there is none."""
    facts = recording.facts
    number = {name: i for i, name in enumerate(facts["agents"])}
    return {
        "title": f"time {facts['began']:,} to {facts['began'] + facts['length']:,}",
        "began": facts["began"],
        "length": facts["length"],
        "until": facts["until"],
        "starts": facts["starts"],
        "true_share": facts["true_share"],
        "agents": facts["agents"],
        "edges": [[number[a], number[b]] for a, b in facts["edges"]],
        "ticks": _columns(recording.columns, "tick"),
        "messages": _columns(recording.columns, "message"),
        "updates": _columns(recording.columns, "update"),
        "rewards": _columns(recording.columns, "reward"),
    }


def _columns(columns: Mapping[str, NDArray[Any]], kind: str) -> dict[str, list[Any]]:
    return {name: _plain(columns[f"{kind}.{name}"]) for name in COLUMNS[kind]}


def _plain(values: NDArray[Any]) -> list[Any]:
    """Whole numbers, or numbers of four digits."""
    if np.issubdtype(values.dtype, np.integer):
        return [int(v) for v in values]
    return [float(f"{v:.4g}") if np.isfinite(v) else None for v in values.tolist()]


def _key(first: tuple[str, str]) -> Html:
    items = [element("li", element("b", first[0]), " ", first[1])]
    for path, color, words, dash in KEY:
        line, _, head = path.partition("M")[2].partition("M")
        drawn = (
            f'<svg viewBox="0 0 34 16" aria-hidden="true" stroke="var(--{color})" '
            f'fill="none" stroke-width="1.6"><path stroke-dasharray="{dash}" d="M{line}"/>'
            f"<path {'' if color == 'lost' else f'fill={chr(34)}var(--{color}){chr(34)} '}"
            f'd="M{head}"/></svg>'
        )
        items.append(element("li", Html(drawn), words))
    return element("ul", *items, class_="key")
