"""How the run can be had again: command, configuration, versions, seed."""

from __future__ import annotations

import shlex

import yaml

from dnicomm.report.markup import element
from dnicomm.report.page import Page
from dnicomm.report.reading import RunView, number, part

NOTES = ("choices", "overrides", "bench")  # beside the configuration itself


def add_configuration(page: Page, view: RunView) -> None:
    """Add the section."""
    if not view.config:
        return
    own = {key: value for key, value in view.config.items() if key not in NOTES}
    text = yaml.safe_dump(own, sort_keys=False, allow_unicode=True, default_flow_style=None)
    facts = [["seed", str(view.config.get("seed", "–"))]]  # noqa: RUF001
    facts += [[key, str(view.summary[key])] for key in ("device", "threads") if key in view.summary]
    taken = number(view.summary.get("wall_s", view.summary.get("seconds")))
    facts += [] if taken is None else [["time taken", f"{taken:,.1f} s"]]
    lines = view.summary.get("fallbacks")
    facts += [["not as asked", str(line)] for line in (lines if isinstance(lines, list) else ())]
    facts += [[key, str(value)] for key, value in part(view.summary, "versions").items()]
    page.section(
        "Repeat it",
        element("p", "The exact command (the same versions give the same numbers):"),
        element("pre", command(view), tabindex="0"),
        element("dl", *(element("div", element("dt", name), element("dd", value))
                        for name, value in facts), class_="facts"),
        element("details", element("summary", "the whole configuration"),
                element("pre", text, tabindex="0")),
        name="repeat",
    )  # fmt: skip


def command(view: RunView) -> str:
    """What to type to have the run again."""
    overrides = view.config.get("overrides")
    typed = [str(word) for word in overrides] if isinstance(overrides, list) else []
    begin = ["dnicomm", "bench", view.choice("bench")] if view.is_bench else ["dnicomm", "run"]
    return shlex.join(begin + typed)
