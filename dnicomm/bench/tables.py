"""The paper's tables, filled with what runs reached: rows and columns as text, for any output."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dnicomm.bench.gathering import COST, Setting, Spread, varying
from dnicomm.bench.published import CERTAINTY, published

NOTHING = "–"  # noqa: RUF001 -- a dash


@dataclass(frozen=True)
class Layout:
    """How an experiment's tables look.

    Args:
        metric: shown; None: the experiment's figure.
        title: above it.
        digits: after the point.
        rows: keys of the rows, in the paper's layout; the others that differ come behind.
        column: key of its columns; None: no such table.
        more: further metrics, and what stands above them.
        note: below its tables.
    """

    metric: str | None = None
    title: str | None = None
    digits: int = 3
    rows: tuple[str, ...] = ()
    column: str | None = None
    more: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


_LAYERS = (
    "layers: hidden ones. By one reading the paper's number counts the head too, so that its value "
    "would stand one row higher."
)
_RECURRENT = ("method.name",)
_NETWORKS = {
    "accuracy_held": "held",
    "accuracy_a": "A",
    "samples_to_90": "digits to 90 %",
    "samples_to_90_held": "held",
    "samples_a_final": "digits to A's final",
}
LAYOUTS: Mapping[str, Layout] = {
    "mnist": Layout("error", "test error %", 2, ("model", "layers"), "method.name", note=_LAYERS),
    "cifar10": Layout("error", "test error %", 2, ("model", "layers"), "method.name", note=_LAYERS),
    "copy": Layout("longest", "longest N", 1, _RECURRENT, "window"),
    "repeat_copy": Layout("longest", "longest sequence", 1, _RECURRENT, "window"),
    "ptb": Layout(
        "test_bits", "test bits per character", 3, _RECURRENT, "window",
        more={"best_valid_bits": "validation bits"},
    ),
    "two_networks": Layout("accuracy", "accuracy of B", 3, ("block",), more=_NETWORKS),
    "clocks": Layout(None, None, 3, ("world", "clock", "rate", "delay", "drop"), "method.name"),
}  # fmt: skip
# method first; as they are shown
HEADINGS = {"method.name": "method", "window": "T", "block": "T"}


@dataclass(frozen=True)
class Table:
    """Cells of text; the first ``names`` columns are names, the others figures."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    names: int
    notes: list[str] = field(default_factory=list)


def tables(settings: Sequence[Setting]) -> list[Table]:
    """For each experiment and budget, the paper's layout if it has one, and a row a setting."""
    groups: dict[tuple[str, str], list[Setting]] = {}
    for setting in sorted(settings, key=_place):
        groups.setdefault((setting.name, setting.budget), []).append(setting)
    found = []
    for group in groups.values():
        if LAYOUTS.get(group[0].name, Layout()).column is not None and len(group) > 1:
            found.append(_as_published(group))
        found.append(_full(group))
    return found


def legend() -> list[str]:
    """What the cells mean."""
    marks = "; ".join(f"[{mark}] {what}" for mark, what in CERTAINTY.items())
    return [
        "mean ± standard deviation of the sample (number of seeds); no ± with one seed.",
        f"published: the paper's value at its own sizes and schedule, and how sure it is: {marks}.",
        "context: what utility models see beside the activation or state. none; label: the "
        "example's own; causal: facts of the past; hindsight: what is only known later.",
        "seconds: of training, by the wall's clock. ms a step: of one thread on the CPU by the "
        "processor's clock, else by the wall's. x backprop: the same relative to backpropagation "
        "(in windows of the same length) measured beside it. MiB: taken by the tensors made in a "
        "step, at most; on a GPU, by all.",
    ]


def context_of(config: Mapping[str, Any]) -> str:
    """What the utility models of a setting see: none, label, causal (…) or hindsight."""
    method = config.get("method", {})
    context = method.get("context")
    if method.get("utility", "") in ("none", None):
        return "none"
    if not isinstance(context, list | tuple):
        return str(context or "none")
    facts = ", ".join(str(fact) for fact in context)
    # between the two networks these learn from the final count
    if "count" in context or method.get("utility") in ("critic", "local"):
        return f"hindsight ({facts})" if facts else "hindsight"
    return f"causal ({facts})" if facts else "none"


def csv_text(settings: Sequence[Setting]) -> str:
    """A row a setting, figures as they are."""
    settings = sorted(settings, key=_place)
    keys = list(dict.fromkeys(key for group in _by_name(settings) for key in _keys(group)))
    fixed = ["experiment", "budget", "method"]
    figures = ["metric", "mean", "deviation", "seeds", "count", "published", "certainty", "context"]
    costs = ["sample", "samples", "updates", "seconds", *COST]
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow([*fixed, *keys, *figures, *costs])
    for setting in settings:
        metric, spread, known = _metric(setting), _spread(setting), published(
            setting.name, setting.config
        )  # fmt: skip
        writer.writerow(
            [
                *(setting.name, setting.budget, setting.method),
                *(_written(setting.keys[key]) if key in setting.keys else "" for key in keys),
                metric,
                *(("", "") if spread is None else (spread.mean, _blank(spread.deviation))),
                " ".join(map(str, setting.seeds())),
                len(setting.runs),
                *(("", "") if known is None else (known.value, known.certainty)),
                context_of(setting.config),
                setting.runs[0].summary["sample"],
                *(setting.mean(key) for key in ("samples", "updates", "seconds")),
                *(_blank(setting.cost(key)) for key in COST),
            ]
        )
    return output.getvalue()


def markdown(found: Sequence[Table], remarks: Sequence[str] = ()) -> str:
    """Tables under headings, and what the cells mean."""
    blocks = []
    for table in found:
        rule = ["---"] * table.names + ["--:"] * (len(table.columns) - table.names)
        lines = [f"### {table.title}", ""]
        lines += [_line(row) for row in (table.columns, rule, *table.rows)]
        blocks += ["\n".join(lines), *table.notes]
    return "\n\n".join([*blocks, *legend(), *remarks]) + "\n"


def _as_published(group: Sequence[Setting]) -> Table:
    """The figure alone, in the paper's rows and columns."""
    layout, differs = _layout(group[0]), varying(group)
    column = layout.column or ""
    behind = [key for key in differs if key not in (*layout.rows, column)]
    # keys of a method that its columns have differ from column to column anyway
    keys = [*layout.rows, *behind]
    columns = list(dict.fromkeys(_written(setting.keys.get(column)) for setting in group))
    if all(name.isdigit() for name in columns):
        columns.sort(key=int)
    cells: dict[tuple[str, ...], dict[str, str]] = {}
    for setting in group:
        row = tuple(_cell(setting, key) for key in keys)
        known = published(setting.name, setting.config)
        text = shown(_spread(setting), layout.digits) + (f", {known}" if known else "")
        cells.setdefault(row, {})[_written(setting.keys.get(column))] = text
    heading = HEADINGS.get(column, column)
    titles = columns if column == "method.name" else [f"{heading}={name}" for name in columns]
    return Table(
        title=f"{_title(group[0])}: {layout.title}; with a mark, the published value",
        columns=[*(HEADINGS.get(key, key) for key in keys), *titles],
        rows=[
            [*row, *(cells[row].get(name, "") for name in columns)]
            for row in sorted(cells, key=_in_order)
        ],
        names=len(keys),
        notes=[layout.note] if layout.note else [],
    )


def _full(group: Sequence[Setting]) -> Table:
    """A row a setting: figure, published value, context and cost."""
    layout = _layout(group[0])
    keys = _keys(group)
    more = {
        metric: title
        for metric, title in layout.more.items()
        if any(setting.spread(metric) is not None for setting in group)
    }
    rows = []
    for setting in group:
        known = published(setting.name, setting.config)
        rows.append(
            [
                setting.method,
                *(_cell(setting, key) for key in keys),
                context_of(setting.config),
                shown(_spread(setting), layout.digits),
                str(known or NOTHING),
                *(shown(setting.spread(m), 0 if "samples" in m else layout.digits) for m in more),
                f"{setting.mean('samples'):,.0f}",
                f"{setting.mean('updates'):,.0f}",
                f"{setting.mean('seconds'):,.0f}",
                *(_number(setting.cost(key)) for key in ("step_ms", "relative_time", "memory_mib")),
            ]
        )
    return Table(
        title=_title(group[0]),
        columns=[
            "method",
            *(HEADINGS.get(key, key) for key in keys),
            "context",
            layout.title or _metric(group[0]),
            "published",
            *more.values(),
            group[0].runs[0].summary["sample"],
            "updates",
            "seconds",
            "ms a step",
            "x backprop",
            "MiB",
        ],
        rows=sorted(rows, key=lambda row: _in_order([*row[1 : 1 + len(keys)], row[0]])),
        names=2 + len(keys),
    )


def _keys(group: Sequence[Setting]) -> list[str]:
    """What tells a group's rows apart beside the method: the paper's keys and all that differ."""
    layout = _layout(group[0])
    always = [key for key in (*layout.rows, layout.column) if key in group[0].keys]
    keys = dict.fromkeys([*always, *varying(group)])
    return [key for key in keys if key is not None and key != "method.name"]


def shown(spread: Spread | None, digits: int) -> str:
    """``2.03 ± 0.05 (3)``."""
    if spread is None:
        return NOTHING
    plus = "" if spread.deviation is None else f" ± {spread.deviation:,.{digits}f}"
    return f"{spread.mean:,.{digits}f}{plus} ({spread.count})"


def _layout(setting: Setting) -> Layout:
    return LAYOUTS.get(setting.name, Layout())


def _metric(setting: Setting) -> str:
    return _layout(setting).metric or str(setting.runs[0].summary["figure"])


def _spread(setting: Setting) -> Spread | None:
    return setting.spread(_metric(setting))


def _title(setting: Setting) -> str:
    return f"{setting.name}, budget {setting.budget}" if setting.budget else setting.name


def _place(setting: Setting) -> tuple[int, str, str]:
    """In the order of the layouts."""
    names = list(LAYOUTS)
    place = names.index(setting.name) if setting.name in names else len(names)
    return place, setting.name, setting.budget


def _by_name(settings: Sequence[Setting]) -> list[list[Setting]]:
    groups: dict[str, list[Setting]] = {}
    for setting in settings:
        groups.setdefault(setting.name, []).append(setting)
    return list(groups.values())


def _cell(setting: Setting, key: str) -> str:
    return _written(setting.keys[key]) if key in setting.keys else ""


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _in_order(row: Sequence[str]) -> list[tuple[int, float, str]]:
    """Numbers by their size, words by the alphabet."""
    order = []
    for cell in row:
        try:
            order.append((0, float(cell), ""))
        except ValueError:
            order.append((1, 0.0, cell))
    return order


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:,.2f}"


def _blank(value: float | None) -> Any:
    return "" if value is None else value


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
