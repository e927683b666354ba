"""``logger=…``: other viewers are told what ``metrics.jsonl`` says, once each, under its names."""

import json
import struct

import pytest
import yaml

from dnicomm.commands.loggers import installed, numbers
from dnicomm.runs import RunFolder

SMALL = (
    "steps=24", "num_worlds=2", "eval.num_worlds=2", "eval.episodes=1", "eval.every=8",
    "env.num_agents=2", "env.horizon=4",
)  # fmt: skip
needs_tensorboard = pytest.mark.needs(
    "torch.utils.tensorboard", "tensorboard.backend.event_processing.event_accumulator"
)
INSTALL = 'the package {0} is not installed here. Install it: pip install "dnicomm[{0}]"\n'


def said(folder):
    """What ``metrics.jsonl`` holds: time -> name -> number."""
    return {record["time"]: numbers(record) for record in RunFolder.open(folder).metrics()}


def in_tensorboard(folder):
    module = "tensorboard.backend.event_processing.event_accumulator"
    why = "tensorboard is not installed (pip install dnicomm[tensorboard])"
    accumulator = pytest.importorskip(module, reason=why, exc_type=ImportError)

    read = accumulator.EventAccumulator(
        str(folder / "tensorboard"), size_guidance={"scalars": 0}
    ).Reload()
    assert read.Tags()["tensors"] == ["config/text_summary"]
    return {tag: [(e.step, e.value) for e in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def records_of(path):
    """The records in a file of wandb's: blocks of 32 KiB, each record in one or several pieces."""
    data, place, record = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while place < len(data):
        left = 2**15 - place % 2**15
        if left < 7:  # no room for a head
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, last
            yield record
            record = b""


def in_wandb(folder):
    """All points of the one offline run, its configuration and its id."""
    from wandb.proto import wandb_internal_pb2 as proto

    (path,) = (folder / "wandb").glob("offline-run-*/run-*.wandb")
    points, about = {}, None
    for data in records_of(path):
        record = proto.Record.FromString(data)
        about = record.run if record.HasField("run") else about
        items = {"/".join(item.nested_key) or item.key: json.loads(item.value_json)
                 for item in record.history.item}  # fmt: skip
        for name in items.keys() - {"_step", "_timestamp", "_runtime"}:
            points.setdefault(name, []).append((items["_step"], items[name]))
    config = {item.key: json.loads(item.value_json) for item in about.config.update}
    return points, config, about.run_id


def series(told):
    """The same by name: its (time, number) in order."""
    names = {name for values in told.values() for name in values}
    return {name: [(t, v[name]) for t, v in told.items() if name in v] for name in names}


def rounded(points):
    """Event files hold numbers of 32 bits."""
    return {name: pytest.approx(dict(of), rel=1e-6) for name, of in points.items()}


def once(points):
    assert all(len(of) == len(dict(of)) for of in points.values())
    return {name: dict(of) for name, of in points.items()}


def stopped_and_resumed(cli, logger):
    """A run killed when an evaluation was told that is in no checkpoint yet, then resumed."""
    cli.killed("save_checkpoint", 2, False, "run", *SMALL, logger, "hydra.run.dir=broken")
    assert list(said("broken")) == [8, 16]
    yield cli.folder / "broken"
    called = cli("resume", "broken")
    assert (called.code, called.err) == (0, "")
    assert list(said("broken")) == [8, 16, 24]
    yield called.out


@needs_tensorboard
def test_tensorboard_shows_what_the_metrics_say_also_after_a_kill(cli):
    folder, out = stopped_and_resumed(cli, "logger=tensorboard")
    assert "  tensorboard --logdir broken\n" in out
    expected = series(said("broken"))
    names = {"metrics/accuracy", "agents/agent_1/loss", "channels/agent_0->agent_1/age"}
    assert names <= set(expected)
    assert once(in_tensorboard(folder)) == rounded(expected)

    assert cli("run", *SMALL, "hydra.run.dir=without").code == 0
    without, told = said("without"), said("broken")
    for values in (*without.values(), *told.values()):
        del values["wall_s"]
    assert told == without
    assert not (cli.folder / "without" / "tensorboard").exists()


@needs_tensorboard
@pytest.mark.needs("wandb", "wandb.proto.wandb_internal_pb2")
@pytest.mark.slow
def test_wandb_shows_what_the_metrics_say_also_after_a_kill(cli, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")  # what a user may have set: nothing is sent anyway
    resumed = stopped_and_resumed(cli, "logger=[wandb,tensorboard]")
    folder = next(resumed)
    _, _, first = in_wandb(folder)
    assert "  wandb sync broken/wandb/offline-run-*\n" in next(resumed)
    expected = series(said("broken"))
    points, config, second = in_wandb(folder)
    assert once(points) == {name: dict(of) for name, of in expected.items()}
    assert config["env"]["num_agents"] == 2
    assert second == first
    assert once(in_tensorboard(folder)) == rounded(expected)


@needs_tensorboard
def test_experiments_have_it_too(toy):
    assert toy("bench", "toy", "logger=tensorboard", "hydra.run.dir=one").code == 0
    found = once(in_tensorboard(toy.folder / "one"))
    assert found == rounded(series(said("one")))
    assert {"metrics/error", "samples", "seconds"} <= set(found)


@needs_tensorboard
def test_the_logger_makes_no_other_setting_of_a_run(toy):
    assert toy("bench", "toy", "logger=tensorboard", "hydra.run.dir=runs/one").code == 0
    assert toy("bench", "toy", "seed=1", "hydra.run.dir=runs/two").code == 0
    assert "(2)" in toy("bench", "table").out


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_package_that_is_not_there(cli, monkeypatch, name):
    monkeypatch.setattr("dnicomm.commands.loggers.find_spec", lambda package: None)
    called = cli("run", *SMALL, f"logger={name}", "hydra.run.dir=one")
    assert called.code == 2
    assert called.err == f"dnicomm: logger={name}: {INSTALL.format(name)}"
    assert cli.files() == set()


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_package_that_is_broken(cli, monkeypatch, name):
    """Found before the run begins, and not at its first evaluation."""

    def fails(module):
        raise TypeError("descriptors cannot be created directly.\n See there.")

    monkeypatch.setattr("dnicomm.commands.loggers.installed", lambda package: True)
    monkeypatch.setattr("dnicomm.commands.loggers.import_module", fails)
    called = cli("run", *SMALL, f"logger={name}", "hydra.run.dir=one")
    assert called.code == 2
    assert called.err == (
        f"dnicomm: logger={name}: the package {name} can't be imported here: "
        "TypeError: descriptors cannot be created directly. See there.\n"
    )
    assert cli.files() == set()


def test_a_folder_that_a_logger_has_left_is_no_package(cli, monkeypatch):
    cli.write("wandb_of_mine/offline-run/files", "")
    monkeypatch.syspath_prepend(str(cli.folder))
    assert not installed("wandb_of_mine")
    assert installed("pytest")
    assert not installed("there_is_no_such_package")


@pytest.mark.parametrize("command", [("run",), ("bench", "toy")])
def test_a_logger_that_there_is_not(toy, command):
    called = toy(*command, "logger=tensorbord")
    assert called.code == 2
    assert called.err == (
        "dnicomm: logger=tensorbord: there is no such logger. Did you mean 'tensorboard'? "
        "Known: tensorboard, wandb.\n"
    )


@needs_tensorboard
def test_a_run_that_fails_early_leaves_nothing(toy):
    with pytest.raises(ArithmeticError):
        toy("bench", "toy", "trouble=crash", "logger=tensorboard", "hydra.run.dir=one")
    assert toy.files() == set()


def test_a_run_from_before_there_were_loggers_goes_on(cli):
    cli.killed("write_summary", 1, False, "run", *SMALL, "hydra.run.dir=old")
    path = cli.folder / "old" / "config.yaml"
    config = yaml.safe_load(path.read_text())
    del config["logger"]
    path.write_text(yaml.safe_dump(config))
    assert cli("resume", "old").code == 0
