"""The report as a person sees it: in a real browser, from the disk, without a network."""

import itertools
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from aleator.experiment.exhibit import Exhibit, write_exhibits
from aleator.experiment.report import write_report
from tests.experiment.fake_comparison import HOSTILE, metric_lines, write_comparison, write_run
from tests.experiment.test_report import GIF, with_exhibits, with_forecasts

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class Browser:
    """Chromium with what it logs and requests."""

    def __init__(self, driver):
        self.driver = driver

    def __call__(self, script, *arguments):
        return self.driver.execute_script(f"return {script}", *arguments)

    def command(self, name, **parameters):
        return self.driver.execute_cdp_cmd(name, parameters)

    def theme(self, name):
        self.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def screen(self, width, mobile=False):
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=mobile)

    def open(self, page: Path):
        self.driver.get("about:blank")
        self.driver.get_log("performance")
        self.driver.get_log("browser")
        self.driver.get(page.as_uri())
        self.until("document.documentElement.dataset.drawn !== undefined")

    def until(self, condition, seconds=30.0):
        """Wait for a state of the page, which has no other sign of its arrival."""
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, seconds, poll_frequency=0.05).until(lambda _: self(condition))

    def requests(self):
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]

    def console(self):
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def open_everything(self):
        self("document.querySelectorAll('details').forEach((box) => { box.open = true; })")
        self.until("[...document.querySelectorAll('[data-figure]')].every((e) => e.querySelector('.main-svg'))")

    def traces(self):
        """How many traces of each plot are in the drawing."""
        return self(
            "Object.fromEntries([...document.querySelectorAll('[data-figure]')]"
            ".map((e) => [e.dataset.figure, e.querySelectorAll('.scatterlayer > .trace').length]))"
        )

    def colours(self, figure):
        """The colours of the lines and dots of a plot, in the order of the traces."""
        return self(
            "[...document.querySelectorAll(`[data-figure='${arguments[0]}'] .trace path`)]"
            ".map((e) => getComputedStyle(e).stroke)",
            figure,
        )


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        # .ci/run sets CHROMIUM: there the test may not skip.
        leave = pytest.fail if "CHROMIUM" in os.environ else pytest.skip
        leave("no browser: put chromium and chromedriver on the PATH")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield Browser(chrome)
    chrome.quit()


@pytest.fixture(scope="module")
def comparison(tmp_path_factory) -> Path:
    return write_report(write_comparison(tmp_path_factory.mktemp("comparison")))


@pytest.fixture
def page(browser, comparison):
    browser.screen(1200)
    browser.theme("light")
    browser.open(comparison)
    return browser


def test_page_asks_for_itself_only_and_logs_nothing(page, comparison):
    page.open_everything()
    assert set(page.requests()) <= {comparison.as_uri(), "data:,"}
    assert page.console() == []


def test_every_plot_is_drawn_with_every_trace(page):
    assert page.traces() == {"headline-all": 8, "pairs-all": 6, "steps-all": 8, "seconds-all": 8, "loss-all": 4}
    sizes = page(
        "[...document.querySelectorAll('[data-figure] .main-svg')].map((e) => e.getBoundingClientRect().width)"
    )
    assert min(sizes) > 300


def test_tables_show_their_rows(page):
    count = "[...document.querySelectorAll(`${arguments[0]} tbody tr`)].map((row) => row.innerText)"
    assert len(page(count, "#table-variants")) == 4
    assert "96.25 to 97.63" in page(count, "#table-variants")[0]
    assert len(page(count, ".pairs")) == 6
    assert not any(page(count, "#table-runs"))  # closed
    page.open_everything()
    runs = page(count, "#table-runs")
    assert len(runs) == 12
    assert "94.60 to 98.47" in runs[0]


def test_hostile_name_is_shown_and_does_nothing(page):
    shown = "[...document.querySelectorAll('.legend .name, [data-figure] .annotation-text')].map((e) => e.textContent)"
    assert page(shown).count(HOSTILE) == 2  # the legend and the plot of test results
    assert page("document.querySelectorAll('main script, main img').length") == 0


def test_dark_theme_changes_page_and_plots_and_paper_stays_white(page):
    background = "getComputedStyle(document.body).backgroundColor"
    light = page(background), page.colours("steps-all")
    assert light[0] == "rgb(255, 255, 255)"
    page.theme("dark")
    page.until(f"{background} !== 'rgb(255, 255, 255)'")
    page.until("document.querySelector('[data-figure=steps-all]').data.at(-1).line.color === '#e295c8'")
    dark = page.colours("steps-all")
    assert len(dark) == len(light[1])
    assert all(a != b for a, b in zip(light[1], dark, strict=True) if "rgb(" in a and a != "rgb(0, 0, 0)")
    page("dispatchEvent(new Event('beforeprint'))")
    assert page(background) == "rgb(255, 255, 255)"
    page("dispatchEvent(new Event('afterprint'))")
    page.theme("light")


def test_a_phone_scrolls_tables_and_not_the_page(browser, comparison):
    browser.screen(390, mobile=True)
    browser.open(comparison)
    browser.open_everything()
    assert browser("document.documentElement.scrollWidth") == 390
    assert browser("[...document.querySelectorAll('.scroll')].some((e) => e.scrollWidth > e.clientWidth)")
    assert (
        browser("Math.max(...[...document.querySelectorAll('.main-svg')].map((e) => e.getBoundingClientRect().right))")
        <= 390
    )


def test_text_has_contrast_in_both_themes(page):
    """WCAG 2: 4.5:1 for text, 3:1 for the lines of plots."""

    def luminance(colour):
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    for theme in ("light", "dark"):
        page.theme(theme)
        value = "getComputedStyle(document.documentElement).getPropertyValue(arguments[0]).trim()"
        paper = luminance(page(value, "--paper"))
        least = {"--ink": 4.5, "--quiet": 4.5, "--link": 4.5, "--notice": 4.5, **{f"--c{i}": 3.0 for i in range(7)}}
        for name, ratio in least.items():
            bright, dim = sorted((luminance(page(value, name)), paper), reverse=True)
            assert (bright + 0.05) / (dim + 0.05) >= ratio, (theme, name)
    page.theme("light")


def test_page_can_be_read_by_machine_and_keyboard(page):
    assert page("document.querySelectorAll('h1').length") == 1
    levels = page("[...document.querySelectorAll('h1,h2,h3,h4')].map((e) => Number(e.tagName[1]))")
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert page("[...document.querySelectorAll('table')].every((e) => e.caption && e.caption.textContent.trim())")
    assert page("[...document.querySelectorAll('th')].every((e) => e.scope)")
    assert page("[...document.querySelectorAll('[data-figure]')].every((e) => e.ariaLabel.length > 20)")
    assert page("[...document.querySelectorAll('.scroll')].every((e) => e.tabIndex === 0)")


def test_legend_hides_a_variant_everywhere_and_zooms_on_the_final_values(page):
    page("document.querySelector('[data-variant=\"1\"]').click()")
    page.until("document.querySelectorAll('[data-figure=steps-all] .scatterlayer > .trace').length === 6")
    assert page("document.querySelector('[data-variant=\"1\"]').ariaPressed") == "false"
    page("document.querySelector('[data-late]').click()")
    page.until("document.querySelector('[data-figure=steps-all]').layout.yaxis.range[0] > 80")


def test_sizes_that_are_folded_away_are_drawn_when_opened(browser, tmp_path):
    browser.screen(1200)
    browser.open(write_report(write_comparison(tmp_path, sizes=(200, 1000))))
    assert browser.traces()["steps-1000"] == 8
    assert browser.traces()["steps-200"] == 0
    browser.open_everything()
    traces = browser.traces()
    assert (traces["steps-200"], traces["sizes"]) == (8, 4)
    assert browser.console() == []


def test_forecasts_are_drawn_and_hidden_with_their_variant(browser, tmp_path):
    browser.screen(390, mobile=True)
    browser.open(write_report(with_forecasts(tmp_path)))
    drawn = "document.querySelectorAll('[data-figure=sizes] .scatterlayer > .trace').length"
    assert browser(drawn) == 7  # band, trend, asymptote, level, forecast and points of one; points of the other
    browser("document.querySelector('[data-variant=\"0\"]').click()")
    browser.until(f"{drawn} === 1")
    assert browser("document.documentElement.scrollWidth") == 390
    assert browser.console() == []


def test_exhibits_of_a_run_are_drawn_in_both_themes(browser, tmp_path):
    folder = with_exhibits(tmp_path / "run")
    for theme in ("light", "dark"):
        browser.theme(theme)
        browser.open(write_report(folder))
        assert browser.console() == []
        assert browser("document.querySelectorAll('[data-figure=exhibit-0] .heatmaplayer image').length") == 1
        assert browser("document.querySelector('.drawing img').naturalWidth") == 9
    browser.theme("light")


def test_page_of_a_run_is_drawn_too(browser, tmp_path):
    write_run(tmp_path / "run", metric_lines(0.96, 900, np.random.default_rng(0)), 0, 346 / 360)
    browser.screen(390, mobile=True)
    browser.open(write_report(tmp_path / "run"))
    assert browser.traces() == {"metric-0-steps": 1, "metric-0-seconds": 1, "metric-1-steps": 2}
    assert browser("document.documentElement.scrollWidth") == 390
    assert browser.console() == []


def test_a_clip_can_be_paused_and_begins_paused_where_less_motion_is_wanted(browser, tmp_path):
    write_run(tmp_path / "run", metric_lines(0.96, 900, np.random.default_rng(0)), 0, 346 / 360)
    write_exhibits(tmp_path / "run", [Exhibit("Rollout", "a pole falls", picture=GIF, file="rollout.gif")])
    page, seen = (
        write_report(tmp_path / "run"),
        "['img[data-clip]', 'canvas'].map((e) => !document.querySelector(e).hidden)",
    )
    for motion, moves in (("no-preference", [True, False]), ("reduce", [False, True])):
        browser.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": motion}])
        browser.open(page)
        browser.until("document.querySelector('.pause') !== null")
        assert browser(seen) == moves
        browser("document.querySelector('.pause').click()")
        assert browser(seen) == moves[::-1]
        assert browser("document.querySelector('canvas').getAttribute('aria-label')") == "a pole falls"
        assert browser("[...document.querySelector('canvas').getContext('2d').getImageData(2, 2, 1, 1).data]") == [
            0,
            0,
            0,
            255,
        ]
    assert browser.console() == []
