"""``dnicomm run``: what it writes and shows, one run or many."""

import io
import json
import sys

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from dnicomm.commands.display import Lines, Pace, Picture, Place
from dnicomm.commands.options import GROUPS
from dnicomm.commands.overrides import prepare
from dnicomm.commands.run import TREE
from dnicomm.commands.simulation_view import SimulationView
from dnicomm.runs import RunFolder
from dnicomm.sim import Progress

SMALL = ("num_worlds=2", "eval.num_worlds=4", "eval.episodes=1", "env.num_agents=2", "clock.rate=1")


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A small run and what it printed; not to be changed."""
    from dnicomm.cli import main

    folder = tmp_path_factory.mktemp("ran") / "run"
    printed = io.StringIO()
    out, sys.stdout = sys.stdout, printed
    try:
        words = ("steps=60", "eval.every=20", "agent.width=16", f"hydra.run.dir={folder}")
        assert main(["run", *SMALL, *words]) == 0
    finally:
        sys.stdout = out
    return folder, printed.getvalue()


def test_a_run_folder(ran):
    folder, _ = ran
    names = {path.name for path in folder.iterdir()}
    assert {"config.yaml", "run.json", "metrics.jsonl", "summary.json", "checkpoints"} <= names
    assert ".hydra" not in names
    assert not any(name.endswith(".log") for name in names)
    run = RunFolder.open(folder)
    assert [record["time"] for record in run.metrics()] == [20, 40, 60]
    assert run.summary()["metrics"].keys() == run.metrics()[-1]["metrics"].keys()


def test_the_configuration_is_kept_with_the_choices(ran):
    config = RunFolder.open(ran[0]).config
    assert config["agent"] == {"_target_": "dnicomm.agents.FeedForward", "width": 16}
    assert config["steps"] == 60
    assert "hydra" not in config
    assert set(config["choices"]) == set(GROUPS)
    assert config["choices"]["clock"] == "poisson"
    assert config["overrides"] == [*SMALL, "steps=60", "eval.every=20", "agent.width=16"]


def test_what_a_run_prints_where_there_is_no_terminal(ran):
    folder, printed = ran
    lines = printed.splitlines()
    assert lines[0] == "relay, 2 agents, 2 worlds, feedback synthetic, seed 0, cpu"
    for line, time in zip(lines[1:4], (20, 40, 60), strict=True):
        assert line.startswith(f"time {time}/60  accuracy 0.")
        assert "loss" in line
        assert "cosine" in line
        assert "ticks/s" in line
        assert line.endswith(" left" if time < 60 else "done")
    for word in ("accuracy", "agent_0->agent_1", "share read", "age", "updates"):
        assert word in printed
    assert str(folder) in printed
    assert f"dnicomm eval {folder}" in printed
    kept = " ".join(SMALL)
    assert f"dnicomm run {kept} steps=60 eval.every=20 agent.width=16 feedback=none" in printed
    assert "\x1b" not in printed


def test_a_run_without_channels_is_not_told_to_try_other_feedback(cli):
    called = cli("run", "env=gym", "env.id=CartPole-v1", "num_worlds=2", "eval.num_worlds=2",
                 "eval.episodes=1", "steps=10", "hydra.run.dir=run")  # fmt: skip
    assert (called.code, called.err) == (0, "")
    assert "dnicomm eval run" in called.out
    assert "feedback=" not in called.out


def test_the_default_folder_says_what_ran(cli):
    assert cli("run", *SMALL, "steps=2", "seed=7", "feedback=none").code == 0
    (config,) = (cli.folder / "runs").glob("*/*/config.yaml")
    assert config.parent.name.endswith("-relay-none-7")


def test_the_configuration_is_shown_and_nothing_is_run(cli):
    called = cli("run", "--cfg", "job", "agent=recurrent", "agent.width=3", "env.num_agents=6")
    config = OmegaConf.create(called.out)
    assert called.code == 0
    assert config.agent == {"_target_": "dnicomm.agents.Recurrent", "width": 3}
    assert config.env.num_agents == 6
    assert cli.files() == set()


def test_an_options_file_of_ones_own(cli):
    cli.write("mine/agent/tiny.yaml", "# Small.\n_target_: dnicomm.agents.FeedForward\nwidth: 2\n")
    called = cli("run", "--config-dir", "mine", "agent=tiny", "--cfg", "job", "-p", "agent")
    assert "width: 2" in called.out


def test_a_sweep(cli):
    called = cli("run", "-m", *SMALL, "steps=4", "clock.rate=0.5,1", "feedback=none,exact",
                 "hydra.sweep.dir=sweep")  # fmt: skip
    assert (called.code, called.err) == (0, "")
    names = ["0-relay-none-0", "1-relay-exact-0", "2-relay-none-0", "3-relay-exact-0"]
    assert sorted(p.name for p in (cli.folder / "sweep").iterdir() if p.is_dir()) == names
    rates = [RunFolder.open(cli.folder / "sweep" / n).config["clock"]["rate"] for n in names]
    assert rates == [0.5, 0.5, 1, 1]
    table = called.out[called.out.rindex("accuracy") :].splitlines()
    for name, rate, feedback in zip(names, (0.5, 0.5, 1, 1), ("none", "exact") * 2, strict=True):
        (row,) = [line for line in table if line.startswith(name)]
        assert row.split()[1:3] == [str(rate), feedback]
    assert called.out.endswith("\nsweep\ncurves side by side: dnicomm compare sweep\n")
    refused = cli("resume", "sweep")
    assert refused.code == 2
    assert "sweep is a sweep; name one of its runs: 0-relay-none-0" in refused.err


def test_flags_may_stand_anywhere(cli):
    called = cli("run", *SMALL, "steps=4", "-m", "seed=0,1", "hydra.sweep.dir=sweep")
    assert (called.code, called.err) == (0, "")
    names = ["0-relay-synthetic-0", "1-relay-synthetic-1"]
    assert sorted(p.name for p in (cli.folder / "sweep").iterdir() if p.is_dir()) == names


@pytest.mark.parametrize(
    ("words", "prepared"),
    [
        ("steps=20 -m seed=0,1", "-m steps=20 seed=0,1"),
        ("steps=20 --cfg job seed=1", "--cfg job steps=20 seed=1"),
        ("steps=20 --info defaults seed=1", "steps=20 seed=1 --info defaults"),
        ("--info seed=1 -m", "-m seed=1 --info"),
        ("-m agents={a:{width:7}}", "-m ++agents={a:{width:7}}"),
        ("agent=recurrent agent.width=3", "agent=recurrent ++agent.width=3"),
    ],
)
def test_what_hydra_is_told(words, prepared):
    assert prepare(words.split(), TREE) == prepared.split()


def test_agents_as_one_value(cli):
    words = ("steps=4", "agents={agent_1:{width:7}}", "hydra.run.dir=run")
    called = cli("run", *SMALL, *words)
    assert (called.code, called.err) == (0, "")
    folder = RunFolder.open(cli.folder / "run")
    assert folder.config["agents"] == {"agent_1": {"width": 7}}


def test_a_sweep_goes_on_after_a_job_that_is_refused(cli):
    called = cli("run", "-m", *SMALL, "steps=4", "window=0,1", "hydra.sweep.dir=sweep")
    assert called.code == 2
    assert called.err == "dnicomm: #0: window=0: must be a whole number of at least 1, or null\n"
    assert [p.name for p in (cli.folder / "sweep").iterdir() if p.is_dir()] == [
        "1-relay-synthetic-0"
    ]


@pytest.mark.parametrize(
    "also",
    [(), ("--config-dir=mine",), ("hydra/launcher=basic",)],
    ids=["plain", "flag", "launcher"],
)
def test_a_sweep_says_what_is_wrong_before_its_first_run(cli, monkeypatch, capsys, also):
    """Wherever things are put aside meanwhile."""
    odd = cli.folder / "it's, (odd) $a"
    odd.mkdir()
    (cli.folder / "mine").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(odd))
    said = []
    monkeypatch.setattr(
        "dnicomm.commands.jobs.run_job", lambda *_: said.append(capsys.readouterr())
    )
    called = cli("run", "-m", *SMALL, "window=1,0,2", "hydra.sweep.dir=sweep", *also)
    assert (called.code, len(said)) == (2, 2), "the wrong one is not run"
    assert not list(odd.iterdir())
    assert said[0].err == "dnicomm: #1: window=0: must be a whole number of at least 1, or null\n"
    assert said[1].err == called.err == ""


def test_same_seed_same_run(ran, cli):
    words = ("steps=60", "eval.every=20", "agent.width=16")
    assert cli("run", *SMALL, *words, "hydra.run.dir=again").code == 0
    first, second = (RunFolder.open(f).summary() for f in (ran[0], cli.folder / "again"))
    del first["wall_s"], second["wall_s"]
    assert json.dumps(first) == json.dumps(second)


# -- the display --------------------------------------------------------------------------------

RECORD = {
    "time": 50,
    "metrics": {"accuracy": 0.5},
    "channels": {"a->b": {"cosine": 0.25, "relative_error": None, "age": 2.0, "share_read": 1.0}},
    "agents": {f"agent_{i}": {"ticks": 1000 * i, "loss": float(i)} for i in range(12)},
}


def _progress(time, record=None):
    return Progress(time=time, steps=100, agent_ticks=10 * time, wall_s=1.0, record=record)


def test_lines():
    console = Console(file=io.StringIO(), width=40)
    with Lines(console, SimulationView()) as shown:
        shown.update(_progress(10))
        shown.update(_progress(50, RECORD))
        shown.update(_progress(100, RECORD))
    first, second = console.file.getvalue().splitlines()  # never broken, however narrow
    assert first.startswith("time 50/100  accuracy 0.500  loss 5.500  cosine 0.250  ")
    assert second.endswith("done")


def test_picture():
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)
    with Picture(console, SimulationView()) as shown:
        shown.update(_progress(10))
        assert "world time 10 of 100" in console.file.getvalue()
        assert "nothing is evaluated yet" in console.file.getvalue()
        shown.update(_progress(50, RECORD))
    text = console.file.getvalue()
    for part in ("evaluated at 50:   accuracy 0.500", "a->b", "0.250", "0:00 left",
                 "agent_7", "… and 4 more"):  # fmt: skip
        assert part in text
    assert "agent_8" not in text


def test_a_run_that_goes_on_does_not_count_what_was_done_before():
    pace = Pace(Place(90, 100, 900))
    pace.began -= 1  # a second ago
    ticks, left = pace.read(Place(95, 100, 950))
    assert ticks == pytest.approx(50, rel=0.1)
    assert left == pytest.approx(1, rel=0.1)


def test_brackets_are_shown_as_they_were_typed(cli):
    edges = "topology.edges=[[agent_0,agent_1]]"
    called = cli("run", *SMALL, "steps=4", "topology=edges", edges, "hydra.run.dir=run")
    assert called.code == 0
    assert f"topology=edges '{edges}' feedback=none" in called.out
