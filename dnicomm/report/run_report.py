"""``report.html``: everything about one run on one page."""

from __future__ import annotations

import os
from pathlib import Path

from dnicomm.report.configuration import add_configuration
from dnicomm.report.curves import add_curves
from dnicomm.report.feedback import add_feedback
from dnicomm.report.markup import Html, element
from dnicomm.report.overview import add_overview
from dnicomm.report.page import Page
from dnicomm.report.reading import RunView, read_run, siblings

REPORT = "report.html"


def report(path: Path, live: bool = False) -> str:
    """The page of the run at ``path``.

    Args:
        live: whether it is served while the run goes on.

    Raises:
        UserError: if there is nothing of a run there.
    """
    view = read_run(path)
    others = siblings(view)
    page = Page(_title(view), _subtitle(view))
    if view.missing:
        page.top.append(_missing(view))
    add_overview(page, view, others)
    add_curves(page, view, others)
    add_feedback(page, view)
    add_configuration(page, view)
    return page.render(live)


def write_report(path: Path) -> Path:
    """Write the page into the run's folder, in place of an earlier one; where it is.

    Raises:
        UserError: if there is nothing of a run there.
    """
    target = path / REPORT
    temporary = target.with_suffix(".html.tmp")
    temporary.write_text(report(path), encoding="utf-8")
    os.replace(temporary, target)  # who reads it finds the old page or the new one
    return target


def _title(view: RunView) -> str:
    return view.path.absolute().name


def _subtitle(view: RunView) -> str:
    words = {"ended": "ended", "running": "still running", "stopped": "not ended"}
    parts = [
        f"bench {view.choice('bench')}" if view.is_bench else view.summary.get("env"),
        f"feedback {view.choice('feedback')}" if view.choice("feedback") else None,
        f"seed {view.config['seed']}" if "seed" in view.config else None,
        words[view.state],
    ]
    return " · ".join(str(part) for part in parts if part)


def _missing(view: RunView) -> Html:
    items = [element("li", line) for line in view.missing]
    return element("ul", *items, class_="warnings", aria_label="What is missing")
