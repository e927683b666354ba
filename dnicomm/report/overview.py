"""The top of the page: what ran and what came out, in one sentence and one picture."""

from __future__ import annotations

from collections.abc import Sequence

from dnicomm.report.markup import element, figure
from dnicomm.report.page import Page
from dnicomm.report.reading import RunView, differs_in, number, part

FEEDBACK = {
    "synthetic": "senders learn from utility models",
    "none": "senders learn nothing from receivers",
    "exact": "senders wait for true gradients",
    "mixed": "senders learn from both",
}
COLORS = {"synthetic": "blue", "none": "grey", "exact": "green", "mixed": "purple"}


def add_overview(page: Page, view: RunView, others: Sequence[RunView]) -> None:
    """Add the section, with what was reached beside other feedback of the same sweep."""
    beside = compared(view, others)
    parts = [element("p", _sentence(view, beside), class_="lead")]
    if view.result is not None and view.figure is not None:
        rows = _rows(view, beside)
        if len(rows) > 1:
            spec = {"title": f"{view.figure} at the end", "x": view.figure, "rows": rows}
            said = ", ".join(f"{row['name']} {figure(_mean(row['values']))}" for row in rows)
            parts.append(page.picture(
                "dots", spec, f"{view.figure} side by side: {said}",
                "A row a kind of feedback or method, a dot a run of the same sweep (they differ in "
                "their seeds), the number their mean.",
            ))  # fmt: skip
        elif len(view.metrics) > 1:
            times = [record.get("time") for record in view.metrics]
            values = [number(part(record, "metrics").get(view.figure)) for record in view.metrics]
            series = [{"name": view.figure, "x": times, "y": values}]
            label = "updates" if view.is_bench else "world time"
            spec = {"title": view.figure, "x": label, "series": series}
            parts.append(page.picture(
                "lines", spec, f"{view.figure} over {label}, ending at {figure(view.result)}"
            ))  # fmt: skip
    page.section("Result", *parts)


def compared(view: RunView, others: Sequence[RunView]) -> list[RunView]:
    """Runs of the same sweep that differ in nothing but feedback or method, and seed."""
    but = ("feedback", "feedback_share", "method", "seed")
    return [o for o in others if o.figure == view.figure and o.result is not None
            and not differs_in(view.config, o.config, but)]  # fmt: skip


def of_other_seeds(view: RunView, others: Sequence[RunView]) -> list[RunView]:
    """Runs of the same sweep that differ in nothing but their seed."""
    return [o for o in others if not differs_in(view.config, o.config, ("seed",))]


def _rows(view: RunView, beside: Sequence[RunView]) -> list[dict[str, object]]:
    """A row a condition, this run's own first."""
    grouped: dict[str, list[float]] = {view.condition: []}
    for run in [view, *beside]:
        assert run.result is not None
        grouped.setdefault(run.condition, []).append(run.result)
    own = view.condition
    return [{"name": name, "values": values, "color": COLORS.get(name, "orange"),
             "own": name == own} for name, values in grouped.items()]  # fmt: skip


def _sentence(view: RunView, beside: Sequence[RunView]) -> str:
    if view.result is None or view.figure is None:
        return "Nothing has been measured yet."
    what = view.about or "the run"
    agents = number(view.summary.get("num_agents"))
    if agents is None and part(view.last, "agents"):
        agents = len(part(view.last, "agents"))
    if agents is not None:
        what += f" with {agents:.0f} agent{'s' * (agents != 1)}"
    feedback = view.choice("feedback")
    if feedback in FEEDBACK and part(view.last, "channels"):
        what += f", feedback {feedback} ({FEEDBACK[feedback]})"
    unit = "updates" if view.is_bench else "units of world time"
    last = view.metrics[-1].get("time") if view.metrics else None
    when = number(last) if last is not None else number(view.summary.get("steps"))
    goal = number(view.config.get("steps"))
    of = f" of {goal:,.0f}" if goal and view.state != "ended" and not view.is_bench else ""
    after = f" after {when:,.0f}{of} {unit}" if when is not None else ""
    sentence = f"{what}: {view.figure} {figure(view.result)}{after}"
    if view.state != "ended":
        sentence += " so far"
    return f"{_capital(sentence)}{_beside(beside, view.condition)}."


def _beside(beside: Sequence[RunView], own: str) -> str:
    """``; in the same sweep none reached 0.5 and exact 0.9``."""
    found: dict[str, list[float]] = {}
    for run in beside:
        if run.condition != own and run.result is not None:
            found.setdefault(run.condition, []).append(run.result)
    said = [f"{name} {figure(_mean(values))}" for name, values in found.items()]
    if len(said) > 1:
        said[-2:] = [f"{said[-2]} and {said[-1]}"]
    return f"; in the same sweep {', '.join(said)}" if said else ""


def _mean(values: object) -> float:
    assert isinstance(values, list)
    return float(sum(values) / len(values))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
