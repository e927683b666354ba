"""Checkpoints: exact, and there whole whatever moment the run is killed at."""

import math
import os
import subprocess
import sys

import pytest
import torch

from dnicomm.errors import UserError
from dnicomm.runs import RunFolder


@pytest.fixture
def folder(tmp_path):
    return RunFolder.create(tmp_path / "run", {"seed": 1})


def _save(folder, time):
    folder.save_checkpoint(time, {"weight": torch.full((5,), time)}, {"ticks": time})


def _files(folder):
    return sorted(path.name for path in (folder.path / "checkpoints").iterdir())


def _newest(folder):
    return folder.path / "checkpoints" / _files(folder)[-1]


def test_none_yet(folder):
    assert folder.latest_checkpoint() is None
    (folder.path / "checkpoints").mkdir()
    assert folder.latest_checkpoint() is None


def test_comes_back_exactly(folder):
    base = torch.randn(4, 6)
    tensors = {
        "scalar": torch.tensor(0.1, dtype=torch.float64),
        "empty": torch.empty(0, 3),
        "mask": torch.tensor([True, False]),
        "flag": torch.tensor(True),
        "count": torch.tensor([2**62, -1]),
        "half": torch.randn(3, dtype=torch.bfloat16),
        "bytes": torch.get_rng_state(),
        "strided": base.T[::2],
        "shared": base,
        "shared again": base,
        "expanded": torch.ones(1, 2).expand(3, 2),
        "parameter": torch.nn.Parameter(torch.tensor([math.nan, math.inf])),
    }
    facts = {"key": 2**130, "best": math.inf, "mail": [[1, "a"]], "none": None, "λ": 0.1}
    folder.save_checkpoint(7, tensors, facts)
    checkpoint = RunFolder.open(folder.path).latest_checkpoint()
    assert checkpoint is not None
    assert checkpoint.time == 7
    assert checkpoint.facts == facts
    assert checkpoint.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        found = checkpoint.tensors[name]
        assert found.dtype == tensor.dtype
        torch.testing.assert_close(found, tensor.detach(), rtol=0, atol=0, equal_nan=True)


def test_no_tensors(folder):
    folder.save_checkpoint(0, {}, {"a": 1})
    checkpoint = folder.latest_checkpoint()
    assert (checkpoint.time, checkpoint.tensors, checkpoint.facts) == (0, {}, {"a": 1})


def test_tensors_outlive_the_file(folder):
    _save(folder, 3)
    checkpoint = folder.latest_checkpoint()
    _newest(folder).write_bytes(b"")
    checkpoint.tensors["weight"] += 1
    assert checkpoint.tensors["weight"].tolist() == [4] * 5


def test_keeps_the_last_two(folder):
    for time in (5, 20, 100, 2000):
        _save(folder, time)
    assert _files(folder) == ["000000000100.safetensors", "000000002000.safetensors"]
    assert folder.latest_checkpoint().time == 2000


def test_same_time_again_replaces(folder):
    _save(folder, 3)
    folder.save_checkpoint(3, {}, {"again": True})
    assert folder.latest_checkpoint().facts == {"again": True}
    assert len(_files(folder)) == 1


def test_facts_that_json_does_not_hold(folder):
    with pytest.raises(TypeError):
        folder.save_checkpoint(3, {}, {"model": object()})
    assert folder.latest_checkpoint() is None


SPOIL = {
    "empty": lambda data: b"",
    "short": lambda data: data[:-1],
    "header only": lambda data: data[:40],
    "changed tensor": lambda data: data[:-2] + bytes([data[-2] ^ 1]) + data[-1:],
    "changed fact": lambda data: data.replace(b"ticks", b"tocks"),
    "changed time": lambda data: data.replace(b'"time":"20"', b'"time":"21"'),
    "no metadata": lambda data: data.replace(b"checksum", b"checksim"),
    "zeros": lambda data: bytes(len(data)),
    "another format": lambda data: b"\x80\x04\x95 not tensors",
}


@pytest.mark.parametrize("spoil", SPOIL.values(), ids=SPOIL)
def test_falls_back_behind_damage(folder, spoil):
    _save(folder, 10)
    _save(folder, 20)
    whole = _newest(folder).read_bytes()
    assert spoil(whole) != whole
    _newest(folder).write_bytes(spoil(whole))
    with pytest.warns(UserWarning, match=r"000000000020\.safetensors is damaged.*back to time 10"):
        checkpoint = folder.latest_checkpoint()
    assert (checkpoint.time, checkpoint.facts) == (10, {"ticks": 10})

    # the run goes on from there; the damaged one does not take the place of a whole one
    _save(folder, 15)
    assert _files(folder) == ["000000000010.safetensors", "000000000015.safetensors"]


def test_all_damaged(folder):
    for time in (10, 20):
        _save(folder, time)
    for path in (folder.path / "checkpoints").iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"No checkpoint can be read.*0020.* is damaged.*0010"):
        folder.latest_checkpoint()


def test_leftovers_of_a_kill_are_passed_over_and_removed(folder):
    _save(folder, 10)
    checkpoints = folder.path / "checkpoints"
    (checkpoints / "000000000020.safetensors.tmp").write_bytes(b"half")
    (checkpoints / "notes.txt").write_text("mine")
    assert folder.latest_checkpoint().time == 10
    _save(folder, 30)
    assert _files(folder) == [
        "000000000010.safetensors",
        "000000000030.safetensors",
        "notes.txt",
    ]


@pytest.mark.parametrize("moment", ["os.fsync", "Path.replace"])
def test_interrupted_before_the_rename(folder, monkeypatch, moment):
    def kill(*args):
        raise KeyboardInterrupt

    _save(folder, 10)
    monkeypatch.setattr(f"dnicomm.runs.atomic.{moment}", kill)
    with pytest.raises(KeyboardInterrupt):
        _save(folder, 20)
    assert _files(folder) == ["000000000010.safetensors"]
    assert folder.latest_checkpoint().facts == {"ticks": 10}


def test_interrupted_after_the_rename(folder, monkeypatch):
    def kill(*args):
        raise KeyboardInterrupt

    for time in (10, 20):
        _save(folder, time)
    with monkeypatch.context() as patch:
        patch.setattr("dnicomm.runs.atomic.sync_folder", kill)
        with pytest.raises(KeyboardInterrupt):
            _save(folder, 30)
    assert folder.latest_checkpoint().time == 30
    _save(folder, 40)
    assert len(_files(folder)) == 2


WRITER = """
import os, signal, sys, time
import torch
from dnicomm.runs import RunFolder

torch.set_num_threads(1)
folder = RunFolder.open(sys.argv[1])
for attempt in range(12):  # forks, since importing torch takes longer than all of them
    begin = 1 + max([0, *(record["time"] for record in folder.metrics())])
    child = os.fork()
    if not child:
        for t in range(begin, begin + 100_000):
            folder.append_metrics({"time": t, "filler": "x" * 20_000})
            folder.save_checkpoint(t, {"weight": torch.full((50_000,), t)}, {"ticks": t})
        os._exit(0)
    time.sleep(0.02 + 0.007 * attempt)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    times = [record["time"] for record in folder.metrics()]
    assert times == list(range(1, len(times) + 1)), times
    checkpoint = folder.latest_checkpoint()
    if checkpoint is not None:
        assert checkpoint.time in (len(times), len(times) - 1), (checkpoint.time, len(times))
        assert checkpoint.facts == {"ticks": checkpoint.time}
        assert (checkpoint.tensors["weight"] == checkpoint.time).all()
        folder.truncate_metrics(checkpoint.time)
print(len(folder.metrics()))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")
def test_killed_while_writing(folder):
    command = [sys.executable, "-W", "error::UserWarning", "-c", WRITER, folder.path]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 3, "too few were written to have tested anything"
    assert folder.latest_checkpoint() is not None
