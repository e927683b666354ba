"""``dnicomm bench NAME``, ``resume`` and ``eval``, with a toy experiment."""

import io

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from dnicomm.bench.training import BenchProgress
from dnicomm.commands.bench.view import ExperimentView
from dnicomm.commands.display import Picture
from dnicomm.runs import RunFolder


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_folder(toy):
    called = toy("bench", "toy", "method=slow", "steps=10", "hydra.run.dir=run")
    assert (called.code, called.err) == (0, "")
    run = RunFolder.open(toy.folder / "run")
    assert run.config == {
        "_target_": "my_toy.Toy", "method": {"name": "slow", "rate": 0.01}, "steps": 10,
        "points": 4, "trouble": "", "eval": {"every": 4}, "seed": 0, "device": "cpu", "threads": 1,
        "logger": [],
        "bench": "toy", "choices": {"method": "slow", "budget": "cpu"},
        "overrides": ["method=slow", "steps=10"],
    }  # fmt: skip
    assert [(record["time"], record["samples"]) for record in run.metrics()] == [
        (4, 16), (8, 32), (10, 40),
    ]  # fmt: skip
    summary = run.summary()
    assert (summary["figure"], summary["higher_is_better"]) == ("error", False)
    assert summary["best"] == {"time": 10, "error": summary["metrics"]["error"]}
    assert summary["metrics"]["final"] == summary["metrics"]["error"]
    assert (summary["updates"], summary["samples"], summary["sample"]) == (10, 40, "points")
    assert set(summary["cost"]) == {
        "step_ms", "backprop_ms", "relative_time", "memory_mib", "backprop_memory_mib",
    }  # fmt: skip
    assert {path.name for path in run.path.iterdir()} == {
        "config.yaml", "run.json", "metrics.jsonl", "summary.json", "checkpoints", "report.html",
    }  # fmt: skip


def test_what_a_run_prints_where_there_is_no_terminal(toy):
    called = toy("bench", "toy", "budget=smoke", "seed=3", "hydra.run.dir=run")
    lines = called.out.splitlines()
    assert lines[0] == "toy, method fast, budget smoke, 12 updates, seed 3, cpu"
    for line, time in zip(lines[1:4], (4, 8, 12), strict=True):
        assert line.startswith(f"update {time}/12  error ")
        assert "train_loss" in line
        assert "error_1" not in line  # of single layers
        assert "points/s" in line
        assert line.endswith(" left" if time < 12 else "done")
    for words in ("error_1", "backprop", "ms a step", "after 12 of 12 updates (24 points"):
        assert words in called.out
    assert "dnicomm eval run" in called.out
    assert "dnicomm bench toy budget=smoke -m method=fast seed=0,1,2" in called.out
    assert "\x1b" not in called.out


def test_the_default_folder_says_what_ran(toy):
    assert toy("bench", "toy", "seed=7", "method=slow").code == 0
    (config,) = (toy.folder / "runs").glob("*/*/config.yaml")
    assert config.parent.name.endswith("-toy-slow-7")


def test_same_seed_same_run(toy):
    for folder in ("one", "two"):
        assert toy("bench", "toy", f"hydra.run.dir={folder}").code == 0
    assert toy.reached("one") == toy.reached("two")


def test_a_sweep(toy):
    called = toy("bench", "toy", "-m", "method=fast,slow", "seed=0,1", "hydra.sweep.dir=sweep")
    assert (called.code, called.err) == (0, "")
    names = ["0-toy-fast-0", "1-toy-fast-1", "2-toy-slow-0", "3-toy-slow-1"]
    assert sorted(p.name for p in (toy.folder / "sweep").iterdir() if p.is_dir()) == names
    table = called.out[called.out.rindex("\nrun ") :].splitlines()
    assert table[1].split()[:6] == ["run", "method", "seed", "error", "final", "train_loss"]
    assert [row.split()[:3] for row in table[2:6]] == [
        [name, *name.split("-")[2:]] for name in names
    ]


def test_help_names_groups_keys_and_experiments(toy):
    called = toy("bench", "--help")
    assert (called.code, called.err) == (0, "")
    for line in ("  toy    A line.", "  slow   Small steps.", "  smoke  ", "  table  "):
        assert f"\n{line}" in called.out
    assert toy("bench").out == called.out
    one = toy("bench", "toy", "--help")
    assert one.code == 0
    for line in ("budget=", "  cpu    Minutes.", "method=", "  fast   Large steps.", "points: 4"):
        assert f"\n{line}" in one.out
    assert "points: 4 # in each" in toy("list", "bench=toy").out
    assert "every: 500 # updates between" in toy("list", "bench=toy").out
    assert "toy" in toy("list", "bench").out
    assert toy.files() == set()


def test_the_configuration_is_shown_and_nothing_is_run(toy):
    called = toy("bench", "toy", "--cfg", "job", "budget=smoke", "method=slow")
    config = OmegaConf.create(called.out)
    assert (config.points, config.method.rate) == (2, 0.01)
    assert toy.files() == set()


BAD = {
    "toi": "toi: there is no such experiment. Did you mean 'toy'? Known: all, speed, table, toy",
    "seed=1": "name an experiment first: dnicomm bench toy seed=1",
    "toy method=fats": "method=fats: there is no such method. Did you mean 'fast'? Known: fast, s",
    "toy budget=huge": "budget=huge: there is no such budget. Known: cpu, smoke",
    "toy fast": "fast: must be KEY=VALUE, e.g. seed=1. Did you mean method=fast?",
    "toy pionts=3": "pionts: there is no such key. Did you mean 'points'? Known: _target_",
    "toy method.raet=3": "method.raet: there is no such key. Did you mean 'rate' or 'name'?",
    "toy eval.evry=3": "eval.evry: there is no such key. Did you mean 'every'?",
    "toy +width=3": "width: Toy has no such option. Known: method, points, seed, steps, trouble",
    "toy ~points": "points has to be given",
    "toy points=0": "points=0: must be at least 1",
    "toy steps=x": "steps=x: must be a whole number",
    "toy seed=-1": "seed=-1: must be a whole number of at least 0",
    "toy seed=1,2": "seed=1,2: write -m for one run a value",
    "toy eval.every=0": "eval.every=0: must be a whole number of at least 1",
    "toy threads=0": "threads=0: must be a whole number of at least 1",
    "toy device=gpu": "device=gpu: must be auto, cpu, cuda or cuda:N",
    "toy device=cuda:99": "device=cuda:99: this machine has",
    "toy method=3": "method=3: there is no such method",
    "toy --mutlirun": "--mutlirun: there is no such flag. Did you mean '--multirun'",
    "toy _target_=my_toy.Toi": "my_toy has no Toi. Did you mean 'Toy'",
    "toy _target_=my_toy.NotOne": "NotOne is a class, and no Experiment: it must be a subclass of "
    "dnicomm.bench.Experiment",
    "toy -m seed=0,-1 points=0": "#1: seed=-1: must be",
    "all width=3": "toy: width: there is no such key",
    "all budget": "budget: must be KEY=VALUE",
    "table nowhere": "nowhere: there is no such folder",
    "table .": ".: there is no finished run of dnicomm bench",
    "table --format=html": "argument --format: invalid choice: 'html'",
}


@pytest.mark.parametrize(("words", "message"), BAD.items(), ids=BAD)
def test_bad_input(toy, words, message):
    called = toy("bench", *words.split())
    assert called.code == 2
    lines = called.err.splitlines()
    assert 1 <= len(lines) <= 2
    assert all(line.startswith("dnicomm: ") for line in lines)
    assert message in called.err
    assert "Traceback" not in called.err + called.out
    assert toy.files() == set()


def test_a_crash_keeps_its_traceback_and_leaves_nothing(toy):
    with pytest.raises(ArithmeticError, match="mine"):
        toy("bench", "toy", "trouble=crash")
    assert toy.files() == set()


def test_a_run_is_not_written_over(toy):
    assert toy("bench", "toy", "hydra.run.dir=run").code == 0
    before = files(toy.folder / "run")
    called = toy("bench", "toy", "hydra.run.dir=run")
    assert called.code == 2
    assert "run already holds a run, and nothing is written over" in called.err
    assert files(toy.folder / "run") == before


# -- going on -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "number", "after"),
    [
        ("append_metrics", 1, False),  # before there is anything
        ("save_checkpoint", 2, False),  # metrics that no checkpoint knows of
        ("save_checkpoint", 2, True),
        ("write_summary", 1, False),  # all is done but the summary
    ],
)
def test_a_kill_at_a_bad_moment(toy, method, number, after):
    assert toy("bench", "toy", "hydra.run.dir=whole").code == 0
    toy.killed(method, number, after, "bench", "toy", "hydra.run.dir=broken")
    called = toy("resume", "broken")
    assert (called.code, called.err) == (0, "")
    place = "there is no checkpoint yet: beginning anew"
    if method != "append_metrics":
        place = "going on from update " + {False: "4", True: "8"}[after]
    if method == "write_summary":
        place = "going on from update 12"
    assert called.out.startswith(place)
    assert toy.reached("broken") == toy.reached("whole")


def test_stopping_by_hand_says_how_to_go_on(toy):
    called = toy("bench", "toy", "trouble=stop", "hydra.run.dir=run")
    assert called.code == 130
    assert called.err == "\ndnicomm: stopped; go on with: dnicomm resume run\n"
    assert [record["time"] for record in RunFolder.open(toy.folder / "run").metrics()] == [4]


def test_a_finished_run_is_only_shown(toy):
    assert toy("bench", "toy", "hydra.run.dir=run").code == 0
    before = files(toy.folder / "run")
    called = toy("resume", "run")
    assert called.code == 0
    assert called.out.startswith("this run has ended\n")
    assert "ms a step" in called.out
    assert files(toy.folder / "run") == before


def test_testing_again_writes_nothing(toy):
    assert toy("bench", "toy", "hydra.run.dir=run").code == 0
    before = files(toy.folder / "run")
    called = toy("eval", "run")
    assert (called.code, called.err) == (0, "")
    assert called.out.startswith("toy, trained for 12 updates\n")
    assert "train_loss" not in called.out  # nothing was trained
    error = RunFolder.open(toy.folder / "run").summary()["metrics"]["error"]
    assert f"{error:.3f}" in called.out
    assert files(toy.folder / "run") == before
    refused = toy("eval", "run", "--episodes=2")
    assert refused.code == 2
    assert "takes neither --episodes nor --num-worlds" in refused.err


def test_a_configuration_changed_by_hand(toy):
    assert toy("bench", "toy", "hydra.run.dir=run").code == 0
    (toy.folder / "run" / "summary.json").unlink()
    config = (toy.folder / "run" / "config.yaml").read_text()
    for before, after, message in (
        ("steps: 12", "steps: soon", "steps=soon: must be a whole number"),
        ("every: 4", "every: 0", "eval.every=0: must be a whole number of at least 1"),
        ("points: 4", "pionts: 4", "pionts: Toy has no such option. Did you mean 'points'?"),
        ("_target_: my_toy.Toy", "_target_: my_toy.NotOne", "no Experiment"),
        ("_target_: my_toy.Toy", "_target_: os.system", "nothing allows that of os"),
    ):
        (toy.folder / "run" / "config.yaml").write_text(config.replace(before, after))
        called = toy("resume", "run", "--trust", "my_toy")
        assert called.code == 2
        assert message in called.err


def test_picture():
    class Begun:
        sample, updates, steps, samples = "points", 0, 100, 0

    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)
    record = {"time": 50, "metrics": {"error": 0.25, "train_loss": 1.5}}
    with Picture(console, ExperimentView(Begun())) as shown:
        shown.update(BenchProgress(10, 100, 40, 1.0))
        assert "update 10 of 100" in console.file.getvalue()
        assert "nothing is evaluated yet" in console.file.getvalue()
        shown.update(BenchProgress(50, 100, 200, 2.0, record))
    for part in ("evaluated at 50", "0.250", "points/s", "0:00 left"):
        assert part in console.file.getvalue()
