"""Communication metrics of agents that were built to copy, to ignore, or to talk only."""

import json
import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dnicomm.errors import UserError
from dnicomm.sim import (
    Agent,
    AgentSpaces,
    ContextField,
    Delay,
    Drop,
    EdgeList,
    Env,
    Evaluation,
    PeriodicClock,
    PoissonClock,
    Scarce,
    Simulation,
    TickOutput,
    World,
)
from dnicomm.sim.communication import FAMILIES, Asked, evaluate_communication
from dnicomm.sim.encoding import GumbelSymbol

K = 4  # things to tell
CERTAIN = 50.0  # a logit


@dataclass
class Telling(Env):
    """A teller sees one of K things and the time, a listener sees the time and is asked what it is.

    Args:
        fixed: whether world i shows thing i mod K, and not one drawn anew at each time.
        told: whether what it is, is a fact that is known when a message is sent.
        continuous: whether the listener names it by a number.
        between: how many agents hand it on.
    """

    fixed: bool = False
    told: bool = True
    continuous: bool = False
    between: int = 0
    horizon: int = 12
    name: str = "telling"

    def make(self, num_worlds, split, device):
        return TellingWorld(self, num_worlds, device)


class TellingWorld(World):
    def __init__(self, env, num_worlds, device):
        self.env, self.num_worlds, self.device = env, num_worlds, device
        between = tuple(f"between_{i}" for i in range(env.between))
        self.agents = ("teller", *between, "listener")
        self.edges = tuple(zip(self.agents[:-1], self.agents[1:], strict=True))
        self.horizon = env.horizon
        self.context_fields = {"thing": ContextField(K), "later": ContextField(1, "hindsight")}
        self.default_context = ("thing", "later") if env.told else ("later",)

    def spaces(self, agent):
        if agent != "listener":
            return AgentSpaces((K + 1,))
        return AgentSpaces((1,), 1 if self.env.continuous else K, not self.env.continuous)

    def reset(self, episode, rng):
        shape = (self.horizon, self.num_worlds)
        thing = np.arange(self.num_worlds) % K if self.env.fixed else rng.integers(K, size=shape)
        self.thing = torch.from_numpy(np.broadcast_to(thing, shape).copy())
        self.time, self.right, self.asked = 0, torch.zeros(self.num_worlds), 0

    def observe(self, agents):
        time = torch.full((self.num_worlds, 1), float(self.time))
        if self.agents[agents[0]] == "listener":
            return time[None]
        seen = torch.cat([self.context("thing"), time], 1)
        return torch.stack([seen if a == 0 else 0 * seen for a in agents])

    def context(self, field):
        if field == "later":
            return torch.zeros(self.num_worlds, 1)
        return F.one_hot(self.thing[min(self.time, self.horizon - 1)], K).float()

    def act(self, agents, actions, active):
        if not self.env.continuous and self.time:
            self.right += actions[0] == self.thing[self.time]
            self.asked += 1

    def step(self):
        self.time += 1

    def score(self):
        return {"right": self.right / max(self.asked, 1)}


class Teller(Agent):
    """Says what it sees, the time apart; or hands on what it hears."""

    def tick(self, observation, inbox, state):
        if self.spec.num_inputs:
            return TickOutput(observation[:, :0], inbox.messages[:, 0], state)
        pad = self.spec.message_size - K
        return TickOutput(observation[:, :0], F.pad(observation[:, :K], (0, pad)), state)


class Timed(Agent):
    """Says the time."""

    def tick(self, observation, inbox, state):
        message = observation[:, -1:].expand(-1, self.spec.message_size)
        return TickOutput(observation[:, :0], message, state)


class Silent(Agent):
    """Says nothing but zeros."""

    def tick(self, observation, inbox, state):
        return TickOutput(observation[:, :0], 0 * observation[:, :K], state)


class Reserved(Agent):
    """Sends what it sees only if that is the first thing."""

    def tick(self, observation, inbox, state):
        speak = CERTAIN * (observation[:, 0] - 0.5)
        return TickOutput(observation[:, :0], observation[:, :K], state, speak=speak)


class Copier(Agent):
    """Does what it was told: names it, or does its number."""

    def tick(self, observation, inbox, state):
        heard = inbox.messages[:, 0]
        if self.spec.discrete:
            return TickOutput(CERTAIN * heard[:, :K], heard, state)
        number = heard[:, :K] @ torch.arange(K, dtype=heard.dtype)[:, None]
        return TickOutput(100 * number, heard, state, log_std=self.log_std(number))

    def log_std(self, number):
        return torch.zeros_like(number)


class Point(Copier):
    """The same without a deviation."""

    def log_std(self, number):
        return None


class Deaf(Copier):
    """Does what the time says."""

    def tick(self, observation, inbox, state):
        size = max(self.spec.action_size, 1)
        action = torch.cos(observation * torch.arange(1, size + 1, dtype=observation.dtype))
        log_std = None if self.spec.discrete else self.log_std(action)
        return TickOutput(action, inbox.messages[:, 0] * 0, state, log_std=log_std)


class StillDeaf(Deaf):
    """The same without a deviation."""

    def log_std(self, number):
        return None


class Unheard(Agent):
    """Does the same always; nobody sends it anything."""

    def tick(self, observation, inbox, state):
        return TickOutput(observation + torch.arange(K), observation.expand(-1, K), state)


class Remembering(Agent):
    """Names the first thing it was ever told."""

    def initial_state(self, num_worlds):
        return {"told": torch.zeros(num_worlds, K), "since": torch.zeros(num_worlds)}

    def tick(self, observation, inbox, state):
        heard = inbox.messages[:, 0, :K]
        new = (state["since"] == 0) & inbox.mask[:, 0]
        told = torch.where(new[:, None], heard, state["told"])
        since = state["since"] + inbox.mask[:, 0]
        return TickOutput(CERTAIN * told, heard, {"told": told, "since": since})


def simulation(listener=Copier, teller=Teller, env=None, **options):
    options = {
        "clock": PeriodicClock(1), "num_worlds": 2, "message_size": K, "normalise": False,
        "utility": None, "feedback": "none", "evaluation": Evaluation(num_worlds=64, episodes=2),
    } | options  # fmt: skip

    def agent(spec):
        return (listener if spec.action_size else teller)(spec)

    return Simulation(env=env or Telling(), agent=agent, **options)


def measured(*arguments, asked=None, **options):
    """Figures of the one channel, or of all."""
    made = simulation(*arguments, **options)
    _, found = evaluate_communication(made, asked=asked)
    channels = list(found["channels"].values())
    return channels[0] if len(channels) == 1 else found


HEARD = Asked(["listening"])


# -- influence ------------------------------------------------------------------------------------


def test_a_listener_that_copies():
    found = measured(asked=HEARD)
    assert found["forced_messages"] == K
    assert found["forced_entropy"] == pytest.approx(math.log(K), abs=0.01)
    assert found["causal_influence"] == pytest.approx(found["forced_entropy"], abs=1e-6)
    assert found["instantaneous_coordination"]["value"] == pytest.approx(math.log(K), abs=0.01)
    assert found["instantaneous_coordination"]["chance_95"] < 0.02
    assert found["coordination_given_age"] == pytest.approx(math.log(K), abs=0.01)
    assert found["response"] == "discrete action"
    # its certainty is gone with nothing to go by, and of four words three are others
    assert found["listening_l1_zeroed"] == pytest.approx(2 * (1 - 1 / K), abs=1e-6)
    assert found["listening_kl_zeroed"] == pytest.approx(math.log(K), abs=1e-6)
    assert found["listening_l1_shuffled"] == pytest.approx(2 * (1 - 1 / K), abs=0.02)
    assert found["listening_kl_shuffled"] == pytest.approx(CERTAIN * (1 - 1 / K), rel=0.02)


@pytest.mark.parametrize("continuous", [False, True])
def test_a_listener_that_ignores_scores_exactly_zero(continuous):
    found = measured(Deaf, env=Telling(continuous=continuous), asked=HEARD)
    for name in (
        "causal_influence", "listening_l1_zeroed", "listening_l1_shuffled",
        "listening_kl_zeroed", "listening_kl_shuffled",
    ):  # fmt: skip
        assert found[name] == 0, name
    assert found["situations"] == 512
    coordination = found["instantaneous_coordination"]
    assert abs(coordination["value"]) < 0.05
    assert all(group["causal_influence"] == 0 for group in found["by_age"])


def test_what_time_tells_both_is_coordination_without_influence():
    """The time is a common cause of what is said and done; nobody listens."""
    found = measured(Deaf, Timed, asked=HEARD)
    assert found["instantaneous_coordination"]["value"] > 0.5
    assert found["causal_influence"] == 0


def test_a_gaussian_actor():
    found = measured(env=Telling(continuous=True), asked=HEARD)
    assert found["response"] == "continuous action"
    assert found["causal_influence"] == pytest.approx(found["forced_entropy"], abs=1e-9)
    assert found["listening_l1_shuffled"] == pytest.approx(2 * (1 - 1 / K), abs=0.02)
    assert found["instantaneous_coordination"]["value"] == pytest.approx(math.log(K), abs=0.01)


def test_an_actor_without_probabilities_is_a_point():
    found = measured(Point, env=Telling(continuous=True), asked=HEARD)
    assert found["causal_influence"] == pytest.approx(found["forced_entropy"], abs=1e-9)
    assert found["listening_kl_zeroed"] is None
    assert found["listening_l1_shuffled"] == pytest.approx(2 * (1 - 1 / K), abs=0.02)
    ignoring = measured(StillDeaf, env=Telling(continuous=True), asked=HEARD)
    assert ignoring["causal_influence"] == ignoring["listening_l1_zeroed"] == 0


def test_a_listener_that_only_talks_is_measured_by_what_it_says():
    found = measured(env=Telling(between=1), asked=HEARD)["channels"]
    first, second = found["teller->between_0"], found["between_0->listener"]
    assert (first["response"], second["response"]) == ("message", "discrete action")
    assert first["causal_influence"] == pytest.approx(first["forced_entropy"], abs=1e-9)
    assert first["instantaneous_coordination"]["value"] == pytest.approx(math.log(K), abs=0.01)


def test_what_is_said_counts_as_it_is_encoded():
    """Half of what is heard makes no difference once it has become a symbol."""

    class Halving(Agent):
        def tick(self, observation, inbox, state):
            if not self.spec.num_inputs:
                return Teller.tick(self, observation, inbox, state)
            heard = inbox.messages[:, 0]
            told = torch.stack([heard[:, 0] + heard[:, 1], heard[:, 2] + heard[:, 3]], 1)
            return TickOutput(observation[:, :0], F.pad(told + 0.1 * heard[:, :2], (0, 2)), state)

    found = measured(
        teller=Halving, env=Telling(between=1), discrete=GumbelSymbol(), asked=HEARD
    )["channels"]["teller->between_0"]  # fmt: skip
    assert found["forced_messages"] == K
    assert found["causal_influence"] == pytest.approx(math.log(2), abs=0.01)


def test_influence_needs_the_state_as_it_was():
    """Who remembers the first thing told is open to messages while it has none, then no more."""
    clocks = {"teller": PeriodicClock(1), "listener": PeriodicClock(3)}
    found = measured(
        Remembering, env=Telling(horizon=15), clock=None, clocks=clocks, channel=Delay(1, 1),
        asked=HEARD,
    )  # fmt: skip
    # ticks at 0, 3, …, 12; what has arrived by 3 was sent at 1; the first of four readings counts
    assert [(group["first"], group["last"]) for group in found["by_age"]] == [(2, 2)]
    assert found["causal_influence"] == pytest.approx(found["forced_entropy"] / 4, rel=0.05)
    assert found["situations"] == 512  # all there are


def test_pairs_are_defined_by_delivery():
    """What is done at a tick answers what has arrived, however late, and however old."""
    found = measured(
        clock=PoissonClock(0.5), channel=Delay(0, 4), env=Telling(horizon=60), asked=HEARD
    )
    assert found["instantaneous_coordination"]["value"] == pytest.approx(math.log(K), abs=0.01)
    ages = [(group["first"], group["last"]) for group in found["by_age"]]
    assert ages[:4] == [(1, 1), (2, 2), (3, 4), (5, 8)]
    for group in found["by_age"]:
        if group.get("pairs", 0) >= 100:
            assert group["instantaneous_coordination"] == pytest.approx(math.log(K), abs=0.05)
        if group["situations"]:
            assert group["causal_influence"] == pytest.approx(found["forced_entropy"], abs=1e-6)
    assert sum(group["situations"] for group in found["by_age"]) == found["situations"] == 512


# -- what is said ---------------------------------------------------------------------------------


def test_a_teller_of_the_truth():
    found = measured()
    assert found["symbols"] == K
    assert found["message_entropy"] == pytest.approx(math.log(K), abs=0.01)
    assert found["meaning"] == "thing"  # and nothing of what is known only later
    assert found["positive_signalling"]["value"] == pytest.approx(math.log(K), abs=0.01)
    assert found["speaker_consistency"] is None  # it does nothing else
    assert found["topographic_similarity"]["value"] == pytest.approx(1)
    assert found["context_independence"]["value"] == pytest.approx(1)
    assert found["context_independence"]["chance_95"] < 0.5
    assert found["positional_disentanglement"]["value"] is None  # one attribute has no second
    assert found["messages_per_time"] == 1
    assert found["bits_per_time"] == 32 * K
    assert found["share_read"] == 11 / 12  # the last one never arrives


def test_who_says_nothing():
    found = measured(teller=Silent)
    assert (found["symbols"], found["message_entropy"]) == (1, 0)
    assert found["positive_signalling"]["value"] == 0
    assert found["topographic_similarity"]["value"] is None
    assert found["causal_influence"] == 0
    # what is guessed without a message is right as often
    assert found["context_independence"]["value"] == pytest.approx(1 / K, abs=0.02)
    assert found["context_independence"]["chance"] == pytest.approx(1 / K, abs=0.02)


def test_meaning_is_what_the_speaker_saw_where_nothing_is_known():
    found = measured(env=Telling(told=False))
    assert found["meaning"] == "observation"
    # of K + 1 numbers; the time is not told
    assert 0 < found["topographic_similarity"]["value"] < 0.99
    # the one symbol says as much of each number as of the next
    assert found["positional_disentanglement"]["value"] == pytest.approx(0, abs=0.03)


def test_use_of_a_channel_that_is_lossy_and_heard_now_and_then():
    clocks = {"teller": PeriodicClock(2), "listener": PeriodicClock(4)}
    found = measured(
        clock=None, clocks=clocks, channel=Drop(0.5), discrete=GumbelSymbol(),
        env=Telling(horizon=100), asked=Asked(["use"]),
    )  # fmt: skip
    assert found["messages_per_time"] == 0.5  # lost ones too
    assert found["bits_per_time"] == 0.5 * math.log2(K)
    assert found["messages"] == 2 * 64 * 50
    # of two sent between ticks of the listener the later one that is not lost is read
    assert found["share_read"] == pytest.approx((1 - 0.25) / 2, abs=0.03)


def test_use_of_a_link_that_carries_every_fourth():
    found = measured(channel=Scarce(bandwidth=0.25), env=Telling(horizon=40), asked=Asked(["use"]))
    assert found["messages_per_time"] == 1  # sent, though the link drops most of them
    # one at each 0, 4, …, 36 is carried, and is there four units of time later
    assert found["share_read"] == 9 / 40


def test_who_need_not_speak_is_heard_when_it_does():
    found = measured(teller=Reserved, env=Telling(horizon=100), asked=Asked(["use"]))
    assert found["messages_per_time"] == pytest.approx(1 / K, abs=0.02)
    assert found["symbols"] == 1  # it has only one thing to say; when it says it tells the rest


def test_worlds_that_end_early_take_no_more_time(town, walker):
    made = Simulation(
        env=town(num_agents=2, last=3), agent=walker, clock=PeriodicClock(1), num_worlds=2,
        evaluation=Evaluation(num_worlds=3, episodes=1), message_size=2,
    )  # fmt: skip
    _, found = evaluate_communication(made, asked=Asked(["use"]))
    assert found["world_time"] == 3 + 4 + 5
    for channel in found["channels"].values():
        assert channel["messages"] == 3 + 4 + 5


# -- silence --------------------------------------------------------------------------------------


def test_channels_silenced():
    evaluation = Evaluation(num_worlds=K, episodes=2)
    made = simulation(env=Telling(fixed=True), evaluation=evaluation)
    record, found = evaluate_communication(made, asked=Asked(["ablation"]))
    ablation = found["ablation"]
    assert ablation["on"] == {"right": 1.0} == {"right": record["metrics"]["right"]}
    # every world shows another thing, so that another world's is always wrong
    assert ablation["all"]["shuffled"] == {"right": 0.0}
    mute = simulation(teller=Silent, env=Telling(fixed=True), evaluation=evaluation)
    assert ablation["all"]["zeroed"] == {"right": mute.evaluate()["metrics"]["right"]}
    assert ablation["channels"] == {"teller->listener": ablation["all"]}


def test_channels_silenced_one_by_one():
    made = simulation(
        env=Telling(fixed=True, between=1), evaluation=Evaluation(num_worlds=2 * K, episodes=1)
    )
    _, found = evaluate_communication(made, asked=Asked(["ablation"], ["between_0->listener"]))
    assert list(found["ablation"]["channels"]) == ["between_0->listener"]
    alone = found["ablation"]["channels"]["between_0->listener"]
    assert found["ablation"]["on"]["right"] > 0.8  # at first nobody knows
    assert alone["zeroed"]["right"] == found["ablation"]["all"]["zeroed"]["right"] == 1 / K
    assert alone["shuffled"]["right"] < found["ablation"]["on"]["right"]


def test_a_world_alone_has_nobody_to_shuffle_with():
    made = simulation(evaluation=Evaluation(num_worlds=1, episodes=1))
    _, found = evaluate_communication(made, asked=Asked(["ablation"]))
    assert found["ablation"]["all"]["shuffled"] is None


# -- all together ---------------------------------------------------------------------------------


def test_listening_changes_nothing_and_is_repeatable(town, walker):
    def made():
        return Simulation(
            env=town(2, absent=0.2, shut=0.2), agent=walker, clock=PoissonClock(0.6), num_worlds=4,
            evaluation=Evaluation(num_worlds=20, episodes=2), message_size=3, channel=Delay(0, 2),
        )  # fmt: skip

    one = made()
    record, found = evaluate_communication(one)
    assert record["metrics"] == made().evaluate()["metrics"]
    assert one.evaluate()["metrics"] == record["metrics"]  # and leaves nothing behind
    json.dumps(found, allow_nan=False)  # what is undefined is null
    assert len(found["channels"]) == len(found["ablation"]["channels"]) == 2
    assert found["left_out"] == 0
    # whatever else is asked for
    name = "agent_1->agent_0"
    _, again = evaluate_communication(one, asked=Asked(["listening"], [name]))
    known = found["channels"][name]
    assert again["channels"][name] == {key: known[key] for key in again["channels"][name]}
    for channel in found["channels"].values():
        assert 0 <= channel["causal_influence"] <= channel["forced_entropy"]
        assert 0 <= channel["listening_l1_zeroed"] <= 2
        assert channel["speaker_consistency"]["samples"] > 20


def test_channels_and_metrics_are_chosen_by_name(town, walker):
    made = Simulation(
        env=town(num_agents=5), agent=walker, clock=PeriodicClock(3), num_worlds=2,
        evaluation=Evaluation(num_worlds=2, episodes=1), message_size=2,
    )  # fmt: skip
    _, found = evaluate_communication(made, asked=Asked(["use", "ablation"]))
    assert len(found["channels"]) == 8
    assert found["left_out"] == 12
    assert list(found["ablation"]["channels"]) == list(found["channels"])[:4]
    name = "agent_4->agent_1"
    _, found = evaluate_communication(made, asked=Asked(["structure"], [name, name]))
    assert list(found["channels"]) == [name]
    assert set(found["channels"][name]) == {
        "meaning", "topographic_similarity", "positional_disentanglement",
        "bag_of_symbols_disentanglement", "context_independence",
    }  # fmt: skip
    with pytest.raises(UserError, match=r"no channel 'agent_1->agent_9'\. Did you mean"):
        evaluate_communication(made, asked=Asked(channels=["agent_1->agent_9"]))
    with pytest.raises(UserError, match=r"no metrics 'listning'\. Did you mean 'listening'"):
        Asked(["listning"])
    assert set(FAMILIES) == {"use", "signalling", "structure", "listening", "ablation"}


def test_agents_without_channels():
    made = simulation(Unheard, topology=EdgeList([]))
    record, found = evaluate_communication(made)
    assert found["channels"] == {}
    assert "ablation" not in found
    assert set(record["metrics"]) == {"right", "train_right", "train_gap"}


def test_a_channel_whose_messages_never_arrive():
    found = measured(channel=Drop(1.0), env=Telling(horizon=30))
    assert found["messages_per_time"] == 1
    assert found["share_read"] == 0
    assert found["positive_signalling"]["value"] == pytest.approx(math.log(K), abs=0.01)
    assert found["instantaneous_coordination"] is None
    assert found["causal_influence"] is None
    assert found["by_age"] == []


def test_on_each_device(town, walker, device):
    made = Simulation(
        env=town(num_agents=2), agent=walker, clock=PeriodicClock(2), num_worlds=2, message_size=2,
        evaluation=Evaluation(num_worlds=8, episodes=1), device=device,
    )  # fmt: skip
    made.engine.play(0)  # only then are the messages' statistics known
    _, found = evaluate_communication(made)
    for channel in found["channels"].values():
        assert channel["causal_influence"] > 0
        assert channel["messages_per_time"] == 0.5
    assert found["ablation"]["all"]["shuffled"] != found["ablation"]["all"]["zeroed"]
