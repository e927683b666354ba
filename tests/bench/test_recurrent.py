"""The recurrent experiments: sequences, curriculum, text, methods, resuming, bad values."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dnicomm.bench import training
from dnicomm.bench.copying import Copying, Level, sequences, windows
from dnicomm.bench.language import Language
from dnicomm.bench.training import run
from dnicomm.errors import UserError
from dnicomm.runs import RunFolder

BPTT: dict[str, Any] = {
    "name": "bptt", "utility": "none", "context": "none", "hidden": [], "horizon": None,
    "lr": 1e-2, "gradient_scale": 0.1, "auxiliary": False, "returns": 0.0, "returns_windows": 2,
}  # fmt: skip
METHODS = {
    "bptt": BPTT,
    "dni": BPTT | {"utility": "gradient"},
    "dni_aux": BPTT | {"utility": "gradient", "auxiliary": True},
    "cdni": BPTT | {"utility": "gradient", "context": "hindsight", "hidden": [5], "horizon": 5},
    "critic": BPTT | {"utility": "critic", "hidden": [5]},
    "outcome": BPTT | {"utility": "outcome", "context": "hindsight", "horizon": 5},
    "auxiliary": BPTT | {"utility": "local_outcome", "context": "hindsight"},
    "lambda": BPTT | {"utility": "gradient", "returns": 0.8},
}
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _cost_is_measured_elsewhere(monkeypatch):
    monkeypatch.setattr(training, "measure", lambda fresh: {})


def copying(method=BPTT, **changed):
    keys = {
        "task": "repeat_copy", "window": 3, "width": 8, "batch": 4, "lr": 1e-2, "clip": 1.0,
        "autocast": False, "steps": 24, "seed": 0, "device": CPU,
    }  # fmt: skip
    return Copying(method=method, **keys | changed)


def language(method=BPTT, **changed):
    keys = {
        "text": "made_up", "window": 3, "width": 8, "batch": 4, "lr": 1e-2, "clip": 1.0,
        "autocast": False, "validation": None, "patience": None, "characters": 288, "seed": 0,
        "device": CPU,
    }  # fmt: skip
    return Language(method=method, **keys | changed)


# -- sequences ----------------------------------------------------------------------------


def test_repeat_copy_levels_are_the_papers():
    """Lengths 5, 7, 9, 12 … 67, and (R + 1)N + 3 each."""
    level, lengths = Level(1, 1), []
    for _ in range(14):
        lengths.append(level.length("repeat_copy"))
        level = level.harder("repeat_copy")
    assert lengths == [5, 7, 9, 12, 15, 19, 23, 28, 33, 39, 45, 52, 59, 67]
    assert Level(1, 1).harder("copy") == Level(2, 1)


@pytest.mark.parametrize("level", [Level(1, 1), Level(3, 2), Level(4, 4)])
@pytest.mark.parametrize("task", ["copy", "repeat_copy"])
def test_a_sequence_asks_for_what_it_showed(task, level):
    drawn = sequences(task, level, 6, np.random.default_rng(0), CPU)
    length = level.length(task)
    assert drawn.xs.shape[:2] == drawn.targets.shape == (length, 6)
    shown = drawn.xs[..., :2].sum(-1) == 1  # where a symbol is
    read = drawn.xs[..., :2].argmax(-1)
    times = 1 if task == "copy" else level.repeats
    for row in range(6):
        symbols = read[shown[:, row], row].tolist()
        assert len(symbols) == level.symbols
        asked = drawn.targets[:, row][drawn.targets[:, row] >= 0].tolist()
        assert asked == symbols * times + ([2] if task == "repeat_copy" else [])
    # nothing is asked before all was shown
    first = (drawn.targets[:, 0] >= 0).nonzero()[0].item()
    assert shown[:first].sum() == 6 * level.symbols


def test_windows_cover_a_sequence_once():
    for first in (1, 2, 3):
        steps = [t for begin, end in windows(10, 3, first) for t in range(begin, end)]
        assert steps == list(range(10))
        assert all(end - begin <= 3 for begin, end in windows(10, 3, first))


def test_the_curriculum_goes_on_under_the_goal_and_not_before():
    experiment = copying()
    for _ in range(19):
        experiment._note(0.1)
    assert experiment.level == Level(1, 1)
    assert experiment.longest == 0
    experiment._note(0.1)
    assert experiment.level == Level(2, 1)
    assert experiment.longest == 5
    for _ in range(40):
        experiment._note(0.16)
    assert experiment.level == Level(2, 1)


# -- methods ------------------------------------------------------------------------------


@every_method
@pytest.mark.parametrize("make", [copying, language])
def test_everything_moves_and_every_update_is_one_step(make, method):
    experiment = make(method)
    before = {name: p.detach().clone() for name, p in experiment.moving().items()}
    while experiment.updates < 24:
        experiment.step()
    for name, now in experiment.moving().items():
        assert not torch.equal(now.detach(), before[name]), name
    metrics = experiment.evaluate()
    assert all(math.isfinite(value) for value in metrics.values())
    assert ("cosine" in metrics) == (method["utility"] != "none")
    interface = experiment.learner.interface
    if interface is not None:
        assert interface.utilities.updates.item() > 0


@every_method
def test_the_first_window_is_truncated_backpropagation(method):
    """A utility model says zero at its start (the auxiliary task aside)."""
    if method["auxiliary"]:
        method = method | {"auxiliary": False}
    plain, other = language(), language(method)
    for experiment in (plain, other):
        experiment.step()
    for (name, a), (_, b) in zip(
        plain.learner.modules.named_parameters(),
        other.learner.modules.named_parameters(),
        strict=True,
    ):
        assert torch.equal(a, b), name


@every_method
@pytest.mark.parametrize("make", [copying, language])
def test_a_resumed_run_is_the_undisturbed_one(make, method, tmp_path):
    undisturbed = make(method)
    history = RunFolder.create(tmp_path / "a", {})
    every = 8 if make is copying else 96
    run(undisturbed, lambda: make(method), every, history)
    stopped = make(method)
    other = RunFolder.create(tmp_path / "b", {})
    for _ in range(2):
        goal = stopped.updates + 8
        while stopped.updates < goal:
            stopped.step()
        other.append_metrics(
            {"time": stopped.updates, "seconds": 0.0, "metrics": stopped.evaluate()}
        )
    other.save_checkpoint(stopped.updates, stopped.tensors(), stopped.facts())
    stopped.step()  # lost
    kept = other.latest_checkpoint()
    resumed = make(method)
    resumed.restore(kept.tensors, kept.facts)
    run(resumed, lambda: make(method), every, other)
    want, got = history.metrics(), other.metrics()
    if make is language:  # evaluations at the same updates
        assert [r["metrics"] for r in want] == [r["metrics"] for r in got]
    for (name, a), (_, b) in zip(
        undisturbed.learner.modules.named_parameters(),
        resumed.learner.modules.named_parameters(),
        strict=True,
    ):
        assert torch.equal(a, b), name


@every_method
def test_bfloat16_computes_the_same_to_its_precision(method):
    """Losses of the first updates agree to 2 %; bfloat16 has 8 bits."""
    plain, cast = language(method), language(method, autocast=True)
    for experiment in (plain, cast):
        while experiment.updates < 6:
            experiment.step()
    want, got = torch.stack(plain._losses), torch.stack(cast._losses)
    assert not torch.equal(want, got)
    torch.testing.assert_close(got, want, rtol=0.02, atol=0)


def test_hindsight_is_the_labels_of_the_steps_that_follow():
    learner = copying(METHODS["outcome"]).learner  # W = 5
    future = torch.tensor([[2, 0], [-1, 1]])  # [F, B]: the sequence ends after two steps
    context = learner._context(future).view(2, 5, 3)
    assert context[0].argmax(-1)[0] == 2
    assert context[0, 1].sum() == 0  # nothing asked
    assert context[1, :2].argmax(-1).tolist() == [0, 1]
    assert context[:, 2:].sum() == 0


def test_foresight_is_against_the_true_gradient():
    """A utility model that says the truth has cosine 1, its opposite -1."""
    experiment = copying(METHODS["dni"])
    learner = experiment.learner
    drawn = sequences("copy", Level(3, 1), 5, np.random.default_rng(0), CPU)
    xs = torch.zeros(7, 5, 4)
    xs[:] = drawn.xs
    state = torch.zeros(5, learner.core.state_size)
    _, state = learner.core(xs[:3], state)
    state = state.detach().requires_grad_()
    outputs, _ = learner.core(xs[3:], state)
    loss = F.cross_entropy(
        learner.head(outputs).flatten(0, 1), drawn.targets[3:].flatten(),
        ignore_index=-1, reduction="sum",
    )  # fmt: skip
    (truth,) = torch.autograd.grad(loss, state)
    for sign in (1.0, -1.0):
        learner.interface.estimate = lambda m, c, sign=sign: type("E", (), {
            "gradient": sign * 2 * truth[None]})()  # fmt: skip
        seen = learner.foresight(xs, drawn.targets, [3])
        assert seen["cosine"] == pytest.approx(sign, abs=1e-5)
        assert seen["norm_ratio"] == pytest.approx(2.0, rel=1e-4)


# -- language -----------------------------------------------------------------------------


def test_language_reads_every_window_after_the_one_before():
    experiment = language(window=5)
    seen = []
    learn = experiment.learner.learn
    experiment.learner.learn = lambda xs, targets, future, last: (
        seen.append((xs.argmax(-1), targets, future)),
        learn(xs, targets, future, last),
    )[1]
    for _ in range(4):
        experiment.step()
    for number, (xs, targets, future) in enumerate(seen):
        at = 5 * number
        assert torch.equal(xs, experiment.rows[at : at + 5])
        assert torch.equal(targets, experiment.rows[at + 1 : at + 6])
        assert torch.equal(future, experiment.rows[at + 6 : at + 11])


def test_bits_of_a_net_that_knows_nothing_are_those_of_the_alphabet():
    experiment = language()
    with torch.no_grad():
        for parameter in experiment.learner.head.parameters():
            parameter.zero_()
    assert experiment._bits(experiment.text.valid) == pytest.approx(3.0, abs=1e-5)  # 8 letters


def test_training_stops_when_validation_no_longer_falls_and_the_best_is_tested():
    experiment = language(patience=2, lr=1e-9, characters=2880)
    with torch.no_grad():
        for parameter in experiment.learner.head.parameters():
            parameter.zero_()
    experiment.evaluate()
    bits = experiment.best
    with torch.no_grad():  # worse from here on
        experiment.learner.head.bias.copy_(torch.linspace(-3, 3, 8))
    summary = run(experiment, lambda: language(), every=96)
    assert experiment.stopped
    assert experiment.updates < experiment.steps
    assert summary["metrics"]["test_bits"] == pytest.approx(3.0, abs=1e-5)
    assert summary["metrics"]["valid_bits"] > bits


# -- bad values ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"window": 0}, "window=0.*at least 1"),
        ({"window": 6}, "window=6.*5 steps"),
        ({"task": "copi"}, "copi.*copy"),
        ({"lr": 0.0}, "lr=0.*above 0"),
        ({"clip": -1}, "clip=-1"),
        ({"batch": 1.5}, "batch=1.5.*whole"),
    ],
)
def test_bad_values_of_copying(changed, words):
    with pytest.raises(UserError, match=words):
        copying(**changed)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"window": 5000}, "window=5000.*characters"),
        ({"text": "wiki"}, "wiki.*ptb"),
        ({"patience": 0}, "patience=0"),
        ({"characters": 0}, "characters=0"),
    ],
)
def test_bad_values_of_language(changed, words):
    with pytest.raises(UserError, match=words):
        language(**changed)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"utility": "gradent"}, "gradent.*gradient"),
        ({"utility": "outcome"}, "hindsight"),
        ({"context": "label"}, "label.*hindsight"),
        ({"hidden": [0]}, "method.hidden"),
        ({"returns": 2.0, "utility": "gradient"}, "method.returns=2"),
        ({"returns": 0.5, "utility": "critic"}, "only utility=gradient"),
        ({"auxiliary": True}, "need a utility"),
        ({"horizon": 0, "utility": "gradient"}, "method.horizon=0"),
        ({"hiden": []}, "method.hiden.*hidden"),
    ],
)
def test_bad_values_of_a_method(changed, words):
    with pytest.raises(UserError, match=words):
        copying(BPTT | changed)
