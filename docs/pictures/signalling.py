"""Draws signalling.svg: objects that come and go, what is said of them, and what is named."""

from pathlib import Path

import numpy as np
import torch

from dnicomm.envs import Signalling
from dnicomm.sim import PoissonClock

INK, FAINT, BLUE, ORANGE, GREY, GREEN, RED = (
    "#1f2933", "#d8dee5", "#2f6fb3", "#d9822b", "#66788a", "#009e73", "#d55e00",
)  # fmt: skip
COLOURS = (
    "#4e79a7", "#f28e2b", "#59a14f", "#b07aa1", "#edc948", "#76b7b2", "#ff9da7", "#9c755f",
    "#bab0ac",
)  # fmt: skip
SEED, RATE, LEFT, STEP, BAR = 1, 0.4, 132, 15, 26  # pixels a unit of world time, and of a bar
TOP, BELOW = 30, 130  # of the bar of objects, and of that of guesses

world = Signalling(change=0.1).make(1, "train", torch.device("cpu"))
world.reset(0, np.random.default_rng(SEED))
objects, rng = world.objects[:, 0].tolist(), np.random.default_rng(SEED + 20)
speaks, listens = (set(PoissonClock(RATE).ticks(rng, world.horizon).tolist()) for _ in range(2))
parts, guess, right = [], None, 0


def x(time: float) -> float:
    return LEFT + STEP * time


def bar(time: int, top: float, number: int) -> str:
    return (
        f'<rect x="{x(time)}" y="{top}" width="{STEP + 0.5}" height="{BAR}" '
        f'fill="{COLOURS[number]}"/>'
    )


for time, number in enumerate(objects):
    parts.append(bar(time, TOP, number))
    sent = [t for t in speaks if t < time]
    if time in listens and sent:
        last = max(sent)
        guess = objects[last]
        parts.append(
            f'<line x1="{x(last + 0.5)}" y1="{TOP + BAR}" x2="{x(time + 0.5)}" y2="{BELOW}" '
            f'stroke="{ORANGE}" stroke-width="1.5"/>'
        )
    if guess is not None:
        parts.append(bar(time, BELOW, guess))
        right += guess == number
    colour = GREEN if guess == number else RED
    parts.append(f'<rect x="{x(time)}" y="{BELOW + BAR + 6}" width="{STEP - 1}" height="6" '
                 f'fill="{colour}"/>')  # fmt: skip
for ticks, y in ((speaks, TOP + BAR), (listens, BELOW)):
    parts += [f'<circle cx="{x(t + 0.5)}" cy="{y}" r="4.5" fill="{BLUE}" stroke="white"/>'
              for t in ticks]  # fmt: skip
for y, words in (
    (TOP + BAR / 2, "the object"),
    (BELOW + BAR / 2, "what is named"),
    (BELOW + BAR + 9, f"right {right} of {world.horizon}"),
):
    parts.append(f'<text x="{LEFT - 12}" y="{y + 4}" text-anchor="end">{words}</text>')
line = BELOW + BAR + 44
for place, (mark, words) in enumerate(
    [
        (f'<circle cx="0" cy="-4" r="4.5" fill="{BLUE}"/>', "a tick"),
        (f'<line x1="-8" y1="-4" x2="8" y2="-4" stroke="{ORANGE}" stroke-width="1.5"/>',
         "a message, from when it was sent to when it is read"),
        (f'<rect x="-7" y="-7" width="14" height="6" fill="{GREEN}"/>', "paid"),
    ]
):  # fmt: skip
    at = LEFT + (8, 100, 460)[place]
    parts.append(f'<g transform="translate({at} {line})">{mark}<text x="14">{words}</text></g>')
svg = (
    f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + STEP * world.horizon + 16}" '
    f'height="{line + 16}" font-family="sans-serif" font-size="13" fill="{INK}">'
    f'<rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'
)
(Path(__file__).parent / "signalling.svg").write_text(svg)
