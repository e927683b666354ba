"""Whatever takes the place of a file in a run folder: each command works or answers in a line."""

import json
import os
import shutil
import signal
import socket
import sys
from pathlib import Path

import pytest
import yaml

from dnicomm.cli import main
from dnicomm.report.reading import read_run, siblings
from dnicomm.report.run_report import report
from dnicomm.report.serve import Server
from dnicomm.runs import bounds, snapshot

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no pipes and devices of that kind there")

SMALL = (
    "steps=10", "num_worlds=2", "eval.num_worlds=2", "eval.episodes=1", "eval.every=5",
    "env.num_agents=2", "env.horizon=5",
)  # fmt: skip
SECONDS = 20  # more than anything here takes, less than for ever
FILES = (
    "config.yaml", "run.json", "metrics.jsonl", "summary.json", "communication.json",
    "checkpoints", "recordings", "report.html", "trace.json", "multirun.yaml",
    "checkpoints/000000000010.safetensors", "recordings/000000000010.safetensors",
)  # fmt: skip


def _pipe(path):
    os.mkfifo(path)


def _socket(path):
    before = os.getcwd()
    os.chdir(path.parent)  # the name of a socket is short
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(before)


def _huge(path):
    with path.open("wb") as file:
        file.truncate(10 * 2**30)


def _deep(path):
    path.write_text("[" * 100_000 if path.suffix == ".yaml" else '{"a":' * 100_000)


def _laughs(path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    path.write_text("\n".join(lines))


KINDS = {
    "folder": Path.mkdir,
    "pipe": _pipe,
    "socket": _socket,
    "endless": lambda path: path.symlink_to("/dev/zero"),
    "terminal": lambda path: path.symlink_to("/dev/tty"),
    "nothing": lambda path: path.symlink_to("not there"),
    "loop": lambda path: path.symlink_to(path.name),
    "huge": _huge,
    "empty": Path.touch,
    "noise": lambda path: path.write_bytes(bytes(range(256)) * 40),
    "deep": _deep,
    "laughs": _laughs,
    "list": lambda path: path.write_text("[1, 2]\n"),
    "mapping": lambda path: path.write_text("{}\n"),
}


def some(*quick):
    """All kinds, those but ``quick`` for the slow tests."""
    return [kind if kind in quick else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("template") / "run"
    assert main(["run", *SMALL, f"hydra.run.dir={folder}"]) == 0
    assert main(["eval", str(folder), "--keep"]) == 0
    return folder


class Late(BaseException):
    """Nothing in the program may catch it."""


@pytest.fixture
def hurry():
    """What hangs is interrupted."""

    def late(*_):
        raise Late(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def _replace(path, kind):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    KINDS[kind](path)


def _check(cli, *words):
    called = cli(*words)
    assert called.code in (0, 2), (words, called)
    if called.code == 2:
        *notes, line = called.err.splitlines()
        assert line.startswith("dnicomm: ")
        assert all("going back to time" in note for note in notes)
    return called


@pytest.mark.parametrize(
    "kind", some("folder", "pipe", "endless", "nothing", "huge", "empty", "deep")
)
@pytest.mark.parametrize("name", FILES)
def test_odd_files_in_a_run(cli, template, hurry, name, kind):
    run = cli.folder / "run"
    shutil.copytree(template, run)
    _replace(run / name, kind)
    for command in ("resume", "report", "compare"):
        _check(cli, command, "run")
    view = read_run(run) if _has_something(run) else None
    if view is not None:
        assert "</html>" in report(view, siblings(view), live=True)
        with Server(run) as server:
            assert isinstance(server.version(), str)


def _has_something(run):
    return any((run / name).is_file() for name in ("config.yaml", "metrics.jsonl", "summary.json"))


# those that a run which is built reads or writes; the others were read above
BUILT = [name for name in FILES if name not in ("communication.json", "multirun.yaml")]


@pytest.mark.parametrize("kind", some("folder", "pipe", "huge"))
@pytest.mark.parametrize("name", BUILT)
def test_odd_files_in_a_run_that_goes_on(cli, template, hurry, name, kind):
    shutil.copytree(template, cli.folder / "run")
    (cli.folder / "run" / "summary.json").unlink()
    _replace(cli.folder / "run" / name, kind)
    if name in ("config.yaml", "run.json", "checkpoints") or "checkpoints" in name:
        _check(cli, "eval", "run", "--metrics=none")
    _check(cli, "resume", "run")


@pytest.mark.parametrize("kind", ["folder", "pipe", "endless", "huge", "deep", "empty"])
@pytest.mark.parametrize("name", ["config.yaml", "run.json", "metrics.jsonl", "summary.json"])
def test_odd_files_in_a_sweep(cli, template, hurry, name, kind):
    for number in (0, 1):
        shutil.copytree(template, cli.folder / "sweep" / f"{number}-run")
    (cli.folder / "sweep" / "multirun.yaml").touch()
    _replace(cli.folder / "sweep" / "1-run" / name, kind)
    for words in (
        ("compare", "sweep"), ("report", "sweep/0-run"), ("resume", "sweep"), ("eval", "sweep"),
        ("bench", "table", "sweep"),
    ):  # fmt: skip
        _check(cli, *words)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("config.yaml", "a: &a [x]\nb: *a", "line 2: references (*a) are not read"),
        ("config.yaml", "[" * 60 + "]" * 60, "line 1: more than 50 levels"),
        ("config.yaml", 'seed: "\\e]0;title\\a"', "has control characters"),
        ("config.yaml", f"seed: {'9' * 400}", "a number has more than 300 digits"),
        ("summary.json", '{"a": ' * 60 + "1" + "}" * 60, "damaged: not a JSON object"),
        ("summary.json", '{"a": "\\u001b]0;title"}', "damaged: not a JSON object"),
        ("summary.json", '{"a": "\\ud800"}', "damaged: not a JSON object"),
        ("summary.json", "{}", "does not hold what a run writes (KeyError: "),
        ("summary.json", '{"metrics": 1}', "does not hold what a run writes"),
    ],
)
def test_what_is_wrong_is_said(cli, template, name, text, message):
    shutil.copytree(template, cli.folder / "run")
    (cli.folder / "run" / name).write_text(text)
    called = _check(cli, "resume", "run")
    assert called.code == 2
    assert f"run/{name} is damaged: " in called.err
    assert message in called.err


def test_a_summary_without_channels_is_shown_or_said(cli, template):
    shutil.copytree(template, cli.folder / "run")
    path = cli.folder / "run" / "summary.json"
    summary = json.loads(path.read_text())
    for key in list(summary):
        path.write_text(json.dumps({k: v for k, v in summary.items() if k != key}))
        for command in ("resume", "report"):
            _check(cli, command, "run")


@pytest.mark.parametrize(
    "changes",
    [
        {"metrics": "x"}, {"metrics": {"accuracy": []}}, {"channels": []}, {"agents": {"a": 1}},
        {"agents": {"agent_0": {"loss": {}}}}, {"wall_s": "x"}, {"wall_s": None}, {"time": "5"},
        {"time": 10.0},
    ],
    ids=str,
)  # fmt: skip
def test_evaluations_of_another_shape(cli, template, changes):
    run = cli.folder / "run"
    shutil.copytree(template, run)
    (run / "summary.json").unlink()
    first, last = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text(f"{first}\n{json.dumps(json.loads(last) | changes)}\n")
    called = _check(cli, "resume", "run")
    assert called.code == 2
    assert "run/metrics.jsonl, line 2 is damaged: " in called.err
    for command in ("report", "compare"):
        assert _check(cli, command, "run").code == 0


@pytest.mark.parametrize(
    "facts",
    [{}, [], {"time": [], "episode": 1}, {"time": 10}, {"time": 11, "episode": 1},
     {"time": 10, "episode": 10**30}, {"time": 10, "episode": -1}],
    ids=str,
)  # fmt: skip
def test_checkpoints_with_other_facts(cli, template, facts):
    run = cli.folder / "run"
    shutil.copytree(template, run)
    (run / "summary.json").unlink()
    folder = run / "checkpoints"
    for path in snapshot.paths(folder):
        held = snapshot.read(path, "pt", 2**30)
        snapshot.write(folder, held.time, held.arrays, facts, "pt")
    for words in (("eval", "run", "--metrics=none"), ("resume", "run")):
        called = _check(cli, *words)
        assert called.code == 2
        assert "checkpoint" in called.err


@pytest.mark.parametrize(
    "changes",
    [
        {"feedback": {}}, {"logger": [{}]}, {"choices": []}, {"choices": {"env": 1}},
        {"overrides": 3}, {"overrides": [None]}, {"bench": None}, {"bench": "../x"},
        {"agents": {"agent_0": {"clock": 1}}}, {"env": []}, {"message": None}, {"eval": 0},
    ],
    ids=str,
)  # fmt: skip
def test_configurations_of_another_shape(cli, template, changes):
    run = cli.folder / "run"
    shutil.copytree(template, run)
    (run / "summary.json").unlink()
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(config | changes))
    for words in (("eval", "run", "--metrics=none"), ("resume", "run")):
        assert _check(cli, *words).code == 2
    for command in ("report", "compare"):
        assert _check(cli, command, "run").code == 0


def test_a_file_that_grows_while_it_is_read_is_bounded(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(bytes(100))
    monkeypatch.setattr("dnicomm.runs.bounds._check", lambda *_: None)  # as if it were small
    with pytest.raises(bounds.UnreadableError, match="no end within 99 bytes"):
        bounds.read_bytes(path, 99)
    assert len(bounds.read_bytes(path, 100)) == 100


def test_emoji_and_deep_enough_records_are_plain():
    text = json.dumps({"😀": {"a": [{"b": "ü\n"}]}})
    assert bounds.parse_record(text) == json.loads(text)
    assert bounds.parse_record(text.encode()) == json.loads(text)


def test_a_large_configuration_is_not_written(tmp_path, monkeypatch):
    from dnicomm.errors import UserError
    from dnicomm.runs import RunFolder

    monkeypatch.setattr("dnicomm.runs.bounds.MOST_YAML", 2**20)
    with pytest.raises(UserError, match="larger than 1 MiB"):
        RunFolder.create(tmp_path / "run", {"a": "x" * 2**20})
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
def test_files_that_say_they_are_empty_and_never_end(tmp_path):
    """Regular files of size 0, so they say; this one has a gigabyte times a thousand."""
    link = tmp_path / "summary.json"
    link.symlink_to("/proc/self/pagemap")
    if not os.access(link, os.R_OK):
        pytest.skip("not readable here")
    with pytest.raises(bounds.UnreadableError, match="cannot be read"):
        bounds.read_bytes(link, 2**20)
