"""The common base of the models: saving, generating, the code length of a text."""

import json

import pytest
import torch

from aleator.language import DynamicPoolingLM, MagnetLM, load_model
from aleator.nn import BoundaryPredictor
from aleator.random import Streams
from tests.language.small import batch, byte_lm, dtp, magnet


@pytest.mark.parametrize("make", [magnet, dtp, byte_lm])
def test_a_saved_model_is_the_same_model(make, tmp_path):
    model = make().eval()
    model.save(tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert type(again) is type(model)
    assert not again.training
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["config.json", "model.safetensors"]
    ids, _ = batch(2)
    scripts = ["latin", "cyrl"]
    measures = [m.measure(ids, scripts, generator=torch.Generator().manual_seed(0)) for m in (model, again)]
    for ours, expected in zip(*measures, strict=True):
        assert torch.equal(ours, expected)


def test_a_model_is_loaded_in_the_precision_that_it_was_saved_in(tmp_path):
    model = byte_lm().double()
    model.save(tmp_path)
    again = load_model(tmp_path)
    assert {parameter.dtype for parameter in again.parameters()} == {torch.float64}
    ids, _ = batch(2)
    assert torch.equal(again(ids), model.eval()(ids))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_model_whose_weights_are_no_numbers_continues_no_text(temperature):
    model = byte_lm()
    with torch.no_grad():
        model.output.bias[7] = torch.nan
    with pytest.raises(ValueError, match="logits must be finite"):
        model.generate("a", script="latin", length=1, temperature=temperature, generator=torch.Generator())


def test_thresholds_and_all_options_are_saved(tmp_path):
    options = {"languages": {"ru": "cyrl"}, "routing": "language", "boundary_loss": "hinge", "capacity": 0.5}
    model = magnet(eval_boundaries="rate", utf8_safe=True, temperature=0.7, **options)
    ids, _ = batch(2)
    model.calibrate([(ids, ["ru", "latin"])])
    model.save(tmp_path)
    again = load_model(tmp_path)
    assert isinstance(again, MagnetLM)
    assert again.config == model.config
    assert again.predictor("ru").threshold == model.predictor("ru").threshold
    assert [bool(again.predictor(name).calibrated) for name in ("ru", "indic")] == [True, False]
    assert isinstance(again.predictor("ru"), BoundaryPredictor)
    assert again.predictor("ru").estimator == model.predictor("ru").estimator


def test_dynamic_pooling_says_its_own_options():
    config = dtp(rate=0.1, names=["a", "b"]).config
    assert config["rate"] == 0.1
    assert config["names"] == ["a", "b"]
    with Streams(0).scope("init"):
        assert DynamicPoolingLM(**config).scripts.rates == {"a": 0.1, "b": 0.1}


@pytest.mark.parametrize("make", [magnet, byte_lm])
def test_generation_continues_the_prompt_and_follows_its_generator(make):
    model = make()
    texts = [
        model.generate("naïve ", script="latin", length=20, generator=torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    ]
    assert texts[0] == texts[1] != texts[2]
    assert all(text.startswith("naïve ") and len(text) > 6 for text in texts)
    assert model.training
    assert model.generate("x", script="latin", length=0) == "x"


def test_greedy_generation_takes_the_most_probable_byte_and_stops_at_the_end():
    model = byte_lm()
    with torch.no_grad():
        model.output.bias[3 + ord("!")] = 100
    assert model.generate("a", script="", length=3, temperature=0) == "a!!!"
    with torch.no_grad():
        model.output.bias[1] = 200
    assert model.generate("a", script="", length=3, temperature=0) == "a"


def test_code_length_counts_what_was_predicted():
    model = byte_lm().eval()
    ids, _ = batch(2)
    mask = torch.arange(24).expand(2, 24) < torch.tensor([[24], [10]])
    found = model.measure(ids, None, mask)
    assert found.segments.tolist() == [24, 10]
    assert found.predicted.tolist() == [23, 9]
    torch.testing.assert_close(found.nats.sum() / 32, model.loss(ids, mask))
    torch.testing.assert_close(found.nats[1] / 9, model.loss(ids[1:, :10]))


@pytest.mark.plain
def test_what_is_no_saved_model_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no saved model: there is no config\.json"):
        load_model(tmp_path)
    for content in ("{", "[]", json.dumps({"model": "GPT"})):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(ValueError, match="is not the configuration of a model"):
            load_model(tmp_path)


@pytest.mark.plain
def test_generation_refuses_what_it_cannot_do():
    model = byte_lm()
    with pytest.raises(ValueError, match="prompt must have at least one character"):
        model.generate("", script="", length=1)
    with pytest.raises(ValueError, match="length must not be negative, got -1"):
        model.generate("a", script="", length=-1)
    with pytest.raises(ValueError, match=r"temperature must not be negative, got -0\.5"):
        model.generate("a", script="", length=1, temperature=-0.5)
