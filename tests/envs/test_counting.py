import numpy as np
import pytest
import torch

from dnicomm.data import load_images
from dnicomm.envs import Counting
from dnicomm.errors import UserError
from dnicomm.sim.world import AgentSpaces

CPU = torch.device("cpu")
A, B = [0], [1]
SETTINGS = [
    {},
    {"block": 1},
    {"block": 3, "blocks": 5},
    {"block": 4, "irregular": True},
    {"block": 5, "blocks": 2, "irregular": True},
    {"block": 1, "blocks": 3, "irregular": True},
]
each_setting = pytest.mark.parametrize("settings", SETTINGS, ids=str)


def counting(worlds=8, split="train", **settings):
    return Counting(**settings).make(worlds, split, CPU)


def begin(world, seed=0, episode=0):
    world.reset(episode, np.random.default_rng(seed))
    return world


def recounted(world):
    """Odd digits of the block and threes of the episode so far, by time and world."""
    labels = world.digits[world.index].tolist()
    odd, threes = [], []
    begins, every = set(world.starts.tolist()), world.num_worlds
    for time, row in enumerate(labels):
        if time in begins:
            block = [0] * every
        block = [n + (digit in (1, 3, 5, 7, 9)) for n, digit in zip(block, row, strict=True)]
        before = threes[-1] if threes else [0] * every
        odd.append(block)
        threes.append([n + (digit == 3) for n, digit in zip(before, row, strict=True)])
    return odd, threes


def play(world, shift_a=0, shift_b=0, active_a=None, active_b=None):
    """One episode as the engine plays it, with right answers moved by ``shift``."""
    odd, threes = recounted(world)
    due = world.schedule()
    for time in range(world.episode_length()):
        if time in due["a_0"]:
            world.act(A, torch.tensor([odd[time]]) + shift_a, active_a)
        if time in due["b_0"]:
            world.act(B, torch.tensor([threes[time - 1]]) + shift_b, active_b)
        world.step()
    return world.score()


# -- who is who, and when ----------------------------------------------------------------------


def test_what_they_see_and_do():
    world = counting(block=4, blocks=3, irregular=True)
    assert world.agents == ("a_0", "b_0")
    assert world.edges == (("a_0", "b_0"),)
    assert world.spaces("a_0") == AgentSpaces((65,), 6 + 1)
    assert world.spaces("b_0") == AgentSpaces((0,), 18 + 1)
    assert world.horizon == 18 + 1
    kinds = {name: (field.size, field.kind) for name, field in world.context_fields.items()}
    assert kinds == {
        "threes": (19, "causal"),
        "block_threes": (7, "causal"),
        "count": (19, "hindsight"),
    }


def test_by_default_there_are_as_many_blocks_as_digits_in_one():
    world = begin(counting(block=3))
    assert world.ends.tolist() == [2, 5, 8]
    assert world.starts.tolist() == [0, 3, 6]
    assert world.episode_length() == world.horizon == 10


@pytest.mark.parametrize("block", [1, 2, 5, 6])
def test_irregular_blocks_lie_within_half_of_the_mean(block):
    world = counting(1, block=block, blocks=2000, irregular=True)
    lengths = begin(world).ends - world.starts + 1
    assert lengths.min() == block - block // 2
    assert lengths.max() == block + block // 2
    assert lengths.mean() == pytest.approx(block, abs=0.1)
    assert len({*lengths.tolist()}) == 2 * (block // 2) + 1


@each_setting
def test_schedule_windows_and_length_agree(settings):
    world = counting(**settings)
    for seed in range(4):
        begin(world, seed)
        due, length = world.schedule(), world.episode_length()
        last = int(world.ends[-1])
        assert length == last + 2 <= world.horizon
        assert list(due["a_0"]) == list(range(last + 1))
        assert list(due["b_0"]) == [end + 1 for end in world.ends]
        assert list(world.window_ends("a_0")) == world.ends.tolist()
        assert list(world.window_ends("b_0")) == [length - 1]
        assert world.starts.tolist() == [0, *[end + 1 for end in world.ends[:-1]]]
        assert len(world.ends) == world.blocks
        is_open = []
        for _ in range(length):
            is_open.append(world.open_edges(A, B))
            world.step()
        assert np.flatnonzero(is_open).tolist() == world.ends.tolist()


# -- counts ------------------------------------------------------------------------------------


@each_setting
@pytest.mark.parametrize("split", ["train", "test"])
def test_counts_are_those_of_a_naive_recount(settings, split):
    world = begin(counting(5, split, **settings), 2)
    odd, threes = recounted(world)
    assert world.odd.tolist() == odd
    assert world.threes.tolist() == threes


@each_setting
def test_labels_come_at_ends_only(settings):
    world = begin(counting(6, **settings), 1)
    odd, threes = recounted(world)
    none = [[-1] * 6]
    for time in range(world.episode_length()):
        at_end = time in world.ends
        over = time == len(odd)
        assert world.labels(A).tolist() == ([odd[time]] if at_end else none)
        assert world.labels(B).tolist() == ([threes[-1]] if over else none)
        assert world.context("threes").argmax(-1).tolist() == threes[min(time, len(odd) - 1)]
        assert world.context("count").argmax(-1).tolist() == threes[-1]
        now = min(time, len(odd) - 1)
        begins = max(start for start in world.starts.tolist() if start <= now)
        before = threes[begins - 1] if begins else [0] * world.num_worlds
        in_block = [n - m for n, m in zip(threes[now], before, strict=True)]
        assert world.context("block_threes").argmax(-1).tolist() == in_block
        assert world.labels(A).dtype == torch.int64
        world.step()


@each_setting
def test_what_is_seen_is_the_digit_and_where_a_block_begins(settings):
    world = begin(counting(6, noise=0, **settings), 1)
    images = load_images("digits").train_images.flatten(1)
    for time in range(len(world.index)):
        seen = world.observe(A)
        assert (seen.shape, seen.dtype) == ((1, 6, 65), torch.float32)
        assert torch.equal(seen[0, :, :-1], images[world.index[time]])
        assert torch.equal(seen[0, :, -1], torch.full((6,), float(time in world.starts)))
        assert world.observe(B).shape == (1, 6, 0)
        world.step()
    assert torch.equal(world.observe(A), torch.zeros(1, 6, 65))  # nothing is left to see


def test_noise_is_on_training_digits_only_and_changes_no_count():
    clean, noisy, test = (
        begin(counting(64, split, noise=noise), 1)
        for split, noise in (("train", 0), ("train", 0.3), ("test", 0.3))
    )
    assert torch.equal(clean.index, noisy.index)
    assert torch.equal(clean.threes, noisy.threes)
    noise = noisy.observe(A) - clean.observe(A)
    assert noise[..., :-1].std() == pytest.approx(0.3, rel=0.05)
    assert noise[..., :-1].mean() == pytest.approx(0, abs=0.02)
    assert bool((noise[..., -1] == 0).all())
    assert torch.equal(test.observe(A)[0, :, :-1], test.images[test.index[0]])


def test_training_and_test_digits_are_different_ones():
    images = load_images("digits")
    train = {row.numpy().tobytes() for row in images.train_images.flatten(1)}
    for split, expected in (("train", True), ("test", False)):
        world = begin(counting(32, split))
        shown = world.images[world.index.flatten()]
        assert {row.numpy().tobytes() in train for row in shown} == {expected}


# -- answers -----------------------------------------------------------------------------------


@each_setting
def test_who_counts_right_scores_all(settings):
    for split in ("train", "test"):
        scores = play(begin(counting(7, split, **settings), 4))
        assert scores["accuracy"].tolist() == scores["accuracy_a"].tolist() == [1] * 7


def test_who_miscounts_scores_nothing():
    scores = play(begin(counting()), shift_a=1)
    assert scores["accuracy"].tolist() == [1] * 8
    assert scores["accuracy_a"].tolist() == [0] * 8
    scores = play(begin(counting()), shift_b=1)
    assert scores["accuracy"].tolist() == [0] * 8
    assert scores["accuracy_a"].tolist() == [1] * 8


def test_no_answer_is_a_wrong_answer():
    world = begin(counting())
    for _ in range(world.episode_length()):
        world.step()
    assert {name: s.tolist() for name, s in world.score().items()} == {
        "accuracy": [0] * 8,
        "accuracy_a": [0] * 8,
    }


def test_an_answer_where_the_agent_is_not_active_is_none():
    half = torch.arange(8)[None] % 2 == 0
    scores = play(begin(counting()), active_a=half, active_b=~half)
    assert scores["accuracy_a"].tolist() == [1, 0] * 4
    assert scores["accuracy"].tolist() == [0, 1] * 4


def test_only_the_answer_at_a_blocks_end_counts():
    world = begin(counting(block=4))
    odd, _ = recounted(world)
    for time in range(len(odd)):
        right = torch.tensor([odd[time]])
        world.act(A, right if time % 4 == 3 and time < 8 else right + 1, None)
        world.step()
    assert world.score()["accuracy_a"].tolist() == [0.5] * 8


# -- what is random ----------------------------------------------------------------------------


@each_setting
def test_an_episode_follows_from_the_generator(settings):
    world, other = counting(**settings), counting(**settings)
    play(begin(world, 9))
    assert torch.equal(begin(world, 1).index, begin(other, 1).index)
    assert world.ends.tolist() == other.ends.tolist()
    assert not (
        world.index.shape == begin(other, 2).index.shape and torch.equal(world.index, other.index)
    )


@each_setting
def test_time_does_not_depend_on_the_number_of_worlds(settings):
    for seed in range(5):
        few, many = begin(counting(1, **settings), seed), begin(counting(9, **settings), seed)
        assert few.schedule() == many.schedule()
        assert few.ends.tolist() == many.ends.tolist()
    assert few.spaces("b_0") == many.spaces("b_0")


def test_worlds_see_different_digits():
    index = begin(counting(6, block=8)).index
    assert len({tuple(column) for column in index.T.tolist()}) == 6


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("block", 0, "whole number"),
        ("blocks", 1.5, "whole"),
        ("irregular", 1, "true or false"),
        ("noise", -1, "number"),
    ],
)
def test_mistakes_are_named(key, value, allowed):
    with pytest.raises(UserError, match=f"env.{key}={value}: must be .*{allowed}"):
        Counting(**{key: value})
