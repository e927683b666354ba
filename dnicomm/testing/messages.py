"""Do channels and utility models keep their contracts?"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from dnicomm.core import Population, UtilityModel
from dnicomm.core.parameters import check_parameters, frozen_parameters, rate_factors
from dnicomm.core.utility import Estimate, Target
from dnicomm.errors import error_line, user_frame
from dnicomm.sim import Channel
from dnicomm.testing.complaints import Complaints, Stop

COUNT, WORLDS, SIZE, CLASSES, CONTEXT = 20, 5, 8, 3, 4


def check_channel(channel: Channel) -> list[str]:
    """What a channel gets wrong."""
    found = Complaints()
    try:
        with found.step("delays failed"):
            delays = [np.asarray(channel.delays(_rng(), COUNT)) for _ in range(2)]
        if delays[0].shape != (COUNT,) or not np.issubdtype(delays[0].dtype, np.integer):
            found.fail(f"delays(rng, {COUNT}) gives {list(delays[0].shape)} {delays[0].dtype}; it "
                       f"must be {COUNT} integers")  # fmt: skip
        if (delays[0] < 0).any():
            found.add("a delay is negative; the least is 0, which arrives in the next unit of time")
        with found.step("lost failed"):
            lost = [channel.lost(_rng(), (COUNT, WORLDS)) for _ in range(2)]
        if lost[0] is not None:
            array = np.asarray(lost[0])
            if array.shape != (COUNT, WORLDS) or array.dtype != np.bool_:
                found.add(f"lost gives {list(array.shape)} {array.dtype}; it must be None or "
                          f"[{COUNT}, {WORLDS}] bool")  # fmt: skip
        message = torch.randn(WORLDS, SIZE, generator=torch.Generator().manual_seed(0))
        kept = message.clone()
        with found.step("distort failed"):
            distorted = [channel.distort(message, _rng()) for _ in range(2)]
        if not torch.equal(message, kept):
            found.add("distort writes into the message; it must return another tensor")
        found.check_tensor("what distort returns", distorted[0], (WORLDS, SIZE))
        same = np.array_equal(delays[0], delays[1]) and np.array_equal(
            np.asarray(lost[0]), np.asarray(lost[1])
        )
        if not (same and torch.equal(distorted[0], distorted[1])):
            found.add("the same generator gives other results: draw from rng alone")
    except Stop:
        pass
    return list(found)


def check_utility(factory: Callable[..., Any]) -> list[str]:
    """What a utility model gets wrong.

    Args:
        factory: its class, or what builds one from ``message_size``, ``context_size`` and, where
            it takes it, ``num_classes``.
    """
    found = Complaints()
    with contextlib.suppress(Stop):
        _check_utility(factory, found)
    return list(found)


def _check_utility(factory: Callable[..., Any], found: Complaints) -> None:
    labelled = "num_classes" in inspect.signature(factory).parameters
    sizes = {"message_size": SIZE, "context_size": CONTEXT}
    with found.step("it can't be built"):
        models = [factory(**sizes, **({"num_classes": CLASSES} if labelled else {}))
                  for _ in range(2)]  # fmt: skip
    model = models[0]
    if not isinstance(model, UtilityModel):
        found.fail(f"a {type(model).__name__} was built, and that is no UtilityModel "
                   "(dnicomm.core.UtilityModel)")  # fmt: skip
    try:
        check_parameters(model, torch.get_default_dtype())
        rate_factors(model)
    except ValueError as error:
        found.fail(str(error))
    generator = torch.Generator().manual_seed(0)
    message = torch.randn(WORLDS, SIZE, generator=generator)
    context = torch.zeros(WORLDS, CONTEXT)
    context[range(WORLDS), torch.arange(WORLDS) % CLASSES] = 1
    with found.step("forward failed"):
        estimate = model(message, context)
    if not isinstance(estimate, Estimate):
        found.fail(f"forward returns a {type(estimate).__name__}; it must be a "
                   "dnicomm.core.utility.Estimate")  # fmt: skip
    shaped = found.check_tensor("gradient", estimate.gradient, (WORLDS, SIZE))
    if not (found.check_tensor("value", estimate.value, (WORLDS,)) and shaped):
        raise Stop
    if bool(estimate.gradient.any()):
        found.add("the first synthetic gradient is not zero: let the last layer start with weights "
                  "and bias zero")  # fmt: skip
    target = Target(torch.randn(WORLDS, SIZE, generator=generator), torch.ones(WORLDS))
    with found.step("loss failed"):
        loss = model.loss(estimate, target)
    if not found.check_tensor("loss", loss, (WORLDS,)):
        raise Stop
    if not loss.requires_grad and not frozen_parameters(model):
        found.fail("loss depends on no parameter: there is nothing to fit")
    with found.step("loss can't be differentiated"):
        if loss.requires_grad:
            loss.sum().backward()
    try:
        population = Population(models)
        both = [torch.stack([value, value]) for value in (message, context)]
        population.call(population.rows(), "forward", *both)
    except Exception as error:
        found.add(
            "several of them can't be computed at once by torch.func.vmap: "
            f"{error_line(error)}{user_frame(error) or ''}"
        )


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)
