"""Does an agent keep the contract of ``dnicomm.sim.Agent``?"""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from dnicomm.core import Population
from dnicomm.core.parameters import (
    check_parameters,
    frozen_parameters,
    learnable_parameters,
    rate_factors,
)
from dnicomm.errors import error_line, user_frame
from dnicomm.sim import Agent, AgentSpec, Inbox, Outcome, TickOutput
from dnicomm.sim.agent_mistakes import AttributeWatch
from dnicomm.testing.complaints import Complaints, Stop, plain

WORLDS = 5
# what topologies and environments ask of agents; the first is the one checked in full
SPECS = {
    "": AgentSpec((6,), 4, True, 8, 2),
    "first of a chain: nothing comes in": AgentSpec((6,), 0, True, 8, 0),
    "in the middle of a chain: it sees nothing and does not act": AgentSpec((0,), 0, True, 8, 1),
    "last of a chain: it sees nothing": AgentSpec((0,), 4, True, 8, 1),
}


def check_agent(factory: Callable[[AgentSpec], Any], spec: AgentSpec | None = None) -> list[str]:
    """What an agent gets wrong.

    Args:
        factory: the agent's class, or a function that builds one from its spec.
        spec: what an environment asks of it; None: several common ones.
    """
    found = Complaints()
    if inspect.isclass(factory):
        if not issubclass(factory, nn.Module):
            return [f"{factory.__name__} is no torch.nn.Module; derive it from dnicomm.sim.Agent"]
        if not issubclass(factory, Agent):
            return [f"{factory.__name__} is an nn.Module but no Agent; derive it from "
                    "dnicomm.sim.Agent"]  # fmt: skip
        if factory.tick is Agent.tick:
            return [f"{factory.__name__} has no tick(self, observation, inbox, state)"]
    for case, wanted in ({"": spec} if spec is not None else SPECS).items():
        own = Complaints()
        with contextlib.suppress(Stop):
            _check(factory, wanted, own, full=not case)
        for complaint in own:
            if complaint not in found:  # said of the first case already
                found.add(f"{complaint} ({case})" if case else complaint)
        if found and not case:
            break
    return list(found)


def _check(
    factory: Callable[[AgentSpec], Any], spec: AgentSpec, found: Complaints, full: bool
) -> None:
    agents = [_build(factory, spec, found, seed) for seed in (0, 1)]
    state = _initial_state(agents[0], found)
    output, inputs = _tick(agents[0], spec, state, found)
    _check_output(output, spec, state, found)
    if found:
        raise Stop
    _check_loss(agents[0], spec, output, found)
    if full:
        _check_worlds(agents[0], inputs, output, found)
        _check_stacked(agents, inputs, found)


def _build(
    factory: Callable[[AgentSpec], Any], spec: AgentSpec, found: Complaints, seed: int
) -> Agent:
    with torch.random.fork_rng(), warnings.catch_warnings(), found.step("it can't be built"):
        warnings.filterwarnings("ignore", "Initializing zero-element tensors")
        torch.manual_seed(seed)
        agent = factory(spec)
    if not isinstance(agent, Agent):
        found.fail(f"a {type(agent).__name__} was built, and that is no Agent (dnicomm.sim.Agent)")
    try:
        check_parameters(agent, torch.get_default_dtype())
        rate_factors(agent)
    except ValueError as error:
        found.fail(str(error))
    agent.eval()  # dropout differs from call to call, as it should
    return agent


def _initial_state(agent: Agent, found: Complaints) -> Any:
    with found.step("initial_state failed"):
        state = agent.initial_state(WORLDS)
    for leaf in pytree.tree_leaves(state):
        if not isinstance(leaf, Tensor):
            found.fail(
                f"initial_state holds a {type(leaf).__name__}; a state is tensors in tuples, lists "
                "or dicts, and () where there is none"
            )
        if leaf.dim() == 0 or leaf.shape[0] != WORLDS:
            found.fail(
                f"initial_state({WORLDS}) holds a tensor {list(leaf.shape)}; the first dimension "
                f"must be that of the worlds: [{WORLDS}, …]"
            )
    return state


def _inputs(spec: AgentSpec, state: Any) -> tuple[Tensor, Inbox, Any]:
    generator = torch.Generator().manual_seed(0)
    observation = torch.rand(WORLDS, *spec.observation_shape, generator=generator)
    mask = torch.rand(WORLDS, spec.num_inputs, generator=generator) < 0.7
    messages = torch.randn(WORLDS, spec.num_inputs, spec.message_size, generator=generator)
    messages = messages * mask[..., None]
    age = mask * torch.randint(1, 5, mask.shape, generator=generator)
    return observation, Inbox(messages, mask, age.float()), state


def _tick(agent: Agent, spec: AgentSpec, state: Any, found: Complaints) -> tuple[TickOutput, Any]:
    """The first of a few ticks, and what they are given; an agent changes in buffers alone."""
    inputs = _inputs(spec, state)
    watch, values = AttributeWatch(), _values(agent)
    parameters = dict(agent.named_parameters())
    output: Any = None
    wrong = None
    while not (watch.is_over or wrong):
        watch.begin(agent, parameters)
        with found.step("tick failed"):
            again = agent.tick(*_copies(inputs))
        output = again if output is None else output
        wrong = watch.end(agent, parameters)
    if wrong is not None:
        found.add(wrong)
    for name, parameter in agent.named_parameters():
        if parameter is not parameters.get(name, parameter):
            found.add(f"tick puts another parameter in the place of {name}, which learns nothing")
    if found:
        raise Stop
    _put_back(agent, values)
    return output, inputs


Values = dict[str, tuple[Tensor, Tensor]]  # by name, with a copy


def _values(agent: Agent) -> Values:
    """Parameters and buffers as they are."""
    named = [*agent.named_parameters(), *agent.named_buffers()]
    return {name: (value, value.detach().clone()) for name, value in named}


@torch.no_grad()
def _put_back(agent: Agent, values: Values) -> None:
    """Give an agent back the buffers that a tick has changed or replaced."""
    for value, before in values.values():
        if not torch.equal(value, before):  # a graph may need what has not changed
            value.copy_(before)
    for name, buffer in list(agent.named_buffers()):
        if buffer is not values[name][0]:
            owner, _, leaf = name.rpartition(".")
            setattr(agent.get_submodule(owner), leaf, values[name][0])


def _check_output(output: Any, spec: AgentSpec, state: Any, found: Complaints) -> None:
    if not isinstance(output, TickOutput):
        found.fail(f"tick returns a {type(output).__name__}; it must be a dnicomm.sim.TickOutput")
    found.check_tensor("action", output.action, (WORLDS, spec.action_size))
    found.check_tensor("message", output.message, (WORLDS, spec.message_size))
    for name, tensor, shape in (
        ("value", output.value, (WORLDS,)),
        ("log_std", output.log_std, (WORLDS, spec.action_size)),
        ("speak", output.speak, (WORLDS,)),
    ):
        if tensor is not None:
            found.check_tensor(name, tensor, shape)
    before, after = pytree.tree_flatten(state), pytree.tree_flatten(output.state)
    if before[1] != after[1]:
        found.add("the state that tick returns is built otherwise than initial_state's")
        return
    for old, new in zip(before[0], after[0], strict=True):
        if not isinstance(new, Tensor):
            found.add(f"the state that tick returns holds a {type(new).__name__}, and no tensor")
        elif old.shape != new.shape or old.dtype != new.dtype:
            found.add(
                f"tick returns a state {list(new.shape)} {plain(new.dtype)}; initial_state gave "
                f"{list(old.shape)} {plain(old.dtype)}"
            )
        else:
            found.check_tensor("the state that tick returns", new, tuple(old.shape), None)


def _check_loss(agent: Agent, spec: AgentSpec, output: TickOutput, found: Complaints) -> None:
    labels = torch.arange(WORLDS) % max(spec.action_size, 1)
    known = labels if spec.action_size else torch.full_like(labels, -1)
    action = labels
    if spec.action_size and not spec.discrete:
        known = action = torch.zeros(WORLDS, spec.action_size)
    ones, zeros = torch.ones(WORLDS), torch.zeros(WORLDS)
    outcome = Outcome(known, action, ones > 0, ones, ones, zeros)
    with found.step("loss failed"):
        loss = agent.loss(output, outcome)
    if not found.check_tensor("loss", loss, (WORLDS,)):
        raise Stop
    total = loss.sum() + output.message.sum()
    if not total.requires_grad:
        if frozen_parameters(agent) and not learnable_parameters(agent):
            return  # it was never meant to learn
        found.fail("neither loss nor message depends on a parameter: there is nothing to learn")
    with found.step("loss and message can't be differentiated"):
        total.backward()
    for name, parameter in agent.named_parameters():
        if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
            found.add(f"the gradient of {name} is not finite")


def _check_worlds(agent: Agent, inputs: Any, output: TickOutput, found: Complaints) -> None:
    """What happens in one world must not reach another."""
    agent.train()
    values = _values(agent)  # a tick may count in its buffers
    with found.step("tick failed in training mode"), torch.random.fork_rng():
        torch.manual_seed(0)
        one = agent.tick(*_copies(inputs))
        changed = pytree.tree_map(_other_first_world, inputs)
        _put_back(agent, values)
        torch.manual_seed(0)
        other = agent.tick(*_copies(changed))
    agent.eval()
    for name, a, b in (("action", one.action, other.action), ("message", one.message,
                                                              other.message)):  # fmt: skip
        if a.numel() and not torch.allclose(a[1:], b[1:], atol=1e-5):
            found.add(
                f"worlds are not independent: changing what world 0 sees and hears changes the "
                f"{name} in others (batch statistics over worlds?)"
            )
    given = _copies(inputs)
    agent.tick(*given)
    before, after = pytree.tree_leaves(inputs), pytree.tree_leaves(given)
    if any(not torch.equal(a, b) for a, b in zip(before, after, strict=True)):
        found.add("tick writes into what it is given; observation, inbox and state are not its own")


def _check_stacked(agents: list[Agent], inputs: Any, found: Complaints) -> None:
    """An agent alone of its kind is lent its parameters; several are computed in one kernel."""
    try:
        alone = _computed(agents[:1], inputs)
    except Exception as error:
        found.add(f"it can't be computed with parameters that are lent to it: {_told(error)}")
        return
    try:
        both = _computed(agents, inputs)
    except Exception as error:
        found.add(
            f"several of them can't be computed at once by torch.func.vmap: {_told(error)} "
            "(no Python branches on values of tensors, no .item(), no writing in place)"
        )
        return
    for row, agent in enumerate(agents):
        values = _values(agent)
        own = agent.tick(*_copies(inputs))
        _put_back(agent, values)
        if not _equal_row(both, row, own):
            found.add("two of them computed at once give other results than one by one")
            return
        if row == 0 and not _equal_row(alone, row, own):
            found.add("one of them gives other results once its parameters are lent to it")
            return


def _equal_row(output: TickOutput, row: int, own: TickOutput) -> bool:
    pairs = ((output.action[row], own.action), (output.message[row], own.message))
    return all(torch.allclose(a, b, atol=1e-4) for a, b in pairs)


def _computed(agents: list[Agent], inputs: Any) -> TickOutput:
    """The tick of agents as rows of a population, ``[n, B, …]``."""
    population = Population(agents)
    stacked = pytree.tree_map(lambda leaf: torch.stack([leaf] * len(agents)), inputs)
    output: TickOutput = population.call(population.rows(), "tick", *stacked)
    return output


def _told(error: Exception) -> str:
    return f"{error_line(error)}{user_frame(error) or ''}"


def _copies(inputs: Any) -> Any:
    return pytree.tree_map(lambda leaf: leaf.detach().clone(), inputs)


def _other_first_world(leaf: Tensor) -> Tensor:
    changed = leaf.clone()
    changed[0] = ~leaf[0] if leaf.dtype == torch.bool else leaf[0] * 3 + 1
    return changed
