"""The page as a browser shows it: no errors, no requests, charts drawn, numbers those of the result, phones fit."""

import json
import shutil

import pytest

from makespan.report import formats as f
from makespan.report import result, write_run
from report_fixture import HOSTILE, memphis_plan

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium"),
]
playwright_api = pytest.importorskip("playwright.sync_api")

SIZES = {"laptop": (1366, 768), "phone": (390, 844)}
CHARTS = [
    *("release", "odds", "powered", "used", "power", "progress", "ledger", "limits", "gantt-0", "gantt-1"),
    *("step", "memory", "cost", "cash", "levers"),
]


@pytest.fixture(scope="module")
def browser():
    with playwright_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    return write_run(memphis_plan(deadline="2025-06-15"), tmp_path_factory.mktemp("runs") / "run")


class Visit:
    """A page with everything it complained about and everything it asked for."""

    def __init__(self, browser, path, *, size="laptop", scheme="light", **context):
        width, height = SIZES[size]
        self.context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, **context)
        self.page = self.context.new_page()
        self.complaints, self.requests = [], []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.url = path.as_uri()

    def __enter__(self):
        self.page.goto(self.url)
        return self

    def __exit__(self, *_):
        self.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_it_draws_every_chart_without_a_complaint_or_a_request(browser, run_folder, size, scheme):
    with Visit(browser, run_folder / "report.html", size=size, scheme=scheme) as visit:
        assert visit.complaints == []
        assert visit.requests == [visit.url]
        for name in CHARTS:
            shapes = visit.page.locator(f"#chart-{name} svg path, #chart-{name} svg text").count()
            assert shapes > 5, f"chart {name} has {shapes} shapes"
        page_width, window_width = visit.page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert page_width == window_width, "no scrolling sideways"


def test_the_first_screen_of_a_laptop_holds_the_answer_and_the_whole_table(browser, run_folder):
    with Visit(browser, run_folder / "report.html") as visit:
        last = visit.page.locator("#options tbody tr").last.bounding_box()
        assert last["y"] + last["height"] <= SIZES["laptop"][1]


def test_the_numbers_of_the_table_are_those_of_the_result(browser, run_folder):
    data = json.loads((run_folder / "result.json").read_text())
    with Visit(browser, run_folder / "report.html") as visit:
        for index, option in enumerate(data["options"]):
            row = visit.page.locator(f'#options tr[data-option="{index}"]')

            def cell(field, row=row):
                return row.locator(f'[data-field="{field}"] b').inner_text()

            assert option["name"] in row.locator("th").inner_text()
            assert cell("release") == f.date(option["completion"]["release"]["p50"])
            assert cell("odds") == f.odds(option["probability_by_deadline"], 200)
            assert cell("cost") == f.money(option["cost_of_model_usd"]["p50"])
            assert cell("committed") == f.money(option["committed_usd"]["p50"])
            assert cell("energy") == f.energy(option["energy_j"]["facility"]["p50"])
            assert cell("power") == f.power(option["peak_power_w"]["facility"]["p50"])


def test_tooltips_write_numbers_as_the_tables_do(browser, run_folder):
    amounts = [0, 0.4, 1, 42, 999.4, 999.6, 12345, 5.5e6, 9.996e8, 1.26e9, 7.77e12]
    seconds = [0, 4e-5, 0.0123, 3.21, 59.97, 61, 5000, 86400, 2.6e5, 9.2e5, 3.3e7, 1e8]
    shares = [0, 0.001, 0.0051, 0.12, 0.83, 0.996, 1]
    joules = [value * 3.6e12 for value in (0, 0.0004, 0.5, 1, 512.3, 12345.6)]
    with Visit(browser, run_folder / "report.html") as visit:

        def script(name, values):
            return visit.page.evaluate(f"(values) => values.map(window.makespan.format.{name})", values)

        assert script("money", amounts) == [f.money(value) for value in amounts]
        assert script("duration", seconds) == [f.duration(value) for value in seconds]
        assert script("days", seconds) == [f.days(value) for value in seconds]
        assert script("share", shares) == [f.share(value) for value in shares]
        assert script("energy", joules) == [f.energy(value) for value in joules]
        assert script("power", amounts) == [f.power(value) for value in amounts]
        assert script("size", amounts[1:]) == [f.size(value) for value in amounts[1:]]
        assert script("count", amounts[3:]) == [f.count(value) for value in amounts[3:]]
        assert script("date", ["2025-02-17", None]) == ["17 Feb 2025", "never"]


def test_the_release_chart_puts_the_medians_at_their_dates(browser, run_folder):
    """The white mark of a bar lies where the axis puts the date of result.json."""
    data = json.loads((run_folder / "result.json").read_text())
    with Visit(browser, run_folder / "report.html") as visit:
        for index, option in enumerate(data["options"]):
            p50 = option["completion"]["release"]["p50"]
            if p50 is None:
                continue
            expected, row = visit.page.evaluate(
                """([date, index]) => {
                    const chart = echarts.getInstanceByDom(document.getElementById("chart-release"));
                    return chart.convertToPixel({ xAxisIndex: 0, yAxisIndex: 0 }, [Date.parse(date + "T00:00:00Z"), index]);
                }""",
                [p50, index],
            )
            marks = visit.page.evaluate(
                """() => {
                    const dom = document.getElementById("chart-release"), frame = dom.getBoundingClientRect();
                    return [...dom.querySelectorAll("path")].map((path) => path.getBoundingClientRect())
                        .filter((box) => Math.abs(box.width - 3) < 0.6).map((box) => [box.x + box.width / 2 - frame.x, box.y + box.height / 2 - frame.y]);
                }"""
            )
            assert any(abs(x - expected) < 1.5 and abs(y - row) < 3 for x, y in marks), (
                option["name"],
                expected,
                row,
                marks,
            )


def test_facts_can_be_searched_and_filtered_with_the_keyboard(browser, run_folder):
    with Visit(browser, run_folder / "report.html") as visit:
        rows = visit.page.locator("#fact-table tbody tr:visible")
        assert rows.count() == 65
        visit.page.locator("#fact-search").focus()
        visit.page.keyboard.type("h100 fact-1")
        assert rows.count() == 11
        assert visit.page.locator("#fact-count").inner_text() == "11 of 65"
        visit.page.locator("#fact-search").fill("")
        visit.page.locator("#fact-kind").select_option("assumed")
        assert rows.count() == 2


def test_a_heading_sorts_the_facts_and_says_so(browser, run_folder):
    with Visit(browser, run_folder / "report.html") as visit:
        names = visit.page.locator("#fact-table tbody tr code")
        before = names.all_inner_texts()
        head = visit.page.locator("#fact-table thead th").first
        head.locator("button").focus()
        visit.page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == "ascending"
        assert names.first.inner_text() == min(before)
        visit.page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == "descending"
        assert names.last.inner_text() == min(before)
        kind = visit.page.locator("#fact-table thead th", has_text="Kind")
        kind.locator("button").click()
        assert names.all_inner_texts() == before, "weakest first again"


def test_a_phone_shows_the_earliest_option_first(browser, run_folder):
    with Visit(browser, run_folder / "report.html", size="phone") as visit:
        tops = [row.bounding_box()["y"] for row in visit.page.locator("#options tbody tr").all()]
        assert visit.page.locator("#options tr.best").bounding_box()["y"] == min(tops)


def test_buttons_change_the_period_and_work_from_the_keyboard(browser, run_folder):
    with Visit(browser, run_folder / "report.html") as visit:
        axis_end = (
            """() => echarts.getInstanceByDom(document.getElementById("chart-powered")).getOption().xAxis[0].max"""
        )
        before = visit.page.evaluate(axis_end)
        button = visit.page.locator("#zoom button", has_text="First six months")
        button.focus()
        visit.page.keyboard.press("Enter")
        assert button.get_attribute("aria-pressed") == "true"
        assert visit.page.locator('#zoom button[aria-pressed="true"]').count() == 1
        assert visit.page.evaluate(axis_end) < before


def test_without_scripts_the_numbers_are_still_there(browser, run_folder):
    with Visit(browser, run_folder / "report.html", java_script_enabled=False) as visit:
        assert "The charts need JavaScript" in visit.page.locator("main").inner_text()
        assert visit.page.locator("#options tbody tr").count() == 6
        assert visit.page.locator("#milestones tbody tr").count() == 6


def test_markup_in_names_is_shown_not_run(browser, tmp_path):
    plan = memphis_plan(20, hostile=True)
    folder = write_run(plan, tmp_path / "run")
    with Visit(browser, folder / "report.html") as visit:
        assert visit.complaints == []
        assert HOSTILE in visit.page.locator("#options").inner_text()
        assert visit.page.evaluate("document.scripts.length") == 3
        visit.page.evaluate(
            """echarts.getInstanceByDom(document.getElementById("chart-ledger"))
                .dispatchAction({ type: "showTip", seriesIndex: 0, dataIndex: 2 })"""
        )
        tip = visit.page.locator("#chart-ledger > div").last
        playwright_api.expect(tip).to_contain_text(HOSTILE)
        assert visit.page.evaluate("document.scripts.length") == 3
        assert visit.complaints == []


def test_it_prints_on_white_with_every_chart(browser, run_folder):
    with Visit(browser, run_folder / "report.html", scheme="dark") as visit:
        assert len(visit.page.pdf(format="A4")) > 50_000
        visit.page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        assert (
            visit.page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--card').trim()")
            == "#fff"
        )
        visit.page.evaluate("window.dispatchEvent(new Event('afterprint'))")
        assert (
            visit.page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--card').trim()")
            != "#fff"
        )
        assert visit.complaints == []


def test_the_result_on_disk_is_the_result(run_folder):
    assert json.loads((run_folder / "result.json").read_text()) == result(memphis_plan(deadline="2025-06-15"))


def shown_pipe(visit):
    return visit.page.locator(".close-up:not([hidden]) .pipe")


@pytest.mark.parametrize("size", SIZES)
def test_the_pipeline_has_a_row_a_rank_and_every_pass_where_the_result_puts_it(browser, run_folder, size):
    data = json.loads((run_folder / "result.json").read_text())
    with Visit(browser, run_folder / "report.html", size=size) as visit:
        pipe = shown_pipe(visit)
        pipeline = data["pipelines"][int(pipe.get_attribute("data-pipeline"))]
        assert pipe.locator("g.rank").count() == len(pipeline["ranks"]) == 16
        drawn = pipe.evaluate(
            """(host) => [...host.querySelectorAll("g.rank")].map((group) => [Number(group.dataset.rank),
                [...group.querySelectorAll("path")].flatMap((path) => [...path.getAttribute("d").matchAll(/M([\\d.]+)/g)].map((m) => Number(m[1])))])"""
        )
        width = float(pipe.locator(".window svg").get_attribute("width")) - 2
        for (rank, starts), row in zip(drawn, pipeline["ranks"], strict=True):
            assert rank == row["rank"]
            expected = [ticks * pipeline["tick_s"] / pipeline["span_s"] * width for ticks in row["start"]]
            assert sorted(starts) == pytest.approx(sorted(expected), abs=0.02)
        colours = pipe.locator("g.rank path").evaluate_all(
            "(paths) => [...new Set(paths.map((path) => path.className.baseVal + getComputedStyle(path).fill))]"
        )
        assert sorted(colour[0] for colour in colours) == ["B", "F"]
        assert len({colour[1:] for colour in colours}) == 2
        page_width, window_width = visit.page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert page_width == window_width, "only the drawing scrolls"
        visit.page.set_viewport_size({"width": 340, "height": 700})
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= 340, "nor on the smallest phones"
        assert visit.complaints == []


def test_pointing_at_a_pass_says_what_it_is(browser, run_folder):
    with Visit(browser, run_folder / "report.html") as visit:
        pipe = shown_pipe(visit)
        pipe.scroll_into_view_if_needed()
        frame = pipe.locator(".window svg").bounding_box()
        tip = pipe.locator(".tip")
        visit.page.mouse.move(frame["x"] + 1, frame["y"] + 8)
        assert "Rank 0: forward, micro-batch 0" in tip.inner_text()
        assert "stage 0, 1 layer" in tip.inner_text()
        assert "10.0 ms, from 0.000 s to 0.010 s" in tip.inner_text()
        visit.page.mouse.move(frame["x"] + frame["width"] - 4, frame["y"] + 8)
        assert "Rank 0: backward, micro-batch 31" in tip.inner_text()
        last_row = pipe.locator("g.rank").last.bounding_box()
        visit.page.mouse.move(frame["x"] + 1, last_row["y"] + 4)
        assert "Rank 15: waits" in tip.inner_text()
        visit.page.mouse.move(2, frame["y"])
        assert not tip.is_visible()


def test_the_pipeline_can_be_walked_with_the_keyboard(browser, run_folder):
    with Visit(browser, run_folder / "report.html", size="phone") as visit:
        pipe = shown_pipe(visit)
        pipe.locator(".window").focus()
        tip = pipe.locator(".tip")

        def press(*keys):
            for key in keys:
                visit.page.keyboard.press(key)
            return tip.inner_text().splitlines()[0]

        assert press("ArrowRight") == "Rank 0: forward, micro-batch 0"
        assert press("ArrowRight", "ArrowRight") == "Rank 0: forward, micro-batch 2"
        assert press("ArrowLeft") == "Rank 0: forward, micro-batch 1"
        assert press("ArrowDown").startswith("Rank 1: forward")
        assert press(*["ArrowLeft"] * 40, "ArrowUp") == "Rank 0: forward, micro-batch 1"
        assert press(*["ArrowRight"] * 200).startswith("Rank 0: backward")
        assert pipe.locator(".window").evaluate("(window) => window.scrollLeft") > 0, "the view follows"
        visit.page.evaluate("new Promise(requestAnimationFrame)")
        assert tip.is_visible(), "scrolling takes the words along"
        visit.page.keyboard.press("Escape")
        assert not tip.is_visible()


def test_a_pipeline_can_be_enlarged_until_its_passes_carry_numbers(browser, run_folder):
    with Visit(browser, run_folder / "report.html", size="phone") as visit:
        pipe = shown_pipe(visit)
        before = float(pipe.locator(".window svg").get_attribute("width"))
        assert pipe.locator("text.name").count() == 0
        button = visit.page.locator(".close-up:not([hidden]) .pipeline button")
        button.click()
        assert button.get_attribute("aria-pressed") == "true"
        assert float(pipe.locator(".window svg").get_attribute("width")) > 3 * before
        assert pipe.locator("text.name").count() > 1000
        button.click()
        assert float(pipe.locator(".window svg").get_attribute("width")) == before


def test_another_options_step_is_shown_on_demand_and_all_are_there_without_scripts(browser, run_folder):
    data = json.loads((run_folder / "result.json").read_text())
    with Visit(browser, run_folder / "report.html") as visit:
        close_up = visit.page.locator(".close-up:visible")
        assert close_up.count() == 1
        assert "Build in Memphis" in close_up.inner_text(), "the earliest first"
        visit.page.locator("#close-up-option").select_option(label="Stay at Oracle")
        assert close_up.count() == 1
        assert close_up.locator("p b").first.inner_text() == "Stay at Oracle"
        assert close_up.locator("g.rank").count() == 16
        assert close_up.locator(".pipe").get_attribute("data-pipeline") == str(data["options"][0]["step"]["pipeline"])
        assert visit.complaints == []
    with Visit(browser, run_folder / "report.html", java_script_enabled=False) as visit:
        assert visit.page.locator(".close-up:visible").count() == 2
        assert not visit.page.locator("#close-up-option").is_visible()


def test_the_printed_pipeline_fits_the_paper(browser, run_folder):
    with Visit(browser, run_folder / "report.html", size="phone") as visit:
        visit.page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        pipe = shown_pipe(visit)
        assert float(pipe.locator(".window svg").get_attribute("width")) <= 660
        assert pipe.locator("g.rank").count() == 16
        visit.page.evaluate("window.dispatchEvent(new Event('afterprint'))")
        assert visit.complaints == []
