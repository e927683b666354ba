"""Agents of a run, grouped into populations: what is learnt, and who is wired to whom.

Agents of equal class, configuration and spec are rows of one population and are computed by one
kernel. A population of receivers owns the utility models of its incoming channels.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils import _pytree as pytree

from dnicomm.core import Interface, Population, RowOptimizer, Rows, UtilityModel
from dnicomm.core.least_squares import LeastSquares, LeastSquaresUtility
from dnicomm.core.rows import Gradient
from dnicomm.errors import UserError, nearest
from dnicomm.sim.agent import Agent, AgentSpec
from dnicomm.sim.agent_building import add_agents, add_utilities, build_agent
from dnicomm.sim.agent_mistakes import AttributeWatch, named_members, raise_mistake
from dnicomm.sim.encoding import MessageEncoder
from dnicomm.sim.memory import MemoryNeed
from dnicomm.sim.metrics import AgentMeter, ChannelMeter
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
            last state), ``sender`` (the sender's, where all senders have states of one size) or
            ``time`` (since the episode began); None: the world's default.
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
    encoder: MessageEncoder | None = None
    shared: bool = False  # whether all members have one row of parameters
    interface: Interface | None = None
    context: tuple[str, ...] = ()
    watch: AttributeWatch | None = field(default_factory=AttributeWatch)  # of the first ticks
    share_read: Tensor = field(default_factory=lambda: torch.ones(0))  # [N * K] running
    ticks: Tensor = field(default_factory=lambda: torch.zeros(0))  # [N] int64, in training
    routes: list[Route] = field(default_factory=list)
    channel_meter: ChannelMeter = field(init=False)
    agent_meter: AgentMeter = field(init=False)

    @property
    def remembers(self) -> bool:
        """Whether the agents have a state."""
        return self.state_size > 0

    @property
    def epochs(self) -> int:
        """Passes of the agents over each window."""
        return cast(Agent, self.agents.template).epochs

    @property
    def minibatches(self) -> int:
        """Steps of each pass but the first, which is one step."""
        return cast(Agent, self.agents.template).minibatches

    def row(self, member: int) -> int:
        """Where a member's parameters are."""
        return 0 if self.shared else member

    def gather(self, members: Tensor | None, requires_grad: bool) -> Rows:
        """Parameters of ``members`` ``[n]`` (None: all) gathered once, ``[n, P]``."""
        if not self.shared:
            return self.agents.rows(members, requires_grad)
        count = len(self.names) if members is None else len(members)
        own = self.agents.rows(requires_grad=False)
        parameters = own.parameters.expand(count, -1).requires_grad_(requires_grad)
        buffers = {k: v.expand(count, *v.shape[1:]).clone() for k, v in own.buffers.items()}
        frozen = [value.expand(count, *value.shape[1:]) for value in own.frozen]
        return Rows(members, parameters, buffers, frozen)

    def learn(
        self, rows: Rows, gradient: Gradient | None, live: Tensor, progress: float, scale: float
    ) -> None:
        """One step of the members in ``rows``, ``live`` ``[n]`` bool of them.

        Gradients are divided by ``scale``, and may be changed.

        Members that share their parameters share one step, the sum of their gradients, and what
        they keep in buffers: the mean of it.
        """
        if not self.shared:
            self.agents.step(rows, gradient, live, progress, scale)
            return
        if gradient is not None:
            gradient = [
                torch.where(live[:, None], part, 0.0).sum(0, keepdim=True) for part in gradient
            ]
        buffers = {
            name: buffer.mean(0, keepdim=True) if buffer.is_floating_point() else buffer[-1:]
            for name, buffer in rows.buffers.items()
        }
        own = Rows(None, self.agents.parameters.detach(), buffers)
        if gradient is None:
            gradient = [torch.zeros_like(own.parameters)]
        self.agents.step(own, gradient, live.any()[None], progress, scale)

    def raise_mistake(self, what: str, members: Index, time: int, error: Exception) -> NoReturn:
        """Raise what the code of ``members`` ``[n]`` raised in ``what`` at world time ``time``.

        Raises:
            UserError: one line, with ``error`` as its cause.
        """
        names = [self.names[member] for member in members.tolist()]
        raise_mistake(what, names, self.agents.template, error, time)

    def raise_utility_mistake(self, what: str, slots: Index, error: Exception) -> NoReturn:
        """Raise what the utility models of ``slots`` ``[e]`` raised.

        Raises:
            UserError: one line, with ``error`` as its cause.
        """
        assert self.interface is not None
        edges = [self.inputs[slot] for slot in slots.tolist()]
        names = [edge_name(*edge) for edge in edges if edge is not None]
        model = self.interface.utilities.template
        raise_mistake(what, names, model, error, kind="utility model of")

    def module(self, member: int) -> Agent:
        """Return a member as it is now: an ordinary module, in eval mode.

        It has its own copy of parameters and buffers, and what was frozen is frozen in it. Its tick
        gives, for one agent, what the agent's tick gives here: messages before normalisation.
        """
        return cast(Agent, self.agents.module(self.row(member))).eval()

    def tensors(self) -> dict[str, Tensor]:
        """Everything learnt, by name, for a checkpoint; the tensors themselves."""
        own = {"share_read": self.share_read, "ticks": self.ticks}
        parts = {"agents": self.agents.tensors(), "channels": own}
        if self.encoder is not None:
            parts["encoder"] = self.encoder.tensors()
        if self.interface is not None:
            parts["utilities"] = self.interface.utilities.tensors()
        return {f"{part}.{name}": t for part, of in parts.items() for name, t in of.items()}


def build_populations(
    world: World,
    edges: Sequence[Edge],
    settings: Mapping[str, AgentSettings],
    utility: UtilitySettings | None,
    message_size: int,
    encoder: Callable[[int], MessageEncoder] | None,
    share_parameters: bool,
    seed: int,
    need: MemoryNeed,
    worlds: int,
) -> list[AgentPopulation]:
    """Make the agents of ``world`` and group them.

    Args:
        encoder: builds what encodes the messages of so many members; None: they go as they are.
        share_parameters: whether the members of a population are one network.
        need: what they need in memory is added to it, before it is taken.
        worlds: side by side, at most.

    Raises:
        UserError: if an agent can't be built for its spaces, or there is too little memory.
    """
    incoming: dict[str, list[Edge]] = {name: [] for name in world.agents}
    for edge in edges:
        incoming[edge[1]].append(edge)
    groups: dict[Hashable, list[str]] = {}
    for name in world.agents:
        spaces, own = world.spaces(name), settings[name]
        receives = bool(incoming[name])
        ends = world.window_ends(name) if own.window is None else None
        preference = None if ends is None else tuple(ends)
        key = (spaces, receives, own.key, own.optimizer, own.window, preference)
        groups.setdefault(key, []).append(name)
    populations = [
        _population(
            world,
            names,
            settings[names[0]],
            incoming,
            message_size,
            share_parameters,
            seed,
            need,
            worlds,
        )
        for names in groups.values()
    ]
    for population in populations:
        members = len(population.names)
        if encoder is not None:
            population.encoder = encoder(members)
        if utility is not None and population.spec.num_inputs:
            sender_size = _sender_size(population, populations)
            _add_interface(population, world, utility, sender_size, seed, need)
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
    incoming: Mapping[str, list[Edge]],
    message_size: int,
    shared: bool,
    seed: int,
    need: MemoryNeed,
    worlds: int,
) -> AgentPopulation:
    spaces = world.spaces(names[0])
    spec = AgentSpec(
        observation_shape=spaces.observation_shape,
        action_size=spaces.action_size,
        discrete=spaces.discrete,
        message_size=message_size,
        num_inputs=max(len(incoming[name]) for name in names),
    )
    members = []
    for name in names[:1] if shared else names:
        agent = build_agent(name, own.factory, spec, seed)
        members.append(agent)
        if len(members) == 1:
            many = 1 if shared else len(names)
            add_agents(need, name, agent, many, worlds, own.window or 1)
    state = pytree.tree_leaves(members[0].initial_state(1))
    if any(leaf.requires_grad for leaf in state):
        raise UserError(
            f"agent {names[0]}: initial_state must be constant; what is learnt belongs into tick"
        )
    inputs: list[Edge | None] = []
    for name in names:
        own_edges: list[Edge | None] = [*incoming[name]]
        inputs += own_edges + [None] * (spec.num_inputs - len(own_edges))
    place = {name: i for i, name in enumerate(world.agents)}
    with named_members([f"agent {name}" for name in names]):
        agents = Population(members, own.optimizer).to(world.device)
    return AgentPopulation(
        names=names,
        indices=np.array([place[name] for name in names], dtype=np.int64),
        spec=spec,
        agents=agents,
        window=own.window,
        state_size=sum(leaf[0].numel() for leaf in state),
        inputs=inputs,
        shared=shared,
    )


def _wire(populations: list[AgentPopulation], edges: Sequence[Edge]) -> None:
    number = {edge: i for i, edge in enumerate(edges)}
    for sender in populations:
        place = {name: row for row, name in enumerate(sender.names)}
        for r, receiver in enumerate(populations):
            found = [
                (place[edge[0]], slot, number[edge])
                for slot, edge in enumerate(receiver.inputs)
                if edge is not None and edge[0] in place
            ]
            if found:
                rows, slots, channels = np.array(sorted(found), dtype=np.int64).T
                sender.routes.append(Route(r, rows, slots, channels))


def _sender_size(receiver: AgentPopulation, populations: Sequence[AgentPopulation]) -> int | None:
    """Numbers in the state of those who send to a population; None: it differs among them."""
    senders = {edge[0] for edge in receiver.inputs if edge is not None}
    sizes = {p.state_size for p in populations if not senders.isdisjoint(p.names)}
    return sizes.pop() if len(sizes) == 1 else None


def _add_interface(
    population: AgentPopulation,
    world: World,
    settings: UtilitySettings,
    sender_size: int | None,
    seed: int,
    need: MemoryNeed,
) -> None:
    fields = list(world.default_context if settings.context is None else settings.context)
    takes_label = "num_classes" in inspect.signature(settings.factory).parameters
    label = settings.label or world.label_field
    known = {name: field.size for name, field in world.context_fields.items()}
    known |= {"receiver": population.state_size, "time": 1}
    if sender_size is not None:
        known["sender"] = sender_size
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
        if len(models) == 1:
            add_utilities(need, name, len(population.inputs), model)
    if any(getattr(model, "needs_outcome", False) for model in models):
        raise UserError(
            f"utility: {type(models[0]).__name__} foresees what a net will say in each step, and "
            "agents say no such thing; use utility=gradient, critic or local"
        )
    solved = [model for model in models if isinstance(model, LeastSquaresUtility)]
    owners = ["none" if edge is None else edge_name(*edge) for edge in population.inputs]
    with named_members([f"utility model of {name}" for name in owners]):
        if solved:
            population.interface = LeastSquares(solved, reduction="sum")
        else:
            population.interface = Interface(models, settings.optimizer, reduction="sum")
    population.interface.to(world.device)
