"""What the communication of a simulation's agents comes to.

The episodes of an evaluation are listened to (``listening.py``), messages are forced upon listeners
(``forcing.py``), and the episodes are played again with channels silenced (``ablation.py``). The
measures themselves are in ``dnicomm.communication``; ``docs/metrics.md`` says what each one means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dnicomm.errors import UserError, nearest
from dnicomm.sim.ablation import Shuffled, Zeroed, scores
from dnicomm.sim.channel_metrics import Figures, channel_metrics
from dnicomm.sim.listening import Listening
from dnicomm.sim.simulation import Simulation
from dnicomm.sim.topology import Edge, edge_name

FAMILIES = ("use", "signalling", "structure", "listening", "ablation")
MOST_CHANNELS = 8  # measured, where nobody chooses
MOST_ABLATED = 4  # channels silenced one by one: each costs two evaluations


@dataclass(frozen=True)
class Asked:
    """Which metrics are wanted, of which channels.

    Args:
        families: of ``FAMILIES``.
        channels: names ``a->b``; None: the first eight.

    Raises:
        UserError: if there is no such family.
    """

    families: Sequence[str] = FAMILIES
    channels: Sequence[str] | None = None

    def __post_init__(self) -> None:
        for name in self.families:
            if name not in FAMILIES:
                raise UserError(f"metrics: there are no metrics {name!r}.{nearest(name, FAMILIES)}")


def evaluate_communication(
    simulation: Simulation, episodes: int | None = None, asked: Asked | None = None
) -> tuple[dict[str, Any], Figures]:
    """Evaluate a simulation, and measure the communication in the same episodes.

    Args:
        simulation: trained or not; nobody learns here.
        episodes: to play; None: as it is configured.
        asked: what to measure; None: all of it.

    Returns:
        The record of the evaluation, as :meth:`Simulation.evaluate` gives it, and the figures of
        communication: numbers, text and lists under stable names, None where one is undefined.

    Raises:
        UserError: if there is no such channel.
    """
    asked = asked or Asked()
    edges = _edges(simulation, asked)
    listening = Listening(simulation.examiner, edges)
    with listening:
        record = simulation.evaluate(episodes)
    played = episodes or simulation.evaluation.episodes
    found: Figures = {
        "unit": "nats",
        "episodes": played,
        "worlds": simulation.examiner.world.num_worlds,
        "world_time": listening.world_time,
        "left_out": len(simulation.edges) - len(edges),
        "channels": {
            channel.name: channel_metrics(simulation, listening, channel, asked.families)
            for channel in listening.channels
        },
    }
    if "ablation" in asked.families and edges:
        found["ablation"] = _ablation(simulation, edges, played, record["metrics"])
    return record, found


def _edges(simulation: Simulation, asked: Asked) -> list[Edge]:
    by_name = {edge_name(*edge): edge for edge in simulation.edges}
    if asked.channels is None:
        return list(simulation.edges[:MOST_CHANNELS])
    for name in asked.channels:
        if name not in by_name:
            raise UserError(f"channels: there is no channel {name!r}.{nearest(name, by_name)}")
    return [by_name[name] for name in dict.fromkeys(asked.channels)]


def _ablation(
    simulation: Simulation, edges: Sequence[Edge], episodes: int, metrics: Mapping[str, float]
) -> Figures:
    """Scores with channels on, zeroed, and shuffled between worlds: all of them, and one by one."""
    on = {name: value for name, value in metrics.items() if not name.startswith("train_")}
    found: Figures = {"on": on, "all": _silenced(simulation, simulation.edges, episodes)}
    alone = edges[:MOST_ABLATED] if len(simulation.edges) > 1 else ()
    one_by_one = {edge_name(*edge): _silenced(simulation, [edge], episodes) for edge in alone}
    if len(simulation.edges) == 1:
        one_by_one = {edge_name(*edges[0]): found["all"]}
    return found | {"channels": one_by_one}


def _silenced(simulation: Simulation, edges: Sequence[Edge], episodes: int) -> Figures:
    examiner = simulation.examiner
    worlds = examiner.world.num_worlds
    shuffled = Shuffled(edges, worlds, simulation.seed) if worlds > 1 else None
    return {
        "zeroed": scores(examiner, episodes, Zeroed(edges)),
        "shuffled": None if shuffled is None else scores(examiner, episodes, shuffled),
    }
