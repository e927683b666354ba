"""HTML made of escaped text: what comes from a run folder can't become markup."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


class Html(str):
    """Text that is markup already; every other string is escaped where it is put in."""

    __slots__ = ()


def element(tag: str, *children: Any, **attributes: Any) -> Html:
    """``<tag attributes>children</tag>``.

    Args:
        children: ``Html`` stays as it is, None is left out, everything else is escaped.
        attributes: ``class_`` is ``class``, ``aria_label`` is ``aria-label``; None and False are
            left out, True has no value.
    """
    written = []
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        name = name.rstrip("_").replace("_", "-")
        written.append(f" {name}" if value is True else f' {name}="{html.escape(str(value))}"')
    start = f"<{tag}{''.join(written)}>"
    return Html(start if tag in ("input", "meta", "br") else f"{start}{joined(*children)}</{tag}>")


def joined(*parts: Any) -> Html:
    """Parts one after another, escaped unless they are ``Html``."""
    return Html("".join(p if isinstance(p, Html) else html.escape(str(p))
                        for p in parts if p is not None))  # fmt: skip


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], caption: str = "") -> Html:
    """A table whose first column names the rows; numbers stand right, and a click sorts them.

    A cell is a number, text, or both: ``(0.5, "0.500 (0.03)")``.
    """
    head = element("tr", *(element("th", name, scope="col") for name in columns))
    body = [
        element("tr", element("th", row[0], scope="row"), *(_cell(value) for value in row[1:]))
        for row in rows
    ]
    inside = [element("caption", caption)] if caption else []
    inside += [element("thead", head), element("tbody", *body)]
    return element("div", element("table", *inside), class_="scroll", tabindex="0",
                   role="region", aria_label=caption or columns[0])  # fmt: skip


def _cell(value: Any) -> Html:
    if isinstance(value, tuple):  # what sorts it, and how it is written
        return element("td", value[1], class_="number", data_value=value[0])
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return element("td", figure(value), class_="number", data_value=value)
    return element("td", value)


def figure(value: Any) -> str:
    """A number in a few digits; a dash where there is none."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"  # noqa: RUF001 -- a dash
    if isinstance(value, int):
        return f"{value:,}"
    if value != 0 and (abs(value) < 0.001 or abs(value) >= 1e6):
        return f"{value:.2e}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3f}"


def embedded(data: Any, name: str) -> Html:
    """JSON for a script of the page, found by its id; no text in it can end the element."""
    text = json.dumps(_finite(data), separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Html(f'<script type="application/json" id="{html.escape(name)}">{text}</script>')


def _finite(value: Any) -> Any:
    """Null for numbers that are not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
