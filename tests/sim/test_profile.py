"""Where the time goes: stages add up, and one within another counts for itself."""

import json

import pytest

from dnicomm.bench.speed.crowd import Crowd
from dnicomm.core.stages import STAGES, stage, watching
from dnicomm.sim.profile import Profile, StageTimer


def test_a_stage_within_another_is_not_the_others():
    timer, now = StageTimer(), [0.0]
    timer.clock = lambda: now[0]

    def pass_time(seconds):
        now[0] += seconds

    with timer.watch():
        pass_time(1)
        with stage("tick"):
            pass_time(2)
            with stage("observe"):
                pass_time(4)
            pass_time(8)
        pass_time(16)
    assert timer.seconds["tick"] == 10
    assert timer.seconds["observe"] == 4
    assert timer.other == 17
    assert sum(timer.shares().values()) == pytest.approx(1)
    pass_time(100)
    with stage("tick"):  # nobody watches
        pass_time(100)
    assert timer.seconds["tick"] == 10


def test_every_stage_of_an_episode_is_seen():
    seen = set()
    timer = StageTimer()

    def watcher(name):
        seen.add(name)
        return timer._stage(name)

    simulation = Crowd(num_agents=4, degree=2, num_worlds=2, width=3, horizon=8).simulation()
    with watching(watcher):
        simulation.engine.play(0)
    assert seen == set(STAGES)


def test_a_profile_of_a_run(tmp_path):
    simulation = Crowd(num_agents=3, degree=2, num_worlds=2, width=3, horizon=4).simulation()
    profile = Profile(tmp_path / "trace.json")
    simulation.run(16, profile=profile)
    figures = profile.figures()
    assert set(figures) == {*STAGES, "other"}
    assert sum(of["share"] for of in figures.values()) == pytest.approx(1)
    assert figures["tick"]["calls"] == 2 * 4  # the first episode and the traced one don't count
    names = {event.get("name") for event in json.loads(profile.trace.read_text())["traceEvents"]}
    assert {"tick", "backward", "aten::bmm"} <= names
