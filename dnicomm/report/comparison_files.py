"""A comparison for other programs and for a paper: ``comparison.csv`` and ``comparison.png``."""

from __future__ import annotations

import csv
import io
from importlib import import_module
from pathlib import Path
from typing import Any

from dnicomm.report.comparing import Comparison, curve
from dnicomm.report.comparison import MOST_CURVES

# a colour-blind-safe palette (Okabe and Ito, 2008), in the order of the page's
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#b8a900")
DASHES = ("-", "--", ":", "-.")
WIDTH, HEIGHT, LINE, DOTS = 5.0, 3.0, 0.18, 300  # inches; of a line of the legend; dots an inch


def comparison_csv(found: Comparison) -> str:
    """A row a setting, the best first, figures as they are."""
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    figures = ["metric", "mean", "deviation", "low_95", "high_95", "runs", "seeds", "time", "state"]
    writer.writerow(["setting", *found.columns, *figures, "folders"])
    for setting in found.settings:
        reached = setting.spread(found.metric)
        low, high = (reached and reached.interval()) or (None, None)
        cells: list[Any] = [
            setting.label, *found.cells(setting), found.metric,
            reached and reached.mean, reached and reached.deviation, low, high, len(setting.runs),
            " ".join(map(str, setting.seeds())), setting.time(), setting.state(),
            " ".join(str(run.path) for run in setting.runs),
        ]  # fmt: skip
        writer.writerow(["" if cell is None else cell for cell in cells])
    return output.getvalue()


def why_not_drawn() -> str | None:
    """Return why pictures for a paper can't be drawn here, in a few words; None where they can."""
    try:
        import_module("matplotlib.backends.backend_agg")
    except ModuleNotFoundError as error:
        if error.name == "matplotlib":
            return "is not installed here"
        return _said(error)
    except Exception as error:  # of another version, or without a library it needs
        return _said(error)
    return None


def _said(error: Exception) -> str:
    return f"can't be imported here ({type(error).__name__}: {' '.join(str(error).split())})"


def draw_comparison(found: Comparison, target: Path) -> bool:
    """The curves of the metric with their bands, as a PNG; whether there was something to draw."""
    metric = found.metric
    curves = [(s.label, curve(s, metric)) for s in found.settings[:MOST_CURVES]
              if metric is not None]  # fmt: skip
    curves = [(label, at) for label, at in curves if any(y is not None for y in at["y"])]
    if not curves:
        return False
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    side_by_side = 1 if max(len(label) for label, _ in curves) > 30 else 2
    height = HEIGHT + LINE * -(-len(curves) // side_by_side)
    drawing = Figure(figsize=(WIDTH, height), dpi=DOTS, layout="constrained")
    FigureCanvasAgg(drawing)
    axes = drawing.subplots()
    for number, (label, at) in enumerate(curves):
        color, dash = COLORS[number % len(COLORS)], DASHES[number // len(COLORS) % len(DASHES)]
        there = [i for i, y in enumerate(at["y"]) if y is not None]
        x, y = ([at[key][i] for i in there] for key in ("x", "y"))
        marker = "o" if len(x) <= 12 else ""
        axes.plot(x, y, color=color, linestyle=dash, linewidth=1.5, marker=marker, markersize=3,
                  label=_plain(label))  # fmt: skip
        if "low" in at:
            low, high = ([at[key][i] for i in there] for key in ("low", "high"))
            axes.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)
    axes.set_xlabel(found.over)
    axes.set_ylabel(_plain(str(metric)))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    if len(curves) > 1:
        drawing.legend(loc="outside lower center", frameon=False, fontsize="small",
                       ncols=side_by_side)  # fmt: skip
    drawing.savefig(target, format="png")
    return True


def _plain(text: str) -> str:
    """Text in which a dollar is a dollar, and begins no formula."""
    return text.replace("$", r"\$")
