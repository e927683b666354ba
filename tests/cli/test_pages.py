"""What runs leave to look at, and the commands that show it."""

import http.client
import json
import re
import signal
import subprocess
import sys
import time

import pytest

from dnicomm.runs import RunFolder

SMALL = ("steps=20", "num_worlds=2", "eval.num_worlds=2", "eval.episodes=1", "eval.every=10",
         "env.num_agents=2", "env.horizon=5")  # fmt: skip
LIGHT = """
import sys
from dnicomm.cli import main
code = main(["report", "run"])
assert "torch" not in sys.modules
sys.exit(code)
"""


def test_a_run_leaves_a_page_and_a_trace(cli):
    called = cli("run", *SMALL, "hydra.run.dir=run")
    assert (called.code, called.err) == (0, "")
    assert "look at it: run/report.html" in called.out
    page = (cli.folder / "run" / "report.html").read_text()
    assert "Relay with 2 agents" in page
    assert "Play-by-play" in page
    assert "dnicomm run steps=20" in page
    trace = json.loads((cli.folder / "run" / "trace.json").read_text())
    assert any(event["name"] == "tick" for event in trace["traceEvents"])
    (cli.folder / "run" / "report.html").unlink()
    called = cli("report", "run")
    assert (called.code, called.out) == (0, "run/report.html\n")
    assert (cli.folder / "run" / "report.html").read_text() == page
    subprocess.run([sys.executable, "-c", LIGHT], check=True, cwd=cli.folder)


def test_a_sweep_leaves_pages_that_know_of_each_other(cli):
    words = (
        "feedback=synthetic,none",
        "hydra.sweep.dir=all",
        "hydra.sweep.subdir=${hydra.job.num}",
    )
    assert cli("run", "-m", *SMALL, *words).code == 0
    page = (cli.folder / "all" / "0" / "report.html").read_text()
    assert "in the same sweep none" in page


def test_an_experiment_leaves_a_page(toy):
    assert toy("bench", "toy", "hydra.run.dir=run").code == 0
    page = (toy.folder / "run" / "report.html").read_text()
    assert "Bench toy: error" in page
    assert "dnicomm bench toy" in page
    assert "Play-by-play" not in page
    assert not (toy.folder / "run" / "trace.json").exists()


@pytest.mark.slow
def test_an_experiment_in_the_simulator_is_recorded(cli):
    assert cli("bench", "two_networks", "budget=smoke", "hydra.run.dir=run").code == 0
    recordings, damage = RunFolder.open(cli.folder / "run").recordings()
    assert damage == []
    assert [len(r.facts["starts"]) for r in recordings] == [3, 3]
    assert "Play-by-play" in (cli.folder / "run" / "report.html").read_text()


def test_communication_is_kept_for_the_page(cli):
    assert cli("run", *SMALL, "hydra.run.dir=run").code == 0
    called = cli("eval", "run", "--keep", "--metrics", "use,signalling")
    assert (called.code, called.err) == (0, "")
    kept = json.loads((cli.folder / "run" / "communication.json").read_text())
    assert set(kept["channels"]) == {"agent_0->agent_1"}
    assert "Metrics of communication" in (cli.folder / "run" / "report.html").read_text()
    refused = cli("eval", "run", "--keep", "--metrics", "none")
    assert (refused.code, "--keep" in refused.err) == (2, True)


def test_a_page_that_cannot_be_written_is_no_failed_run(cli, monkeypatch):
    def fail(*given):
        raise ArithmeticError("mine")

    monkeypatch.setattr("dnicomm.commands.pages.write_report", fail)
    called = cli("run", *SMALL, "hydra.run.dir=run")
    assert called.code == 0
    assert "no report was written (ArithmeticError: mine); the run is whole" in called.err
    assert RunFolder.open(cli.folder / "run").summary() is not None


@pytest.mark.parametrize("command", ["report", "watch"])
def test_what_is_no_run(cli, command):
    (cli.folder / "empty").mkdir()
    for name in ("nothing", "empty"):
        called = cli(command, name)
        assert (called.code, called.out) == (2, "")
        assert f"{name} is not a run folder" in called.err


def test_a_damaged_run_is_shown_as_far_as_it_goes(cli):
    RunFolder.create(cli.folder / "run", {"seed": 3})
    (cli.folder / "run" / "summary.json").write_text("{")
    assert cli("report", "run").code == 0
    page = (cli.folder / "run" / "report.html").read_text()
    assert "summary.json could not be read" in page
    assert "no evaluation yet" in page


@pytest.mark.parametrize("port", ["-1", "x", "70000"])
def test_ports_that_there_are_not(cli, port):
    called = cli("watch", "run", f"--port={port}")
    assert called.code == 2
    assert "whole number from 0 to 65535" in called.err


def test_watching_stops_cleanly(cli):
    RunFolder.create(cli.folder / "run", {"seed": 3})
    process = cli.start("watch", "run")
    assert process.stdout is not None
    line = process.stdout.readline().decode()
    port = int(re.match(r"http://127\.0\.0\.1:(\d+)/ ", line)[1])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/")  # and stays open
    assert connection.getresponse().status == 200
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=20)
    assert (process.returncode, complaint) == (0, b"")
    assert time.monotonic() - began < 10
