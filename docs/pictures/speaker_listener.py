"""Draws speaker_listener.svg: who sees what, and the way of a listener that ticks now and then."""

from pathlib import Path

import numpy as np
import torch

from dnicomm.envs import SpeakerListener
from dnicomm.envs.steering import gains
from dnicomm.sim import PoissonClock

SCALE, LEFT, TOP = 150, 190, 12  # pixels a unit of length; the plane is [-1.2, 1.2] x [-1.2, 1.2]
INK, FAINT, BLUE, ORANGE, GREY = "#1f2933", "#d8dee5", "#2f6fb3", "#d9822b", "#66788a"
COLOURS = ("#c0392b", "#2e8b57", "#2f6fb3")
SEED, RATE = 28, 0.5

world = SpeakerListener().make(1, "train", torch.device("cpu"))
world.reset(0, np.random.default_rng(SEED))
ticks = set(PoissonClock(RATE).ticks(np.random.default_rng(3), world.horizon).tolist())
goal = int(world.goal[0, 0])
start, way, velocity = world.position[0, 0].tolist(), *gains(RATE)
path, acted = [start], []
for time in range(world.horizon):
    if time in ticks:
        push = way * world.to_goal() - velocity * world.velocity
        scores = 2 * push @ world.moves.T - world.moves.square().sum(-1)
        world.act([1], scores.argmax(-1), None)
        acted.append(world.position[0, 0].tolist())
    world.step()
    path.append(world.position[0, 0].tolist())


def at(point: list[float]) -> tuple[float, float]:
    x, y = point
    return round(LEFT + SCALE * (x + 1.2), 1), round(TOP + SCALE * (1.2 - y), 1)


size = round(2.4 * SCALE)
parts = [
    f'<rect x="{LEFT}" y="{TOP}" width="{size}" height="{size}" fill="none" stroke="{FAINT}"/>'
]
for number, colour in enumerate(COLOURS):
    x, y = at(world.landmarks[number, 0].tolist())
    parts.append(f'<path d="M{x} {y - 12}l12 12l-12 12l-12 -12z" fill="{colour}"/>')
    if number == goal:
        parts.append(f'<circle cx="{x}" cy="{y}" r="20" fill="none" stroke="{INK}"/>')
points = " ".join(f"{x},{y}" for x, y in map(at, path))
parts.append(f'<polyline points="{points}" fill="none" stroke="{GREY}" stroke-width="1.5"/>')
for x, y in map(at, path):
    parts.append(f'<circle cx="{x}" cy="{y}" r="1.8" fill="{GREY}"/>')
for x, y in map(at, acted):
    parts.append(
        f'<circle cx="{x}" cy="{y}" r="4" fill="none" stroke="{ORANGE}" stroke-width="1.5"/>'
    )
x, y = at(start)
parts.append(f'<circle cx="{x}" cy="{y}" r="10" fill="{INK}"/>')
parts.append(
    f'<circle cx="90" cy="{TOP + 60}" r="14" fill="{INK}"/>'
    f'<text x="90" y="{TOP + 34}" text-anchor="middle">the speaker sees</text>'
    f'<path d="M90 {TOP + 86}l9 9l-9 9l-9 -9z" fill="{COLOURS[goal]}"/>'
    f'<line x1="108" y1="{TOP + 60}" x2="{x - 16}" y2="{y - 8}" stroke="{BLUE}" '
    f'stroke-width="1.5" stroke-dasharray="5 4" marker-end="url(#arrow)"/>'
)
line = TOP + size - 96
for number, (mark, text) in enumerate(
    [
        (f'<circle cx="20" cy="{line - 4}" r="8" fill="{INK}"/>', "the listener, at first"),
        (f'<circle cx="20" cy="{line + 22}" r="4" fill="none" stroke="{ORANGE}"/>', "a tick of it"),
        (f'<circle cx="20" cy="{line + 48}" r="1.8" fill="{GREY}"/>', "a unit of world time"),
        (f'<line x1="8" y1="{line + 74}" x2="32" y2="{line + 74}" stroke="{BLUE}" '
         'stroke-dasharray="5 4"/>', "the message"),
    ]
):  # fmt: skip
    parts.append(f'{mark}<text x="42" y="{line + 26 * number}">{text}</text>')
svg = (
    f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + size + 12}" height="{TOP * 2 + size}" '
    f'font-family="sans-serif" font-size="13" fill="{INK}">'
    f'<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
    f'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="{BLUE}"/></marker></defs>'
    f'<rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'
)
(Path(__file__).parent / "speaker_listener.svg").write_text(svg)
