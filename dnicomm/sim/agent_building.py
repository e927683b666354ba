"""One agent or utility model, made by its user's code: checked, and counted in what a run needs."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import nn
from torch.utils import _pytree as pytree

from dnicomm.core.parameters import check_parameters, frozen_parameters, learnable_parameters
from dnicomm.errors import UserError
from dnicomm.sim.agent import Agent, AgentSpec
from dnicomm.sim.agent_mistakes import named_members, raise_build_mistake, raise_mistake
from dnicomm.sim.memory import MemoryNeed
from dnicomm.sim.random import torch_seed


def build_agent(
    name: str, factory: Callable[[AgentSpec], Agent], spec: AgentSpec, seed: int
) -> Agent:
    """Build agent ``name``, with random numbers of its own.

    Raises:
        UserError: if that fails, or what is built can't be computed with.
    """
    with torch_seed(seed, "agent", name), warnings.catch_warnings():
        # an agent that only talks has an action layer of no outputs
        warnings.filterwarnings("ignore", "Initializing zero-element tensors")
        try:
            agent = factory(spec)
        except Exception as error:
            raise_build_mistake(f"agent {name}", error)
    if not isinstance(agent, Agent):
        kind = type(agent).__name__
        raise UserError(f"agent {name}: {kind} is not an Agent (see dnicomm.sim.Agent)")
    for what in ("epochs", "minibatches"):
        value = getattr(agent, what)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UserError(
                f"agent {name}: {what} is {value}; it must be 1 or more, a whole number"
            )
    return agent


def add_agents(
    need: MemoryNeed, name: str, agent: Agent, members: int, worlds: int, window: int
) -> None:
    """Add ``members`` agents like ``agent`` to what is needed.

    Raises:
        UserError: if there is not so much memory, a parameter can't be held, or ``initial_state``
            fails.
    """
    spec = agent.spec
    with named_members([f"agent {name}"]):
        learnt, frozen = _sizes(agent)
    try:
        start = agent.initial_state(1)
    except Exception as error:
        raise_mistake("initial_state", [name], agent, error)
    state = sum(leaf.numel() for leaf in pytree.tree_leaves(start))
    messages = spec.num_inputs * spec.message_size
    need.add_agents(members, learnt, worlds * messages, worlds * state, window, frozen)


def add_utilities(need: MemoryNeed, name: str, count: int, model: nn.Module) -> None:
    """Add ``count`` utility models like ``model``, that of channel ``name``, to what is needed.

    Raises:
        UserError: if there is not so much memory, or a parameter can't be held.
    """
    with named_members([f"utility model of {name}"]):
        need.add_utilities(count, *_sizes(model))


def _sizes(module: nn.Module) -> tuple[int, int]:
    """Numbers in the parameters that learn, and in the frozen ones.

    Raises:
        ValueError: if a population can't hold one of them.
    """
    check_parameters(module, torch.get_default_dtype())
    learnt, frozen = (
        sum(parameter.numel() for parameter in part.values())
        for part in (learnable_parameters(module), frozen_parameters(module))
    )
    return learnt, frozen
