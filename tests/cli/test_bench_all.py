"""``dnicomm bench all``, and the experiments that there are, as the command line has them."""

import pytest
import torch

from dnicomm.commands.bench.catalogue import experiments, options
from dnicomm.commands.bench.everything import rising, settings, still
from dnicomm.commands.bench.training import ExperimentWork
from dnicomm.runs import RunFolder


def test_all_of_a_toy(toy):
    called = toy("bench", "all", "steps=9", "eval.every=3", "--folder", "all")
    assert (called.code, called.err) == (0, "")
    lines = called.out.splitlines()
    assert [line.split()[:2] for line in lines[:2]] == [
        ["toy", "method=fast"],
        ["toy", "method=slow"],
    ]
    assert lines[-1] == "all 2 are right"
    assert "toy, budget smoke" in lines  # the tables
    for name in ("00-toy-fast", "01-toy-slow"):
        config = RunFolder.open(toy.folder / "all" / name).config
        assert (config["points"], config["bench"]) == (2, "toy")
        assert config["choices"]["budget"] == "smoke"
    assert toy("resume", "all/00-toy-fast").out.startswith("this run has ended")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("trouble=rising", "train_loss did not fall: "),
        ("trouble=idle", "idle did not move"),
        ("steps=4", "it takes two evaluations to see a loss fall"),
        ("points=0", "points=0: must be at least 1"),
    ],
)
def test_what_is_wrong_is_said_and_the_exit_code_is_1(toy, words, complaint):
    called = toy("bench", "all", words, "--folder", "all")
    assert called.code == 1
    assert called.out.count(f"    {complaint}") == 2
    assert called.out.endswith("2 of 2 failed\n")


def test_checks_of_parameters():
    before = {"a": torch.zeros(2), "b": torch.zeros(2)}
    moved = torch.tensor([0.0, 1e-9])
    assert still(before, {"a": moved, "b": moved}) == []
    assert still(before, {"a": moved, "b": torch.zeros(2)}) == ["b did not move"]
    assert still(before, {"a": moved, "b": torch.tensor([1.0, float("nan")])}) == [
        "b is not finite"
    ]
    assert still({}, {}) == ["nothing is said to move"]


def test_checks_of_losses():
    def of(*losses):
        return rising([{"train_loss": loss} for loss in losses])

    assert of(3, 1, 2) == []
    assert of(1, 9, 1) != []
    assert of(2, 1, 9, 9, 1, 1) == []  # means of thirds
    assert of(2, None, 1) == of(2, float("nan"), 1) == ["train_loss is not finite, or missing"]
    assert rising([{"train_loss": 1, "level": 1}, {"train_loss": 2, "level": 2}]) == []
    assert rising([{"train_loss": 1, "level": 1}, {"train_loss": 2, "level": 1}]) != []


BAD = {
    "mnist method=cdin": "method=cdin: there is no such method. Did you mean 'cdni' or 'dni'?",
    "ptb method=backprop": "method=backprop: there is no such method. Known: auxiliary, bptt",
    "mnist model=rnn": "model=rnn: there is no such model. Did you mean 'cnn'? Known: cnn, fcn",
    "mnist interfaces=[4]": "interfaces=[4]: must be all, or numbers of 1 to 3",
    "mnist layers=0": "layers=0: must be a whole number of at least 1",
    "mnist update_probability=0": "update_probability=0",
    "mnist method=none unlock=full": "unlock=full: method=none has no interfaces",
    "copy window=0": "window=0: must be a whole number of at least 1",
    "ptb window=0": "window=0: must be a whole number of at least 1",
    "repeat_copy window=99": "window=99: the first sequences have 5 steps",
    "ptb window=9999": "window=9999: each of the 16 rows has only 500 characters",
    "two_networks block=0": "block=0: must be a whole number of at least 1",
    "clocks rate=0": "rate=0: must be",
    "clocks clock=sundial": "clock=sundial: there is no such clock",
    "clocks world=moon": "world=moon: there is no such world",
    "clocks delay=[2,0]": "channel.delay=[2, 0]: must be",
    "clocks drop=2": "channel.drop=2: must be a share from 0 to 1",
}


@pytest.mark.parametrize(("words", "message"), BAD.items(), ids=BAD)
def test_bad_input(cli, words, message):
    called = cli("bench", *words.split(), "budget=smoke")
    assert called.code == 2
    assert len(called.err.splitlines()) == 1
    assert message in called.err
    assert cli.files() == set()


def test_every_experiment_has_its_budgets_and_lines():
    assert set(experiments()) == {
        "mnist", "cifar10", "copy", "repeat_copy", "ptb", "two_networks",
        "clocks",
    }  # fmt: skip
    for name, line in experiments().items():
        assert line.endswith((".", "?")), name
        assert [option.name for option in options(name, "budget")] == ["cpu", "paper", "smoke"]
        assert all(option.line for option in options(name, "method"))


# so small that even published schedules are built in no time, and need no files
SMALL = {
    "mnist": ["dataset=digits", "width=8"],
    "cifar10": ["dataset=digits", "width=8"],
    "copy": ["width=8", "batch=4"],
    "repeat_copy": ["width=8", "batch=4"],
    "ptb": ["text=made_up", "width=8", "batch=4"],
    "two_networks": ["dataset=digits", "width=8", "num_worlds=4", "message_size=4"],
    "clocks": ["width=8", "num_worlds=4", "message_size=4"],
}


@pytest.mark.slow
@pytest.mark.parametrize("budget", ["cpu", "paper"])
@pytest.mark.parametrize("name", SMALL)
def test_every_method_goes_with_every_budget(monkeypatch, name, budget):
    module = "dnicomm.commands.bench.everything"
    monkeypatch.setattr(f"{module}.experiments", lambda: [name])
    monkeypatch.setattr(f"{module}.VARIANTS", {})
    made = list(settings([f"budget={budget}", *SMALL[name]]))
    assert len(made) == len(options(name, "method"))
    for setting in made:
        ExperimentWork({**setting.values, **setting.notes})


@pytest.mark.slow
def test_every_experiment_with_every_method(cli, monkeypatch):
    """No file is needed, and none is looked for."""
    monkeypatch.setenv("DNICOMM_DATA", str(cli.folder / "nothing"))
    called = cli("bench", "all", "budget=smoke", "--folder", "all")
    assert called.code == 0, called.out
    assert called.err == ""
    ran = len(list((cli.folder / "all").iterdir()))
    assert ran >= sum(len(options(name, "method")) for name in experiments())
    assert called.out.endswith(f"all {ran} are right\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "mnist method=cdni",
        "mnist method=sobolev unlock=full",
        "mnist method=critic update_probability=0.5 decay=true",
        "cifar10 method=dni returns=0.5",
        "copy method=dni_aux",
        "repeat_copy method=lambda",
        "ptb method=outcome patience=2",
        "two_networks method=dni irregular=true",
        "two_networks method=locked decay=true",
        "clocks method=dni clock=bursty drop=0.2",
    ],
)
def test_a_killed_run_goes_on_as_if_it_had_not_been(cli, words):
    command = ["bench", *words.split(), "budget=smoke"]
    assert cli(*command, "hydra.run.dir=whole").code == 0
    cli.killed("save_checkpoint", 1, True, *command, "hydra.run.dir=broken")
    called = cli("resume", "broken")
    assert (called.code, called.err) == (0, "")
    assert called.out.startswith("going on from update ")
    assert cli.reached("broken") == cli.reached("whole")
    assert cli("eval", "broken").code == 0
