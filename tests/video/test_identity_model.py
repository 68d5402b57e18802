"""Tiny configurations of the real classes: CogVideoX, T5 and SigLIP with an identity."""

import types

import pytest
import torch

from aleator.losses import v_prediction_loss
from aleator.nn import Stage
from aleator.video import (
    IdentityTextFusion,
    IdentityVideoModel,
    TextEncoder,
    TwoStageConditions,
    VisionEncoder,
    add_noise,
    alphas_cumprod,
    decode_clips,
    encode_clips,
    encode_photos,
    guidance_schedule,
    negative_condition,
    rope_crop_region,
    sample_clips,
    with_photo_channels,
)

diffusers = pytest.importorskip("diffusers", reason="needs the extra video: pip install 'aleator[video]'")

TOKENS, WORDS = 6, 10
FUSION = {
    "id_dim": 5, "vision_dim": 16, "text_dim": WORDS, "vision_tokens": 4, "text_tokens": TOKENS, "num_latents": 2,
    "depth": 1, "heads": 2, "dim_head": 4, "id_copies": 3, "width": 8, "ff_mult": 2,
}  # fmt: skip


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def transformer(**changed):
    options = {
        "num_attention_heads": 2, "attention_head_dim": 16, "in_channels": 4, "out_channels": 4, "time_embed_dim": 8,
        "text_embed_dim": WORDS, "num_layers": 2, "sample_width": 4, "sample_height": 4, "sample_frames": 9,
        "max_text_seq_length": TOKENS, "use_rotary_positional_embeddings": True, **changed,
    }  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return diffusers.CogVideoXTransformer3DModel(**options)


@pytest.fixture(scope="module")
def vae():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return diffusers.AutoencoderKLCogVideoX(
            block_out_channels=(8, 8, 8, 8), latent_channels=4, layers_per_block=1, norm_num_groups=2,
            sample_height=32, sample_width=32, scaling_factor=0.7,
        ).eval()  # fmt: skip


def model() -> IdentityVideoModel:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return IdentityVideoModel(IdentityTextFusion(**FUSION), with_photo_channels(transformer()))


def condition(batch: int, shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
    shapes = {"text": (TOKENS, WORDS), "vision": (4, 16), "identity": (5,), "shallow": shape}
    return {name: torch.randn(batch, *size, generator=drawn(len(name))) for name, size in shapes.items()}


def test_a_checkpoint_with_new_channels_computes_what_it_did_whatever_the_photograph_is():
    plain = transformer()
    x, text = torch.randn(2, 3, 4, 4, 4, generator=drawn(0)), torch.randn(2, TOKENS, WORDS, generator=drawn(1))
    t = torch.tensor([3, 700])
    embed = diffusers.models.embeddings.get_3d_rotary_pos_embed
    rotary = embed(16, ((0, 0), (2, 2)), (2, 2), 3)
    expected = plain(x, text, t, image_rotary_emb=rotary).sample
    wide = with_photo_channels(transformer())
    photo = torch.randn(2, 3, 4, 4, 4, generator=drawn(2))
    found = wide(torch.cat([x, photo], 2), text, t, image_rotary_emb=rotary).sample
    assert torch.allclose(found, expected, atol=1e-6)
    assert wide.config.in_channels == 8
    with pytest.raises(ValueError, match="in_channels must be out_channels, 4, got 8"):
        with_photo_channels(wide)


def test_the_region_of_positions_is_the_published_pipelines():
    theirs = diffusers.pipelines.cogvideo.pipeline_cogvideox.get_resize_crop_region_for_grid
    for height, width in ((480, 480), (480, 640), (480, 848), (640, 480), (848, 480), (96, 720)):
        assert rope_crop_region(height, width) == theirs((height // 16, width // 16), 45, 30)


def test_a_photograph_is_in_the_middle_of_black_and_fills_the_shorter_side():
    config = types.SimpleNamespace(scaling_factor=0.7)

    def encoded(clips):
        mode = torch.nn.functional.avg_pool3d(clips, (1, 8, 8))
        return types.SimpleNamespace(latent_dist=types.SimpleNamespace(mode=lambda: mode))

    vae = types.SimpleNamespace(config=config, dtype=torch.float32, encode=encoded)
    for height, width in ((32, 64), (64, 32), (32, 32)):
        found = encode_photos(vae, torch.ones(1, 3, 32, 32), 9, height, width)
        expected = torch.full((height // 8, width // 8), -0.7)
        top, left = (height - 32) // 16, (width - 32) // 16
        expected[top : top + 4, left : left + 4] = 0.7
        assert torch.equal(found[0, 0], expected.expand(3, -1, -1))


def test_a_video_has_its_places_in_the_middle_of_the_base_grid():
    whole, given = model(), []
    whole.transformer.forward = lambda **named: (
        given.append(named["image_rotary_emb"]) or (named["hidden_states"][:, :, :4],)
    )
    x = torch.zeros(1, 3, 4, 4, 8)
    whole(x, torch.tensor([1]), condition(1, x.shape[1:]))
    embed = diffusers.models.embeddings.get_3d_rotary_pos_embed  # the base grid is 2 × 2, the video 2 × 4 patches
    for found, expected in zip(given[0], embed(16, ((0, 0), (1, 2)), (2, 4), 3), strict=True):
        assert torch.equal(found, expected)


def test_it_trains_saves_loads_and_samples(tmp_path, vae):
    whole = model()
    clips = torch.rand(2, 9, 3, 32, 48, generator=drawn(3)) * 2 - 1  # not square
    x0 = encode_clips(vae, clips, generator=drawn(4))
    shallow = encode_photos(vae, torch.rand(2, 3, 8, 8, generator=drawn(5)) * 2 - 1, 9, 32, 48)
    assert x0.shape == shallow.shape == (2, 3, 4, 4, 6)
    assert not shallow[:, 1:].any()
    given = {**condition(2, x0.shape[1:]), "shallow": shallow}
    empty, black = torch.zeros(TOKENS, WORDS), torch.zeros(4, 16)
    stages = TwoStageConditions([Stage(1, 0.0), Stage(3, 1.0)], text=empty, vision=black, identity=5, drop=0.0)
    optimizer = torch.optim.AdamW(whole.groups(1e-3))
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([1e-3, 1e-2])
    levels, t, noise = alphas_cumprod(), torch.tensor([100, 800]), torch.randn(x0.shape, generator=drawn(6))
    noisy, losses = add_noise(x0, noise, t, levels), []
    for step in range(4):
        output = whole(noisy, t, stages(given, step).condition)
        losses.append(v_prediction_loss(output, x0, noise, t, levels))
        optimizer.zero_grad()
        losses[-1].backward()
        photo_weights = whole.transformer.patch_embed.proj.weight.grad[:, 4:]
        assert bool(photo_weights.any()) == (step > 0)  # none in the first stage
        optimizer.step()
    assert losses[-1] < losses[0]
    whole.save_pretrained(tmp_path)
    loaded = IdentityVideoModel.from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(loaded(noisy, t, given), whole(noisy, t, given))
    negative = negative_condition(given, empty, black)
    scales = guidance_schedule("progress", 2.0, 2)
    found = decode_clips(vae, sample_clips(loaded, noise, given, negative, scales, levels))
    assert found.shape == clips.shape
    assert bool(found.isfinite().all())


def test_gradient_checkpointing_of_the_transformer_changes_no_gradient():
    x, t = torch.randn(1, 3, 4, 4, 4, generator=drawn(0)), torch.tensor([500])
    given = condition(1, x.shape[1:])
    gradients = []
    for checkpointing in (False, True):
        whole = model().train()
        if checkpointing:
            whole.transformer.enable_gradient_checkpointing()
        whole(x, t, given).square().sum().backward()
        gradients.append(whole.fusion.to_text.weight.grad)
    assert torch.allclose(*gradients, atol=1e-6)


def test_texts_and_faces_become_tokens_by_encoders_from_a_folder(tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        siglip = transformers.SiglipVisionConfig(
            hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=16,
            patch_size=8,
        )  # fmt: skip
        transformers.SiglipVisionModel(siglip).save_pretrained(tmp_path / "vision")
        t5 = transformers.T5Config(vocab_size=8, d_model=WORDS, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
        transformers.T5EncoderModel(t5).save_pretrained(tmp_path / "text")
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<pad>": 0, "a": 1, "b": 2, "?": 3}, unk_token="?"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="?")
    fast.save_pretrained(tmp_path / "text")
    texts = TextEncoder.from_pretrained(tmp_path / "text", tokens=TOKENS)
    found = texts(["a b", "a b a b a b a b a b", ""])
    assert found.shape == (3, TOKENS, WORDS)
    assert not torch.equal(found[0], found[1])
    assert torch.equal(found[2], texts([""])[0])
    faces = VisionEncoder.from_pretrained(tmp_path / "vision")
    pixels = torch.randint(256, (2, 16, 16, 3), dtype=torch.uint8, generator=drawn(0))
    assert faces(pixels).shape == (2, 4, 16)
    expected = faces.model((pixels.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5).last_hidden_state
    assert torch.allclose(faces(pixels), expected, atol=1e-5)
    assert faces(torch.zeros(1, 40, 32, 3, dtype=torch.uint8)).shape == (1, 4, 16)


@pytest.mark.plain
def test_refuses_other_frames_sizes_and_texts(vae):
    with pytest.raises(ValueError, match="frames must be one of 1, 9, 17, 25, 33, 41, 49, got 13"):
        encode_clips(vae, torch.zeros(1, 13, 3, 32, 32))
    with pytest.raises(ValueError, match="height must be a multiple of 16 pixels, got 40"):
        encode_clips(vae, torch.zeros(1, 9, 3, 40, 32))
    with pytest.raises(ValueError, match="latent frames must be odd, so that all frames come back, got 4"):
        decode_clips(vae, torch.zeros(1, 4, 4, 4, 4))
    with torch.device("meta"):
        fusion, longer = IdentityTextFusion(**FUSION), IdentityTextFusion(**{**FUSION, "text_tokens": 7})
    with pytest.raises(ValueError, match="in_channels must be twice out_channels, 4, got 4"):
        IdentityVideoModel(fusion, transformer())
    with pytest.raises(ValueError, match="text_tokens of the fusion must be 6, got 7"):
        IdentityVideoModel(longer, with_photo_channels(transformer()))
    with pytest.raises(ValueError, match=r"patch_size_t must be None, as in CogVideoX 1\.0, got 1"):
        with_photo_channels(transformer(patch_size_t=1))
