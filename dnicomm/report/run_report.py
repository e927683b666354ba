"""``report.html``: everything about one run on one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dnicomm.errors import UserError
from dnicomm.report.configuration import add_configuration
from dnicomm.report.curves import add_curves
from dnicomm.report.episodes import add_episodes
from dnicomm.report.feedback import add_feedback
from dnicomm.report.markup import element
from dnicomm.report.messages import add_messages
from dnicomm.report.overview import add_overview
from dnicomm.report.page import Page
from dnicomm.report.reading import RunView, read_run, siblings
from dnicomm.report.trace import write_trace
from dnicomm.runs.atomic import write_text

REPORT = "report.html"
STATE = {"ended": "ended", "running": "still running", "stopped": "not ended"}


def report(view: RunView, others: Sequence[RunView] = (), live: bool = False) -> str:
    """The page of a run.

    Args:
        others: runs of the same sweep, to show beside it.
        live: whether it is served while the run goes on.
    """
    page = Page(view.path.absolute().name, _subtitle(view))
    notices = [*view.missing, *_warnings(view)]
    if notices:
        items = [element("li", line) for line in notices]
        page.top.append(element("ul", *items, class_="warnings", aria_label="Warnings"))
    add_overview(page, view, others)
    add_curves(page, view, others)
    add_episodes(page, view)
    add_feedback(page, view)
    add_messages(page, view)
    add_configuration(page, view)
    return page.render(live)


def write_report(path: Path, beside: bool = True) -> Path:
    """Write the page, and the trace if there is one, into the run's folder; where the page is.

    Args:
        beside: whether to look for other runs of the same sweep.

    Raises:
        UserError: if there is nothing of a run there.
    """
    view = read_run(path)
    return _write(view, siblings(view) if beside else [])


def write_reports(sweep: Path) -> None:
    """Write the pages of all runs of a sweep, each with the others beside it."""
    views = []
    for path in sorted(sweep.iterdir()):
        if (path / "config.yaml").is_file():
            try:
                views.append(read_run(path))
            except UserError:  # it says so itself when it is asked for
                continue
    for view in views:
        _write(view, [other for other in views if other is not view])


def _write(view: RunView, others: Sequence[RunView]) -> Path:
    target = view.path / REPORT
    write_text(target, report(view, others))
    write_trace(view)
    return target


def _warnings(view: RunView) -> list[str]:
    """What the last evaluation warned of."""
    found = view.last.get("warnings")
    return [line for line in found if isinstance(line, str)] if isinstance(found, list) else []


def _subtitle(view: RunView) -> str:
    parts = [
        view.about,
        f"method {view.condition}" if view.is_bench else None,
        f"feedback {view.choice('feedback')}" if view.choice("feedback") else None,
        f"seed {view.config['seed']}" if "seed" in view.config else None,
        STATE[view.state],
    ]
    return " · ".join(str(part) for part in parts if part)
