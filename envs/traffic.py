"""Traffic junction: cars come and go, each on a route of its own, and must not meet in a cell.

Each car has two actions: gas, which takes it one cell on along its route, and brake. It sees where
it is, where it goes and what is close by; it has to hear of others that come to the same crossing.
The task is that of CommNet (Sukhbaatar et al., 2016), in the three levels of IC3Net (Singh et al.,
2019); :mod:`dnicomm.envs.traffic_roads` has the roads.

From the program published with IC3Net, read there: the order of a step, the rewards, that a car may
come into a cell that is taken (and collides), that a collision hinders nobody, that an episode
begins with empty roads. Otherwise than there, a place that a car leaves is free one step later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dnicomm.envs.pictures import PicturedWorld
from dnicomm.envs.traffic_roads import LEVELS, Level, routes
from dnicomm.errors import UserError, nearest
from dnicomm.sim.whole_options import check_whole
from dnicomm.sim.world import AgentSpaces, ContextField, Env, Split

GAS, BRAKE = 0, 1  # actions
COLLISION_REWARD = -10.0  # for each step in which a car shares its cell
DELAY_REWARD = -0.01  # for each step, times the steps since the car came


@dataclass
class Traffic(Env):
    """Configuration of the traffic junction.

    Args:
        difficulty: ``easy`` (two one-way roads cross), ``medium`` (two two-way roads) or ``hard``
            (four two-way roads, four junctions).
        num_agents: cars at once at most, at least 2; None: the level's, 5, 10 or 20.
        horizon: steps of an episode; None: the level's, 20, 40 or 80.
        arrival: probability that a car comes, for each entry and step, above 0 and at most 1; None:
            the level's, 0.3, 0.2 or 0.05.
        vision: how many cells a car sees in each direction; 0: its own.
        link_range: how many rows or columns a message goes at most; None: everywhere.
        message_lifetime: world time after which a message is no longer seen; None: it is seen until
            its sender says something new, even after the sender has left.
    """

    difficulty: str = "easy"
    num_agents: int | None = None
    horizon: int | None = None
    arrival: float | None = None
    vision: int = 0
    link_range: int | None = None
    message_lifetime: int | None = None
    name: str = "traffic"
    eval_worlds: int | None = 256

    def __post_init__(self) -> None:
        if not isinstance(self.difficulty, str) or self.difficulty not in LEVELS:
            raise UserError(
                f"env.difficulty={self.difficulty}: there is no such level."
                f"{nearest(str(self.difficulty), LEVELS)}"
            )
        least = {"num_agents": 2, "horizon": 1, "vision": 0, "link_range": 1, "message_lifetime": 1}
        check_whole(self, least, or_null=least.keys() - {"vision"}, prefix="env.")
        arrival = self.arrival
        if arrival is not None and (
            isinstance(arrival, bool)
            or not isinstance(arrival, int | float)
            or not 0 < arrival <= 1
        ):
            raise UserError(f"env.arrival={arrival}: must be a number above 0 and at most 1")

    @property
    def level(self) -> Level:
        return LEVELS[self.difficulty]

    def make(self, num_worlds: int, split: Split, device: torch.device) -> TrafficWorld:
        return TrafficWorld(self, num_worlds, device)


class TrafficWorld(PicturedWorld):
    """B junctions. An agent is a place for a car: while no car has it, it is not active.

    A step: cars on gas go on; those at the end of their route leave; at each entry in turn a car
    comes, or does not, while there are places left for it. A place that was left in this step is
    taken in the next one at the earliest: so each life ends with a time without life, at which
    :meth:`alive` is false, and no value of a new car's reaches the one before it.

    Cars on the road are ``[N, B]`` of ``there``, ``route``, ``progress`` (cells of the route behind
    it), ``waited`` (steps since it came) and ``cell`` (an index into road cells; ``off`` for none).
    """

    picture = "traffic"
    rewards = True
    default_context = ("state",)

    def __init__(self, env: Traffic, num_worlds: int, device: torch.device) -> None:
        level = env.level
        self.num_worlds, self.device = num_worlds, device
        self.size = level.size
        self.horizon = level.horizon if env.horizon is None else env.horizon
        self.arrival = level.arrival if env.arrival is None else env.arrival
        count = level.num_agents if env.num_agents is None else env.num_agents
        self.agents = tuple(f"car_{i}" for i in range(count))
        self.link_range, self.message_lifetime = env.link_range, env.message_lifetime
        self.hears_at_birth = env.link_range is None
        self.context_fields = {"state": ContextField(4 * count)}
        self._lay(routes(level), env.vision)

    def _lay(self, paths: list[list[tuple[tuple[int, int], ...]]], vision: int) -> None:
        """Tables of the roads; in each the last row stands for no road or no route."""
        cells = sorted({cell for entry in paths for path in entry for cell in path})
        number = {cell: i for i, cell in enumerate(cells)}
        self.off = len(cells)
        unrolled = [path for entry in paths for path in entry]
        self.num_entries, self.choices = len(paths), len(paths[0])
        longest = max(len(path) for path in unrolled)
        table = torch.full((len(unrolled) + 1, longest + 1), self.off)
        for i, path in enumerate(unrolled):
            table[i, : len(path)] = torch.tensor([number[cell] for cell in path])
        length = torch.tensor([len(path) for path in unrolled] + [1])
        span = range(-vision, vision + 1)
        near = [
            [number.get((row + down, column + right), self.off) for down in span for right in span]
            for row, column in cells
        ]
        near.append([self.off] * len(near[0]))
        self.table = table.to(self.device)  # [R + 1, L + 1] cells of the routes
        self.length = length.to(self.device)  # [R + 1]
        self.place = torch.tensor([*cells, (0, 0)], device=self.device)  # [C + 1, 2]
        self.near = torch.tensor(near, device=self.device)  # [C + 1, V] cells that are seen
        nowhere = torch.eye(self.off + 1, device=self.device)[:, :-1]
        road = (self.near != self.off).float()
        self.about_cell = torch.cat([nowhere, road], 1)  # [C + 1, C + V]
        self.about_route = torch.eye(len(unrolled) + 1, device=self.device)[:, :-1]

    def spaces(self, agent: str) -> AgentSpaces:
        seen = self.about_route.shape[1] + self.about_cell.shape[1] + self.near.shape[1]
        return AgentSpaces((1 + seen,), 2)

    # -- time ---------------------------------------------------------------------------------

    def reset(self, episode: int, rng: np.random.Generator) -> None:
        count, worlds = len(self.agents), self.num_worlds
        drawn = rng.random((worlds, self.horizon, 2 * self.num_entries + count), np.float32)
        numbers = torch.from_numpy(drawn).to(self.device).permute(1, 2, 0)
        come, choice, places = numbers.split([self.num_entries, self.num_entries, count], 1)
        first = self.choices * torch.arange(self.num_entries, device=self.device)[:, None]
        choice = (choice * self.choices).long().clamp(max=self.choices - 1)
        self.arrivals = come < self.arrival  # [T, E, B] whether one comes
        self.choice = first + choice  # [T, E, B] the route that it has then
        self.places = places  # [T, N, B] free places are taken in this order
        self.time = 0
        shape = (count, worlds)
        self.there = torch.zeros(shape, dtype=torch.bool, device=self.device)
        self.entered = torch.zeros_like(self.there)  # in the last step
        self.brakes = torch.zeros_like(self.there)  # the action that holds
        self.braked = torch.zeros_like(self.there)  # what it did in the last step
        self.route = torch.full(shape, len(self.length) - 1, device=self.device)
        self.progress = torch.zeros(shape, dtype=torch.int64, device=self.device)
        self.waited = torch.zeros_like(self.progress)
        self.collisions = torch.zeros(worlds, device=self.device)
        self.through = torch.zeros(worlds, device=self.device)
        self.total = torch.zeros(shape, device=self.device)  # reward so far
        self._look()

    def step(self) -> Tensor:
        taken = self.there  # a place that is left now is free from the next step on
        self.braked = self.brakes & taken
        self.progress = self.progress + (taken & ~self.brakes).long()
        self.waited = self.waited + taken.long()
        left = taken & (self.progress == self.length[self.route])
        self.through = self.through + left.sum(0)
        self.there = taken & ~left
        self._enter(~taken)
        self._look()
        collided = self.there & (self.cars.gather(0, self.cell) > 1)
        self.collisions = self.collisions + collided.sum(0)
        reward = COLLISION_REWARD * collided + DELAY_REWARD * self.waited * self.there
        self.total = self.total + reward
        self.time += 1
        return reward

    def _enter(self, free: Tensor) -> None:
        """Cars come into the places ``free`` ``[N, B]``; entries take turns while there are any."""
        now = min(self.time, self.horizon - 1)
        come, choice = self.arrivals[now], self.choice[now]  # [E, B]
        turn = torch.where(come, come.cumsum(0) - 1, self.num_entries)
        queue = torch.zeros_like(choice[:1]).repeat(self.num_entries + 1, 1)
        queue = queue.scatter_(0, turn, choice)  # [E + 1, B] their routes, one after another
        keys = torch.where(free, self.places[now], 2.0)
        order = keys.argsort(0).argsort(0)  # [N, B] of the places, free ones first
        self.entered = free & (order < come.sum(0))
        drawn = queue.gather(0, order.clamp(max=self.num_entries))
        gone = ~self.there & ~self.entered
        self.route = torch.where(self.entered, drawn, self.route)
        self.route = torch.where(gone, len(self.length) - 1, self.route)
        self.there = self.there | self.entered
        begun = self.there & ~self.entered
        # who has not ticked yet is on gas
        self.brakes, self.braked = self.brakes & begun, self.braked & begun
        self.progress, self.waited = self.progress * begun, self.waited * begun

    def _look(self) -> None:
        self.cell = self.table[self.route, self.progress]  # [N, B]
        cars = torch.zeros(self.off + 1, self.num_worlds, dtype=torch.int64, device=self.device)
        self.cars = cars.scatter_add_(0, self.cell, self.there.long())  # [C + 1, B] in each cell

    def active(self) -> Tensor:
        return self.there

    def reborn(self) -> Tensor:
        return self.entered

    def open_edges(self, senders: Sequence[int], receivers: Sequence[int]) -> Tensor:
        a, b = list(senders), list(receivers)
        if self.link_range is None:  # who comes in now hears it too
            return self.there[a]
        apart = (self.place[self.cell[a]] - self.place[self.cell[b]]).abs().amax(-1)
        return self.there[a] & self.there[b] & (apart <= self.link_range)

    # -- what cars see and do -----------------------------------------------------------------

    def observe(self, agents: Sequence[int]) -> Tensor:
        """What each car did last, its route and cell (one-hot), and of the cells it sees which are
        road, and in which of them there is another car; zeros where there is no car.
        """
        rows = list(agents)
        cell = self.cell[rows]  # [n, B]
        near = self.near[cell]  # [n, B, V]
        others = self.cars.T.expand(len(rows), -1, -1).gather(2, near)
        others[..., near.shape[-1] // 2] -= 1  # itself
        others = (others > 0) & self.there[rows, :, None]
        return torch.cat(
            [
                self.braked[rows, :, None].float(),
                self.about_route[self.route[rows]],
                self.about_cell[cell],
                others.float(),
            ],
            -1,
        )

    def act(self, agents: Sequence[int], actions: Tensor, active: Tensor | None) -> None:
        rows, brakes = list(agents), actions == BRAKE
        if active is not None:
            brakes = torch.where(active, brakes, self.brakes[rows])
        self.brakes[rows] = brakes

    # -- what is known of it ------------------------------------------------------------------

    def context(self, field: str) -> Tensor:
        """Of each place whether there is a car; its row, column and share of the route behind."""
        place = self.place[self.cell] / (self.size - 1)  # [N, B, 2]
        share = self.progress / self.length[self.route]
        facts = torch.cat([self.there[..., None], place, share[..., None]], -1)
        return facts.transpose(0, 1).flatten(1)

    def score(self) -> dict[str, Tensor]:
        """``success``, 1 without a collision; ``collisions``, cars that shared their cell, counted
        in each step; ``through``, cars that came through; ``return``, in the mean over places.
        """
        return {
            "success": (self.collisions == 0).float(),
            "collisions": self.collisions,
            "through": self.through,
            "return": self.total.mean(0),
        }
