"""Environments that do things their own way: second lives, odd infos, rewards and observations."""

import numpy as np
import pytest
import torch
from gymnasium import Env as GymnasiumEnv
from gymnasium import spaces
from pettingzoo import ParallelEnv

from dnicomm.agents import ActorCritic
from dnicomm.envs import PettingZooEnv, channelled, clocked, clocked_parallel
from dnicomm.envs.copies import ParallelCopy, SoloEnv
from dnicomm.envs.spaces import ActionSpace, Encoder
from dnicomm.errors import UserError
from dnicomm.sim import PeriodicClock, Simulation

CPU = torch.device("cpu")
LAST = 8


class Odd(ParallelEnv):
    """Two agents for some steps; what is odd about it is an option.

    Args:
        away: steps after which ``b`` has ended, and those after which it is back.
        infos: what it gives instead of infos.
        paid: what it gives instead of a reward of 1.
        pays_the_dead: whether it goes on paying who has ended.
        seen: what it shows instead of zeros.
        space: of observations.
        fails: step at which it raises.
    """

    metadata = {"name": "odd_v0"}  # noqa: RUF012

    def __init__(
        self, away=None, infos="dicts", paid=1.0, pays_the_dead=False, seen=None, space=None,
        fails=None, max_cycles=LAST,
    ) -> None:  # fmt: skip
        self.possible_agents = ["a", "b"]
        self.away, self.kind, self.paid, self.pays_the_dead = away, infos, paid, pays_the_dead
        self.shown, self.space, self.fails = seen, space, fails
        self.max_cycles = max_cycles
        self.given: list = []

    def observation_space(self, agent):
        return spaces.Box(-1, 1, (2,), np.float32) if self.space is None else self.space

    def action_space(self, agent):
        return spaces.Discrete(3)

    def reset(self, seed=None, options=None):
        self.time, self.agents = 0, ["a", "b"]
        return self.seen(), self.infos()

    def infos(self):
        named = {agent: {} for agent in self.agents}
        return {"dicts": named, "none": None, "list": [], "nones": dict.fromkeys(named)}[self.kind]

    def seen(self):
        shown = np.zeros(2, np.float32) if self.shown is None else self.shown
        return dict.fromkeys(self.possible_agents, shown)

    def step(self, actions):
        self.given.append(dict(actions))
        if self.time == self.fails:
            raise RuntimeError("a bolt came loose")
        self.time += 1
        before, over = self.agents, self.time == LAST
        gone = self.away is not None and self.away[0] <= self.time < self.away[1]
        self.agents = [] if over else ["a"] if gone else ["a", "b"]
        everybody = self.possible_agents if self.pays_the_dead else before
        ended = {agent: agent not in self.agents for agent in before}
        live = dict.fromkeys(before, False)
        return self.seen(), dict.fromkeys(everybody, self.paid), ended, live, self.infos()


def world_of(num_worlds=1, **options):
    world = PettingZooEnv(f"{__name__}:Odd", options).make(num_worlds, "train", CPU)
    world.reset(0, np.random.default_rng(0))
    return world


def simulate(**options):
    return Simulation(
        PettingZooEnv(f"{__name__}:Odd", options), ActorCritic, clock=PeriodicClock(1),
        num_worlds=2, message_size=4,
    )  # fmt: skip


# -- lives ---------------------------------------------------------------------------------------


def test_who_comes_back_begins_a_new_life():
    """It is asked again, begins idle, and its rewards count."""
    world, told = world_of(away=(3, 5)), []
    env = world._copies[0].env
    while not world.ended().all():
        there = world.active()
        world.act([0, 1], torch.tensor([[2], [2]]), there)
        before = world.alive()[1, 0].item()
        paid = world.step()
        born = world.reborn()
        told.append((before, paid[1, 0].item(), None if born is None else born[:, 0].tolist()))
    assert [before for before, _, _ in told] == [True] * 3 + [False] * 2 + [True] * 3
    assert [paid for _, paid, _ in told] == [1, 1, 1, 0, 0, 1, 1, 1]
    assert [born for _, _, born in told] == [None] * 4 + [[False, True]] + [None] * 3
    assert ["b" in actions for actions in env.given] == [True] * 3 + [False] * 2 + [True] * 3


def test_a_new_life_does_not_go_on_with_the_old_action():
    world = world_of(away=(3, 5))
    env = world._copies[0].env
    world.act([0, 1], torch.tensor([[2], [2]]), None)
    for _ in range(LAST):
        world.step()
    assert [actions.get("b") for actions in env.given] == [2, 2, 2, None, None, 0, 0, 0]


def test_agents_that_come_back_learn_from_all_that_they_are_paid():
    simulation = simulate(away=(3, 5))
    record = simulation.run(steps=LAST * 4).history[-1]
    ticks = {name: of["ticks"] for name, of in record["agents"].items()}
    assert ticks == {"a": 4 * LAST, "b": 4 * (LAST - 2)}
    assert record["metrics"]["return"] == LAST - 1  # the mean of 8 and 6


@pytest.mark.parametrize("wrap", [clocked, clocked_parallel])
def test_clocks_around_an_environment_know_no_second_life(wrap):
    env = wrap(Odd(away=(3, 5)), PeriodicClock(1))
    env.reset(seed=0)

    def play() -> None:
        for _ in range(40):
            if wrap is clocked:
                over = env.terminations[env.agent_selection]
                env.step(None if over else 0)
            else:
                env.step(dict.fromkeys(env.agents, 0))

    with pytest.raises(UserError, match="agent 'b' is in agents again at world time 5"):
        play()


def test_rewards_of_who_has_ended_are_in_no_return():
    world = world_of(away=(2, 99), pays_the_dead=True)
    for _ in range(LAST):
        world.act([0, 1], torch.zeros(2, 1, dtype=torch.int64), None)
        world.step()
    assert world.score()["return"].tolist() == [(LAST + 2) / 2]


def talking(env):
    return channelled(env, symbols=2)


# -- infos and rewards ---------------------------------------------------------------------------


@pytest.mark.parametrize("infos", ["none", "list", "nones"])
def test_infos_of_any_kind_are_empty_ones(infos):
    simulate(infos=infos).run(steps=LAST)


@pytest.mark.parametrize("infos", ["none", "list", "nones"])
@pytest.mark.parametrize("wrap", ["clocked", "clocked_parallel", "channelled"])
def test_the_wrappers_take_any_infos(wrap, infos):
    env = Odd(infos=infos)
    if wrap == "clocked":
        env = clocked(env, PeriodicClock(1))
        env.reset(seed=0)
        for _ in range(4):
            assert isinstance(env.last()[4], dict)
            env.step(0)
        return
    env = clocked_parallel(env, PeriodicClock(1)) if wrap == "clocked_parallel" else talking(env)
    env.reset(seed=0)
    for _ in range(3):
        *_, found = env.step({a: env.action_space(a).sample() for a in env.agents})
        assert all(isinstance(info, dict) for info in found.values())


@pytest.mark.parametrize(
    "paid", [np.array([2.0]), np.array(2.0), np.float64(2), torch.tensor([2.0]), [2.0], 2]
)
def test_a_reward_may_be_an_array_of_one_number(paid):
    assert world_of(paid=paid).step().tolist() == [[2.0], [2.0]]


@pytest.mark.parametrize("wrap", [clocked, clocked_parallel])
def test_so_it_may_be_under_clocks(wrap):
    env = wrap(Odd(paid=np.array([2.0])), PeriodicClock(1))
    env.reset(seed=0)
    if wrap is clocked:
        env.step(0)
        env.step(0)
        assert env.last()[1] == 2.0
    else:
        assert env.step({"a": 0, "b": 0})[1] == {"a": 2.0, "b": 2.0}


@pytest.mark.parametrize("paid", [np.array([1.0, 2.0]), np.nan, "much", None])
def test_any_other_reward_is_named(paid):
    with pytest.raises(UserError, match="reward of a at world time 0 is"):
        world_of(paid=paid).step()


# -- the old interface ---------------------------------------------------------------------------


class OldParallel(Odd):
    def reset(self, seed=None, options=None):
        super().reset()
        return self.seen()


class OldSteps(Odd):
    def step(self, actions):
        seen, paid, over, _, infos = super().step(actions)
        return seen, paid, over, infos


class OldGym(GymnasiumEnv):
    observation_space, action_space = spaces.Box(-1, 1, (2,)), spaces.Discrete(2)
    steps = True

    def reset(self, *, seed=None, options=None):
        seen = np.zeros(2, np.float32)
        return (seen, {}) if self.steps else seen

    def step(self, action):
        return np.zeros(2, np.float32), 0.0, False, {}


def test_the_old_interface_is_called_by_its_name():
    old = ParallelCopy(OldParallel(), "old")
    with pytest.raises(UserError, match=r"old: reset returned a dict alone; it must return \(obs"):
        old.reset(0)
    steps = ParallelCopy(OldSteps(), "old")
    steps.reset(0)
    with pytest.raises(UserError, match=r"step returned 4 things.*wrap the environment"):
        steps.step({"a": 0, "b": 0}, "at world time 0")
    gym = ParallelCopy(SoloEnv(OldGym()), "old")
    gym.reset(0)
    with pytest.raises(UserError, match=r"step returned 4 things.*shimmy\[gym-v21\]"):
        gym.step({"agent_0": 0}, "at world time 0")
    gym.env.env.steps = False
    with pytest.raises(UserError, match=r"reset returned a ndarray alone.*Shimmy"):
        gym.reset(0)


@pytest.mark.parametrize("wrap", ["clocked", "clocked_parallel", "channelled"])
def test_the_wrappers_name_the_old_interface_too(wrap):
    wraps = {
        "clocked": lambda env: clocked(env, PeriodicClock(1)),
        "clocked_parallel": lambda env: clocked_parallel(env, PeriodicClock(1)),
        "channelled": talking,
    }
    with pytest.raises(UserError, match="reset returned a dict alone"):
        wraps[wrap](OldParallel()).reset(seed=0)
    env = wraps[wrap](OldSteps())
    env.reset(seed=0)

    def play() -> None:
        for _ in range(3):
            if wrap == "clocked":
                env.step(0)
            else:
                env.step({a: env.action_space(a).sample() for a in env.agents})

    with pytest.raises(UserError, match="step returned 4 things"):
        play()


# -- observations --------------------------------------------------------------------------------


def test_an_observation_outside_its_bounds_is_counted_and_said_once(capsys):
    simulation = simulate(seen=np.array([0.5, 7.0], np.float32), paid=1.0)
    record = simulation.run(steps=LAST * 2).history[-1]
    said = [line for line in capsys.readouterr().err.splitlines() if "outside" in line]
    assert len(said) == 2  # one for each agent
    assert "observation of a has 7 at entry (1,), outside its space's -1" in said[0]
    # B = 2 worlds, and a look at what follows at each window's end
    assert simulation.world.outside.tolist()[0] >= 2 * 2 * LAST
    assert any("observations outside their space" in line for line in record["warnings"])


def test_what_lies_within_its_bounds_up_to_rounding_is_not():
    space = spaces.Box(-0.1, 0.1, (1,), np.float64)
    assert Encoder(space, "x").outside(np.array([[0.1], [-0.1]], np.float32)) is None
    assert Encoder(spaces.Box(-np.inf, np.inf, (1,)), "x").outside(np.ones((1, 1))) is None


@pytest.mark.parametrize(
    ("shape", "given", "fits"),
    [
        ((3, 4, 5), (4, 5, 3), False),
        ((6,), (2, 3), False),
        ((4, 5), (4, 5, 1), True),
        ((1, 4), (4,), True),
        ((1,), (), True),
    ],
)
def test_another_shape_of_equal_size_is_refused(shape, given, fits):
    """Axes of size 1 apart: a picture with its channels elsewhere would be scrambled."""
    encoder = Encoder(spaces.Box(-1, 1, shape, np.float32), "observation of a")
    if fits:
        assert encoder(np.zeros(given)).shape == shape
        return
    with pytest.raises(UserError, match="observation of a has shape"):
        encoder(np.zeros(given))


def test_a_tensor_with_a_gradient_is_numbers():
    encoder = Encoder(spaces.Box(-1, 1, (2,), np.float32), "x")
    assert encoder(torch.ones(2, requires_grad=True)).tolist() == [1, 1]


def test_numbers_beyond_single_precision_are_named():
    world = world_of(seen=np.array([1e300, 0.0]))
    with pytest.raises(UserError, match="has inf in it: must be finite numbers of single"):
        world.observe([0])


def test_a_choice_of_too_many_is_one_line():
    with pytest.raises(UserError, match="2147483648 values"):
        Encoder(spaces.Discrete(2**31), "observation of a")
    with pytest.raises(UserError, match=r"action of a: .* 2147483648 values"):
        ActionSpace(spaces.Discrete(2**31), "a")


def test_an_empty_part_is_no_numbers():
    space = spaces.Dict({"nothing": spaces.Dict({}), "x": spaces.Discrete(2)})
    assert Encoder(space, "x")({"nothing": {}, "x": 1}).tolist() == [0, 1]
    assert Encoder(spaces.Dict({}), "x")({}).shape == (0,)


@pytest.mark.parametrize("cycles", [float("inf"), float("nan"), 0, -3, "many", None])
def test_a_length_that_is_none_is_the_default(cycles):
    assert world_of(max_cycles=cycles).horizon == 1000


def test_what_an_environment_raises_comes_with_its_place():
    world = world_of(fails=0)
    with pytest.raises(UserError, match=r"a bolt came loose \(.*test_lives_and_shapes\.py:\d+\)"):
        world.step()


class Broken(Odd):
    def __init__(self) -> None:
        raise ValueError("no power")


def test_so_does_what_it_raises_as_it_is_made():
    env = PettingZooEnv(f"{__name__}:Broken")
    with pytest.raises(UserError, match=r"no power \(.*test_lives_and_shapes\.py:\d+\)"):
        env.make(1, "train", CPU)
