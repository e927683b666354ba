"""A run folder that somebody else wrote: nothing that it names is imported or called unasked."""

import json
import shutil
import sys

import pytest
import yaml

from dnicomm.runs import RunFolder, trust

SMALL = (
    "steps=10", "num_worlds=2", "eval.num_worlds=2", "eval.episodes=1", "eval.every=5",
    "env.num_agents=2", "env.horizon=5", "hydra.run.dir=run",
)  # fmt: skip
SPY = """
from pathlib import Path
Path("imported").touch()
from dnicomm.agents import FeedForward
from dnicomm.envs import PettingZooEnv, Relay
from dnicomm.sim import PoissonClock
import os, subprocess

class Agent(FeedForward): pass
class World(Relay): pass
class Clock(PoissonClock): pass

def parallel_env(**kwargs):
    from mpe2 import simple_spread_v3
    return simple_spread_v3.parallel_env(max_cycles=5)
"""


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A run that stopped before its end, and is no longer this user's own."""
    from dnicomm.cli import main

    folder = tmp_path_factory.mktemp("template")
    assert main(["run", *SMALL[:-1], f"hydra.run.dir={folder / 'run'}"]) == 0
    (folder / "run" / "summary.json").unlink()
    return folder / "run"


@pytest.fixture
def run(cli, template):
    """A copy of it in the working folder, beside a module that leaves a file when imported."""
    shutil.copytree(template, cli.folder / "run")
    cli.write("my_spy.py", SPY)
    return Stranger(cli)


class Stranger:
    def __init__(self, cli):
        self.cli = cli
        self.path = cli.folder / "run"

    def change(self, changes):
        """Set keys of the configuration, given with dots."""
        config = yaml.safe_load((self.path / "config.yaml").read_text())
        for key, value in changes.items():
            *above, last = key.split(".")
            inside = config
            for name in above:
                inside = inside.setdefault(name, {})
            inside[last] = value
        (self.path / "config.yaml").write_text(yaml.safe_dump(config))

    def is_quiet(self):
        """Whether nothing was imported or called."""
        return not (self.cli.folder / "imported").exists()


TOUCH = {"command": "touch imported"}
GAME = {"env._target_": "dnicomm.envs.PettingZooEnv", "env.num_agents": None}


def game(id, kwargs=None, target="dnicomm.envs.PettingZooEnv"):
    return {"env": {"_target_": target, "id": id, "kwargs": kwargs}}


HOSTILE = {
    # configuration -> what the line has to name
    "shell": (game("os:system", TOUCH), "os (env.id=os:system)"),
    "dotted": (game("os.system", TOUCH), "os.system (env.id=os.system)"),
    "module": (game("my_spy"), "my_spy (env.id=my_spy)"),
    "alias": (
        game("os:system", TOUCH, "dnicomm.envs.foreign:PettingZooEnv"), "os (env.id=os:system)"
    ),
    "gym": (game("my_spy:X-v0", target="dnicomm.envs.GymEnv"), "my_spy (env.id=my_spy:X-v0)"),
    "env": ({"env._target_": "my_spy.World"}, "my_spy (env._target_=my_spy.World)"),
    "agent": ({"agent._target_": "my_spy:Agent"}, "my_spy (agent._target_=my_spy:Agent)"),
    "one agent": (
        {"agents.agent_1._target_": "my_spy.Agent"},
        "my_spy (agents.agent_1._target_=my_spy.Agent)",
    ),
    "a clock": (
        {"agents.agent_1.clock": {"_target_": "my_spy.Clock", "rate": 1.0}},
        "my_spy (agents.agent_1.clock._target_=my_spy.Clock)",
    ),
    "a rate": (
        {"agents.agent_1.optimizer": {"_target_": "my_spy.Popen"}},
        "my_spy (agents.agent_1.optimizer._target_=my_spy.Popen)",
    ),
    "clock": ({"clock._target_": "my_spy.Clock"}, "my_spy (clock._target_=my_spy.Clock)"),
    "channel": ({"channel._target_": "my_spy.C"}, "my_spy (channel._target_=my_spy.C)"),
    "topology": ({"topology._target_": "my_spy.T"}, "my_spy (topology._target_=my_spy.T)"),
    "utility": ({"utility._target_": "my_spy.U"}, "my_spy (utility._target_=my_spy.U)"),
    "optimizer": (
        {"optimizer._target_": "subprocess.Popen"}, "subprocess (optimizer._target_=subprocess.Po"
    ),
    "inner parts": (
        {"agent._target_": "dnicomm.__main__.main"}, "dnicomm.__main__ (agent._target_=dnicomm.__"
    ),
    "commands": (
        {"agent._target_": "dnicomm.commands.leftovers.Leftovers"}, "dnicomm.commands.leftovers ("
    ),
    "hydra": (
        {"hydra.callbacks.mine._target_": "my_spy.Agent"},
        "my_spy (hydra.callbacks.mine._target_=my_spy.Agent)",
    ),
    "encoder": (
        {"message.discrete": {"_target_": "my_spy.Agent"}},
        "my_spy (message.discrete._target_=my_spy.Agent)",
    ),
    "logger": (
        {"logger": [{"_target_": "my_spy.Agent"}]}, "my_spy (logger.0._target_=my_spy.Agent)"
    ),
    "experiment": (
        {"bench": "mnist", "_target_": "my_spy.Agent"}, "my_spy (_target_=my_spy.Agent)"
    ),
}  # fmt: skip


@pytest.mark.parametrize("command", ["resume", "eval"])
@pytest.mark.parametrize("name", HOSTILE)
def test_what_a_strangers_configuration_names_is_refused(run, command, name):
    changes, named = HOSTILE[name]
    run.change(changes)
    called = run.cli(command, "run")
    assert called.code == 2
    assert run.is_quiet()
    assert "my_spy" not in sys.modules
    assert len(called.err.splitlines()) == 1
    assert called.err.startswith("dnicomm: run: it was written elsewhere, or its config.yaml has ")
    assert f"It would import {named}" in called.err
    module = named.split(" ")[0].split(".")[0]
    if module == "my_spy":
        assert "--trust my_spy (only if you would run code of whoever wrote it)" in called.err
    else:
        assert f"nothing allows that of {module}" in called.err


# what the look through the names can't see: found out as each is imported, before it is called
TUNNELS = {
    "through an environment's package": (game("pettingzoo:os.system", TOUCH), "would import os"),
    "through a module of it": (game("pettingzoo.utils.env:gymnasium.os"), "would import"),
    "a registry's maker": (
        game("pettingzoo:make", {"id": "my_spy:X-v0", "env_type": "aec"}), "is no environment"
    ),
    "another function": (
        game("pettingzoo.utils.save_observation:save_observation"), "is no environment"
    ),
    "gymnasium's maker": (game("gymnasium:make", {"id": "my_spy:X-v0"}), "is no environment"),
    "gymnasium's loader": (
        game("gymnasium.envs.registration:load_env_creator", {"name": "os:system"}),
        "is no environment",
    ),
    "a module's import": (game("dnicomm.envs.lookup:importlib.import_module"), "would import impo"),
    "a module's own imports": (
        game("mpe2._mpe_utils.simple_env:os.system", TOUCH), "would import os"
    ),
    "a module of another kind": (game("dnicomm.envs.lookup"), "the module has none of"),
    "another class": (
        {"agent._target_": "dnicomm.envs.foreign.ParallelEnv"}, "would import pettingzoo"
    ),
    "a class of Python's": (
        {"optimizer._target_": "dnicomm.sim.profile.Path"}, "would import pathlib"
    ),
    "a function": ({"agent._target_": "dnicomm.envs.lookup.build"}, "is a function, and no Agent"),
    "a module in a room": ({"agent._target_": "dnicomm.envs.lookup.importlib"}, "would import"),
    "an unregistered game": (game("NoSuchGame-v0", target="dnicomm.envs.GymEnv"), "NoSuchGame"),
}  # fmt: skip


@pytest.mark.parametrize("name", TUNNELS)
def test_no_way_leads_through_what_is_trusted(run, name):
    changes, message = TUNNELS[name]
    run.change(changes)
    called = run.cli("eval", "run")
    assert called.code == 2, called
    assert run.is_quiet()
    assert "my_spy" not in sys.modules
    assert message in called.err
    assert len(called.err.splitlines()) == 1
    assert not trust.is_confined()


def test_registered_environments_of_other_packages_are_not_imported(run, monkeypatch):
    import gymnasium
    import pettingzoo

    monkeypatch.setattr("gymnasium.registry", dict(gymnasium.registry))
    monkeypatch.setattr("gymnasium.envs.registration.registry", dict(gymnasium.registry))
    gymnasium.register("MySpy-v0", entry_point="my_spy:parallel_env")
    run.change(game("MySpy-v0", target="dnicomm.envs.GymEnv"))
    called = run.cli("eval", "run")
    assert called.code == 2
    assert "env.id=MySpy-v0: would import my_spy, and that takes: --trust my_spy" in called.err
    if hasattr(pettingzoo, "register"):  # not in older ones
        pettingzoo.register("parallel", "mine/MySpy-v0", entry_point="my_spy:parallel_env")
        try:
            run.change(game("mine/MySpy-v0"))
            called = run.cli("eval", "run")
            assert "would import my_spy, and that takes: --trust my_spy" in called.err
        finally:
            pettingzoo.parallel_registry.pop("mine/MySpy-v0", None)
    assert run.is_quiet()


@pytest.mark.parametrize("command", ["resume", "eval"])
def test_named_packages_are_trusted(run, command):
    run.change({"agent._target_": "my_spy.Agent", "agents.agent_1._target_": "my_spy.Agent"})
    assert run.cli(command, "run", "--trust", "my_other").code == 2
    assert run.is_quiet()
    called = run.cli(command, "run", "--trust", "my_other", "--trust", "my_spy")
    assert (called.code, called.err) == (0, "")
    assert not run.is_quiet()


def test_a_trusted_module_does_not_hand_on_others(run):
    run.change(game("my_spy:os.system", TOUCH))
    called = run.cli("eval", "run", "--trust", "my_spy")
    assert called.code == 2
    assert "would import os, and nothing allows that of os" in called.err


@pytest.mark.parametrize(
    "target",
    [
        "my_spy; touch imported.X", "my_spy$(touch imported).X", "/tmp/my_spy.X", "../my_spy.X",
        "dnicomm.envs./tmp/my_spy.X", " my_spy.X", "dnicomm.envs\u2024os.X", "..X", ".", ":", "::",
        "dnicomm.agents..X", "dnicomm.agents:", "dnicomm:agents.FeedForward", "__main__.X",
        "a" * 9999, "\u202e.X", "builtins.exec", "dnicomm.agents:FeedForward.__init__.__globals__",
    ],
)  # fmt: skip
def test_odd_names_are_no_names(run, target):
    for changes in ({"agent._target_": target}, game(target), game(target, target="x.GymEnv")):
        run.change(changes)
        called = run.cli("eval", "run")
        assert called.code == 2
        assert len(called.err.splitlines()) == 1
        assert len(called.err) < 2000
        if "--trust" in called.err:  # what it tells to type is harmless
            assert "--trust my_spy;" not in called.err
            assert "--trust my_spy$" not in called.err
    assert run.is_quiet()


@pytest.mark.parametrize("package", ["os", "subprocess", "dnicomm", "a b", "", "../x", "a:b"])
def test_what_can_be_trusted_is_a_package(run, package):
    called = run.cli("eval", "run", "--trust", package)
    assert called.code == 2
    assert f"--trust {package}: " in called.err


@pytest.mark.parametrize("command", ["resume", "eval"])
def test_dnicomms_own_parts_need_no_flag(run, command):
    run.change({"seed": 3, "clock": {"_target_": "dnicomm.sim.PeriodicClock", "period": 2}})
    called = run.cli(command, "run")
    assert (called.code, called.err) == (0, "")
    assert run.is_quiet()


@pytest.mark.parametrize(
    ("id", "target"),
    [
        ("mpe2.simple_spread_v3", "PettingZooEnv"),
        ("mpe2.simple_spread_v3:parallel_env", "PettingZooEnv"),
        ("dnicomm.envs.switch_v0", "PettingZooEnv"),
        ("CartPole-v1", "GymEnv"),
    ],
)
def test_nor_do_the_environments_of_its_packages(cli, id, target):
    group = {"PettingZooEnv": "pettingzoo", "GymEnv": "gym"}[target]
    words = ("num_worlds=1", "eval.num_worlds=1", "eval.episodes=1", "eval.every=5", "steps=5")
    words = (f"env={group}", f"env.id={id}", "env.horizon=5", "window=5", *words)
    assert cli("run", *words, "hydra.run.dir=run").code == 0
    (cli.folder / "run" / "run.json").write_text('{"format_version": 1}')
    assert not RunFolder.open(cli.folder / "run").is_own
    called = cli("eval", "run", "--metrics=none")
    assert (called.code, called.err) == (0, "")


def test_own_runs_need_no_flag_wherever_they_lie(cli):
    cli.write("my_spy.py", SPY)
    words = ("agent=custom", "agent._target_=my_spy.Agent", *SMALL)
    assert cli("run", *words).code == 0
    (cli.folder / "run" / "summary.json").unlink()
    (cli.folder / "elsewhere").mkdir()
    shutil.copytree(cli.folder / "run", cli.folder / "elsewhere" / "copy")
    (cli.folder / "run").rename(cli.folder / "renamed")
    for folder in ("renamed", "elsewhere/copy"):
        assert cli("eval", folder).code == 0
        assert cli("resume", folder).code == 0


@pytest.mark.parametrize("command", ["report", "compare"])
@pytest.mark.parametrize("name", HOSTILE)
def test_pages_import_nothing(run, command, name):
    run.change(HOSTILE[name][0])
    before = set(sys.modules)
    called = run.cli(command, "run")
    assert called.code == 0, called.err
    assert run.is_quiet()
    assert not {m for m in set(sys.modules) - before if m.startswith(("my_", "tests"))}


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch imported']",
        "!!python/name:os.system",
        "!!python/module:my_spy",
        "!!python/object/new:my_spy.Agent []",
    ],
)
def test_tags_make_nothing(run, text):
    path = run.path / "config.yaml"
    path.write_text(path.read_text() + f"extra: {text}\n")
    for command in ("resume", "eval"):
        called = run.cli(command, "run")
        assert called.code == 2
        assert "could not determine a constructor for the tag" in called.err
        assert len(called.err.splitlines()) == 1
    assert run.cli("report", "run").code == 0
    assert run.is_quiet()


def test_interpolations_stay_text(run, monkeypatch):
    monkeypatch.setenv("MY_SECRET", "do not tell")
    run.change({"agent.width": "${oc.env:MY_SECRET}", "feedback": "${oc.env:MY_SECRET}"})
    for command in ("resume", "eval"):
        called = run.cli(command, "run")
        assert called.code == 2
        assert "do not tell" not in called.out + called.err
    for command in ("report", "compare"):
        assert "do not tell" not in run.cli(command, "run").out
    page = (run.path / "report.html").read_text()
    assert "oc.env:MY_SECRET" in page
    assert "do not tell" not in page


def test_the_working_folder_stands_in_nobodys_place(run, monkeypatch):
    """A stranger's folder may hold modules named like installed packages."""
    monkeypatch.chdir(run.path)
    (run.path / "wandb.py").write_text("open('../imported', 'w')")
    (run.path / "mpe2.py").write_text("open('../imported', 'w')")
    before = [name for name in sys.path if name not in ("", str(run.path))]
    monkeypatch.setattr(sys, "path", before)
    run.change({"seed": 1})
    assert run.cli("eval", ".").code == 0
    assert str(run.path) not in sys.path
    assert run.is_quiet()


def test_commands_of_a_stranger_are_not_shown_to_be_typed(run):
    run.change({"overrides": ["seed=1", "hydra.callbacks.x._target_=my_spy.Agent"]})
    called = run.cli("resume", "run")
    assert called.code == 0
    assert "my_spy" not in called.out
    assert "my_spy" not in run.cli("resume", "run").out  # it has ended now


@pytest.mark.parametrize("name", ["checkpoints", "recordings", "tensorboard"])
def test_nothing_is_written_where_a_strangers_links_lead(run, name):
    target = run.cli.folder / "mine"
    target.mkdir()
    (target / "000000000001.safetensors").write_text("mine")
    shutil.rmtree(run.path / name, ignore_errors=True)
    (run.path / name).symlink_to(target)
    run.change({"seed": 1})
    called = run.cli("resume", "run")
    assert called.code == 2
    assert f"run/{name}: is a link" in called.err
    assert [path.name for path in target.iterdir()] == ["000000000001.safetensors"]


def test_a_comparison_does_not_follow_a_link(run):
    (run.cli.folder / "mine").mkdir()
    (run.path / "comparison").symlink_to(run.cli.folder / "mine")
    called = run.cli("compare", "run")
    assert called.code == 2
    assert "run/comparison: is a link; say where the files go: --output FOLDER" in called.err
    assert not list((run.cli.folder / "mine").iterdir())
    assert run.cli("compare", "run", "--output", "mine").code == 0


@pytest.mark.parametrize("command", ["report", "resume", "compare"])
def test_no_file_is_written_through_a_link(run, command):
    mine = run.cli.folder / "mine"
    mine.write_text("mine")
    names = ("report.html", "trace.json", "metrics.jsonl", "summary.json", "profile.json")
    (run.path / "comparison").mkdir()
    others = ("comparison/comparison.html", "comparison/comparison.csv")
    for name in (*names, *others):
        (run.path / f"{name}.tmp").symlink_to(mine)
    for name in ("report.html", "trace.json"):
        (run.path / name).unlink(missing_ok=True)
        (run.path / name).symlink_to(mine)
    assert run.cli(command, "run").code == 0
    assert mine.read_text() == "mine"


def test_a_run_that_cant_be_signed_says_so_once(cli, monkeypatch, tmp_path_factory):
    from dnicomm.commands import jobs

    jobs._say_once.cache_clear()
    place = tmp_path_factory.mktemp("full") / "file"
    place.write_text("")
    monkeypatch.setattr("dnicomm.runs.signature.cache_folder", lambda: place / "dnicomm")
    called = cli("run", *SMALL)
    assert called.code == 0
    assert len(called.err.splitlines()) == 1
    assert "this run is not signed (no key can be kept in" in called.err
    jobs._say_once.cache_clear()


def test_summaries_are_shown_and_import_nothing(run):
    """An ended run of a stranger's is shown without being built."""
    run.change(HOSTILE["agent"][0])
    summary = json.loads((run.path / "metrics.jsonl").read_text().splitlines()[-1])
    (run.path / "summary.json").write_text(json.dumps({**summary, "seed": 0}))
    called = run.cli("resume", "run")
    assert called.code == 2
    assert "summary.json is damaged: it does not hold what a run writes" in called.err
    assert run.is_quiet()
