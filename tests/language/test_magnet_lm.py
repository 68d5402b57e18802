"""The adaptive hourglass: causality, order, routing, losses, edge cases."""

import math

import pytest
import torch

from aleator.language import BytesVocabulary, MagnetLM, ends_character
from aleator.language.language_model import next_byte_nats
from aleator.nn import BernoulliReinforce, BernoulliST, binomial_boundary_loss
from tests.language.small import RATES, batch, dtp, magnet

MIXED = ["latin", "indic", "cyrl", "latin"]


@pytest.mark.parametrize("options", [{}, {"capacity": 1.0}, {"capacity": 0.2}, {"utf8_safe": True}], ids=str)
def test_no_logit_depends_on_a_later_byte_or_its_noise(options):
    # In float64: products of matrices of other sizes, for other numbers of segments, differ in their last bits.
    model = magnet(layers=(1, 2, 1), **options).double().eval()
    ids, noise = batch(1, 32)
    noise = noise.double()
    ids[0, :15] = torch.tensor(BytesVocabulary().encode("aбвг€d𝄞"))
    with torch.no_grad():
        before = model(ids, ["latin"], noise=noise).logits
        for t in range(32):
            changed, drawn = ids.clone(), noise.clone()
            changed[0, t] = 3 + (ids[0, t] + 100) % 256
            drawn[0, t:] = 1 - drawn[0, t:]
            after = model(changed, ["latin"], noise=drawn).logits
            torch.testing.assert_close(after[:, :t], before[:, :t], rtol=0, atol=1e-13)
            assert not torch.allclose(after[:, t], before[:, t], rtol=0, atol=1e-6)


def test_rows_of_several_scripts_give_what_they_give_alone_in_the_order_of_the_input():
    model = magnet().eval()
    ids, noise = batch(4)
    together = model(ids, MIXED, noise=noise)
    for row, script in enumerate(MIXED):
        alone = model(ids[row : row + 1], [script], noise=noise[row : row + 1])
        for ours, expected in zip(alone, together, strict=True):
            torch.testing.assert_close(ours[0], expected[row], atol=1e-6, rtol=0)
    swapped = model(ids.flip(0), MIXED[::-1], noise=noise.flip(0))
    torch.testing.assert_close(swapped.logits.flip(0), together.logits, atol=1e-6, rtol=0)


def test_scripts_have_predictors_of_their_own():
    model = magnet().eval()
    ids, noise = batch(1)
    soft = [model(ids, [script], noise=noise).soft.mean().item() for script in RATES]
    assert soft == pytest.approx(list(RATES.values()), rel=0.1)


def test_shared_predictor_and_equal_rates_are_dynamic_pooling():
    equal = magnet(3, scripts=dict.fromkeys(RATES, 0.2), routing="shared")
    ids, noise = batch(4)
    ours, _ = equal.loss(ids, MIXED, noise=noise)
    theirs, _ = dtp(3).loss(ids, MIXED, noise=noise)
    single, parts = dtp(3, names=["any"]).loss(ids, ["any"] * 4, noise=noise)
    assert torch.equal(ours, theirs)
    torch.testing.assert_close(ours, single)
    # Dynamic pooling has one mean over all rows, however many are of which script.
    output = equal(ids, MIXED, noise=noise)
    torch.testing.assert_close(parts.boundary["any"], binomial_boundary_loss(output.boundaries, 0.2).mean().detach())


@pytest.mark.parametrize(
    ("routing", "keys"),
    [("script", {"latin", "cyrl"}), ("language", {"latin", "cyrl", "en", "ru", "uk"}), ("shared", {"shared"})],
)
def test_routing_and_rates_are_chosen_apart(routing, keys):
    languages = {"en": "latin", "ru": "cyrl", "uk": "cyrl"}
    model = magnet(scripts={"latin": 0.2, "cyrl": 0.1, "uk": 0.05}, languages=languages, routing=routing)
    assert set(model.predictors) == keys
    assert model.scripts.rates == {"en": 0.2, "ru": 0.1, "uk": 0.05, "latin": 0.2, "cyrl": 0.1}
    ids, noise = batch(3)
    _, parts = model.loss(ids, ["uk", "ru", "en"], noise=noise)
    boundaries = model(ids, ["uk", "ru", "en"], noise=noise).boundaries
    for row, (name, rate) in enumerate({"uk": 0.05, "ru": 0.1, "en": 0.2}.items()):
        expected = binomial_boundary_loss(boundaries[row : row + 1], rate)[0].detach()
        torch.testing.assert_close(parts.boundary[name], expected)


def test_loss_is_the_token_average_and_the_mean_over_the_scripts_present():
    model = magnet()
    ids, noise = batch(3)
    scripts = ["latin", "latin", "indic"]
    loss, parts = model.loss(ids, scripts, noise=noise)
    output = model(ids, scripts, noise=noise)
    lm = torch.nn.functional.cross_entropy(output.logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    rate = torch.tensor([RATES[name] for name in scripts])
    by_row = binomial_boundary_loss(output.boundaries, rate)
    torch.testing.assert_close(loss, lm + (by_row[:2].mean() + by_row[2]) / 2)
    torch.testing.assert_close(parts.lm, lm.detach())
    assert set(parts.rate) == {"latin", "indic"}
    torch.testing.assert_close(parts.rate["latin"], output.boundaries[:2].mean().detach())
    torch.testing.assert_close(parts.probability["indic"], output.soft[2].mean().detach())
    weighted, _ = model.loss(ids, scripts, noise=noise, boundary_weight=0.0)
    torch.testing.assert_close(weighted, lm)


def test_hinge_leaves_rates_just_below_the_target_alone():
    ids, _ = batch(1, 100)
    noise = torch.ones(1, 100)
    noise[0, :18] = 0
    _, parts = magnet(boundary_loss="hinge").loss(ids, ["latin"], noise=noise)
    assert parts.rate["latin"].item() == pytest.approx(0.18)
    assert parts.boundary["latin"].item() == 0
    noise[0, 18:30] = 0
    _, parts = magnet(boundary_loss="hinge").loss(ids, ["latin"], noise=noise)
    assert parts.boundary["latin"].item() == pytest.approx(0.1)


def test_padding_on_the_right_changes_nothing():
    model = magnet()
    ids, noise = batch(2)
    scripts = ["latin", "cyrl"]
    loss, parts = model.loss(ids, scripts, noise=noise)
    gradients = torch.autograd.grad(loss, list(model.predictor("cyrl").parameters()))
    padded = torch.nn.functional.pad(ids, (0, 9))
    mask = torch.arange(33).expand(2, 33) < 24
    again, masked = model.loss(padded, scripts, mask, torch.nn.functional.pad(noise, (0, 9)))
    torch.testing.assert_close(again, loss)
    for name in ("boundary", "rate", "probability", "compression"):
        torch.testing.assert_close(getattr(masked, name), getattr(parts, name))
    for ours, expected in zip(
        torch.autograd.grad(again, list(model.predictor("cyrl").parameters())), gradients, strict=True
    ):
        torch.testing.assert_close(ours, expected)


def test_utf8_safe_segments_start_with_whole_characters():
    ids = torch.tensor([BytesVocabulary().encode("Привіт, світе! हिन्दी 𝄞 ok")])
    zeros = torch.zeros(ids.shape)  # a boundary wherever one is allowed
    safe = magnet(utf8_safe=True)(ids, ["cyrl"], noise=zeros).boundaries.bool()
    free = magnet()(ids, ["cyrl"], noise=zeros).boundaries.bool()
    continues = ((ids - 3) >= 0x80) & ((ids - 3) < 0xC0)
    assert free.all()
    assert torch.equal(safe, ends_character(ids))
    assert not (safe[:, :-1] & continues[:, 1:]).any()


def test_a_batch_without_a_boundary_reads_the_null_vector_and_reports_its_length():
    ids, _ = batch(2)
    loss, parts = magnet().loss(ids, ["latin", "cyrl"], noise=torch.ones(2, 24))
    assert loss.isfinite()
    assert parts.compression == {"latin": 24, "cyrl": 24}
    assert parts.rate == {"latin": 0, "cyrl": 0}


def test_a_single_byte_works():
    loss, parts = magnet().loss(torch.tensor([[70]]), ["latin"], noise=torch.zeros(1, 1))
    loss.backward()
    assert parts.lm == 0
    assert parts.rate["latin"] == 1


def test_capacity_one_ignores_nothing_and_less_bounds_the_segments():
    ids, noise = batch(2)
    reference = magnet()(ids, ["latin", "cyrl"], noise=noise)
    full = magnet(capacity=1.0)(ids, ["latin", "cyrl"], noise=noise)
    torch.testing.assert_close(full.logits, reference.logits, atol=1e-6, rtol=0)
    lengths = []
    model = magnet(capacity=0.1)
    model.short.register_forward_hook(lambda _, inputs, __: lengths.append(inputs[0].shape[1]))
    model(ids, ["latin", "cyrl"], noise=torch.zeros(2, 24))
    assert lengths == [1 + math.ceil(2.4)]


def test_with_a_capacity_logits_do_not_depend_on_padding():
    model = magnet(capacity=0.3).eval()
    ids, noise = batch(1, 10)
    noise[0, :4] = 0  # more boundaries than there is capacity for
    short = model(ids, ["latin"], noise=noise)
    padded, drawn = (torch.nn.functional.pad(tensor, (0, 30)) for tensor in (ids, noise))
    mask = torch.arange(40).unsqueeze(0) < 10
    long = model(padded, ["latin"], mask, drawn)
    assert short.boundaries[0, :4].all()
    assert torch.equal(long.boundaries[:, :10], short.boundaries)
    torch.testing.assert_close(long.logits[:, :10], short.logits, atol=1e-6, rtol=0)


def test_with_a_capacity_no_step_reads_a_value_of_the_device():
    # Tensors of the device "meta" have no values: whatever reads one fails.
    ids, _ = batch(4)
    mask = torch.ones_like(ids, dtype=torch.bool).to("meta")
    for options in ({"utf8_safe": True}, {"boundary_loss": "hinge"}):
        model = magnet(capacity=0.5, **options).to("meta")
        loss, parts = model.loss(ids.to("meta"), MIXED, mask)
        loss.backward()
        assert parts.compression["indic"].device.type == "meta"
        assert model.predictor("cyrl").hidden.weight.grad is not None
    with pytest.raises(RuntimeError, match="meta"):
        magnet().to("meta").loss(ids.to("meta"), MIXED)


def test_a_model_in_double_precision_computes_in_double_precision():
    model = magnet().double().eval()
    assert {tensor.dtype for name, tensor in model.state_dict().items() if tensor.is_floating_point()} == {
        torch.float64
    }
    ids, _ = batch(2)
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]
    drawn = model(ids, ["latin", "cyrl"], generator=generators[0])
    noise = torch.rand(2, 24, dtype=torch.float64, generator=generators[1])
    given = model(ids, ["latin", "cyrl"], noise=noise)
    assert torch.equal(drawn.logits, given.logits)
    nats, _ = next_byte_nats(given.logits, ids)
    by_hand = -given.logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None]).squeeze(2).sum(1)
    torch.testing.assert_close(nats, by_hand, rtol=1e-14, atol=0)


def test_every_predictor_gets_a_gradient_whatever_is_in_the_batch():
    model = magnet()
    ids, noise = batch(2)
    model.loss(ids, ["cyrl", "cyrl"], noise=noise)[0].backward()
    for key in RATES:
        gradients = [parameter.grad for parameter in model.predictor(key).parameters()]
        assert all(gradient is not None for gradient in gradients)
        assert any(gradient.any() for gradient in gradients) == (key == "cyrl")


def test_boundaries_under_autocast_are_exact_and_the_loss_is_near():
    model = magnet(d_model=32)
    ids, noise = batch(1, 600)
    noise = torch.ones_like(noise)
    noise[0, ::2] = 0  # 300 boundaries: more than bfloat16 can count
    full, _ = model.loss(ids, ["latin"], noise=noise)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast, parts = model.loss(ids, ["latin"], noise=noise)
    assert parts.rate["latin"] == 0.5
    assert cast.item() == pytest.approx(full.item(), rel=0.02)


def test_calibrated_rates_are_the_targets_of_the_scripts():
    model = magnet(eval_boundaries="rate").eval()
    ids, _ = batch(6, 50)
    scripts = ["latin", "cyrl", "indic"] * 2
    model.calibrate([(ids[:3], scripts[:3]), (ids[3:], scripts[3:])])
    boundaries = model(ids, scripts).boundaries
    for row, name in enumerate(RATES):
        assert boundaries[row::3].mean().item() == pytest.approx(RATES[name])


def test_calibration_leaves_padding_and_broken_characters_out():
    model = magnet(eval_boundaries="rate", utf8_safe=True, scripts={"cyrl": 0.2}).eval()
    ids = torch.tensor([BytesVocabulary().encode("Всі люди народжуються вільними") + [0] * 40])
    length = ids.shape[1] - 40
    mask = torch.arange(ids.shape[1]).unsqueeze(0) < length
    model.calibrate([(ids, ["cyrl"], mask)])
    boundaries = model(ids, ["cyrl"], mask).boundaries
    assert boundaries.sum() == round(0.2 * length)
    assert not boundaries[~(ends_character(ids) & mask)].any()


def test_another_estimator_can_be_put_in():
    model = magnet()
    ids, noise = batch(1)
    before, _ = model.loss(ids, ["latin"], noise=noise)
    model.predictor("latin").estimator = BernoulliST()
    after, _ = model.loss(ids, ["latin"], noise=noise)
    assert torch.equal(before, after)
    bias = model.predictor("latin").output.bias
    assert torch.autograd.grad(before, bias)[0] != torch.autograd.grad(after, bias)[0]


def test_a_few_steps_lower_the_loss():
    model = magnet()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    ids = torch.tensor([BytesVocabulary().encode("the quick brown fox jumps ov")] * 2)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(30):
        loss, parts = model.loss(ids, ["latin", "latin"], generator=generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(parts.lm.item())
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.plain
def test_wrong_batches_are_refused_with_what_is_accepted():
    model = magnet()
    ids, noise = batch(2)
    scripts = ["latin", "cyrl"]
    with pytest.raises(ValueError, match="script must be one of latin, cyrl, indic, got 'greek'"):
        model.loss(ids, ["latin", "greek"])
    with pytest.raises(ValueError, match="scripts must name one for each of 2 rows"):
        model.loss(ids, ["latin"])
    with pytest.raises(ValueError, match="scripts must name one for each of 5 rows, got 'latin'"):
        model.loss(torch.zeros(5, 4, dtype=torch.int64), "latin")
    with pytest.raises(ValueError, match=r"at least one row and one id, got shape \(0, 5\)"):
        model.loss(ids[:0, :5], [])
    with pytest.raises(ValueError, match=r"at least one row and one id, got shape \(2, 0\)"):
        model.loss(ids[:, :0], scripts)
    with pytest.raises(ValueError, match=r"mask must have the shape of ids, \(2, 24\), got \(2, 5\)"):
        model.loss(ids, scripts, torch.ones(2, 5, dtype=torch.bool))
    with pytest.raises(TypeError, match=r"mask must be boolean, got torch\.float32"):
        model.loss(ids, scripts, torch.ones(2, 24))
    with pytest.raises(TypeError, match=r"ids must be int64, got torch\.float32"):
        model.loss(ids.float(), scripts)
    with pytest.raises(ValueError, match=r"noise must have the shape of ids, \(2, 24\), got \(24, 2\)"):
        model.loss(ids, scripts, noise=noise.T)
    output = model(ids, scripts, noise=noise)
    with pytest.raises(ValueError, match=r"mask must have the shape of ids, \(2, 24\), got \(2, 5\)"):
        model.loss_from(output, ids, scripts, torch.ones(2, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"ids must have the shape of output, \(2, 24\), got \(2, 5\)"):
        model.loss_from(output, ids[:, :5], scripts)


@pytest.mark.plain
def test_a_predictor_that_would_not_learn_is_refused():
    model = magnet()
    model.predictor("cyrl").estimator = BernoulliReinforce()
    ids, noise = batch(2)
    model.loss(ids, ["latin", "latin"], noise=noise)
    with pytest.raises(ValueError, match="must send a gradient through the boundaries, got one by scores"):
        model.loss(ids, ["latin", "cyrl"], noise=noise)
    model.eval()(ids, ["latin", "cyrl"], noise=noise)


@pytest.mark.plain
@pytest.mark.parametrize("loss", ["binomial", "hinge"])
def test_with_a_capacity_a_step_reads_nothing_from_the_device(loss):
    # Tensors of the device "meta" have no values, and asking for one is an error.
    ids, mask = batch()[0].to("meta"), torch.ones(4, 24, dtype=torch.bool, device="meta")
    for capacity in (0.5, None):
        model = magnet(boundary_loss=loss, utf8_safe=True, capacity=capacity).to("meta")
        noise = torch.empty(4, 24, device="meta")
        if capacity is None:
            with pytest.raises(RuntimeError, match="cannot be called on meta tensors"):
                model.loss(ids, ["latin", "cyrl"] * 2, mask, noise)
        else:
            total, _ = model.loss(ids, ["latin", "cyrl"] * 2, mask, noise)
            total.backward()
            assert model.embedding.weight.grad.shape == (262, 16)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scripts": {"latin": 1.0}}, r"the rate of latin must be in \(0, 1\), got 1\.0"),
        ({"scripts": {"latin": 0.0}}, r"the rate of latin must be in \(0, 1\), got 0\.0"),
        ({"scripts": {}}, "scripts must name at least one script"),
        ({"scripts": {"a.b": 0.1}}, r"must not be empty, have a dot .*, got 'a\.b'"),
        ({"scripts": {"values": 0.1}}, "be one of torch's, got 'values'"),
        ({"scripts": {"latin": 0.2}, "languages": {"ru": "cyrl"}}, "the script of ru must be one of latin, got 'cyrl'"),
        ({"routing": "row"}, "routing must be .* got 'row'"),
        ({"boundary_loss": "l2"}, "boundary_loss must be .* got 'l2'"),
        ({"capacity": 0.0}, r"capacity must be in \(0, 1\], got 0\.0"),
        ({"vocab": 256}, "vocab must be at least 259, .* got 256"),
        ({"d_model": 15}, "d_model must be even, got 15"),
    ],
)
def test_arguments_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MagnetLM(**{"scripts": RATES, "layers": (1, 1, 1), "d_model": 16, **options})
