"""Learning curves: metrics of the whole, loss and reward of each agent."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from dnicomm.report.markup import Html
from dnicomm.report.overview import of_other_seeds
from dnicomm.report.page import Page, chart_controls
from dnicomm.report.reading import RunView, names, series

MOST_POINTS = 500  # of one curve
MOST_LINES = 8  # in one picture; of more there is the middle one, the spread and the outermost
# metrics of an experiment that are about what its utility models say
OF_INTERFACES = re.compile(r"(cosine|relative_error|norm_ratio)(_(\d+))?")
AGENT = {"loss": "loss of each agent", "reward": "reward of each agent, per unit of time"}


def add_curves(page: Page, view: RunView, others: Sequence[RunView]) -> None:
    """Add the section, if anything was evaluated."""
    if not view.metrics:
        return
    seeds = [run for run in of_other_seeds(view, others) if run.metrics]
    found_names = [name for name in names(view, "metrics") if not OF_INTERFACES.fullmatch(name)]
    pictures = [_metric(page, view, seeds, group) for group in _groups(found_names)]
    for key, title in AGENT.items():
        found = many(view, ("agents",), key)
        if found:
            pictures.append(lines(page, title, view, found))
    note = f"Bands show the lowest and highest of {len(seeds) + 1} seeds, lines their mean. " \
        if seeds else ""  # fmt: skip
    page.section(
        "Learning curves",
        chart_controls(),
        Html(f'<div class="grid">{"".join(pictures)}</div>'),
        Html(f'<p class="note">{note}Point at a curve, or focus it and use the arrow keys, to read '
             "values; a click in the legend hides a curve.</p>"),
    )  # fmt: skip


def lines(
    page: Page,
    title: str,
    view: RunView,
    found: Sequence[dict[str, Any]],
    guide: float | None = None,
) -> Html:
    """A picture of several curves over the run's time."""
    over = "updates" if view.is_bench else "world time"
    ends = [f"{s['name']} {_last(s['y'])}" for s in found[:MOST_LINES]]
    spec: dict[str, Any] = {"title": title, "x": over, "series": list(found)}
    if guide is not None:
        spec["guide"] = guide
    return page.picture("lines", spec, f"{title} over {over}; at the end: {', '.join(ends)}")


def many(view: RunView, where: Sequence[str], key: str) -> list[dict[str, Any]]:
    """A curve for each agent or channel; of very many, the middle, the spread and the outermost."""
    curves = []
    for name in names(view, *where):
        x, y = series(view, *where, name, key)
        if any(value is not None for value in y):
            curves.append({"name": name, **thinned(x, y)})
    if len(curves) <= MOST_LINES:
        return curves
    return _summed_up(curves)


def thinned(x: Sequence[float], *rows: Sequence[float | None], names_: Sequence[str] = ("y",)
            ) -> dict[str, list[Any]]:  # fmt: skip
    """At most ``MOST_POINTS`` of a curve's points, evenly chosen, the last one among them."""
    step = -(-len(x) // MOST_POINTS)
    kept = range((len(x) - 1) % step if step else 0, len(x), step) if x else range(0)
    return {"x": [x[i] for i in kept]} | {
        name: [_short(row[i]) for i in kept] for name, row in zip(names_, rows, strict=True)
    }


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


def _groups(found: Sequence[str]) -> list[list[str]]:
    """Metrics that belong into one picture: a test's and the training's, those of all layers."""
    groups: dict[str, list[str]] = {}
    for name in found:
        base = re.sub(r"_\d+$", "", name.removeprefix("train_"))
        groups.setdefault(base, []).append(name)
    return list(groups.values())


def _metric(page: Page, view: RunView, seeds: Sequence[RunView], group: Sequence[str]) -> Html:
    test_and_training = set(group) == {group[0], f"train_{group[0]}"}
    found = []
    for name in group:
        label = name
        if test_and_training:
            label = "training" if name.startswith("train_") else "test"
        curve = _over_seeds([view, *seeds], name)
        if any(value is not None for value in curve["y"]):
            found.append({"name": label, **curve})
    return lines(page, group[0], view, found)


def _over_seeds(runs: Sequence[RunView], name: str) -> dict[str, list[Any]]:
    """One curve, or the mean and the span of several at the times that they have in common."""
    curves = [dict(zip(*series(run, "metrics", name), strict=True)) for run in runs]
    if len(curves) == 1:
        return thinned(list(curves[0]), list(curves[0].values()))
    times = sorted(set(curves[0]).intersection(*curves[1:]))

    def over(fold: Callable[[list[float]], float]) -> list[float | None]:
        at = [[v for c in curves if (v := c[time]) is not None] for time in times]
        return [fold(values) if values else None for values in at]

    mean = over(lambda values: sum(values) / len(values))
    return thinned(times, mean, over(min), over(max), names_=("y", "low", "high"))


def _summed_up(curves: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The median with its span, and the two lowest and highest at the end, by name."""
    x = max((c["x"] for c in curves), key=len)
    at = [dict(zip(c["x"], c["y"], strict=True)) for c in curves]
    columns = [sorted(v for c in at if (v := c.get(time)) is not None) for time in x]
    middle = {
        "name": f"median of {len(curves)}",
        "x": x,
        "y": [c[len(c) // 2] if c else None for c in columns],
        "low": [c[0] if c else None for c in columns],
        "high": [c[-1] if c else None for c in columns],
    }
    ordered = sorted(curves, key=lambda c: _end(c["y"]))
    return [middle, *({**c, "thin": True} for c in [*ordered[:2], *ordered[-2:]])]


def _end(values: Sequence[float | None]) -> float:
    return next((v for v in reversed(values) if v is not None), 0.0)


def _last(values: Sequence[float | None]) -> str:
    found = next((v for v in reversed(values) if v is not None), None)
    return "nothing" if found is None else f"{found:.3g}"
