import numpy as np
import pytest

from dnicomm.agents import FeedForward, RecurrentActorCritic
from dnicomm.envs import PredatorPrey, Relay, Switch
from dnicomm.errors import UserError
from dnicomm.sim import Delay, Drop, Evaluation, PeriodicClock, Simulation
from dnicomm.sim.onlooking import Onlooking


def relay(channel, clocks=None, **options):
    return Simulation(
        env=Relay(num_agents=3, horizon=8), agent=FeedForward, channel=channel,
        clock=None if clocks else PeriodicClock(1), clocks=clocks, num_worlds=3,
        evaluation=Evaluation(episodes=2, num_worlds=4), **options,
    )  # fmt: skip


def seen(simulation, index=0, show=lambda sight: sight.moment, episodes=None):
    found = []
    with Onlooking(simulation.examiner, index, lambda sight: found.append(show(sight))):
        record = simulation.evaluate(episodes)
    return found, record


def test_each_time_of_the_first_episode_is_shown_once():
    moments, _ = seen(relay(Delay(0)))
    assert [moment.time for moment in moments] == [*range(8)]


def test_messages_go_from_their_sender_to_their_receiver():
    """Sent at t with a delay of 2, a message arrives at t + 3 and is seen at three times."""
    moments, _ = seen(relay(Delay(2)))
    first = moments[0].flights
    assert [(f.sender, f.receiver) for f in first] == [(0, 1)], "the others have heard nothing"
    assert first[0].share == pytest.approx(1 / 6)
    by_time = [sorted(f.share for f in m.flights if f.sender == 0) for m in moments]
    assert by_time[1] == pytest.approx([1 / 6, 3 / 6])
    assert by_time[4] == pytest.approx([1 / 6, 3 / 6, 5 / 6])
    from_the_second = [any(f.sender == 1 for f in m.flights) for m in moments]
    assert from_the_second == [False] * 3 + [True] * 5


def test_lost_messages_are_not_under_way():
    moments, _ = seen(relay(Drop(1.0)))
    assert not any(moment.flights for moment in moments)


def test_who_ticks_is_shown():
    clocks = {"agent_0": PeriodicClock(1), "agent_1": PeriodicClock(3), "agent_2": PeriodicClock(8)}
    moments, _ = seen(relay(Delay(0), clocks))
    assert [sorted(m.ticking) for m in moments[:4]] == [[0, 1, 2], [0], [0], [0, 1]]


def test_looking_on_changes_nothing():
    alone = relay(Delay(1)).evaluate()
    _, watched = seen(relay(Delay(1)), 2, lambda sight: sight.picture())
    assert alone == watched
    simulation = relay(Delay(1))
    seen(simulation)
    assert simulation.examiner.onlooker is None


def test_pictures_and_texts_are_those_of_the_world_that_was_asked_for():
    simulation = relay(Delay(0))
    pictures = [seen(simulation, i, lambda sight: sight.picture())[0] for i in range(4)]
    assert all(len(own) == 8 for own in pictures)
    assert len({own[0].tobytes() for own in pictures}) == 4, "four digits"
    assert all(not np.array_equal(a, b) for own in pictures for a, b in zip(own, own[1:]))  # noqa: B905, RUF007
    texts, _ = seen(simulation, 1, lambda sight: sight.text())
    lines = texts[3].splitlines()
    assert lines[0] == "time 3 of 8"
    assert [len(line) for line in lines[1:9]] == [16] * 8
    assert lines[9] == "ticking: agent_0, agent_1, agent_2"
    assert lines[10:] == [
        "agent_0 -> agent_1: sent at 3, arrives at 4",
        "agent_1 -> agent_2: sent at 3, arrives at 4",
    ]


def test_a_crowd_is_not_listed_to_the_end():
    simulation = Simulation(
        env=PredatorPrey(16, dim=9, horizon=2), agent=RecurrentActorCritic, clock=PeriodicClock(1),
        num_worlds=2, evaluation=Evaluation(episodes=1, num_worlds=2),
    )  # fmt: skip
    texts, _ = seen(simulation, 0, lambda sight: sight.text())
    lines = texts[0].splitlines()
    assert lines[10].endswith("predator_11 and 4 more")
    assert lines[-1] == "… and 228 more messages under way"


def test_a_world_that_is_over_is_not_shown_any_more():
    simulation = Simulation(
        env=Switch(), agent=RecurrentActorCritic, num_worlds=2,
        evaluation=Evaluation(episodes=1, num_worlds=40),
    )  # fmt: skip
    for index in range(10):
        moments, _ = seen(simulation, index)
        told = bool(simulation.examiner.world.told[index])
        assert 1 <= len(moments) <= 6
        assert (len(moments) == 6) or told
        assert all(len(moment.ticking) == 1 for moment in moments)


@pytest.mark.parametrize("index", [4, -1])
def test_there_is_no_such_world(index):
    with pytest.raises(UserError, match=rf"world={index}: the worlds .* numbered 0 to 3"):
        Onlooking(relay(Delay(0)).examiner, index, print)
