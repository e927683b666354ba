"""Runs side by side: how they are grouped, what differs, spread over seeds, and what is missing."""

import csv
import io
import json
import re
import statistics

import pytest
from scipy import stats

from dnicomm.errors import UserError
from dnicomm.report.comparing import compare, curve, shown
from dnicomm.report.comparison import MOST_CURVES, comparison_page
from dnicomm.report.comparison_files import comparison_csv, draw_comparison
from dnicomm.runs.settings import spread

REACHED = {"none": (0.5, 0.6, 0.7), "synthetic": (0.8, 0.9, 1.0), "exact": (0.95,)}
NASTY = "</script><script>alert(1)</script>"


@pytest.fixture
def sweep(make_run, tmp_path):
    """Three kinds of feedback, the last one with a single seed."""
    for feedback, reached in REACHED.items():
        for seed, accuracy in enumerate(reached):
            make_run(tmp_path / f"{len(list(tmp_path.iterdir()))}-{feedback}", feedback=feedback,
                     seed=seed, accuracy=accuracy, recorded=False)  # fmt: skip
    return tmp_path


def test_settings_are_runs_that_differ_by_their_seed_alone_and_the_best_comes_first(sweep):
    found = compare([sweep])
    assert (found.metric, found.lower_is_better, found.columns) == ("accuracy", False, ["feedback"])
    assert [(s.label, s.seeds()) for s in found.settings] == [
        ("exact", [0]), ("synthetic", [0, 1, 2]), ("feedback=none", [0, 1, 2]),
    ]  # fmt: skip
    for setting in found.settings:
        reached = setting.spread("accuracy")
        values = REACHED[setting.keys["feedback"]]
        assert reached.mean == pytest.approx(statistics.mean(values))
        assert (setting.time(), setting.state()) == (600, "ended")
    assert found.missing == []


def test_a_logger_makes_no_other_setting(make_run, tmp_path):
    make_run(tmp_path / "a", seed=0, config={"logger": ["wandb"]})
    make_run(tmp_path / "b", seed=1, config={"logger": []})
    assert [s.seeds() for s in compare([tmp_path]).settings] == [[0, 1]]


def test_keys_that_are_no_words(make_run, tmp_path):
    for value in (1, 2):
        make_run(tmp_path / f"{value}", config={"odd": {1: value, "a": None}})
    assert compare([tmp_path]).columns == ["odd.1"]


def test_lower_is_better_where_the_summary_or_the_name_says_so(sweep, tmp_path):
    for path in sweep.glob("*/summary.json"):
        summary = json.loads(path.read_text()) | {"figure": "accuracy", "higher_is_better": False}
        path.write_text(json.dumps(summary))
    assert compare([sweep]).settings[0].label == "feedback=none"


def test_another_metric_and_one_that_there_is_not(sweep):
    assert compare([sweep], "train_accuracy").metric == "train_accuracy"
    with pytest.raises(UserError, match=r"accurcy: no run has such a metric\. Did you mean 'accur"):
        compare([sweep], "accurcy")


@pytest.mark.parametrize("values", [[1.0, 2.0, 2.5], [0.3, 0.5, 0.4, 0.9]])
def test_the_interval_is_students(values):
    low, high = spread(values).interval()
    mean, error = statistics.mean(values), stats.sem(values)
    assert (low, high) == pytest.approx(stats.t.interval(0.95, len(values) - 1, mean, error))
    assert spread([3.0]).interval() is None
    assert spread([3.0, 4.0]).interval() is None  # too few to say
    assert spread([None, 2.0, None]).count == 1
    assert spread([]) is None


def test_bands(sweep, make_run):
    exact, synthetic, _ = compare([sweep]).settings
    assert curve(exact, "accuracy") == {
        "x": [100, 200, 300, 400, 500, 600], "y": pytest.approx([0.95 * i / 6 for i in range(1, 7)])
    }  # fmt: skip
    at = curve(synthetic, "accuracy")
    assert at["y"][-1] == pytest.approx(0.9)
    assert (at["low"][-1], at["high"][-1]) == pytest.approx(spread([0.8, 0.9, 1.0]).interval())
    make_run(sweep / "more", feedback="exact", seed=1, accuracy=0.85, recorded=False)
    two = next(s for s in compare([sweep]).settings if s.keys["feedback"] == "exact")
    at = curve(two, "accuracy")
    assert (at["low"][-1], at["high"][-1]) == pytest.approx((0.85, 0.95))


def test_means_of_channels_and_agents(make_run, tmp_path):
    path = make_run(tmp_path / "run", agents=3, evaluations=2, recorded=False)
    records = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    for cosine, channel in zip((0.25, 0.75), records[0]["channels"].values(), strict=True):
        channel["cosine"] = cosine
    first, second = records[1]["channels"].values()
    first["cosine"], second["cosine"] = None, 0.5
    (path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    (setting,) = compare([path]).settings
    assert curve(setting, "cosine", "channels") == {"x": [100, 200], "y": [0.5, 0.5]}
    assert curve(setting, "loss", "agents")["y"] == [1.0, 0.5]
    assert "mean of channels" in comparison_page(compare([path]), "a run", tmp_path)


def test_a_seed_that_has_not_come_so_far(make_run, tmp_path):
    make_run(tmp_path / "a", seed=0, accuracy=0.6, evaluations=6)
    make_run(tmp_path / "b", seed=1, accuracy=0.6, evaluations=6, ended=False)
    lines = (tmp_path / "b" / "metrics.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "b" / "metrics.jsonl").write_text("".join(lines[:3]))
    found = compare([tmp_path])
    (setting,) = found.settings
    assert curve(setting, "accuracy")["x"] == [100, 200, 300, 400, 500, 600]
    assert (setting.time(), setting.state()) == (300, "1 of 2 ended")
    assert any("has not ended" in line for line in found.missing)


def test_options_of_a_group_stand_for_its_keys(make_run, tmp_path):
    clocks = {
        "slow": {"_target_": "Poisson", "rate": 0.1},
        "fast": {"_target_": "Poisson", "rate": 0.9},
        "bursts": {"_target_": "Bursty", "burst": 4},
    }
    for name, clock in clocks.items():
        choice = {"clock": "bursty" if "burst" in clock else "poisson", "env": "relay"}
        make_run(tmp_path / name, config={"clock": clock, "choices": choice})
    found = compare([tmp_path])
    assert found.columns == ["clock", "clock.rate"]
    assert {s.label for s in found.settings} == {
        "bursty", "poisson rate=0.1", "poisson rate=0.9",
    }  # fmt: skip


def test_what_cannot_be_read_is_said_and_the_rest_is_shown(sweep, make_run, tmp_path):
    damaged, newer, begun = (make_run(sweep / name, feedback="local", seed=i, recorded=False)
                             for i, name in enumerate(("damaged", "newer", "begun")))  # fmt: skip
    (damaged / "config.yaml").write_text("{:")
    (newer / "run.json").write_text('{"format_version": 99}')
    for name in ("metrics.jsonl", "summary.json"):
        (begun / name).unlink()
    (sweep / "empty").mkdir()
    found = compare([sweep])
    assert len(found.settings) == 5
    assert found.columns == ["feedback"]
    said = "\n".join(found.missing)
    for name, why in (
        ("damaged", "is damaged"),
        ("newer", "newer dnicomm"),
        ("begun", "no evaluation"),
    ):
        assert re.search(f"{name}.*{why}", said), name
    local = next(s for s in found.settings if s.label == "local")
    assert shown(local.spread("accuracy")) == "0.900 (1)"
    page = comparison_page(found, "a sweep", tmp_path)
    assert "newer dnicomm" in page
    assert "damaged" in comparison_csv(found)


def test_nothing_measured_at_all(make_run, tmp_path):
    make_run(tmp_path / "run", evaluations=0, ended=False)
    found = compare([tmp_path])
    assert found.metric is None
    assert "Nothing has been measured yet" in comparison_page(found, "a run", tmp_path)
    assert len(comparison_csv(found).splitlines()) == 2
    assert not draw_comparison(found, tmp_path / "picture.png")


def test_a_seed_that_was_run_twice_counts_once(make_run, tmp_path):
    make_run(tmp_path / "1", accuracy=0.2)
    make_run(tmp_path / "2", accuracy=0.4)
    found = compare([tmp_path, tmp_path / "1"])
    assert found.settings[0].results("accuracy") == pytest.approx([0.4])
    assert found.missing == [f"{tmp_path / '1'}: run again with the same seed in {tmp_path / '2'}."]


@pytest.mark.parametrize(("name", "why"), [("gone", "no such folder"), ("empty", "no run")])
def test_folders_without_runs(tmp_path, name, why):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=why):
        compare([tmp_path / name])


def test_the_page_escapes_and_loads_nothing(make_run, tmp_path):
    for seed, note in enumerate((NASTY, "plain")):
        make_run(tmp_path / f"{seed}", config={"note": note})
    page = comparison_page(compare([tmp_path]), NASTY, tmp_path)
    assert "<script>alert" not in page
    assert "default-src 'none'" in page
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest", page)
    assert re.findall(r"<h2[^>]*>(.*?)</h2>", page) == [
        "Result", "Learning curves", "What is the same", "Runs",
    ]  # fmt: skip


def test_runs_are_linked_to_their_own_pages(sweep):
    run = sweep / "0-none"
    (run / "report.html").touch()
    page = comparison_page(compare([sweep]), "a sweep", sweep / "comparison")
    assert re.findall(r'<a href="([^#"]*)"', page) == ["../0-none/report.html"]


def test_of_very_many_settings_the_best_are_drawn(make_run, tmp_path):
    for i in range(MOST_CURVES + 2):
        make_run(tmp_path / f"{i}", accuracy=i / 20, recorded=False, config={"width": i})
    page = comparison_page(compare([tmp_path]), "many", tmp_path)
    assert "2 more settings are in the table only" in page
    spec = json.loads(re.search(r'id="picture-0">(.*?)</script>', page)[1])
    assert [row["name"] for row in spec["rows"]] == [f"width={i}" for i in range(13, 1, -1)]


def test_the_sheet_has_the_figures_as_they_are(sweep):
    rows = list(csv.DictReader(io.StringIO(comparison_csv(compare([sweep])))))
    assert [row["feedback"] for row in rows] == ["exact", "synthetic", "none"]
    assert float(rows[1]["mean"]) == pytest.approx(0.9)
    assert float(rows[1]["deviation"]) == pytest.approx(0.1)
    assert (rows[0]["deviation"], rows[0]["low_95"], rows[1]["seeds"]) == ("", "", "0 1 2")


@pytest.mark.needs("matplotlib.figure", "matplotlib.backends.backend_agg")
def test_the_picture(sweep, tmp_path):
    assert draw_comparison(compare([sweep]), tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
