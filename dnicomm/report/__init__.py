"""A run folder as a page to look at. Reads folders through ``dnicomm.runs``; imports no torch."""

from dnicomm.report.markup import Html, element, figure, table
from dnicomm.report.page import Page, chart_controls
from dnicomm.report.reading import RunView, read_run
from dnicomm.report.run_report import REPORT, report, write_report, write_reports

__all__ = [
    "REPORT",
    "Html",
    "Page",
    "RunView",
    "chart_controls",
    "element",
    "figure",
    "read_run",
    "report",
    "table",
    "write_report",
    "write_reports",
]
