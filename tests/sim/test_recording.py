"""What is recorded is what happened, and recording changes nothing."""

import math

import numpy as np
import pytest
import torch

from dnicomm.core import Adam, CriticUtility, GradientUtility
from dnicomm.envs.relay import Relay
from dnicomm.runs import RunFolder
from dnicomm.sim import (
    Chain,
    Evaluation,
    PeriodicClock,
    PoissonClock,
    Simulation,
    UtilitySettings,
    standard_channel,
)
from dnicomm.sim import episode_recording as module
from dnicomm.sim.recording import Recorder

EVERY = 20


def simulation(env, agent, **own):
    given = {
        "clock": PoissonClock(0.6),
        "channel": standard_channel(delay=[0, 3], drop=0.2),
        "message_size": 4,
        "num_worlds": 6,
        "optimizer": Adam(1e-2),
        "utility": UtilitySettings(GradientUtility, Adam(1e-2)),
        "evaluation": Evaluation(every=EVERY, episodes=1, num_worlds=6),
    }
    return Simulation(env, agent, **(given | own))


def folder(path):
    return RunFolder.create(path / "run", {"seed": 0})


def recorded(sim, limit=None):
    """The first episode."""
    recorder = Recorder(sim.engine)
    with recorder.recording(0):
        sim.engine.play(0, limit)
    found = recorder.take()
    assert recorder.take() is None
    return found


def history(sim, steps, run=None):
    return [{k: v for k, v in record.items() if k != "wall_s"} for record in
            sim.run(steps, run).history]  # fmt: skip


@pytest.mark.parametrize("feedback", ["synthetic", "none", "exact", "mixed"])
def test_a_recorded_run_is_the_run(feedback, town, walker, tmp_path, device):
    """Bit for bit, with everything in it that draws random numbers."""
    env, found = town(num_agents=3, horizon=10, absent=0.2), []
    for run in (None, folder(tmp_path)):
        sim = simulation(env, walker, feedback=feedback, device=device)
        found.append((history(sim, EVERY, run), sim.tensors()))
    (records, learnt), (other_records, other_learnt) = found
    assert records == other_records
    assert all(torch.equal(learnt[name], other_learnt[name]) for name in learnt)
    assert run is not None
    assert len(run.recordings()[0]) == 1


@pytest.mark.parametrize("utility", [GradientUtility, CriticUtility])
def test_a_recorded_run_with_rewards_is_the_run(utility, market, walker, tmp_path):
    found = []
    for run in (None, folder(tmp_path)):
        settings = UtilitySettings(utility, Adam(1e-2))
        sim = simulation(market(births=0.1, absent=0.2, last=6), walker, utility=settings)
        found.append((history(sim, EVERY, run), sim.tensors()))
    assert found[0][0] == found[1][0]
    assert all(torch.equal(found[0][1][name], other) for name, other in found[1][1].items())


def test_the_life_of_each_message(town, walker):
    """By the words of the documentation, from ticks and messages alone."""
    env = town(num_agents=3, horizon=30)
    found = recorded(simulation(env, walker, topology=Chain(), utility=None, feedback="none"))
    columns, edges = found.columns, found.facts["edges"]
    ticks = {
        (agent, time)
        for agent, time in zip(columns["tick.agent"], columns["tick.time"], strict=True)
    }
    messages = [
        dict(zip(module.INTEGERS["message"], row, strict=True))
        for row in zip(
            *(columns[f"message.{name}"] for name in module.INTEGERS["message"]), strict=True
        )
    ]
    assert messages
    assert {m["lost"] for m in messages} == {0, 1, 2}
    number = found.facts["agents"].index
    for m in messages:
        sender, receiver = (number(name) for name in edges[m["channel"]])
        assert (sender, m["sent"]) in ticks
        newer = [o["arrival"] for o in messages if o["channel"] == m["channel"] and o["lost"] != 1
                 and o["sent"] > m["sent"]]  # fmt: skip
        until = min(newer, default=env.horizon)
        seen = [t for agent, t in ticks if agent == receiver and m["arrival"] <= t < until]
        assert (m["lost"] == 2) == (m["arrival"] >= env.horizon and m["lost"] != 1)
        want = [] if m["lost"] else sorted(seen)
        assert m["reads"] == len(want)
        assert m["first_read"] == (want[0] if want else -1)
        assert m["settled"] >= m["sent"]
    # each tick says something to each channel that begins there
    assert len(messages) == sum(agent != env.num_agents - 1 for agent, _ in ticks)


def test_what_is_recorded_of_gradients(town, walker):
    """Synthetic: as it went into the sender's window; true: as the utility model was fitted."""
    sim = simulation(
        town(num_agents=2, horizon=12), walker, clock=PeriodicClock(1), topology=Chain(),
        channel=standard_channel(delay=0), gradient_scale=2.0, num_worlds=3,
    )  # fmt: skip
    sim.engine.play(0)  # a utility model begins at zero
    told, targets = [], []
    sender, receiver = sim.populations
    interface = receiver.interface
    assert interface is not None
    fit = interface.fit

    def fitted(value, context, target, rows, mask):
        targets.extend(target.gradient[mask[:, 0], 0].norm(dim=-1).tolist())
        return fit(value, context, target, rows, mask)

    interface.fit = fitted
    recorder = Recorder(sim.engine)
    with recorder.recording(12):
        watch, update = sim.engine.observer, sender.learn

        def learn(*given):
            told.extend(t.given[0, 0].norm().item() for t in sim.engine.lanes[0].window.ticks)
            update(*given)

        assert watch is not None
        sender.learn = learn
        sim.engine.play(1)
    columns = recorder.take().columns
    np.testing.assert_allclose(columns["message.injected"], told, rtol=1e-5)
    np.testing.assert_allclose(columns["message.synthetic"] * 2, told, rtol=1e-5)
    assert len(targets) == len(columns["message.target"]) == 12
    # the last two are settled at once, in an order of their own
    np.testing.assert_allclose(np.sort(columns["message.target"]), np.sort(targets), rtol=1e-5)
    there = columns["message.target"] > 0  # a reader that is asked nothing has no gradient
    assert 0 < there.sum() < 12
    assert (np.abs(columns["message.cosine"][there]) <= 1 + 1e-5).all()
    assert np.isnan(columns["message.cosine"][~there]).all()
    assert (columns["message.reads"][there] > 0).all()


def test_updates_are_those_of_the_optimisers(town, walker):
    sim = simulation(town(num_agents=3, horizon=20, absent=0.3), walker, window=4)
    columns = recorded(sim).columns
    for population in sim.populations:
        for row, agent in enumerate(population.indices.tolist()):
            own = columns["update.agent"] == agent
            assert columns["update.steps"][own].sum() == population.agents.updates[row].item()
            assert set((columns["update.time"][own] + 1) % 4) <= {0}


def test_rewards_are_those_of_the_first_world(market, walker):
    sim = simulation(market(num_agents=2, horizon=12), walker)
    columns = recorded(sim).columns
    paid = torch.stack(sim.world.paid)[:, :, 0].numpy()  # [T, n]
    times, agents = columns["reward.time"], columns["reward.agent"]
    np.testing.assert_array_equal(columns["reward.value"], paid[times, agents])
    assert len(times) == np.count_nonzero(paid)


def test_messages_are_sampled_with_what_they_are_about(walker):
    found = recorded(simulation(Relay(num_agents=3), walker, num_worlds=32))
    columns = found.columns
    assert found.facts["label"] == "label"
    assert columns["vector.value"].shape == (300, 4)
    assert sorted(set(columns["vector.channel"])) == [0, 1]
    assert set(columns["vector.label"]) <= set(range(10))
    assert len(set(columns["vector.label"])) > 5


def test_a_recording_is_bounded(town, walker, monkeypatch):
    monkeypatch.setattr(module, "MOST", 25)
    sim = simulation(town(num_agents=4, horizon=30), walker, clock=PeriodicClock(1))
    found = recorded(sim)
    columns, until = found.columns, found.facts["until"]
    assert until == 3  # twelve messages at a time
    assert len(columns["message.sent"]) == 25
    assert columns["tick.time"].max() == until - 1
    assert found.facts["length"] == 30
    assert (columns["message.settled"] >= 0).all()  # though later than the last tick


def small(env, agent):
    return simulation(env, agent, num_worlds=2, evaluation=Evaluation(10, 1, 2))


def test_which_episodes_are_recorded(town, walker, tmp_path):
    """The last one before the 1st, 2nd, 4th, 8th evaluation and the last."""
    sim, run = small(town(num_agents=2, horizon=10), walker), folder(tmp_path)
    sim.run(110, run)
    found, damage = run.recordings()
    assert damage == []
    assert [r.time for r in found] == [10, 20, 40, 80, 110]
    assert [r.facts["began"] for r in found] == [0, 10, 30, 70, 100]
    assert all(r.facts["starts"] == [0] for r in found)


def test_of_short_episodes_several_are_recorded(town, walker, tmp_path):
    sim, run = small(town(num_agents=2, horizon=3), walker), folder(tmp_path)
    sim.run(32, run)
    found, _ = run.recordings()
    assert [(r.facts["began"], r.time) for r in found] == [(0, 12), (12, 21), (30, 32)]
    assert [r.facts["starts"] for r in found] == [[0, 3, 6, 9], [0, 3, 6], [0]]


def test_short_episodes_are_recorded_in_a_row(town, walker):
    """As one after another, with their times shifted."""
    sim, other = (simulation(town(horizon=8), walker) for _ in range(2))
    one, both = Recorder(sim.engine), Recorder(other.engine)
    apart = []
    for number in range(2):
        with one.recording(8 * number):
            sim.engine.play(number)
        apart.append(one.take())
        with both.recording(8 * number):
            other.engine.play(number)
    found = both.take()
    assert (found.facts["starts"], found.facts["length"]) == ([0, 8], 16)
    for name in ("tick.time", "message.sent", "message.arrival", "update.time"):
        shifted = np.concatenate([apart[0].columns[name], apart[1].columns[name] + 8])
        np.testing.assert_array_equal(found.columns[name], shifted)
    reads = [a.columns["message.first_read"] for a in apart]
    shifted = np.concatenate([reads[0], np.where(reads[1] < 0, -1, reads[1] + 8)])
    np.testing.assert_array_equal(found.columns["message.first_read"], shifted)


def test_a_resumed_run_goes_on_recording(town, walker, tmp_path):
    whole, part = folder(tmp_path / "a"), folder(tmp_path / "b")
    env = town(num_agents=2, horizon=5)
    small(env, walker).run(40, whole)
    small(env, walker).run(20, part)
    checkpoint = part.latest_checkpoint()
    # as a kill between a recording and its checkpoint leaves it
    (part.path / "recordings" / "000000000040.safetensors").write_bytes(b"torn")
    part.drop_recordings(checkpoint.time)
    again = small(env, walker)
    again.restore(checkpoint.tensors, checkpoint.facts)
    again.run(40, part)
    (found, damage), (other, _) = whole.recordings(), part.recordings()
    assert damage == []
    assert [r.time for r in found] == [10, 20, 40]
    for one, two in zip(found, other, strict=True):
        assert one.facts == two.facts
        for name, values in one.columns.items():
            np.testing.assert_array_equal(values, two.columns[name])


def test_nobody_ticks_and_nothing_is_recorded(town, walker):
    found = recorded(simulation(town(num_agents=2, horizon=6, absent=1.0), walker))
    assert len(found.columns["tick.time"]) == 0
    assert found.facts["until"] == 6
    assert not any(math.isnan(v) for v in found.columns["reward.value"])
