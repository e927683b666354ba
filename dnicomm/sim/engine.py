"""Agents in time: one episode as a fixed sequence of phases.

At each time t::

    deliver   what has arrived goes into inboxes
    open      populations whose window begins gather the members due in it
    tick      due agents turn observation, inbox and state into action, message and state
    feed back receivers' utility models answer at once; messages go on their way
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
from dnicomm.errors import UserError
from dnicomm.sim.agent import Inbox, State, TickOutput
from dnicomm.sim.channel import Channel
from dnicomm.sim.clock import Clock
from dnicomm.sim.feedback import Feedback
from dnicomm.sim.learning import close_windows
from dnicomm.sim.mail import Mailbox, Parcel
from dnicomm.sim.population import AgentPopulation, Index, Route
from dnicomm.sim.random import generator
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


@dataclass
class Outgoing:
    """Messages along one route at one time."""

    sender: Lane
    tick: Tick
    route: Route
    chosen: Index  # [e] among the route's edges
    place: Tensor  # [e] senders among the tick's members


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

    # -- an episode ---------------------------------------------------------------------------

    def play(self, episode: int, limit: int | None = None) -> int:
        """Play an episode, or its first ``limit`` units of time; returns the time it took."""
        with torch.set_grad_enabled(self.learn):
            self._begin(episode, limit)
            for time in range(self.length):
                self._deliver(time)
                self._open(time)
                ticks = self._tick(time)
                self._feed_back(time, ticks)
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

    def _draw(self, *key: str | int) -> np.random.Generator:
        return generator(self.seed, self.stream, *key, self.episode)

    def _begin(self, episode: int, limit: int | None) -> None:
        self.episode = episode
        world = self.world
        world.reset(episode, self._draw("world"))
        self.length = world.episode_length() if limit is None else min(limit, world.episode_length())
        schedule = self._schedule()
        count, worlds = self.length, world.num_worlds
        self.rewards, self.alive = [], []
        self.delays = np.zeros((len(self.edges), count), dtype=np.int64)
        self.lost: list[Tensor | None] = []
        for i, edge in enumerate(self.edges):
            name = edge_name(*edge)
            self.delays[i] = self.channel.delays(self._draw("delay", name), count)
            lost = self.channel.lost(self._draw("lost", name), (count, worlds))
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
            name: [int(t) for t in clock.ticks(self._draw("clock", name), self.length)]
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
            at = None if everybody else self._tensor(members)
            rows = lane.population.agents.rows(at, requires_grad=self.learn)
            record = self.shared if self.feedback.locked else Window()
            state = take_rows(lane.state, at)
            lane.window = OpenWindow(time, members, rows, record, state)
            lane.mailbox.open_window(members)

    def _tick(self, time: int) -> list[tuple[Lane, Tick]]:
        there = self.world.active()
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
        active = None if there is None else there[self._tensor(indices)]
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
        self._check(time, population, members, output)
        window.update_state(place, output.state, active)
        if place is not None:
            for name, buffer in rows.buffers.items():
                window.rows.buffers[name] = window.rows.buffers[name].index_copy(0, place, buffer)
        at = self._tensor(members)
        message = output.message
        if population.normalizer is not None:
            message = population.normalizer(message, at, active, self.learn)
        action = self._choose(time, population, members, output.action)
        if population.spec.action_size:
            world.act(indices.tolist(), action, active)
        label = world.labels(indices.tolist()) if self.learn else None
        tick = Tick(time, members, at, rows, output, message, active, action, label)
        window.ticks.append(tick)
        population.agent_meter.add("ticks", at, torch.ones_like(at))
        if population.spec.num_inputs:
            k = population.spec.num_inputs
            slots = (at[:, None] * k + torch.arange(k, device=at.device)).flatten()
            population.channel_meter.add("reads", slots, inbox.mask.sum(1).flatten())
            population.channel_meter.add("age", slots, inbox.age.sum(1).flatten())
        return tick

    def _check(
        self, time: int, population: AgentPopulation, members: Index, output: TickOutput
    ) -> None:
        spec, worlds = population.spec, self.world.num_worlds
        for what, tensor, size in (
            ("message", output.message, spec.message_size),
            ("action", output.action, spec.action_size),
        ):
            want = (len(members), worlds, size)
            if tuple(tensor.shape) == want and tensor.dtype == torch.float32:
                continue
            name = population.names[int(members[0])]
            out = [edge_name(*e) for e in self.edges if e[0] == name] or ["no channel"]
            where = f" on {', '.join(out)}" if what == "message" else ""
            found = f"{list(tensor.shape[1:])} {str(tensor.dtype).removeprefix('torch.')}"
            raise UserError(
                f"agent {name}: {what}{where} at world time {time} is {found}; "
                f"it must be [{worlds}, {size}] float32"
            )

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
            uniform = self._draw("action", population.names[0], time).random(shape, np.float32)
            noise = torch.from_numpy(uniform[members]).to(scores.device).clamp(1e-10, 1 - 1e-7)
            scores = scores - torch.log(-torch.log(noise))  # Gumbel
        return scores.argmax(-1)

    def _feed_back(self, time: int, ticks: Sequence[tuple[Lane, Tick]]) -> None:
        for receiver, lane in enumerate(self.lanes):
            outgoing = []
            for sender, tick in ticks:
                for route in sender.population.routes:
                    if route.receiver != receiver:
                        continue
                    chosen = np.flatnonzero(np.isin(route.senders, tick.members))
                    if len(chosen):
                        place = np.searchsorted(tick.members, route.senders[chosen])
                        outgoing.append(Outgoing(sender, tick, route, chosen, self._tensor(place)))
            if outgoing:
                self._send(time, lane, outgoing)
        if not self.learn:
            return
        for lane, tick in ticks:
            assert lane.window is not None
            if tick.given is not None:
                lane.window.record.add_output(tick.message, tick.given)

    def _send(self, time: int, lane: Lane, outgoing: Sequence[Outgoing]) -> None:
        """Messages to one population: told what they are worth, and put on their way."""
        slots = np.concatenate([o.route.slots[o.chosen] for o in outgoing])
        channels = np.concatenate([o.route.channels[o.chosen] for o in outgoing])
        sent = torch.cat([o.tick.message[o.place] for o in outgoing])  # [e, B, D] in the graph
        with torch.no_grad():
            mask = self._mask(outgoing, lane, sent)  # [e, B]
            value = self._distort(time, channels, torch.where(mask[..., None], sent, 0.0))
            context = self._context(time, lane, slots)  # [e, B, C]
            self._tell(lane, outgoing, slots, value, context, mask)
        share = self.feedback.true_share if self.learn else 0.0
        if share:  # forward the value that arrives, backward the sender's own, straight through
            value = value + share * torch.where(mask[..., None], sent - sent.detach(), 0.0)
        arrivals = time + 1 + self.delays[channels, time]
        for arrival in np.unique(arrivals):
            chosen = np.flatnonzero(arrivals == arrival)
            at = slice(None) if len(chosen) == len(slots) else self._tensor(chosen)
            parcel = Parcel(slots[chosen], value[at], context[at], mask[at], time, int(arrival))
            lane.mailbox.send(parcel, self._lost(time, channels[chosen]))

    def _mask(self, outgoing: Sequence[Outgoing], lane: Lane, sent: Tensor) -> Tensor:
        """Worlds in which a message is sent: the sender is there, the channel open, no NaN."""
        mask = torch.isfinite(sent).all(-1)
        parts = mask.split([len(o.place) for o in outgoing])
        for o, part in zip(outgoing, parts, strict=True):
            meter = o.sender.population.agent_meter
            meter.add("bad_messages", o.tick.at[o.place], (~part).sum(1))
        active = [o.tick.active for o in outgoing]
        if any(a is not None for a in active):
            mask = mask & torch.cat(
                [
                    torch.ones_like(part) if a is None else a[o.place]
                    for o, a, part in zip(outgoing, active, parts, strict=True)
                ]
            )
        ends = [self.edges[c] for o in outgoing for c in o.route.channels[o.chosen]]
        number = self.world.agents.index
        is_open = self.world.open_edges([number(a) for a, _ in ends], [number(b) for _, b in ends])
        return mask if is_open is None else mask & is_open

    def _distort(self, time: int, channels: Index, value: Tensor) -> Tensor:
        if not self.channel.distorts:
            return value
        arrived = [
            self.channel.distort(value[i], self._draw("noise", edge_name(*self.edges[c]), time))
            for i, c in enumerate(channels)
        ]
        return torch.stack(arrived)

    def _lost(self, time: int, channels: Index) -> Tensor | None:
        lost = [self.lost[c] for c in channels]
        if all(part is None for part in lost):
            return None
        never = torch.zeros(self.world.num_worlds, dtype=torch.bool, device=self.world.device)
        return torch.stack([never if part is None else part[time] for part in lost])

    def _context(self, time: int, lane: Lane, slots: Index) -> Tensor:
        """What the receivers' utility models see beside the messages, ``[e, B, C]``."""
        worlds, device = self.world.num_worlds, self.world.device
        parts = []
        for name in lane.population.context if self.learn else ():
            if name == "receiver":
                members = self._tensor(slots // lane.population.spec.num_inputs)
                leaves = pytree.tree_leaves(self._last_state(lane))
                part = torch.cat([leaf[members].flatten(2) for leaf in leaves], -1)
            elif name == "time":
                part = torch.full((len(slots), worlds, 1), time / self.length, device=device)
            else:
                part = self.world.context(name).expand(len(slots), -1, -1)
            parts.append(part)
        if not parts:
            return torch.zeros(len(slots), worlds, lane.mailbox.context.shape[-1], device=device)
        return torch.cat(parts, -1)

    def _last_state(self, lane: Lane) -> State:
        if lane.window is None:
            return lane.state
        everybody = len(lane.window.members) == len(lane.population.names)
        at = None if everybody else self._tensor(lane.window.members)
        return replace_rows(lane.state, at, lane.window.state, None)

    def _tell(
        self,
        lane: Lane,
        outgoing: Sequence[Outgoing],
        slots: Index,
        value: Tensor,
        context: Tensor,
        mask: Tensor,
    ) -> None:
        """The receivers' utility models answer: gradients ``[e, B, D]`` go to the senders."""
        interface, share = lane.population.interface, self.feedback.synthetic_share
        if not self.learn or interface is None or not (share or interface.needs_cost):
            return
        estimate = interface.estimate(value, context, self._tensor(slots))
        scale = torch.full(mask.shape, share * self.gradient_scale, device=mask.device)
        if not interface.fits_unread:  # it only knows of messages that were read
            scale = scale * lane.population.share_read[self._tensor(slots)][:, None]
        good = mask & torch.isfinite(estimate.gradient).all(-1)
        gradient = torch.where(good[..., None], estimate.gradient * scale[..., None], 0.0)
        worth = torch.where(good, estimate.value, 0.0)
        sizes = [len(o.place) for o in outgoing]
        for o, g, v in zip(outgoing, gradient.split(sizes), worth.split(sizes), strict=True):
            tick = o.tick
            if tick.foreseen is None:
                tick.foreseen = torch.zeros(tick.message.shape[:2], device=v.device)
            tick.foreseen.index_add_(0, o.place, v)
            if share:
                if tick.given is None:
                    tick.given = torch.zeros_like(tick.message)
                tick.given.index_add_(0, o.place, g)

    def _step(self) -> bool:
        """The worlds go on; whether all of them have ended."""
        rewards = self.world.step()
        if rewards is not None:
            self.rewards.append(rewards)
            for lane in self.lanes:
                meter = lane.population.agent_meter
                own = rewards[self._tensor(lane.population.indices)].sum(1)
                meter.add("reward", None, own)
                meter.add("rewards", None, torch.full_like(own, rewards.shape[1]))
        there, ended = self.world.active(), self.world.ended()
        if ended is not None:
            there = ~ended.expand(len(self.world.agents), -1) if there is None else there & ~ended
        self.alive.append(there)
        return self.world.early_end and ended is not None and bool(ended.all())

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

    def keep_state(self, lane: Lane) -> None:
        """Write a window's last states back, cut from its graph."""
        lane.state = pytree.tree_map(lambda leaf: leaf.detach(), self._last_state(lane))

    def _end(self) -> None:
        """The episode is over: mail is dropped, and what is left is settled."""
        for lane in self.lanes:
            lane.mailbox.end_episode()
        if self.learn:
            close_windows(self, self.length - 1, self.lanes)

    def _tensor(self, index: Index) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(index)).to(self.world.device)
