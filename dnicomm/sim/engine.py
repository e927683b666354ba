"""Agents in time: one episode as a fixed sequence of phases.

At each time t::

    deliver   what has arrived goes into inboxes
    open      populations whose window begins gather the members due in it
    tick      due agents turn observation, inbox and state into action and message (ticking.py)
    feed back receivers' utility models answer at once, messages go on their way (sending.py)
    step      the worlds go on by one unit of time, last actions held
    close     windows that end at t backpropagate, update, settle (see learning.py)

Each phase runs over plain per-population state; the feedback mode only decides what is put into
the windows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from dnicomm.core import Window
from dnicomm.core.stages import stage
from dnicomm.core.tree import mapped
from dnicomm.sim.agent import Inbox, State
from dnicomm.sim.channel import Channel
from dnicomm.sim.clock import Clock, ticks_of
from dnicomm.sim.credit import Discount, record_truncations
from dnicomm.sim.fates import fates
from dnicomm.sim.feedback import Feedback
from dnicomm.sim.lane import Lane, lane_of
from dnicomm.sim.learning import close_windows
from dnicomm.sim.population import AgentPopulation, Index
from dnicomm.sim.random import Generators, generator, global_seed
from dnicomm.sim.scarcity import LinkQueues
from dnicomm.sim.sending import feed_back
from dnicomm.sim.ticking import tick
from dnicomm.sim.topology import Edge
from dnicomm.sim.window import OpenWindow, Tick, replace_rows, take_rows
from dnicomm.sim.world import World


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
        discount: how rewards are credited.
        exact_window: world time between updates where senders wait; None: the whole episode.
        message_cost: what a message takes from its sender's reward.
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
        discount: Discount = Discount(),  # noqa: B008 -- frozen
        exact_window: int | None = None,
        message_cost: float = 0.0,
        seed: int = 0,
        stream: str = "train",
        learn: bool = True,
    ) -> None:
        self.world, self.populations, self.edges = world, populations, edges
        self.clocks, self.channel, self.feedback = clocks, channel, feedback
        self.gradient_scale, self.discount = gradient_scale, discount
        self.exact_window = exact_window
        self.seed, self.stream, self.learn = seed, stream, learn
        number = {name: i for i, name in enumerate(world.agents)}
        self.sender_of = np.array([number[a] for a, _ in edges], dtype=np.int64)  # by channel
        self.receiver_of = np.array([number[b] for _, b in edges], dtype=np.int64)
        self.message_cost = message_cost
        self.queues: LinkQueues | None = None
        self.lanes: list[Lane] = []
        self.rewards: list[Tensor] = []  # [num_agents, B] by time
        self.alive: list[Tensor | None] = []  # [num_agents, B] bool after each step; None: all
        self.episode = 0
        self.length = 0  # world time of this episode
        self.progress = 0.0  # share of the run that is over
        # who watches ticks, and what may change what is read (listening.py)
        self.observer: Callable[[Lane, Tick, Tensor, Inbox, State], None] | None = None
        self.intervene: Callable[[int, Lane, Index, Inbox], Inbox] | None = None
        # who looks on once all have ticked and sent (onlooking.py)
        self.onlooker: Callable[[int], None] | None = None

    # -- an episode ---------------------------------------------------------------------------

    def play(self, episode: int, limit: int | None = None) -> int:
        """Play an episode, or its first ``limit`` units of time; returns the time it took."""
        # dropout and the like, and what environments and agents draw from global generators
        modules = global_seed(self.seed, self.stream, "modules", episode)
        for population in self.populations:
            population.agents.template.train(self.learn)
        with torch.set_grad_enabled(self.learn), modules:
            self._begin(episode, limit)
            for time in range(self.length):
                with stage("deliver"):
                    self._deliver(time)
                    self._renew(time)
                with stage("tick"):
                    self._open(time)
                    ticks = tick(self, time)
                with stage("feedback"):
                    feed_back(self, time, ticks)
                if self.onlooker is not None:
                    self.onlooker(time)
                with stage("world"):
                    over = self._step(time)
                if over:  # every world has ended early: the windows end here
                    for lane in self.lanes:
                        lane.ends[time] = True
                self._close(time)
                if over:
                    self.length = time + 1
                    break
            self._end()
        return self.length

    def scores(self, episodes: int) -> dict[str, list[Tensor]]:
        """What the first episodes reached, by name, ``[B]`` each."""
        found: dict[str, list[Tensor]] = {}
        for number in range(episodes):
            self.play(number)
            for name, values in self.world.score().items():
                found.setdefault(name, []).append(values)
        return found

    def draw(self, *key: str | int) -> np.random.Generator:
        return generator(self.seed, self.stream, *key, self.episode)

    def _begin(self, episode: int, limit: int | None) -> None:
        self.episode, world = episode, self.world
        world.reset(episode, self.draw("world"))
        length = world.episode_length()
        self.length = length if limit is None else min(limit, length)
        schedule = self._schedule()
        self.rewards, self.alive = [], []
        self.delays, self.lost = fates(self)
        self.lanes = [lane_of(self, population, schedule) for population in self.populations]
        self.shared = Window()  # for exact feedback
        self.queues = None
        if self.channel.bandwidth is not None:
            self.queues = LinkQueues(
                self.channel, len(self.edges), world.num_worlds, self.length, world.device
            )
        self.charged = torch.zeros(len(world.agents), world.num_worlds, device=world.device)

    def _schedule(self) -> dict[str, Sequence[int] | Index]:
        """Tick times by agent, in this episode."""
        own = self.world.schedule()
        if own is not None:
            return dict(own)
        assert self.clocks is not None, "no clocks, and the environment owns no schedule"
        draw, episode = Generators(), self.episode  # a clock keeps no generator
        return {
            name: ticks_of(
                name, clock, draw(self.seed, self.stream, "clock", name, episode), self.length
            )
            for name, clock in self.clocks.items()
        }

    # -- the phases ---------------------------------------------------------------------------

    def _deliver(self, time: int) -> None:
        for lane in self.lanes:
            lane.mailbox.deliver(time)

    def _renew(self, time: int) -> None:
        """Who begins a new life has a new state, and may hear nothing of what was sent before."""
        born = self.world.reborn()
        if born is None:
            return
        for lane in self.lanes:
            own = born[self.tensor(lane.population.indices)]  # [N, B]
            if not self.world.hears_at_birth:
                lane.mailbox.begin_again(own, time)
            lane.state = replace_rows(lane.state, None, lane.start, own)
            window = lane.window
            if window is not None:
                own, start = take_rows((own, lane.start), window.at)
                window.begin_again(own, time, start)

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
            rows = lane.population.gather(at, requires_grad=self.learn)
            record = self.shared if self.feedback.locked else Window()
            state = take_rows(lane.state, at)
            lane.window = OpenWindow(time, members, rows, record, state, at, state)
            lane.mailbox.open_window(members)

    def uniform(
        self,
        key: tuple[str | int, ...],
        population: AgentPopulation,
        members: Index,
        like: Tensor,
        numbers: int,
    ) -> Tensor:
        """Random numbers in (0, 1), ``[n, B, numbers]``, of the members that are due."""
        # drawn for every member, so that one's numbers don't depend on who else is due
        shape = (len(population.names), like.shape[1], numbers)
        drawn = self.draw(*key).random(shape, np.float32)[members]
        # so far from 0 and 1 that every distribution's inverse is finite, in float32 too
        return torch.from_numpy(drawn).to(like.device, like.dtype).clamp(2**-25, 1 - 1e-7)

    @property
    def closes_edges(self) -> bool:
        """Whether the world may close channels; else all are open, and it is not asked."""
        return getattr(self.world.open_edges, "__func__", None) is not World.open_edges

    def charge(self, channels: Index, mask: Tensor) -> None:
        """What messages cost their senders, where ``mask`` ``[e, B]`` says that they are sent."""
        if self.message_cost:
            cost = self.message_cost * mask.to(self.charged)
            self.charged.index_add_(0, self.tensor(self.sender_of[channels]), cost)

    def _step(self, time: int) -> bool:
        """The worlds go on; whether all of them have ended."""
        rewards = self.world.step()
        if rewards is not None:
            if self.message_cost:
                rewards = rewards - self.charged
                self.charged = torch.zeros_like(self.charged)
            self.rewards.append(rewards)
            for lane in self.lanes if self.learn else ():
                meter = lane.population.agent_meter
                own = rewards[self.tensor(lane.population.indices)].sum(1)
                meter.add("reward", None, own)
                meter.add("rewards", None, torch.full_like(own, rewards.shape[1]))
        ended = self.world.ended()
        alive, born = self.world.alive(), self.world.reborn()
        if born is not None:  # the rewards of a new life are not those of the former one
            alive = ~born if alive is None else alive & ~born
        self.alive.append(self._unless_ended(alive))
        truncated = self.world.truncated() if self.learn and rewards is not None else None
        if truncated is not None:
            for lane in self.lanes:
                if lane.window is not None:
                    record_truncations(self.world, lane, lane.window, time, truncated)
        return self.world.early_end and ended is not None and bool(ended.all())

    def there(self) -> Tensor | None:
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
        window = lane.window
        if window is None:
            return lane.state
        return replace_rows(lane.state, window.at, window.state, None)

    def keep_state(self, lane: Lane) -> None:
        """Write a window's last states back, cut from its graph."""
        window = lane.window
        if window is None:
            return
        at, last = window.at, mapped(Tensor.detach, window.state)
        if at is None:  # a copy, for others may hold what a tick returned
            lane.state = mapped(Tensor.clone, last)
        else:
            mapped(lambda kept, new: kept.index_copy_(0, at, new), lane.state, last)

    def _end(self) -> None:
        """The episode is over: mail is dropped, and what is left is settled."""
        with stage("settle"):
            for lane in self.lanes:
                lane.mailbox.end_episode()
        if self.learn:
            close_windows(self, self.length - 1, self.lanes)

    def tensor(self, index: Index) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(index)).to(self.world.device)
