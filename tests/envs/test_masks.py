"""Masks in Gymnasium's own format: what a sample with them may be is allowed, and nothing else."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from pettingzoo import ParallelEnv

from dnicomm.agents import ActorCritic
from dnicomm.envs import PettingZooEnv
from dnicomm.envs.spaces import ActionSpace
from dnicomm.errors import UserError
from dnicomm.sim import PeriodicClock, Simulation

CPU = torch.device("cpu")


def bits(*values):
    return np.array(values, dtype=np.int8)


JOINT = {
    "discrete": (spaces.Discrete(4, start=2), bits(0, 1, 1, 0)),
    "multi-discrete": (spaces.MultiDiscrete([3, 2]), (bits(1, 0, 1), bits(0, 1))),
    "of one": (spaces.MultiDiscrete([3]), (bits(0, 1, 0),)),
    "nested": (spaces.MultiDiscrete(np.array([[2, 3], [2, 2]])),
               ((bits(1, 0), bits(0, 1, 1)), (bits(1, 1), bits(0, 1)))),
    "binary": (spaces.MultiBinary(3), bits(0, 2, 1)),
    "tuple": (spaces.Tuple((spaces.Discrete(3), spaces.Discrete(2))), (bits(0, 1, 1), bits(1, 0))),
    "a free part": (spaces.Tuple((spaces.Discrete(3), spaces.Discrete(2))), (None, bits(1, 0))),
    "dict": (spaces.Dict({"go": spaces.Discrete(3), "say": spaces.MultiDiscrete([2, 2])}),
             {"go": bits(1, 0, 1), "say": (bits(0, 1), bits(1, 1))}),
    "ordered": (spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Discrete(3)}),
                OrderedDict(b=bits(0, 0, 1), a=bits(1, 1))),
}  # fmt: skip


@pytest.mark.parametrize("kind", JOINT)
def test_what_a_sample_may_be_is_allowed_and_nothing_else(kind):
    """Against the space's own ``sample`` with the same mask."""
    space, mask = JOINT[kind]
    actions = ActionSpace(space, "a")
    allowed = actions.mask(mask)
    named = {str(actions.native(i)) for i in np.flatnonzero(allowed)}
    space.seed(0)
    sampled = {str(_plain(space.sample(mask), actions)) for _ in range(400)}
    assert named == sampled
    assert 0 < len(named) < actions.size


def _plain(sample, actions):
    """A sample as ``native`` writes it."""
    every = {str(actions.native(i)): actions.native(i) for i in range(actions.size)}
    return next(own for own in every.values() if _equal(own, sample))


def _equal(one, other):
    if isinstance(one, dict):
        return all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, tuple):
        return all(_equal(*pair) for pair in zip(one, other, strict=True))
    return np.array_equal(one, other)


def test_a_flat_mask_is_that_of_all_combinations():
    space = spaces.MultiDiscrete([3, 2])
    flat = bits(0, 1, 0, 0, 1, 1)
    assert ActionSpace(space, "a").mask(flat).tolist() == flat.astype(bool).tolist()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_joint_mask_is_the_product_of_its_parts(data):
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    parts = [
        np.array(data.draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)), np.int8)
        for n in sizes
    ]
    actions = ActionSpace(spaces.MultiDiscrete(sizes), "a")
    if not all(part.any() for part in parts):
        with pytest.raises(ValueError, match="allows nothing"):
            actions.mask(tuple(parts))
        return
    allowed = actions.mask(tuple(parts))
    for index in range(actions.size):
        chosen = actions.native(index)
        assert allowed[index] == all(part[n] for part, n in zip(parts, chosen, strict=True))


@pytest.mark.parametrize(
    ("space", "mask", "words"),
    [
        (spaces.Discrete(3), bits(1, 1), r"has shape (2,); it must have (3,)"),
        (spaces.Discrete(3), bits(1, 1, 1, 1), r"has shape (4,); it must have (3,)"),
        (spaces.Discrete(3), bits(1, 1, 3), "has 3 in it; allowed: 0, 1"),
        (spaces.Discrete(3), [0.5, 1, 1], "has 0.5 in it"),
        (spaces.Discrete(3), "all", "is no array of numbers"),
        (spaces.Discrete(3), bits(0, 0, 0), "allows nothing"),
        (spaces.MultiDiscrete([3, 2]), (bits(1, 1, 1),), "has 1; it must be a tuple of 2 masks"),
        (spaces.MultiDiscrete([3, 2]), bits(1, 1, 1), "has shape (3,); it must be a tuple of 2"),
        (spaces.MultiDiscrete([3, 2]), (bits(1, 1), bits(1, 1)), "has shape (2,); it must have"),
        (spaces.MultiDiscrete([3, 2]), {"a": 1}, "is a dict; it must be a tuple of 2 masks"),
        (spaces.MultiDiscrete([3, 2]), (bits(0, 0, 0), bits(1, 1)), "allows nothing"),
        (spaces.Dict(go=spaces.Discrete(2)), bits(1, 1, 1), "is a ndarray; it must be a dict"),
        (spaces.Dict(go=spaces.Discrete(2)), {"stay": bits(1, 1)}, "has a part 'stay' that is not"),
        (spaces.Box(-1, 1, (2,)), bits(1, 1), "stands beside continuous actions"),
    ],
)
def test_what_does_not_fit_is_said(space, mask, words):
    with pytest.raises(ValueError) as raised:  # noqa: PT011 -- the words are what is asked
        ActionSpace(space, "a").mask(mask)
    assert words in str(raised.value)


class Crossing(ParallelEnv):
    """Two choices at once, of which some are forbidden at each time; counts the forbidden moves."""

    metadata = {"name": "crossing_v0"}  # noqa: RUF012
    forbidden = 0

    def __init__(self, kind="tuple", spoil=None) -> None:
        self.possible_agents = ["walker"]
        self.kind, self.spoil = kind, spoil

    def observation_space(self, agent):
        return spaces.Box(0, 1, (1,), np.float32)

    def action_space(self, agent):
        if self.kind == "dict":
            return spaces.Dict(x=spaces.Discrete(3), y=spaces.Discrete(2))
        return spaces.MultiDiscrete([3, 2])

    def reset(self, seed=None, options=None):
        self.random, self.time, self.agents = np.random.default_rng(seed), 0, ["walker"]
        return self.seen(), self.infos()

    def seen(self):
        return {"walker": np.zeros(1, np.float32)}

    def infos(self):
        x, y = np.eye(3, dtype=np.int8)[self.random.integers(3)], bits(1, self.random.integers(2))
        self.open = x, y
        mask = {"x": x, "y": y} if self.kind == "dict" else (x, y)
        if self.spoil == "long":
            mask = (np.ones(4, np.int8), y)
        if self.spoil == "nothing" and self.time == 2:
            mask = (np.zeros(3, np.int8), y)
        return {"walker": {"action_mask": mask}}

    def step(self, actions):
        move = actions["walker"]
        x, y = (move["x"], move["y"]) if self.kind == "dict" else move
        Crossing.forbidden += not (self.open[0][x] and self.open[1][y])
        self.time += 1
        over = self.time == 5
        self.agents = [] if over else ["walker"]
        flags = {"walker": over}
        return self.seen(), {"walker": 1.0}, flags, {"walker": False}, self.infos()


@pytest.mark.parametrize("clock", [PeriodicClock(1), PeriodicClock(2)], ids=["each time", "held"])
@pytest.mark.parametrize("kind", ["tuple", "dict"])
def test_no_forbidden_move_is_made(kind, clock, monkeypatch):
    """Neither chosen in training or in a test, nor held from an earlier tick."""
    monkeypatch.setattr(Crossing, "forbidden", 0)
    simulation = Simulation(
        PettingZooEnv(f"{__name__}:Crossing", {"kind": kind}), ActorCritic, clock=clock,
        num_worlds=3, utility=None, feedback="none",
    )  # fmt: skip
    simulation.run(steps=30)
    assert Crossing.forbidden == 0


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ("long", r"action_mask of walker at world time 0 has shape \(4,\); it must have \(3,\)"),
        ("nothing", r"action_mask of walker at world time 2 allows nothing; its actions are Multi"),
    ],
)
def test_a_mask_that_does_not_fit_is_one_line(spoil, words):
    simulation = Simulation(
        PettingZooEnv(f"{__name__}:Crossing", {"spoil": spoil}), ActorCritic,
        clock=PeriodicClock(1), num_worlds=2, utility=None, feedback="none",
    )  # fmt: skip
    with pytest.raises(UserError, match=words):
        simulation.run(steps=10)
