"""Policies with a LoRA, and files that diffusers loads again."""

import diffusers
import pytest
import torch

from aleator.video import PolicyAverage, Reference, add_lora, cast, save_lora, save_transformer, velocity_of
from tests.video.tiny import condition, latents, transformer

NAMES = ("wan", "hunyuan", "sd3", "flux", "cogvideox")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def with_lora(name="wan", moved=True):
    network = transformer(name)
    trained = add_lora(network, generator=seeded(), rank=2, alpha=4)
    if moved:
        for index, parameter in enumerate(trained):
            with torch.no_grad():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=seeded(index)))
    return network, trained


def read(network, folder, **more):
    with torch.random.fork_rng(devices=()):  # diffusers draws from the global generator when it loads
        return type(network).from_pretrained(folder, **more)


def out(network, name="wan"):
    with torch.no_grad():
        return velocity_of(network, **({"guidance": 6.0} if name == "hunyuan" else {}))(
            latents(name, 2), torch.tensor([0.8, 0.2]), condition(name, 2)
        )


def test_a_policy_begins_as_its_reference_and_only_the_additions_train():
    plain = out(transformer("wan"))
    network, trained = with_lora(moved=False)
    assert torch.equal(out(network), plain)
    names = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert len(names) == len(trained) == 2 * 2 * 8  # two blocks of two attentions of four layers, A and B
    assert all(".lora_" in name for name in names)


def test_the_reference_is_the_network_without_its_additions_and_leaves_them_on():
    network, _ = with_lora()
    velocity = velocity_of(network)
    moved = out(network)
    x, s, cond = latents("wan", 2), torch.tensor([0.8, 0.2]), condition("wan", 2)
    reference = Reference(velocity)(x, s, cond)
    assert torch.equal(reference, out(transformer("wan")))
    assert not reference.requires_grad
    assert torch.equal(out(network), moved)
    assert not torch.allclose(moved, reference)


def test_additions_are_drawn_from_the_generator_and_kept_in_float32():
    one, two, other = (
        [p.clone() for p in add_lora(cast(transformer("wan"), torch.bfloat16), generator=seeded(n), rank=2)]
        for n in (0, 0, 1)
    )
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert {parameter.dtype for parameter in one} == {torch.float32}


@pytest.mark.parametrize("name", ["wan", "sd3"])
def test_a_saved_lora_gives_the_same_velocity_in_a_fresh_transformer(name, tmp_path):
    network, _ = with_lora(name)
    save_lora(network, tmp_path)
    fresh = transformer(name)
    with torch.random.fork_rng(devices=()):
        fresh.load_lora_adapter(str(tmp_path), use_safetensors=True)
    torch.testing.assert_close(out(fresh, name), out(network, name))


def test_a_pipeline_reads_a_saved_lora(tmp_path):
    network, _ = with_lora("wan")
    save_lora(network, tmp_path)
    flow = diffusers.FlowMatchEulerDiscreteScheduler()
    pipeline = diffusers.WanPipeline(
        tokenizer=None, text_encoder=None, vae=None, scheduler=flow, transformer=transformer("wan")
    )
    with torch.random.fork_rng(devices=()):
        pipeline.load_lora_weights(str(tmp_path))
    torch.testing.assert_close(out(pipeline.transformer), out(network))


@pytest.mark.parametrize("name", NAMES)
def test_saved_weights_have_the_lora_merged_and_are_read_by_from_pretrained(name, tmp_path):
    if name == "cogvideox":
        network = transformer(name)
        save_transformer(network, tmp_path)
        again = read(network, tmp_path)
        assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))
        return
    network, _ = with_lora(name)
    before = out(network, name)
    save_transformer(network, tmp_path)
    again = read(network, tmp_path)
    torch.testing.assert_close(out(again.eval(), name), before, rtol=1e-4, atol=1e-5)
    assert torch.equal(out(network, name), before)


def test_half_precision_keeps_of_wan_what_loading_it_keeps_and_both_run(tmp_path):
    save_transformer(transformer("wan"), tmp_path)
    loaded = read(transformer("wan"), tmp_path, torch_dtype=torch.bfloat16)
    ours = cast(transformer("wan"), torch.bfloat16)
    types = {name: parameter.dtype for name, parameter in loaded.named_parameters()}
    assert {name: parameter.dtype for name, parameter in ours.named_parameters()} == types
    assert types["condition_embedder.time_embedder.linear_1.weight"] == types["scale_shift_table"] == torch.float32
    assert types["blocks.0.attn1.to_q.weight"] == torch.bfloat16
    assert torch.equal(out(ours), out(loaded))
    assert out(ours).dtype == torch.float32
    torch.testing.assert_close(out(ours), out(transformer("wan")), rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"rank": 0}, "rank must be at least 1, got 0"),
        ({"alpha": 0.0}, "alpha must be positive, got 0.0"),
        ({"target_modules": ["nothing"]}, "target_modules must name linear layers of WanTransformer3DModel"),
    ],
)
def test_a_lora_that_cannot_be_is_refused(settings, line):
    with pytest.raises(ValueError, match=line):
        add_lora(transformer("wan"), generator=seeded(), **settings)


def test_a_second_lora_and_a_reference_or_file_of_none_are_refused(tmp_path):
    network, _ = with_lora()
    with pytest.raises(ValueError, match="must have no adapter yet, got default"):
        add_lora(network, generator=seeded())
    with pytest.raises(ValueError, match="ref needs a transformer with a LoRA"):
        Reference(velocity_of(transformer("wan")))
    with pytest.raises(ValueError, match="must have a LoRA to save"):
        save_lora(transformer("wan"), tmp_path)


def test_the_average_of_a_policy_holds_the_additions_alone_and_gives_the_weights_back():
    network, trained = with_lora()
    average = PolicyAverage(network, 0.5)
    assert len(average.state_dict()) == len(trained) + 1
    before = [parameter.detach().clone() for parameter in trained]
    with torch.no_grad():
        for parameter in trained:
            parameter.add_(1.0)
    average.update()
    with average.applied():
        # The second step of the warm-up of `weight_ema`: 1 − d = max(1/2, 9/11).
        assert all(torch.allclose(p, b + 9 / 11, atol=1e-6) for p, b in zip(trained, before, strict=True))
    assert all(torch.equal(p, b + 1.0) for p, b in zip(trained, before, strict=True))
    with pytest.raises(ValueError, match="parameters that train, got none"):
        PolicyAverage(transformer("wan").requires_grad_(False))
