"""Draws run.svg: 40 units of world time of `dnicomm run`, as they happened."""

from pathlib import Path

import numpy as np

from dnicomm.agents import FeedForward
from dnicomm.envs import Relay
from dnicomm.sim import Delay, PoissonClock, Simulation

RATES = (1.0, 0.6, 0.3, 0.5)
WIDTH, LEFT, TOP, ROW, UNIT = 960, 150, 56, 74, 19.5
INK, FAINT, BLUE, ORANGE = "#1f2933", "#c5ced8", "#2f6fb3", "#d9822b"
ROLES = ("sees the digit", "sees only messages", "sees only messages", "names the digit")

simulation = Simulation(
    env=Relay(num_agents=4),
    agent=FeedForward,
    clocks={f"agent_{i}": PoissonClock(rate) for i, rate in enumerate(RATES)},
    channel=Delay(0, 2),
    num_worlds=2,
)
engine = simulation.engine
engine.play(episode=0)
ticks = {}
for lane in engine.lanes:
    for row, name in enumerate(lane.population.names):
        ticks[name] = np.flatnonzero(lane.due[row])
names = list(simulation.world.agents)


def x(time: float) -> float:
    return LEFT + UNIT * (time + 0.5)


def y(agent: int) -> float:
    return TOP + ROW * agent


parts = []
heard = {names[0]: -1}  # world time from which an agent has something to pass on
for i, name in enumerate(names):
    parts.append(
        f'<text x="16" y="{y(i) - 2}" font-weight="600">{name}</text>'
        f'<text x="16" y="{y(i) + 15}" fill="#66788a" font-size="12">{ROLES[i]}</text>'
        f'<line x1="{x(0)}" x2="{x(39)}" y1="{y(i)}" y2="{y(i)}" stroke="{FAINT}"/>'
    )
for i, (sender, receiver) in enumerate(simulation.edges):
    for time in ticks[sender]:
        if sender not in heard or time < heard[sender]:
            continue
        arrival = time + 1 + engine.delays[i, time]
        if arrival > 39:
            continue
        reads = ticks[receiver][ticks[receiver] >= arrival]
        if receiver not in heard:
            heard[receiver] = arrival
        newer = [
            t + 1 + engine.delays[i, t] for t in ticks[sender] if t > time
        ]  # the message is overwritten by a later one
        read = len(reads) and not any(a <= reads[0] for a in newer)
        colour, width = (BLUE, 1.6) if read else (FAINT, 1)
        parts.append(
            f'<line x1="{x(time)}" y1="{y(i) + 5}" x2="{x(arrival)}" y2="{y(i + 1) - 7}" '
            f'stroke="{colour}" stroke-width="{width}" marker-end="url(#{"blue" if read else "faint"})"/>'
        )
for i, name in enumerate(names):
    for time in ticks[name]:
        active = name in heard and time >= heard[name]
        fill = INK if active else "white"
        parts.append(f'<circle cx="{x(time)}" cy="{y(i)}" r="4.5" fill="{fill}" stroke="{INK}"/>')
        if active and i < len(names) - 1:  # told at once
            parts.append(
                f'<path d="M{x(time) + 3} {y(i) - 6} c6 -13 -12 -13 -6 0" fill="none" '
                f'stroke="{ORANGE}" stroke-width="1.7"/>'
            )
axis = y(3) + 34
for time in range(0, 40, 5):
    parts.append(
        f'<text x="{x(time)}" y="{axis}" text-anchor="middle" fill="#66788a">{time}</text>'
    )
legend = axis + 30
parts.append(
    f'<circle cx="{LEFT}" cy="{legend - 4}" r="4.5" fill="{INK}"/><text x="{LEFT + 10}" y="{legend}">'
    "tick</text>"
    f'<circle cx="{LEFT + 60}" cy="{legend - 4}" r="4.5" fill="white" stroke="{INK}"/>'
    f'<text x="{LEFT + 70}" y="{legend}">tick, nothing heard yet</text>'
    f'<line x1="{LEFT + 240}" x2="{LEFT + 264}" y1="{legend - 4}" y2="{legend - 4}" stroke="{BLUE}" '
    f'stroke-width="1.6"/><text x="{LEFT + 270}" y="{legend}">message, read</text>'
    f'<line x1="{LEFT + 380}" x2="{LEFT + 404}" y1="{legend - 4}" y2="{legend - 4}" '
    f'stroke="{FAINT}" stroke-width="1.4"/>'
    f'<text x="{LEFT + 410}" y="{legend}">overwritten unread</text>'
    f'<path d="M{LEFT + 550} {legend} c6 -13 -12 -13 -6 0" fill="none" stroke="{ORANGE}" stroke-width="1.8"/>'
    f'<text x="{LEFT + 566}" y="{legend}">synthetic gradient, at once</text>'
)
marker = "".join(
    f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" '
    f'orient="auto"><path d="M0 0L8 4L0 8z" fill="{colour}"/></marker>'
    for name, colour in (("blue", BLUE), ("faint", FAINT))
)
svg = (
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {legend + 22}" '
    f'font-family="system-ui, sans-serif" font-size="13" fill="{INK}">'
    f'<rect width="100%" height="100%" fill="white"/><defs>{marker}</defs>'
    f'<text x="{x(39)}" y="20" text-anchor="end" fill="#66788a">world time of one episode</text>'
    + "".join(parts)
    + "</svg>\n"
)
Path(__file__).with_suffix(".svg").write_text(svg)
