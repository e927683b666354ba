"""``profile=true``, and a run that is too large for the machine, from the command line."""

import json

import pytest

from dnicomm.core.stages import STAGES


@pytest.fixture
def small():
    return ["env.horizon=6", "num_worlds=4", "eval.num_worlds=4", "eval.episodes=1", "steps=30"]


def test_where_the_time_goes(cli, small):
    called = cli("run", "profile=true", "hydra.run.dir=run", *small)
    assert called.code == 0
    assert "where the time goes" in called.out
    figures = json.loads((cli.folder / "run" / "profile.json").read_text())
    assert set(figures) == {*STAGES, "other"}
    assert (cli.folder / "run" / "profile_trace.json").exists()


def test_a_run_too_large_is_refused_before_it_starts(cli, small, monkeypatch):
    monkeypatch.setattr("dnicomm.sim.simulation.free_memory", lambda: 10**9)
    called = cli("run", "env.num_agents=3000", "agent.width=2048", "hydra.run.dir=run", *small)
    assert called.code == 2
    (line,) = called.err.splitlines()
    assert "needs about" in line
    assert "1.0 GB are free" in line
    assert not (cli.folder / "run").exists()
