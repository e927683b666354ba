"""``dnicomm resume``: after a kill at any moment, the run that was never stopped, bit for bit."""

import json
import os
import random
import shutil
import signal
import subprocess
import time

import pytest

from dnicomm.cli import main
from dnicomm.runs import RunFolder

SMALL = (
    "steps=27", "num_worlds=2", "eval.num_worlds=3", "eval.episodes=1", "eval.every=10",
    "env.num_agents=2", "env.horizon=5", "clock.rate=0.7", "channel.drop=0.2", "channel.noise=0.1",
)  # fmt: skip


class Killed(BaseException):
    """Nothing in the program may catch it."""


def _results(folder):
    """Everything a run reached and recorded, times aside."""
    run = RunFolder.open(folder)
    summary, records = run.summary(), run.metrics()
    for part in (summary, *records):
        del part["wall_s"]
    recorded, damage = run.recordings()
    assert damage == []
    episodes = [[r.time, r.facts, {name: of.tolist() for name, of in r.columns.items()}]
                for r in recorded]  # fmt: skip
    return json.dumps([summary, records, episodes])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Runs that were never stopped, by feedback."""
    made = {}

    def run(feedback):
        if feedback not in made:
            made[feedback] = tmp_path_factory.mktemp("whole") / feedback
            words = (*SMALL, f"feedback={feedback}", f"hydra.run.dir={made[feedback]}")
            assert main(["run", *words]) == 0
        return made[feedback]

    return run


@pytest.mark.parametrize(
    ("method", "number", "after", "feedback"),
    [
        ("append_metrics", 1, False, "exact"),  # before there is anything
        ("save_recording", 2, True, "synthetic"),  # a recording that no checkpoint knows of
        ("save_checkpoint", 2, False, "synthetic"),  # metrics that no checkpoint knows of
        ("save_checkpoint", 2, True, "synthetic"),
        ("save_checkpoint", 2, True, "exact"),
        ("write_summary", 1, False, "synthetic"),  # all is done but the summary
    ],
)
def test_a_kill_at_a_bad_moment(cli, whole, monkeypatch, method, number, after, feedback):
    original, calls = getattr(RunFolder, method), []

    def deadly(self, *arguments):
        calls.append(method)
        if len(calls) == number and not after:
            raise Killed
        original(self, *arguments)
        if len(calls) == number:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, method, deadly)
        with pytest.raises(Killed):
            cli("run", *SMALL, f"feedback={feedback}", "hydra.run.dir=broken")
    called = cli("resume", "broken")
    assert (called.code, called.err) == (0, "")
    assert _results(cli.folder / "broken") == _results(whole(feedback))


def _start(cli, folder, *words):
    return cli.start("run", *words, f"hydra.run.dir={folder}", stderr=subprocess.STDOUT)


def _wait_for(path, process):
    for _ in range(600):
        if path.exists():
            return
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)
    raise AssertionError(f"{path} never came")


def _kill_somewhere(cli, folder, words):
    process = _start(cli, folder, *words)
    _wait_for(cli.folder / folder / "checkpoints", process)
    time.sleep(random.random() / 2)
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_killed_process(cli):
    words = (*SMALL, "steps=200")
    _kill_somewhere(cli, "broken", words)
    assert not (cli.folder / "broken" / "summary.json").exists()
    assert cli("resume", "broken").code == 0
    assert cli("run", *words, "hydra.run.dir=whole").code == 0
    assert _results(cli.folder / "broken") == _results(cli.folder / "whole")


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("agent=recurrent", "window=4", "utility=critic", "feedback=mixed", "exact_window=5"),
        ("env=counting", "env.irregular=true"),
        ("env=gym", "env.id=CartPole-v1"),
        pytest.param(
            ("env=pettingzoo", "env.id=mpe2.simple_spread_v3", "agent=recurrent_actor_critic"),
            marks=pytest.mark.needs("mpe2.simple_spread_v3"),
        ),
    ],
    ids=lambda words: words[0],
)
def test_killed_processes_of_all_kinds(cli, words):
    few = ("num_worlds=2", "eval.num_worlds=2", "eval.episodes=1", "eval.every=40", "steps=400")
    assert cli("run", *words, *few, "hydra.run.dir=whole").code == 0
    for attempt in range(2):
        folder = f"broken{attempt}"
        _kill_somewhere(cli, folder, (*words, *few))
        assert cli("resume", folder).code == 0
        assert _results(cli.folder / folder) == _results(cli.folder / "whole")


def test_stopping_by_hand_says_how_to_go_on(cli):
    process = _start(cli, "stopped", *SMALL, "steps=100000")
    _wait_for(cli.folder / "stopped" / "metrics.jsonl", process)
    beside = cli("resume", "stopped")
    assert beside.code == 2
    assert "stopped: another process is at work on this run" in beside.err
    process.send_signal(signal.SIGINT)
    output = process.communicate()[0].decode()
    assert process.returncode == 130
    assert output.rstrip().endswith("dnicomm: stopped; go on with: dnicomm resume stopped")
    assert "Traceback" not in output


def test_a_finished_run_is_only_shown(cli):
    assert cli("run", *SMALL, "hydra.run.dir=run").code == 0
    before = {p: p.read_bytes() for p in (cli.folder / "run").rglob("*") if p.is_file()}
    called = cli("resume", "run")
    assert called.code == 0
    assert called.out.startswith("this run has ended\n")
    assert "accuracy" in called.out
    assert before == {p: p.read_bytes() for p in (cli.folder / "run").rglob("*") if p.is_file()}


def test_testing_again_writes_nothing(cli):
    assert cli("run", *SMALL, "hydra.run.dir=run").code == 0
    before = {p: p.read_bytes() for p in (cli.folder / "run").rglob("*") if p.is_file()}
    first, second = cli("eval", "run"), cli("eval", "run", "--episodes", "2", "--num-worlds=5")
    assert (first.code, second.code) == (0, 0)
    assert first.out.startswith("relay, trained to world time 27; 1 episode in 3 worlds\n")
    assert second.out.startswith("relay, trained to world time 27; 2 episodes in 5 worlds\n")
    accuracy = RunFolder.open(cli.folder / "run").summary()["metrics"]["accuracy"]
    assert f"{accuracy:.3f}" in first.out
    assert before == {p: p.read_bytes() for p in (cli.folder / "run").rglob("*") if p.is_file()}
    wrong = cli("eval", "run", "--episods", "2")
    assert wrong.code == 2
    assert "--episods: there is no such flag. Did you mean '--episodes'" in wrong.err
    assert "--episodes: 0: must be a whole number" in cli("eval", "run", "--episodes=0").err


def test_a_damaged_checkpoint_is_passed_over(cli):
    assert cli("run", *SMALL, "hydra.run.dir=whole").code == 0
    shutil.copytree(cli.folder / "whole", cli.folder / "broken")
    os.remove(cli.folder / "broken" / "summary.json")
    last = max((cli.folder / "broken" / "checkpoints").iterdir())
    last.write_bytes(last.read_bytes()[:-8])
    called = cli("resume", "broken")
    assert called.code == 0
    assert called.err.startswith("dnicomm: ")
    assert "is damaged" in called.err
    assert "going back to time 20" in called.err
    assert _results(cli.folder / "broken") == _results(cli.folder / "whole")
