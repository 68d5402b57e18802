"""Embeddings of prompts in a file."""

import pytest
import torch

from aleator.video import TextCache, cache_text


def test_prompts_are_encoded_once_and_read_in_any_order(tmp_path):
    asked = []

    def encode(prompt):
        asked.append(prompt)
        words = torch.full((2, 3), float(len(prompt)))
        return {"encoder_hidden_states": words, "encoder_attention_mask": torch.ones(2, dtype=torch.long)}

    cache_text(["cat", "horse", "cat"], encode, tmp_path / "text.safetensors")
    assert asked == ["cat", "horse"]
    texts = TextCache(tmp_path / "text.safetensors")
    cond = texts.condition(["horse", "cat", "horse"])
    assert cond["encoder_hidden_states"][:, 0, 0].tolist() == [5.0, 3.0, 5.0]
    assert cond["encoder_attention_mask"].dtype == torch.long
    with pytest.raises(ValueError, match=r"prompt must be one of the 2 in .*, got 'dog'"):
        texts.condition(["dog"])


def test_embeddings_that_cannot_be_in_one_batch_are_refused(tmp_path):
    with pytest.raises(ValueError, match="must have one shape"):
        cache_text(["a", "bc"], lambda prompt: {"words": torch.zeros(len(prompt))}, tmp_path / "text.safetensors")
    with pytest.raises(ValueError, match="must hold at least one"):
        cache_text([], lambda prompt: {}, tmp_path / "text.safetensors")
