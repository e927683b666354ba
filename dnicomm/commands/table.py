"""Tables of what a run reached."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

Figures = Mapping[str, Mapping[str, Any]]
# a channel's or agent's figure -> the heading above it
CHANNEL = {
    "cosine": "cosine",
    "relative_error": "rel. error",
    "share_read": "share read",
    "age": "age",
}
AGENT = {"ticks": "ticks", "updates": "updates", "loss": "loss", "reward": "reward"}
TROUBLE = {
    "skipped_updates": "updates skipped because a gradient was not finite",
    "bad_messages": "messages not sent because they were not finite (since the last evaluation)",
}
LEGEND = (
    "cosine, rel. error: of synthetic gradients, against true ones; share read: of\n"
    "messages sent; age: world time since a message was sent, when it is read"
)
WIDTH = 200
LONGEST = 20  # rows in a table at the end of a run


def screen() -> Console:
    """Where output goes; tables in a file are as wide as they need to be."""
    console = Console(markup=False, emoji=False, highlight=False)  # brackets are brackets
    if not console.is_terminal:
        console.width = WIDTH
    return console


def figure(value: Any) -> str:
    """A number in a few digits."""
    if value is None:
        return "–"  # noqa: RUF001 -- a dash
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3g}" if abs(value) >= 1000 or 0 < abs(value) < 0.001 else f"{value:.3f}"


def headline(record: Mapping[str, Any]) -> list[str]:
    """One evaluation in a few words: metrics, and means over agents and channels."""
    parts = [f"{name} {figure(value)}" for name, value in tested(record["metrics"]).items()]
    for name, figures in (("loss", record["agents"]), ("cosine", record["channels"])):
        value = mean(of[name] for of in figures.values())
        if value is not None:
            parts.append(f"{name} {figure(value)}")
    skipped = sum(of.get("skipped_updates") or 0 for of in record["agents"].values())
    return [*parts, f"skipped updates {skipped:,}"] if skipped else parts


def metrics_line(record: Mapping[str, Any]) -> Text:
    """One evaluation's metrics and when it was, for a live picture."""
    line = Text(f"evaluated at {record['time']:,}:")
    for name, value in tested(record["metrics"]).items():
        line.append(f"   {name} ").append(figure(value), "bold")
    return line


def tested(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics on what nobody was trained on."""
    return {name: value for name, value in metrics.items() if not name.startswith("train_")}


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of what there is."""
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None


def print_result(console: Console, summary: Mapping[str, Any]) -> None:
    """The tables at the end of a run."""
    channels, agents = channels_table(summary["channels"]), agents_table(summary["agents"])
    for table, note in (
        (metrics_table(summary["metrics"]), ""),
        (channels, LEGEND),
        (agents, ""),
    ):
        if table is not None:
            console.print()
            console.print(table)
            if note:
                console.print(note, style="dim")
    for line in (*summary.get("warnings", ()), *troubles(summary["agents"])):
        console.print(line, style="bold yellow", soft_wrap=True)


def troubles(agents: Figures) -> list[str]:
    """What went wrong and was left out, a line an agent and kind."""
    return [
        f"{name}: {of[key]:,} {what}"
        for key, what in TROUBLE.items()
        for name, of in agents.items()
        if of.get(key)
    ]


def metrics_table(metrics: Mapping[str, Any]) -> Table:
    """What was reached, a row a metric."""
    table = plain_table("metric", ["value"])
    for name, value in metrics.items():
        table.add_row(name, Text(figure(value), "bold"))
    return table


def channels_table(channels: Figures, longest: int = LONGEST) -> Table | None:
    """How well each channel's utility model foresaw gradients, and what became of messages."""
    return _figures("channel", channels, CHANNEL, longest)


def agents_table(agents: Figures, longest: int = LONGEST) -> Table | None:
    """What each agent did."""
    return _figures("agent", agents, AGENT, longest)


def _figures(what: str, rows: Figures, columns: Mapping[str, str], longest: int) -> Table | None:
    """A row each, and a column for each figure that there is."""
    there = {key: title for key, title in columns.items()
             if any(of.get(key) is not None for of in rows.values())}  # fmt: skip
    if not rows or not there:
        return None
    table = plain_table(what, list(there.values()))
    for name, of in list(rows.items())[:longest]:
        table.add_row(name, *(figure(of.get(key)) for key in there))
    if len(rows) > longest:
        table.add_row(f"… and {len(rows) - longest} more", *[""] * len(there), style="dim")
    return table


def profile_table(stages: Figures) -> Table:
    """Where the time of training went, the longest stage first."""
    table = plain_table("where the time goes", ["seconds", "share", "calls"])
    for name, of in sorted(stages.items(), key=lambda item: -item[1]["seconds"]):
        table.add_row(name, f"{of['seconds']:.3f}", f"{of['share']:.1%}", figure(of["calls"]))
    return table


def plain_table(what: str, columns: Sequence[str]) -> Table:
    """Names in the first column, figures in the others."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 3, 0, 0))
    table.add_column(what, no_wrap=True, min_width=18)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table
