"""The feed-forward experiments: their nets, their data, their methods, and going on."""

import functools

import pytest
import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from torch import nn

from dnicomm.bench.compiling import check_compiler
from dnicomm.bench.feedforward import Classification
from dnicomm.bench.feedforward_probe import compare, true_gradients
from dnicomm.bench.networks import cnn, fcn, message_shapes
from dnicomm.core import DecoupledSequential, Estimate, Interface, UtilityModel
from dnicomm.data import load_digits
from dnicomm.errors import UserError

METHODS = ("none", "backprop", "dni", "cdni", "critic", "sobolev", "local")
DECOUPLED = METHODS[2:]


def keys_of(name="mnist", *overrides):
    with initialize_config_module(f"dnicomm.configs.bench.{name}", version_base=None):
        composed = compose(name, overrides=["budget=smoke", *overrides])
    keys = OmegaConf.to_container(composed, resolve=True)
    for foreign in ("_target_", "eval", "threads", "device", "logger"):
        del keys[foreign]
    return keys


def experiment(name="mnist", *overrides, device="cpu"):
    return Classification(**keys_of(name, *overrides), device=torch.device(device))


def train(trained, updates):
    for _ in range(updates):
        trained.step()
    return trained


# -- nets -------------------------------------------------------------------------------------


def test_the_nets_have_the_papers_layers():
    net = fcn(784, 10, layers=3, width=256)
    assert [type(m).__name__ for m in net[0]] == ["Linear", "BatchNorm1d", "ReLU"]
    assert len(net) == 4  # the head is not counted
    assert nn.Sequential(*net)(torch.rand(2, 784)).shape == (2, 10)

    net = cnn((3, 32, 32), 10, layers=4, width=6)
    kinds = [[type(m).__name__ for m in layer] for layer in net]
    assert kinds[0] == ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d"]
    assert kinds[1] == ["Conv2d", "BatchNorm2d", "ReLU", "AvgPool2d"]
    assert kinds[-1] == ["Flatten", "Linear"]
    assert net[0][0].kernel_size == (5, 5)
    shapes = message_shapes(net, torch.rand(2, 3, 32, 32))
    assert shapes == [(6, 16, 16), (6, 8, 8), (6, 4, 4), (6, 2, 2)]
    assert nn.Sequential(*net)(torch.rand(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("side", [1, 2, 3, 8, 28])
def test_no_map_vanishes(side):
    net = cnn((1, side, side), 10, layers=6, width=4)
    assert nn.Sequential(*net)(torch.rand(2, 1, side, side)).shape == (2, 10)


# -- methods ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_losses_fall_and_what_should_move_moves(name, method):
    trained = experiment(name, f"method={method}")
    before = {name: value.detach().clone() for name, value in trained.moving().items()}
    first = trained.evaluate()["loss"]
    train(trained, 40)
    found = trained.evaluate()
    assert found["loss"] < first
    assert found["error"] == pytest.approx(100 - found["accuracy"])
    still = [n for n, value in trained.moving().items() if torch.equal(value, before[n])]
    assert not still
    assert ("cosine" in found) == (method in DECOUPLED)
    assert (trained.updates, trained.samples) == (40, 40 * 64)


def test_methods_begin_with_the_same_net():
    nets = [experiment("mnist", f"method={m}").net.state_dict() for m in METHODS]
    for other in nets[1:]:
        for a, b in zip(nets[0].values(), other.values(), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
@pytest.mark.parametrize("method", DECOUPLED)
def test_the_first_update_equals_random_features(name, method):
    """Every utility model begins at zero, so that its first word is no noise."""
    silent = train(experiment(name, "method=none"), 1).net.state_dict()
    found = train(experiment(name, f"method={method}"), 1).net.state_dict()
    for a, b in zip(silent.values(), found.values(), strict=True):
        assert torch.equal(a, b)


def test_with_none_only_the_head_learns():
    trained = experiment("mnist", "method=none")
    before = [p.clone() for p in trained.net.parameters()]
    train(trained, 3)
    moved = [not torch.equal(a, b) for a, b in zip(trained.net.parameters(), before, strict=True)]
    assert moved == [False] * (len(moved) - 2) + [True, True]
    assert set(trained.moving()) == {"layer.4.0.weight", "layer.4.0.bias"}


def test_a_mixing_of_one_is_backprop():
    plain = train(experiment("mnist", "method=backprop"), 5)
    mixed = train(experiment("mnist", "method=cdni", "mixing=1"), 5)
    pairs = zip(plain.net.state_dict().values(), mixed.net.state_dict().values(), strict=True)
    for a, b in pairs:
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_interfaces_at_some_positions_leave_backprop_between_them():
    trained = experiment("mnist", "layers=4", "interfaces=[2]")
    assert len(trained.net.interfaces) == 1
    assert [len(layer) for layer in trained.net.layers] == [2, 3]
    assert set(trained.evaluate()) >= {"cosine", "cosine_1"}


def test_layers_learn_with_their_probability_in_random_order():
    trained = experiment("mnist", "update_probability=0.4")
    turns = []
    for update in range(400):
        trained.updates = update
        turns.append(trained._turns())
    assert sum(map(len, turns)) / (400 * 4) == pytest.approx(0.4, abs=0.05)
    assert any(turn != sorted(turn) for turn in turns)
    trained.updates = 7
    assert trained._turns() == turns[7]  # of (seed, update) alone


def test_rates_fall():
    trained = train(experiment("mnist", "steps=10", "decay=[0.5]"), 6)
    for optimizer in trained.net.optimizers:
        assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-4)
    assert {one.progress for one in trained.net.interfaces} == {0.5}


# -- data -------------------------------------------------------------------------------------


def test_an_epoch_shows_no_image_twice():
    trained = experiment("mnist")
    total = len(trained.images.train_labels)
    batches = []
    for update in range(2 * (total // 64)):
        trained.updates = update
        batches.append(trained._numbers())
    first, second = (torch.cat(half) for half in (batches[: total // 64], batches[total // 64 :]))
    assert len(first.unique()) == len(first) == len(second.unique())
    assert not torch.equal(first, second)
    trained.updates = 3
    assert torch.equal(trained._numbers(), batches[3])


def test_settings_are_chosen_on_training_images_held_out():
    trained = experiment("mnist", "validation=100")
    held = load_digits().held_out(100)
    assert torch.equal(trained.images.test_images, held.test_images.flatten(1))
    assert torch.equal(trained.images.train_images, held.train_images.flatten(1))


# -- the probe --------------------------------------------------------------------------------


def test_the_probe_finds_true_gradients_and_leaves_no_trace():
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Tanh()), nn.Linear(3, 2)]
    net = DecoupledSequential(layers, [None])
    x, y = torch.randn(6, 4), torch.randint(2, (6,))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    messages, gradients = true_gradients(
        net, x, lambda out: F.cross_entropy(out, y, reduction="none")
    )
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(p.grad is None for p in net.parameters())
    message = layers[0](x).detach().requires_grad_()
    assert torch.equal(messages[0], message)
    for i in range(6):  # each example's own gradient, not that of the mean
        (want,) = torch.autograd.grad(
            F.cross_entropy(layers[1](message[i : i + 1]), y[i : i + 1]), message
        )
        torch.testing.assert_close(gradients[0][i], want[i])


@pytest.mark.parametrize(
    ("factor", "scale", "want"), [(1, 1, (1, 0, 1)), (-1, 1, (-1, 2, 1)), (1, 3, (1, 2, 3))]
)
def test_comparisons_are_of_what_is_injected(factor, scale, want):
    true = torch.randn(6, 3)

    class Saying(UtilityModel):
        def __init__(self):
            super().__init__(3)
            self.unused = nn.Parameter(torch.zeros(1))

        def forward(self, message, context):
            return Estimate(factor * true, message.new_zeros(len(message)))

    found = compare(
        [None, Interface(Saying(), gradient_scale=scale)],
        [torch.zeros(6, 3), torch.zeros(6, 3)],
        [true, true],
        torch.zeros(6, 10),
    )
    names = ("cosine", "relative_error", "norm_ratio")
    assert [found[n] for n in names] == pytest.approx(want)
    assert [found[f"{n}_1"] for n in names] == pytest.approx(want)


def test_an_evaluation_changes_nothing_that_learns():
    one, other = experiment("cifar10"), experiment("cifar10")
    train(one, 2).evaluate()
    train(one, 2)
    train(other, 4)
    for a, b in zip(one.tensors().values(), other.tensors().values(), strict=True):
        assert torch.equal(a, b)


# -- going on ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "overrides",
    [
        ("mnist", "method=sobolev", "decay=true"),
        ("mnist", "unlock=full"),
        ("mnist", "update_probability=0.3"),
        ("mnist", "method=backprop"),
        ("cifar10", "method=cdni", "returns=0.5"),
    ],
)
def test_a_resumed_run_equals_the_run_that_was_never_stopped(overrides):
    whole = train(experiment(*overrides), 5)
    whole.evaluate()
    kept = {name: value.detach().clone() for name, value in whole.tensors().items()}
    facts = whole.facts()
    train(whole, 25)
    resumed = experiment(*overrides)
    resumed.restore(kept, facts)
    train(resumed, 25)
    assert resumed.evaluate() == whole.evaluate()
    found, want = resumed.tensors(), whole.tensors()
    assert found.keys() == want.keys()
    for name, value in want.items():
        assert torch.equal(found[name], value), name


def test_a_checkpoint_of_another_setting_is_refused():
    kept = experiment("mnist").tensors()
    with pytest.raises(UserError, match="does not fit"):
        experiment("mnist", "width=16").restore(kept, experiment("mnist").facts())


def test_the_baseline_is_backprop_of_the_same_net():
    own = experiment("mnist", "update_probability=0.5", "layers=2")
    baseline = own.baseline()
    assert baseline.method.name == "backprop"
    assert not baseline.net.interfaces
    for a, b in zip(own.net.parameters(), baseline.net.parameters(), strict=True):
        assert torch.equal(a, b)


# -- options ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["cdni", "critic", "backprop"])
@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_autocast_stays_near_single_precision(name, method):
    """bfloat16 keeps 8 bits: after ten updates losses agree to 3 %."""
    plain = train(experiment(name, f"method={method}"), 10).evaluate()
    cast = train(experiment(name, f"method={method}", "autocast=true"), 10).evaluate()
    assert cast["train_loss"] == pytest.approx(plain["train_loss"], rel=0.03)
    assert cast["train_loss"] != plain["train_loss"]


@pytest.mark.needs("networkx")  # torch.compile imports it
@pytest.mark.slow
def test_compiled_layers_compute_the_same():
    try:
        check_compiler("this test")
    except UserError as error:
        pytest.skip(str(error))
    plain = train(experiment("mnist"), 5).evaluate()
    compiled = train(experiment("mnist", "compile=true"), 5)
    found = compiled.evaluate()
    assert found["train_loss"] == pytest.approx(plain["train_loss"], rel=1e-4)
    assert found["loss"] == pytest.approx(plain["loss"], rel=1e-3)


@pytest.mark.parametrize(
    "overrides",
    [[], ["update_probability=0.3"], ["update_probability=0.3", "layers=6"]],
    ids=["regular", "random", "more layers"],
)
@pytest.mark.needs("networkx")
def test_compiled_layers_are_compiled_once(overrides, monkeypatch):
    """Which layers learn, and when, changes at each batch: no code is made anew for it."""
    from torch._dynamo.testing import CompileCounter

    counter = CompileCounter()  # a compiler that makes no code, and counts
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=counter))
    monkeypatch.setattr("dnicomm.bench.feedforward.check_compiler", lambda *asked: None)
    torch._dynamo.reset()
    for _ in range(2):  # a sweep
        own = experiment("mnist", "compile=true", *overrides)
        before, graphs = counter.frame_count, []
        for _ in range(2):
            train(own, 40)
            own.evaluate()
            graphs.append(counter.frame_count - before)
        assert graphs[1] == graphs[0]
        # a layer learns or only runs, on a leaf or on data, and is tested
        assert len(own.net.layers) <= graphs[0] <= 5 * len(own.net.layers)
    refused = " ".join(torch._dynamo.utils.counters["unimplemented"])
    assert "limit" not in refused


def test_it_trains_on_any_device(device):
    for overrides in (("mnist",), ("cifar10", "method=critic"), ("mnist", "unlock=full")):
        trained = train(experiment(*overrides, device=device), 20)
        assert {value.device.type for value in trained.moving().values()} == {device.type}
        first = train(experiment(*overrides, device=device), 1).evaluate()["train_loss"]
        assert trained.evaluate()["train_loss"] < first


# -- presets ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
@pytest.mark.parametrize("budget", ["cpu", "paper"])
def test_presets_are_whole(name, budget, monkeypatch):
    monkeypatch.setattr("dnicomm.bench.feedforward.load_images", lambda _: load_digits())
    from dnicomm.bench import feedforward

    feedforward._images.cache_clear()
    try:
        for method in METHODS:
            built = experiment(name, f"budget={budget}", f"method={method}")
            assert built.steps == {"mnist": 1500, "cifar10": 4000}[name] or budget == "paper"
            assert built.lr == (1e-3 if budget == "cpu" else 3e-5)
    finally:
        feedforward._images.cache_clear()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("dataset=mnits", "Did you mean 'mnist'"),
        ("model=rnn", "cnn, fcn"),
        ("layers=0", "layers=0"),
        ("width=0", "width=0"),
        ("batch=1", "batch=1"),
        ("batch=2000", "1437 images"),
        ("steps=0", "steps=0"),
        ("lr=0", "lr=0"),
        ("decay=[2]", "decay=2"),
        ("decay=steps", "decay=steps"),
        ("interfaces=[]", "1 to 3"),
        ("interfaces=[4]", "1 to 3"),
        ("interfaces=[2,1]", "rising"),
        ("interfaces=some", "must be all"),
        ("unlock=none", "full, update"),
        ("update_probability=0", "update_probability=0"),
        ("mixing=2", "mixing=2"),
        ("validation=0", "validation=0"),
        ("validation=5000", "hold out"),
        ("autocast=1", "autocast=1"),
        ("seed=-1", "seed=-1"),
        ("+method.dropout=1", "method.dropout"),
        ("~method.lr", "method.lr has to be given"),
        ("method.lr=-1", "method.lr=-1"),
        ("method.hidden=[0]", "method.hidden"),
        ("method.kernel_size=4", "odd"),
        ("method.utility=gradients", "Did you mean 'gradient'"),
        ("method.context=future", "label, none"),
        ("method.sobolev=1", "only a critic"),
    ],
)
def test_bad_values_are_refused_in_one_line(override, message):
    with pytest.raises(UserError) as caught:
        experiment("mnist", override)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("mixing=0.5", "returns=0.5"), "only one"),
        (("mixing=0.5", "update_probability=0.5"), "update_probability=1"),
        (("returns=0.5", "unlock=full"), "unlock=update"),
        (("method=backprop", "update_probability=0.5"), "no interfaces"),
        (("method=none", "mixing=0.5"), "no synthetic gradients"),
        (("method=none", "unlock=full"), "no interfaces"),
        (("unlock=full", "model=cnn"), "model=fcn"),
        (("method=local", "method.context=none"), "needs the label"),
        (("unlock=full", "inputs.lr=0"), "inputs.lr=0"),
    ],
)
def test_values_that_do_not_go_together_are_refused(overrides, message):
    with pytest.raises(UserError, match=message):
        experiment("mnist", *overrides)
