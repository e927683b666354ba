"""What stands on the page of a run."""

import base64
import hashlib
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from dnicomm.report import Page, read_run, report, write_report
from dnicomm.report.configuration import command
from dnicomm.report.curves import MOST_POINTS, thinned
from dnicomm.report.feedback import complaints
from dnicomm.report.messages import project
from dnicomm.runs import RunFolder

NASTY = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def page(make_run, tmp_path_factory):
    """A page, as text."""
    return write_report(make_run(tmp_path_factory.mktemp("runs") / "run")).read_text()


def test_it_loads_nothing(page):
    assert len(page) < 6_000_000
    assert not re.search(r'(src|href)="(?!#)', page.partition("<script>")[0])
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|importScripts", page)
    assert "default-src 'none'" in page


def test_its_policy_allows_its_own_scripts_and_no_others(page):
    policy = re.search(r"script-src ([^;]*);", page)[1]
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
              for script in re.findall(r"<script>(.*?)</script>", page, re.DOTALL)]  # fmt: skip
    assert policy.split() == [f"'sha256-{digest}'" for digest in hashes]


def test_its_sections(page):
    assert re.findall(r"<h2[^>]*>(.*?)</h2>", page) == [
        "Result", "Learning curves", "Play-by-play", "Timeline", "Is the feedback any good?",
        "What the messages say", "Repeat it",
    ]  # fmt: skip
    for name in re.findall(r'<a href="#([^"]*)">', page):
        assert f'id="{name}"' in page


def test_its_pictures_are_told_in_words(page):
    pictures = [json.loads(text) for text in
                re.findall(r'id="picture-\d+">(.*?)</script>', page)]  # fmt: skip
    assert len(pictures) >= 10
    assert all(len(picture["alt"]) > 20 for picture in pictures)


def test_names_that_are_markup_stay_names(make_run, tmp_path):
    path = make_run(tmp_path / "run", agents=["a", NASTY, "c"], config={"note": NASTY})
    page = write_report(path).read_text()
    assert NASTY not in page
    assert "<img" not in page
    assert page.count("<script>") == page.count("</script>") - page.count("application/json")
    assert "&lt;/script&gt;" in page


def test_the_command_to_repeat_it(make_run, tmp_path):
    path = make_run(tmp_path / "run", config={"overrides": ["seed=1", "agent._target_=my mod"]})
    assert command(read_run(path)) == "dnicomm run seed=1 'agent._target_=my mod'"


def test_a_utility_model_that_is_worse_than_zero_is_told_in_words(make_run, tmp_path):
    page = write_report(make_run(tmp_path / "run", errors=1.25)).read_text()
    assert "agent_0-&gt;agent_1: the utility model is worse than zero" in page
    assert "Its relative error is 1.250" in page
    assert "On 0 of 3 channels" in page
    fine = write_report(make_run(tmp_path / "fine", errors=0.99)).read_text()
    assert "worse than zero." not in fine
    assert "On 3 of 3 channels" in fine


@pytest.mark.parametrize(
    ("config", "label"),
    [
        ({"feedback": "synthetic", "gradient_scale": 5}, "injected: synthetic times 5"),
        ({"feedback": "mixed", "feedback_share": 0.75}, "injected: synthetic times 0.25"),
        ({"feedback": "exact"}, "synthetic (nothing is injected)"),
        ({"feedback": "none"}, "synthetic (nothing is injected)"),
    ],
)
def test_what_was_injected(config, label, make_run, tmp_path):
    page = write_report(make_run(tmp_path / "run", config=config)).read_text()
    assert f'"name":{json.dumps(label)}' in page


def test_the_share_lost_is_that_of_the_recorded_messages(make_run, tmp_path):
    view = read_run(make_run(tmp_path / "run"))
    columns = [r.columns for r in view.recordings]
    own = [c["message.lost"][c["message.channel"] == 1] == 1 for c in columns]
    share = float(np.concatenate(own).mean())
    assert 0 < share < 1
    row = re.search(r"agent_1-&gt;agent_2</th>(.*?)</tr>", report(view))[1]
    assert f">{share:.3f}<" in row


def test_the_worst_channel_is_named_first():
    said = complaints(
        {"a": {"relative_error": 1.2, "cosine": 0.3}, "b": {"relative_error": 4.0, "cosine": 0.0},
         "c": {"relative_error": 1.0}, "d": {"relative_error": None}}, "none",
    )  # fmt: skip
    assert [line[0] for line in said] == ["b", "a"]
    assert "not even its direction" in said[0]
    assert "still carries something" in said[1]
    assert "don't learn from it in this run" in said[0]


def test_of_many_channels_there_are_the_middle_and_the_outermost(make_run, tmp_path):
    page = write_report(make_run(tmp_path / "run", agents=40)).read_text()
    assert '"name":"median of 39"' in page
    assert page.count('"name":"agent_') <= 4 * 10


def test_of_very_many_channels_the_table_has_the_worst(make_run, tmp_path):
    page = write_report(make_run(tmp_path / "run", agents=310, recorded=False)).read_text()
    assert "the 300 of 309 channels with the largest error" in page
    assert page.count('<th scope="row">agent_') == 300


@pytest.mark.parametrize("count", [0, 1, 499, 500, 501, 100_000])
def test_curves_are_thinned_and_end_where_they_end(count):
    found = thinned(list(range(count)), [float(i) for i in range(count)])
    assert len(found["x"]) == len(found["y"]) <= MOST_POINTS
    assert found["x"] == [int(y) for y in found["y"]]
    assert count <= MOST_POINTS or len(found["x"]) > MOST_POINTS // 2
    if count:
        assert found["x"][-1] == count - 1


def test_a_projection_is_the_plane_of_largest_variance():
    rng = np.random.default_rng(0)
    plane = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    made = rng.standard_normal((200, 6)) * [5, 2, 0.1, 0.1, 0.1, 0.1]
    points, shares = project(made @ plane.T + 7)
    variances = np.linalg.eigvalsh(np.cov(made.T))[::-1]
    np.testing.assert_allclose(points.var(0, ddof=1), variances[:2], rtol=1e-6)
    np.testing.assert_allclose(shares, variances[:2] / variances.sum(), rtol=1e-6)
    np.testing.assert_allclose(points.mean(0), 0, atol=1e-9)


@pytest.mark.parametrize("shape", [(5, 1), (1, 3), (4, 2)])
def test_a_projection_of_little_is_still_two_numbers(shape):
    points, shares = project(np.ones(shape))
    assert points.shape == (shape[0], 2)
    assert shares == [0, 0]


def test_communication_is_shown_with_what_chance_does(make_run, tmp_path):
    path = make_run(tmp_path / "run")
    assert "dnicomm eval run --keep" in write_report(path).read_text()
    signalling = {"value": 1.25, "chance": 0.01, "chance_95": 0.0625, "samples": 9}
    channel = {"share_read": 0.5, "positive_signalling": signalling, "causal_influence": None}
    silenced = {"zeroed": {"accuracy": 0.1}, "shuffled": None}
    ablation = {"on": {"accuracy": 0.9}, "all": silenced, "channels": {"a->b": silenced}}
    RunFolder.open(path).write_communication({"channels": {"a->b": channel}, "ablation": ablation})
    page = write_report(path).read_text()
    assert "1.250 (0.06)" in page
    assert "causal influence" not in page
    assert "all channels" in page


def test_a_page_for_something_else():
    """As other pages use it."""
    page = Page("two runs", "beside each other")
    series = [{"name": "a", "x": [1, 2], "y": [0.5, None], "low": [0, None], "high": [1, None]}]
    page.section(
        "Curves", page.picture("lines", {"title": "t", "x": "time", "series": series}, "it")
    )
    text = page.render()
    assert "dnicomm.draw.lines" in text
    assert "dnicomm.draw.play" not in text
    assert '<section id="curves"' in text


def test_live_pages_may_ask_their_own_server_and_nobody_else(make_run, tmp_path):
    view = read_run(make_run(tmp_path / "run"))
    assert "connect-src 'none'" in report(view)
    live = report(view, live=True)
    assert "connect-src 'self'" in live
    assert 'fetch("/version")' in live


def test_writing_imports_no_torch():
    code = "import sys, dnicomm.report, dnicomm.report.serve; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
