"""Draws consensus.svg: a graph of which some links are there, and agents that average over it."""

import math
from pathlib import Path

import numpy as np
import torch

from dnicomm.envs import Consensus
from dnicomm.sim import PoissonClock

INK, FAINT, BLUE, ORANGE, GREY = "#1f2933", "#c5ced8", "#2f6fb3", "#d9822b", "#66788a"
COUNT, SEED, RADIUS, TOP = 16, 5, 118, 62
CENTRE = (150, TOP + RADIUS + 8)
LEFT, RIGHT, BOTTOM = 350, 740, TOP + 2 * RADIUS + 16

world = Consensus(num_agents=COUNT).make(1, "train", torch.device("cpu"))
world.reset(0, np.random.default_rng(SEED))
numbers, mean = world.numbers[:, 0].tolist(), world.mean.item()
there = world.up[:, 0].tolist()
number = {name: i for i, name in enumerate(world.agents)}
senders = [number[a] for a, _ in world.edges]
receivers = [number[b] for _, b in world.edges]
clock = PoissonClock(0.5)
ticks = [{*clock.ticks(np.random.default_rng(100 + i), 30)} for i in range(COUNT)]
said = [[x] for x in numbers]  # by agent, at each time
heard: list[dict[int, float]] = [{} for _ in range(COUNT)]
for time in range(30):
    due = [time in own for own in ticks]
    for i in range(COUNT):
        new = (said[i][-1] + sum(heard[i].values())) / (1 + len(heard[i]))
        said[i].append(new if due[i] else said[i][-1])
    links = world.open_edges(senders, receivers)[:, 0].tolist()
    for a, b, up in zip(senders, receivers, links, strict=True):
        if up and due[a]:
            heard[b][a] = said[a][-1]
    world.step()


def place(i: int) -> tuple[float, float]:
    turn = 2 * math.pi * i / COUNT - math.pi / 2
    return CENTRE[0] + RADIUS * math.cos(turn), CENTRE[1] + RADIUS * math.sin(turn)


def colour(value: float, least: float = 0.0) -> str:
    """Blue below the mean, orange above, lighter the nearer."""
    share = min(least + abs(value - mean) / 2, 1.0)
    far = BLUE if value < mean else ORANGE
    parts = (int(far[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(245 + share * (part - 245)):02x}" for part in parts)


def x(time: float) -> float:
    return LEFT + (RIGHT - LEFT) * time / 30


def y(value: float) -> float:
    return TOP + (BOTTOM - TOP) * (0.5 - (value - mean) / 5)


parts = []
for (a, b), up in zip(world.links.tolist(), there, strict=True):
    (x1, y1), (x2, y2) = place(a), place(b)
    style = f'stroke="{GREY}"' if up else f'stroke="{FAINT}" stroke-dasharray="3 4"'
    parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {style}/>')
for i, value in enumerate(numbers):
    cx, cy = place(i)
    parts.append(
        f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="9" fill="{colour(value)}" stroke="{INK}"/>'
    )
for i, own in enumerate(said):
    line = f"M{x(0):.1f} {y(own[0]):.1f}" + "".join(
        f"H{x(time):.1f}V{y(value):.1f}" for time, value in enumerate(own[1:])
    )
    parts.append(
        f'<path d="{line}H{x(30)}" fill="none" stroke="{colour(numbers[i], 0.35)}" stroke-width="1.6"/>'
    )
parts.append(
    f'<line x1="{x(0)}" x2="{x(30)}" y1="{y(mean):.1f}" y2="{y(mean):.1f}" stroke="{INK}" '
    'stroke-dasharray="5 4"/>'
    f'<text x="{x(30) + 6}" y="{y(mean) + 4:.1f}">mean</text>'
    f'<text x="{x(15)}" y="{BOTTOM + 26}" text-anchor="middle" fill="{GREY}">world time, 0 to 30'
    "</text>"
    f'<text x="{LEFT}" y="26" font-weight="600">What each says of the mean</text>'
    f'<text x="{LEFT}" y="44" fill="{GREY}">averaging with what it heard last</text>'
    '<text x="24" y="26" font-weight="600">Who is linked to whom</text>'
    f'<text x="24" y="44" fill="{GREY}">numbers: blue below the mean, orange above</text>'
    f'<line x1="60" x2="90" y1="{BOTTOM + 22}" y2="{BOTTOM + 22}" stroke="{GREY}"/>'
    f'<text x="96" y="{BOTTOM + 26}" fill="{GREY}">link is up</text>'
    f'<line x1="170" x2="200" y1="{BOTTOM + 22}" y2="{BOTTOM + 22}" stroke="{FAINT}" '
    'stroke-dasharray="3 4"/>'
    f'<text x="206" y="{BOTTOM + 26}" fill="{GREY}">down now</text>'
)
svg = (
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 {BOTTOM + 44}" '
    f'font-family="system-ui, sans-serif" font-size="13" fill="{INK}">'
    '<rect width="100%" height="100%" fill="white"/>' + "".join(parts) + "</svg>\n"
)
Path(__file__).with_suffix(".svg").write_text(svg)
