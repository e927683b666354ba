"""The communication metrics of one channel, from what was heard on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnicomm.communication import (
    PERMUTATIONS,
    Estimate,
    against_chance,
    as_symbols,
    as_words,
    bag_of_symbols_disentanglement,
    context_independence,
    dependence,
    entropy,
    positional_disentanglement,
    positions,
    spread,
    topographic_similarity,
)
from dnicomm.sim.encoding import MessageEncoder
from dnicomm.sim.forcing import Influence, Pool, influence
from dnicomm.sim.listening import Columns, Listening, Overheard
from dnicomm.sim.random import generator
from dnicomm.sim.simulation import Simulation

NEIGHBOURHOOD = 400  # pairs, where they are compared by nearest neighbours
STRUCTURED = 1000  # messages, whose parts are compared with what they are about
AGES = (1, 2, 4, 8, 16)  # last ages of the curve's groups; one group for all that is older

Figures = dict[str, Any]
Measure = Callable[[NDArray[Any], NDArray[Any]], float]  # of attributes and messages


def channel_metrics(
    simulation: Simulation, listening: Listening, channel: Overheard, families: Sequence[str]
) -> Figures:
    """Metrics of one channel, by name; None where one is undefined.

    Args:
        families: of ``use``, ``signalling``, ``structure`` and ``listening``.
    """
    spoken, heard = channel.spoken.columns(), channel.heard.columns()
    found: Figures = {}

    def rng(family: str) -> np.random.Generator:  # whatever else is asked for
        return generator(simulation.seed, "communication", channel.name, family)

    if "use" in families:
        found |= _use(simulation, listening, channel, spoken)
    if "signalling" in families:
        found |= _signalling(channel, spoken, rng("signalling"))
    if "structure" in families:
        found |= _structure(spoken, rng("structure"))
    if "listening" in families:
        found |= _listening(simulation, channel, heard, rng("listening"))
    return found


def _use(
    simulation: Simulation, listening: Listening, channel: Overheard, spoken: Columns
) -> Figures:
    """How much goes over a channel, per world and unit of world time."""
    sent, read = channel.spoken.offered, channel.heard.offered
    rate = sent / listening.world_time if listening.world_time else 0.0
    encoder = channel.speaker.encoder or MessageEncoder()
    bits = encoder.bits(simulation.message_size, simulation.channel.number_bits)
    coded = _symbols(spoken) if spoken else None
    return {
        "messages": sent,
        "messages_per_time": rate,
        "bits_per_time": rate * bits,
        "share_read": read / sent if sent else None,
        "symbols": None if coded is None else len(coded[1]),
        "message_entropy": None if coded is None else _number(entropy(coded[0])),
    }


def _signalling(channel: Overheard, spoken: Columns, rng: np.random.Generator) -> Figures:
    """What messages tell of what the speaker means and does."""
    meaning, what = _meaning(spoken)
    acts = bool(spoken) and channel.speaker.spec.action_size > 0
    action = spoken["action"] if acts else None
    message = spoken["message"] if spoken else None
    together = None if meaning is None else np.concatenate(meaning, 1)
    return {
        "meaning": what,
        "positive_signalling": _dependence(message, together, spoken, rng),
        "speaker_consistency": _dependence(message, action, spoken, rng),
    }


def _structure(spoken: Columns, rng: np.random.Generator) -> Figures:
    """How messages are built from meanings."""
    meaning, what = _meaning(spoken)
    found: Figures = {
        "meaning": what,
        "topographic_similarity": None,
        "positional_disentanglement": None,
        "bag_of_symbols_disentanglement": None,
        "context_independence": None,
    }
    if meaning is None:
        return found
    groups = spoken["group"]
    together = np.concatenate(meaning, 1)
    found["topographic_similarity"] = _estimate(
        topographic_similarity(together, spoken["message"], rng, groups=groups)
    )
    # words and attributes of all there is, then a sample: chance is a hundred times the work
    attributes = np.concatenate([positions(part) for part in meaning], 1)
    codes: list[tuple[str, Measure, NDArray[Any]]] = [
        ("positional", positional_disentanglement, positions(spoken["message"]))
    ]
    words, coded = as_words(spoken["message"]), _symbols(spoken)
    if words is not None:
        codes.append(("bag_of_symbols", bag_of_symbols_disentanglement, words))
    chosen = spread(groups, STRUCTURED, rng)
    for name, measure, code in codes:
        found[f"{name}_disentanglement"] = _against_chance(
            measure, attributes[chosen], code[chosen], groups[chosen], rng
        )
    if coded is not None:
        found["context_independence"] = _against_chance(
            context_independence, attributes[chosen], coded[0][chosen], groups[chosen], rng
        )
    return found


def _against_chance(
    measure: Measure,
    attributes: NDArray[Any],
    code: NDArray[Any],
    groups: NDArray[Any],
    rng: np.random.Generator,
) -> Figures:
    """A measure of attributes and messages, and with the messages dealt to others."""
    return _estimate(
        against_chance(lambda order: measure(attributes, code[order]), len(code), rng,
                       groups=groups)
    )  # fmt: skip


def _listening(
    simulation: Simulation, channel: Overheard, heard: Columns, rng: np.random.Generator
) -> Figures:
    """What a listener does about messages."""
    response = heard.get("response")
    message = None if response is None else heard["message"]
    situations = channel.situations.columns()
    pool = None if message is None else Pool.of(message, rng, groups=heard["group"])
    forced: Influence | None = None
    if pool is not None:
        forced = influence(channel, situations, heard, pool, rng, simulation.device)
    spec = channel.listener.spec
    acts = f"{'discrete' if spec.discrete else 'continuous'} action" if spec.action_size else None
    return {
        "response": None if response is None else acts or "message",
        "age": None if response is None else _mean(heard["age"]),
        "instantaneous_coordination": _dependence(message, response, heard, rng),
        "causal_influence": None if forced is None else _mean(forced.causal),
        "forced_messages": None if pool is None else len(pool.weights),
        "forced_entropy": None if pool is None else pool.entropy,
        "situations": 0 if forced is None else len(forced.causal),
        "listening_l1_zeroed": None if forced is None else _mean(forced.l1_zeroed),
        "listening_l1_shuffled": None if forced is None else _mean(forced.l1_shuffled),
        "listening_kl_zeroed": None if forced is None else _mean(forced.kl_zeroed),
        "listening_kl_shuffled": None if forced is None else _mean(forced.kl_shuffled),
    } | _by_age(heard, forced, rng)


def _by_age(heard: Columns, forced: Influence | None, rng: np.random.Generator) -> Figures:
    """Influence and coordination for messages of each age, and coordination with the age known."""
    curve = []
    shares: list[tuple[int, float]] = []
    for first, last in zip((1, *(age + 1 for age in AGES)), (*AGES, math.inf), strict=True):
        group: Figures = {"first": first, "last": None if last == math.inf else last}
        if forced is not None:
            there = (forced.age >= first) & (forced.age <= last)
            group["situations"] = int(there.sum())
            group["causal_influence"] = _mean(forced.causal[there])
        if "response" in heard:
            there = (heard["age"] >= first) & (heard["age"] <= last)
            group["pairs"] = int(there.sum())
            of_age = {name: values[there] for name, values in heard.items()}
            pairs = of_age["message"], of_age["response"]
            known = _dependence(*pairs, of_age, rng, permutations=0)
            group["instantaneous_coordination"] = None if known is None else known["value"]
            if group["instantaneous_coordination"] is not None:
                shares.append((group["pairs"], group["instantaneous_coordination"]))
        if group.get("situations") or group.get("pairs"):
            curve.append(group)
    total = sum(pairs for pairs, _ in shares)
    given = sum(pairs * value for pairs, value in shares) / total if total else None
    return {"coordination_given_age": given, "by_age": curve}


# -- what messages are about ----------------------------------------------------------------------


def _meaning(spoken: Columns) -> tuple[list[NDArray[Any]] | None, str | None]:
    """What messages are taken to be about, ``[n, …]`` each, and its name.

    Facts of the world that are known when a message is sent, where there are some; else what the
    speaker saw.
    """
    facts = {name.removeprefix("fact."): values.astype(np.float64)
             for name, values in spoken.items() if name.startswith("fact.")}  # fmt: skip
    if facts:
        return list(facts.values()), ", ".join(facts)
    seen = spoken.get("observation")
    if seen is None or seen[0].size == 0:
        return None, None
    return [seen.reshape(len(seen), -1).astype(np.float64)], "observation"


def _dependence(
    x: NDArray[Any] | None,
    y: NDArray[Any] | None,
    columns: Columns,
    rng: np.random.Generator,
    permutations: int = PERMUTATIONS,
) -> Figures | None:
    """Mutual information of two of the columns; None where there is none of one."""
    if x is None or y is None or len(x) == 0:
        return None
    groups = columns["group"]
    sides = [_side(x, groups), _side(y, groups)]
    if any(side.ndim == 2 for side in sides):
        chosen = spread(groups, NEIGHBOURHOOD, rng)
        sides, groups = [side[chosen] for side in sides], groups[chosen]
    return _estimate(dependence(sides[0], sides[1], rng, permutations, groups))


def _symbols(columns: Columns) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """The messages as symbols, if they are some, and what each symbol is."""
    return as_symbols(columns["message"], groups=columns["group"])


def _side(values: NDArray[Any], groups: NDArray[Any]) -> NDArray[Any]:
    """A column as symbols ``[n]``, where it consists of symbols, else as vectors ``[n, d]``."""
    if values.ndim == 1 and np.issubdtype(values.dtype, np.integer):
        return values
    vectors = values.reshape(len(values), -1)
    coded = as_symbols(vectors, groups=groups)
    return vectors if coded is None else coded[0]


def _estimate(estimate: Estimate) -> Figures:
    return {
        "value": _number(estimate.value),
        "chance": _number(estimate.chance),
        "chance_95": _number(estimate.chance_95),
        "samples": estimate.samples,
    }


def _mean(values: NDArray[Any] | None) -> float | None:
    return None if values is None or len(values) == 0 else _number(float(np.mean(values)))


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
