"""Environments that others wrote, through the simulator: agents that die, and an order of turns."""

import importlib
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from gymnasium import spaces
from pettingzoo import ParallelEnv

from dnicomm.agents import PPO, ActorCritic
from dnicomm.envs import PettingZooEnv
from dnicomm.envs.spaces import ActionSpace
from dnicomm.sim import Evaluation, PeriodicClock, PoissonClock, Simulation

CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("ignore")


def needs(module):
    """The module's name, if it can be imported."""
    try:
        importlib.import_module(module)
    except Exception as error:
        pytest.skip(f"{module} can't be imported here (pip install pettingzoo[all]): {error}")
    return module


@pytest.fixture(autouse=True)
def _without_a_screen(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


def moved(simulation):
    """Whether every population's parameters have changed, and none is infinite or NaN."""
    before = [p.agents.parameters.clone() for p in simulation.populations]
    simulation.run(steps=simulation.time + 40)
    after = [p.agents.parameters for p in simulation.populations]
    assert all(torch.isfinite(tensor).all() for tensor in after)
    return all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


# -- knights, archers, zombies: agents die one by one ------------------------------------------


def test_archers_and_knights_learn_until_they_die():
    id = needs("pettingzoo.butterfly.knights_archers_zombies_v11")
    env = PettingZooEnv(id, {"max_cycles": 150, "spawn_delay": 2, "max_zombies": 30})
    simulation = Simulation(
        env=env, agent=ActorCritic, clock=PoissonClock(0.7), num_worlds=2, message_size=4,
        window=10, evaluation=Evaluation(episodes=1, num_worlds=1, every=10_000),
    )  # fmt: skip
    assert len(simulation.world.agents) == 4
    assert moved(simulation)


def test_the_dead_neither_act_nor_talk_nor_earn():
    id = needs("pettingzoo.butterfly.knights_archers_zombies_v11")
    env = PettingZooEnv(id, {"max_cycles": 400, "spawn_delay": 2, "max_zombies": 50})
    world = env.make(2, "train", CPU)
    world.reset(0, np.random.default_rng(0))
    idle = torch.full((1, 2), world.spaces(world.agents[0]).action_size - 1)
    partly = 0  # times at which some have died and others live on
    while not world.ended().all():
        before = world.active()
        for number in range(len(world.agents)):
            world.act([number], idle, before[[number]])
        rewards = world.step()
        assert not rewards[~before].any()
        assert (world.active() <= before).all()
        alive = world.alive().sum(0)
        partly += int(((alive > 0) & (alive < len(world.agents))).sum())
    assert partly > 0


# -- noughts and crosses: its own order of turns, and moves that are not allowed ---------------


def noughts_and_crosses(num_worlds):
    return PettingZooEnv(needs("pettingzoo.classic.tictactoe_v3")).make(num_worlds, "train", CPU)


def test_players_take_turns_and_games_come_to_their_ends():
    world = noughts_and_crosses(16)
    world.reset(0, np.random.default_rng(0))
    random = torch.Generator().manual_seed(0)
    total = torch.zeros(2, 16)
    lengths = torch.zeros(16)
    while not world.ended().all():
        active = world.active()
        turn = int(lengths.max()) % 2
        assert active[turn].equal(~world.ended())
        assert not active[1 - turn].any()
        lengths += active.sum(0)
        # any of nine moves, taken or not: it stands for one that is free
        world.act([turn], torch.randint(9, (1, 16), generator=random), active[[turn]])
        total += world.step()
    assert (lengths >= 5).all()  # nobody has lost by a move that is not allowed
    assert (lengths <= 9).all()
    assert total.sum(0).eq(0).all()
    assert set(total.abs().flatten().tolist()) <= {0.0, 1.0}
    assert (lengths[total[0] == 0] == 9).all()  # nobody wins only on a full board


def test_players_learn():
    simulation = Simulation(
        env=PettingZooEnv(needs("pettingzoo.classic.tictactoe_v3")), agent=ActorCritic,
        num_worlds=8, message_size=4, window=9,
        evaluation=Evaluation(episodes=1, num_worlds=2, every=10_000),
    )  # fmt: skip
    assert simulation.world.spaces("player_1").observation_shape == (3 * 3 * 2 + 9,)
    assert moved(simulation)


@pytest.mark.parametrize(
    ("value", "allowed", "taken"),
    [(0, [0, 1, 2], 0), (1, [0, 2, 5], 2), (3, [0, 2, 5], 5), (5, [0, 2, 4], 0), (4, [3], 3),
     (3, None, 3)],
)  # fmt: skip
def test_a_forbidden_action_stands_for_the_next_allowed_one(value, allowed, taken):
    own = ActionSpace(spaces.Discrete(6), "a_0")
    mask = None if allowed is None else np.isin(np.arange(6), allowed)
    assert own.allowed(value, mask) == taken


def test_a_mask_is_found_in_observations_and_infos():
    from dnicomm.envs.copies import ParallelCopy

    copy = ParallelCopy(SimpleNamespace(possible_agents=["a", "b", "c"]), "here")
    copy.observations = {"a": {"action_mask": np.array([0, 1, 1], np.int8)}, "b": np.zeros(3)}
    copy.infos = {"b": {"action_mask": np.array([True, False, False])}, "c": {}}
    assert copy.mask("a").tolist() == [0, 1, 1]
    assert copy.mask("b").tolist() == [True, False, False]
    assert copy.mask("c") is None


# -- a mask that an environment of one's own gives -----------------------------------------------


class Doors(ParallelEnv):
    """Of four doors two are open at each time, and one who walks into a shut one is thrown out."""

    metadata: ClassVar = {"name": "doors_v0"}
    possible_agents: ClassVar = ["a", "b"]

    def observation_space(self, agent):
        seen = spaces.Box(0, 1, (4,), np.float32)
        return spaces.Dict({"observation": seen, "action_mask": spaces.MultiBinary(4)})

    def action_space(self, agent):
        return spaces.Discrete(4)

    def _seen(self):
        mask = np.zeros(4, np.int8)
        mask[self.random.choice(4, 2, replace=False)] = 1
        self.mask = mask
        return {a: {"observation": np.zeros(4, np.float32), "action_mask": mask} for a in "ab"}

    def reset(self, seed=None, options=None):
        self.random, self.time, self.agents = np.random.default_rng(seed), 0, ["a", "b"]
        return self._seen(), {a: {} for a in "ab"}

    def step(self, actions):
        assert all(self.mask[action] for action in actions.values()), "a shut door"
        self.time += 1
        paid = {agent: float(action == self.mask.argmax()) for agent, action in actions.items()}
        over = dict.fromkeys(actions, self.time == 6)
        self.agents = [] if self.time == 6 else ["a", "b"]
        return self._seen(), paid, over, dict.fromkeys(actions, False), {a: {} for a in "ab"}


@pytest.mark.parametrize("agent", [ActorCritic, PPO])
def test_agents_choose_among_what_is_allowed(agent):
    env = PettingZooEnv(f"{__name__}:Doors")
    simulation = Simulation(
        env=env, agent=agent, clock=PeriodicClock(1), num_worlds=4, message_size=4,
        evaluation=Evaluation(episodes=1, num_worlds=2, every=10_000),
    )  # fmt: skip
    engine, chosen = simulation.engine, []
    world, act = engine.world, engine.world.act

    def watched(agents, actions, active):
        allowed = world.allowed(agents)
        assert allowed.sum(-1).eq(2).all()
        chosen.append(allowed.gather(-1, actions[..., None]))
        act(agents, actions, active)

    world.act = watched
    assert moved(simulation)
    assert len(chosen) > 40
    assert torch.cat(chosen).all()  # before anything that is forbidden becomes another action


@pytest.mark.needs("mpe2.simple_spread_v3")
def test_an_environment_without_masks_allows_everything():
    world = PettingZooEnv("mpe2.simple_spread_v3").make(1, "train", CPU)
    world.reset(0, np.random.default_rng(0))
    assert world.allowed([0, 1]) is None
