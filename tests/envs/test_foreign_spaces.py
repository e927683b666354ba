"""What becomes of the spaces of other people's environments."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from dnicomm.envs.foreign import GymEnv
from dnicomm.envs.spaces import MOST_JOINT_ACTIONS, ActionSpace, Encoder
from dnicomm.errors import UserError
from dnicomm.sim.world import AgentSpaces

DISCRETE = st.builds(
    lambda n, start: spaces.Discrete(n, start=start), st.integers(1, 4), st.integers(-3, 3)
)
MULTI = st.builds(
    lambda nvec, start: spaces.MultiDiscrete(nvec, start=[start] * len(nvec)),
    st.lists(st.integers(1, 3), min_size=1, max_size=3),
    st.integers(-2, 2),
)
BITS = st.builds(spaces.MultiBinary, st.sampled_from([1, 3, (2, 2)]))
BOX = st.builds(
    lambda shape, dtype: spaces.Box(0, 200, shape, dtype),
    st.sampled_from([(), (2,), (2, 3)]),
    st.sampled_from([np.float32, np.float64, np.uint8, np.int64]),
)


def nested(leaf):
    return st.recursive(
        leaf,
        lambda part: st.one_of(
            st.dictionaries(st.sampled_from("abc"), part, min_size=1).map(spaces.Dict),
            st.lists(part, min_size=1, max_size=3).map(spaces.Tuple),
        ),
        max_leaves=4,
    )


def numbers(space):
    """How many numbers the encoding of an observation has, by definition."""
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return int(space.nvec.sum())
    if isinstance(space, spaces.Dict):
        return sum(numbers(part) for part in space.values())
    if isinstance(space, spaces.Tuple):
        return sum(numbers(part) for part in space)
    return int(np.prod(space.shape))


def few_combinations(space):
    """Whether a discrete space has no more elements than are allowed."""
    if isinstance(space, spaces.Discrete):
        return True
    bits = int(np.log2(MOST_JOINT_ACTIONS))
    return numbers(space) <= bits  # a choice among n has at most 2 ** n elements


# -- observations ------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(nested(st.one_of(DISCRETE, MULTI, BITS, BOX)), st.integers(0, 9))
def test_an_observation_becomes_so_many_numbers(space, seed):
    space.seed(seed)
    encoder = Encoder(space, "observation of a_0")
    one, two = (encoder(space.sample()) for _ in range(2))
    for encoded in (one, two, encoder(None)):
        assert encoded.dtype == np.float32
        assert encoded.shape == encoder.shape
        assert encoded.size == numbers(space)
    assert not encoder(None).any()


@settings(max_examples=100, deadline=None)
@given(nested(st.one_of(DISCRETE, MULTI, BITS)), st.integers(0, 9))
def test_different_observations_are_encoded_differently(space, seed):
    space.seed(seed)
    encoder = Encoder(space, "observation of a_0")
    for _ in range(5):
        one, two = space.sample(), space.sample()
        same = (
            spaces.utils.flatten(space, one).tolist() == spaces.utils.flatten(space, two).tolist()
        )
        assert np.array_equal(encoder(one), encoder(two)) == same


def test_parts_come_in_the_order_of_their_keys_and_pictures_are_scaled():
    space = spaces.Dict(
        {
            "b": spaces.Tuple([spaces.Discrete(3, start=1), spaces.MultiDiscrete([2, 2])]),
            "a": spaces.Box(0, 255, (1, 2), np.uint8),
        }
    )
    value = {"a": np.array([[0, 51]], np.uint8), "b": (2, np.array([1, 0]))}
    encoded = Encoder(space, "observation of a_0")(value)
    assert encoded.tolist() == pytest.approx([0, 0.2, 0, 1, 0, 0, 1, 1, 0])


def test_infinite_boxes_pass_what_is_finite():
    encoder = Encoder(spaces.Box(-np.inf, np.inf, (2,), np.float64), "observation of a_0")
    assert encoder(np.array([1e30, -5])).tolist() == [np.float32(1e30), -5]


OUTSIDE = [
    (spaces.Discrete(3), 3, "observation of a_0 is 3; its space says Discrete(3)"),
    (spaces.Discrete(3), -1, "observation of a_0 is -1; its space says Discrete(3)"),
    (spaces.Discrete(3), 1.5, "observation of a_0 is 1.5; its space says Discrete(3)"),
    (spaces.Discrete(3), "left", "observation of a_0 is 'left'; its space says Discrete(3)"),
    (spaces.MultiDiscrete([2, 2]), [0, 2], "observation of a_0 is [0, 2]; its space says Multi"),
    (spaces.MultiDiscrete([2, 2]), [0], "observation of a_0 is [0]; its space says MultiDiscrete"),
    (spaces.Box(0, 1, (2,)), ["x", "y"], "observation of a_0 is ['x', 'y']; its space says Box("),
    (spaces.Box(0, 1, (2,)), [1.0], "observation of a_0 has shape (1,); its space says (2,)"),
    (spaces.Dict(x=spaces.Discrete(2)), {"y": 1}, "observation of a_0 is {'y': 1}; its space says"),
    (spaces.Dict(x=spaces.Discrete(2)), {"x": 5}, "observation of a_0, 'x' is 5; its space says D"),
    (spaces.Tuple([spaces.Discrete(2)]), (), "observation of a_0 is (); its space says Tuple("),
]


@pytest.mark.parametrize(("space", "value", "message"), OUTSIDE, ids=[row[2] for row in OUTSIDE])
def test_an_observation_outside_of_its_space_is_named(space, value, message):
    with pytest.raises(UserError) as error:
        Encoder(space, "observation of a_0")(value)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Text(5),
        spaces.Sequence(spaces.Discrete(2)),
        spaces.Graph(spaces.Discrete(2), None),
        spaces.OneOf([spaces.Discrete(2), spaces.Box(0, 1)]),
    ],
    ids=lambda space: type(space).__name__,
)
def test_spaces_without_a_number_of_numbers_are_refused_in_one_line(space):
    for kind, what in ((Encoder, "observation of a_0"), (ActionSpace, "a_0")):
        with pytest.raises(UserError) as error:
            kind(space, what)
        text = str(error.value)
        assert "of a_0" in text
        assert f"{space} does not fit; allowed: " in text
        assert "\n" not in text


# -- actions -----------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(nested(st.one_of(DISCRETE, MULTI, BITS)).filter(few_combinations))
def test_every_combination_is_one_action_and_no_two_are_the_same(space):
    own = ActionSpace(space, "a_0")
    assert own.discrete
    natives = [own.native(number) for number in range(own.size)]
    assert all(space.contains(native) for native in natives)
    flat = {tuple(np.asarray(spaces.utils.flatten(space, native)).tolist()) for native in natives}
    assert len(flat) == own.size
    assert own.zeros(3).tolist() == [0, 0, 0]


def test_the_last_choice_changes_first():
    own = ActionSpace(spaces.MultiDiscrete([2, 3], start=[0, 5]), "a_0")
    assert [own.native(number).tolist() for number in range(6)] == [
        [0, 5], [0, 6], [0, 7], [1, 5], [1, 6], [1, 7],
    ]  # fmt: skip


def test_a_box_of_any_shape_is_a_vector():
    space = spaces.Box(np.full((2, 2), -1.0), np.array([[1.0, 2], [np.inf, 4]]), dtype=np.float64)
    own = ActionSpace(space, "a_0")
    assert (own.discrete, own.size) == (False, 4)
    native = own.native(np.array([5, 5, 5e9, -5], np.float32))
    assert native.dtype == np.float64
    assert native.tolist() == [[1, 2], [5e9, -1]]
    assert ActionSpace(spaces.Box(0, 1, ()), "a_0").size == 1


TOO_MUCH = [
    (spaces.MultiBinary(11), "action of a_0: MultiBinary(11) has 2048 combinations; allowed: 1024"),
    (spaces.MultiDiscrete([33, 32]), "MultiDiscrete([33 32]) has 1056 combinations; allowed: 102"),
    (spaces.Box(0, 5, (2,), np.int64), "action of a_0: Box(0, 5, (2,), int64) does not fit; allow"),
    (spaces.Dict(x=spaces.Discrete(2), y=spaces.Box(0, 1)), "action of a_0: Dict('x': Discrete(2)"),
]


@pytest.mark.parametrize(("space", "message"), TOO_MUCH, ids=[row[1] for row in TOO_MUCH])
def test_actions_that_do_not_fit_are_named(space, message):
    with pytest.raises(UserError) as error:
        ActionSpace(space, "a_0")
    assert message in str(error.value)


def test_a_large_discrete_space_is_one_choice_anyway():
    assert ActionSpace(spaces.Discrete(MOST_JOINT_ACTIONS + 1), "a_0").size == 1025


# -- in a world --------------------------------------------------------------------------------


def test_blackjack_is_three_choices_seen():
    world = GymEnv("Blackjack-v1").make(3, "train", torch.device("cpu"))
    sizes = [part.n for part in gymnasium.make("Blackjack-v1").observation_space]
    assert world.spaces("agent_0") == AgentSpaces((sum(sizes),), 2, True)
    world.reset(0, np.random.default_rng(0))
    assert (world.observe([0])[0].sum(-1) == 3).all()
