"""Agents of a run, grouped into populations: what is learnt, and who is wired to whom.

Agents of equal class, configuration and spec are rows of one population and are computed by one
kernel. A population of receivers owns the utility models of its incoming channels.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils import _pytree as pytree

from dnicomm.core import Interface, Population, RowOptimizer, UtilityModel
from dnicomm.core.least_squares import LeastSquares, LeastSquaresUtility
from dnicomm.errors import UserError, nearest
from dnicomm.sim.agent import Agent, AgentSpec
from dnicomm.sim.metrics import AgentMeter, ChannelMeter
from dnicomm.sim.normalise import MessageNormalizer
from dnicomm.sim.random import torch_seed
from dnicomm.sim.topology import Edge, edge_name
from dnicomm.sim.world import World

Index = NDArray[np.int64]


@dataclass(frozen=True)
class AgentSettings:
    """How one agent is made and learns.

    Args:
        factory: builds the agent from its spec.
        key: equal for agents of equal class and configuration.
        optimizer: of its population; rows are independent.
        window: world time between updates; None: the environment's preference, else 1.
    """

    factory: Callable[[AgentSpec], Agent]
    key: Hashable
    optimizer: RowOptimizer
    window: int | None = None


@dataclass(frozen=True)
class UtilitySettings:
    """How receivers' utility models are made and fitted.

    Args:
        factory: called with ``message_size``, ``context_size`` and, if it takes it,
            ``num_classes``.
        optimizer: of the utility models.
        context: fields they see, of the world's ``context_fields``, or ``receiver`` (the receiver's
            last state) or ``time`` (since the episode began); None: the world's default.
        label: the field that is a labelled model's label; None: the world's label.
    """

    factory: Callable[..., UtilityModel]
    optimizer: RowOptimizer
    context: Sequence[str] | None = None
    label: str | None = None


@dataclass
class Route:
    """Channels from one population to another, in the order of senders."""

    receiver: int  # population
    senders: Index  # [e] rows of the sending population
    slots: Index  # [e] slots of the receiving population
    channels: Index  # [e] among all channels of the run


@dataclass
class AgentPopulation:
    """Members with their parameters, and the utility models of the channels that end at them."""

    names: list[str]
    indices: Index  # [N] among the world's agents
    spec: AgentSpec
    agents: Population
    window: int | None
    state_size: int
    inputs: list[Edge | None]  # [N * K] the channel of each slot
    normalizer: MessageNormalizer | None = None
    interface: Interface | None = None
    context: tuple[str, ...] = ()
    share_read: Tensor = field(default_factory=lambda: torch.ones(0))  # [N * K] running
    ticks: Tensor = field(default_factory=lambda: torch.zeros(0))  # [N] int64, in training
    routes: list[Route] = field(default_factory=list)
    channel_meter: ChannelMeter = field(init=False)
    agent_meter: AgentMeter = field(init=False)

    @property
    def remembers(self) -> bool:
        """Whether the agents have a state."""
        return self.state_size > 0

    def tensors(self) -> dict[str, Tensor]:
        """Everything learnt, by name, for a checkpoint; the tensors themselves."""
        own = {"share_read": self.share_read, "ticks": self.ticks}
        parts = {"agents": self.agents.tensors(), "channels": own}
        if self.normalizer is not None:
            parts["normalizer"] = self.normalizer.tensors()
        if self.interface is not None:
            parts["utilities"] = self.interface.utilities.tensors()
        return {f"{part}.{name}": t for part, of in parts.items() for name, t in of.items()}


def build_populations(
    world: World,
    edges: Sequence[Edge],
    settings: Mapping[str, AgentSettings],
    utility: UtilitySettings | None,
    message_size: int,
    normalise: bool,
    seed: int,
) -> list[AgentPopulation]:
    """Make the agents of ``world`` and group them.

    Raises:
        UserError: if an agent can't be built for its spaces.
    """
    indegree = {name: sum(receiver == name for _, receiver in edges) for name in world.agents}
    groups: dict[Hashable, list[str]] = {}
    for name in world.agents:
        spaces, own = world.spaces(name), settings[name]
        receives = indegree[name] > 0
        ends = world.window_ends(name) if own.window is None else None
        preference = None if ends is None else tuple(ends)
        key = (spaces, receives, own.key, own.optimizer, own.window, preference)
        groups.setdefault(key, []).append(name)
    populations = [
        _population(world, names, settings[names[0]], edges, indegree, message_size, seed)
        for names in groups.values()
    ]
    for population in populations:
        members = len(population.names)
        if normalise:
            population.normalizer = MessageNormalizer(members, message_size, world.device)
        if utility is not None and population.spec.num_inputs:
            _add_interface(population, world, utility, seed)
        slots = len(population.inputs)
        population.share_read = torch.ones(slots, device=world.device)
        population.ticks = torch.zeros(members, dtype=torch.int64, device=world.device)
        population.channel_meter = ChannelMeter(slots, world.device)
        population.agent_meter = AgentMeter(members, world.device)
    _wire(populations, edges)
    return populations


def _population(
    world: World,
    names: list[str],
    own: AgentSettings,
    edges: Sequence[Edge],
    indegree: Mapping[str, int],
    message_size: int,
    seed: int,
) -> AgentPopulation:
    spaces = world.spaces(names[0])
    spec = AgentSpec(
        observation_shape=spaces.observation_shape,
        action_size=spaces.action_size,
        discrete=spaces.discrete,
        message_size=message_size,
        num_inputs=max(indegree[name] for name in names),
    )
    members = []
    for name in names:
        with torch_seed(seed, "agent", name), warnings.catch_warnings():
            # an agent that only talks has an action layer of no outputs
            warnings.filterwarnings("ignore", "Initializing zero-element tensors")
            agent = own.factory(spec)
        if not isinstance(agent, Agent):
            kind = type(agent).__name__
            raise UserError(f"agent {name}: {kind} is not an Agent (see dnicomm.sim.Agent)")
        members.append(agent)
    state = pytree.tree_leaves(members[0].initial_state(1))
    if any(leaf.requires_grad for leaf in state):
        raise UserError(
            f"agent {names[0]}: initial_state must be constant; what is learnt belongs into tick"
        )
    inputs: list[Edge | None] = []
    for name in names:
        incoming: list[Edge | None] = [edge for edge in edges if edge[1] == name]
        inputs += incoming + [None] * (spec.num_inputs - len(incoming))
    return AgentPopulation(
        names=names,
        indices=np.array([world.agents.index(name) for name in names], dtype=np.int64),
        spec=spec,
        agents=Population(members, own.optimizer).to(world.device),
        window=own.window,
        state_size=sum(leaf[0].numel() for leaf in state),
        inputs=inputs,
    )


def _wire(populations: list[AgentPopulation], edges: Sequence[Edge]) -> None:
    number = {edge: i for i, edge in enumerate(edges)}
    for sender in populations:
        for r, receiver in enumerate(populations):
            found = [
                (sender.names.index(edge[0]), slot, number[edge])
                for slot, edge in enumerate(receiver.inputs)
                if edge is not None and edge[0] in sender.names
            ]
            if found:
                rows, slots, channels = np.array(sorted(found), dtype=np.int64).T
                sender.routes.append(Route(r, rows, slots, channels))


def _add_interface(
    population: AgentPopulation, world: World, settings: UtilitySettings, seed: int
) -> None:
    fields = list(world.default_context if settings.context is None else settings.context)
    takes_label = "num_classes" in inspect.signature(settings.factory).parameters
    label = settings.label or world.label_field
    known = {name: field.size for name, field in world.context_fields.items()}
    known |= {"receiver": population.state_size, "time": 1}
    for name in fields:
        if name not in known:
            raise UserError(
                f"utility.context: {name!r} is no fact of this environment.{nearest(name, known)}"
            )
    extra = {}
    if takes_label and label is not None:
        if label not in world.context_fields:
            raise UserError(
                f"utility.label: {label!r} is no fact of this environment."
                f"{nearest(label, world.context_fields)}"
            )
        # a labelled model finds the label first in its context
        fields = [label, *(f for f in fields if f != label)]
        extra = {"num_classes": known[label]}
    population.context = tuple(fields)
    context_size = sum(known[name] for name in fields)
    models = []
    for edge in population.inputs:
        name = "none" if edge is None else edge_name(*edge)
        with torch_seed(seed, "utility", name):
            model = settings.factory(
                message_size=population.spec.message_size, context_size=context_size, **extra
            )
        models.append(model)
    if any(getattr(model, "needs_outcome", False) for model in models):
        raise UserError(
            f"utility: {type(models[0]).__name__} foresees what a net will say in each step, and "
            "agents say no such thing; use utility=gradient, critic or local"
        )
    solved = [model for model in models if isinstance(model, LeastSquaresUtility)]
    if solved:
        population.interface = LeastSquares(solved, reduction="sum")
    else:
        population.interface = Interface(models, settings.optimizer, reduction="sum")
    population.interface.to(world.device)
