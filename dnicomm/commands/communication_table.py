"""Communication metrics as tables: what is said, what is heard, what becomes of it in silence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from dnicomm.commands.table import figure, plain_table

Figures = Mapping[str, Any]
# a metric -> the heading above it
SAID = {
    "messages_per_time": "messages/time",
    "bits_per_time": "bits/time",
    "share_read": "read",
    "message_entropy": "entropy",
    "positive_signalling": "signalling",
    "speaker_consistency": "consistency",
    "topographic_similarity": "topographic",
    "positional_disentanglement": "positional",
    "bag_of_symbols_disentanglement": "bag",
    "context_independence": "context ind.",
}
HEARD = {
    "age": "age",
    "instantaneous_coordination": "coordination",
    "coordination_given_age": "given age",
    "causal_influence": "influence",
    "forced_entropy": "at most",
    "listening_l1_zeroed": "L1 zeroed",
    "listening_l1_shuffled": "L1 shuffled",
    "listening_kl_zeroed": "KL zeroed",
    "listening_kl_shuffled": "KL shuffled",
}
LEGEND = (
    "information in nats; in brackets what chance exceeds in one case of twenty. docs/metrics.md\n"
    "says what is measured"
)


def print_communication(console: Console, found: Figures) -> None:
    """The tables of an evaluation's communication, or one line where there is none."""
    channels = found["channels"]
    console.print()
    if not channels:
        console.print("no channels: there is no communication to measure")
        return
    tables = [
        _table("said", channels, SAID),
        _table("heard", channels, HEARD),
        _by_age(channels),
        _ablation(found.get("ablation")),
    ]
    for table in tables:
        if table is not None:
            console.print(table)
            console.print()
    console.print(LEGEND, style="dim")
    if found["left_out"]:
        console.print(
            f"{found['left_out']} more channels are not measured; name those to measure with "
            "--channels",
            style="dim",
            soft_wrap=True,
        )


def _table(what: str, channels: Figures, columns: Mapping[str, str]) -> Table | None:
    """A row a channel, and a column for each metric that there is."""
    there = {key: title for key, title in columns.items()
             if any(of.get(key) is not None for of in channels.values())}  # fmt: skip
    return _rows(what, there.values(), channels, lambda of: [_cell(of.get(key)) for key in there])


def _by_age(channels: Figures) -> Table | None:
    """Causal influence against the age of the message."""
    ages = sorted(
        {(group["first"], group["last"] or 0)
         for of in channels.values() for group in of.get("by_age", ())
         if group.get("causal_influence") is not None}
    )  # fmt: skip
    titles = [_age(first, last) for first, last in ages]

    def cells(of: Figures) -> list[str]:
        found = {group["first"]: group.get("causal_influence") for group in of.get("by_age", ())}
        return [_cell(found.get(first)) for first, _ in ages]

    return _rows("influence by age", titles, channels, cells)


def _ablation(found: Figures | None) -> Table | None:
    """Scores with channels silenced: all of them, and each alone."""
    if found is None:
        return None
    table = plain_table("silenced", ["score", "on", "zeroed", "shuffled"])
    rows = {"all channels": found["all"], **found["channels"]}
    if len(found["channels"]) == 1:
        del rows["all channels"]  # the same
    for name, silenced in rows.items():
        for score, on in found["on"].items():
            zeroed, shuffled = (
                None if silenced[kind] is None else silenced[kind].get(score)
                for kind in ("zeroed", "shuffled")
            )
            table.add_row(name, score, _cell(on), _cell(zeroed), _cell(shuffled))
            name = ""
    return table


def _rows(
    what: str, titles: Iterable[str], channels: Figures, cells: Callable[[Figures], list[str]]
) -> Table | None:
    titles = list(titles)
    if not titles:
        return None
    table = plain_table(what, titles)
    for name, of in channels.items():
        table.add_row(name, *cells(of))
    return table


def _cell(value: Any) -> str:
    if not isinstance(value, Mapping):
        return figure(value) if value is None or abs(value) < 1000 else f"{value:,.0f}"
    if value["value"] is None or value["chance_95"] is None:
        return figure(value["value"])
    return f"{figure(value['value'])} ({value['chance_95']:.2f})"


def _age(first: int, last: int) -> str:
    if first == last:
        return str(first)
    return f"{first}-{last}" if last else f"{first} and more"
