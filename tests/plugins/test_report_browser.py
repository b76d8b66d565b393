"""The page in a real browser: it opens without an error or a request, and answers mouse, finger and keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, browser, chromium
from studies import MEASURED, many_stages, study

pytest.importorskip("selenium", reason="selenium, which drives the browser, is not installed")
if chromium() is None:
    pytest.skip("no chromium with its chromedriver is installed", allow_module_level=True)

pytestmark = pytest.mark.xdist_group("browser")
FIRST = "frontier-onnxruntime"
TIP = "return document.getElementById('tip').hidden ? null : document.getElementById('tip').textContent"
MARKS = f'#{FIRST} .role-mark [role="graphics-symbol"][aria-label]'


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from pqd_report.html import render

    goals = [{"metric": "latency_ms", "max_accuracy_drop": 0.01, "runtime": None}]
    hostile = {"description": "<script>document.title = 'taken'</script><img src=x onerror=\"document.title='taken'\">"}
    report = study(goals=goals, problems=["<b>bold</b>"])
    report.spec.update(hostile)
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(render(report)["report.html"], encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, False), (1280, True)])
def test_it_opens_without_an_error_or_a_request_and_fits_the_screen(
    window: Browser, page: Path, width: int, dark: bool
) -> None:
    window.look(page, width, dark)
    assert window.console() == []
    assert window.requests() == [page.resolve().as_uri()]
    assert window.run("return document.documentElement.scrollWidth") <= width
    drawn = window.run("return [...document.querySelectorAll('.chart')].map(c => c.dataset.drawn)")
    assert len(drawn) > 8
    assert set(drawn) == {"yes"}


def test_a_run_of_one_pipeline_and_one_seed_opens_as_well(window: Browser, tmp_path: Path) -> None:
    from pqd_core.report import read_report
    from pqd_report.html import render

    (tmp_path / "report.html").write_text(render(read_report(MEASURED))["report.html"], encoding="utf-8")
    window.look(tmp_path / "report.html")
    assert window.console() == []


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_two_runs_have_a_page_whose_marks_are_reached(window: Browser, tmp_path: Path, width: int, dark: bool) -> None:
    from pqd_core.host.compare import compare_runs
    from pqd_report.html import render_comparison

    hostile = "<script>document.title = 'taken'</script>"
    one, other = study((0, 1, 2)), study((0, 1, 2), base=0.92, pipelines=[(), ("magnitude",), ("int8-qat",)])
    one.spec["description"] = hostile
    (tmp_path / "report.html").write_text(render_comparison(compare_runs(one, other))["report.html"], encoding="utf-8")
    window.look(tmp_path / "report.html", width, dark)
    assert window.console() == []
    assert window.requests() == [(tmp_path / "report.html").resolve().as_uri()]
    assert window.run("return document.documentElement.scrollWidth") <= width
    assert hostile in window.run("return document.querySelector('main').textContent")
    marks = '#change-accuracy-onnxruntime .role-mark [role="graphics-symbol"][aria-label]'
    assert window.run(f"return document.querySelectorAll('{marks}').length") == 3
    window.run(f"document.querySelector('{marks}').focus()")
    assert window.run(TIP).startswith("pipeline: dense baseline\nchange: +2.00 points")
    assert "magnitude → int8-qat on openvino" in window.run("return document.body.textContent")
    assert "times of two runs were not measured side by side" in window.run("return document.body.textContent")


def test_what_a_stranger_wrote_is_text(window: Browser, page: Path) -> None:
    window.look(page)
    assert window.run("return document.title") == "study · pqd report"
    assert "<script>document.title" in window.run("return document.querySelector('.lead').textContent")
    assert "<b>bold</b>" in window.run("return document.querySelector('.problems').textContent")


def test_a_mark_tells_its_numbers_on_hover(window: Browser, page: Path) -> None:
    from selenium.webdriver import ActionChains

    window.look(page)
    mark = window.run(f"return document.querySelector('{MARKS}')")
    window.run("arguments[0].scrollIntoView({block: 'center'})", mark)
    ActionChains(window.driver).move_to_element(mark).perform()
    window.wait("document.querySelector('#vg-tooltip-element.visible')")
    told = window.run("return document.querySelector('#vg-tooltip-element').textContent")
    assert "pipeline" in told
    assert "latency" in told
    assert "ms" in told


def test_a_mark_is_reached_and_left_by_keyboard(window: Browser, page: Path) -> None:
    from selenium.webdriver import ActionChains, Keys

    window.look(page)
    window.run(f"document.querySelector('{MARKS}').focus()")
    first = window.run(TIP)
    assert first.startswith("pipeline: dense baseline\naccuracy: 90.04 %")
    ActionChains(window.driver).send_keys(Keys.ARROW_RIGHT).perform()
    assert window.run(TIP) != first
    ActionChains(window.driver).send_keys(Keys.ESCAPE).perform()
    assert window.run(TIP) is None


ACCURACIES = (
    "const column = [...document.querySelectorAll('table[data-filtered] thead th')].findIndex("
    "t => t.textContent.trim() == 'accuracy');"
    "return [...document.querySelectorAll('table[data-filtered] tbody tr')].filter(r => !r.hidden)"
    ".map(r => Number(r.cells[column].dataset.sort))"
)
TITLE = (
    "return [...document.querySelectorAll('table[data-filtered] thead th')]"
    ".find(t => t.textContent.trim() == 'accuracy')"
)


@pytest.mark.parametrize("by", ["mouse", "keyboard"])
def test_a_column_sorts_its_table(window: Browser, page: Path, by: str) -> None:
    from selenium.webdriver import ActionChains, Keys

    def press() -> None:
        if by == "mouse":
            window.run("arguments[0].querySelector('button').click()", title)
        else:
            window.run("arguments[0].querySelector('button').focus()", title)
            ActionChains(window.driver).send_keys(Keys.ENTER).perform()

    window.look(page)
    title, before = window.run(TITLE), window.run(ACCURACIES)
    assert title.get_attribute("aria-sort") == "none"
    press()
    assert window.run(ACCURACIES) == sorted(before) != before
    assert title.get_attribute("aria-sort") == "ascending"
    press()
    assert window.run(ACCURACIES) == sorted(before, reverse=True)
    assert title.get_attribute("aria-sort") == "descending"


def test_one_runtime_can_be_looked_at_alone(window: Browser, page: Path) -> None:
    window.look(page)
    assert len(window.run(ACCURACIES)) == 32
    window.run("document.querySelector('input[name=runtime][value=openvino]').click()")
    assert len(window.run(ACCURACIES)) == 16


def test_the_plots_follow_the_theme_of_the_system(window: Browser, page: Path) -> None:
    def ink() -> str:
        return str(window.run(f"return document.querySelector('#{FIRST} .role-axis-title text').getAttribute('fill')"))

    window.look(page)
    assert ink() == "#1b1f24"
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    window.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    window.wait(f"document.querySelector('#{FIRST} .role-axis-title text').getAttribute('fill') == '#e8eaed'")
    assert window.console() == []


def test_a_curve_is_reached_by_keyboard_also_after_another_quantity_was_chosen(window: Browser, page: Path) -> None:
    from selenium.webdriver import ActionChains, Keys
    from selenium.webdriver.support.select import Select

    window.look(page)
    curves = '#curves .role-mark [role="graphics-symbol"][aria-label]'
    Select(window.run("return document.querySelector('#curves select')")).select_by_visible_text("loss")
    window.wait(f"document.querySelector('{curves}').getAttribute('aria-label').includes('loss')")
    window.wait(f"document.querySelector('{curves}').getAttribute('tabindex') == '0'")
    window.run(f"document.querySelector('{curves}').focus()")
    assert window.run(TIP).startswith("dense baseline, epoch 1 to 12: loss 1.978 to")
    ActionChains(window.driver).send_keys(Keys.ARROW_RIGHT).perform()
    assert window.run(TIP).startswith("magnitude, epoch 13 to")
    assert window.run(f"return document.querySelectorAll('{curves}').length") == 16


def test_the_layers_are_a_grid_under_the_arrow_keys(window: Browser, page: Path) -> None:
    from selenium.webdriver import ActionChains, Keys

    window.look(page)
    window.run("document.querySelector('#layers-sparsity .role-mark [role=\"graphics-symbol\"][aria-label]').focus()")
    told = []
    for key in (None, Keys.ARROW_RIGHT, Keys.ARROW_DOWN, Keys.ARROW_LEFT, Keys.ARROW_UP, Keys.ARROW_UP):
        if key:
            ActionChains(window.driver).send_keys(key).perform()
        told.append(window.run(TIP).splitlines()[:2])
    first, second = "pipeline: magnitude", "pipeline: int8-qat"
    assert [line for line, _ in told] == ["layer: conv1"] * 2 + ["layer: layer1.0.conv1"] * 2 + ["layer: conv1"] * 2
    assert [line for _, line in told] == [first, second, second, first, first, first]


def test_twelve_stages_fit_a_phone_and_are_told_apart_without_colour(window: Browser, tmp_path: Path) -> None:
    from pqd_report.html import render

    (tmp_path / "report.html").write_text(render(many_stages(12))["report.html"], encoding="utf-8")
    window.look(tmp_path / "report.html", 390)
    assert window.console() == []
    assert window.run("return document.documentElement.scrollWidth") <= 390
    ends = "[...document.querySelectorAll('.role-legend-label text')].map(t => t.getBoundingClientRect().right)"
    assert window.run(f"return Math.max(...{ends})") <= 390
    shapes = "new Set([...document.querySelectorAll('#curves .role-legend-symbol path')].map(p => p.getAttribute('d')))"
    assert window.run(f"return {shapes}.size") == 12
    dashes = "[...document.querySelectorAll('#curves .mark-line path')].map(p => p.getAttribute('stroke-dasharray'))"
    assert len(set(window.run(f"return {dashes}"))) == 12


def test_the_curves_show_what_is_chosen(window: Browser, page: Path) -> None:
    window.look(page)
    from selenium.webdriver.support.select import Select

    labels = "[...document.querySelectorAll('#curves .role-axis-label text')].map(t => t.textContent).join()"
    choice, before = (
        Select(window.run("return document.querySelector('#curves select')")),
        window.run(f"return {labels}"),
    )
    assert choice.first_selected_option.text == "train_accuracy"
    choice.select_by_visible_text("lr")
    window.wait(f"{labels} != {before!r}")
