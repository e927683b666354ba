"""One self-contained page: a shell with style and scripts inside, sections, and pictures.

A page loads nothing. Its policy (CSP) allows the scripts that it was written with, by their
hashes, and no others. Pictures are drawn in the browser from JSON that stands beside them::

    page = Page("a run", "what it is about")
    page.section("Curves", chart_controls(), page.picture("lines", {...}, alt="accuracy rises"))
    path.write_text(page.render())
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from dnicomm.report.markup import Html, element, embedded, joined

# a kind of picture -> the script that draws it; page.js is on every page
DRAWN_BY = {
    "lines": "lines.js",
    "dots": "dots.js",
    "timeline": "timeline.js",
    "play": "play.js",
    "scatter": "scatter.js",
}
NEEDS = {"timeline.js": ("recording.js",), "play.js": ("recording.js",)}


class Page:
    """Sections under a heading, with a table of contents.

    Args:
        title: of the page and its heading.
        subtitle: a line below it.
    """

    def __init__(self, title: str, subtitle: str = "") -> None:
        self.title, self.subtitle = title, subtitle
        self.top: list[Html] = []
        self._sections: list[tuple[str, str, Html]] = []
        self._data: list[Html] = []
        self._scripts = ["page.js"]

    def section(self, title: str, *parts: Any, name: str | None = None) -> None:
        """Add a section; parts that are no ``Html`` are escaped, None is left out."""
        name = name or "-".join("".join(c if c.isalnum() else " " for c in title.lower()).split())
        heading = element("h2", title, id=f"{name}-heading")
        body = joined(heading, *parts)
        labelled = f"{name}-heading"
        self._sections.append((
            name, title, element("section", body, id=name, aria_labelledby=labelled)
        ))  # fmt: skip

    def data(self, value: Any, name: str) -> None:
        """JSON that several pictures share."""
        self._data.append(embedded(value, name))

    def picture(
        self, kind: str, spec: Mapping[str, Any], alt: str, caption: Any = None, class_: str = ""
    ) -> Html:
        """A picture of a kind of ``DRAWN_BY``.

        Args:
            spec: what its script reads.
            alt: the picture in words.
            caption: text or ``Html`` below it.
        """
        for script in (*NEEDS.get(DRAWN_BY[kind], ()), DRAWN_BY[kind]):
            if script not in self._scripts:
                self._scripts.append(script)
        name = f"picture-{len(self._data)}"
        self._data.append(embedded({**spec, "alt": alt}, name))
        below = None if caption is None else element("figcaption", caption)
        drawn = element("div", class_="drawn")
        return element("figure", drawn, below, class_=f"picture {kind} {class_}".strip(),
                       data_kind=kind, data_source=name)  # fmt: skip

    def render(self, live: bool = False) -> str:
        """The whole page.

        Args:
            live: whether it is served, and asks its server whether there is something new.
        """
        style = _asset("style.css")
        scripts = [_asset(name) for name in self._scripts + ["live.js"] * live]
        allowed = " ".join(f"'sha256-{_hash(script)}'" for script in scripts)
        asks = "'self'" if live else "'none'"
        policy = (
            f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
            f"connect-src {asks}; base-uri 'none'; form-action 'none'"
        )
        contents = element(
            "nav",
            element("ul", *(element("li", element("a", title, href=f"#{name}"))
                            for name, title, _ in self._sections)),
            aria_label="Contents",
        )  # fmt: skip
        theme = element("button", "dark", type="button", id="theme", aria_pressed="false",
                        title="light or dark")  # fmt: skip
        heading = element(
            "header", element("div", element("h1", self.title), theme, class_="heading"),
            element("p", self.subtitle, class_="subtitle") if self.subtitle else None,
            contents,
        )  # fmt: skip
        noscript = element("noscript", element("p", "Pictures need JavaScript; tables don't."))
        body = joined(
            element("a", "Skip to the content", href="#content", class_="skip"),
            heading,
            element("main", noscript, *self.top, *(body for _, _, body in self._sections),
                    id="content"),
            element("div", id="tip", role="status", hidden=True),
            *self._data,
            *(Html(f"<script>{script}</script>") for script in scripts),
        )  # fmt: skip
        head = joined(
            element("meta", charset="utf-8"),
            Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("title", self.title),
            Html(f"<style>{style}</style>"),
        )
        return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{body}</body></html>\n'


def chart_controls() -> Html:
    """Smoothing and logarithmic axes of the ``lines`` in the same section."""
    return element(
        "div",
        element("label", "smoothing ", element("input", type="range", min=0, max=0.95, step=0.05,
                                               value=0, data_control="smoothing")),
        element("label", element("input", type="checkbox", data_control="logx"), " log x"),
        element("label", element("input", type="checkbox", data_control="logy"), " log y"),
        class_="controls",
    )  # fmt: skip


def _asset(name: str) -> str:
    return (files("dnicomm.report") / "assets" / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
