"""What the documents show runs: every Python block, every program, every dnicomm line."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dnicomm.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


def python_blocks():
    for page in PAGES:
        for i, block in enumerate(blocks(page.read_text(), "python")):
            yield pytest.param(block, id=f"{page.name}-{i}")


@pytest.mark.parametrize("block", list(python_blocks()))
def test_a_python_block_runs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "block", "exec"), {"__name__": "block"})


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder outside the repository with the README's files in it, as a newcomer has."""
    for block in blocks(README, "python"):
        named = re.match(r"# (\w+\.py)\n", block)
        if named:
            (tmp_path / named[1]).write_text(block)
            monkeypatch.delitem(sys.modules, named[1].removesuffix(".py"), raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def dnicomm_lines():
    for block in blocks(README, "sh"):
        for line in block.splitlines():
            if line.startswith("dnicomm "):
                yield line.split("#")[0].split()[1:]


SMALL = ["steps=20", "eval.episodes=1", "num_worlds=4", "eval.num_worlds=4"]


@pytest.mark.parametrize("words", list(dnicomm_lines()), ids=" ".join)
def test_a_command_line_runs(words, workplace, monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", [*sys.path])
    words = [w.replace("seed=0,1,2", "seed=0") for w in words]
    if "RUN" in words:
        assert main(["run", *SMALL, "hydra.run.dir=RUN"]) in (0, None)
    if words[:2] == ["bench", "table"]:
        assert main(["bench", "copy", "budget=smoke", "steps=20"]) in (0, None)
    given = {w.split("=")[0] for w in words}
    small = [s for s in SMALL if s.split("=")[0] not in given or s.startswith(("steps", "num"))]
    if words[0] == "run":
        words = [w for w in words if not w.startswith(("steps=", "num_worlds="))] + small
    assert main(words) in (0, None)
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["my_agents.py", "my_world.py"])
def test_a_plug_in_fits_in_fifteen_lines(name):
    block = next(b for b in blocks(README, "python") if b.startswith(f"# {name}"))
    code = [line for line in block.splitlines() if line and not line.startswith("#")]
    assert len(code) <= 15


@pytest.mark.parametrize("name", ["layers", "recurrent", "two_agents"])
def test_a_program_reaches_what_it_says(name):
    """Fixed seeds; the bounds leave room for another machine's last bits."""
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "examples" / f"{name}.py"],
        capture_output=True, text=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    reached = [float(x) for x in re.findall(r"([\d.]+)%", done.stdout)]
    if name == "recurrent":
        truncated, decoupled = reached
        assert truncated < 60
        assert decoupled > 90
    else:
        assert reached[0] > 85


def test_ci_runs_the_tests_as_the_readme_says():
    line = next(line for line in README.splitlines() if line.endswith("python -m pytest"))
    assert line.startswith("python3 -m venv")
    assert "grep -m 1 'python -m pytest$' README.md" in (ROOT / ".ci" / "run").read_text()


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.slow
def test_the_first_command_on_a_fresh_machine(tmp_path):
    """The README's first line in a clean copy: its own environment, the whole run."""
    line = next(line for line in README.splitlines() if line.endswith("dnicomm run"))
    copy = tmp_path / "dnicomm"
    subprocess.run(["git", "clone", "-q", ROOT, copy], check=True)
    outside = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
    done = subprocess.run(
        ["bash", "-c", line], cwd=copy, env=outside, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout
    assert (copy / "runs").is_dir()
