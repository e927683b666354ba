"""Run folders as a simulation leaves them, made of invented numbers, without torch."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dnicomm.runs import RunFolder

FACTS = {"episode": 3, "world": 0, "num_worlds": 8, "label": "label",
         "true_share": 0.0, "synthetic_share": 1.0}  # fmt: skip


def names_of(agents):
    return [f"agent_{i}" for i in range(agents)] if isinstance(agents, int) else list(agents)


def recording(agents, length=20, began=0, seed=0):
    """A chain of agents that tick at random, with messages of random lives."""
    rng, names = np.random.default_rng(seed), names_of(agents)
    time, agent = np.nonzero(rng.random((length, len(names))) < 0.6)
    sends = agent < len(names) - 1
    sent, channel = time[sends], agent[sends]
    count = len(sent)
    arrival = sent + rng.integers(1, 4, count)
    lost = (rng.random(count) < 0.2).astype(int)
    lost[(arrival >= length) & (lost == 0)] = 2
    reads = np.where(lost == 0, rng.integers(0, 3, count), 0)
    read = reads > 0
    norms = rng.random((3, count))
    columns = {
        "tick.time": time, "tick.agent": agent,
        "tick.action": rng.integers(0, 10, len(time)),
        "tick.label": rng.integers(-1, 10, len(time)),
        "message.channel": channel, "message.sent": sent, "message.arrival": arrival,
        "message.lost": lost, "message.first_read": np.where(read, arrival, -1),
        "message.reads": reads, "message.settled": np.minimum(arrival + 2, length - 1),
        "update.time": time, "update.agent": agent, "update.steps": np.ones_like(time),
        "reward.time": time[:2], "reward.agent": agent[:2],
    }  # fmt: skip
    columns = {name: values.astype(np.int32) for name, values in columns.items()}
    numbers = {
        "message.synthetic": norms[0], "message.injected": norms[0],
        "message.target": np.where(read, norms[1], 0), "reward.value": np.array([0.5, -1]),
        "message.cosine": np.where(read, 2 * norms[2] - 1, np.nan),
        "message.error": np.where(read, norms[2], np.nan),
        "vector.value": rng.standard_normal((60, 5)), "vector.label": np.arange(60) % 10,
    }  # fmt: skip
    columns |= {name: values.astype(np.float32) for name, values in numbers.items()}
    columns["vector.channel"] = np.zeros(60, dtype=np.int32)
    columns["vector.sent"] = np.arange(60, dtype=np.int32) % length
    edges = [[a, b] for a, b in itertools.pairwise(names)]
    facts = {"began": began, "length": length, "until": length, "starts": [0],
             "agents": names, "edges": edges}  # fmt: skip
    return columns, FACTS | facts


def write_run(
    path: Path,
    agents=4,
    evaluations=6,
    feedback="synthetic",
    seed=0,
    accuracy=0.9,
    ended=True,
    recorded=True,
    errors=0.5,
    config=None,
) -> Path:
    """A run folder; ``errors`` is the relative error of all channels."""
    names = names_of(agents)
    overrides = [f"feedback={feedback}", f"seed={seed}"]
    given = {"env": {"_target_": "dnicomm.envs.Relay"}, "feedback": feedback, "seed": seed,
             "gradient_scale": 1.0, "steps": 100 * evaluations, "overrides": overrides}  # fmt: skip
    run = RunFolder.create(path, given | (config or {}))
    channel = {"cosine": 0.5, "relative_error": errors, "synthetic_norm": 0.2, "target_norm": 0.4,
               "age": 2.0, "share_read": 0.75, "settled": 640}  # fmt: skip
    channels = {f"{a}->{b}": dict(channel) for a, b in itertools.pairwise(names)}
    record: dict[str, Any] = {}
    for i in range(1, evaluations + 1):
        reached = accuracy * i / evaluations
        record = {
            "time": 100 * i,
            "episode": i,
            "metrics": {"accuracy": reached, "train_accuracy": reached},
            "channels": channels,
            "agents": {name: {"ticks": i, "updates": i, "loss": 1 / i} for name in names},
            "wall_s": float(i),
        }
        run.append_metrics(record)
    if recorded and evaluations:
        for time in (100, 100 * evaluations):
            run.save_recording(time, *recording(agents, began=time - 20))
    if ended:
        kept: dict[str, Any] = {
            key: record[key] for key in ("metrics", "channels", "agents") if key in record
        }
        versions = {"python": "3", "dnicomm": "0"}
        facts = {"env": "relay", "num_agents": len(names), "steps": 100 * evaluations,
                 "versions": versions, "seed": seed, "wall_s": 1.0}  # fmt: skip
        run.write_summary(kept | facts)
    return path


@pytest.fixture(scope="session")
def make_run():
    """``make_run(path, agents=4, …)`` writes a run folder."""
    return write_run


@pytest.fixture(scope="session")
def make_recording():
    """``make_recording(agents)``: the columns and facts of a recording."""
    return recording
