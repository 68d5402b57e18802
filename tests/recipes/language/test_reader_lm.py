import pytest
import torch

from aleator.language import LanguageModel, fairness_report
from aleator.random import Streams
from aleator.recipes.language.reader_lm import ReaderLM
from aleator.recipes.language.task import Piece
from tests.recipes.language.test_readers import files, task, tiny

__all__ = ["files"]


@pytest.mark.parametrize("tokenization", ["bytes", "bpe"])
def test_a_row_costs_what_it_costs_alone_whatever_it_is_padded_with(files, tokenization):
    built = task(tiny(files, tokenization=tokenization))
    model = built.language_model().eval()
    assert isinstance(model, ReaderLM)
    texts = ["all human", "b", "все", "born free"]
    rows = [torch.tensor(list(text.encode())) for text in texts]
    ids = torch.nn.utils.rnn.pad_sequence([row + 3 for row in rows], batch_first=True)
    mask = torch.arange(ids.shape[1]) < torch.tensor([len(row) for row in rows])[:, None]
    found = model.measure(ids, mask=mask)
    assert found.predicted.tolist() == [len(row) - 1 for row in rows]
    for index, row in enumerate(rows):
        assert found.segments[index] == built.reader.count(row.to(torch.uint8))
        piece = Piece(row[None], torch.zeros(1, dtype=torch.int64))
        nats = built._read(piece).nats.sum().detach() if len(row) > 1 else 0.0
        assert float(found.nats[index]) == pytest.approx(float(nats), rel=1e-5)


@pytest.mark.parametrize("tokenization", ["bytes", "bpe", "dtp", "magnet"])
def test_every_model_of_the_recipe_can_be_asked_what_parallel_text_costs(files, tokenization):
    built = task(tiny(files, tokenization=tokenization))
    texts = {"en": ["all human beings", "born free"], "bg": ["все люди", "рождаются"]}
    labels = {name: built.label(name, lines) for name, lines in texts.items()}
    assert labels["bg"] == {"dtp": "shared", "magnet": "cyrillic"}.get(tokenization, "bg")
    model = built.language_model()
    report = fairness_report(model, texts, anchor="en", scripts=labels, generator=Streams(0).generator("noise"))
    assert report.languages["bg"].segments > 0
    assert not any(name == "ReaderLM" for name in LanguageModel.kinds)
