"""Frozen parameters, rates of their own and buffers: as in an ordinary module under torch.optim."""

import copy
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

from dnicomm.core import (
    SGD,
    Adam,
    CriticUtility,
    DecoupledRNN,
    DecoupledSequential,
    GradientUtility,
    Interface,
    LSTMCore,
    Population,
)
from dnicomm.core.closed_form import closed_form
from dnicomm.core.least_squares import LeastSquares, LeastSquaresUtility

OPTIMIZERS = [Adam(1e-2), Adam(1e-2, clip=0.05), SGD(0.1), SGD(0.1, momentum=0.9), SGD(0.1, clip=1)]


@dataclass(frozen=True)
class Decaying:
    """Adam with decoupled weight decay: a user's own optimiser."""

    lr: float = 0.01
    clip: float | None = None

    def init(self, parameters):
        return Adam(self.lr).init(parameters)

    def step(self, parameters, gradient, slots, live, progress=0.0):
        shrunk = parameters - live * self.lr * 0.1 * parameters
        return Adam(self.lr).step(shrunk, gradient, slots, live, progress)


class Net(nn.Module):
    """An encoder at rest, of tied and other parts, before what learns; the order is mixed."""

    def __init__(self, frozen=("encoder", "scale")):
        super().__init__()
        self.first = nn.Linear(5, 4)
        self.encoder = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
        self.encoder[2].weight = self.encoder[0].weight
        self.norm = nn.BatchNorm1d(4)
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.gate = nn.Parameter(torch.tensor(0.5))
        self.last = nn.Linear(4, 3)
        self.register_buffer("calls", torch.tensor(0))
        for name in frozen:
            part = getattr(self, name)
            part.requires_grad_(False)

    def forward(self, x):
        self.calls += 1
        h = self.norm(torch.tanh(self.encoder(torch.tanh(self.first(x))))) * self.scale
        return self.last(h) * self.gate


def optimizer_of(description, groups):
    if isinstance(description, Adam):
        return torch.optim.Adam(groups, description.lr, description.betas, description.eps)
    if isinstance(description, Decaying):
        return torch.optim.AdamW(groups, description.lr, weight_decay=0.1)
    return torch.optim.SGD(groups, description.lr, description.momentum)


def groups_of(module, lr, factors):
    """torch's parameter groups: whose name begins with one of ``factors`` has that rate."""
    groups = []
    for name, parameter in module.named_parameters():
        factor = next((f for key, f in factors.items() if name.startswith(key)), 1.0)
        groups.append({"params": [parameter], "lr": lr * factor})
    return groups


def compare(modules, optimizer, factors=None, dtype=torch.double, **close):
    """Rows of a population, due at irregular times, against each module by itself."""
    population = Population(modules, optimizer)
    alone = [optimizer_of(optimizer, groups_of(m, optimizer.lr, factors or {})) for m in modules]
    size, schedule = len(modules), torch.Generator().manual_seed(1)
    for _ in range(12):
        due = [i for i in range(size) if torch.rand((), generator=schedule) < 0.6]
        if not due:
            continue
        x = torch.randn(len(due), 6, 5, dtype=dtype)
        rows = population.rows(None if len(due) == size else torch.tensor(due))
        out = population.call(rows, "forward", x)
        out.square().mean((1, 2)).sum().backward()
        population.step(rows)
        for k, i in enumerate(due):
            alone[i].zero_grad()
            modules[i](x[k]).square().mean().backward()
            if optimizer.clip is not None:
                nn.utils.clip_grad_norm_(modules[i].parameters(), optimizer.clip)
            alone[i].step()
    for row, module in enumerate(modules):
        own = population.module(row)
        for name, value in module.state_dict().items():
            torch.testing.assert_close(own.state_dict()[name], value, msg=name, **close)
        for name, parameter in own.named_parameters():
            assert parameter.requires_grad == module.get_parameter(name).requires_grad
    return population


TIGHT = {"rtol": 1e-7, "atol": 1e-9}


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("optimizer", [*OPTIMIZERS, Decaying()])
@pytest.mark.parametrize("frozen", [(), ("encoder", "scale"), ("first", "norm", "last", "gate")])
def test_stacked_equals_looped_with_a_part_at_rest(frozen, optimizer, size):
    torch.manual_seed(0)
    modules = [Net(frozen).double() for _ in range(size)]
    before = [copy.deepcopy(dict(m.named_parameters())) for m in modules]
    population = compare(modules, optimizer, **TIGHT)
    for row, old in enumerate(before):
        for name, value in population.module(row).named_parameters():
            assert torch.equal(value, old[name]) == (name.partition(".")[0] in frozen), name


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("optimizer", [*OPTIMIZERS, Decaying()])
def test_parameters_have_rates_of_their_own(optimizer, size):
    torch.manual_seed(0)
    factors = {"first": 0.1, "encoder": 3.0, "gate": 0.0}
    modules = [Net(("scale",)).double() for _ in range(size)]
    for module in modules:
        module.rate_factors = {"first": 0.1, "enc*": 3, "gate": 0.0, "*": 1}
    if isinstance(optimizer, Decaying):  # torch's decay goes with the rate of the group, too
        factors = {"first": 0.1, "encoder": 3.0, "gate": 0.0}
    compare(modules, optimizer, factors, **TIGHT)


@pytest.mark.parametrize("size", [1, 4])
def test_the_fused_step_knows_rests_and_rates(size):
    torch.manual_seed(0)
    modules = [Net() for _ in range(size)]
    for module in modules:
        module.rate_factors = {"last.weight": 0.1, "first": 2.0}
    factors = {"last.weight": 0.1, "first": 2.0}
    population = compare(modules, Adam(1e-2), factors, torch.float32, rtol=1e-4, atol=1e-5)
    assert population._rows_in_place() is not None


def test_what_is_at_rest_has_no_moments():
    population = Population([Net(), Net()], Adam())
    learn = sum(p.numel() for p in Net().parameters() if p.requires_grad)
    assert population.parameters.shape == (2, learn)
    assert population.slots["mean"].shape == population.slots["square"].shape == (2, learn)
    assert population.frozen["encoder.0.weight"].shape == (2, 4, 4)
    assert population.frozen["scale"].shape == (2,)


def test_the_norm_that_is_clipped_is_of_what_learns():
    """With the gradient of the frozen part, the step would be shorter."""
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1)).double()
    module[0].requires_grad_(False)
    population = Population([module], SGD(1.0, clip=1e-3))
    rows = population.rows()
    population.call(rows, "forward", torch.randn(1, 4, 3).double()).sum().backward()
    population.step(rows)
    last = population.module(0)[1]
    step = torch.cat([(last.weight - module[1].weight)[0], last.bias - module[1].bias])
    assert torch.linalg.vector_norm(step).item() == pytest.approx(1e-3, rel=1e-4)


def test_names_and_shapes_kept_are_the_same_where_nothing_is_at_rest():
    """Checkpoints of the versions before are read."""
    population = Population([Net(()), Net(())], Adam())
    count = sum(p.numel() for p in Net(()).parameters())
    shapes = {name: tuple(value.shape) for name, value in population.tensors().items()}
    assert shapes == {
        "parameters": (2, count), "updates": (2,), "skipped": (2,),
        "slot.mean": (2, count), "slot.square": (2, count), "slot.steps": (2, 1),
        "buffer.calls": (2,), "buffer.norm.running_mean": (2, 4),
        "buffer.norm.running_var": (2, 4), "buffer.norm.num_batches_tracked": (2,),
    }  # fmt: skip


def test_what_is_at_rest_is_kept_and_loaded():
    one, other = Population([Net()], Adam()), Population([Net()], Adam())
    assert not torch.equal(one.frozen["encoder.0.weight"], other.frozen["encoder.0.weight"])
    other.load({name: value.clone() for name, value in one.tensors().items()})
    assert torch.equal(one.frozen["encoder.0.weight"], other.frozen["encoder.0.weight"])


def test_rest_is_asked_for_when_a_population_is_made():
    module = nn.Linear(2, 2)
    population = Population([module], SGD(1.0))
    module.requires_grad_(False)
    population.template.requires_grad_(False)
    population.step(population.rows(), [torch.ones(1, 6)])
    assert (population.module(0).weight != module.weight).all()


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int64, torch.complex64])
def test_what_is_at_rest_may_be_of_any_type(dtype, members):
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.learns = nn.Linear(3, 2)
            self.rests = nn.Parameter(torch.ones(2).to(dtype) * 3, requires_grad=False)

        def forward(self, x):
            return self.learns(x) * self.rests.real.to(x.dtype)

    population = Population([Mixed() for _ in range(members)], Adam())
    rows = population.rows()
    population.call(rows, "forward", torch.randn(members, 4, 3)).sum().backward()
    population.step(rows)
    assert population.parameters.dtype == torch.float32
    assert population.module(members - 1).rests.dtype == dtype
    assert population.updates.tolist() == [1] * members


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("requires_grad", [True, False])
def test_rows_taken_bring_what_is_at_rest(members, requires_grad):
    torch.manual_seed(0)
    modules = [Net().double() for _ in range(4)]
    population = Population(modules)
    gathered = population.rows(torch.tensor([3, 1, 0]), requires_grad)
    taken = gathered.take(torch.arange(members))
    x = torch.randn(members, 6, 5, dtype=torch.double)
    out = population.call(taken, "forward", x)
    for row, number in enumerate([3, 1, 0][:members]):
        torch.testing.assert_close(out[row], modules[number](x[row]), **TIGHT)


@pytest.mark.parametrize("index", [None, [0, 1]])
@pytest.mark.parametrize("members", [1, 2])
def test_to_write_into_what_is_at_rest_is_refused(members, index):
    class Writes(nn.Linear):
        def forward(self, x):
            with torch.no_grad():
                self.weight.mul_(0.9)
            return super().forward(x)

    population = Population([Writes(2, 2).requires_grad_(False) for _ in range(members)])
    at = None if index is None else torch.tensor(index[:members])
    with pytest.raises(ValueError, match=r"forward writes into the frozen parameter weight .*buff"):
        population.call(population.rows(at), "forward", torch.ones(members, 3, 2))


# -- parameters without dimensions, and parametrised ones -------------------------------------


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(5, 3)
        self.temperature = nn.Parameter(torch.tensor(1.0))

    def forward(self, x):
        return self.body(x) / self.temperature


def parametrised(wrap):
    class Parametrised(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = wrap(nn.Linear(5, 5)), nn.Linear(5, 3)

        def forward(self, x):
            return self.b(torch.tanh(self.a(x)))

    return Parametrised


class Drawn(nn.Module):
    """In-place activations and parts that nobody uses."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.unused = nn.Linear(5, 4), nn.Linear(4, 3), nn.Linear(9, 9)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.b(self.relu(self.a(x)))


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize(
    "kind",
    [
        Scaled,
        Drawn,
        parametrised(parametrizations.spectral_norm),
        parametrised(parametrizations.weight_norm),
        parametrised(parametrizations.orthogonal),
        parametrised(nn.utils.weight_norm),
        parametrised(nn.utils.spectral_norm),
    ],
    ids=["no dimensions", "in place", "spectral", "weight", "orthogonal", "old weight",
         "old spectral"],
)  # fmt: skip
def test_ordinary_modules_are_computed_as_they_are(kind, size):
    torch.manual_seed(0)
    compare([kind().double() for _ in range(size)], Adam(1e-2), rtol=1e-6, atol=1e-8)


# -- utility models -----------------------------------------------------------------------------


def critic():
    return CriticUtility(3, 2, num_classes=2, hidden=(4,))


def body_at_rest(make):
    model = make()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    model.body.layers[0].requires_grad_(False)
    return model.double()


def fit_by_hand(model, optimizer, message, context, target):
    estimate = model(message, context)
    loss = model.loss(estimate, target)
    optimizer.zero_grad()
    loss.mean().backward()
    optimizer.step()


@pytest.mark.parametrize("many", [True, False])
@pytest.mark.parametrize(
    "make", [lambda: GradientUtility(3, 2, hidden=(4,)), critic], ids=["gradient", "critic"]
)
def test_utility_models_may_have_a_part_at_rest(make, many):
    """Fitted as under torch.optim; by formula where nothing rests, by autograd where something."""
    from dnicomm.core import Target

    torch.manual_seed(0)
    model = body_at_rest(make)
    assert closed_form(model) is None
    interface, own = Interface(copy.deepcopy(model), Adam(0.01)), copy.deepcopy(model)
    optimizer = torch.optim.Adam(own.parameters(), 0.01)
    for _ in range(4):
        message, gradient = torch.randn(2, 6, 3, dtype=torch.double)
        context = F.one_hot(torch.randint(2, (6,)), 2).double()
        target = Target(gradient, torch.rand(6, dtype=torch.double))
        if many:
            own_target = Target(*(part[None] for part in target[:2]))
            interface.fit(message[None], context[None], own_target)
        else:
            sent = interface.send(message, context)
            sent.settle(loss=target.cost, target=gradient / 6)
        fit_by_hand(own, optimizer, message, context, target)
    found = interface.utilities.module(0)
    for name, value in own.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], value, **TIGHT)
    assert torch.equal(found.body.layers[0].weight, model.body.layers[0].weight)
    assert not torch.equal(found.body.layers[2].weight, model.body.layers[2].weight)


@pytest.mark.parametrize("make", [lambda: GradientUtility(3, 2), critic])
def test_a_utility_model_at_rest_says_the_same_for_ever(make):
    model = make().requires_grad_(False)
    interface = Interface(model)
    context = torch.tensor([[1.0, 0.0]]).expand(4, -1)
    before = interface.send(torch.ones(4, 3), context)
    before.settle(loss=torch.rand(4), target=torch.randn(4, 3))
    after = interface.send(torch.ones(4, 3), context)
    assert torch.equal(before.synthetic, after.synthetic)
    assert interface.utilities.slots["mean"].numel() == 0


def test_utility_models_have_rates_of_their_own():
    torch.manual_seed(0)
    model = GradientUtility(3)
    model.rate_factors = {"body.layers.0.bias": 0.0}
    interface = Interface(model, Adam(0.1))
    interface.send(torch.randn(4, 3)).settle(target=torch.randn(4, 3))  # in closed form
    found = interface.utilities.module(0).body.layers[0]
    assert found.weight.any()
    assert not found.bias.any()


def test_least_squares_solve_for_everything():
    model = LeastSquaresUtility(3)
    model.body.layers[0].bias.requires_grad_(False)
    with pytest.raises(ValueError, match=r"body\.layers\.0\.bias can't be frozen"):
        LeastSquares(model)


# -- layers that learn apart --------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize(
    "keys", [{}, {"mixing": 1.0}, {"mixing": 0.5}, {"returns": 0.5}, {"order": [2, 0, 1]}]
)
@pytest.mark.parametrize("plain", [True, False])
def test_a_layer_at_rest_hands_gradients_down(plain, keys, number):
    torch.manual_seed(0)
    norms = [[], []] if plain else [[nn.BatchNorm1d(6)], [nn.BatchNorm1d(6)]]
    layers = [nn.Sequential(nn.Linear(8, 6), *norms[0], nn.ReLU()),
              nn.Sequential(nn.Linear(6, 6), *norms[1], nn.ReLU()), nn.Linear(6, 3)]  # fmt: skip
    layers[number].requires_grad_(False)
    order = keys.get("order")
    net = DecoupledSequential(
        layers, [Interface(GradientUtility(6)) for _ in range(2)],
        lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.5),
        **{key: value for key, value in keys.items() if key != "order"},
    )  # fmt: skip
    before = copy.deepcopy(net.layers)
    for _ in range(3):
        y = torch.randint(3, (5,))
        loss = lambda out, y=y: F.cross_entropy(out, y, reduction="none")  # noqa: E731
        net.update(torch.randn(5, 8), loss, order=order)
    for i, (old, new) in enumerate(zip(before, net.layers, strict=True)):
        for name, value in old.named_parameters():
            assert torch.equal(value, new.get_parameter(name)) == (i == number), (i, name)
    for interface in net.interfaces:
        assert interface.utilities.parameters.any()


def test_with_all_from_above_it_is_backpropagation_around_what_rests():
    torch.manual_seed(0)
    layers = [nn.Linear(8, 6), nn.Linear(6, 6), nn.Linear(6, 3)]
    layers[1].weight.requires_grad_(False)
    layers[0].requires_grad_(False)
    whole = copy.deepcopy(nn.Sequential(*layers))
    net = DecoupledSequential(
        layers, [Interface(GradientUtility(6)) for _ in range(2)],
        lambda p: torch.optim.SGD(p, 0.1), mixing=1.0,
    )  # fmt: skip
    optimizer = torch.optim.SGD(whole.parameters(), 0.1)
    for _ in range(3):
        x, y = torch.randn(5, 8), torch.randint(3, (5,))
        net.update(x, lambda out, y=y: F.cross_entropy(out, y, reduction="none"))
        optimizer.zero_grad()
        F.cross_entropy(whole(x), y).backward()
        optimizer.step()
    for one, other in zip(net.layers.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("part", ["lstm", "all"])
def test_a_recurrent_net_at_rest_still_teaches_its_utility_model(part):
    torch.manual_seed(0)
    core, head = LSTMCore(3, 4), nn.Linear(4, 2)
    core.requires_grad_(False)
    head.requires_grad_(part == "lstm")
    interface = Interface(GradientUtility(8))
    rnn = DecoupledRNN(core, interface)
    rnn.start(torch.zeros(5, 8))
    for number in range(3):
        outputs, window = rnn.window(torch.randn(2, 5, 3), last=number == 2)
        window.backward(head(outputs).square().sum(-1))
    assert interface.utilities.updates.tolist() == [2]
    assert interface.utilities.parameters.any()
    assert all(p.grad is None for p in core.parameters())
    assert (head.weight.grad is None) == (part == "all")
