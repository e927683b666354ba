"""What pictures of environments are made of: shapes, words, agents, and messages on their way.

Colours tell apart for colour-blind eyes too (Okabe & Ito). Blue is who ticks now, orange a message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dnicomm.sim.world import Flight, Moment

INK, GREY, FAINT, PAPER = "#1f2933", "#66788a", "#c5ced8", "#ffffff"
BLUE, ORANGE, GREEN, RED, PURPLE = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7"
TICKS, MESSAGE = BLUE, ORANGE
CROWD = 60  # messages under way of which each still gets a dot
LEGIBLE = 7  # radius of an agent in which words can be read

_SHARPNESS = 3  # a picture is drawn so much larger, and then made smaller: edges are smooth

Point = tuple[float, float]
Grey = NDArray[np.float32]  # [H, W] in [0, 1]


def mixed(colour: str, other: str, share: float) -> str:
    """``colour`` with a share of ``other`` in it, both ``#rrggbb``."""
    pairs = [(int(colour[i : i + 2], 16), int(other[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(a + share * (b - a)):02x}" for a, b in pairs)


class Canvas:
    """A picture in the making. Lengths are pixels, the origin is the upper left corner.

    Args:
        title: in the upper left corner.
        moment: whose time stands in the upper right one.
        length: of the episode.
    """

    def __init__(self, width: int, height: int, title: str, moment: Moment, length: int) -> None:
        self.width, self.height, self.moment = width, height, moment
        size = (width * _SHARPNESS, height * _SHARPNESS)
        self._image = Image.new("RGB", size, PAPER)
        self._draw = ImageDraw.Draw(self._image)
        self.text(20, 22, title, size=16)
        self.text(width - 20, 22, f"time {moment.time} of {length}", anchor="rm")

    def array(self) -> NDArray[np.uint8]:
        """The picture, ``[height, width, 3]``."""
        return np.asarray(self._image.reduce(_SHARPNESS), dtype=np.uint8).copy()

    # -- shapes -------------------------------------------------------------------------------

    def rectangle(
        self, x: float, y: float, width: float, height: float, fill: str | None = None,
        outline: str | None = None, stroke: float = 1.5, radius: float = 0,
    ) -> None:  # fmt: skip
        """A box whose upper left corner is at ``x``, ``y``."""
        self._draw.rounded_rectangle(
            self._scaled([(x, y), (x + width, y + height)]), radius * _SHARPNESS, fill, outline,
            self._wide(stroke),
        )  # fmt: skip

    def circle(
        self, at: Point, radius: float, fill: str | None = None, outline: str | None = None,
        stroke: float = 1.5,
    ) -> None:  # fmt: skip
        (x, y) = at
        box = self._scaled([(x - radius, y - radius), (x + radius, y + radius)])
        self._draw.ellipse(box, fill, outline, self._wide(stroke))

    def polygon(self, points: Sequence[Point], fill: str) -> None:
        self._draw.polygon(self._scaled(points), fill)

    def line(self, points: Sequence[Point], colour: str, stroke: float = 1.5) -> None:
        self._draw.line(self._scaled(points), colour, self._wide(stroke), joint="curve")

    def dashes(self, start: Point, end: Point, colour: str, stroke: float = 1.5) -> None:
        """A broken line."""
        a, b = np.array(start), np.array(end)
        count = max(int(np.hypot(*(b - a)) // 7), 1)
        for i in range(0, count, 2):
            piece = [tuple(a + (b - a) * (i + part) / count) for part in (0, 1)]
            self.line(piece, colour, stroke)

    def cross(self, at: Point, radius: float, colour: str, stroke: float = 3) -> None:
        (x, y) = at
        for side in (-1, 1):
            ends = [(x - radius, y - side * radius), (x + radius, y + side * radius)]
            self.line(ends, colour, stroke)

    def text(
        self, x: float, y: float, words: str, size: float = 13, colour: str = INK,
        anchor: str = "lm",
    ) -> None:  # fmt: skip
        """Words at a point; ``anchor``: l, m or r (left, middle, right), then m (middle)."""
        font = ImageFont.load_default(size * _SHARPNESS)
        self._draw.text(self._scaled([(x, y)])[0], words, colour, font, anchor)

    def grey(self, x: float, y: float, side: float, image: Grey) -> None:
        """A grey picture, dark where it is 1, its upper left corner at ``x``, ``y``."""
        dark = (255 * (1 - np.clip(image, 0, 1))).astype(np.uint8)
        large = round(side * _SHARPNESS)
        pixels = Image.fromarray(dark).resize((large, large), Image.Resampling.NEAREST)
        left, top = self._scaled([(x, y)])[0]
        self._image.paste(pixels, (round(left), round(top)))

    # -- agents and messages ------------------------------------------------------------------

    def agent(
        self, number: int, at: Point, words: str = "", radius: float = 15, name: str = ""
    ) -> None:
        """An agent, filled where it ticks now; ``words`` in it, its ``name`` below."""
        ticks = number in self.moment.ticking
        self.circle(
            at,
            radius,
            TICKS if ticks else PAPER,
            TICKS if ticks else INK,
            2 if radius >= LEGIBLE else 1.2,
        )
        if words and radius >= LEGIBLE:
            size = radius * min(0.9, 2 / len(words))
            self.text(*at, words, size, PAPER if ticks else INK, "mm")
        if name:
            self.text(at[0], at[1] + radius + 12, name, 12, GREY, "mm")

    def messages(self, places: Mapping[int, Point], gap: float = 15) -> None:
        """Messages under way, from and to agents at ``places`` with a radius of ``gap``."""
        flights = [f for f in self.moment.flights if f.sender in places and f.receiver in places]
        few = len(flights) <= CROWD
        for flight in flights:
            start, end = _between(places[flight.sender], places[flight.receiver], gap)
            light = mixed(MESSAGE, PAPER, 0.35 if few else 0.75)
            self.line([start, end], light, 2 if few else 1)
        for flight in flights if few else ():
            self.circle(_on_its_way(flight, places, gap), 5, MESSAGE, PAPER, 1)

    def legend(self, *entries: tuple[str, str]) -> None:
        """Colours and what they mean, along the lower edge; who ticks and what flies come last."""
        x, y = 20.0, self.height - 18
        font = ImageFont.load_default(12)
        both = ((TICKS, "ticks now"), (MESSAGE, "message under way"))
        known = both if self.moment.flights or self.moment.ticking else ()
        for colour, words in (*entries, *known):
            self.circle((x + 5, y), 5, colour)
            self.text(x + 15, y, words, 12, GREY)
            x += 33 + font.getlength(words)

    def _scaled(self, points: Sequence[Point]) -> list[Point]:
        return [(x * _SHARPNESS, y * _SHARPNESS) for x, y in points]

    def _wide(self, stroke: float) -> int:
        return max(round(stroke * _SHARPNESS), 1)


def _between(start: Point, end: Point, gap: float) -> tuple[Point, Point]:
    """The line from one agent to another, without what is inside of them."""
    a, b = np.array(start, float), np.array(end, float)
    length = float(np.hypot(*(b - a)))
    way = (b - a) / max(length, 1e-9) * min(gap, length / 2)
    return tuple(a + way), tuple(b - way)


def _on_its_way(flight: Flight, places: Mapping[int, Point], gap: float) -> Point:
    start, end = _between(places[flight.sender], places[flight.receiver], gap)
    return tuple(a + flight.share * (b - a) for a, b in zip(start, end, strict=True))  # type: ignore[return-value]
