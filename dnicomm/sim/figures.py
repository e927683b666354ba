"""Figures of channels and agents since the last evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dnicomm.sim.population import AgentPopulation
from dnicomm.sim.topology import Edge, edge_name


def read_figures(
    populations: Sequence[AgentPopulation], edges: Sequence[Edge], agents: Sequence[str]
) -> dict[str, Any]:
    """Return figures by channel, in the order of ``edges``, and by agent, in that of ``agents``.

    The meters go on from there: :func:`reset_meters` begins anew.
    """
    of_channels: dict[str, Any] = {}
    of_agents: dict[str, Any] = {}
    for population in populations:
        for slot, edge in enumerate(population.inputs):
            if edge is not None:
                of_channels[edge_name(*edge)] = population.channel_meter.summary(slot)
        for row, name in enumerate(population.names):
            of_agents[name] = {
                "ticks": int(population.ticks[row].item()),
                "updates": int(population.agents.updates[population.row(row)].item()),
                "skipped_updates": int(population.agents.skipped[population.row(row)].item()),
            } | population.agent_meter.summary(row)
    return {
        "channels": {edge_name(*edge): of_channels[edge_name(*edge)] for edge in edges},
        "agents": {name: of_agents[name] for name in agents},
    }


def reset_meters(populations: Sequence[AgentPopulation]) -> None:
    """Begin the next evaluation's figures."""
    for population in populations:
        population.channel_meter.reset()
        population.agent_meter.reset()
