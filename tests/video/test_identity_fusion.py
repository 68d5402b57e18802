"""Tokens of a face and of a text, mixed."""

import math

import numpy as np
import pytest
import torch

from aleator.video import IdentityTextFusion

SIZES = {
    "id_dim": 5, "vision_dim": 6, "text_dim": 7, "vision_tokens": 3, "text_tokens": 4, "num_latents": 2, "depth": 2,
    "heads": 2, "dim_head": 3, "id_copies": 4, "width": 8, "ff_mult": 2,
}  # fmt: skip


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fusion(dtype=torch.float64, **changed) -> IdentityTextFusion:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = IdentityTextFusion(**{**SIZES, **changed}).to(dtype)
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    return module


def inputs(batch: int, dtype=torch.float64) -> list[torch.Tensor]:
    shapes = ((batch, 5), (batch, 3, 6), (batch, 4, 7))
    doubles = [torch.randn(shape, generator=drawn(number), dtype=torch.float64) for number, shape in enumerate(shapes)]
    return [part.to(dtype) for part in doubles]


def by_loops(weights: dict[str, np.ndarray], identity, vision, text) -> np.ndarray:
    """The sheet's steps for one sample, one token at a time, with all copies of the identity."""

    def linear(x, name):
        return weights[f"{name}.weight"] @ x + weights.get(f"{name}.bias", 0.0)

    def norm(x, name):
        return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def gelu(x):
        return np.array([v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in x])

    heads, dim = SIZES["heads"], SIZES["dim_head"]
    read = [linear(identity, "resampler.proj_in") for _ in range(SIZES["id_copies"])]
    latents = [row.copy() for row in weights["resampler.latents"][0]]
    for depth in range(SIZES["depth"]):
        name = f"resampler.blocks.{depth}.attention"
        of_latents = [norm(x, f"{name}.norm_latents") for x in latents]
        tokens = [norm(x, f"{name}.norm_inputs") for x in read] + of_latents
        keys = [linear(x, f"{name}.to_kv")[: heads * dim] for x in tokens]
        values = [linear(x, f"{name}.to_kv")[heads * dim :] for x in tokens]
        new = []
        for latent, own in zip(latents, of_latents, strict=True):
            query = linear(own, f"{name}.to_q")
            out = []
            for head in range(heads):
                part = slice(head * dim, (head + 1) * dim)
                logits = np.array([query[part] @ key[part] / math.sqrt(dim) for key in keys])
                shares = np.exp(logits - logits.max())
                shares /= shares.sum()
                out.append(sum(share * value[part] for share, value in zip(shares, values, strict=True)))
            new.append(latent + linear(np.concatenate(out), f"{name}.to_out"))
        latents = []
        for latent in new:
            forward = f"resampler.blocks.{depth}.feed_forward"
            hidden = gelu(linear(norm(latent, f"{forward}.0"), f"{forward}.1"))
            latents.append(latent + linear(hidden, f"{forward}.3"))
    tokens = [norm(linear(x, "resampler.proj_out"), "resampler.norm_out") for x in latents] + list(vision)
    mixer = weights["vision_mixer.weight"], weights["vision_mixer.bias"]
    face = [sum(w * x for w, x in zip(row, tokens, strict=True)) + b for row, b in zip(*mixer, strict=True)]
    tokens = [linear(x, "to_text") for x in face] + list(text)
    mixer = weights["text_mixer.weight"], weights["text_mixer.bias"]
    return np.stack([sum(w * x for w, x in zip(row, tokens, strict=True)) + b for row, b in zip(*mixer, strict=True)])


@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-10), (torch.float32, 2e-5)])
def test_equals_the_steps_of_the_paper_one_token_at_a_time(dtype, within):
    module = fusion()
    weights = {name: value.detach().numpy() for name, value in module.state_dict().items()}
    expected = [by_loops(weights, *(part[i].numpy() for part in inputs(2))) for i in range(2)]
    found = module.to(dtype)(*inputs(2, dtype)).detach()
    assert found.dtype == dtype
    scale = np.abs(expected).max()
    assert np.abs(found.double().numpy() - expected).max() <= within * scale


def test_with_a_softmax_in_float32_it_differs_by_two_millionths_at_most(monkeypatch):
    module, given = fusion(), inputs(2)
    expected = module(*given)
    softmax = torch.Tensor.softmax
    monkeypatch.setattr(torch.Tensor, "softmax", lambda x, dim: softmax(x.float(), dim).to(x.dtype))
    found = module(*given)
    assert 0 < float((found - expected).detach().abs().max() / expected.detach().abs().max()) <= 2e-6


def test_gradients_flow_to_every_input_and_weight():
    given = [part.requires_grad_() for part in inputs(2)]
    module = fusion()
    module(*given).square().sum().backward()
    assert all(float(part.grad.abs().sum()) > 0 for part in (*given, *module.parameters()))


def test_n_copies_are_one_with_the_logarithm_of_n_more():
    x = torch.randn(6, generator=drawn(3), dtype=torch.float64)
    n = 144
    copied = torch.cat([x[:1].expand(n), x[1:]]).softmax(0)
    once = torch.cat([x[:1] + math.log(n), x[1:]]).softmax(0)
    assert abs(float(copied[:n].sum() - once[0])) <= 1e-12
    assert float((copied[n:] - once[1:]).abs().max()) <= 1e-12


def test_has_as_many_parameters_as_the_published_one():
    with torch.device("meta"):
        module = IdentityTextFusion()
        found = module(torch.empty(2, 512), torch.empty(2, 196, 768), torch.empty(2, 226, 4096))
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in module.named_children()}
    assert counts == {"resampler": 47_492_352, "vision_mixer": 41_748, "to_text": 3_149_824, "text_mixer": 95_598}
    assert found.shape == (2, 226, 4096)


def test_an_empty_batch_stays_empty():
    assert fusion()(*inputs(0)).shape == (0, 4, 7)


@pytest.mark.plain
def test_refuses_other_sizes_and_what_is_no_number():
    identity, vision, text = inputs(2)
    module = fusion()
    with pytest.raises(ValueError, match=r"identity must have the shape \[batch, 5\], got \[.., 4\]"):
        module(identity[:, :4], vision, text)
    with pytest.raises(ValueError, match=r"text must have the shape \[batch, 4, 7\], got \[.., 3, 7\]"):
        module(identity, vision, text[:, :3])
    with pytest.raises(ValueError, match="identity must be finite, got a vector with NaN or an infinity"):
        module(identity / 0 * 0, vision, text)
    with pytest.raises(ValueError, match="depth must be at least 1, got 0"):
        fusion(depth=0)
