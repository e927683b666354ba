"""Random regular graphs: every node has as many neighbours, and each reaches all."""

from __future__ import annotations

import functools

import numpy as np

from dnicomm.sim.random import generator

SWITCHES = 10  # tried for each link: as many as mix the links well


@functools.lru_cache(maxsize=4)  # a run makes its worlds three times
def regular_graph(nodes: int, degree: int, seed: int) -> tuple[tuple[int, int], ...]:
    """A connected random graph in which each node has ``degree`` neighbours; ``(a, b)``, a < b.

    A ring of shuffled nodes, each linked to the nearest ones, is mixed by switches: two links drawn
    at random exchange an end, unless that would make a loop or a second link. Each keeps every
    degree; with degree 3 and more they lead to any such graph, all as likely in the end. Degree 2
    has but one connected graph, the ring. Time and memory grow with the number of links.

    Args:
        nodes: at least ``degree + 1``; ``nodes * degree`` is even.
        degree: at least 2, or 1 of two nodes, or 0 of one.
        seed: of what is drawn.
    """
    for attempt in range(100):
        rng = generator(seed, "graph", nodes, degree, attempt)
        links = _mixed(_ring(nodes, degree, rng), rng) if degree > 2 else _ring(nodes, degree, rng)
        if _connected(links, nodes):
            return tuple(sorted(links))
    raise AssertionError("a hundred graphs in a row fell apart")


def _ring(nodes: int, degree: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Each linked to the nearest on a ring of shuffled nodes and, if odd, to that across."""
    name = rng.permutation(nodes).tolist()
    links = [(i, (i + step) % nodes) for step in range(1, degree // 2 + 1) for i in range(nodes)]
    if degree % 2:
        links += [(i, i + nodes // 2) for i in range(nodes // 2)]
    return [_link(name[a], name[b]) for a, b in links]


def _mixed(links: list[tuple[int, int]], rng: np.random.Generator) -> list[tuple[int, int]]:
    """``links`` after random switches of their ends."""
    there = set(links)
    tries = SWITCHES * len(links)
    pairs = rng.integers(len(links), size=(tries, 2)).tolist()
    turns = rng.random(tries) < 0.5
    for (i, j), turned in zip(pairs, turns.tolist(), strict=True):
        (a, b), (c, d) = links[i], links[j]
        if turned:
            c, d = d, c
        one, other = _link(a, d), _link(c, b)
        if a == d or c == b or one in there or other in there or one == other:
            continue
        there -= {links[i], links[j]}
        there |= {one, other}
        links[i], links[j] = one, other
    return links


def _link(a: int, b: int) -> tuple[int, int]:
    return (a, b) if a < b else (b, a)


def _connected(links: list[tuple[int, int]], nodes: int) -> bool:
    neighbours: list[list[int]] = [[] for _ in range(nodes)]
    for a, b in links:
        neighbours[a].append(b)
        neighbours[b].append(a)
    reached, found = {0}, [0]
    while found:
        new = [node for node in neighbours[found.pop()] if node not in reached]
        reached.update(new)
        found += new
    return len(reached) == nodes
