"""Due agents tick: observation, inbox and state become action, message and state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dnicomm.core import Rows
from dnicomm.core.stages import stage
from dnicomm.errors import UserError
from dnicomm.sim.agent import Inbox, TickOutput
from dnicomm.sim.checks import check_output
from dnicomm.sim.policy import Choice, choose, within
from dnicomm.sim.population import AgentPopulation, Index
from dnicomm.sim.window import OpenWindow, Tick, take_rows

if TYPE_CHECKING:
    from dnicomm.sim.engine import Engine
    from dnicomm.sim.lane import Lane


def tick(engine: Engine, time: int) -> list[tuple[Lane, Tick]]:
    """Everybody who is due at ``time`` ticks, a population at a time; what came of it."""
    there = engine.there()
    done = []
    for lane in engine.lanes:
        members = np.flatnonzero(lane.due[:, time])
        if lane.window is None or len(members) == 0:
            continue
        done.append((lane, _tick_members(engine, time, lane, lane.window, members, there)))
    return done


def _tick_members(
    engine: Engine,
    time: int,
    lane: Lane,
    window: OpenWindow,
    members: Index,
    there: Tensor | None,
) -> Tick:
    """Some members of a population; what is recorded of it is in their window, too."""
    population, world = lane.population, engine.world
    indices = population.indices[members]
    active = None if there is None else there[engine.tensor(indices)]
    place = window.place(members)
    rows = window.rows if place is None else window.rows.take(place)
    with stage("observe"):
        inbox = Inbox(*lane.mailbox.read(time, place, active))
    if engine.intervene is not None:
        inbox = engine.intervene(time, lane, members, inbox)
    if population.spec.observation_size == 0 and population.spec.num_inputs:
        # nothing seen and nothing heard: there is nothing to turn into anything
        heard = inbox.mask.any(-1)
        active = heard if active is None else active & heard
    before = take_rows(window.state, place)
    numbers = indices.tolist()
    with stage("observe"):
        observation = world.observe(numbers)
        allowed = world.allowed(numbers) if population.spec.discrete else None
    if population.watch is not None:
        population.watch.begin(population.agents.template, population.agents.named(rows))
    try:
        output: TickOutput = population.agents.call(rows, "tick", observation, inbox, before)
    except Exception as error:
        population.raise_mistake("tick", members, time, error)
    if population.watch is not None:
        _watch_attributes(population, members, rows)
    check_output(time, population.names[int(members[0])], population.spec, engine.edges,
                 (len(members), world.num_worlds), output, before)  # fmt: skip
    output = within(output, allowed)
    window.update_state(place, output.state, active)
    if place is not None:
        for name, buffer in rows.buffers.items():
            window.rows.buffers[name] = window.rows.buffers[name].index_copy(0, place, buffer)
    at = engine.tensor(members)
    action, spoke = _choose(engine, time, population, members, output)
    with stage("world"):
        if population.spec.action_size:
            world.act(numbers, action, active)
        label = world.labels(numbers) if engine.learn else None
    tick = Tick(time, members, at, rows, output, output.message, active, action, spoke, label)
    if engine.learn and population.epochs > 1:
        tick.observation, tick.inbox, tick.allowed = observation, inbox, allowed
        # what comes back to it as a message, apart from what else the agent made of it
        tick.message = output.message.view_as(output.message)
    window.ticks.append(tick)
    if engine.observer is not None:
        engine.observer(lane, tick, observation, inbox, before)
    if engine.learn:
        ticked = torch.ones_like(at) if active is None else active.any(1).long()
        population.ticks.index_add_(0, at, ticked)
    if engine.learn and population.spec.num_inputs:
        read = inbox.mask if active is None else inbox.mask & active[..., None]  # [n, B, K]
        population.channel_meter.count_reads(at, read, inbox.age)
    return tick


def _watch_attributes(population: AgentPopulation, members: Index, rows: Rows) -> None:
    """Refuse a module that a tick changes; looks at the first few ticks only.

    Raises:
        UserError: names the attribute.
    """
    assert population.watch is not None
    agents = population.agents
    wrong = population.watch.end(agents.template, agents.named(rows))
    if wrong is not None:
        raise UserError(f"agent {population.names[int(members[0])]}: {wrong}")
    if population.watch.is_over:
        population.watch = None


@torch.no_grad()
def _choose(
    engine: Engine, time: int, population: AgentPopulation, members: Index, output: TickOutput
) -> Choice:
    """What is done ``[n, B]``: drawn where rewards are to be learnt from, else the best."""
    scores, spec = output.action, population.spec
    drawn = engine.learn and engine.world.rewards
    if not drawn or not (spec.action_size or output.speak is not None):
        return choose(output, spec.discrete, None)
    numbers = spec.action_size + (output.speak is not None)
    key = "action", population.names[0], time
    return choose(output, spec.discrete, engine.uniform(key, population, members, scores, numbers))
