import importlib
import warnings

import numpy as np
import pytest
import torch
from gymnasium import spaces
from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.test import api_test, parallel_api_test, parallel_seed_test, seed_test, state_test
from pettingzoo.test.example_envs import generated_agents_parallel_v0
from pettingzoo.utils.conversions import parallel_to_aec

from dnicomm.envs import channelled, clocked, clocked_parallel, counting_v0
from dnicomm.envs.post import Post
from dnicomm.errors import UserError
from dnicomm.sim import Chain, Channel, Delay, Drop, EdgeList, Noise, Quantise, Scarce, Series
from dnicomm.sim.clock import PeriodicClock, PoissonClock

MPE = ["simple_spread_v3", "simple_speaker_listener_v4", "simple_reference_v3"]
LOSSY = Series((Delay(0, 3), Drop(0.3)))


@pytest.fixture(params=MPE)
def parallel(request, need):
    need(f"mpe2.{request.param}")
    return importlib.import_module(f"mpe2.{request.param}").parallel_env


class Hall(ParallelEnv):
    """a_0 to a_2 with spaces of their own; a_1 ends at time 3, all ends at 8."""

    metadata = {"name": "hall_v0"}  # noqa: RUF012
    possible_agents = ["a_0", "a_1", "a_2"]  # noqa: RUF012
    seen = {  # noqa: RUF012
        "a_0": spaces.Box(0, 255, (2, 2), np.uint8),
        "a_1": spaces.Discrete(3),
        "a_2": spaces.Dict({"x": spaces.Box(-1, 1, (2,), np.float64), "y": spaces.MultiBinary(2)}),
    }
    done = {  # noqa: RUF012
        "a_0": spaces.Discrete(4, start=5),
        "a_1": spaces.MultiDiscrete([2, 3]),
        "a_2": spaces.MultiBinary(2),
    }

    def __init__(self, **done):
        self.done = {**self.done, **done}

    def observation_space(self, agent):
        return self.seen[agent]

    def action_space(self, agent):
        return self.done[agent]

    def reset(self, seed=None, options=None):
        self.time, self.agents, self.given = 0, list(self.possible_agents), []
        return self._observations(self.agents), {agent: {} for agent in self.agents}

    def _observations(self, agents):
        everybody = {
            "a_0": np.full((2, 2), self.time, np.uint8),
            "a_1": np.int64(self.time % 3),
            "a_2": {"x": np.array([0.5, -0.5]), "y": np.array([1, 0], np.int8)},
        }
        return {agent: everybody[agent] for agent in agents}

    def step(self, actions):
        assert set(actions) == set(self.agents)
        for agent, action in actions.items():
            assert self.done[agent].contains(action), (agent, action)
        self.given.append(actions)
        self.time += 1
        present = list(self.agents)
        ended = {a: self.time == 3 and a == "a_1" for a in present}
        cut = dict.fromkeys(present, self.time == 8)
        self.agents = [a for a in present if not (ended[a] or cut[a])]
        zero, none = dict.fromkeys(present, 0.0), {agent: {} for agent in present}
        return self._observations(present), zero, ended, cut, none


class Ring(AECEnv):
    """Three agents in turn, seven turns; an observation is the number of the turn, and a mask."""

    metadata = {"name": "ring_v0"}  # noqa: RUF012
    possible_agents = ["a_0", "a_1", "a_2"]  # noqa: RUF012
    render_mode = None

    def __init__(self):
        self._seen = spaces.Dict(
            {
                "observation": spaces.Box(0, 9, (1,), np.float32),
                "action_mask": spaces.MultiBinary(4),
            }
        )
        self._done = {a: spaces.Discrete(4) for a in self.possible_agents}

    def observation_space(self, agent):
        return self._seen

    def action_space(self, agent):
        return self._done[agent]

    def observe(self, agent):
        mask = np.zeros(4, np.int8)
        mask[[self.count % 4, 3]] = 1
        return {"observation": np.array([self.count], np.float32), "action_mask": mask}

    def reset(self, seed=None, options=None):
        self.agents, self.count = list(self.possible_agents), 0
        self.rewards = dict.fromkeys(self.agents, 0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos: dict[str, dict[str, object]] = {agent: {} for agent in self.agents}
        self.agent_selection = "a_0"

    def step(self, action):
        if self.terminations[self.agent_selection]:
            self._was_dead_step(action)
            return
        assert self.observe("")["action_mask"][action], "not allowed"
        self._cumulative_rewards[self.agent_selection] = 0
        self.count += 1
        if self.count == 7:
            self.terminations = dict.fromkeys(self.agents, True)
        self.agent_selection = self.agents[self.count % 3]


def play(env, seed=None, choose=None):
    """One episode of a parallel environment: what each step was given and gave."""
    history = [env.reset(seed=seed)]
    while env.agents:
        actions = {a: choose(a) if choose else env.action_space(a).sample() for a in env.agents}
        history.append((actions, *env.step(actions)))
    return history


# -- PettingZoo's own tests --------------------------------------------------------------------


@pytest.mark.parametrize("flat", [True, False], ids=["flat", "dict"])
@pytest.mark.parametrize("continuous", [False, True], ids=["symbols", "vectors"])
def test_passes_the_official_tests(parallel, continuous, flat):
    kind = {"size": 4} if continuous else {"symbols": 4}

    def make():
        return channelled(parallel(continuous_actions=continuous), LOSSY, flat=flat, **kind)

    parallel_api_test(make(), num_cycles=30)
    parallel_seed_test(make, num_cycles=25)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # agents differ, and space has no bounds
        api_test(parallel_to_aec(make()), num_cycles=25)
        state_test(parallel_to_aec(make()), parallel(), num_cycles=5)
        clock = PoissonClock(0.4)
        held = channelled(clocked_parallel(parallel(), clock), LOSSY, symbols=3, flat=flat)
        parallel_api_test(held, num_cycles=30)
        turns = lambda: channelled(clocked(parallel(), clock), LOSSY, symbols=3, flat=flat)  # noqa: E731
        api_test(turns(), num_cycles=25)
        seed_test(turns, num_cycles=25)


@pytest.mark.parametrize("flat", [True, False], ids=["flat", "dict"])
def test_all_kinds_of_spaces_pass(flat):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # agents differ
        parallel_api_test(channelled(Hall(), LOSSY, symbols=3, flat=flat), num_cycles=20)
        parallel_api_test(channelled(Hall(), LOSSY, size=3, flat=False), num_cycles=20)
        if flat:  # PettingZoo's test takes no dictionaries within dictionaries
            api_test(parallel_to_aec(channelled(Hall(), LOSSY, symbols=3)), num_cycles=20)
            api_test(channelled(Ring(), LOSSY, symbols=3), num_cycles=20)
        seed_test(lambda: channelled(Ring(), LOSSY, symbols=3, flat=flat), num_cycles=20)


def test_every_observation_lies_in_its_space(parallel):
    for options in ({"symbols": 3}, {"symbols": 3, "flat": False}):
        for channel in (LOSSY, Series((Quantise(2), Noise(0.5)))):
            env = channelled(parallel(), channel, **options)
            for observations in (step[1] if len(step) > 2 else step[0] for step in play(env, 3)):
                for agent, observation in observations.items():
                    assert env.observation_space(agent).contains(observation)


# -- who says what, and who hears it when ------------------------------------------------------


def test_a_message_is_a_part_of_action_and_observation():
    env = channelled(Hall(), symbols=3)
    assert env.action_space("a_0") == spaces.MultiDiscrete([4, 3])
    assert env.action_space("a_1") == spaces.MultiDiscrete([2, 3, 3])
    assert env.action_space("a_2") == spaces.MultiDiscrete([2, 2, 3])
    assert [env.observation_space(a).shape for a in env.possible_agents] == [
        (4 + 2 * 3 + 2,), (3 + 2 * 3 + 2,), (2 + 2 + 2 * 3 + 2,)
    ]  # fmt: skip
    observations, _ = env.reset(seed=0)
    assert observations["a_2"].tolist() == [0.5, -0.5, 1, 0] + [0] * 8
    said = {"a_0": np.array([3, 0]), "a_1": np.array([1, 2, 1]), "a_2": np.array([0, 1, 2])}
    observations, *_ = env.step(said)
    own = env.unwrapped.given[0]
    assert (own["a_0"], own["a_1"].tolist(), own["a_2"].tolist()) == (8, [1, 2], [0, 1])
    words = {"a_0": [1, 0, 0], "a_1": [0, 1, 0], "a_2": [0, 0, 1]}
    assert observations["a_0"].tolist() == [1] * 4 + words["a_1"] + words["a_2"] + [1, 1]
    assert observations["a_1"].tolist() == [0, 1, 0] + words["a_0"] + words["a_2"] + [1, 1]


def test_vectors_join_continuous_actions():
    box = spaces.Box(-2, 2, (1, 2), np.float64)
    env = channelled(Hall(a_0=box), topology=EdgeList([("a_0", "a_2")]), size=2)
    assert env.action_space("a_0") == spaces.Box(
        np.array([-2, -2, -1, -1], np.float32), np.array([2, 2, 1, 1], np.float32)
    )
    env.reset()
    action = {"a_0": np.array([1.5, -1.5, 0.5, 7], np.float32)}
    seen, *_ = env.step(action | {"a_1": np.array([0, 0]), "a_2": np.array([0, 0], np.int8)})
    own = env.unwrapped.given[0]["a_0"]
    assert own.dtype == np.float64
    assert own.tolist() == [[1.5, -1.5]]
    assert seen["a_2"][-3:].tolist() == [0.5, 1, 1]  # clipped; and it is there


def test_who_hears_nobody_and_who_is_not_heard_stays_as_before():
    bare = Hall()
    env = channelled(bare, topology=Chain(), symbols=3)
    assert env.observation_space("a_0") is bare.observation_space("a_0")
    assert env.action_space("a_2") is bare.action_space("a_2")
    observations, _ = env.reset()
    assert observations["a_0"].dtype == np.uint8
    assert observations["a_1"].shape == (3 + 3 + 1,)  # it hears a_0 alone
    with pytest.raises(UserError, match="topology: edge a_0 -> a_9: there is no agent"):
        channelled(Hall(), topology=EdgeList([("a_0", "a_9")]), symbols=3)


@pytest.mark.parametrize("delay", [0, 2])
def test_a_message_arrives_after_its_delay(delay):
    env = channelled(Hall(), Delay(delay), Chain(), symbols=9, flat=False)
    env.reset(seed=0)
    heard = []
    for time in range(7):
        actions = {a: env.action_space(a).sample() for a in env.agents}
        actions["a_0"]["message"] = time + 1
        if "a_1" in actions:
            actions["a_1"]["message"] = 8 - time
        seen = env.step(actions)[0]["a_2"]
        heard.append(int(seen["messages"][0].argmax()) if seen["heard"][0] else None)
    said_by_a_1 = [8, 7, 6]  # then it has ended: its last word stays
    assert heard == ([None] * delay + said_by_a_1 + [6] * 7)[:7]


def test_the_newest_message_stays_and_what_it_overtook_is_dropped():
    class Given(Channel):
        def delays(self, rng, count):
            return np.resize(np.array([3, 0, 5, 0]), count)

    post = Post([("a", "b")], Given(), 1)
    heard = []
    for time in range(9):
        messages, there = post.inbox("b", time)
        heard.append(float(messages[0, 0]) if there[0] else None)
        if time < 4:
            post.send("a", np.array([time], np.float32), time)
    # sent at 0, 1, 2, 3; arriving at 4, 2, 8, 4
    assert heard == [None, None, 1, 1, 3, 3, 3, 3, 3]


def test_losses_have_their_share_and_repeat_with_the_seed():
    post = Post([("a", "b"), ("b", "a")], Drop(0.3), 1)

    def arrivals(seed):
        post.begin(seed)
        times = []
        for time in range(3000):
            post.send("a", np.array([time], np.float32), time)
            times.append(post.inbox("b", time + 1)[0][0, 0] == time)
        return times

    one = arrivals(5)
    assert np.mean(one) == pytest.approx(0.7, abs=0.03)
    assert one == arrivals(5)
    assert one != arrivals(None)  # the next episode


def test_noise_and_bandwidth_are_the_simulators():
    post = Post([("a", "b")], Series((Noise(0.5), Scarce(bandwidth=0.5, queue=1))), 500)
    post.begin(0)
    heard = []
    for time in range(9):
        messages, there = post.inbox("b", time)
        heard.append(round(float(messages.mean())) if there[0] else None)
        post.send("a", np.full(500, 10 * time, np.float32), time)
        if time == 3:
            assert messages.std() == pytest.approx(0.5, rel=0.1)
    # two units a message, one may wait: those of 0 and 1; then each second one
    assert heard == [None, None, 0, 0, 10, 10, 20, 20, 40]


def test_who_has_ended_says_nothing():
    env = channelled(Hall(), topology=EdgeList([("a_1", "a_0")]), symbols=3, flat=False)
    env.reset()
    sent = []
    env._talk.post.send = lambda sender, message, time: sent.append((sender, time))
    while env.agents:
        env.step({a: env.action_space(a).sample() for a in env.agents})
    assert sent == [("a_1", 0), ("a_1", 1), ("a_1", 2)]


@pytest.mark.parametrize("turns", [False, True], ids=["action_hold", "turns"])
def test_with_clocks_messages_leave_at_ticks(turns):
    """A message is sent at its sender's tick, at the world time that the clocks keep."""
    clocks = {"a_0": PeriodicClock(3), "a_1": PeriodicClock(2), "a_2": PeriodicClock(1)}
    wrap = clocked if turns else clocked_parallel
    env = channelled(wrap(Hall(), clocks), symbols=3)
    sent = []
    post = env._talk.post
    send = post.send
    post.send = lambda sender, *rest: (sent.append((sender, rest[1])), send(sender, *rest))
    if turns:
        env.reset(seed=1)
        for agent in env.agent_iter():
            *_, terminated, truncated, _ = env.last()
            env.step(None if terminated or truncated else env.action_space(agent).sample())
    else:
        play(env, seed=1)
    assert sorted(sent) == [("a_0", t) for t in (0, 3, 6)] + [("a_1", 0), ("a_1", 2)] + [
        ("a_2", t) for t in range(8)
    ]


def test_nobody_hears_what_was_said_at_the_same_time():
    """In turns under clocks, agents due at one time hear each other a unit later."""
    env = channelled(clocked(Hall(), PeriodicClock(1)), symbols=3, flat=False)
    env.reset(seed=0)
    for time in range(3):
        for agent in ("a_0", "a_1", "a_2"):
            assert env.agent_selection == agent
            heard = env.observe(agent)["messages"].argmax(-1)
            assert env.observe(agent)["heard"].tolist() == [time > 0] * 2
            if time:
                assert heard.tolist() == [time - 1] * 2
            env.step({**env.action_space(agent).sample(), "message": time})


def test_in_turns_time_is_the_number_of_turns():
    env = channelled(Ring(), Delay(1), EdgeList([("a_0", "a_1"), ("a_0", "a_2")]), symbols=4)
    env.reset()
    env.step(np.array([3, 2]))  # a_0 at turn 0: heard from turn 2 on
    assert env.observe("a_1")[-5:].tolist() == [0, 0, 0, 0, 0]
    env.step(3)
    assert env.observe("a_2")[-5:].tolist() == [0, 0, 1, 0, 1]


@pytest.mark.parametrize("flat", [True, False], ids=["flat", "dict"])
def test_masks_fit_the_new_actions(flat):
    env = channelled(Ring(), symbols=3, flat=flat)
    env.reset(seed=0)
    for agent in env.agent_iter():
        *_, terminated, truncated, info = env.last()
        over = terminated or truncated
        space = env.action_space(agent)
        env.step(None if over else space.sample(info["action_mask"]))  # Ring takes no other


def test_where_the_environment_has_a_schedule_only_due_agents_speak():
    env = channelled(counting_v0.parallel_env(block=2), symbols=4, flat=False)
    env.reset(seed=0)
    sent = []
    env._talk.post.send = lambda sender, message, time: sent.append((sender, time))
    while env.agents:
        env.step({a: env.action_space(a).sample() for a in env.agents})
    assert [time for sender, time in sent if sender == "b_0"] == [2, 4]


# -- randomness and what is passed through -----------------------------------------------------


def test_the_same_seed_gives_the_same_episode(parallel):
    def episodes():
        env = channelled(parallel(), Series((LOSSY, Noise(0.1))), symbols=5)
        for agent in env.possible_agents:
            env.action_space(agent).seed(0)
        return play(env, seed=11), play(env)

    np.testing.assert_equal(episodes(), episodes())


def test_the_environment_does_not_notice():
    """The same own actions give the same own observations, rewards and ends."""
    env, bare = channelled(Hall(), symbols=3, flat=False), Hall()
    history = play(env, seed=0)
    bare.reset(seed=0)
    for actions, *outcome in history[1:]:
        own = {agent: action["action"] for agent, action in actions.items()}
        expected = bare.step(own)
        seen = {agent: value["observation"] for agent, value in outcome[0].items()}
        np.testing.assert_equal((seen, *outcome[1:]), expected)
    assert env.unwrapped.possible_agents == bare.possible_agents
    assert str(env) == str(env.unwrapped)
    assert env.metadata is Hall.metadata


# -- mistakes ----------------------------------------------------------------------------------

BOX = spaces.Box(-1, 1, (2,), np.float32)
TEXT = spaces.Text(5)
WRONG = [
    (lambda: channelled(Hall()), "channelled: give either size= (numbers in a message) or sym"),
    (lambda: channelled(Hall(), size=1, symbols=2), "channelled: give either size="),
    (lambda: channelled(Hall(), size=0), "size=0: must be a whole number of at least 1"),
    (lambda: channelled(Hall(), symbols=1), "symbols=1: must be a whole number of at least 2"),
    (lambda: channelled(Hall(), symbols=True), "symbols=True: must be a whole number"),
    (lambda: channelled(Hall(), size=2), "actions of agent 'a_0' are Discrete(4, start=5): only "
     "a Box of floats joins vectors; use symbols= or flat=False"),
    (lambda: channelled(Hall(a_1=BOX), symbols=2), "actions of agent 'a_1' are Box(-1.0, 1.0, "),
    (lambda: channelled(Hall(a_1=TEXT), symbols=2), "actions of agent 'a_1' are Text(1, 5"),
    (lambda: channelled(3, symbols=2), "channelled: a int; allowed: a PettingZoo ParallelEnv or"),
    (lambda: channelled(generated_agents_parallel_v0.parallel_env(), symbols=2),
     "has no possible_agents; agents must be known before an episode begins"),
    (lambda: channelled(Hall(), Scarce(cost=0.1), symbols=2), "channel.cost=0.1: an agent speaks"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "message"), WRONG, ids=[row[1][:40] for row in WRONG])
def test_mistakes_are_named(make, message):
    with pytest.raises(UserError) as error:
        make()
    assert message in str(error.value)


def test_observations_without_a_number_of_numbers_are_named():
    env = Hall()
    env.seen = {**env.seen, "a_1": spaces.Sequence(spaces.Discrete(2))}
    with pytest.raises(UserError, match=r"observations of agent 'a_1' are Sequence.*flat=False"):
        channelled(env, symbols=2)


BAD_ACTIONS = [
    ({"symbols": 3}, np.array([1, 9]), "message of a_0 at world time 0 is np.int64(9); allowed"),
    ({"symbols": 3}, np.array([1]), "action of a_0 at world time 0 is array([1]); allowed: MultiD"),
    ({"symbols": 3}, 1, "action of a_0 at world time 0 is 1; allowed: MultiDiscrete"),
    ({"symbols": 3, "flat": False}, 1, "action of a_0 at world time 0 is 1; allowed: Dict("),
    ({"size": 1, "flat": False}, {"action": 5, "message": [np.nan]}, "message of a_0 at world t"),
    ({"size": 1, "flat": False}, {"action": 5, "message": [1, 2]}, "is [1, 2]; allowed: Box(-1.0"),
]


@pytest.mark.parametrize(("options", "action", "message"), BAD_ACTIONS)
def test_bad_messages_are_named(options, action, message):
    env = channelled(Hall(), **options)
    env.reset()
    actions = {agent: env.action_space(agent).sample() for agent in env.agents}
    with pytest.raises(UserError) as error:
        env.step({**actions, "a_0": action})
    assert message in str(error.value)


def test_needs_no_gradients():
    env = channelled(Hall(), Noise(0.1), symbols=3)
    with torch.enable_grad():
        assert all(isinstance(seen, np.ndarray) for seen in env.reset()[0].values())
