import sys
import types

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from pettingzoo import AECEnv, ParallelEnv

from dnicomm.envs.foreign import DEFAULT_HORIZON, GymEnv, PettingZooEnv
from dnicomm.errors import UserError
from dnicomm.sim.world import AgentSpaces

CPU = torch.device("cpu")


class Crowd(ParallelEnv):
    """a_0 to a_2, each with spaces of its own; a_1 ends at time 2, a_2 appears at time 1.

    A world lasts 3 or 4 units, as its seed says.
    """

    metadata = {"name": "crowd_v0"}  # noqa: RUF012
    observation_spaces = {  # noqa: RUF012
        "a_0": spaces.Box(10, 110, (2, 2), np.uint8),
        "a_1": spaces.Discrete(3, start=-1),
        "a_2": spaces.MultiBinary(4),
    }
    action_spaces = {  # noqa: RUF012
        "a_0": spaces.Discrete(4, start=5),
        "a_1": spaces.Box(np.array([-1, 2], np.float32), np.array([1, 3], np.float32)),
        "a_2": spaces.Discrete(2),
    }

    def __init__(self, reward=1.0, error=None, state=True, late="a_2", **spaces_given):
        self.possible_agents = ["a_0", "a_1", "a_2"]
        self.observation_spaces = {**self.observation_spaces, **spaces_given}
        self.reward, self.error, self.late = reward, error, late
        self.state_space = spaces.Box(0, 100, (1, 2), np.float64) if state is not None else None
        self.has_state = state

    def observation_space(self, agent):
        return self.observation_spaces[agent]

    def action_space(self, agent):
        return self.action_spaces[agent]

    def state(self):
        if not self.has_state:
            raise NotImplementedError
        return np.array([[self.time, self.seed % 100]])

    def _observations(self):
        everybody = {
            "a_0": np.full((2, 2), 10 + 25 * self.time, np.uint8),
            "a_1": np.int64(self.time - 1),
            "a_2": np.array([1, 0, 1, self.time % 2], np.int8),
        }
        return {agent: everybody.get(agent) for agent in self.agents}

    def reset(self, seed=None, options=None):
        assert type(seed) is int
        self.seed, self.time, self.seen = seed, 0, []
        self.length = 3 + seed % 2
        self.agents = ["a_0", "a_1"]
        return self._observations(), {agent: {} for agent in self.agents}

    def step(self, actions):
        assert set(actions) == set(self.agents)
        self.seen.append(actions)
        if self.error:
            raise self.error
        self.time += 1
        if self.time == 1:
            self.agents.append(self.late)
        present = list(self.agents)
        ended = {a: self.time == 2 and a == "a_1" for a in present}
        cut = dict.fromkeys(present, self.time >= self.length)
        observations, rewards = self._observations(), dict.fromkeys(present, self.reward)
        self.agents = [a for a in present if not (ended[a] or cut[a])]
        return observations, rewards, ended, cut, {agent: {} for agent in present}


class Turns(AECEnv):
    """p_0 goes twice, p_1 once, and again; who has had ``turns`` turns leaves, p_0 or p_1.

    Each turn pays its action to the other player and 10 to oneself.
    """

    metadata = {"name": "turns_v0"}  # noqa: RUF012

    def __init__(self, turns=4, error=None):
        self.possible_agents = ["p_0", "p_1"]
        self.turns, self.error = turns, error

    def observation_space(self, agent):
        return spaces.Box(0, 100, (2,), np.float32)

    def action_space(self, agent):
        return spaces.Discrete(5)

    def observe(self, agent):
        return np.array([self.count, int(agent[-1])], np.float32)

    def reset(self, seed=None, options=None):
        self.agents = list(self.possible_agents)
        self.count = 0
        self.offset = seed % 3  # worlds differ in who goes first
        for name in ("rewards", "_cumulative_rewards"):
            setattr(self, name, dict.fromkeys(self.agents, 0))
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos: dict[str, dict[str, object]] = {agent: {} for agent in self.agents}
        self.had = dict.fromkeys(self.agents, 0)
        self._select()

    def _select(self):
        turn = ["p_0", "p_0", "p_1"][(self.count + self.offset) % 3]
        self.agent_selection = turn if turn in self.agents else self.agents[0]

    def step(self, action):
        agent = self.agent_selection
        if self.terminations[agent]:
            self._was_dead_step(action)
            if self.agents and not any(self.terminations.values()):
                self._select()
            return
        if self.error:
            raise self.error
        self._clear_rewards()
        self._cumulative_rewards[agent] = 0
        for other in self.agents:
            self.rewards[other] = 10 if other == agent else action
        self._accumulate_rewards()
        self.count += 1
        self.had[agent] += 1
        if self.had[agent] == self.turns:
            self.terminations[agent] = True
        self._select()
        self._deads_step_first()


def factory(**kwargs):
    return Crowd(**kwargs)


@pytest.fixture(autouse=True)
def plugins(monkeypatch):
    """These environments as modules of somebody else's package."""
    contents: dict[str, dict[str, object]] = {
        "their_package": {"__path__": []},
        "their_package.crowd": {
            "parallel_env": Crowd,
            "Turns": Turns,
            "factory": factory,
            "number": 3,
        },
        "their_package.turns": {"env": Turns},
        "their_package.empty": {},
    }
    for name, names in contents.items():
        module = types.ModuleType(name)
        vars(module).update(names)
        monkeypatch.setitem(sys.modules, name, module)


def crowd(num_worlds=3, horizon=None, **kwargs):
    return PettingZooEnv("their_package.crowd", kwargs, horizon).make(num_worlds, "train", CPU)


def turns(num_worlds=3, **kwargs):
    return PettingZooEnv("their_package.turns", kwargs).make(num_worlds, "train", CPU)


def start(world, seed=0):
    world.reset(0, np.random.default_rng(seed))
    return world


def random_actions(world, index, generator):
    spec = world.spaces(world.agents[index])
    if spec.discrete:
        return torch.randint(spec.action_size, (1, world.num_worlds), generator=generator)
    return torch.randn(1, world.num_worlds, spec.action_size, generator=generator)


def play(world, seed=0):
    """One episode of random actions: observations, masks and rewards of each time."""
    start(world, seed)
    generator = torch.Generator().manual_seed(0)
    history = []
    for _ in range(world.horizon):
        active = world.active()
        observations = [world.observe([i]) for i in range(len(world.agents))]
        for i in range(len(world.agents)):
            world.act([i], random_actions(world, i, generator), active[[i]])
        history.append((observations, active, world.step()))
        if world.ended().all():
            break
    return history


# -- parallel environments ---------------------------------------------------------------------


def test_what_a_world_says_of_itself():
    world = crowd()
    assert world.agents == ("a_0", "a_1", "a_2")
    assert world.num_worlds == 3
    assert world.horizon == DEFAULT_HORIZON
    assert world.early_end
    assert world.rewards
    assert world.schedule() is None
    assert world.spaces("a_0") == AgentSpaces((2, 2), 4, True)
    assert world.spaces("a_1") == AgentSpaces((3,), 2, False)
    assert world.spaces("a_2") == AgentSpaces((4,), 2, True)


def test_observations_are_numbers():
    world = start(crowd())
    image, index, bits = (world.observe([i]) for i in range(3))
    for observation in (image, index, bits):
        assert observation.dtype == torch.float32
    assert image.shape == (1, 3, 2, 2)
    assert index.shape == (1, 3, 3)
    assert (image == 0).all()  # 10 is the lower bound of its space
    assert index[0].tolist() == [[1, 0, 0]] * 3
    assert (bits == 0).all()  # not there yet
    world.step()
    assert world.observe([0])[0, 0].tolist() == [[0.25, 0.25]] * 2
    assert world.observe([1])[0].tolist() == [[0, 1, 0]] * 3
    assert world.observe([2])[0].tolist() == [[1, 0, 1, 1]] * 3


def test_agents_of_one_shape_are_observed_together():
    world = start(PettingZooEnv("their_package.turns").make(2, "test", CPU))
    both = world.observe([1, 0])
    assert both.shape == (2, 2, 2)
    assert torch.equal(both, torch.cat([world.observe([1]), world.observe([0])]))


def test_births_deaths_and_the_end_of_a_world():
    world = start(crowd(num_worlds=4))
    lengths = torch.tensor([copy.env.length for copy in world._copies])
    assert set(lengths.tolist()) == {3, 4}
    for time in range(4):
        there = time < lengths
        assert world.active()[0].equal(there)
        assert world.active()[1].equal(there & (time < 2))
        assert world.active()[2].equal(there & (time >= 1))
        assert world.ended().equal(~there)
        rewards = world.step()
        assert rewards.dtype == torch.float32
        expected = torch.stack([there, there & (time < 2), there])
        assert rewards.equal(expected.float())
    assert world.ended().all()
    assert not world.active().any()
    assert not world.step().any()
    assert world.score()["return"].tolist() == pytest.approx(
        [(2 * int(length) + 2) / 3 for length in lengths]
    )
    start(world)
    assert world.active()[:2].all()
    assert world.score()["return"].tolist() == [0, 0, 0, 0]


def test_actions_hold_and_begin_idle():
    world = start(crowd(num_worlds=2, horizon=3))
    envs = [copy.env for copy in world._copies]
    world.step()
    world.act([0], torch.tensor([[3, 2]]), torch.tensor([[True, False]]))
    world.act([1], torch.tensor([[[5.0, 2.5], [-0.5, -9.0]]]), None)
    world.step()
    world.step()
    assert [step["a_0"] for step in envs[0].seen] == [5, 8, 8]  # the space starts at 5
    assert [step["a_0"] for step in envs[1].seen] == [5, 5, 5]
    assert [step["a_1"].tolist() for step in envs[0].seen[:2]] == [[0, 2], [1, 2.5]]
    assert [step["a_1"].tolist() for step in envs[1].seen[:2]] == [[0, 2], [-0.5, 2]]
    assert {type(step["a_0"]) for step in envs[0].seen} == {int}
    assert {step["a_1"].dtype for step in envs[0].seen[:2]} == {np.dtype(np.float32)}
    start(world)
    world.step()
    assert envs[0].seen[0]["a_0"] == 5  # idle again


def test_worlds_have_seeds_of_their_own():
    world = start(crowd(num_worlds=3))
    seeds = [copy.env.seed for copy in world._copies]
    assert len(set(seeds)) == 3
    more = start(crowd(num_worlds=5))
    assert [copy.env.seed for copy in more._copies][:3] == seeds
    assert [copy.env.seed for copy in start(world, seed=1)._copies] != seeds


def test_state_is_context():
    world = start(crowd())
    assert world.context_fields["state"].size == 2
    assert world.context_fields["state"].kind == "causal"
    assert world.default_context == ("state",)
    seeds = [copy.env.seed % 100 for copy in world._copies]
    assert world.context("state").tolist() == [[0, seed] for seed in seeds]
    world.step()
    assert world.context("state").tolist() == [[1, seed] for seed in seeds]
    with pytest.raises(KeyError):
        world.context("label")


@pytest.mark.parametrize("state", [False, None], ids=["declared_only", "not_declared"])
def test_without_a_state_there_is_no_context(state):
    world = crowd(state=state)
    assert world.context_fields == {}
    assert world.default_context == ()


# -- environments in turns ---------------------------------------------------------------------


def test_only_the_agent_whose_turn_it_is_acts():
    world = start(turns(num_worlds=6))
    assert world.schedule() == {agent: range(DEFAULT_HORIZON) for agent in ("p_0", "p_1")}
    envs = [copy.env for copy in world._copies]
    whose = []
    while not world.ended().all():
        active = world.active()
        assert active.sum(0).le(1).all()
        assert active.any(0).equal(~world.ended())
        whose.append(["-01"[int(i)] for i in (active * torch.tensor([[1], [2]])).sum(0)])
        for i in range(2):
            seen = world.observe([i])[0][active[i]]
            assert (seen[:, 1] == i).all()
            assert (seen[:, 0] == len(whose) - 1).all()
            world.act([i], torch.full((1, 6), 2 + i), active[[i]])
        rewards = world.step()
        assert rewards[active].eq(10).all()
    for number, env in enumerate(envs):
        # p_0 leaves after 4 turns, then p_1 is alone until it has had its 4
        played = "".join(row[number] for row in whose).rstrip("-")
        assert played == {0: "00100111", 1: "01001011", 2: "10010011"}[env.offset]
        assert env.agents == []


def test_rewards_of_turns_are_all_there():
    world = start(turns(num_worlds=1, turns=3))
    total = torch.zeros(2, 1)
    both_there = torch.zeros(2)
    while not world.ended().all():
        active = world.active()
        if len(world._copies[0].env.agents) == 2:
            both_there += active[:, 0]
        world.act([0, 1], torch.tensor([[2], [3]]), active)
        total += world.step()
    # 10 for each of 3 turns, and the other's action while both are there
    assert total[0].item() == 30 + 3 * both_there[1]
    assert total[1].item() == 30 + 2 * both_there[0]
    assert world.score()["return"].item() == total.mean().item()


@pytest.mark.needs("mpe2.simple_spread_v3")
def test_mpe_in_turns_is_mpe_in_parallel():
    parallel = start(PettingZooEnv("mpe2.simple_spread_v3").make(2, "train", CPU))
    in_turns = start(PettingZooEnv("mpe2.simple_spread_v3:env").make(2, "train", CPU))
    assert (parallel.horizon, in_turns.horizon) == (25, 75)
    generator = torch.Generator().manual_seed(0)
    for _ in range(25):
        total = torch.zeros(3, 2)
        for i in range(3):
            assert torch.equal(parallel.observe([i]), in_turns.observe([i]))
            actions = random_actions(parallel, i, generator)
            parallel.act([i], actions, None)
            in_turns.act([i], actions, in_turns.active()[[i]])
            total += in_turns.step()
        assert torch.equal(parallel.step(), total)
        assert torch.equal(parallel.context("state"), in_turns.context("state"))
    assert parallel.ended().all()
    assert in_turns.ended().all()


# -- Gymnasium ---------------------------------------------------------------------------------


def test_gym_is_a_world_of_one_agent():
    world = GymEnv("CartPole-v1").make(2, "train", CPU)
    assert world.agents == ("agent_0",)
    assert world.horizon == 500
    assert world.spaces("agent_0") == AgentSpaces((4,), 2, True)
    assert world.context_fields == {}
    history = play(world)
    assert world.ended().all()
    seeds = np.random.default_rng(0).integers(2**31, size=2)
    bare = gymnasium.make("CartPole-v1")
    first, _ = bare.reset(seed=int(seeds[1]))
    np.testing.assert_array_equal(history[0][0][0][0, 1], first)
    lengths = sum(active[0].float() for _, active, _ in history)
    assert world.score()["return"].equal(lengths)  # CartPole pays 1 a step


def test_gym_with_numbers_as_actions_and_indices_as_observations():
    pendulum = GymEnv("Pendulum-v1", horizon=5).make(2, "train", CPU)
    assert pendulum.spaces("agent_0") == AgentSpaces((3,), 1, False)
    assert len(play(pendulum)) == 5
    lake = start(GymEnv("FrozenLake-v1", {"is_slippery": False}).make(2, "train", CPU))
    assert lake.spaces("agent_0") == AgentSpaces((16,), 4, True)
    assert lake.observe([0])[0, :, 0].tolist() == [1, 1]


# -- every kind --------------------------------------------------------------------------------

KINDS = [
    PettingZooEnv("their_package.crowd"),
    PettingZooEnv("their_package.turns"),
    PettingZooEnv("mpe2.simple_spread_v3"),
    PettingZooEnv("mpe2.simple_speaker_listener_v4"),
    PettingZooEnv("mpe2.simple_reference_v3", {"continuous_actions": True}),
    GymEnv("CartPole-v1"),
]


@pytest.mark.parametrize("env", KINDS, ids=lambda env: env.id)
def test_the_same_random_numbers_give_the_same_episode(env, need):
    if env.id.startswith("mpe2"):
        need(env.id)
    world = env.make(2, "train", CPU)
    one, two, fresh = play(world), play(world), play(env.make(2, "train", CPU))
    for same in (two, fresh):
        assert len(one) == len(same)
        for (observed, active, rewards), again in zip(one, same, strict=True):
            assert all(a.equal(b) for a, b in zip(observed, again[0], strict=True))
            assert active.equal(again[1])
            assert rewards.equal(again[2])


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_tensors_lie_on_the_device(device):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device on this machine")
    world = start(PettingZooEnv("their_package.crowd").make(2, "train", torch.device(device)))
    world.act([0], torch.zeros(1, 2, dtype=torch.int64, device=device), world.active()[[0]])
    tensors = [world.observe([0]), world.step(), world.active(), world.ended()]
    tensors += [world.context("state"), world.score()["return"]]
    assert {tensor.device.type for tensor in tensors} == {device}


# -- finding an environment --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("id", "kind"),
    [
        ("their_package.crowd", Crowd),
        ("their_package.crowd:factory", Crowd),
        ("their_package.crowd.factory", Crowd),
        ("their_package.crowd:Turns", Turns),
        ("their_package.crowd.Turns", Turns),
        ("their_package.turns", Turns),
    ],
)
def test_an_id_names_a_module_a_class_or_a_function(id, kind):
    world = PettingZooEnv(id).make(1, "train", CPU)
    assert isinstance(world._copies[0].env, kind)


@pytest.mark.needs("pettingzoo:register", "pettingzoo:parallel_registry")
def test_an_id_from_the_registry():
    import pettingzoo

    try:
        pettingzoo.register("parallel", "theirs/crowd-v0", Crowd)
        world = PettingZooEnv("theirs/crowd-v0").make(1, "train", CPU)
    finally:
        del pettingzoo.parallel_registry["theirs/crowd-v0"]
    assert world.agents == ("a_0", "a_1", "a_2")


@pytest.mark.needs("mpe2.simple_spread_v3")
def test_horizons():
    spread = "mpe2.simple_spread_v3"
    assert PettingZooEnv(spread, {"max_cycles": 7}).make(1, "train", CPU).horizon == 7
    assert PettingZooEnv(f"{spread}.env", {"max_cycles": 7}).make(1, "train", CPU).horizon == 21
    assert PettingZooEnv(spread, horizon=9).make(1, "train", CPU).horizon == 9
    assert GymEnv("CartPole-v1", horizon=9).make(1, "train", CPU).horizon == 9


def test_descriptions_are_values():
    assert GymEnv("CartPole-v1") == GymEnv("CartPole-v1") != GymEnv("Pendulum-v1")
    assert PettingZooEnv("x", {"N": 2}) == PettingZooEnv("x", {"N": 2})
    assert (PettingZooEnv("x").name, GymEnv("x").name) == ("pettingzoo", "gym")


# -- mistakes ----------------------------------------------------------------------------------

WRONG: list[tuple[PettingZooEnv | GymEnv, str]] = [
    (PettingZooEnv("their_package.crowds"), "no module their_package.crowds, and no crowds in"),
    (PettingZooEnv("their_package.crowd.Trns"), "Did you mean 'Turns'?"),
    (PettingZooEnv("nowhere.env"), "env.id=nowhere.env: ModuleNotFoundError: No module named"),
    (PettingZooEnv("their_package.crowd:x"), "has no attribute 'x'"),
    (PettingZooEnv("their_package.empty"), "none of parallel_env, env, raw_env"),
    (PettingZooEnv("their_package.crowd:number"), "is a int; allowed: a module"),
    (PettingZooEnv("pettingzoo.mpe"), "MPE has been moved into its own package"),
    (PettingZooEnv("theirs/nothing-v0"), "NamespaceNotFound"),
    (PettingZooEnv(":"), "env.id=:: "),
    (PettingZooEnv("builtins:dict"), "gives a dict; allowed: a PettingZoo ParallelEnv or AECEnv"),
    (PettingZooEnv("gymnasium.envs.classic_control:CartPoleEnv"), "use env=gym"),
    (PettingZooEnv("pettingzoo.test.example_envs.generated_agents_parallel_v0"), "possible_agents"),
    (
        PettingZooEnv("their_package.turns", {"size": 3}),
        "env.kwargs={'size': 3}: TypeError: Turns.__init__() got an unexpected keyword",
    ),
    (
        PettingZooEnv("their_package.crowd", {"a_1": spaces.Dict(x=spaces.Text(3))}),
        "observation of a_1, 'x': Text(1, 3, charset=",
    ),
    (GymEnv("CartPol-v1"), "env.id=CartPol-v1 can't be built: NameNotFound"),
    (GymEnv("CartPole-v1", {"size": 3}), "unexpected keyword argument 'size'"),
]


@pytest.mark.parametrize(("env", "message"), WRONG, ids=[f"{env.id}" for env, _ in WRONG])
def test_mistakes_are_named(env, message):
    with pytest.raises(UserError) as error:
        env.make(1, "train", CPU)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (PettingZooEnv, {"id": 3}, "env.id=3: must be the name of an environment"),
        (PettingZooEnv, {"id": ""}, "env.id='': must be the name of an environment"),
        (GymEnv, {"id": "x", "kwargs": 3}, "env.kwargs=3: must be a mapping"),
        (GymEnv, {"id": "x", "horizon": 0}, "env.horizon=0: must be an integer of at least 1"),
        (PettingZooEnv, {"id": "x", "horizon": 2.5}, "env.horizon=2.5: must be an integer"),
        (PettingZooEnv, {"id": "x", "horizon": True}, "env.horizon=True: must be an integer"),
    ],
)
def test_wrong_fields_are_named(kind, fields, message):
    with pytest.raises(UserError) as error:
        kind(**fields)
    assert message in str(error.value)


@pytest.mark.parametrize("reward", [np.nan, float("inf"), None, "much"])
def test_a_reward_that_is_no_number_is_named(reward):
    world = start(crowd(reward=reward))
    with pytest.raises(UserError, match=r"reward of a_0 at world time 0 is .*finite number"):
        world.step()


def test_an_observation_with_nan_is_named():
    world = start(crowd(a_0=spaces.Box(-1, 1, (2, 2))))
    world.step()
    world._copies[1].observations["a_0"] = np.full((2, 2), np.nan)
    with pytest.raises(UserError, match="observation of a_0 at world time 1 has nan in it"):
        world.observe([0])
    world._copies[1].observations["a_0"] = np.full((2, 2), np.inf)
    with pytest.raises(UserError, match=r"has inf in it: must be finite numbers"):
        world.observe([0])


def test_an_observation_of_another_shape_is_named():
    world = start(crowd(a_0=spaces.Box(-1, 1, (3,))))
    with pytest.raises(UserError, match=r"observation of a_0 has shape \(2, 2\); its space says"):
        world.observe([0])


def test_what_an_environment_raises_is_shown():
    error = ValueError("the lamp is broken")
    with pytest.raises(UserError, match=r"at world time 0: ValueError: the lamp is broken"):
        start(crowd(error=error)).step()
    with pytest.raises(UserError, match=r"time 0, p_\d acting: ValueError: the lamp is broken"):
        start(turns(error=error)).step()


def test_an_agent_nobody_announced_is_named():
    world = start(crowd(late="z_9"))
    with pytest.raises(UserError, match="agent 'z_9' appeared at world time 0"):
        world.step()
