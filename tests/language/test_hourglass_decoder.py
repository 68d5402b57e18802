"""Reading a text id by id gives what reading it at once gives."""

import pytest
import torch

from aleator.language import BytesVocabulary
from tests.language.small import batch, byte_lm, magnet

TEXT = "aбвг€d𝄞 Привіт, світе!"


@pytest.mark.parametrize("utf8_safe", [False, True])
@pytest.mark.parametrize("script", ["latin", "cyrl"])
def test_cached_logits_are_those_of_the_whole_text(script, utf8_safe):
    model = magnet(layers=(2, 2, 1), utf8_safe=utf8_safe, scripts={"latin": 0.5, "cyrl": 0.1}).eval()
    ids = torch.tensor([BytesVocabulary().encode(TEXT)])
    noise = batch(1, ids.shape[1])[1]
    with torch.no_grad():
        whole = model(ids, [script], noise=noise)
    decoder = model.decoder(script, noise=noise[0])
    found = torch.stack([decoder.step(number) for number in ids[0].tolist()])
    torch.testing.assert_close(found, whole.logits[0], atol=1e-5, rtol=0)
    assert decoder.segments == whole.boundaries.sum()
    assert decoder.segments > 0


@pytest.mark.parametrize("capacity", [0.1, 0.3, 0.4])
def test_a_decoder_keeps_to_the_capacity_as_the_whole_text_does(capacity):
    model = magnet(layers=(1, 2, 1), capacity=capacity, scripts={"latin": 0.5}).eval()
    ids, noise = batch(1, 40)
    with torch.no_grad():
        whole = model(ids, ["latin"], noise=noise)
    decoder = model.decoder("latin", noise=noise[0])
    found = torch.stack([decoder.step(number) for number in ids[0].tolist()])
    torch.testing.assert_close(found, whole.logits[0], atol=1e-5, rtol=0)
    assert decoder.segments < whole.boundaries.sum()


def test_layers_in_the_middle_run_only_where_a_segment_ends():
    model = magnet().eval()
    calls = {"short": 0, "post": 0}
    for name in calls:
        getattr(model, name).register_forward_hook(lambda *_, name=name: calls.update({name: calls[name] + 1}))
    ids, noise = batch(1, 50)
    decoder = model.decoder("indic", noise=noise[0])
    for number in ids[0].tolist():
        decoder.step(number)
    assert calls == {"short": 1 + decoder.segments, "post": 50}  # one more for the null vector
    assert 0 < decoder.segments < 15


def test_noise_of_a_decoder_comes_from_its_generator():
    model = magnet().eval()
    ids, _ = batch(1, 40)
    segments = []
    for seed in (0, 0, 1):
        decoder = model.decoder("latin", generator=torch.Generator().manual_seed(seed))
        logits = torch.stack([decoder.step(number) for number in ids[0].tolist()])
        segments.append(logits)
    assert torch.equal(segments[0], segments[1])
    assert not torch.equal(segments[0], segments[2])


def test_byte_level_decoder_gives_the_logits_of_the_whole_text():
    model = byte_lm().eval()
    ids, _ = batch(1)
    decoder = model.decoder()
    found = torch.stack([decoder.step(number) for number in ids[0].tolist()])
    torch.testing.assert_close(found, model(ids)[0].detach(), atol=1e-5, rtol=0)


@pytest.mark.plain
def test_an_unknown_script_is_refused():
    with pytest.raises(ValueError, match="script must be one of latin, cyrl, indic, got 'greek'"):
        magnet().decoder("greek")
