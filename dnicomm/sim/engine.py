"""Agents in time: one episode as a fixed sequence of phases.

At each time t::

    deliver   what has arrived goes into inboxes
    open      populations whose window begins gather the members due in it
    tick      due agents turn observation, inbox and state into action, message and state
    feed back receivers' utility models answer at once, messages go on their way (sending.py)
    step      the worlds go on by one unit of time, last actions held
    close     windows that end at t backpropagate, update, settle (see learning.py)

Each phase runs over plain per-population state; the feedback mode only decides what is put into
the windows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils import _pytree as pytree

from dnicomm.core import Window
from dnicomm.sim.agent import Inbox, State, TickOutput
from dnicomm.sim.channel import Channel
from dnicomm.sim.checks import check_output, checked_delays, checked_losses
from dnicomm.sim.clock import Clock
from dnicomm.sim.feedback import Feedback
from dnicomm.sim.learning import close_windows
from dnicomm.sim.mail import Mailbox
from dnicomm.sim.population import AgentPopulation, Index
from dnicomm.sim.random import generator, torch_seed
from dnicomm.sim.sending import feed_back
from dnicomm.sim.topology import Edge, edge_name
from dnicomm.sim.window import OpenWindow, Tick, replace_rows, take_rows
from dnicomm.sim.world import World


@dataclass
class Lane:
    """What one population goes through in one episode of one batch of worlds."""

    population: AgentPopulation
    mailbox: Mailbox
    state: State  # [N, B, …]
    due: NDArray[np.bool_]  # [N, T] who ticks when
    ends: NDArray[np.bool_]  # [T] when its windows end
    window: OpenWindow | None = None


class Engine:
    """Plays episodes of a batch of worlds with some populations of agents.

    Args:
        world: B worlds.
        populations: who lives in them.
        edges: the run's channels.
        clocks: by agent; None where the environment owns the schedule.
        channel: what happens on every channel.
        feedback: what reaches senders; ignored unless ``learn``.
        gradient_scale: factor on injected synthetic gradients.
        gamma: discount per unit of world time.
        exact_window: world time between updates where senders wait; None: the whole episode.
        seed: of every random number, with ``stream`` (``"train"`` or another name).
        learn: whether anybody learns; without it running statistics and best actions are used.
    """

    def __init__(
        self,
        world: World,
        populations: Sequence[AgentPopulation],
        edges: Sequence[Edge],
        clocks: Mapping[str, Clock] | None,
        channel: Channel,
        feedback: Feedback,
        gradient_scale: float = 1.0,
        gamma: float = 0.99,
        exact_window: int | None = None,
        seed: int = 0,
        stream: str = "train",
        learn: bool = True,
    ) -> None:
        self.world, self.populations, self.edges = world, populations, edges
        self.clocks, self.channel, self.feedback = clocks, channel, feedback
        self.gradient_scale, self.gamma = gradient_scale, gamma
        self.exact_window = exact_window
        self.seed, self.stream, self.learn = seed, stream, learn
        self.lanes: list[Lane] = []
        self.rewards: list[Tensor] = []  # [num_agents, B] by time
        self.alive: list[Tensor | None] = []  # [num_agents, B] bool after each step; None: all
        self.episode = 0
        self.length = 0  # world time of this episode
        self.progress = 0.0  # share of the run that is over

    # -- an episode ---------------------------------------------------------------------------

    def play(self, episode: int, limit: int | None = None) -> int:
        """Play an episode, or its first ``limit`` units of time; returns the time it took."""
        modules = torch_seed(self.seed, self.stream, "modules", episode)  # dropout and the like
        for population in self.populations:
            population.agents.template.train(self.learn)
        with torch.set_grad_enabled(self.learn), modules:
            self._begin(episode, limit)
            for time in range(self.length):
                self._deliver(time)
                self._open(time)
                ticks = self._tick(time)
                feed_back(self, time, ticks)
                over = self._step()
                if over:  # every world has ended early: the windows end here
                    for lane in self.lanes:
                        lane.ends[time] = True
                self._close(time)
                if over:
                    self.length = time + 1
                    break
            self._end()
        return self.length

    def draw(self, *key: str | int) -> np.random.Generator:
        return generator(self.seed, self.stream, *key, self.episode)

    def _begin(self, episode: int, limit: int | None) -> None:
        self.episode = episode
        world = self.world
        world.reset(episode, self.draw("world"))
        self.length = (
            world.episode_length() if limit is None else min(limit, world.episode_length())
        )
        schedule = self._schedule()
        count, worlds = self.length, world.num_worlds
        self.rewards, self.alive = [], []
        self.delays = np.zeros((len(self.edges), count), dtype=np.int64)
        self.lost: list[Tensor | None] = []
        for i, edge in enumerate(self.edges):
            name = edge_name(*edge)
            delays = self.channel.delays(self.draw("delay", name), count)
            self.delays[i] = checked_delays(self.channel, name, delays, count)
            lost = self.channel.lost(self.draw("lost", name), (count, worlds))
            lost = checked_losses(self.channel, name, lost, (count, worlds))
            self.lost.append(None if lost is None else torch.from_numpy(lost).to(world.device))
        self.lanes = [self._lane(population, schedule) for population in self.populations]
        self.shared = Window()  # for exact feedback

    def _schedule(self) -> dict[str, Sequence[int]]:
        """Tick times by agent, in this episode."""
        own = self.world.schedule()
        if own is not None:
            return dict(own)
        assert self.clocks is not None, "no clocks, and the environment owns no schedule"
        return {
            name: [int(t) for t in clock.ticks(self.draw("clock", name), self.length)]
            for name, clock in self.clocks.items()
        }

    def _lane(self, population: AgentPopulation, schedule: Mapping[str, Sequence[int]]) -> Lane:
        world, members = self.world, len(population.names)
        due = np.zeros((members, self.length), dtype=bool)
        for row, name in enumerate(population.names):
            times = np.asarray(schedule[name], dtype=np.int64)
            due[row, times[times < self.length]] = True
        interface = population.interface
        mailbox = Mailbox(
            members,
            population.spec.num_inputs,
            world.num_worlds,
            population.spec.message_size,
            0 if interface is None else interface.context_size,
            world.device,
        )
        start = population.agents.template.initial_state(world.num_worlds)  # type: ignore[operator]
        state = pytree.tree_map(
            lambda leaf: leaf.to(world.device).expand(members, *leaf.shape).contiguous(), start
        )
        return Lane(population, mailbox, state, due, self._window_ends(population))

    def _window_ends(self, population: AgentPopulation) -> NDArray[np.bool_]:
        ends = np.zeros(self.length, dtype=bool)
        ends[-1] = True
        if self.feedback.locked:
            if self.exact_window is not None:
                ends[self.exact_window - 1 :: self.exact_window] = True
            return ends
        asked = self.world.window_ends(population.names[0]) if population.window is None else None
        if asked is not None:
            times = np.asarray(asked, dtype=np.int64)
            ends[times[times < self.length]] = True
        else:
            window = population.window or 1
            ends[window - 1 :: window] = True
        return ends

    # -- the phases ---------------------------------------------------------------------------

    def _deliver(self, time: int) -> None:
        for lane in self.lanes:
            lane.mailbox.deliver(time)

    def _open(self, time: int) -> None:
        for lane in self.lanes:
            if lane.window is not None:
                continue
            if self.learn:
                end = time + int(np.argmax(lane.ends[time:]))  # the last time always ends one
            else:
                end = time
            members = np.flatnonzero(lane.due[:, time : end + 1].any(1))
            if len(members) == 0:
                continue
            everybody = len(members) == len(lane.population.names)
            at = None if everybody else self.tensor(members)
            rows = lane.population.agents.rows(at, requires_grad=self.learn)
            record = self.shared if self.feedback.locked else Window()
            state = take_rows(lane.state, at)
            lane.window = OpenWindow(time, members, rows, record, state)
            lane.mailbox.open_window(members)

    def _tick(self, time: int) -> list[tuple[Lane, Tick]]:
        there = self._there()
        done = []
        for lane in self.lanes:
            members = np.flatnonzero(lane.due[:, time])
            if lane.window is None or len(members) == 0:
                continue
            done.append((lane, self._tick_members(time, lane, lane.window, members, there)))
        return done

    def _tick_members(
        self, time: int, lane: Lane, window: OpenWindow, members: Index, there: Tensor | None
    ) -> Tick:
        population, world = lane.population, self.world
        indices = population.indices[members]
        active = None if there is None else there[self.tensor(indices)]
        place = window.place(members)
        rows = window.rows if place is None else window.rows.take(place)
        inbox = Inbox(*lane.mailbox.read(time, place, active))
        if population.spec.observation_size == 0 and population.spec.num_inputs:
            # nothing seen and nothing heard: there is nothing to turn into anything
            heard = inbox.mask.any(-1)
            active = heard if active is None else active & heard
        before = take_rows(window.state, place)
        observation = world.observe(indices.tolist())
        output: TickOutput = population.agents.call(rows, "tick", observation, inbox, before)
        check_output(time, population.names[int(members[0])], population.spec, self.edges,
                     (len(members), world.num_worlds), output, before)  # fmt: skip
        window.update_state(place, output.state, active)
        if place is not None:
            for name, buffer in rows.buffers.items():
                window.rows.buffers[name] = window.rows.buffers[name].index_copy(0, place, buffer)
        at = self.tensor(members)
        action = self._choose(time, population, members, output.action)
        if population.spec.action_size:
            world.act(indices.tolist(), action, active)
        label = world.labels(indices.tolist()) if self.learn else None
        tick = Tick(time, members, at, rows, output, output.message, active, action, label)
        window.ticks.append(tick)
        if self.learn:
            population.ticks[at] += 1 if active is None else active.any(1)
        if self.learn and population.spec.num_inputs:
            k = population.spec.num_inputs
            slots = (at[:, None] * k + torch.arange(k, device=at.device)).flatten()
            read = inbox.mask if active is None else inbox.mask & active[..., None]  # [n, B, K]
            population.channel_meter.add("reads", slots, read.sum(1).flatten())
            population.channel_meter.add("age", slots, (inbox.age * read).sum(1).flatten())
        return tick

    @torch.no_grad()
    def _choose(
        self, time: int, population: AgentPopulation, members: Index, scores: Tensor
    ) -> Tensor:
        """Actions ``[n, B]``; sampled where rewards are to be learnt from, else the best."""
        if not population.spec.discrete:
            return scores.detach()
        if population.spec.action_size == 0:
            return torch.zeros(scores.shape[:2], dtype=torch.int64, device=scores.device)
        if self.learn and self.world.rewards:
            # drawn for every member, so that one's numbers don't depend on who else is due
            shape = (len(population.names), *scores.shape[1:])
            uniform = self.draw("action", population.names[0], time).random(shape, np.float32)
            noise = torch.from_numpy(uniform[members]).to(scores.device).clamp(1e-10, 1 - 1e-7)
            scores = scores - torch.log(-torch.log(noise))  # Gumbel
        return scores.argmax(-1)

    def _step(self) -> bool:
        """The worlds go on; whether all of them have ended."""
        rewards = self.world.step()
        if rewards is not None:
            self.rewards.append(rewards)
            for lane in self.lanes if self.learn else ():
                meter = lane.population.agent_meter
                own = rewards[self.tensor(lane.population.indices)].sum(1)
                meter.add("reward", None, own)
                meter.add("rewards", None, torch.full_like(own, rewards.shape[1]))
        ended = self.world.ended()
        self.alive.append(self._unless_ended(self.world.alive()))
        return self.world.early_end and ended is not None and bool(ended.all())

    def _there(self) -> Tensor | None:
        """Who may act now, ``[num_agents, B]``: not the dead, nobody in a world that has ended."""
        return self._unless_ended(self.world.active())

    def _unless_ended(self, agents: Tensor | None) -> Tensor | None:
        """``agents`` ``[num_agents, B]`` (None: all) in worlds that go on."""
        ended = self.world.ended()
        if ended is None:
            return agents
        going_on = ~ended.expand(len(self.world.agents), -1)
        return going_on if agents is None else agents & going_on

    def _close(self, time: int) -> None:
        if self.learn:
            closing = [lane for lane in self.lanes if lane.ends[time]]
            if closing:
                close_windows(self, time, closing)
            return
        for lane in self.lanes:
            self.keep_state(lane)
            if lane.window is not None:
                lane.mailbox.discard_window()
            lane.window = None

    def last_state(self, lane: Lane) -> State:
        """States ``[N, B, …]`` after the last tick, in an open window's graph."""
        if lane.window is None:
            return lane.state
        everybody = len(lane.window.members) == len(lane.population.names)
        at = None if everybody else self.tensor(lane.window.members)
        return replace_rows(lane.state, at, lane.window.state, None)

    def keep_state(self, lane: Lane) -> None:
        """Write a window's last states back, cut from its graph."""
        lane.state = pytree.tree_map(lambda leaf: leaf.detach(), self.last_state(lane))

    def _end(self) -> None:
        """The episode is over: mail is dropped, and what is left is settled."""
        for lane in self.lanes:
            lane.mailbox.end_episode()
        if self.learn:
            close_windows(self, self.length - 1, self.lanes)

    def tensor(self, index: Index) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(index)).to(self.world.device)
