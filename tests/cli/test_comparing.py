"""``dnicomm compare``: what it prints and writes."""

import pytest

SMALL = (
    "steps=8", "num_worlds=2", "eval.num_worlds=2", "eval.episodes=1", "eval.every=4",
    "env.num_agents=2", "env.horizon=4",
)  # fmt: skip


needs_matplotlib = pytest.mark.needs("matplotlib.figure", "matplotlib.backends.backend_agg")


@needs_matplotlib
def test_a_sweep(cli):
    words = ("run", "-m", "feedback=synthetic,none", "seed=0,1", *SMALL, "hydra.sweep.dir=sweep")
    assert cli(*words).code == 0
    called = cli("compare", "sweep")
    assert (called.code, called.err) == (0, "")
    table, files = called.out.split("\n\n")[0].splitlines(), called.out.splitlines()[-3:]
    assert table[0].split()[:2] == ["feedback", "accuracy"]
    assert {line.split()[0] for line in table[1:3]} == {"synthetic", "none"}
    assert files == [f"sweep/comparison/comparison.{kind}" for kind in ("html", "csv", "png")]
    assert all((cli.folder / file).stat().st_size for file in files)
    before = cli.files()
    assert cli("compare", "sweep").code == 0  # written anew, and its own folder holds no run
    assert cli.files() == before


@needs_matplotlib
def test_experiments(toy):
    for method in ("fast", "slow"):
        words = ("bench", "toy", f"method={method}", f"hydra.run.dir=runs/{method}")
        assert toy(*words).code == 0
    called = toy("compare", "runs/fast", "runs/slow", "--output", "side by side")
    assert (called.code, called.err) == (0, "")
    rows = called.out.splitlines()
    assert rows[0].split()[:2] == ["method", "error"]
    assert [row.split()[0] for row in rows[1:3]] == ["fast", "slow"]  # a small error is good
    assert (toy.folder / "side by side" / "comparison.html").exists()


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib"),
         "is not installed here"),
        (ImportError("libodd.so:\nno such file"),
         "can't be imported here (ImportError: libodd.so: no such file)"),
        (ModuleNotFoundError("No module named 'odd'", name="odd"),
         "can't be imported here (ModuleNotFoundError: No module named 'odd')"),
    ],
    ids=["absent", "broken", "incomplete"],
)  # fmt: skip
def test_without_matplotlib_the_rest_is_there(toy, monkeypatch, error, why):
    def fails(name):
        raise error

    monkeypatch.setattr("dnicomm.report.comparison_files.import_module", fails)
    assert toy("bench", "toy", "hydra.run.dir=run").code == 0
    called = toy("compare", "run", "--output", "here")
    assert called.code == 0
    assert called.err == (
        f"dnicomm: here/comparison.png needs the package matplotlib, which {why}. "
        'Install it: pip install "dnicomm[plot]"\n'
    )
    assert {p.name for p in (toy.folder / "here").iterdir()} == {
        "comparison.html",
        "comparison.csv",
    }


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("gone",), "gone: there is no such folder"),
        ((".",), "there is no run in there"),
        (("run", "--metric", "nothing"), "nothing: no run has such a metric. Known: error"),
        (("run", "--output", "file"), "file: cannot be written to: File exists"),
        ((), "the following arguments are required: RUN"),
    ],
)
def test_bad_input(toy, words, why):
    if "run" in words:
        assert toy("bench", "toy", "hydra.run.dir=run").code == 0
        toy.write("file", "")
    called = toy("compare", *words)
    assert called.code == 2
    assert why in called.err
    assert len(called.err.splitlines()) == 1
