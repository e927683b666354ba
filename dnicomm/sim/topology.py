"""Topologies: who can send to whom. A topology turns agents' names into directed edges."""

from __future__ import annotations

import abc
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dnicomm.errors import UserError, nearest

Edge = tuple[str, str]  # sender, receiver


class Topology(abc.ABC):
    """Draws the channels between agents."""

    @abc.abstractmethod
    def edges(self, agents: Sequence[str]) -> list[Edge]:
        """Directed edges in the order in which receivers see them."""


@dataclass(frozen=True)
class Chain(Topology):
    """Each agent sends to the next one; both ways if ``both``."""

    both: bool = False

    def edges(self, agents: Sequence[str]) -> list[Edge]:
        forward = list(itertools.pairwise(agents))
        return forward + [(b, a) for a, b in forward] if self.both else forward


@dataclass(frozen=True)
class Ring(Topology):
    """A chain whose last agent sends to the first; both ways if ``both``."""

    both: bool = False

    def edges(self, agents: Sequence[str]) -> list[Edge]:
        forward = Chain().edges(agents)
        if len(agents) > 2:
            forward.append((agents[-1], agents[0]))
        elif len(agents) == 2:
            return [(agents[0], agents[1]), (agents[1], agents[0])]
        return forward + [(b, a) for a, b in forward] if self.both else forward


@dataclass(frozen=True)
class Star(Topology):
    """The centre and each other agent send to each other.

    Args:
        centre: name of an agent; None: the first one.
    """

    centre: str | None = None

    def edges(self, agents: Sequence[str]) -> list[Edge]:
        centre = agents[0] if self.centre is None else self.centre
        if centre not in agents:
            raise UserError(f"topology.centre={centre}: no such agent.{nearest(centre, agents)}")
        others = [a for a in agents if a != centre]
        return [(a, centre) for a in others] + [(centre, a) for a in others]


@dataclass(frozen=True)
class Complete(Topology):
    """Everybody sends to everybody else."""

    def edges(self, agents: Sequence[str]) -> list[Edge]:
        return [(a, b) for b in agents for a in agents if a != b]


class EdgeList(Topology):
    """Edges one by one.

    Args:
        edges: ``[sender, receiver]`` pairs, or a networkx graph whose nodes are agents' names; an
            undirected graph's edges go both ways.

    Raises:
        UserError: if an entry is not a pair.
    """

    def __init__(self, edges: Iterable[Sequence[str]] | Any) -> None:
        graph: Any = edges
        if hasattr(graph, "is_directed"):  # a networkx graph, without importing networkx
            pairs = [(str(a), str(b)) for a, b in graph.edges()]
            self._edges = pairs if graph.is_directed() else pairs + [(b, a) for a, b in pairs]
            return
        if isinstance(edges, str) or not isinstance(edges, Iterable):
            raise UserError(f"topology.edges={edges}: must be [sender, receiver] pairs")
        self._edges = []
        for pair in edges:
            if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
                raise UserError(f"topology.edges: {pair!r} is not a pair [sender, receiver]")
            self._edges.append((str(pair[0]), str(pair[1])))

    def edges(self, agents: Sequence[str]) -> list[Edge]:
        return list(self._edges)


def check_edges(edges: Sequence[Edge], agents: Sequence[str]) -> list[Edge]:
    """The edges, checked against the agents that there are.

    Raises:
        UserError: if an edge names an agent that is not there, leads to itself, or comes twice.
    """
    seen, there = set(), set(agents)
    for sender, receiver in edges:
        shown = f"topology: edge {sender} -> {receiver}"
        for end in (sender, receiver):
            if end not in there:
                raise UserError(f"{shown}: there is no agent {end!r}.{nearest(end, agents)}")
        if sender == receiver:
            raise UserError(f"{shown}: an agent has its state to remember by, no channel to itself")
        if (sender, receiver) in seen:
            raise UserError(f"{shown} is there twice")
        seen.add((sender, receiver))
    return list(edges)


def edge_name(sender: str, receiver: str) -> str:
    """Name of a channel in metrics and messages."""
    return f"{sender}->{receiver}"
