from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from dnicomm.bench.training import run
from dnicomm.bench.two_networks import TwoNetworks, milestones
from dnicomm.errors import UserError
from dnicomm.runs import RunFolder

CONFIGS = Path(__file__).parents[2] / "configs/bench/two_networks"
METHODS = sorted(path.stem for path in (CONFIGS / "method").glob("*.yaml"))
OF_THE_COMMAND = {"defaults", "hydra", "_target_", "eval"}
each_method = pytest.mark.parametrize("method", METHODS)


def read(name):
    return OmegaConf.to_container(OmegaConf.load(CONFIGS / f"{name}.yaml"))


def settings(method="dni", **changes):
    """Keys of the smoke budget, with a method's own in ``method``."""
    keys = read("two_networks") | read("budget/smoke")
    keys = {key: value for key, value in keys.items() if key not in OF_THE_COMMAND}
    own = read(f"method/{method}") | changes.pop("of_method", {})
    rest = {"method": own, "lr": 8e-3, "seed": 0, "device": torch.device("cpu")}
    return keys | rest | changes


def pair(method="dni", **changes):
    return TwoNetworks(**settings(method, **changes))


def updates(experiment):
    a, b = experiment.simulation.populations
    return a.agents.updates.item(), b.agents.updates.item()


def parameters(experiment):
    return [p.agents.parameters.clone() for p in experiment.simulation.populations]


# -- what a step is ----------------------------------------------------------------------------


@each_method
def test_locked_networks_update_together_and_decoupled_ones_at_their_own_times(method):
    experiment = pair(method, block=3)
    for _ in range(2):
        experiment.step()
    locked = method in ("locked", "locked_scaled")
    assert updates(experiment) == ((2, 2) if locked else (6, 2))
    assert experiment.updates == 2
    assert experiment.samples == 2 * 9 * experiment.num_worlds


def test_samples_are_the_digits_shown_where_blocks_are_irregular():
    experiment = pair(irregular=True)
    shown = 0
    for _ in range(4):
        experiment.step()
        shown += experiment.simulation.world.index.numel()
        assert experiment.samples == shown
    assert shown != 4 * 16 * experiment.num_worlds  # else it would show nothing


def test_the_first_block_is_learnt_as_without_feedback_and_later_ones_are_not():
    """The utility model starts at zero, and is first fitted when the first episode ends."""
    alone, decoupled = pair("none"), pair("dni")
    alone.step()
    decoupled.step()
    for without, with_it in zip(parameters(alone), parameters(decoupled), strict=True):
        assert torch.equal(without, with_it)
    alone.step()
    decoupled.step()
    assert not torch.equal(parameters(alone)[0], parameters(decoupled)[0])


def test_the_scale_of_the_gradient_reaches_a_and_not_what_is_learnt_of_b():
    without = pair("dni", gradient_scale=0.0)
    alone = pair("none")
    for _ in range(3):
        without.step()
        alone.step()
    for a, b in zip(parameters(without), parameters(alone), strict=True):
        assert torch.equal(a, b)
    assert without.evaluate()["norm_ratio"] > 0


def test_the_scaled_true_gradient_reaches_a_alone():
    plain, same = pair("locked"), pair("locked_scaled", gradient_scale=1)
    more = pair("locked_scaled", gradient_scale=10)
    for experiment in (plain, same, more):
        experiment.step()
    for a, b in zip(parameters(plain), parameters(same), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(parameters(plain)[1], parameters(more)[1])  # B's own first step
    assert not torch.equal(parameters(plain)[0], parameters(more)[0])


def test_a_rate_that_falls_is_zero_at_the_end():
    steady, falling = pair(steps=3), pair(steps=3, decay=True)
    for experiment in (steady, falling):
        experiment.step()
    for a, b in zip(parameters(steady), parameters(falling), strict=True):
        assert torch.equal(a[:, :0], b[:, :0])
    falling.updates = falling.steps  # as if it were over
    before = parameters(falling)
    falling.step()
    for a, b in zip(before, parameters(falling), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("method", "size"), [("local", 17), ("local_block", 5)])
def test_the_control_learns_from_its_own_label(method, size):
    (_, receiver) = pair(method).simulation.populations
    model = receiver.interface.utilities.template
    assert model.num_classes == model.context_size == size
    assert receiver.context == ("count" if method == "local" else "block_threes",)


# -- what moves --------------------------------------------------------------------------------


@each_method
def test_what_should_move_moves_and_what_nobody_hears_stays(method):
    experiment = pair(method)
    before = {name: value.clone() for name, value in experiment.moving().items()}
    start = parameters(experiment)
    for _ in range(3):
        experiment.step()
    for name, value in experiment.moving().items():
        assert not torch.equal(before[name], value), f"{name} stayed"
    changed = sum((a != b).sum().item() for a, b in zip(start, parameters(experiment), strict=True))
    listed = [n for n in before if not n.startswith("utility.")]
    moved = sum((before[n] != experiment.moving()[n]).sum().item() for n in listed)
    assert changed == moved  # nothing else of the two networks


def test_moving_names_the_message_head_of_a_only_where_it_hears_of_b():
    assert "a_0.message.weight" in pair("dni").moving()
    assert "a_0.message.weight" in pair("locked").moving()
    assert "a_0.message.weight" not in pair("none").moving()
    assert "b_0.message.weight" not in pair("dni").moving()


# -- figures -----------------------------------------------------------------------------------


def record(samples, b, a):
    return {"samples": samples, "metrics": {"accuracy": b, "accuracy_a": a}}


def test_milestones():
    history = [
        record(10, 0.5, 0.6),
        record(20, 0.92, 0.7),
        record(30, 0.80, 0.935),
        record(40, 0.95, 0.945),
        record(50, 0.96, 0.94),
    ]
    assert milestones(history) == {
        "samples_to_80": 20.0,
        "samples_to_80_held": 40.0,
        "samples_to_90": 20.0,
        "samples_to_90_held": 50.0,  # 0.92 + 0.80 + 0.95 is not enough, 0.80 + 0.95 + 0.96 is
        "samples_a_final": 30.0,  # the mean of the last three is 0.94
        "accuracy_held": pytest.approx((0.80 + 0.95 + 0.96) / 3),
        "accuracy_a_held": pytest.approx(0.94),
    }


def test_milestones_that_were_not_reached_are_left_out():
    found = milestones([record(10, 0.5, 0.6), record(20, 0.6, 0.7)])
    assert set(found) == {"samples_a_final", "accuracy_held", "accuracy_a_held"}
    assert found["samples_a_final"] == 20.0


@pytest.mark.parametrize(
    "method",
    [pytest.param(m, marks=() if m in ("dni", "locked") else pytest.mark.slow) for m in METHODS],
)
def test_a_run_from_its_folder(method, tmp_path):
    folder = RunFolder.create(tmp_path / "run", {"seed": 0})
    summary = run(pair(method, steps=4), lambda: pair(method), 2, folder)
    history = folder.metrics()
    assert [r["time"] for r in history] == [2, 4]
    assert [r["samples"] for r in history] == [2 * 256, 4 * 256]
    assert summary["sample"] == "digits"
    assert summary["metrics"]["samples_a_final"] in (2 * 256, 4 * 256)
    for r in history:
        figures = r["metrics"]
        assert 0 <= figures["accuracy"] <= 1
        assert 0 <= figures["accuracy_a"] <= 1
        assert figures["train_loss"] > 0
        assert ("cosine" in figures) == (method not in ("locked", "locked_scaled", "none"))
    assert summary["cost"]["backprop_ms"] > 0


def test_the_baseline_is_the_locked_pair_at_the_same_start():
    experiment = pair("dni", width=8, dataset="digits")
    before = parameters(experiment)
    baseline = experiment.baseline()
    for a, b in zip(before, parameters(baseline), strict=True):
        assert torch.equal(a, b)
    baseline.step()
    assert updates(baseline) == (1, 1)


# -- resume ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["dni", "dni_adam", "critic", "locked"])
def test_a_resumed_run_equals_the_one_that_was_never_stopped(method):
    changes = {"irregular": True, "decay": True}
    whole, first, second = (pair(method, **changes) for _ in range(3))
    for experiment in (whole, first):
        for _ in range(2):
            experiment.step()
        experiment.evaluate()  # a checkpoint is taken after an evaluation
    for _ in range(2):
        whole.step()
    kept = {name: value.clone() for name, value in first.tensors().items()}
    second.restore(kept, first.facts())
    for _ in range(2):
        second.step()
    assert second.facts() == whole.facts()
    for name, value in whole.tensors().items():
        assert torch.equal(value, second.tensors()[name]), name
    assert second.evaluate() == whole.evaluate()


def test_a_checkpoint_of_another_setting_is_refused():
    other = pair(width=8)
    with pytest.raises(UserError, match="does not fit"):
        pair().restore(other.tensors(), other.facts())


# -- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"block": 0}, "block=0"),
        ({"blocks": 0}, "blocks=0"),
        ({"irregular": 1}, "irregular=1"),
        ({"dataset": "letters"}, "dataset=letters"),
        ({"noise": -0.1}, "noise=-0.1"),
        ({"width": 0}, "width=0"),
        ({"message_size": 0}, "message_size=0"),
        ({"normalise": "yes"}, "normalise=yes"),
        ({"gradient_scale": float("inf")}, "gradient_scale=inf"),
        ({"method": "locked_scaled", "gradient_scale": 0}, "gradient_scale=0"),
        ({"num_worlds": 0}, "num_worlds=0"),
        ({"lr": 0}, "lr=0"),
        ({"decay": None}, "decay=None"),
        ({"steps": 0}, "steps=0"),
        ({"eval_episodes": 0}, "eval_episodes=0"),
        ({"seed": -1}, "seed=-1"),
        ({"of_method": {"feedback": "late"}}, "method.feedback=late"),
        ({"of_method": {"utility": "oracle"}}, "method.utility=oracle"),
        ({"of_method": {"utility": "none"}}, "method.context"),
        ({"method": "none", "of_method": {"feedback": "synthetic"}}, "needs a utility model"),
        ({"method": "dni", "of_method": {"memory": 0.5}}, "method.memory=0.5"),
        ({"method": "dni", "of_method": {"ridge": 0}}, "method.ridge=0"),
        ({"method": "dni", "of_method": {"hidden": []}}, "method.hidden"),
        ({"method": "dni", "of_method": {"label": "count"}}, "method.label"),
        ({"method": "local", "of_method": {"label": "fours"}}, "'fours'"),
        ({"of_method": {"context": ["fours"]}}, "'fours'"),
        ({"of_method": {"context": "threes"}}, "method.context=threes"),
        ({"of_method": {"hidden": [0]}}, r"method.hidden=\[0\]"),
        ({"of_method": {"lr": -1}}, "method.lr=-1"),
        ({"of_method": {"gain": 1}}, "method.gain"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_bad_values_are_named(changes, complaint):
    with pytest.raises(UserError, match=complaint):
        pair(**{"method": "dni_adam"} | changes)


def test_a_method_without_a_key_is_refused():
    keys = settings("dni_adam")
    del keys["method"]["hidden"]
    with pytest.raises(UserError, match=r"method\.hidden has to be given"):
        TwoNetworks(**keys)


# -- what it is for ----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dni", "locked"])
def test_b_counts_threes_with_feedback_and_not_without(method):
    changes = {"num_worlds": 128, "width": 32, "message_size": 16, "steps": 150, "block": 2}
    found = {}
    for name in (method, "none"):
        experiment = pair(name, **changes)
        while experiment.updates < experiment.steps:
            experiment.step()
        found[name] = experiment.evaluate()
    assert found[method]["accuracy"] > found["none"]["accuracy"] + 0.1
    assert found["none"]["accuracy_a"] > 0.8
