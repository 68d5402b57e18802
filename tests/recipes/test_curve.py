import dataclasses
import inspect
import itertools
import math

import numpy as np
import pytest

from aleator.cli import main
from aleator.data import TaggedSentence
from aleator.experiment import RunOptions, run
from aleator.experiment.accelerators import make_accelerator
from aleator.experiment.files import read_json
from aleator.experiment.tracking import read_metrics
from aleator.random import Streams
from aleator.recipes.curve import Curve
from aleator.recipes.curve import task as tagging
from aleator.recipes.curve.taggers import BigramTagger, SuffixTagger, make_tagger
from aleator.recipes.curve.task import TaggingTask
from aleator.recipes.curve.words import encode, shape
from aleator.stats import fit_power_law

TAGGERS = ("suffix", "suffix-rare", "naive-bayes", "perceptron", "hmm")
TAGS = ("ADJ", "DET", "NOUN", "VERB")
SMALL = {"data": "ud-galician-treegal", "step": 500, "train_size": 6000, "lookahead": 0}


def encoded(*parts):
    """Parts from text: ``"the/DET dog/NOUN | it/…"``."""

    def sentence(text):
        pairs = [word.split("/") for word in text.split()]
        return TaggedSentence(tuple(w for w, _ in pairs), tuple(t for _, t in pairs))

    return encode([[sentence(text) for text in part.split("|")] for part in parts], TAGS)


def tags_of(words, predicted):
    return [words.vocabulary.tags[tag] for tag in predicted]


def task(seed=0, **options) -> TaggingTask:
    streams = Streams(seed)
    with streams.scope("init"):
        return Curve(**options).task(streams, make_accelerator())


def through(built: TaggingTask) -> TaggingTask:
    for batch in built.train_batches():
        built.train_step(batch)
    return built


def with_curve(built: TaggingTask, *curves) -> TaggingTask:
    """The task as if it had measured these accuracies."""
    for name, curve in zip(built.names, curves, strict=True):
        built.curves[name] = [[float(value)] for value in curve]
    return built


# --- taggers, against answers found by hand


def test_suffix_tagger_takes_the_word_then_the_longest_known_suffix_of_its_shape():
    train, held_out = encoded(
        "run/VERB run/VERB Run/NOUN | walking/VERB talking/VERB king/NOUN | bread/NOUN Paris/NOUN 7/ADJ",
        "RUN/VERB joking/VERB spread/NOUN nag/VERB Xyz/NOUN 1990/ADJ ?/DET",
    )
    tagger = SuffixTagger()
    tagger.fit(train)
    assert tags_of(held_out, tagger.predict(held_out)) == [
        "VERB",  # run: two of three
        "VERB",  # -ing: walking and talking against king
        "NOUN",  # -ead
        "VERB",  # -g: only the three of -ing end so
        "NOUN",  # no known ending, but capitalised: Run and Paris
        "ADJ",  # has a digit
        "NOUN",  # a shape never seen: of NOUN and VERB, with four words each, the first in the alphabet
    ]


def test_equally_frequent_tags_are_settled_by_the_alphabet():
    train, held_out = encoded("a/VERB a/ADJ", "a/ADJ")
    tagger = SuffixTagger()
    tagger.fit(train)
    assert tags_of(held_out, tagger.predict(held_out)) == ["ADJ"]


def test_rare_suffixes_are_those_of_rare_words():
    """A frequent word outvotes the rare ones of its ending, unless only rare ones are counted."""
    train, held_out = encoded("king/NOUN " * 11 + "walking/VERB talking/VERB", "joking/VERB")
    said = {}
    for name in ("suffix", "suffix-rare"):
        tagger = make_tagger(name, 0)
        tagger.fit(train)
        said[name] = tags_of(held_out, tagger.predict(held_out))
    assert said == {"suffix": ["NOUN"], "suffix-rare": ["VERB"]}


def test_viterbi_finds_the_best_of_all_paths():
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(12)]
    train, held_out = encoded(
        *(
            " | ".join(" ".join(f"{rng.choice(words)}/{rng.choice(TAGS)}" for _ in range(length)) for length in lengths)
            for lengths in ((5, 3, 6, 4) * 5, (1, 5, 3, 5, 2))
        )
    )
    tagger = BigramTagger()
    tagger.fit(train)
    found = tagger.predict(held_out)
    for start, length in zip(held_out.starts, held_out.lengths, strict=True):
        forms = held_out.forms[start : start + length]

        def score(path, forms=forms):
            steps = [tagger.transition[before, tag] for before, tag in zip((-1, *path), path, strict=False)]
            return sum(steps) + sum(tagger.emission[form, tag] for form, tag in zip(forms, path, strict=True))

        best = max(itertools.product(range(len(TAGS)), repeat=length), key=score)
        assert score(tuple(found[start : start + length])) == pytest.approx(score(best))


def test_bigrams_and_words_are_counted_as_the_formula_says():
    (train,) = encoded("a/DET b/NOUN | a/DET c/VERB")
    tagger = BigramTagger()
    tagger.fit(train)
    assert np.exp(tagger.transition[-1]) == pytest.approx([1 / 6, 3 / 6, 1 / 6, 1 / 6])  # two beginnings, both DET
    assert np.exp(tagger.transition[TAGS.index("DET")]) == pytest.approx([1 / 6, 1 / 6, 2 / 6, 2 / 6])
    prior = np.array([1, 3, 2, 2]) / 8
    # "a" twice DET: its three suffix tables count it too; the table of no letters counts all four words.
    share = (np.array([0, 2, 1, 1]) + prior) / 5
    for _ in range(4):  # endings of one, two and three letters, and the word
        share = (np.array([0, 2, 0, 0]) + share) / 3
    a = train.vocabulary.forms.index("a")
    assert np.exp(tagger.emission[a]) == pytest.approx(share / prior)


def test_context_tells_apart_what_the_word_does_not():
    """After "the" a noun, after "they" a verb; the word itself is as often one as the other."""
    train, held_out = encoded(
        " | ".join(f"the/DET {w}/NOUN | they/ADJ {w}/VERB" for w in ("run", "walk", "talk", "look")),
        "the/DET walk/NOUN | they/ADJ walk/VERB",
    )
    said = {}
    for name in TAGGERS:
        tagger = make_tagger(name, 0)
        tagger.fit(train)
        said[name] = float(np.mean(tagger.predict(held_out) == held_out.tags))
    assert said == {"suffix": 0.75, "suffix-rare": 0.75, "naive-bayes": 1.0, "perceptron": 1.0, "hmm": 1.0}


@pytest.mark.parametrize("name", TAGGERS)
def test_training_forgets_what_was_before_and_repeats_itself(name):
    train, other, held_out = encoded(
        "the/DET old/ADJ dog/NOUN sees/VERB | a/DET cat/NOUN runs/VERB",
        "dog/VERB dog/VERB | cat/ADJ runs/NOUN",
        "the/DET dog/NOUN runs/VERB | new/ADJ cats/NOUN",
    )
    once, twice = make_tagger(name, 7), make_tagger(name, 7)
    once.fit(train)
    twice.fit(other)
    twice.fit(train)
    assert np.array_equal(once.predict(held_out), twice.predict(held_out))


@pytest.mark.parametrize(
    ("form", "code"), [("Dog", "C"), ("dog", ""), ("4th", "D"), ("B2", "CD"), ("--", "S"), ("don't", "")]
)
def test_shapes(form, code):
    assert shape(form) == code


def test_neighbours_end_with_the_sentence():
    (words,) = encoded("a/DET b/NOUN | c/VERB")
    features = words.features()
    left, right = words.vocabulary.neighbour_features
    width = left.shape[1]
    assert features[0, -2 * width : -width].tolist() == left[-1].tolist()
    assert features[1, -2 * width : -width].tolist() == left[0].tolist()
    assert features[0, -width:].tolist() == right[1].tolist()
    assert features[1, -width:].tolist() == features[2, -width:].tolist() == right[-1].tolist()


# --- levels


def test_levels_end_with_the_sentence_that_reaches_the_number(mirror):
    built = task(data="ud-galician-treegal", step=1000)
    words = np.cumsum(built.train.lengths)
    for level, count in enumerate(built.sentences[:-1]):
        multiple = 1000 * (level + 1)
        assert words[count - 1] >= multiple > words[count - 2]
    assert built.words[-1] == len(built.train) == words[-1]
    assert built.budget.total == len(built.words)


def test_control_levels_follow_the_dense_ones(mirror):
    built = task(data="ud-galician-treegal", step=500, levels_until=0.5, control_step=3000)
    total = len(built.train)
    expected = [*range(500, total // 2 + 1, 500), *(x for x in range(3000, total, 3000) if x > total / 2), total]
    assert len(built.words) == len(expected)
    assert all(0 <= x - y < 100 for x, y in zip(built.words, expected, strict=True))


def test_another_seed_shuffles_training_and_keeps_what_is_held_out(mirror):
    one, other = task(**SMALL), task(seed=1, **SMALL)

    def told(words):
        return [words.vocabulary.forms[form] for form in words.forms]

    assert told(one.held_out) == told(other.held_out)
    assert told(one.train) != told(other.train)
    full = task(**{**SMALL, "train_size": None})
    assert told(one.train) == told(full.train)[: len(one.train)]
    # No dev part is published: 60 of the 600 training sentences are held out.
    assert (len(full.held_out.lengths), len(full.train.lengths), len(full.test.lengths)) == (60, 540, 400)


def test_published_dev_part_is_held_out(mirror):
    built = task(step=20000)
    assert (len(built.train), len(built.held_out), len(built.test)) == (204577, 25147, 25094)


def test_folds_measure_every_sentence_of_a_level_once(mirror, monkeypatch):
    built = task(**SMALL, folds=4)
    seen = []

    class Spy:
        def fit(self, words):
            self.trained = len(words.lengths)

        def predict(self, words):
            seen.append((self.trained, len(words.lengths)))
            return words.tags

    monkeypatch.setattr(tagging, "make_tagger", lambda name, key: Spy())
    built.train_step(next(built.train_batches()))
    sentences = built.sentences[0]
    assert sum(held_out for _, held_out in seen) == sentences
    assert [trained + held_out for trained, held_out in seen] == [sentences] * 4
    assert built.curves["suffix"] == [[1.0] * 4]


# --- figures, on curves that were made up


def power_law(words, c=0.95, a=1.0, b=0.3):
    return c - a * np.asarray(words, dtype=float) ** -b


def test_a_curve_that_follows_the_law_is_forecast_without_error(mirror):
    built = task(**SMALL)
    with_curve(built, power_law(built.words))
    figures = built._figures("suffix")
    assert figures["forecast_error"] == pytest.approx(0, abs=1e-6)
    assert figures["mape"] == pytest.approx(0, abs=1e-6)
    assert figures["robustness"] == 1.0


def test_last_value_is_the_accuracy_at_the_last_level_within_the_fraction(mirror):
    built = task(**SMALL, forecast="last-value", forecast_at=0.5)
    curve = power_law(built.words)
    seen = sum(x <= 0.5 * built.words[-1] for x in built.words)
    figures = with_curve(built, curve)._figures("suffix")
    assert figures["forecast_error"] == pytest.approx(curve[-1] - curve[seen - 1])


def test_forecast_uses_no_level_beyond_the_fraction(mirror):
    built = task(**SMALL)
    rng = np.random.default_rng(0)
    curve = power_law(built.words) + rng.normal(0, 0.003, len(built.words))
    seen = sum(x <= 0.45 * built.words[-1] for x in built.words)
    law = fit_power_law(built.words[:seen], curve[:seen])
    figures = with_curve(built, curve)._figures("suffix")
    assert figures["forecast_error"] == pytest.approx(abs(law.predict(float(built.words[-1])) - curve[-1]), abs=1e-9)


def test_error_of_every_level_is_that_of_a_forecast_made_from_the_words_before(mirror):
    built = task(**SMALL)
    curve = power_law(built.words)
    curve[-1] -= 0.1
    with_curve(built, curve[:-1])
    assert built.evaluate("validation")["forecast_error"] == pytest.approx(0, abs=1e-6)
    with_curve(built, curve)
    assert built.evaluate("validation")["forecast_error"] == pytest.approx(0.1, abs=1e-5)


def test_robustness_and_mape_are_shares_and_means_over_the_levels_after_the_decision(mirror):
    built = task(**SMALL, tau=0.02)
    curve = power_law(built.words)
    decision = with_curve(built, curve)._trace("suffix", built.level).levels.decision
    curve[-1] += 0.04
    figures = with_curve(built, curve)._figures("suffix")
    assert figures["decision_words"] == built.words[decision - 1]
    assert figures["robustness"] == 0.0
    assert figures["mape"] == pytest.approx(0.04 / curve[-1] / (built.level - decision), rel=1e-3)


def test_an_undecided_trace_has_no_mape(mirror):
    built = task(**{**SMALL, "nu": 1e-30})
    figures = with_curve(built, power_law(built.words) + 0.01 * np.sin(built.words))._figures("suffix")
    assert all(math.isnan(figures[name]) for name in ("decision_words", "mape", "robustness"))


@pytest.mark.parametrize(
    ("forecast", "a", "b", "right"),
    [
        # b starts behind and overtakes after the decision: the trend sees it coming, the last value does not.
        ("power-law", {"c": 0.88}, {"c": 0.95, "a": 1.9}, 1.0),
        ("last-value", {"c": 0.88}, {"c": 0.95, "a": 1.9}, 0.0),
        ("last-value", {"c": 0.95}, {"c": 0.88}, 1.0),
    ],
)
def test_a_decision_is_right_when_the_chosen_tagger_is_better_at_the_end(mirror, forecast, a, b, right):
    built = task(**{**SMALL, "step": 200, "nu": 1e-3}, against="hmm", forecast=forecast)
    figures = with_curve(built, power_law(built.words, **a), power_law(built.words, **b))._figures("suffix")
    assert (figures["decision_right"], figures["undecided"]) == (right, 0.0)


def test_a_decision_that_is_not_made_is_not_right(mirror):
    built = task(**{**SMALL, "nu": 1e-30}, against="hmm")
    noise = 0.02 * np.sin(np.arange(len(built.words)) ** 2)
    figures = with_curve(built, power_law(built.words) + noise, power_law(built.words, c=0.951) - noise)._figures(
        "suffix"
    )
    assert (figures["decision_right"], figures["undecided"]) == (0.0, 1.0)


# --- through the door


def test_variants_share_the_curve_and_differ_in_the_forecast(mirror, tmp_path, capsys):
    """What the evidence compares: the same levels of the same shuffle, another forecast."""
    small = [word for name, value in SMALL.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    arguments = ["--variant", "law", "--variant", "last:forecast=last-value", "--seeds", "2", "--workers", "1"]
    assert main(["compare", "curve", *small, *arguments, "--out", str(tmp_path / "out")]) == 0
    content = read_json(tmp_path / "out" / "comparison.json")
    assert content["headline"] == {"name": "forecast_error", "direction": "min"}
    law, last = content["variants"]
    for one, other in zip(law["runs"], last["runs"], strict=True):
        assert one["test"]["held_out_accuracy"] == other["test"]["held_out_accuracy"]
        assert one["test"]["forecast_error"] != other["test"]["forecast_error"]
        logs = [read_metrics(tmp_path / "out" / run["folder"] / "metrics.jsonl") for run in (one, other)]
        curves = [[row["metrics"]["accuracy"] for row in log if row["split"] == "validation"] for log in logs]
        assert curves[0] == curves[1]
        assert len(curves[0]) == 12
    assert "test forecast_error" in capsys.readouterr().out


@pytest.mark.parametrize("name", TAGGERS)
def test_every_tagger_learns_on_real_sentences(mirror, tmp_path, name):
    options = Curve(data="ud-galician-treegal", tagger=name, step=3000, forecast_at=0.9)
    result = run(options, tmp_path / "run", RunOptions(trackers=()), name="curve")
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    curve = [row["metrics"]["accuracy"] for row in rows if row["split"] == "validation"]
    assert curve[-1] > curve[0]
    # The most frequent of the 17 tags is on a fifth of the words.
    assert 0.8 < result["test"]["accuracy"] < 0.97


def test_a_run_resumed_after_its_last_level_trains_once_more_for_the_test(mirror):
    done = through(task(**SMALL))
    again = task(**SMALL)
    again.load_state_dict(done.state_dict())
    assert list(again.train_batches()) == []
    assert again.evaluate("test")["accuracy"] == done.evaluate("test")["accuracy"]


@pytest.mark.plain
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step": 0}, "step must be positive and finite, got 0"),
        ({"control_step": -5}, "control_step must be positive and finite, got -5"),
        ({"folds": 1}, "folds must be at least 2, got 1"),
        ({"levels_until": 0.0}, r"levels_until must be in \(0, 1\], got 0.0"),
        ({"forecast_at": 1.0}, r"forecast_at must be in \(0, 1\), got 1.0"),
        ({"control_step": 500}, "control_step cannot be used with levels_until 1.0, got 500"),
        ({"decide_at": 0.3}, "decide_at cannot be used with against None, got 0.3"),
        ({"decide_at": 45.0}, r"decide_at must be in \(0, 1\), got 45.0"),
        ({"lookahead": -1}, "lookahead must not be negative, got -1"),
        ({"stop_tau": 0.0}, "stop_tau must be positive and finite, got 0.0"),
        ({"stop_tau": 0.1, "against": "hmm"}, "stop_tau cannot be used with against, which needs the whole curve"),
        ({"against": "suffix"}, "against must be another tagger than suffix, got suffix"),
        ({"train_size": 10**6}, "train_size must be at most 13783 for ud-galician-treegal, got 1000000"),
        ({"step": 5000}, r"step must leave 3 levels in the first 45 % of 13783 words \(forecast_at\), got 5000"),
        (
            {"step": 1000, "against": "hmm", "decide_at": 0.1},
            r"step must leave 3 levels in the first 10 % of 13783 words \(decide_at\), got 1000",
        ),
    ],
)
def test_bad_options_are_named(mirror, options, message):
    with pytest.raises(ValueError, match=message):
        task(data="ud-galician-treegal", **options)


def test_every_option_says_what_it_does():
    lines = inspect.getsource(Curve).splitlines()
    for field in dataclasses.fields(Curve):
        (at,) = [n for n, line in enumerate(lines) if line.startswith(f"    {field.name}: ")]
        assert lines[at + 1].startswith('    """'), f"{field.name} has no help"


def test_a_run_stops_when_the_trend_promises_too_little_and_is_evaluated_there(mirror, tmp_path):
    options = SMALL | {"tagger": "hmm", "nu": 1.0}
    recipe = Curve(**options, stop_tau=0.015)
    result = run(recipe, tmp_path / "run", RunOptions(trackers=()), name="curve")
    assert result["stopped"] == "the trend promises at most 0.015 more accuracy (stop_tau)"
    whole = through(task(**options))
    promised = [whole._trace("hmm", level).state().layer_at_horizon for level in range(1, whole.level + 1)]
    stop = next(level for level, layer in enumerate(promised, 1) if layer is not None and layer <= 0.015)
    assert result["steps"] == stop < whole.level
    test = result["test"]
    assert test.keys() == {"forecast_error", "accuracy", "held_out_accuracy", "words"}
    assert math.isnan(test["forecast_error"])
    assert (test["words"], test["held_out_accuracy"]) == (whole.words[stop - 1], whole.curves["hmm"][stop - 1][0])
    again = task(**options, stop_tau=0.015)
    again.load_state_dict({"curves": {"hmm": whole.curves["hmm"][:stop]}})
    assert again.evaluate("test")["accuracy"] == test["accuracy"]
