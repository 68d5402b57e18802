import base64
import io
import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import t

from aleator.experiment.comparison.size_forecast import size_forecasts
from aleator.experiment.exhibit import Exhibit, holds_exhibits, read_exhibits, write_exhibits
from aleator.experiment.files import write_json
from aleator.experiment.protocol import Headline
from aleator.experiment.report import write_report
from aleator.experiment.report.curves import learning_curve
from aleator.experiment.report.figures import looks
from aleator.experiment.report.read import LogLine, read_comparison, read_log
from aleator.experiment.report.words import THIN, difference, measured, memory, number, p_value, verdict
from tests.experiment.fake_comparison import HOSTILE, VARIANTS, metric_lines, write_comparison, write_run


def clip() -> bytes:
    """A GIF of two frames, a black one and a white one."""
    file = io.BytesIO()
    black, white = (Image.new("L", (8, 6), grey) for grey in (0, 255))
    black.save(file, format="GIF", save_all=True, append_images=[white], duration=50, loop=0)
    return file.getvalue()


GIF = clip()


class Page(HTMLParser):
    """The elements of a page, the text it shows, and the cells of its tables."""

    def __init__(self, html: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text, self._inside = "", ""
        self.tables: dict[str, list[list[str]]] = {}
        self._rows: list[list[str]] = []
        self._in_cell = False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside = tag if tag in ("script", "style") else self._inside
        if tag == "table":
            self._rows = self.tables.setdefault(dict(attrs).get("id") or dict(attrs).get("class") or "?", [])
        if tag == "tr":
            self._rows.append([])
        if tag in ("td", "th"):
            self._rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag):
        self._inside = "" if tag == self._inside else self._inside
        if tag in ("td", "th"):
            self._in_cell = False
            self._rows[-1][-1] = " ".join(self._rows[-1][-1].split())
        if tag == "table":
            self._rows = []

    def handle_data(self, data):
        if self._inside:
            return
        self.text += data
        if self._in_cell:
            self._rows[-1][-1] += data

    def tags(self, name):
        return [attributes for tag, attributes in self.elements if tag == name]


def page_of(folder: Path) -> Page:
    return Page(write_report(folder).read_text(encoding="utf-8"))


def figures_of(folder: Path) -> dict:
    html = (folder / "report.html").read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="figures">(.*?)</script>', html, re.S)[1])


def edit(folder: Path, change) -> None:
    document = json.loads((folder / "comparison.json").read_text())
    change(document)
    (folder / "comparison.json").write_text(json.dumps(document))


def log_of(values, split="validation", rate=10.0):
    return [LogLine(step, step / rate, split, {"accuracy": value}) for step, value in values.items()]


@pytest.fixture(scope="module")
def comparison(tmp_path_factory) -> Path:
    return write_comparison(tmp_path_factory.mktemp("comparison"))


@pytest.fixture(scope="module")
def page(comparison) -> Page:
    return page_of(comparison)


# --- curves


def test_band_is_students_interval_of_the_mean():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(4, 3))
    curve = learning_curve([log_of(dict(enumerate(row))) for row in values], "validation", "accuracy")
    half = t.ppf(0.975, 3) * values.std(axis=0, ddof=1) / 2
    assert curve.band == "t-interval"
    np.testing.assert_allclose(curve.mean, values.mean(axis=0))
    np.testing.assert_allclose(curve.high, values.mean(axis=0) + half)
    np.testing.assert_allclose(curve.low, values.mean(axis=0) - half)


@pytest.mark.parametrize(("seeds", "band"), [(1, "none"), (2, "range"), (3, "t-interval")])
def test_band_says_what_the_number_of_seeds_allows(seeds, band):
    curve = learning_curve([log_of({0: 0.1 * i, 5: 0.2 * i}) for i in range(seeds)], "validation", "accuracy")
    assert (curve.band, curve.seeds) == (band, seeds)
    if band != "t-interval":
        assert (curve.low, curve.high) == ([0.0, 0.0], [0.1 * (seeds - 1), 0.2 * (seeds - 1)])


def test_curve_keeps_common_steps_only_and_averages_their_time():
    slow, fast = log_of({0: 0.1, 10: 0.5, 20: 0.7}, rate=10), log_of({0: 0.2, 20: 0.9, 30: 1.0}, rate=20)
    curve = learning_curve([slow, fast], "validation", "accuracy")
    assert curve.steps == [0, 20]
    assert curve.seconds == [0.0, 1.5]
    assert curve.mean == pytest.approx([0.15, 0.8])


def test_runs_without_the_metric_are_left_out_and_runs_without_a_common_step_have_no_curve():
    assert learning_curve([[], log_of({0: 0.5})], "validation", "accuracy").seeds == 1
    assert learning_curve([log_of({0: 0.5}), log_of({1: 0.5})], "validation", "accuracy") is None
    assert learning_curve([], "validation", "accuracy") is None


def test_thinned_curve_keeps_values_and_the_last_step():
    curve = learning_curve([log_of({step: step / 7 for step in range(1000)})], "validation", "accuracy", points=100)
    assert len(curve.steps) <= 101
    assert curve.steps[-1] == 999
    assert curve.mean == [step / 7 for step in curve.steps]


def test_log_of_a_killed_run_is_read_up_to_its_last_whole_line(tmp_path):
    lines = metric_lines(0.9, 100, np.random.default_rng(0))
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "metrics.jsonl").write_text(text[:-20])
    assert len(read_log(tmp_path)) == len(lines) - 1
    (tmp_path / "metrics.jsonl").write_text("{}\n" + text)
    assert len(read_log(tmp_path)) == len(lines)


# --- numbers


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (number(0.0012345), "0.001234"),
        (number(-12345.6), f"−12{THIN}346"),
        (number(1234), "1234"),
        (number(999.96, 3), "1000"),
        (number(1e-7), "1e−07"),
        (number(None), "–"),
        (measured("accuracy", 0.98333), "98.33"),
        (measured("top5_accuracy", 1.0), "100.00"),
        (measured("loss", 0.12), "0.1200"),
        (measured("reward", -1523.0), "−1523"),
        (difference("accuracy", 0.0123), "+1.23"),
        (difference("accuracy", -0.00001), "0.00"),
        (difference("loss", -0.5), "−0.5"),
        (p_value(0.0001), f"<{THIN}0.001"),
        (p_value(0.0312), "0.031"),
        (p_value(0.5), "0.50"),
        (memory(310 * 2**20), f"310{THIN}MiB"),
        (memory(3 * 2**29), f"1.5{THIN}GiB"),
    ],
)
def test_numbers_have_sensible_digits(shown, expected):
    assert shown == expected


# --- the verdict


def test_verdict_says_which_paired_differences_exclude_zero(comparison):
    assert verdict(read_comparison(comparison), None) == (
        f"Over the seeds that finished, “full” has the highest mean test accuracy, 96.94{THIN}% (95{THIN}% interval "
        f"96.25 to 97.63{THIN}%); the paired 95{THIN}% interval of its difference excludes zero against “static” "
        f"(+7.50 points) and “{HOSTILE}” (+2.59 points); it includes zero against “rs2” (+0.37 points), "
        "which these seeds do not tell apart from it."
    )


def test_one_seed_gives_no_interval_and_the_page_says_so(tmp_path):
    page = page_of(write_comparison(tmp_path, seeds=1, fail=None))
    assert (
        "With one seed per variant (seed 0) no interval is possible: “full” has the highest test accuracy" in page.text
    )
    assert "excludes zero against" not in page.text
    assert {row[3] for row in page.tables["table-variants"][1:]} == {"none: one seed"}
    assert {tuple(row[2:6]) for row in page.tables["pairs"][1:]} == {("–", "no interval: one seed", "–", "–")}
    assert "There is no band, because there is one seed." in page.text


def test_verdict_for_a_metric_that_should_be_low_names_the_lowest(tmp_path):
    edit(write_comparison(tmp_path, fail=None), lambda document: document["headline"].update(direction="min"))
    sentence = verdict(read_comparison(tmp_path), None)
    assert "“static” has the lowest mean test accuracy" in sentence
    assert "excludes zero against" in sentence
    assert "behind" not in sentence


def test_verdict_does_not_hide_that_pairs_contradict_the_means(tmp_path):
    write_comparison(tmp_path, fail=None, variants=VARIANTS[:2])
    edit(tmp_path, lambda document: document["pairs"][0].update(mean_difference=-0.02, interval=[-0.03, -0.01]))
    assert "on the seeds that both finished it is behind “rs2” (−2.00 points)" in verdict(
        read_comparison(tmp_path), None
    )


def test_verdict_over_many_variants_stays_a_sentence(tmp_path):
    variants = [(f"v{i}", {"lr": i}, 0.5 + 0.07 * i, 900.0) for i in range(7)]
    sentence = verdict(read_comparison(write_comparison(tmp_path, seeds=5, fail=None, variants=variants)), None)
    assert re.search(r"excludes zero against 6 others \(\+\d\.\d\d to \+\d\d\.\d\d points\)\.$", sentence)


def test_equal_means_share_the_first_place(tmp_path):
    def equal(document):
        for variant in document["variants"]:
            variant["summary"]["accuracy"]["mean"] = 0.9

    edit(write_comparison(tmp_path, fail=None, variants=VARIANTS[:2]), equal)
    assert "“full” and “rs2” share the highest mean test accuracy" in verdict(read_comparison(tmp_path), None)


# --- the page of a comparison


def test_intervals_over_seeds_speak_of_this_test_set_unless_examples_were_kept(page, tmp_path):
    assert "Intervals over seeds speak of this training and test set, not of new data." in page.text
    assert "for new data" not in " ".join(page.tables["pairs"][0])

    def keep(document):
        document["pairs"][0].update(new_data_interval=[-0.02, 0.03], test_examples=360)

    edit(write_comparison(tmp_path, fail=None, variants=VARIANTS[:2]), keep)
    found = page_of(tmp_path)
    assert [row[-1] for row in found.tables["pairs"]] == ["95 % interval for new data", "−2.00 to +3.00"]
    assert "those for new data include the 360 test examples, too" in found.text


def test_tables_are_complete(page):
    head, *rows = page.tables["table-variants"]
    assert head[:6] == ["Variant", "Changed options", "Test accuracy, %", "95 % interval", "Seeds", "Steps"]
    assert [row[0] for row in rows] == [name for name, *_ in VARIANTS]
    assert rows[0][2:7] == ["96.94", "96.25 to 97.63", "3", "600", "19 200"]
    assert rows[2][1:5] == ["subset=static ratio=0.1", "89.31", "87.54 to 91.07", "2 of 3"]
    assert len(page.tables["pairs"]) == 1 + 6
    assert page.tables["pairs"][0][4:6] == ["p", "p, Holm"]
    row = ["full − rs2", "+0.37", "−0.68 to +1.42", "includes zero", "0.27", "0.27", "1.38", "3"]
    assert page.tables["pairs"][1] == row
    assert "6 pairs are tested" in page.text
    assert len(page.tables["table-runs"]) == 1 + 12
    assert page.tables["table-runs"][1][1:6] == ["0", "done", "96.94", "94.60 to 98.47", "360"]
    assert page.tables["targets"][3] == ["static", "0 of 3", "–", "–", "–"]
    assert all(len({len(row) for row in rows}) == 1 for name, rows in page.tables.items())


def test_failed_runs_are_named_and_linked_and_not_counted(page):
    assert "11 of 12 runs finished: 1 failed." in page.text
    assert page.tables["table-failures"][1] == [
        "static",
        "2",
        "FloatingPointError: loss is nan at step 190 <b>bold</b>",
        "log",
    ]
    assert "runs/variant2-seed2/run.log" in [link.get("href") for link in page.tags("a")]


def test_bands_are_named_variant_by_variant(page):
    assert "for “static” the band goes from the lower to the higher of two seeds" in page.text
    assert "the band is the 95\u202f% t-interval of the mean over seeds" in page.text


def test_command_is_quoted_for_the_shell_and_environment_is_listed(page):
    assert f"aleator compare classify --variant full --variant '{HOSTILE}:note='\"'\"'a b'\"'\"''" in page.text
    assert ["versions torch", "2.13.0"] in page.tables["facts"]


def test_hostile_names_are_text(comparison, page):
    scripts = page.tags("script")
    assert [script.get("type") for script in scripts] == ["application/json", None, None]
    assert not page.tags("img")
    assert not page.tags("b")
    assert HOSTILE in page.text
    labels = [figure["layout"].get("annotations", []) for figure in figures_of(comparison).values()]
    assert all("<" not in annotation["text"] for found in labels for annotation in found)


def test_only_our_two_scripts_may_run_and_nothing_may_be_loaded(page):
    policy = next(m["content"] for m in page.tags("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert policy.count("sha256-") == 2
    assert "http" not in policy
    assert "unsafe-inline" not in policy.split(";")[1]
    addresses = [a.get("src") or a.get("href") for _, a in page.elements if "src" in a or "href" in a]
    assert all(not re.match(r"[a-z]+:|//", address) for address in addresses if address != "data:,")


def test_links_leave_neither_the_folder_nor_the_page(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    folder = write_comparison(tmp_path / "comparison")

    def lead_astray(document):
        runs = document["variants"][0]["runs"]
        runs[0]["folder"], runs[1]["folder"], runs[2]["folder"] = "../outside", str(outside), "javascript:alert(1)"

    edit(folder, lead_astray)
    (folder / "javascript:alert(1)").mkdir()
    links = {link["href"] for link in page_of(folder).tags("a")}
    assert "javascript%3Aalert%281%29/" in links
    assert not [link for link in links if "outside" in link or ":" in link]


def test_plots_are_what_plotly_accepts_and_hold_every_variant(comparison, page):
    import plotly.graph_objects as go

    figures = figures_of(comparison)
    assert {name: len(figure["data"]) for name, figure in figures.items()} == {
        "headline-all": 8,  # seeds and mean of each of four variants
        "pairs-all": 6,
        "steps-all": 8,  # line and band
        "seconds-all": 8,
        "loss-all": 4,
    }
    for figure in figures.values():
        go.Figure(data=figure["data"], layout=figure["layout"])
    assert {element["data-figure"] for tag, element in page.elements if "data-figure" in element} == figures.keys()


def test_a_variant_looks_the_same_in_every_plot(comparison, page):
    seen: dict[int, set] = {}
    for figure in figures_of(comparison).values():
        for trace in figure["data"]:
            if trace["meta"]["role"] == "line":
                look = (trace["meta"]["colour"], trace["line"]["dash"], trace["marker"]["symbol"], trace["name"])
                seen.setdefault(trace["meta"]["variant"], set()).add(look)
    assert len(seen) == 4
    assert all(len(look) == 1 for look in seen.values())


def test_forty_variants_look_different(comparison):
    variant = read_comparison(comparison).variants[0]
    from dataclasses import replace

    styles = looks([replace(variant, label=str(i)) for i in range(40)]).values()
    assert len({(style.colour, style.dash, style.marker) for style in styles}) == 40


def test_sizes_have_a_section_each_and_a_plot_together(tmp_path):
    page = page_of(write_comparison(tmp_path, sizes=(200, 1000), fail=None))
    assert "1000 training examples. Over 3 seeds" in " ".join(page.text.split())
    figures = figures_of(tmp_path)
    assert {"steps-200", "steps-1000", "pairs-200", "pairs-1000", "sizes"} <= figures.keys()
    assert [trace["x"] for trace in figures["sizes"]["data"]] == [[200, 1000]] * 4
    assert [row[2] for row in page.tables["table-variants"][1:]] == ["200"] * 4 + ["1000"] * 4


def with_forecasts(folder, sizes=(250, 500, 1000, 2000, 4000), target=None, horizon=None, **change):
    """A comparison whose accuracies follow a law, and one of whose variants gets worse with size."""
    write_comparison(folder, sizes=sizes, fail=None, variants=VARIANTS[:2])

    def follow(document):
        for variant in document["variants"]:
            for run in variant["runs"]:
                gain = (0.95 if variant["name"] == "full" else 0.6) - 2 * variant["size"] ** -0.5
                run["test"]["accuracy"] = (gain if variant["name"] == "full" else -gain + 1) + run["seed"] / 1000
            values = [run["test"]["accuracy"] for run in variant["runs"]]
            variant["summary"]["accuracy"] = {"mean": sum(values) / 3, "interval": None, "n": 3}
        document["forecasts"] = size_forecasts(
            document["variants"],
            Headline("accuracy"),
            document["seeds"],
            horizon=horizon,
            full_size=None,
            target=target,
        )
        document["forecasts"][0].update(change)

    edit(folder, follow)
    return folder


def test_forecasts_are_drawn_and_told(tmp_path):
    page = page_of(with_forecasts(tmp_path, target=0.9))
    head, full, rs2 = page.tables["table-forecasts"]
    assert head[1:] == ["At 8000 examples", "95 % band", "Asymptote", "Examples for 90.00 %", "Trend"]
    assert full[1:] == [
        "92.86", "92.74 to 92.99", "95.10", "1538", "asymptote calm from 1000 examples on",
    ]  # fmt: skip
    assert rs2[1:] == ["–", "–", "–", "–", "does not get better with size: no forecast"]
    assert "Twice the largest size is 8000 examples." in page.text
    figure = figures_of(tmp_path)["sizes"]
    roles = [(trace["meta"]["role"], trace["meta"]["variant"]) for trace in figure["data"]]
    assert roles == [
        ("band", 0), ("trend", 0), ("asymptote", 0), ("level", 0), ("forecast", 0), ("line", 0), ("line", 1),
    ]  # fmt: skip
    by_role = {trace["meta"]["role"]: trace for trace in figure["data"][:6]}
    assert (by_role["forecast"]["x"], by_role["forecast"]["y"]) == ([8000], [pytest.approx(92.864, abs=1e-3)])
    assert by_role["asymptote"]["y"] == pytest.approx([95.1, 95.1], abs=1e-3)
    assert (by_role["level"]["x"], by_role["line"]["mode"]) == ([1000], "markers")
    assert figure["data"][-1]["mode"] == "lines+markers"  # without a trend, its points are connected
    assert figure["layout"]["xaxis"]["tickvals"][-1] == 8000


def test_a_trend_that_may_not_be_trusted_says_so(tmp_path):
    four = page_of(with_forecasts(tmp_path / "four", sizes=(250, 500, 1000, 2000)))
    assert four.tables["table-forecasts"][1][-1] == "4 sizes cannot say whether it may be trusted: 5 are the least"
    restless = with_forecasts(tmp_path / "five", decision_size=None, prediction_size=None, flags=["no_asymptote"])
    note = page_of(restless).tables["table-forecasts"][1][-1]
    assert note == "rises like a logarithm: no asymptote; asymptote not calm yet: not to be trusted"
    impossible = page_of(with_forecasts(tmp_path / "beyond", flags=["impossible"], forecast=None, band=None))
    assert impossible.tables["table-forecasts"][1][-1] == "leads beyond 100 %: no forecast"


def test_a_far_asymptote_does_not_flatten_the_picture(tmp_path):
    with_forecasts(tmp_path, asymptote=63.5)
    write_report(tmp_path)
    low, high = figures_of(tmp_path)["sizes"]["layout"]["yaxis"]["range"]
    assert 0 < low < high < 110


def test_tuning_shows_every_trial_and_marks_the_chosen(tmp_path):
    def tune(document):
        document["tune"] = {"field": "lr", "values": [0.1, 1.0]}
        for variant in document["variants"]:
            variant["tuned"] = {"lr": 0.1}
            variant["trials"] = [{"tuned": {"lr": lr}, "validation": 0.9 - lr / 10, "n": 3} for lr in (0.1, 1.0)]

    edit(write_comparison(tmp_path, fail=None), tune)
    page = page_of(tmp_path)
    assert page.tables["table-trials"][1:3] == [
        ["full", "lr=0.1", "89.00", "3", "yes"],
        ["full", "lr=1.0", "80.00", "3", ""],
    ]
    assert "lr was chosen on validation among 0.1, 1.0" in page.text


def test_comparison_without_a_finished_run_has_a_report(tmp_path):
    def nothing(document):
        document.update(headline=None, pairs=[], finished_runs=0)
        for variant in document["variants"]:
            variant.update(runs=[], summary={}, to_target=None)

    edit(write_comparison(tmp_path), nothing)
    page = page_of(tmp_path)
    assert "No run has finished, so there is nothing to compare." in page.text
    assert "0 of 12 runs finished: 1 failed and 11 are missing." in page.text
    assert figures_of(tmp_path) == {}


def test_runs_whose_folders_are_gone_keep_their_numbers(tmp_path):
    import shutil

    shutil.rmtree(write_comparison(tmp_path) / "runs")
    page = page_of(tmp_path)
    assert page.tables["table-variants"][1][2] == "96.94"
    assert not [link for link in page.tags("a") if "runs/" in link["href"]]


def test_report_again_replaces_it_and_leaves_nothing_else(tmp_path):
    before = write_report(write_comparison(tmp_path)).read_bytes()
    assert write_report(tmp_path).read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["comparison.json", "report.html", "runs"]


# --- the page of a run


def test_run_has_its_exact_interval_and_says_that_one_seed_is_one_seed(tmp_path):
    write_run(tmp_path / "run", metric_lines(0.96, 900, np.random.default_rng(0)), 0, 346 / 360)
    page = page_of(tmp_path / "run")
    expected = f"the test accuracy is 96.11{THIN}% (exact 95{THIN}% interval 93.56 to 97.86{THIN}%, 360 examples)"
    assert expected in page.text
    assert "one seed, and says nothing about how much another would differ" in page.text
    assert page.tables["table-results"][1] == ["Accuracy, %", "96.11", "93.56 to 97.86", "96.00", "96.00"]
    assert ["note", HOSTILE] in page.tables["facts"]
    assert set(figures_of(tmp_path / "run")) == {"metric-0-steps", "metric-0-seconds", "metric-1-steps"}


def with_exhibits(folder: Path) -> Path:
    """A run that has two plots and a drawing to show, the drawing one that would like to do harm."""
    write_run(folder, metric_lines(0.96, 900, np.random.default_rng(0)), 0, 346 / 360)
    exhibits = [
        {"heading": "Fields", "description": "a map", "plot": {"data": [{"type": "heatmap", "z": [[0, 1], [2, 3]]}]}},
        {
            "heading": HOSTILE,
            "description": "dots",
            "plot": {
                "data": [{"type": "scatter", "mode": "markers", "x": [0, 1], "y": [1, 2], "meta": {"colour": "ink"}}],
                "layout": {"height": 200},
            },
        },
        {
            "heading": "Drawing",
            "description": HOSTILE,
            "svg": '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script>alert(2)</script></svg>',
        },
    ]
    write_json(folder / "exhibits.json", {"exhibits": exhibits})
    return folder


def test_run_shows_what_its_task_has_to_show(tmp_path):
    folder = with_exhibits(tmp_path / "run")
    text, figures = page_of(folder).text, figures_of(folder)
    assert figures["exhibit-0"]["data"][0]["z"] == [[0, 1], [2, 3]]
    assert figures["exhibit-0"]["data"][0]["meta"] == {"colour": 0}
    assert figures["exhibit-1"]["layout"]["height"] == 200
    assert "What was learned" in text
    html = (folder / "report.html").read_text()
    assert "alert(2)" not in html  # the drawing is an image, in which no script runs
    assert html.count('src="data:image/svg+xml;base64,') == 1


def test_a_picture_is_a_file_beside_the_report_and_in_it(tmp_path):
    folder = tmp_path / "run"
    write_run(folder, metric_lines(0.96, 900, np.random.default_rng(0)), 0, 346 / 360)
    shown = Exhibit("Rollout", HOSTILE, picture=GIF, file="rollout.gif")
    write_exhibits(folder, [shown])
    assert (folder / "rollout.gif").read_bytes() == GIF
    assert "picture" not in (folder / "exhibits.json").read_text()
    assert read_exhibits(folder) == [shown]
    page_of(folder)
    html = (folder / "report.html").read_text()
    assert html.count(f'src="data:image/gif;base64,{base64.b64encode(GIF).decode()}"') == 1
    (folder / "rollout.gif").unlink()
    assert not holds_exhibits(folder)
    with pytest.raises(ValueError, match=r"rollout\.gif is not there; aleator run --resume --out \S+ makes it again"):
        write_report(folder)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({}, "exactly one of plot, svg and picture, got none"),
        ({"plot": {}, "svg": ""}, "exactly one of plot, svg and picture, got plot and svg"),
        ({"picture": GIF}, "must have a file if it has a picture, and only then, got file None"),
        ({"svg": "", "file": "a.gif"}, "must have a file if it has a picture, and only then, got file 'a.gif'"),
        ({"picture": GIF, "file": "../a.gif"}, r"must be letters, .* before '\.png' or '\.gif', got '\.\./a\.gif'"),
        (
            {"picture": GIF, "file": "a.png"},
            r"must be a PNG as its file a\.png says, got bytes that begin with b'GIF89a",
        ),
        ({"picture": GIF + bytes(4_000_000), "file": "a.gif"}, r"at most 4000000 bytes, got \d+ in a\.gif; show fewer"),
    ],
)
def test_exhibit_that_cannot_be_shown_is_refused(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        Exhibit("heading", "description", **arguments)


def test_damaged_exhibits_are_refused_by_name(tmp_path):
    folder = with_exhibits(tmp_path / "run")
    write_json(folder / "exhibits.json", {"exhibits": [{"heading": "no description"}]})
    with pytest.raises(ValueError, match=r"exhibits\.json does not hold exhibits"):
        write_report(folder)


def test_run_that_has_not_finished_has_a_report(tmp_path):
    write_run(tmp_path / "run", metric_lines(0.96, 900, np.random.default_rng(0))[:20], 0, None)
    assert "This run has not finished; the last line of its log is of step 150." in page_of(tmp_path / "run").text


def test_metric_that_was_not_finite_is_a_gap(tmp_path):
    lines = metric_lines(0.96, 900, np.random.default_rng(0))
    lines[3]["metrics"] = {"loss": None}
    lines[4]["metrics"] = {"loss": math.nan}
    write_run(tmp_path / "run", lines, 0, 0.5)
    page_of(tmp_path / "run")
    assert "NaN" not in json.dumps(figures_of(tmp_path / "run"))


# --- bad input


def test_other_folders_are_refused_in_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"a comparison, of a run or of advice, got .*: it has no"):
        write_report(tmp_path)
    with pytest.raises(ValueError, match="it does not exist"):
        write_report(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "comparison.json is not readable as JSON"),
        ('{"schema_version": 99}', "has schema version 99"),
        ('{"schema_version": 1, "recipe": "x"}', "is not a comparison that this library wrote: KeyError"),
    ],
)
def test_damaged_comparison_is_refused_by_name(tmp_path, content, message):
    (tmp_path / "comparison.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_importing_the_report_loads_nothing_heavy():
    heavy = "('plotly', 'jinja2', 'scipy', 'torch')"
    code = f"import sys, aleator.experiment.report; print([name for name in {heavy} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
