"""Bad input: a line or two that name the key and what is allowed, code 2, nothing left behind."""

import json
import shutil

import pytest
import torch

AGENTS = """
import torch
from torch import nn
from dnicomm.sim import Agent, Clock, TickOutput


class Silent(Agent):
    def __init__(self, spec):
        super().__init__(spec)


class NotAnAgent(nn.Module):
    pass


class Unbuildable(Agent):
    def __init__(self, spec):
        super().__init__(spec)
        self.layer = nn.Linear(spec.input_size, undefined)

    def tick(self, observation, inbox, state):
        return None


class Linear(Agent):
    def __init__(self, spec, extra=0, width=3):
        super().__init__(spec)
        self.message = nn.Linear(spec.input_size, spec.message_size + extra)
        self.action = nn.Linear(spec.input_size, spec.action_size)

    def tick(self, observation, inbox, state):
        x = torch.cat([observation, inbox.flat()], -1)
        return TickOutput(self.action(x), self.message(x), state)


class Double(Linear):
    def tick(self, observation, inbox, state):
        output = super().tick(observation, inbox, state)
        return output._replace(message=output.message.double())


class Timeless(Clock):
    pass
"""
CUSTOM = "agent=custom agent._target_="

CASES = {
    # names: groups, options, keys, flags
    "agent=feedfwd": "agent=feedfwd: there is no such agent. Did you mean 'feedforward'?",
    "env=rellay": "env=rellay: there is no such env. Did you mean 'relay'?",
    "agent=3": "agent=3: there is no such agent. Known: actor_critic",
    "recipe=switch agent=feedforward": "agent.pool: FeedForward has no such option. Known: width. "
    "It comes with recipe=switch; to leave it out: '~agent.pool'",
    "recipe=foo": "recipe=foo: there is no such recipe",
    "-m seed=1,2 agent=foo": "agent=foo: there is no such agent",
    "stpes=3": "stpes: there is no such key. Did you mean 'steps'",
    "+foo=3": "foo: there is no such key. Known: agent, agents",
    "eval.evrey=3": "eval.evrey: there is no such key. Did you mean 'every'? Known: episodes",
    "env.num_agnets=6": "env.num_agnets: Relay has no such option. Did you mean 'num_agents'?",
    "agent.widht=6": "agent.widht: FeedForward has no such option. Did you mean 'width'?",
    "hydra.run.dri=x": "hydra.run.dri: there is no such key. Did you mean 'dir'?",
    "--mutlirun seed=1,2": "--mutlirun: there is no such flag. Did you mean '--multirun'",
    "relay": "relay: must be KEY=VALUE, e.g. seed=1. Did you mean env=relay?",
    "steps=[1": "steps=[1: this value can't be read",
    "seed=1,2": "seed=1,2: write -m for one run a value, or seed=[1,2] for a list",
    "agent.width=${nope}": "agent.width: Interpolation key 'nope' not found",
    "~steps": "steps has to be given",
    # values: type, range, and what does not fit together (all of them: test_build.py)
    "steps=-5": "steps=-5: must be a whole number of at least 1",
    "env.num_agents=0": "env.num_agents=0: must be a whole number of at least 2",
    "clock.rate=-1": "clock.rate=-1: must be in (0, 1]",
    "device=cuda:99": "device=cuda:99: this machine has",
    "channel.drop=1.5": "channel.drop=1.5: must be a share from 0 to 1",
    "channel.delay=[3,1]": "channel.delay=[3, 1]: must be a whole number of at least 0, or [low",
    "channel.noise=-1": "channel.noise=-1: must be a standard deviation of at least 0",
    "channel.quantise=17": "channel.quantise=17: must be 1 to 16 bits a number, or null",
    "channel.bandwidth=0": "channel.bandwidth=0: must be a number above 0 (messages a unit of",
    "channel.queue=-1": "channel.queue=-1: must be a whole number of at least 0",
    "channel.cost=-1": "channel.cost=-1: must be a number of at least 0",
    "channel.cost_unit=bits": "channel.cost_unit=bits: must be message or bit",
    "channel.cost=0.1": "channel.cost=0.1: relay gives no rewards that a message could cost",
    "message.discrete=bits": "message.discrete=bits: must be gumbel, dru or null",
    "env=gym env.id=CartPole-v1 agent=ppo agent.epochs=0": "agent.epochs=0: must be a whole number",
    "clock=none clock.rate=1": "clock.rate: there is no clock to take it",
    "channel.queue=2": "channel.queue=2: nothing waits without channel.bandwidth",
    "message.discrete=gumbel message.size=1": "message.size=1: one of so many symbols says nothing",
    "env=gym": "env.id has to be given",
    "env=counting clock=poisson": "clock: counting sets when its agents tick; use clock=none",
    # plug-ins
    "agent=custom": "agent._target_ has to be given: agent._target_=my_module.MyAgent",
    f"{CUSTOM}my_agents": "agent._target_=my_agents: must be a dotted path, my_module.MyAgent",
    f"{CUSTOM}my_agent.Linear": "there is no module 'my_agent', neither in the working folder nor",
    f"{CUSTOM}my_agents.Linaer": "my_agents has no Linaer. Did you mean 'Linear'",
    f"{CUSTOM}my_agents.NotAnAgent": "NotAnAgent is a class, and no Agent: it must be a subclass",
    f"{CUSTOM}os.system": "os.system is a builtin_function_or_method, and no Agent",
    f"{CUSTOM}my_agents.Linear agent.widht=1": "agent.widht: Linear has no such option. Did you",
    f"{CUSTOM}my_agents.Silent": "agent: Silent has no tick(self, observation, inbox, state)",
    f"{CUSTOM}my_agents.Unbuildable": "agent: Unbuildable() failed: NameError: name 'undefined'",
    f"{CUSTOM}my_broken.Linear": "my_broken failed to import: ModuleNotFoundError: No module "
    "named 'not_there' (my_broken.py, line 2)",
    f"{CUSTOM}my_syntax.Linear": "my_syntax failed to import: SyntaxError: invalid syntax",
    f"{CUSTOM}my_agents.Linear agent.extra=1": "agent agent_0: message on agent_0->agent_1 at "
    "world time 0 is [64, 33] float32; it must be [64, 32] float32",
    f"{CUSTOM}my_agents.Double": "agent agent_0: message on agent_0->agent_1 at world time 0 is "
    "[64, 32] float64; it must be [64, 32] float32",
    "clock=custom clock._target_=my_agents.Timeless": "clock: Timeless() failed: TypeError: Can't",
}


@pytest.fixture
def plug_ins(cli):
    cli.write("my_agents.py", AGENTS)
    cli.write("my_broken.py", "x = 1\nimport not_there\n")
    cli.write("my_syntax.py", "def f(:\n")
    return cli


@pytest.mark.parametrize(("words", "message"), CASES.items(), ids=CASES)
def test_bad_input(plug_ins, words, message):
    before = plug_ins.files()
    called = plug_ins("run", *words.split())
    assert called.code == 2
    lines = called.err.splitlines()
    assert 1 <= len(lines) <= 2
    assert all(line.startswith("dnicomm: ") for line in lines)
    assert message in called.err
    assert "Traceback" not in called.err + called.out
    assert plug_ins.files() == before


def test_a_folder_that_was_there_before_stays(cli):
    (cli.folder / "mine").mkdir()
    assert cli("run", "steps=-5", "hydra.run.dir=mine/run").code == 2
    assert cli("run", "steps=-5", "hydra.run.dir=mine").code == 2
    assert cli.files() == {"mine"}


def test_a_file_in_place_of_the_run_folder(cli):
    cli.write("mine", "precious")
    called = cli("run", "hydra.run.dir=mine")
    assert called.code == 2
    assert "mine cannot be a run folder" in called.err
    assert (cli.folder / "mine").read_text() == "precious"


def test_each_job_of_a_sweep_says_what_is_wrong(cli):
    called = cli("run", "-m", "env.num_agents=0,1")
    assert called.code == 2
    assert called.err.splitlines() == [
        f"dnicomm: #{n}: env.num_agents={n}: must be a whole number of at least 2" for n in (0, 1)
    ]
    assert cli.files() == set()


def test_a_sweep_over_nothing(cli):
    called = cli("run", "-m", "feedback=glob(*)")
    assert (called.code, cli.files()) == (2, set())
    assert "this sweep has no runs" in called.err


def test_a_plug_in_that_crashes_in_a_tick_is_a_line_with_its_place(plug_ins):
    crashing = AGENTS.replace("x = torch.cat", "raise ArithmeticError('mine')  #")
    plug_ins.write("my_crash.py", crashing)
    before = plug_ins.files()
    called = plug_ins("run", "agent=custom", "agent._target_=my_crash.Linear", "num_worlds=2")
    assert called.code == 2
    line = 1 + crashing[: crashing.index("raise Arithmetic")].count("\n")
    assert f"tick failed at world time 0: ArithmeticError: mine (my_crash.py:{line})" in called.err
    assert plug_ins.files() == before


# -- run folders ------------------------------------------------------------------------------

SMALL = ("steps=20", "num_worlds=2", "eval.num_worlds=2", "eval.episodes=1", "env.num_agents=2")


@pytest.fixture
def run(cli):
    assert cli("run", "hydra.run.dir=run", *SMALL).code == 0
    return cli.folder / "run"


def _damaged(run, name, text):
    (run / name).write_text(text)
    (run / "summary.json").unlink()


@pytest.mark.parametrize("command", ["resume", "eval"])
def test_folders_that_are_no_runs(cli, run, command):
    (cli.folder / "empty").mkdir()
    for folder, message in (
        ("nowhere", "nowhere is not a run folder: it is not there"),
        ("empty", "empty is not a run folder: it has no config.yaml"),
        ("run/config.yaml", "is not a run folder: it is a file"),
    ):
        called = cli(command, folder)
        assert called.code == 2
        assert message in called.err
    (run / "run.json").write_text(json.dumps({"format_version": 99}))
    assert "written by a newer dnicomm" in cli(command, "run").err
    (run / "run.json").write_text("{")
    assert "run.json is damaged" in cli(command, "run").err
    (run / "config.yaml").write_text("a: [")
    (run / "run.json").write_text(json.dumps({"format_version": 1}))
    called = cli(command, "run")
    assert called.code == 2
    assert "config.yaml is damaged" in called.err


def test_a_configuration_changed_by_hand(cli, run):
    config = (run / "config.yaml").read_text()
    _damaged(run, "config.yaml", config.replace("steps: 20", "steps: soon"))
    called = cli("resume", "run")
    assert (called.code, called.err) == (
        2,
        "dnicomm: steps=soon: must be a whole number of at least 1\n",
    )
    (run / "config.yaml").write_text(config.replace("width: 64", "width: 32"))
    called = cli("resume", "run")
    assert called.code == 2
    assert "the checkpoint does not fit the configuration" in called.err


def test_damaged_checkpoints(cli, run):
    (checkpoint,) = (run / "checkpoints").iterdir()
    checkpoint.write_bytes(checkpoint.read_bytes()[:-8])
    called = cli("eval", "run")
    assert called.code == 2
    assert "No checkpoint can be read" in called.err
    shutil.rmtree(run / "checkpoints")
    called = cli("eval", "run")
    assert called.code == 2
    assert "run has no checkpoint yet" in called.err


def test_a_run_is_not_written_over(cli, run):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    called = cli("run", "hydra.run.dir=run", *SMALL)
    assert called.code == 2
    assert "run already holds a run, and nothing is written over" in called.err
    assert "dnicomm resume run" in called.err
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_run_from_a_machine_with_another_device(cli, run):
    config = (run / "config.yaml").read_text()
    _damaged(run, "config.yaml", config.replace("device: cpu", "device: cuda"))
    called = cli("resume", "run")
    assert called.code == 2
    assert "device=cuda: this machine has no CUDA device" in called.err
