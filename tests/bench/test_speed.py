"""``dnicomm bench speed``: what it writes, never how fast anything was."""

import copy
import json
import math

import pytest
import torch
from torch._inductor import config as inductor

from dnicomm.bench.compiling import Counted, check_compiler
from dnicomm.bench.speed.compiled import measure_compiled
from dnicomm.bench.speed.crowd import Crowd
from dnicomm.bench.speed.loop import Loop
from dnicomm.bench.speed.measuring import Rates, Spread, in_turns, ratio
from dnicomm.bench.speed.operations import ADAM, EACH, NAMES, PRODUCTS
from dnicomm.bench.speed.scaling import Curve
from dnicomm.bench.speed.step import Boundary, Layers
from dnicomm.cli import main
from dnicomm.errors import UserError


@pytest.fixture
def makes_no_code(monkeypatch, need):
    """A compiler that takes no time, counts as the true one, and leaves a graph as it is."""
    need("networkx")  # torch.compile imports it

    def count(self, graph, inputs):
        self.count += 1
        return graph.forward

    monkeypatch.setattr(Counted, "__call__", count)
    # nor does it need one that makes code
    monkeypatch.setattr("dnicomm.bench.compiling.check_compiler", lambda *asked: None)
    yield
    torch.compiler.reset()


def test_smoke_writes_every_table(tmp_path, capsys, makes_no_code):
    folder = tmp_path / "speed"
    assert main(["bench", "speed", "budget=smoke", "--folder", str(folder)]) == 0
    found = json.loads((folder / "speed.json").read_text())
    names = [row["name"] for row in found["steps"]]
    assert names[0] == "backpropagation"
    assert len(set(names)) == len(names) == 8
    for row in found["steps"]:
        assert row["ratio"]["low"] <= row["ratio"]["median"] <= row["ratio"]["high"]
        assert row["macs_floor"] >= 1
        assert row["milliseconds"] > 0
    assert [(row["agents"], row["inputs"]) for row in found["products"]] == [
        (3, 133), (3, 64), (3, 32),
    ]  # fmt: skip
    assert [row["agents"] for row in found["agents"]] == [1, 6]
    for row in found["agents"]:
        assert sum(row["shares"].values()) == pytest.approx(1)
        assert 0 < row["outside"] < 1
        assert list(row["operations"]) == list(NAMES)
        assert min(row["operations"].values()) >= 0
        assert min(row["operations"][kind] for kind in (PRODUCTS, ADAM, EACH)) > 0
        assert min(row[name]["median"] for name in ("ours", "loop", "floor", "times_floor")) > 0
    assert [row["name"] for row in found["compiled"]] == [
        "backpropagation", "decoupled, linear, labels", "ticks of 2 agents", "ticks of 5 agents",
    ]  # fmt: skip
    assert [curve["name"] for curve in found["curves"]] == [
        "agents", "tick rate, 10 times as many agents", "T of the counting system",
    ]  # fmt: skip
    assert all(math.isfinite(curve["exponent"]) for curve in found["curves"])
    rows = [(row["environment"], row["worlds"]) for row in found["environments"]]
    assert rows == [("relay", 1), ("relay", 3), ("switch", 1), ("switch", 3)]
    page, picture = (folder / "speed.md").read_text(), (folder / "curves.svg").read_text()
    out = capsys.readouterr().out
    for title in (
        "One step beside backpropagation", "A linear map of many agents", "Many agents",
        "Where the time goes", "An agent-tick by operation", "torch.compile", "Cost",
        "Environments",
    ):  # fmt: skip
        assert title in page
        assert title in out
    assert picture.count("<polyline") == 3


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["budget=paper"], "budget=paper: must be smoke or cpu"),
        (
            ["parts=steps"],
            "parts=steps: must be step or products or agents or compile or curves or environments",
        ),
        (["threads=0"], "threads=0: must be a whole number of at least 1"),
        (["bugdet=smoke"], "bugdet: there is no such key. Did you mean 'budget'?"),
    ],
)
def test_what_is_wrong_is_said(words, complaint, capsys):
    assert main(["bench", "speed", *words]) == 2
    assert complaint.split(".")[0] in capsys.readouterr().err


def test_ticks_are_compiled_once_for_all_numbers_of_agents(makes_no_code):
    """Under irregular clocks another number of agents is due at nearly every time."""
    crowd = Crowd(num_agents=20, num_worlds=3, width=4, message_size=4)
    rows = measure_compiled(Layers(20, 16, 4, 2, 8), crowd, [7, 3, 19, 2, 11, 5, 13, 8], 1)
    together, apart, *ticks = rows
    assert together.graphs == 1
    assert apart.graphs >= 2  # equal layers share theirs
    assert [row.graphs for row in ticks] == [1] * 8


@inductor.patch({"cpp.cxx": (None, "no-such-compiler")})
def test_without_a_compiler_the_rest_is_measured(tmp_path, capsys):
    words = ["bench", "speed", "budget=smoke", "--folder", str(tmp_path)]
    assert main([*words, "parts=step,compile"]) == 2
    complaint = "parts=compile: torch.compile finds no C++ compiler; install g++"
    assert complaint in capsys.readouterr().err
    assert main(words) == 0
    assert "without compile" in capsys.readouterr().out
    found = json.loads((tmp_path / "speed.json").read_text())
    assert found["compiled"] == []
    assert found["steps"]
    assert main(["bench", "mnist", "budget=smoke", "compile=true"]) == 2
    assert "compile=true: torch.compile finds no C++ compiler" in capsys.readouterr().err


def test_what_else_a_compiler_needs_is_asked_for_before_it_is_used(monkeypatch, tmp_path):
    """Python's headers on a CPU, Triton on a GPU: else the first compiled call is a traceback."""
    monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", lambda: "g++")
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    with pytest.raises(UserError, match=r"compile=true: .* finds no .*Python\.h; install"):
        check_compiler("compile=true")
    (tmp_path / "Python.h").touch()
    check_compiler("compile=true")
    monkeypatch.setattr("torch.utils._triton.has_triton", lambda: False)
    with pytest.raises(UserError, match=r"compile=true: .* finds no Triton"):
        check_compiler("compile=true", "cuda")


@pytest.mark.needs("networkx")
@pytest.mark.slow
def test_compiled_code_counts_as_well():
    try:
        check_compiler("this test")
    except UserError as error:
        pytest.skip(str(error))
    crowd = Crowd(num_agents=10, num_worlds=3, width=4, message_size=4)
    rows = measure_compiled(Layers(20, 16, 4, 2, 8), crowd, [7, 3, 5], 1)
    assert [row.graphs for row in rows[2:]] == [1] * 3
    torch.compiler.reset()


def test_floors_in_multiply_accumulates():
    """By hand: 784-256-256-256-256-10, an interface after every hidden layer."""
    layers = Layers()
    base = layers.work().macs
    per_example = 3 * (784 * 256 + 3 * 256 * 256 + 256 * 10) - 784 * 256
    assert base == 256 * per_example
    ratios = [
        (base + layers.added(sizes, inward).macs) / base
        for sizes, inward in (([256, 256], False), ([266, 256], False), ([256, 256, 256], False))
    ]
    assert [round(r, 2) for r in ratios] == [1.52, 1.55, 2.31]
    window = Boundary(inputs=1, width=1, length=2, batch=1)
    assert window.work().macs == 2 * 2 * 8 + 4  # two steps, one of which begins in a state
    assert window.added().macs == 4 + 2 * 4


@pytest.mark.parametrize("up", [1.0, 0.7])
def test_the_loop_does_what_the_simulator_does(up):
    """Everybody ticks at every time, from the same parameters: the same parameters after."""
    crowd = Crowd(num_agents=5, degree=2, up=up, num_worlds=6, width=5, message_size=4, rate=1.0,
                  horizon=8)  # fmt: skip
    simulation, loop = crowd.simulation(), Loop(crowd)
    (population,) = simulation.populations
    for row, member in enumerate(loop.members):
        member.agent.load_state_dict(population.agents.module(row).state_dict())
    engine = simulation.engine
    engine._begin(0, None)
    loop.world = copy.deepcopy(simulation.world)  # the same numbers, and the same links to come
    engine.play(0)
    for _ in range(crowd.horizon):
        loop.step()
    for row, member in enumerate(loop.members):
        own = population.agents.module(row).state_dict()
        for name, value in member.agent.state_dict().items():
            # the first synthetic gradients are next to zero, and Adam makes steps of their rounding
            if name.startswith("message"):
                continue
            torch.testing.assert_close(own[name], value, rtol=1e-3, atol=1e-5)
    slots = [slot for member in loop.members for slot in member.slots]
    for slot in slots:  # the episode ends: what is on its way, and then what lies there
        message, sent = slot.arriving
        for over in ((message, torch.zeros_like(message), sent),
                     (slot.message, slot.gradient, slot.there)):  # fmt: skip
            if over[2].any():
                slot.over = over
                loop._fit(slot)
    models = population.interface.utilities
    for row, slot in enumerate(slots):
        for own, value in zip(
            models.module(row).parameters(), slot.model.parameters(), strict=True
        ):
            torch.testing.assert_close(own, value, rtol=1e-2, atol=1e-4)


def test_one_agent_and_a_few_make_a_crowd():
    assert Crowd(num_agents=1).env().make(2, "train", torch.device("cpu")).edges == ()
    edges = Crowd(num_agents=3).env().make(2, "train", torch.device("cpu")).edges
    assert len(edges) == 6


def test_turns_and_exponents():
    calls = []
    steps = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    times = in_turns(steps, rounds=2, calls=3)
    assert "".join(calls) == "aaaabbbb" * 2
    assert [len(of) for of in times.values()] == [2, 2]
    assert ratio([2.0, 6.0, 12.0], [1.0, 2.0, 3.0]) == Spread(3, 2.5, 3.5)
    square = Curve("x", "y", [(x, 5 * x * x) for x in (1, 2, 4, 8)])
    assert square.exponent == pytest.approx(2)
    rates = Rates(10.0, {100: 4.0, 10_000: 2.0})
    assert rates.bandwidth(150) == 4
    assert rates.seconds(20, 8, 1e6) == pytest.approx(2 + 4)
