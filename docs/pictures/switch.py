"""Draws switch.svg: an episode of the switch riddle, played by counting on the switch."""

from pathlib import Path

import numpy as np
import torch

from dnicomm.envs import Switch

WIDTH, LEFT, TOP, ROW, DAY = 760, 150, 64, 58, 92
INK, FAINT, BLUE, ORANGE, GREY = "#1f2933", "#c5ced8", "#2f6fb3", "#d9822b", "#66788a"
SEED = 64  # two come twice before the third one comes

world = Switch().make(1, "train", torch.device("cpu"))
world.reset(0, np.random.default_rng(SEED))
room = world.room[:, 0].tolist()
been = world.visited[:, :, 0].sum(1).tolist()  # by the end of each day
last = been.index(3)  # who comes now, for the first time, tells


def x(day: int) -> float:
    return LEFT + DAY * (day + 0.5)


def y(prisoner: int) -> float:
    return TOP + ROW * prisoner


parts = []
for i, name in enumerate(world.agents):
    parts.append(
        f'<text x="16" y="{y(i) + 4}" font-weight="600">{name}</text>'
        f'<line x1="{x(0)}" x2="{x(5)}" y1="{y(i)}" y2="{y(i)}" stroke="{FAINT}"/>'
    )
for day, prisoner in enumerate(room):
    parts.append(f'<text x="{x(day)}" y="24" text-anchor="middle" fill="{GREY}">day {day}</text>')
    after = day > last
    parts.append(
        f'<circle cx="{x(day)}" cy="{y(prisoner)}" r="9" fill="{"white" if after else INK}" '
        f'stroke="{FAINT if after else INK}"/>'
    )
    if day >= last:
        continue
    following = room[day + 1]
    if following == prisoner:  # he knows what he left
        parts.append(
            f'<text x="{x(day) + DAY / 2}" y="{y(prisoner) + 24}" text-anchor="middle" '
            f'fill="{GREY}">remembers {been[day]}</text>'
        )
        continue
    down = 1 if following > prisoner else -1
    parts.append(
        f'<line x1="{x(day) + 10}" y1="{y(prisoner) + 6 * down}" x2="{x(day + 1) - 11}" '
        f'y2="{y(following) - 7 * down}" stroke="{BLUE}" stroke-width="1.8" '
        'marker-end="url(#arrow)"/>'
    )
    across, along = (y(prisoner) + y(following)) / 2, x(day) + DAY / 2
    parts.append(
        f'<circle cx="{along}" cy="{across}" r="10" fill="white" stroke="{BLUE}"/>'
        f'<text x="{along}" y="{across + 4.5}" text-anchor="middle" fill="{BLUE}" '
        f'font-weight="600">{been[day]}</text>'
    )
parts.append(
    f'<text x="{x(last) + 14}" y="{y(room[last]) - 12}" fill="{ORANGE}" font-weight="600">'
    "tells: +1</text>"
)
bottom = y(2) + 44
parts.append(
    f'<circle cx="{LEFT + 6}" cy="{bottom - 4}" r="7" fill="{INK}"/>'
    f'<text x="{LEFT + 20}" y="{bottom}">in the room</text>'
    f'<circle cx="{LEFT + 138}" cy="{bottom - 4}" r="8" fill="white" stroke="{BLUE}"/>'
    f'<text x="{LEFT + 152}" y="{bottom}">left on the switch: how many have been there</text>'
)
svg = (
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 18}" '
    f'font-family="system-ui, sans-serif" font-size="13" fill="{INK}">'
    '<rect width="100%" height="100%" fill="white"/><defs>'
    '<marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" '
    f'orient="auto"><path d="M0 0L8 4L0 8z" fill="{BLUE}"/></marker></defs>'
    + "".join(parts)
    + "</svg>\n"
)
Path(__file__).with_suffix(".svg").write_text(svg)
