"""The dispatcher: help, unknown commands, completion, and that none of it loads torch."""

import os
import subprocess
import sys

import pytest

import dnicomm
from dnicomm.cli import COMMANDS

LIGHT = """
import sys
from dnicomm.cli import main
code = main({arguments})
heavy = {{"torch", "pettingzoo", "sklearn"}} & set(sys.modules)
assert not heavy, heavy
sys.exit(code)
"""


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"], ["help"]])
def test_alone_or_asked_it_prints_its_help(cli, arguments):
    called = cli(*arguments)
    assert (called.code, called.err) == (0, "")
    assert called.out.startswith("usage: dnicomm COMMAND")
    assert all(f"\n  {name}" in called.out for name in COMMANDS)


def test_version(cli):
    assert cli("--version").out == f"dnicomm {dnicomm.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["rnu"],
            "rnu: there is no such command. Did you mean 'run'? Known: bench, check, compare, eval",
        ),
        (["seed=1"], "name a command first, for example: dnicomm run seed=1"),
        (["--cfg", "job"], "name a command first, for example: dnicomm run --cfg job"),
    ],
)
def test_unknown_commands(cli, arguments, message):
    called = cli(*arguments)
    assert called.code == 2
    assert called.err.startswith(f"dnicomm: {message}")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["run", "--help"],
        ["run", "--cfg", "job"],
        ["list"],
        ["resume", "nothing"],
        ["nope"],
        ["bench"],
        ["bench", "mnist", "--help"],
        ["bench", "mnist", "--cfg", "job"],
        ["bench", "table"],
        ["list", "bench"],
    ],
    ids=" ".join,
)
def test_what_needs_no_torch_does_not_load_it(arguments, tmp_path):
    code = LIGHT.format(arguments=arguments)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert "AssertionError" not in done.stderr
    assert done.returncode in (0, 2)


@pytest.mark.parametrize("words", [["bench"], ["bench", "mnist", "--help"], ["list"]], ids=" ".join)
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_letters_that_a_terminal_lacks_are_no_reason_to_fail(words, encoding, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "dnicomm", *words], cwd=tmp_path, capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode(encoding)


def test_module_and_command_are_the_same(tmp_path):
    command = [sys.executable, "-m", "dnicomm", "--version"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == f"dnicomm {dnicomm.__version__}\n"


def test_run_help_names_groups_and_keys(cli):
    called = cli("run", "--help")
    assert called.code == 0
    assert "clock: bursty, custom, jittered, none, periodic, poisson, trace" in called.out
    assert "num_worlds: 64" in called.out
    assert cli.files() == set()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("dnicomm ", set(COMMANDS)),
        ("dnicomm ru", {"run"}),
        ("dnicomm run agent=rec", {"agent=recurrent", "agent=recurrent_actor_critic"}),
        ("dnicomm run env.num", {"env.num_agents="}),
        ("dnicomm run seed=1 cl", {"clock=", "clock."}),
        ("dnicomm list ", {"agent", "env", "clock"}),
        ("dnicomm bench ", {"mnist", "two_networks", "all", "table"}),
        ("dnicomm bench mn", {"mnist"}),
        ("dnicomm bench mnist ", {"method=", "budget=", "layers="}),
        ("dnicomm bench mnist method=d", {"method=dni"}),
        ("dnicomm bench ptb seed=1 wind", {"window="}),
    ],
)
def test_completion(cli, monkeypatch, line, words):
    monkeypatch.setenv("COMP_LINE", line)
    called = cli("-sc", "query=bash")
    assert called.code == 0
    assert words <= set(called.out.split())


def test_resume_completes_to_folders(cli, monkeypatch):
    monkeypatch.setenv("COMP_LINE", "dnicomm resume ru")
    assert cli("-sc", "query=bash").out == ""  # the shell then offers files


def test_completion_is_installed_by_the_shell(cli, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/dnicomm"])
    called = cli("-sc", "install=bash")
    assert called.out.rstrip().endswith("hydra_bash_completion dnicomm")
