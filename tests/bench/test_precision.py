"""autocast=true where a device lacks a layer in bfloat16: it trains, and says what it does."""

import json

import pytest
import torch

from dnicomm.bench import precision
from dnicomm.bench.precision import plan_autocast
from dnicomm.cli import main
from dnicomm.core import recurrent
from dnicomm.core.capabilities import supports_autocast

CPU = torch.device("cpu")
LSTM = (
    "autocast=true: cpu has no bfloat16 LSTM here; the LSTM is computed in float32, "
    "the rest in bfloat16"
)
ALL = "autocast=true: cpu has no bfloat16 linear layers here; all is computed in float32"


@pytest.fixture
def lacking(monkeypatch):
    """A machine without these layers in bfloat16; it has the others."""

    def lack(*layers):
        for module in (precision, recurrent):
            monkeypatch.setattr(
                module, "supports_autocast", lambda layer, *device: layer not in layers
            )

    return lack


def test_what_is_planned(lacking):
    both = ("lstm", "linear")
    lacking()
    assert plan_autocast(True, both, CPU) == (True, [])
    assert plan_autocast(False, both, CPU) == (False, [])
    lacking("lstm")
    assert plan_autocast(True, both, CPU) == (True, [LSTM])
    assert plan_autocast(False, both, CPU) == (False, [])
    lacking("linear", "lstm")
    assert plan_autocast(True, both, CPU) == (False, [ALL])
    lacking("conv2d")
    assert plan_autocast(True, ("linear",), CPU) == (True, [])
    enabled, lines = plan_autocast(True, ("conv2d", "linear"), CPU)
    assert not enabled
    assert "convolutions" in lines[0]


@pytest.mark.parametrize("name", ["ptb", "copy", "repeat_copy"])
def test_a_run_with_autocast_ends_and_says_what_was_not_as_asked(name, tmp_path, capsys):
    """On whatever machine the test runs."""
    words = {"ptb": "characters=2560", "copy": "steps=4", "repeat_copy": "steps=4"}[name]
    folder = tmp_path / "run"
    command = ["bench", name, "budget=smoke", "autocast=true", words, f"hydra.run.dir={folder}"]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    expected = [] if supports_autocast("lstm", CPU) else [LSTM]
    assert [line for line in lines if line.startswith("autocast")] == expected
    assert json.loads((folder / "summary.json").read_text())["fallbacks"] == expected


@pytest.mark.parametrize("name", ["mnist", "ptb"])
def test_without_any_bfloat16_it_computes_in_float32(name, lacking, tmp_path, capsys):
    """The same numbers as without autocast; the page says so, too."""
    lacking("linear", "conv2d", "lstm")
    words = ["steps=4"] if name == "mnist" else ["characters=2560"]
    found = {}
    for autocast in ("false", "true"):
        folder = tmp_path / autocast
        command = ["bench", name, "budget=smoke", f"autocast={autocast}", *words]
        assert main([*command, f"hydra.run.dir={folder}"]) == 0
        found[autocast] = json.loads((folder / "summary.json").read_text())
    assert found["true"]["metrics"] == found["false"]["metrics"]
    assert (found["false"]["fallbacks"], found["true"]["fallbacks"]) == ([], [ALL])
    assert capsys.readouterr().out.count(ALL) == 1
    assert ALL in (tmp_path / "true" / "report.html").read_text()
