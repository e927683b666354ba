"""Roads and routes of the traffic junction's three levels.

Traffic keeps to the right. A car enters at the end of a lane, decides at each junction whether to
go straight on, turn right or turn left, and leaves at the grid's edge; it makes at most two such
choices, then goes straight on. A grid of side 14 or 18 so has 3 or 7 routes from each entry, one to
each exit but the one beside it. Side lengths, lanes and numbers of routes are those of the program
published with IC3Net (Singh et al., 2019), read there; its paper's table agrees as remembered.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

Cell = tuple[int, int]  # row, column; row 0 is at the top

DOWN, UP, RIGHTWARD, LEFTWARD = (1, 0), (-1, 0), (0, 1), (0, -1)
STRAIGHT, RIGHT, LEFT = "straight", "right", "left"
TURNS = (STRAIGHT, RIGHT, LEFT)


@dataclass(frozen=True)
class Level:
    """What makes a level: its roads, and the numbers that IC3Net plays it with.

    ``roads`` are the first columns of the vertical roads, and as well the first rows of the
    horizontal ones. A one-way road is one cell wide, a two-way road two.
    """

    size: int  # side of the grid, in cells
    roads: tuple[int, ...]
    two_way: bool
    choices: int  # junctions at which a route may turn
    num_agents: int  # Nmax
    horizon: int  # T
    arrival: float  # p_arrive


# From the commands in the readme of IC3Net's program. For medium's arrival it has 0.02, below the
# 0.05 that it starts with: taken for a slip, since the paper has 0.2.
LEVELS = {
    "easy": Level(7, (3,), False, 0, 5, 20, 0.3),
    "medium": Level(14, (6,), True, 1, 10, 40, 0.2),
    "hard": Level(18, (4, 12), True, 2, 20, 80, 0.05),
}


def entries(level: Level) -> list[tuple[Cell, Cell]]:
    """Where cars enter, and where they head then: vertical roads first."""
    last, found = level.size - 1, []
    for first in level.roads:
        found.append(((0, first), DOWN))
        if level.two_way:
            found.append(((last, first + 1), UP))
    for first in level.roads:
        if level.two_way:
            found += [((first + 1, 0), RIGHTWARD), ((first, last), LEFTWARD)]
        else:
            found.append(((first, 0), RIGHTWARD))
    return found


def routes(level: Level) -> list[list[tuple[Cell, ...]]]:
    """The routes from each entry, as the cells a car passes from there to the grid's edge."""
    choices = list(itertools.product(TURNS, repeat=level.choices))
    return [
        # what is chosen at a junction that a route doesn't reach makes no difference
        list(dict.fromkeys(_walk(level, start, heading, turns) for turns in choices))
        for start, heading in entries(level)
    ]


def _walk(level: Level, cell: Cell, heading: Cell, turns: Sequence[str]) -> tuple[Cell, ...]:
    path, left_over = [cell], iter(turns)
    while True:
        ahead = _next(path[-1], heading)
        if not all(0 <= place < level.size for place in ahead):
            return tuple(path)
        at_junction = _in_junction(level, ahead) and not _in_junction(level, path[-1])
        path.append(ahead)
        turn = next(left_over, STRAIGHT) if at_junction else STRAIGHT
        if turn == RIGHT:
            heading = heading[1], -heading[0]
        elif turn == LEFT:  # from the junction's far side, across the lane that comes against
            path.append(_next(ahead, heading))
            heading = -heading[1], heading[0]


def _next(cell: Cell, heading: Cell) -> Cell:
    return cell[0] + heading[0], cell[1] + heading[1]


def _in_junction(level: Level, cell: Cell) -> bool:
    width = 1 + level.two_way
    lanes = {first + lane for first in level.roads for lane in range(width)}
    return cell[0] in lanes and cell[1] in lanes
