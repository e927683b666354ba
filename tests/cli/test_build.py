"""A configuration made into a simulation: what goes where, and what is refused."""

import json
import os
import sys

import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from dnicomm.commands.build import build
from dnicomm.commands.keys import CHECKS, check_keys
from dnicomm.commands.options import GROUPS, options
from dnicomm.core import SGD, Adam, CriticUtility, GradientUtility
from dnicomm.errors import UserError
from dnicomm.sim import (
    BurstyClock,
    Delay,
    PeriodicClock,
    PoissonClock,
    TraceClock,
)

PLUG_IN = """
from dnicomm.agents import FeedForward
from dnicomm.sim import Clock, PeriodicClock


class Wide(FeedForward):
    def __init__(self, spec, *, factor: int = 2):
        super().__init__(spec, width=factor * 8)


def wide(spec, factor=3) -> Wide:
    return Wide(spec, factor=factor)


def slow() -> Clock:
    return PeriodicClock(7)


def unannotated(spec):
    return Wide(spec)
"""


def _compose(groups):
    with initialize_config_module("dnicomm.configs", version_base="1.3"):
        return compose("config", list(groups))


@pytest.fixture(scope="module")
def composed():
    """Compositions by options chosen: Hydra takes its time."""
    return {}


@pytest.fixture
def configure(composed):
    """``configure("clock=bursty", "steps=10")``: what such a command line means."""

    def configured(*words):
        groups = tuple(word for word in words if word.partition("=")[0] in GROUPS)
        values = [word for word in words if word not in groups]
        if groups not in composed:
            composed[groups] = OmegaConf.to_container(_compose(groups), resolve=True)
        config = OmegaConf.create(composed[groups])
        changes = OmegaConf.from_dotlist(values)
        return OmegaConf.to_container(OmegaConf.merge(config, changes))

    return configured


@pytest.fixture
def made(configure):
    """The simulation that a command line means, with few worlds."""

    def simulation(*words):
        return build(configure("num_worlds=2", "eval.num_worlds=2", *words))

    return simulation


REFUSED = {
    # names
    "env.num_agnets=6": "env.num_agnets: Relay has no such option. Did you mean 'num_agents'?",
    "clock.rat=1": "clock.rat: PoissonClock has no such option. Did you mean 'rate'?",
    "channel.dlay=1": "channel.dlay: standard_channel has no such option. Did you mean 'delay'?",
    "agents.agent_9.width=3": "agents.agent_9: there is no such agent.",
    "agents.agent_1.widht=3": "agents.agent_1.widht: FeedForward has no such option.",
    "agents.agent_1.clock.rat=3": "agents.agent_1.clock.rat: PoissonClock has no such option.",
    # values: type and range
    "steps=-5": "steps=-5: must be a whole number of at least 1",
    "steps=1.5": "steps=1.5: must be a whole number of at least 1",
    "steps=abc": "steps=abc: must be a whole number of at least 1",
    "num_worlds=0": "num_worlds=0: must be a whole number of at least 1",
    "window=0": "window=0: must be a whole number of at least 1, or null",
    "gamma=2": "gamma=2: must be a number from 0 to 1",
    "gae_lambda=-0.1": "gae_lambda=-0.1: must be a number from 0 to 1",
    "gae_lambda=a": "gae_lambda=a: must be a number from 0 to 1",
    "share_parameters=3": "share_parameters=3: must be true or false",
    "seed=-1": "seed=-1: must be a whole number of at least 0",
    "message=3": "message=3: must be a mapping with size, normalise",
    "message.size=0": "message.size=0: must be a whole number of at least 1",
    "message.normalise=3": "message.normalise=3: must be true, own or false",
    "message.discrete=bits": "message.discrete=bits: must be gumbel, dru or null",
    "eval.episodes=-1": "eval.episodes=-1: must be a whole number of at least 0",
    "env.num_agents=0": "env.num_agents=0: must be a whole number of at least 2",
    "env.num_agents=two": "env.num_agents=two: must be a whole number",
    "env.dataset=foo": "env: Unknown data set 'foo'. Known: ",
    "agent.width=0": "agent.width=0: must be a whole number of at least 1",
    "optimizer.betas=[0.9]": "optimizer.betas=[0.9]: must be two numbers [b1,b2], each from 0 to",
    "optimizer.betas=[0.9,1.0]": "optimizer.betas=[0.9,1.0]: must be two numbers [b1,b2], each",
    "optimizer.betas=[0.9,a]": "optimizer.betas=[0.9,a]: must be",
    "optimizer.lr=0": "optimizer.lr=0: must be a number above 0",
    "utility.hidden=[-1]": "utility.hidden=[-1]: must be a list of whole numbers of at least 1",
    "utility.context=[lable]": "utility.context: 'lable' is no fact of this environment. Did you",
    "feedback=exakt": "feedback=exakt: no such feedback. Did you mean 'exact'?",
    "feedback_share=3": "feedback_share=3: must be a number from 0 to 1",
    "device=cuda:99": "device=cuda:99: this machine has",
    "device=gpu": "device=gpu: must be auto, cpu, cuda or cuda:N",
    "agents=3": "agents=3: must be a mapping from agents' names",
    "agents.agent_1.window=0": "agents.agent_1.window=0: must be a whole number of at least 1",
    # time
    "clock.rate=-1": "clock.rate=-1: must be in (0, 1]",
    "clock.rate=abc": "clock.rate=abc: must be a number",
    "clock.rate=[]": "clock.rate=[]: must be one value, or a list of one for each agent",
    "agents.agent_1.clock.rate=3": "agents.agent_1: clock.rate=3: must be in (0, 1]",
    "clock=none": "clock=none: relay does not set itself who ticks when; allowed: bursty",
    "clock=trace": "clock.times has to be given",
    "clock=trace clock.times=[]": "clock of agent_0: no tick in an episode of 40",
    "clock=trace clock.times=[900]": "clock of agent_0: no tick in an episode of 40",
    "env=counting clock=poisson": "clock: counting sets when its agents tick; use clock=none",
    # channels
    "channel.delay=-1": "channel.delay=-1: must be a whole number of at least 0, or [low, high]",
    "channel.delay=[2,0]": "channel.delay=[2, 0]: must be",
    "channel.drop=1.5": "channel.drop=1.5: must be a share from 0 to 1",
    "channel.noise=-1": "channel.noise=-1: must be a standard deviation of at least 0",
    "channel.quantise=0": "channel.quantise=0: must be 1 to 16 bits a number, or null",
    "channel.quantise=2.5": "channel.quantise=2.5: must be a whole number",
    "channel.bandwidth=0": "channel.bandwidth=0: must be a number above 0 (messages a unit of",
    "channel.bandwidth=-1": "channel.bandwidth=-1: must be a number above 0",
    "channel.bandwidth=wide": "channel.bandwidth=wide: must be a number",
    "channel.queue=-1": "channel.queue=-1: must be a whole number of at least 0",
    "channel.queue=1.5": "channel.queue=1.5: must be a whole number",
    "channel.queue=null": "channel.queue=null: must be a whole number",
    "channel.cost=-1": "channel.cost=-1: must be a number of at least 0",
    "channel.cost=free": "channel.cost=free: must be a number",
    "channel.cost_unit=bits": "channel.cost_unit=bits: must be message or bit",
    "channel.cost=0.1": "channel.cost=0.1: relay gives no rewards that a message could cost",
    "topology=edges topology.edges=[[agent_0,agent_7]]": "there is no agent 'agent_7'. Did you",
    "topology=edges topology.edges=3": "topology.edges=3: must be [sender, receiver] pairs",
    # what does not fit together
    "utility=none": "feedback=synthetic needs a utility model, and utility is none",
    "env=gym": "env.id has to be given",
    **{
        f"env=gym env.id=CartPole-v1 agent=ppo agent.{key}={value}": f"agent.{key}={value}: must be"
        for key, value in (
            ("epochs", 0),
            ("epochs", 1.5),
            ("clip", 0),
            ("clip", "null"),
            ("clip", "a"),
            ("entropy", -1),
            ("value_weight", -1),
            ("pool", 3),
            ("gate", "maybe"),
        )
    },
    "env=gym env.id=CartPol-v1": "env.id=CartPol-v1 can't be built: NameNotFound: ",
    "env=gym env.id=CartPole-v1 agent=feedforward": "agent: FeedForward learns from labels, and",
    "agent=actor_critic": "agent: ActorCritic of agent_0 learns from rewards, and relay gives none",
    "agents.agent_2._target_=dnicomm.agents.RecurrentActorCritic": "agent: RecurrentActorCritic of "
    "agent_2 learns from rewards, and relay gives none; use agent=feedforward, agent=recurrent or",
    "env=pettingzoo env.id=my_nothing": "env.id=my_nothing: ModuleNotFoundError: No module named",
}


@pytest.mark.parametrize(("words", "message"), REFUSED.items(), ids=REFUSED)
def test_what_is_refused(configure, words, message):
    with pytest.raises(UserError) as refused:
        build(configure(*words.split()))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_every_option_is_explained_and_composes(configure):
    found = {group: options(group) for group in GROUPS if options(group)}
    for group, each in found.items():
        assert all(option.group == group and option.line for option in each)
    for i in range(max(len(each) for each in found.values())):  # an option of each at a time
        configure(*(f"{group}={each[i % len(each)].name}" for group, each in found.items()))


def test_the_default(made):
    simulation = made()
    assert simulation.world.agents == ("agent_0", "agent_1", "agent_2", "agent_3")
    assert [simulation.engine.clocks[a].rate for a in simulation.world.agents] == [1, 0.6, 0.3, 0.5]
    assert simulation.channel == Delay(0, 2)
    assert simulation.optimizer == Adam(1e-3)
    assert simulation.utility.optimizer == Adam(3e-3)
    assert simulation.summary([], 0.0)["utility"] == "GradientUtility"
    assert [len(population.names) for population in simulation.populations] == [1, 2, 1]


@pytest.mark.parametrize("recipe", [option.name for option in options("recipe")])
def test_every_recipe_can_be_built(made, recipe):
    simulation = made(f"recipe={recipe}", "num_worlds=2")
    assert simulation.world.num_worlds == 2
    assert len(simulation.populations) >= 1


def test_the_consensus_recipe_has_one_population_of_small_agents(made):
    simulation = made("recipe=consensus", "env.num_agents=8")
    (population,) = simulation.populations
    assert (len(population.names), population.spec.message_size) == (8, 1)
    assert (population.encoder, population.state_size) == (None, 32)
    assert simulation.engine.clocks["agent_7"] == PoissonClock(0.5)
    assert simulation.optimizer == Adam(2e-3, decay=True)
    assert population.context == ("mean",)


def test_no_more_threads_than_the_machine_has(configure):
    assert check_keys(configure("threads=1"))["threads"] == 1
    assert check_keys(configure("threads=100000"))["threads"] == os.cpu_count()


def test_top_keys_reach_the_simulation(made):
    simulation = made(
        "message.size=5", "feedback=mixed", "feedback_share=0.25", "gradient_scale=2", "window=3",
        "exact_window=7", "gamma=0.5", "eval.every=11", "eval.episodes=4", "seed=9",
    )  # fmt: skip
    assert simulation.message_size == 5
    assert simulation.engine.feedback.true_share == 0.25
    assert (simulation.gradient_scale, simulation.gamma) == (2, 0.5)
    assert (simulation.window, simulation.exact_window, simulation.seed) == (3, 7, 9)
    assert (simulation.evaluation.every, simulation.evaluation.episodes) == (11, 4)
    assert (simulation.num_worlds, simulation.evaluation.num_worlds) == (2, 2)


def test_numbers_as_people_write_them(made, configure):
    assert made("eval.every=1e3").evaluation.every == 1000
    assert made("clock.rate=1").engine.clocks["agent_3"] == PoissonClock(1.0)


@pytest.mark.parametrize(
    ("words", "clocks"),
    [
        ("clock.rate=0.5", [PoissonClock(0.5)] * 5),
        ("clock.rate=[0.5,0.2]", [PoissonClock(r) for r in (0.5, 0.2, 0.5, 0.2, 0.5)]),
        ("clock=periodic clock.phase=[0,1]", [PeriodicClock(1, p) for p in (0, 1, 0, 1, 0)]),
        ("clock=bursty clock.silence=[4,2]", [BurstyClock(4, s) for s in (4, 2, 4, 2, 4)]),
        ("clock=trace clock.times=[0,3]", [TraceClock([0, 3])] * 5),
        (
            "clock=trace clock.times=[[0,3],[1]]",
            [TraceClock(t) for t in ([0, 3], [1], [0, 3], [1], [0, 3])],
        ),
        (
            "agents.agent_1.clock.rate=0.9",
            [PoissonClock(r) for r in (1.0, 0.9, 0.3, 0.5, 1.0)],
        ),
        (
            "clock.rate=1 agents.agent_1.clock._target_=dnicomm.sim.PeriodicClock "
            "agents.agent_1.clock.period=4",
            [PoissonClock(1), PeriodicClock(4), *[PoissonClock(1)] * 3],
        ),
    ],
)
def test_clocks_are_spread_over_agents(made, words, clocks):
    simulation = made("env.num_agents=5", *words.split())
    assert list(simulation.engine.clocks.values()) == clocks


def test_an_environment_that_owns_the_schedule_has_no_clocks(made):
    assert made("env=counting").engine.clocks is None


def _groups(simulation):
    return {tuple(population.names) for population in simulation.populations}


def test_agents_of_equal_configuration_share_a_population(made):
    plain = {("agent_0",), ("agent_1", "agent_2", "agent_3"), ("agent_4",)}
    five = "env.num_agents=5"
    assert _groups(made(five)) == plain
    assert _groups(made(five, "agents.agent_1.width=64")) == plain  # what it has anyway
    assert _groups(made(five, "agents.agent_1.width=8", "agents.agent_3.width=8")) == {
        ("agent_0",), ("agent_1", "agent_3"), ("agent_2",), ("agent_4",),
    }  # fmt: skip
    assert _groups(made(five, "agents.agent_2.window=4")) == {
        ("agent_0",), ("agent_1", "agent_3"), ("agent_2",), ("agent_4",),
    }  # fmt: skip


def test_agents_may_be_of_other_kinds_and_learn_otherwise(made):
    simulation = made(
        "agents.agent_1._target_=dnicomm.agents.Recurrent", "agents.agent_2.optimizer.lr=0.5",
        "agents.agent_3.optimizer._target_=dnicomm.core.SGD", "agents.agent_3.optimizer.lr=0.1",
    )  # fmt: skip
    by_name = {p.names[0]: p for p in simulation.populations}
    assert type(by_name["agent_1"].agents.template).__name__ == "Recurrent"
    assert by_name["agent_0"].agents.optimizer == Adam(1e-3)
    assert by_name["agent_2"].agents.optimizer == Adam(0.5)
    assert by_name["agent_3"].agents.optimizer == SGD(0.1)


def test_another_kind_of_agent_starts_without_the_general_keys(made):
    simulation = made("agent.width=16", "agents.agent_1._target_=dnicomm.agents.Recurrent")
    agent = simulation.populations[1].agents.template
    assert (type(agent).__name__, agent.action.in_features) == ("Recurrent", 64)


@pytest.mark.parametrize(
    ("name", "cls"), [("gradient", GradientUtility), ("critic", CriticUtility)]
)
def test_utility_models(made, name, cls):
    simulation = made(f"utility={name}", "utility.hidden=[7]", "utility.lr=0.1")
    population = simulation.populations[-1]
    model = population.interface.utilities.template
    assert isinstance(model, cls)
    assert model.body.layers[0].out_features == 7
    assert population.context == ("label",)
    assert simulation.utility.optimizer == Adam(0.1)
    assert made(f"utility={name}", "utility.context=[time]").context() != simulation.context()


def test_no_utility_model_is_needed_without_synthetic_feedback(made):
    simulation = made("utility=none", "feedback=exact")
    assert simulation.populations[-1].interface is None
    assert simulation.summary([], 0.0)["utility"] is None


@pytest.mark.parametrize("name", ["my_plug_in.Wide", "my_plug_in:Wide", "my_plug_in.wide"])
def test_plug_ins_in_the_working_folder(cli, made, name):
    cli.write("my_plug_in.py", PLUG_IN)
    simulation = made(
        "agent=custom", f"agent._target_={name}", "agent.factor=5",
        "clock=custom", "clock._target_=my_plug_in.slow",
    )  # fmt: skip
    assert simulation.populations[0].agents.template.message.in_features == 40
    assert simulation.engine.clocks["agent_0"] == PeriodicClock(7)


def test_a_function_has_to_say_what_it_returns(cli, made):
    cli.write("my_plug_in.py", PLUG_IN)
    with pytest.raises(UserError, match=r"a function annotated to return one \(-> Agent\)"):
        made("agent=custom", "agent._target_=my_plug_in.unannotated")


def test_options_of_other_packages(cli):
    cli.write("my_plug_in.py", PLUG_IN)
    cli.write("my_package-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: my-package\n"
              "Version: 1.0\n")  # fmt: skip
    cli.write("my_package-1.0.dist-info/entry_points.txt",
              "[dnicomm.agents]\nmine = my_plug_in:Wide\n")  # fmt: skip
    sys.path.insert(0, str(cli.folder))
    assert "mine                    my_plug_in:Wide, from my-package" in cli("list", "agents").out
    called = cli("run", "agent=mine", "agent.factor=1", "steps=3", "num_worlds=2",
                 "eval.num_worlds=2", "eval.episodes=1", "hydra.run.dir=run")  # fmt: skip
    assert called.code == 0, called.err
    config = OmegaConf.load(cli.folder / "run" / "config.yaml")
    assert config.agent == {"_target_": "my_plug_in:Wide", "factor": 1}
    assert config.choices.agent == "mine"
    assert cli("check", "agent=mine").code == 0


def test_configurations_are_plain_data(configure):
    config = configure("clock=bursty", "channel.delay=1")
    again = json.loads(json.dumps(config))
    first, second = build(config), build(again)
    for name, tensor in first.tensors().items():
        assert torch.equal(tensor, second.tensors()[name])


def test_a_configuration_of_an_older_version_says_nothing_of_tests_in_training_worlds():
    older = {"every": 5, "episodes": 1, "num_worlds": None}
    assert CHECKS["eval"]("eval", older) == {**older, "worlds": "own"}
