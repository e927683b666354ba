"""``comparison.html``: settings side by side on one page."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from dnicomm.report.comparing import Comparison, curve, shown
from dnicomm.report.curves import thinned
from dnicomm.report.markup import Html, element, figure, table
from dnicomm.report.page import Page, chart_controls
from dnicomm.report.reading import names, part
from dnicomm.report.run_report import REPORT

MOST_CURVES = 12  # settings in a picture, the best ones
LONGEST = 36  # letters of a label beside dots
MEANS = (  # over all channels or agents: title, figure, of what
    ("cosine of gradients, mean of channels", "cosine", "channels"),
    ("loss, mean of agents", "loss", "agents"),
)
BANDS = (
    "Lines are means over seeds. Bands are 95 % confidence intervals of the mean (Student's t); of "
    "two seeds, they go from one to the other."
)


def comparison_page(found: Comparison, title: str, target: Path) -> str:
    """The page.

    Args:
        title: of the page.
        target: the folder it will lie in, for links to the runs' own pages.
    """
    count = sum(len(setting.runs) for setting in found.settings)
    page = Page(title, f"{_counted(count, 'run')} in {_counted(len(found.settings), 'setting')}")
    if found.missing:
        items = [element("li", line) for line in found.missing]
        page.top.append(
            element("ul", *items, class_="warnings", aria_label="What is missing")
        )  # fmt: skip
    _add_result(page, found)
    _add_curves(page, found)
    _add_common(page, found)
    _add_runs(page, found, target)
    return page.render()


def _add_result(page: Page, found: Comparison) -> None:
    rows = [{"name": _short(setting.label), "values": values}
            for setting in found.settings[:MOST_CURVES]
            if (values := setting.results(found.metric))]  # fmt: skip
    picture = None
    if rows:
        said = ", ".join(f"{s.label} {shown(s.spread(found.metric))}"
                         for s in found.settings[:MOST_CURVES])  # fmt: skip
        spec = {"title": f"{found.metric} at the end", "x": found.metric, "rows": rows}
        picture = page.picture(
            "dots", spec, f"{found.metric} by setting: {said}",
            "A row a setting, the best first; a dot a run, the number their mean."
            f"{_left_out(found)}",
        )  # fmt: skip
    page.section("Result", element("p", _sentence(found), class_="lead"), picture, _table(found))


def _sentence(found: Comparison) -> str:
    measured = [setting for setting in found.settings if setting.results(found.metric)]
    if not measured:
        return "Nothing has been measured yet."
    direction = "lower" if found.lower_is_better else "higher"
    words = [f"{s.label}: {shown(s.spread(found.metric))}" for s in (measured[0], measured[-1])]
    if len(measured) == 1:
        return f"{found.metric}, {words[0]}: mean ± standard deviation (number of seeds)."
    return (
        f"{found.metric} ({direction} is better): best {words[0]}, worst {words[1]}; "
        "mean ± standard deviation (number of seeds)."
    )


def _table(found: Comparison) -> Html:
    rows: list[list[Any]] = []
    for setting in found.settings:
        reached = setting.spread(found.metric)
        interval = None if reached is None else reached.interval()
        rows.append([
            *(found.cells(setting) or [setting.label]),
            None if reached is None else reached.mean,
            None if reached is None else reached.deviation,
            "" if interval is None else f"{figure(interval[0])} to {figure(interval[1])}",
            len(setting.runs),
            setting.time(),
            setting.state(),
        ])  # fmt: skip
    figures = [found.metric or "result", "±", "95 % interval", "runs", found.over, "state"]
    columns = [*(found.columns or ["setting"]), *figures]
    return table(columns, rows, "What differs between the settings, and what each reached")


def _add_curves(page: Page, found: Comparison) -> None:
    shown_ones = found.settings[:MOST_CURVES]
    every = dict.fromkeys(
        name for s in shown_ones for run in s.runs for name in names(run, "metrics")
    )
    first = [found.metric] if found.metric in every else []
    rest = [n for n in every if n != found.metric]
    ordered = sorted(rest, key=lambda name: name.startswith("train_"))
    pictures = [_lines(page, found, name, {s.label: curve(s, name) for s in shown_ones})
                for name in (*first, *ordered)]  # fmt: skip
    pictures += [_lines(page, found, title, {s.label: curve(s, name, where) for s in shown_ones})
                 for title, name, where in MEANS]  # fmt: skip
    if not any(pictures):
        return
    page.section(
        "Learning curves",
        chart_controls(),
        Html(f'<div class="grid">{"".join(p for p in pictures if p is not None)}</div>'),
        element("p", BANDS + _left_out(found), class_="note"),
    )


def _lines(
    page: Page, found: Comparison, name: str, curves: Mapping[str, dict[str, list[Any]]]
) -> Html | None:
    """A curve a setting; each keeps its colour in all pictures."""
    series, ends = [], []
    for label, at in curves.items():
        rows = [key for key in ("y", "low", "high") if key in at]
        series.append({"name": label, **thinned(at["x"], *(at[key] for key in rows),
                                                names_=tuple(rows))})  # fmt: skip
        ends.append(f"{label} {figure(at['y'][-1] if at['y'] else None)}")
    if not any(value is not None for s in series for value in s["y"]):
        return None
    spec = {"title": name, "x": found.over, "series": series, "legend": True}
    return page.picture("lines", spec, f"{name} over {found.over}; at the end: {', '.join(ends)}")


def _add_common(page: Page, found: Comparison) -> None:
    known = [s.keys for s in found.settings if s.keys]
    if not known:
        return
    common = {key: value for key, value in known[0].items()
              if all(key in keys and keys[key] == value for keys in known)}  # fmt: skip
    text = yaml.safe_dump(common, sort_keys=False, allow_unicode=True, default_flow_style=None)
    page.section(
        "What is the same",
        element("details", element("summary", "what all settings have in common"),
                element("pre", text, tabindex="0")),
        name="same",
    )  # fmt: skip


def _add_runs(page: Page, found: Comparison, target: Path) -> None:
    rows = []
    for setting in found.settings:
        for run in setting.runs:
            name = run.path.absolute().name
            link: Any = name
            if (run.path / REPORT).is_file():
                href = quote(os.path.relpath(run.path / REPORT, target).replace(os.sep, "/"))
                link = element("a", name, href=href)
            value = part(run.last, "metrics").get(found.metric or "")
            rows.append([link, setting.label, run.config.get("seed"), value, run.state])
    page.section("Runs", table(["run", "setting", "seed", found.metric or "result", "state"], rows))


def _short(label: str) -> str:
    """What there is room for beside a row of dots."""
    return label if len(label) <= LONGEST else f"{label[: LONGEST - 1]}…"


def _left_out(found: Comparison) -> str:
    more = len(found.settings) - MOST_CURVES
    return f" {more} more settings are in the table only." if more > 0 else ""


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"
