import numpy as np
import pytest
import torch

from dnicomm.data import load_images
from dnicomm.envs import Relay
from dnicomm.errors import UserError
from dnicomm.sim.world import AgentSpaces

CPU = torch.device("cpu")
SPLITS = ("train", "test")


def relay(worlds=16, split="train", **settings):
    return Relay(**settings).make(worlds, split, CPU)


def begin(world, seed=0, episode=0):
    world.reset(episode, np.random.default_rng(seed))
    return world


def all_of(split):
    images = load_images("digits")
    return images.train_images if split == "train" else images.test_images


# -- who is who --------------------------------------------------------------------------------


def test_the_first_sees_the_last_answers_and_those_between_talk():
    world = relay(num_agents=4)
    assert world.agents == ("agent_0", "agent_1", "agent_2", "agent_3")
    assert [world.spaces(agent) for agent in world.agents] == [
        AgentSpaces((64,), 0), AgentSpaces((0,), 0), AgentSpaces((0,), 0), AgentSpaces((0,), 10),
    ]  # fmt: skip
    assert world.edges == (
        ("agent_0", "agent_1"), ("agent_1", "agent_2"), ("agent_2", "agent_3"),
    )  # fmt: skip
    assert world.context_fields["label"].kind == "causal"


@pytest.mark.parametrize(
    ("num_agents", "horizon", "length"), [(2, None, 20), (6, None, 60), (3, 7, 7)]
)
def test_an_episode_lasts_ten_for_each_agent_or_as_told(num_agents, horizon, length):
    world = begin(relay(num_agents=num_agents, horizon=horizon))
    assert world.horizon == world.episode_length() == length
    assert world.schedule() is world.active() is world.ended() is world.step() is None
    assert world.window_ends("agent_0") is None
    assert world.open_edges([0], [1]) is True


@pytest.mark.parametrize(
    "settings", [{"num_agents": 1}, {"num_agents": 2.0}, {"horizon": 0}, {"num_agents": True}]
)
def test_mistakes_are_named(settings):
    ((key, value),) = settings.items()
    with pytest.raises(UserError, match=f"env.{key}={value}: must be a whole number"):
        Relay(**settings)


def test_an_unknown_data_set_is_named():
    with pytest.raises(UserError, match=r"'digit'\. Did you mean 'digits'"):
        relay(dataset="digit")


# -- what is seen ------------------------------------------------------------------------------


@pytest.mark.parametrize("split", SPLITS)
def test_the_digit_shown_is_the_digit_asked_for(split):
    world = begin(relay(32, split))
    seen = world.observe([0])
    assert (seen.shape, seen.dtype) == ((1, 32, 64), torch.float32)
    images = load_images("digits")
    labels = images.train_labels if split == "train" else images.test_labels
    matches = (all_of(split).flatten(1)[None] == seen[0][:, None]).all(-1)  # [B, n]
    assert bool((matches.int() @ (labels[:, None] == world.label).int()).diagonal().all())
    assert bool(matches.any(1).all())
    assert world.observe([1, 2]).shape == (2, 32, 0)


def test_labels_are_for_the_last_agent_only_and_never_for_the_others():
    world = begin(relay(8))
    labels = world.labels([0, 3, 1])
    assert labels.dtype == torch.int64
    assert torch.equal(labels[1], world.label)
    assert bool((labels[[0, 2]] == -1).all())
    assert torch.equal(world.context("label").argmax(-1), world.label)
    assert torch.equal(world.context("label").sum(-1), torch.ones(8))


def test_training_never_shows_a_test_digit():
    train, test = ({row.numpy().tobytes() for row in all_of(s).flatten(1)} for s in SPLITS)
    assert not train & test
    world = relay(64)
    for episode in range(40):
        shown = {row.numpy().tobytes() for row in begin(world, episode, episode).observe([0])[0]}
        assert shown <= train


@pytest.mark.parametrize(("worlds", "episodes"), [(360, 1), (100, 4)])
def test_a_test_shows_each_digit(worlds, episodes):
    assert Relay().eval_worlds == 360
    world = relay(worlds, "test")
    shown = [begin(world, 0, e).observe([0])[0] for e in range(episodes)]
    rows = [row.numpy().tobytes() for row in torch.cat(shown)]
    assert len({*rows}) == len({row.numpy().tobytes() for row in all_of("test").flatten(1)})
    if episodes == 1:
        assert sorted(rows) == sorted(r.numpy().tobytes() for r in all_of("test").flatten(1))


# -- what is random ----------------------------------------------------------------------------


@pytest.mark.parametrize("split", SPLITS)
def test_an_episode_follows_from_its_number_and_the_generator(split):
    world, other = relay(8, split), relay(8, split)
    begin(world, 5, 9).act([3], torch.zeros(1, 8, dtype=torch.int64), None)
    for episode in range(3):
        assert torch.equal(
            begin(world, 1, episode).observe([0]), begin(other, 1, episode).image[None]
        )
    assert not torch.equal(begin(world, 1, 0).image, begin(other, 2, 1).image)


def test_more_worlds_change_nothing_in_the_first_ones():
    few, many = begin(relay(4), 3), begin(relay(9), 3)
    assert torch.equal(few.image, many.image[:4])


# -- answers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize(("shift", "score"), [(0, 1.0), (1, 0.0)])
def test_who_reads_the_label_scores_all_and_who_misreads_it_nothing(split, shift, score):
    world = relay(64, split, num_agents=3)
    for episode in range(3):
        begin(world, episode, episode)
        for _ in range(world.episode_length()):
            world.act([2], (world.label[None] + shift) % 10, None)
            world.step()
        scores = world.score()
        assert torch.equal(scores["accuracy"], torch.full((64,), score))
        assert torch.equal(scores["answered"], torch.ones(64))


def test_no_answer_is_a_wrong_answer():
    world = begin(relay(32))
    assert torch.equal(world.score()["accuracy"], torch.zeros(32))
    assert torch.equal(world.score()["answered"], torch.zeros(32))


def test_the_last_answer_counts():
    world = begin(relay(16))
    world.act([3], world.label[None], None)
    world.act([3], (world.label[None] + 3) % 10, None)
    assert float(world.score()["accuracy"].sum()) == 0


def test_an_answer_where_the_agent_is_not_active_is_none():
    world = begin(relay(3))
    right, wrong = world.label[None], (world.label[None] + 1) % 10
    world.act([3], right, torch.tensor([[True, False, True]]))
    assert world.score()["accuracy"].tolist() == [1, 0, 1]
    assert world.score()["answered"].tolist() == [1, 0, 1]
    world.act([3], wrong, torch.tensor([[False, False, True]]))
    assert world.score()["accuracy"].tolist() == [1, 0, 0]
    assert world.score()["answered"].tolist() == [1, 0, 1]


def test_the_last_agent_is_found_among_others():
    world = begin(relay(4))
    actions = torch.stack([(world.label + 1) % 10, world.label])
    world.act([2, 3], actions, torch.tensor([[True] * 4, [True, True, False, False]]))
    assert world.score()["accuracy"].tolist() == [1, 1, 0, 0]
