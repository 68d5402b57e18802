"""Transformers of diffusers as velocities: each against what its own pipeline gives and makes of it."""

import diffusers
import pytest
import torch
from diffusers.pipelines.cogvideo.pipeline_cogvideox import CogVideoXPipeline
from diffusers.pipelines.flux.pipeline_flux import FluxPipeline
from torch import nn

from aleator.video import velocity_of
from tests.video.tiny import condition, latents, scheduler, transformer

CLASSES = ("wan", "hunyuan", "sd3", "flux", "cogvideox")


def adapted(name, **more):
    guidance = 6.0 if name == "hunyuan" else None
    return velocity_of(transformer(name, **more), scheduler() if name == "cogvideox" else None, guidance=guidance)


@pytest.mark.parametrize("name", CLASSES)
def test_a_velocity_has_the_shape_of_its_state_depends_on_the_time_and_can_be_differentiated(name):
    velocity, x, cond = adapted(name), latents(name, 2), condition(name, 2)
    early, late = (velocity(x, torch.tensor([s, s]), cond) for s in (0.9, 0.3))
    assert early.shape == x.shape
    assert early.dtype == torch.float32
    assert not torch.allclose(early, late)
    late.square().mean().backward()
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in velocity.transformer.parameters())


@pytest.mark.parametrize("name", CLASSES)
def test_each_sample_has_a_time_and_a_condition_of_its_own(name):
    velocity, x, cond = adapted(name), latents(name, 2), condition(name, 2)
    s = torch.tensor([0.9, 0.3])
    with torch.no_grad():
        both = velocity(x, s, cond)
        alone = velocity(x[1:], s[1:], {key: value[1:] for key, value in cond.items()})
    torch.testing.assert_close(both[1:], alone, rtol=1e-4, atol=1e-5)


def test_wan_and_sd3_are_told_a_thousand_times_s():
    for name in ("wan", "sd3"):
        network, x, cond = transformer(name), latents(name, 1), condition(name, 1)
        expected = network(hidden_states=x, timestep=torch.tensor([700.0]), **cond, return_dict=False)[0]
        torch.testing.assert_close(velocity_of(network)(x, torch.tensor([0.7]), cond), expected)


def test_flux_is_told_s_itself_and_has_the_tokens_and_places_of_its_pipeline():
    network, x, cond = transformer("flux"), latents("flux", 2), condition("flux", 2)
    tokens = FluxPipeline._pack_latents(x, 2, 4, 4, 4)
    places = FluxPipeline._prepare_latent_image_ids(2, 2, 2, "cpu", torch.float32)
    out = network(
        hidden_states=tokens, timestep=torch.tensor([0.7, 0.7]), img_ids=places, txt_ids=torch.zeros(3, 3), **cond,
        return_dict=False,
    )[0]  # fmt: skip
    expected = FluxPipeline._unpack_latents(out, 4, 4, 1)
    torch.testing.assert_close(velocity_of(network)(x, torch.tensor([0.7, 0.7]), cond), expected)


def test_flux_refuses_latents_that_cannot_be_packed():
    velocity, cond = velocity_of(transformer("flux")), condition("flux", 1)
    with pytest.raises(ValueError, match=r"even height and width, got \(1, 4, 3, 4\)"):
        velocity(torch.zeros(1, 4, 3, 4), torch.tensor([0.5]), cond)


def test_the_guidance_of_hunyuanvideo_is_told_a_thousandfold_and_that_of_flux_as_it_is():
    network, x, cond = transformer("hunyuan"), latents("hunyuan", 1), condition("hunyuan", 1)
    expected = network(
        hidden_states=x, timestep=torch.tensor([700.0]), guidance=torch.tensor([6000.0]), **cond, return_dict=False
    )[0]
    torch.testing.assert_close(velocity_of(network, guidance=6.0)(x, torch.tensor([0.7]), cond), expected)
    seen = []
    flux = transformer("flux", guidance_embeds=True)
    flux.register_forward_pre_hook(lambda module, args, kwargs: seen.append(kwargs["guidance"]), with_kwargs=True)
    velocity_of(flux, guidance=3.5)(latents("flux", 1), torch.tensor([0.7]), condition("flux", 1))
    assert seen[0].tolist() == [3.5]


@pytest.mark.parametrize("name", ["hunyuan", "wan"])
def test_guidance_that_does_not_fit_the_model_is_refused(name):
    line = "guidance must be a number" if name == "hunyuan" else "guidance must be None"
    with pytest.raises(ValueError, match=line):
        velocity_of(transformer(name), guidance=None if name == "hunyuan" else 6.0)


class Exact(nn.Module):
    """A v-prediction that knows the data and the noise behind the state: a z − b x₀ at its timestep."""

    def __init__(self, data, noise, alphas):
        super().__init__()
        self.config = diffusers.configuration_utils.FrozenDict(use_rotary_positional_embeddings=False)
        self.dtype, self.data, self.noise, self.alphas = torch.float64, data, noise, alphas.double()

    def forward(self, hidden_states, timestep, encoder_hidden_states=None, return_dict=False):
        alpha = self.alphas[timestep.long()].view(-1, 1, 1, 1, 1)
        a, b = alpha.sqrt(), (1 - alpha).sqrt()
        torch.testing.assert_close(hidden_states, a * self.data + b * self.noise, rtol=1e-9, atol=1e-9)
        return (a * self.noise - b * self.data,)


class CogVideoXTransformer3DModel(Exact):
    """What is found by its name."""


def test_the_flow_of_an_exact_v_prediction_is_the_noise_minus_the_data():
    x0, z = (torch.randn(4, 2, 3, 2, 2, generator=torch.Generator().manual_seed(n)).double() for n in (0, 1))
    alphas = scheduler().alphas_cumprod.double()
    steps = torch.tensor([0, 17, 500, 999])
    a, b = alphas[steps].sqrt(), (1 - alphas[steps]).sqrt()
    s = b / (a + b)
    velocity = velocity_of(CogVideoXTransformer3DModel(x0, z, alphas), scheduler())
    assert velocity.timestep(s).tolist() == [0, 17, 500, 999]
    time = s.view(-1, 1, 1, 1, 1)
    torch.testing.assert_close(velocity((1 - time) * x0 + time * z, s), z - x0, rtol=1e-9, atol=1e-9)


def test_times_between_two_steps_of_cogvideox_are_interpolated_and_none_is_outside_the_schedule():
    velocity = adapted("cogvideox")
    low, high = velocity.times[300], velocity.times[301]
    torch.testing.assert_close(velocity.timestep(torch.stack([(low + high) / 2])), torch.tensor([300.5]))
    assert velocity.timestep(torch.tensor([0.0, 1.0])).tolist() == [0.0, 999.0]


@pytest.mark.parametrize("shape", [(4, 4), (4, 8), (8, 4)])
def test_cogvideox_turns_by_the_places_of_its_pipeline(shape):
    network = transformer("cogvideox")
    x = torch.randn(1, 2, 4, *shape, generator=torch.Generator().manual_seed(0))
    cond, s = condition("cogvideox", 1), torch.tensor([0.6])
    velocity = velocity_of(network, scheduler())
    pipeline = CogVideoXPipeline.__new__(CogVideoXPipeline)
    pipeline.transformer, pipeline.vae_scale_factor_spatial = network, 8
    cos, sin = pipeline._prepare_rotary_positional_embeddings(8 * shape[0], 8 * shape[1], 2, torch.device("cpu"))
    with torch.no_grad():
        velocity(x, s, cond)
        seen = []
        network.register_forward_pre_hook(
            lambda m, a, kwargs: seen.append(kwargs["image_rotary_emb"]), with_kwargs=True
        )
        velocity(x, s, cond)
    torch.testing.assert_close(seen[0], (cos, sin))


def test_cogvideox_without_rotary_embeddings_is_given_none():
    velocity = adapted("cogvideox", use_rotary_positional_embeddings=False)
    assert velocity(latents("cogvideox", 1), torch.tensor([0.6]), condition("cogvideox", 1)).isfinite().all()


def test_a_model_whose_prediction_is_not_known_is_refused_in_one_line():
    with pytest.raises(ValueError, match=r"model must be one whose prediction is known .*, got Identity"):
        velocity_of(nn.Identity())
    for name, made, accepted in (
        ("cogvideox", diffusers.CogVideoXDDIMScheduler(prediction_type="epsilon"), "v_prediction"),
        ("wan", diffusers.UniPCMultistepScheduler(prediction_type="epsilon"), "flow_prediction"),
    ):
        with pytest.raises(ValueError, match=f"prediction_type must be {accepted} for .*, got epsilon"):
            velocity_of(transformer(name), made)
    with pytest.raises(ValueError, match="scheduler must be the pipeline's"):
        velocity_of(transformer("cogvideox"))


def test_dropout_is_refused_whatever_mode_the_model_is_in():
    with pytest.raises(ValueError, match=r"dropout must be 0 in a policy, got 0\.1 in"):
        velocity_of(transformer("cogvideox", dropout=0.1), scheduler())


def test_a_pass_without_gradient_leaves_nothing_behind_in_autocast_that_a_pass_with_it_would_use():
    network = transformer("wan")
    velocity = velocity_of(network, autocast=torch.bfloat16)
    x, s, cond = latents("wan", 1), torch.tensor([0.5]), condition("wan", 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with torch.no_grad():
            before = velocity(x, s, cond)
        after = velocity(x, s, cond)
    assert torch.equal(before, after)
    after.sum().backward()
    assert network.blocks[0].attn1.to_q.weight.grad is not None
    assert not torch.equal(before, velocity_of(network)(x, s, cond))
