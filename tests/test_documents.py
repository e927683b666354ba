"""What the documents show runs: every Python block, every program, every dnicomm line."""

import os
import re
import shlex
import shutil
import string
import subprocess
import sys
from pathlib import Path

import pytest

from dnicomm.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
# pages for newcomers, whose lines are run; those elsewhere began hours of measuring
GUIDES = [ROOT / "README.md", *(DOCS / f"{n}.md" for n in ("index", "quick_start", "concepts")),
          *sorted((DOCS / "how_to").glob("*.md"))]  # fmt: skip


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


def named(page: Path) -> str:
    return str(page.relative_to(ROOT).with_suffix("")).removeprefix("docs/")


def python_blocks():
    for page in PAGES:
        for i, block in enumerate(blocks(page.read_text(), "python")):
            yield pytest.param(block, id=f"{named(page)}-{i}")


@pytest.mark.parametrize("block", list(python_blocks()))
def test_a_python_block_runs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "block", "exec"), {"__name__": "block"})


def lines_of(page: Path):
    """The lines of a page that call dnicomm, without comments."""
    for block in blocks(page.read_text(), "sh"):
        for line in block.splitlines():
            if line.startswith("dnicomm "):
                yield line.partition("  #")[0].strip()


def guided_lines():
    seen = set()
    for page in GUIDES:
        for line in lines_of(page):
            if line not in seen:
                seen.add(line)
                command = line.split()[1]
                quick = page.name == "README.md" and command != "bench"
                quick = quick or command in ("check", "list", "report")
                slow = () if quick else (pytest.mark.slow,)
                yield pytest.param(page, shlex.split(line)[1:], id=line, marks=slow)


SMALL = ["steps=20", "eval.episodes=1", "num_worlds=4", "eval.num_worlds=4"]


@pytest.mark.parametrize(("page", "words"), list(guided_lines()))
def test_a_command_line_runs(page, words, tmp_path, monkeypatch, capsys, need):
    """In a folder outside the repository with the page's files in it, as a newcomer has."""
    for block in blocks(page.read_text(), "python"):
        name = re.match(r"# (\w+\.py)\n", block)
        if name:
            (tmp_path / name[1]).write_text(block)
            monkeypatch.delitem(sys.modules, name[1].removesuffix(".py"), raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "path", [*sys.path])
    for package, module in {"tensorboard": "torch.utils.tensorboard", "wandb": "wandb"}.items():
        if package in str(words):
            need(module)
    words = [w.replace("seed=0,1,2", "seed=0") for w in words]
    if "RUN" in words:
        assert main(["run", *SMALL, "hydra.run.dir=RUN"]) in (0, None)
    if "SWEEP" in words:
        assert main(["run", "-m", "seed=0,1", *SMALL, "hydra.sweep.dir=SWEEP"]) in (0, None)
    if words[:2] == ["bench", "table"]:
        assert main(["bench", "copy", "budget=smoke", "steps=20"]) in (0, None)
    given = {w.split("=")[0] for w in words}
    small = [s for s in SMALL if s.split("=")[0] not in given or s.startswith(("steps", "num"))]
    if words[0] == "run":
        words = [w for w in words if not w.startswith(("steps=", "num_worlds="))] + small
    assert main(words) in (0, None)
    assert "Traceback" not in capsys.readouterr().err


LINK = re.compile(r"\]\(([^)#]*)(?:#([^)]+))?\)")


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as a site and GitHub make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    heads = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page):
    for target, anchor in LINK.findall(page.read_text()):
        if "://" in target:
            continue
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), target
        if anchor and there.suffix == ".md" and there.parent.name != "reference":  # made of code
            assert anchor in anchors(there), f"{target}#{anchor}"


def measured_lines():
    """Commands that took hours, by page, their variables put in."""
    for page in PAGES:
        values: dict[str, str] = {}
        for block in blocks(page.read_text(), "sh") if page not in GUIDES else ():
            for line in block.replace("\\\n", " ").splitlines():
                given = re.match(r'(\w+)="(.*)"$', line)
                if given:
                    values[given[1]] = given[2]
                # the others of dnicomm bench compose nothing, and have tests of their own
                elif re.match(r"dnicomm (run|bench (?!all|speed|table))", line):
                    line = line.partition("  #")[0]
                    line = string.Template(line).substitute(values)
                    yield pytest.param(shlex.split(line)[1:], id=f"{named(page)}: {line}")


@pytest.mark.slow
@pytest.mark.parametrize("words", list(measured_lines()))
def test_a_measured_command_is_still_understood(words, capsys):
    """The first run of each, up to where it would begin."""
    words = [first_of(w) for w in words if w not in ("-m", "--multirun")]
    assert main([*words, "--cfg", "job"]) in (0, None), capsys.readouterr().err


def first_of(word: str) -> str:
    """``key=a,b`` -> ``key=a``; commas in brackets don't part values."""
    depth = 0
    for i, c in enumerate(word):
        depth += (c in "[{(") - (c in "]})")
        if c == "," and depth == 0:
            return word[:i]
    return word


@pytest.mark.parametrize("name", ["my_agents.py", "my_world.py"])
def test_a_plug_in_fits_in_fifteen_lines(name):
    block = next(b for b in blocks(README, "python") if b.startswith(f"# {name}"))
    code = [line for line in block.splitlines() if line and not line.startswith("#")]
    assert len(code) <= 15


# what each prints in per cent, and the bounds it has to lie in: from, to
EXAMPLES = {
    "clocks": [(0, 100), (0, 100), (85, 100)],
    "layers": [(85, 100)],
    "recurrent": [(0, 60), (90, 100)],
    "telling": [(0, 70), (85, 100)],
    "training_loop": [(0, 75), (85, 100)],
}


SLOW = ("clocks", "layers", "recurrent")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in EXAMPLES]
)
def test_an_example_reaches_what_it_says(name):
    """Fixed seeds; the bounds leave room for another machine's last bits."""
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / f"{name}.py"],
        capture_output=True, text=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    reached = [float(x) for x in re.findall(r"([\d.]+)%", done.stdout)]
    for value, (low, high) in zip(reached, EXAMPLES[name], strict=True):
        assert low <= value <= high, done.stdout


def test_examples_are_short_and_all_of_them_are_run():
    files = {path.stem: path.read_text() for path in (ROOT / "examples").glob("*.py")}
    assert files.keys() == EXAMPLES.keys()
    for name, text in files.items():
        code = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
        assert len(code) < 60, name


def test_ci_runs_the_tests_as_the_readme_says():
    line = next(line for line in README.splitlines() if line.endswith("python -m pytest"))
    assert line.startswith("python3 -m venv")
    assert "grep -m 1 'python -m pytest$' README.md" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.slow
def test_the_first_command_on_a_fresh_machine(tmp_path, package_index):
    """The README's first line in a clean copy: its own environment, the whole run."""
    line = next(line for line in README.splitlines() if line.endswith("dnicomm run"))
    copy = tmp_path / "dnicomm"
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("this is no checkout that git could copy")
    subprocess.run(["git", "clone", "-q", ROOT, copy], check=True)
    outside = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
    done = subprocess.run(
        ["bash", "-c", line], cwd=copy, env=outside, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout
    assert (copy / "runs").is_dir()
