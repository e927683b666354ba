"""Is the feedback any good? What each channel's utility model says, beside what came out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from dnicomm.report.curves import OF_INTERFACES, lines, many, thinned
from dnicomm.report.markup import Html, element, figure, table
from dnicomm.report.page import Page, chart_controls
from dnicomm.report.reading import RunView, names, number, part, series

CURVES = {  # of a channel -> title, and a line to compare with
    "cosine": ("cosine with the true gradient", 0.0),
    "relative_error": ("relative error (1: no better than zero)", 1.0),
    "age": ("age of messages when read", None),
    "share_read": ("share of messages that were read", None),
}
COLUMNS = {
    "cosine": "cosine",
    "relative_error": "relative error",
    "synthetic_norm": "synthetic norm",
    "target_norm": "true norm",
    "age": "age",
    "unread": "never read",
    "lost": "lost",
    "settled": "messages",
}
MOST_WARNINGS = 12
MOST_ROWS = 300  # of the table


def add_feedback(page: Page, view: RunView) -> None:
    """Add the section, where the run has channels."""
    channels = part(view.last, "channels")
    if not channels:
        _add_interfaces(page, view)
        return
    warnings = complaints(channels, view.choice("feedback"))
    pictures = []
    for key, (title, guide) in CURVES.items():
        found = many(view, ("channels",), key)
        if found:
            pictures.append(lines(page, title, view, found, guide))
    pictures += _norms(page, view)
    page.section(
        "Is the feedback any good?",
        element("p", _verdict(channels)),
        _listed(warnings),
        chart_controls() if pictures else None,
        Html(f'<div class="grid">{"".join(pictures)}</div>') if pictures else None,
        _table(view, channels),
        name="feedback",
    )


def _add_interfaces(page: Page, view: RunView) -> None:
    """The same for an experiment: what its metrics say of the interfaces between layers."""
    found: dict[str, dict[str, float]] = {}
    pictures: dict[str, list[dict[str, Any]]] = {}
    for name in names(view, "metrics"):
        match = OF_INTERFACES.fullmatch(name)
        if match is None:
            continue
        which = f"interface {match[3]}" if match[3] else "all interfaces"
        x, y = series(view, "metrics", name)
        pictures.setdefault(match[1], []).append({"name": which, **thinned(x, y)})
        value = number(part(view.last, "metrics").get(name))
        if value is not None and (match[3] or which not in found):
            found.setdefault(which, {})[match[1]] = value
    if not pictures:
        return
    apart = {name: of for name, of in found.items() if name != "all interfaces"} or found
    titles = {"cosine": CURVES["cosine"], "relative_error": CURVES["relative_error"],
              "norm_ratio": ("norm of synthetic to true gradients", 1.0)}  # fmt: skip
    drawn = [lines(page, titles[key][0], view, of, titles[key][1]) for key, of in pictures.items()]
    page.section(
        "Is the feedback any good?",
        element("p", _verdict(apart, "interface")),
        _listed(complaints(apart, "synthetic")),
        chart_controls(),
        Html(f'<div class="grid">{"".join(drawn)}</div>'),
        name="feedback",
    )


def complaints(channels: Mapping[str, Any], feedback: str) -> list[str]:
    """Channels whose utility model is worse than one that says zero, in words, the worst first."""
    found = []
    for name, of in channels.items():
        error = number(of.get("relative_error")) if isinstance(of, dict) else None
        if error is not None and error > 1:
            found.append((error, name, number(of.get("cosine"))))
    use = {
        "synthetic": "what senders are told holds more error than truth",
        "mixed": "what it adds to the true gradient holds more error than truth",
    }.get(feedback, "senders don't learn from it in this run")
    said = []
    for error, name, cosine in sorted(found, reverse=True):
        direction = ""
        if cosine is not None:
            direction = (
                f"; its direction still carries something (cosine {figure(cosine)}): scaled down, "
                "it would be nearer to the truth than zero is"
                if cosine > 0.1 else f"; not even its direction is right (cosine {figure(cosine)})"
            )  # fmt: skip
        said.append(
            f"{name}: the utility model is worse than zero. Its relative error is "
            f"{figure(error)}, a model that always says zero has 1; {use}{direction}."
        )
    return said


def _verdict(channels: Mapping[str, Any], what: str = "channel") -> str:
    cosines = _values(channels, "cosine")
    errors = _values(channels, "relative_error")
    if not cosines:
        return f"No {what} has a synthetic gradient that could be compared with a true one."
    good = sum(error < 1 for error in errors)
    count = len(errors)
    return (
        f"On {good} of {count} {what}{'s' * (count != 1)} the utility model foresees true "
        f"gradients better than saying zero would; the cosine with them is "
        f"{figure(min(cosines))} to {figure(max(cosines))}."
    )


def _listed(warnings: list[str]) -> Html | None:
    if not warnings:
        return None
    shown = [element("li", line) for line in warnings[:MOST_WARNINGS]]
    if len(warnings) > MOST_WARNINGS:
        shown.append(element("li", f"and {len(warnings) - MOST_WARNINGS} more channels, below."))
    return element("ul", *shown, class_="warnings", aria_label="Warnings")


def _norms(page: Page, view: RunView) -> list[Html]:
    """What was injected against what was true: two curves, means over the channels."""
    factor, label = _injected(view)
    times, injected, true = [], [], []
    for record in view.metrics:
        of = part(record, "channels")
        said, found = _values(of, "synthetic_norm"), _values(of, "target_norm")
        if said and found and number(record.get("time")) is not None:
            times.append(record["time"])
            injected.append(factor * sum(said) / len(said))
            true.append(sum(found) / len(found))
    if not times:
        return []
    curves = [
        {"name": label, **thinned(times, injected)},
        {"name": "true", **thinned(times, true), "color": "true"},
    ]
    return [lines(page, "norms of gradients, mean of channels", view, curves)]


def _injected(view: RunView) -> tuple[float, str]:
    """What a synthetic gradient is multiplied by before its sender gets it; words for that."""
    scale = number(view.config.get("gradient_scale"))
    factor = 1.0 if scale is None else scale
    if view.choice("feedback") == "mixed":
        factor *= 1 - (number(view.config.get("feedback_share")) or 0.0)
    if view.choice("feedback") not in ("synthetic", "mixed"):
        return 1.0, "synthetic (nothing is injected)"
    return factor, f"injected: synthetic times {factor:g}"


def _table(view: RunView, channels: Mapping[str, Any]) -> Html:
    rows: list[list[Any]] = []
    lost = _lost(view)
    for name, of in channels.items():
        if not isinstance(of, dict):
            continue
        read = number(of.get("share_read"))
        figures = {**of, "unread": None if read is None else 1 - read, "lost": lost.get(name)}
        rows.append([name, *(number(figures.get(key)) for key in COLUMNS)])
    caption = "Since the evaluation before the last; losses of all that was recorded"
    if len(rows) > MOST_ROWS:
        caption += f"; the {MOST_ROWS} of {len(rows):,} channels with the largest error"
        at = 1 + list(COLUMNS).index("relative_error")
        rows = sorted(rows, key=lambda row: row[at] or 0.0, reverse=True)[:MOST_ROWS]
    there = [0, *(i for i in range(1, len(COLUMNS) + 1) if any(r[i] is not None for r in rows))]
    titles = ["channel", *COLUMNS.values()]
    return table([titles[i] for i in there], [[row[i] for i in there] for row in rows], caption)


def _lost(view: RunView) -> dict[str, float]:
    """The share of messages that were lost on the way, by channel, of those recorded."""
    sent, lost = Counter[str](), Counter[str]()
    for recording in view.recordings:
        known = [f"{a}->{b}" for a, b in recording.facts["edges"]]
        channels, fates = recording.columns["message.channel"], recording.columns["message.lost"]
        sent.update(known[channel] for channel in channels)
        lost.update(known[channel] for channel in channels[fates == 1])
    return {name: lost[name] / count for name, count in sent.items()}


def _values(channels: Mapping[str, Any], key: str) -> list[float]:
    found = [number(of.get(key)) for of in channels.values() if isinstance(of, dict)]
    return [value for value in found if value is not None]
