"""What the messages say: a projection of a sample of them, and the metrics of communication."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnicomm.report.markup import Html, element, figure, table
from dnicomm.report.page import Page
from dnicomm.report.reading import RunView, number, part
from dnicomm.runs import Recording

METRICS = {  # of a channel -> the heading above it
    "messages_per_time": "messages a unit of time",
    "share_read": "read",
    "positive_signalling": "positive signalling",
    "speaker_consistency": "speaker consistency",
    "topographic_similarity": "topographic similarity",
    "positional_disentanglement": "positional",
    "bag_of_symbols_disentanglement": "bag of symbols",
    "context_independence": "context independence",
    "instantaneous_coordination": "coordination",
    "causal_influence": "causal influence",
}


def add_messages(page: Page, view: RunView) -> None:
    """Add the section, where messages were sampled or communication was measured."""
    parts = [_projection(page, view.recordings), *_metrics(view)]
    if any(part is not None for part in parts):
        page.section("What the messages say", *parts, name="messages")


def project(vectors: NDArray[Any]) -> tuple[NDArray[Any], list[float]]:
    """The first two principal components.

    Args:
        vectors: ``[n, D]``.

    Returns:
        ``[n, 2]``, each component's sign such that its largest number is positive, and their shares
        of the variance.
    """
    centred = vectors.astype(np.float64) - vectors.mean(0)
    _, scales, axes = np.linalg.svd(centred, full_matrices=False)
    axes = np.concatenate([axes, np.zeros((2, axes.shape[1]))])[:2]
    signs = np.sign(axes[range(2), np.abs(axes).argmax(1)])
    total = float((scales**2).sum())
    shares = [float(s**2 / total) if total > 0 else 0.0 for s in [*scales[:2], 0.0, 0.0][:2]]
    return centred @ (axes * signs[:, None]).T, shares


def _projection(page: Page, recordings: Sequence[Recording]) -> Html | None:
    sampled = [r for r in recordings if "vector.value" in r.columns]
    if not sampled:
        return None
    edges = sampled[-1].facts["edges"]
    channels = sorted({int(c) for r in sampled for c in np.unique(r.columns["vector.channel"])})
    groups = []
    for when, recording in enumerate(sampled):
        for place, channel in enumerate(channels):
            columns = recording.columns
            own = columns["vector.channel"] == channel
            vectors = columns["vector.value"][own]
            if len(vectors) < 3 or not np.isfinite(vectors).all():
                continue
            points, shares = project(vectors)
            groups.append({
                "channel": place, "time": when, "shares": shares,
                "x": _rounded(points[:, 0]), "y": _rounded(points[:, 1]),
                "label": _rounded(columns["vector.label"][own]),
                "sent": [int(t) for t in columns["vector.sent"][own]],
            })  # fmt: skip
    if not groups:
        return None
    label = str(sampled[-1].facts["label"])
    names = [f"{edges[c][0]} → {edges[c][1]}" for c in channels]
    spec = {"groups": groups, "channels": names, "label": label,
            "times": [r.time for r in sampled]}  # fmt: skip
    left_out = len(edges) - len(channels)
    more = f" The other {left_out} channels are not sampled." if left_out else ""
    what = "what their sender did" if label == "action" else f"their {label}"
    return page.picture(
        "scatter", spec, f"Messages of {len(channels)} channels as points, coloured by {what}",
        f"A point a message, coloured by {what} (whole numbers are drawn as themselves): up to 150 "
        "of each channel and recording, from all worlds, on their first two principal components "
        f"(each channel and time has its own).{more}",
    )  # fmt: skip


def _rounded(values: NDArray[Any]) -> list[float | int | None]:
    found: list[float | int | None] = []
    for v in values.tolist():
        rounded = float(f"{v:.4g}") if np.isfinite(v) else None
        whole = rounded is not None and rounded == int(rounded)
        found.append(int(rounded) if whole and rounded is not None else rounded)
    return found


def _metrics(view: RunView) -> list[Html | None]:
    channels = part(view.communication, "channels")
    if not channels:
        if not part(view.last, "channels"):
            return []
        said = "What is said and whether anybody listens was not measured. To measure it: "
        name = shlex.quote(view.path.absolute().name)  # where it lies is nobody else's business
        command = element("code", f"dnicomm eval {name} --keep")
        return [element("p", said, command, class_="note")]
    there = {key: title for key, title in METRICS.items()
             if any(_value(of, key) is not None for of in channels.values())}  # fmt: skip
    rows = [[name, *(_cell(of, key) for key in there)] for name, of in channels.items()]
    parts: list[Html | None] = [
        element("h3", "Metrics of communication"),
        table(["channel", *there.values()], rows),
        element("p", "Information in nats. In brackets: what chance exceeds in one case of twenty, "
                "with the messages dealt to others at random; what is not above it is no finding.",
                class_="note"),
    ]  # fmt: skip
    ablation = part(view.communication, "ablation")
    if ablation:
        parts += [element("h3", "Channels silenced"), _ablation(ablation)]
    return parts


def _ablation(found: Mapping[str, Any]) -> Html:
    rows = []
    silenced = {"all channels": part(found, "all"), **part(found, "channels")}
    for name, of in silenced.items():
        for score, on in part(found, "on").items():
            zeroed, shuffled = (part(of, kind).get(score) if isinstance(of, dict) else None
                                for kind in ("zeroed", "shuffled"))  # fmt: skip
            rows.append([name, score, number(on), number(zeroed), number(shuffled)])
    return table(["silenced", "score", "on", "zeroed", "shuffled"], rows)


def _value(of: Any, key: str) -> float | None:
    found = of.get(key) if isinstance(of, dict) else None
    return number(found.get("value")) if isinstance(found, dict) else number(found)


def _cell(of: Any, key: str) -> Any:
    found = of.get(key) if isinstance(of, dict) else None
    value = _value(of, key)
    if isinstance(found, dict) and value is not None:
        chance = number(found.get("chance_95"))
        if chance is not None:
            return value, f"{figure(value)} ({chance:.2f})"
    return value
