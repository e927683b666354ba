"""The pages in a real browser: Debian's chromium, driven by playwright, without a network."""

import contextlib
import shutil
import threading

import pytest

from dnicomm.report import write_report
from dnicomm.report.comparing import compare
from dnicomm.report.comparison import comparison_page
from dnicomm.report.serve import Server

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.needs("playwright.sync_api"),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine"),
]
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
]
NASTY = "</script><script>window.hurt = 1</script><img src=x onerror='window.hurt = 1'>"
DRAWN = """() => [...document.querySelectorAll('canvas')].map(canvas => {
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  return data.some(value => value > 0);
})"""


@pytest.fixture(scope="module")
def chromium():
    from playwright import sync_api as playwright

    with contextlib.ExitStack() as stack:
        try:
            driver = stack.enter_context(playwright.sync_playwright())
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        except Exception as error:  # of the driver or the browser
            pytest.skip(f"chromium does not start here: {error}")
        yield browser
        browser.close()


@pytest.fixture
def look(chromium):
    """``look(path)``: the page, every picture drawn; nothing may go wrong in it."""
    troubles, contexts = [], []

    def look(path, **options):
        options = {"viewport": {"width": 1200, "height": 900}, "reduced_motion": "reduce"} | options
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda line: line.type == "error" and troubles.append(line.text))
        page.on("request", lambda request: troubles.append(f"asks for {request.url}")
                if not request.url.startswith(("file:", "http://127.0.0.1")) else None)  # fmt: skip
        page.goto(path if str(path).startswith("http") else f"file://{path}")
        see(page)
        return page

    yield look
    for context in contexts:
        context.close()
    assert troubles == []


def see(page):
    for picture in page.locator("figure[data-kind]").all():
        picture.scroll_into_view_if_needed()
        page.wait_for_function("figure => figure.dataset.drawn", arg=picture.element_handle())
    page.evaluate("scrollTo(0, 0)")


@pytest.fixture(scope="module")
def path(make_run, tmp_path_factory):
    return write_report(make_run(tmp_path_factory.mktemp("runs") / "run", evaluations=20))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_is_drawn_in_light_and_dark(scheme, path, look):
    page = look(path, color_scheme=scheme)
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    assert page.evaluate(DRAWN) == [True, True]
    assert page.locator(".lines svg path[stroke-width='2']").count() >= 8
    assert page.locator(".scatter svg .mark").count() == 60
    page.click("#theme")
    other = {"light": "dark", "dark": "light"}[scheme]
    assert page.evaluate("document.documentElement.dataset.theme") == other
    assert page.evaluate(DRAWN) == [True, True]


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 800, 1600])
def test_nothing_sticks_out(width, path, look):
    page = look(path)
    page.set_viewport_size({"width": width, "height": 800})
    page.wait_for_timeout(100)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_values_are_read_by_hovering_and_by_keys(path, look):
    page = look(path)
    curve = page.locator("#learning-curves figure.lines svg[role=img]").first
    box = curve.bounding_box()
    page.mouse.move(box["x"] + box["width"] - 20, box["y"] + 60)
    tip = page.locator("#tip")
    assert "world time 2,000" in tip.inner_text()
    assert "0.900" in tip.inner_text()
    page.mouse.move(2, 2)
    assert tip.is_hidden()
    curve.focus()
    page.keyboard.press("ArrowRight")
    assert "world time 100" in tip.inner_text()
    page.keyboard.press("ArrowRight")
    assert "world time 200" in tip.inner_text()
    page.keyboard.press("Escape")
    assert tip.is_hidden()


def test_axes_become_logarithmic_and_curves_smooth(path, look):
    page = look(path)
    section = page.locator("#learning-curves")
    curve = section.locator("figure.lines").nth(1).locator("path[stroke-width='2']").first
    before = curve.get_attribute("d")
    section.locator("[data-control=logy]").check()
    logarithmic = curve.get_attribute("d")
    assert logarithmic != before
    section.locator("[data-control=logx]").check()
    assert curve.get_attribute("d") != logarithmic
    section.locator("[data-control=logx]").uncheck()
    section.locator("[data-control=logy]").uncheck()
    assert curve.get_attribute("d") == before
    section.locator("[data-control=smoothing]").fill("0.9")
    assert curve.get_attribute("d") != before


def test_a_curve_is_hidden_by_its_name(path, look):
    figure = look(path).locator("#feedback figure.lines").first
    assert figure.locator("path[stroke-width='2']").count() == 3
    figure.locator(".legend button").first.click()
    assert figure.locator("path[stroke-width='2']").count() == 2


def test_tables_are_sorted(path, look):
    page = look(path)
    names = page.locator("#feedback tbody th")
    assert names.all_inner_texts()[0] == "agent_0->agent_1"
    page.locator("#feedback thead th button").first.click()
    assert names.all_inner_texts()[0] == "agent_2->agent_3"


def test_the_episode_is_played_and_stepped_by_keys(path, look):
    page = look(path)
    canvas = page.locator("figure.play canvas")
    canvas.focus()
    time = "dnicomm.stage.time"
    assert page.evaluate(time) == 0
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    after = page.evaluate(time)
    assert after >= 1.25
    said = page.locator("figure.play .events").inner_text()
    assert "ticks" in said
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(time) < after
    page.keyboard.press("+")
    assert page.locator("figure.play select[aria-label^=speed]").input_value() == "2"
    before = page.evaluate(time)
    page.keyboard.press(" ")
    page.wait_for_function(f"() => {time} > {before} + 0.5")
    assert "pause" in page.locator("figure.play button").first.inner_text()
    page.keyboard.press(" ")
    stopped = page.evaluate(time)
    page.wait_for_timeout(150)
    assert page.evaluate(time) == stopped
    page.keyboard.press("End")
    assert page.evaluate(time) == 20


def test_the_timeline_is_zoomed_moved_and_filtered(path, look):
    page = look(path)
    canvas = page.locator("figure.timeline canvas")
    tall = canvas.bounding_box()["height"]
    picture = "document.querySelector('figure.timeline canvas').toDataURL()"
    pictures = [page.evaluate(picture)]

    def changed():
        pictures.append(page.evaluate(picture))
        return pictures[-1] != pictures[-2]

    canvas.focus()
    page.keyboard.press("+")
    assert changed()
    page.keyboard.press("ArrowRight")
    assert changed()
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 600, box["y"] + 90)
    page.mouse.down()
    page.mouse.move(box["x"] + 700, box["y"] + 90, steps=4)
    page.mouse.up()
    assert changed()
    page.locator("figure.timeline [data-layer=messages]").uncheck()
    assert changed()
    page.locator("figure.timeline input[type=search]").fill("agent_0")
    assert changed()
    assert canvas.bounding_box()["height"] < tall
    page.locator("figure.timeline input[type=search]").fill("nobody")
    assert changed()


@pytest.mark.slow
def test_a_message_and_a_tick_tell_of_themselves(path, look):
    page = look(path)
    canvas = page.locator("figure.timeline canvas")
    canvas.scroll_into_view_if_needed()
    box, seen = canvas.bounding_box(), set()
    for x in range(100, 1000, 7):
        for y in (58, 90):
            page.mouse.move(box["x"] + x, box["y"] + y)
            tip = page.locator("#tip")
            if tip.is_visible():
                text = tip.inner_text()
                seen |= {word for word in ("ticks", "sent", "lost on the way", "synthetic gradient")
                         if word in text}  # fmt: skip
    assert seen == {"ticks", "sent", "lost on the way", "synthetic gradient"}


@pytest.mark.slow
def test_a_hundred_agents(make_run, look, tmp_path):
    page = look(write_report(make_run(tmp_path / "run", agents=100)))
    assert page.evaluate(DRAWN) == [True, True]
    assert page.locator("figure.timeline canvas").bounding_box()["height"] < 720
    page.locator("figure.timeline input[type=search]").fill("agent_42")
    assert page.evaluate(DRAWN) == [True, True]


def test_names_and_values_that_are_scripts_do_nothing(make_run, look, tmp_path):
    path = make_run(tmp_path / "run", agents=["a", NASTY, "c"], config={"note": NASTY})
    page = look(write_report(path))
    page.locator("figure.play canvas").focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    assert page.evaluate("window.hurt") is None
    assert NASTY in page.locator("#feedback table").inner_text()
    assert page.locator("img").count() == 0


@pytest.mark.slow
def test_the_live_page_follows_its_run(make_run, look, tmp_path):
    run = make_run(tmp_path / "run", ended=False)
    with Server(run) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        page = look(server.url)
        assert "so far" in page.locator(".lead").inner_text()
        with (run / "metrics.jsonl").open("a") as file:
            file.write('{"time": 900, "metrics": {"accuracy": 0.125}}\n')
        page.wait_for_function("() => document.querySelector('.lead').innerText.includes('0.125')")
        server.shutdown()
        thread.join()


def test_runs_side_by_side(make_run, look, tmp_path):
    for feedback, reached in (("none", 0.5), (NASTY, 0.9)):
        for seed in (0, 1):
            make_run(tmp_path / f"{feedback[:4].strip('<>/')}{seed}", feedback=feedback, seed=seed,
                     accuracy=reached + seed / 20, recorded=False)  # fmt: skip
    target = tmp_path / "comparison.html"
    target.write_text(comparison_page(compare([tmp_path]), "a sweep", tmp_path))
    page = look(target)
    assert page.evaluate("window.hurt") is None
    assert page.locator("#result .drawn circle").count() == 4
    assert page.locator("#learning-curves .drawn").first.locator("polygon").count() == 2  # bands
    assert f"feedback={NASTY}"[:32] in page.locator("#result .drawn").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_without_scripts_there_are_still_words_and_tables(path, chromium):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"file://{path}")
    assert "accuracy 0.900" in page.locator(".lead").inner_text()
    assert page.locator("#feedback tbody tr").count() == 3
    assert page.locator("noscript").count() == 1
    context.close()
