"""What is listened to, forced and silenced is what the engine played."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dnicomm.sim import Delay, Evaluation, Inbox, PeriodicClock, PoissonClock, Simulation
from dnicomm.sim.ablation import Shuffled, Zeroed, scores
from dnicomm.sim.forcing import Pool, forced_ticks
from dnicomm.sim.listening import Listening, Reservoir


@given(st.lists(st.integers(0, 12), max_size=30), st.integers(1, 20), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_a_reservoir_holds_the_rows_with_the_smallest_keys(offers, size, seed):
    """So every row has the same chance, whenever it comes."""
    reservoir, keys = Reservoir(size, np.random.default_rng(seed)), np.random.default_rng(seed)
    drawn, whole = np.zeros(0), np.arange(sum(offers))
    for count in offers:
        offered = whole[len(drawn) : len(drawn) + count]
        drawn = np.concatenate([drawn, keys.random(count)])
        chosen, own = reservoir.choose(torch.from_numpy(offered))
        reservoir.add(own, row=chosen, twice=2 * chosen)
    assert reservoir.offered == len(whole)
    found = reservoir.columns() or {"row": np.zeros(0), "twice": np.zeros(0)}
    assert found["row"].tolist() == np.sort(np.argsort(drawn)[:size]).tolist()
    assert (found["twice"] == 2 * found["row"]).all()


@pytest.fixture
def listened(town, walker):
    """A town of recurrent agents after two episodes, and what was heard on all its channels."""
    simulation = Simulation(
        env=town(num_agents=3, absent=0.3, shut=0.2), agent=walker, clock=PoissonClock(0.6),
        channel=Delay(0, 3), num_worlds=4, message_size=3,
        evaluation=Evaluation(num_worlds=16, episodes=2),
    )  # fmt: skip
    listening = Listening(simulation.examiner, simulation.edges)
    with listening:
        simulation.evaluate()
    assert simulation.examiner.observer is None
    return simulation, listening


def test_the_message_that_was_there_gives_the_tick_that_was(listened):
    _, listening = listened
    for channel in listening.channels:
        situations = channel.situations.columns()
        true = torch.from_numpy(situations["message"])[:, None].expand(-1, 3, -1)
        output = forced_ticks(channel, situations, true)
        action = torch.from_numpy(situations["action"])
        assert (output.action.argmax(-1) == action[:, None]).all()
        torch.testing.assert_close(output.action[:, 0], output.action[:, 2])


def test_another_message_gives_what_the_agent_alone_says_to_it(listened):
    """Each situation by itself, through the agent's own module."""
    _, listening = listened
    channel = listening.channels[3]
    situations = channel.situations.columns()
    rng = torch.Generator().manual_seed(0)
    messages = torch.randn(len(situations["action"]), 2, 3, generator=rng)
    output = forced_ticks(channel, situations, messages)
    agent = channel.listener.agents.module(channel.listener_row)
    for s in range(0, len(messages), 7):
        row = {name: torch.from_numpy(values[s : s + 1]) for name, values in situations.items()}
        for k in range(2):
            inbox = row["messages"].clone()
            inbox[0, channel.slot] = messages[s, k]
            state = {"h": row["state.0"], "ticks": row["state.1"]}
            heard = Inbox(inbox, row["mask"], row["age"])
            alone = agent.tick(row["observation"], heard, state)
            assert torch.allclose(alone.action[0], output.action[s, k], atol=1e-6)
            assert torch.allclose(alone.message[0], output.message[s, k], atol=1e-6)


def test_every_reading_is_heard_once(listened):
    """Nothing is sampled away here, so that the counts are whole."""
    _, listening = listened
    for channel in listening.channels:
        heard, situations = channel.heard.columns(), channel.situations.columns()
        spoken = channel.spoken.columns()
        assert len(heard["age"]) == channel.heard.offered <= channel.spoken.offered
        assert len(spoken["action"]) == channel.spoken.offered
        assert len(situations["age"]) == channel.situations.offered >= channel.heard.offered
        assert (heard["age"] >= 1).all()
        assert (situations["own_age"] == situations["age"][:, channel.slot]).all()
        same = situations["messages"][:, channel.slot]
        assert (same == situations["message"]).all()
        # what was heard was said, in the same world; and nothing is heard for the first time twice
        said = {(g, tuple(m)) for g, m in zip(spoken["group"], spoken["message"], strict=True)}
        got = [(g, tuple(m)) for g, m in zip(heard["group"], heard["message"], strict=True)]
        assert set(got) <= said
        assert len(set(got)) == len(got)
        assert set(spoken["group"]) <= set(range(16 * 2))


def test_what_a_speaker_did_is_what_it_did_when_it_spoke(listened):
    """By what was recorded of the same ticks for the channels at which it listens."""
    _, listening = listened
    for channel in listening.channels:
        spoken = channel.spoken.columns()
        assert set(spoken) == {"message", "action", "observation", "group", "fact.hint"}
        seen = [tuple(observation) for observation in spoken["observation"]]
        assert len(set(seen)) == len(seen)  # random: no two are alike
        for other in (c for c in listening.channels if c.edge[1] == channel.edge[0]):
            ticks = other.situations.columns()
            did = {tuple(o): a for o, a in zip(ticks["observation"], ticks["action"], strict=True)}
            both = [(did[o], a) for o, a in zip(seen, spoken["action"], strict=True) if o in did]
            assert len(both) > 20
            assert all(one == two for one, two in both)


def test_silence_that_touches_no_channel_changes_no_score(listened):
    simulation, _ = listened
    on = scores(simulation.examiner, 2)
    record = simulation.evaluate()["metrics"]
    assert on == {name: v for name, v in record.items() if not name.startswith("train_")}
    assert scores(simulation.examiner, 2, Zeroed([])) == on
    assert scores(simulation.examiner, 2, Zeroed(simulation.edges)) != on
    assert simulation.examiner.intervene is None


def test_shuffled_messages_are_those_of_other_worlds(town, walker):
    simulation = Simulation(
        env=town(num_agents=3, absent=0.4), agent=walker, clock=PeriodicClock(1), num_worlds=2,
        message_size=2, evaluation=Evaluation(num_worlds=9, episodes=1),
    )  # fmt: skip
    edge, *others = simulation.edges
    shuffle = Shuffled([edge], 9, seed=0)
    checked = []

    def watched(time, lane, members, inbox):
        found = shuffle(time, lane, members, inbox)
        k = lane.population.spec.num_inputs
        for i, member in enumerate(members):
            for slot in range(k):
                mine = lane.population.inputs[member * k + slot]
                before, after = inbox.messages[i, :, slot], found.messages[i, :, slot]
                there = inbox.mask[i, :, slot]
                if mine != edge:
                    assert (before == after).all()
                    continue
                assert (before[~there] == after[~there]).all()
                if there.sum() < 2:
                    assert (before == after).all()
                    continue
                checked.append(time)
                assert not (before[there] == after[there]).all(-1).any()
                order = [sorted(map(tuple, part[there].tolist())) for part in (before, after)]
                assert order[0] == order[1]  # each is read once
        assert found.mask is inbox.mask
        assert found.age is inbox.age
        return found

    simulation.examiner.intervene = watched
    simulation.evaluate()
    assert len(checked) > 10
    assert others


def test_a_pool_of_symbols_and_of_activations():
    rng = np.random.default_rng(0)
    symbols = np.eye(3)[[0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2]]
    pool = Pool.of(symbols, rng)
    assert sorted(pool.weights) == pytest.approx([2 / 12, 4 / 12, 6 / 12])
    assert pool.messages[pool.weights.argmax()].tolist() == [1, 0, 0]
    activations = rng.standard_normal((100, 3))
    pool = Pool.of(activations, rng, most=10)
    assert pool.messages.shape == (10, 3)
    assert pool.entropy == pytest.approx(np.log(10))
    assert len(np.unique(pool.messages, axis=0)) == 10
    few = Pool.of(activations[:4], rng, most=10)
    assert few.messages.shape == (4, 3)
