"""Finished runs gathered, grouped over seeds, and shown beside the published values."""

import csv
import io
import json
import statistics

import pytest

from dnicomm.bench.gathering import gather, settings, varying
from dnicomm.bench.published import CERTAINTY, published
from dnicomm.bench.tables import context_of, csv_text, markdown, tables
from dnicomm.cli import main
from dnicomm.runs import RunFolder

MNIST = {
    "bench": "mnist", "choices": {"budget": "cpu"}, "overrides": [], "_target_": "x",
    "dataset": "mnist", "model": "fcn", "layers": 3, "unlock": "update", "interfaces": "all",
    "update_probability": 1.0, "mixing": 0.0, "returns": 0.0, "validation": None, "seed": 0,
}  # fmt: skip
COST = {"step_ms": 4.0, "backprop_ms": 2.0, "relative_time": 2.0, "memory_mib": 3.0,
        "backprop_memory_mib": 1.5}  # fmt: skip
CDNI = {"name": "cdni", "utility": "gradient", "context": "label", "hidden": []}
DNI = {"name": "dni", "utility": "gradient", "context": "none", "hidden": [256]}


def write(folder, config, metrics, figure="accuracy", **more):
    run = RunFolder.create(folder, config)
    run.write_summary({
        "figure": figure, "higher_is_better": True, "metrics": metrics, "best": {"time": 1},
        "updates": 100, "samples": 2000, "sample": "images", "seconds": 10.0, "cost": COST, **more,
    })  # fmt: skip
    return run


@pytest.fixture
def runs(tmp_path):
    """cDNI over three seeds, DNI over one, and other layers."""
    for seed, error in enumerate((2.0, 2.5, 3.0)):
        write(tmp_path / f"cdni-{seed}", MNIST | {"method": CDNI, "seed": seed}, {"error": error},
              seconds=10.0 + seed)  # fmt: skip
    write(tmp_path / "a" / "b" / "dni", MNIST | {"method": DNI}, {"error": 4.0})
    backprop = {"name": "backprop"}
    write(tmp_path / "bp", MNIST | {"method": backprop, "layers": 12}, {"error": 1.0})
    return tmp_path


def found(folder):
    return settings(gather([folder])[0])[0]


def cells(table):
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def test_runs_are_grouped_by_all_but_their_seed(runs):
    by_method = {setting.method: setting for setting in found(runs)}
    assert set(by_method) == {"cdni", "dni", "backprop"}
    cdni = by_method["cdni"].spread("error")
    assert (cdni.mean, cdni.count) == (2.5, 3)
    assert cdni.deviation == statistics.stdev([2.0, 2.5, 3.0]) == 0.5
    assert by_method["cdni"].mean("seconds") == 11.0
    assert by_method["cdni"].seeds() == [0, 1, 2]
    dni = by_method["dni"].spread("error")
    assert (dni.mean, dni.deviation, dni.count) == (4.0, None, 1)


def test_keys_of_a_method_vary_only_within_it(runs):
    assert varying(found(runs)) == ["layers"]
    write(runs / "wide", MNIST | {"method": DNI | {"hidden": [1024]}}, {"error": 3.0})
    assert varying(found(runs)) == ["layers", "method.hidden"]


def test_a_row_a_setting(runs):
    _, full = tables(found(runs))
    rows = cells(full)
    assert [(row["method"], row["layers"]) for row in rows] == [
        ("cdni", "3"), ("dni", "3"), ("backprop", "12"),
    ]  # fmt: skip
    first = rows[0]
    assert first["test error %"] == "2.50 ± 0.50 (3)"
    assert first["published"] == "2.2 [R]"
    assert first["context"] == "label"
    assert (first["images"], first["updates"], first["seconds"]) == ("2,000", "100", "11")
    assert (first["ms a step"], first["x backprop"], first["MiB"]) == ("4.00", "2.00", "3.00")
    assert rows[1]["test error %"] == "4.00 (1)"
    assert rows[2]["published"] == "–"  # noqa: RUF001


def test_the_papers_layout(runs):
    grid, _ = tables(found(runs))
    assert grid.columns == ["model", "layers", "backprop", "cdni", "dni"] or set(grid.columns) == {
        "model",
        "layers",
        "backprop",
        "cdni",
        "dni",
    }
    three, twelve = cells(grid)
    assert (three["layers"], twelve["layers"]) == ("3", "12")  # by their size
    assert three["cdni"] == "2.50 ± 0.50 (3), 2.2 [R]"
    assert three["dni"] == "4.00 (1), 1.9 [R]"
    assert (three["backprop"], twelve["backprop"]) == ("", "1.00 (1)")


def test_windows_are_the_columns_of_the_recurrent_ones(tmp_path):
    config = {"bench": "repeat_copy", "choices": {"budget": "cpu"}, "task": "repeat_copy",
              "seed": 0}  # fmt: skip
    for method, window, longest in (("bptt", 2, 7.0), ("bptt", 10, 9.0), ("dni", 2, 39.0)):
        own = {"name": method, "context": "none"}
        write(tmp_path / f"{method}{window}", config | {"method": own, "window": window},
              {"longest": longest}, figure="longest")  # fmt: skip
    grid, _ = tables(found(tmp_path))
    assert grid.columns == ["method", "T=2", "T=10"]
    assert grid.rows == [["bptt", "7.0 (1), 7 [C]", "9.0 (1)"], ["dni", "39.0 (1), 39 [C]", ""]]


def test_other_experiments_show_their_figure(tmp_path):
    config = {"bench": "mine", "method": {"name": "a"}, "seed": 0}
    write(tmp_path / "one", config, {"score": 0.5}, figure="score")
    write(tmp_path / "two", config | {"method": {"name": "b"}}, {"score": None}, figure="score")
    (table,) = tables(found(tmp_path))
    assert [row["score"] for row in cells(table)] == ["0.500 (1)", "–"]  # noqa: RUF001


def test_a_figure_that_one_seed_lacks_is_not_shown(tmp_path):
    config = {"bench": "mine", "method": {"name": "a"}}
    write(tmp_path / "one", config | {"seed": 0}, {"score": 0.5}, figure="score")
    write(tmp_path / "two", config | {"seed": 1}, {"score": None}, figure="score")
    (setting,) = found(tmp_path)
    assert setting.spread("score") is None


def test_what_is_unfinished_or_damaged_is_passed_over(runs):
    RunFolder.create(runs / "going", MNIST | {"method": CDNI, "seed": 9})
    write(runs / "torn", MNIST | {"method": CDNI, "seed": 10}, {})
    (runs / "torn" / "summary.json").write_text("{")
    write(runs / "bare", MNIST | {"method": CDNI, "seed": 11}, {}, cost=None)
    write(runs / "odd", MNIST | {"method": CDNI, "seed": 12}, {})
    (runs / "odd" / "config.yaml").write_text("a: [")
    RunFolder.create(runs / "simulation", {"steps": 3})  # of dnicomm run: none of ours
    there, passed = gather([runs])
    assert len(there) == 5
    for name, why in (
        ("going", "not finished"), ("torn", "summary.json is damaged"),
        ("bare", "is damaged"), ("odd", "config.yaml is damaged"),
    ):  # fmt: skip
        assert [line for line in passed if f"{runs / name}" in line and why in line]
    assert len(passed) == 4


def test_a_seed_that_was_run_twice_counts_once(runs):
    write(runs / "z", MNIST | {"method": CDNI, "seed": 2}, {"error": 9.0})
    made, repeated = settings(gather([runs, runs / "z"])[0])
    (cdni,) = (setting for setting in made if setting.method == "cdni")
    assert cdni.spread("error").mean == pytest.approx((2.0 + 2.5 + 9.0) / 3)
    assert repeated == [f"{runs / 'cdni-2'}: run again with the same seed in {runs / 'z'}"]


# -- published values -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "changes", "shown"),
    [
        ("mnist", {"method": CDNI}, "2.2 [R]"),
        ("mnist", {"method": DNI, "layers": 6}, "4.3 [R]"),
        ("mnist", {"method": {"name": "none"}, "model": "cnn", "layers": 4}, "2.8 [R]"),
        ("cifar10", {"method": {"name": "backprop"}, "dataset": "cifar10"}, "43.5 [R]"),
        ("mnist", {"method": DNI, "layers": 4, "update_probability": 0.2}, "about 2 [V]"),
        ("mnist", {"method": CDNI, "layers": 21}, "about 2 [R]"),
        ("mnist", {"method": CDNI, "layers": 4, "unlock": "full"}, "about 2 [C]"),
        # what the paper has no figure for, or another one
        ("mnist", {"method": CDNI, "layers": 4, "update_probability": 0.2}, "None"),
        ("mnist", {"method": CDNI, "dataset": "digits"}, "None"),
        ("mnist", {"method": CDNI, "validation": 5000}, "None"),
        ("mnist", {"method": CDNI, "interfaces": [2]}, "None"),
        ("mnist", {"method": CDNI, "mixing": 0.5}, "None"),
        ("mnist", {"method": CDNI | {"name": "critic"}}, "None"),
        ("mnist", {"method": CDNI, "layers": 7}, "None"),
    ],
)
def test_published_values_of_feed_forward_nets(name, changes, shown):
    assert str(published(name, MNIST | changes)) == shown


@pytest.mark.parametrize(
    ("name", "method", "window", "shown"),
    [
        ("copy", "dni_aux", 4, "19 [R]"),
        ("repeat_copy", "bptt", 5, "23 [C]"),
        ("ptb", "dni", 8, "1.34 [V]"),
        ("ptb", "bptt", 40, "1.34 [R]"),
        ("ptb", "bptt", 7, "None"),
        ("ptb", "outcome", 8, "None"),
    ],
)
def test_published_values_of_recurrent_nets(name, method, window, shown):
    config = {
        "method": {"name": method},
        "window": window,
        "text": "ptb" if name == "ptb" else name,
    }
    assert str(published(name, config)) == shown
    assert published("ptb", config | {"text": "made_up"}) is None


def test_no_published_value_goes_without_its_mark(runs):
    found_there = found(runs)
    text = markdown(tables(found_there))
    for mark, what in CERTAINTY.items():
        assert f"[{mark}] {what}" in text
    for row in csv.DictReader(io.StringIO(csv_text(found_there))):
        assert bool(row["published"]) == (row["certainty"] in CERTAINTY)


@pytest.mark.parametrize(
    ("method", "context"),
    [
        ({"name": "backprop"}, "none"),
        (CDNI, "label"),
        (DNI, "none"),
        ({"utility": "outcome", "context": "hindsight"}, "hindsight"),
        ({"utility": "gradient", "context": ["threes", "time"]}, "causal (threes, time)"),
        ({"utility": "gradient", "context": ["count"]}, "hindsight (count)"),
        ({"utility": "gradient", "context": []}, "none"),
        ({"utility": "critic", "context": []}, "hindsight"),  # of two networks
        ({"utility": "none", "context": "label"}, "none"),
    ],
)
def test_context(method, context):
    assert context_of({"method": method}) == context


# -- the command ----------------------------------------------------------------------------------


def test_text(runs, capsys):
    RunFolder.create(runs / "going", MNIST | {"method": CDNI, "seed": 9})
    assert main(["bench", "table", str(runs)]) == 0
    said = capsys.readouterr()
    assert said.err == f"dnicomm: passed over: {runs / 'going'}: not finished\n"
    (row,) = [line for line in said.out.splitlines() if line.startswith("cdni ")]
    assert row.split() == ["cdni", "fcn", "3", "label", "2.50", "±", "0.50", "(3)", "2.2", "[R]",
                           "2,000", "100", "11", "4.00", "2.00", "3.00"]  # fmt: skip
    assert "hidden ones" in said.out
    assert "recalled only" in said.out


def test_markdown_and_csv(runs, tmp_path, capsys):
    assert main(["bench", "table", str(runs), "--format", "markdown"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("### mnist, budget cpu: test error %")
    assert "| dni | fcn | 3 | none | 4.00 (1) | 1.9 [R] | 2,000 |" in text
    output = tmp_path / "table.csv"
    assert main(["bench", "table", str(runs), "--format=csv", f"--output={output}"]) == 0
    assert capsys.readouterr().out == ""
    rows = {row["method"]: row for row in csv.DictReader(output.open())}
    assert len(rows) == 3
    cdni = rows["cdni"]
    assert (cdni["mean"], cdni["deviation"], cdni["seeds"]) == ("2.5", "0.5", "0 1 2")
    assert (cdni["published"], cdni["certainty"], cdni["layers"]) == ("2.2", "R", "3")
    assert (rows["dni"]["deviation"], rows["dni"]["relative_time"]) == ("", "2.0")


def test_no_figure_is_cut_off_however_narrow_the_screen(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    assert main(["bench", "table", str(runs), "--output", str(tmp_path / "table.txt")]) == 0
    text = (tmp_path / "table.txt").read_text()
    assert "2.50 ± 0.50 (3)" in text
    assert "…" not in text


def test_an_output_file_that_cannot_be_written(runs, capsys):
    assert main(["bench", "table", str(runs), "--output", str(runs)]) == 2
    assert f"{runs} cannot be written: Is a directory" in capsys.readouterr().err


def test_summaries_are_read_as_they_are_written(runs):
    (setting,) = (s for s in found(runs) if s.method == "dni")
    assert json.loads((setting.runs[0].path / "summary.json").read_text())["cost"] == COST
