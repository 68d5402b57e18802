import copy
import io

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from aleator.nn import BernoulliST, ConditionalLinear, NoisyReLU, RelaxedBernoulliST, sparsity_penalty
from aleator.nn.conditional_linear import GATES


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def made(gate="st", *, inputs=6, outputs=64, hidden=5, block=1, **options):
    return ConditionalLinear(inputs, outputs, hidden, gate=gate, block=block, generator=generator(), **options)


def batch(size=20, inputs=6, seed=1):
    return torch.randn(size, inputs, generator=generator(seed))


def parts(layer, x):
    """Logits and expert outputs by the formulas."""
    hidden = torch.tanh(x @ layer.gater[0].weight.T + layer.gater[0].bias)
    return hidden @ layer.gater[2].weight.T + layer.gater[2].bias, x @ layer.weight.T + layer.bias


def test_every_name_of_a_gate_is_an_estimator_of_its_own():
    assert len(set(GATES.values())) == len(GATES) == 8
    assert made("relaxed").gate.estimator == RelaxedBernoulliST()
    assert made(RelaxedBernoulliST(0.2)).gate.estimator == RelaxedBernoulliST(0.2)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("block", [1, 16])
def test_outputs_are_experts_times_gates(gate, block):
    layer, x = made(gate, block=block), batch()
    noise = torch.rand(20, 64 // block, generator=generator(2))
    logits, experts = parts(layer, x)
    gates = GATES[gate](logits, noise=noise)
    y = layer(x, noise=noise)
    torch.testing.assert_close(y, experts * gates.repeat_interleave(block, dim=1))
    assert float(layer.active_fraction) == pytest.approx(float((gates > 0).float().mean()))


@pytest.mark.parametrize("gate", GATES)
def test_skipped_blocks_leave_every_gradient_as_it_is(gate):
    # A gater that opens one block in five; without skipping, the gates' gradient comes from a product with all of them.
    skipping, x = made(gate, block=16, outputs=128), batch(40)
    with torch.no_grad():
        skipping.gater[2].bias.fill_(-3.0 if gate == "sts" else -1.2)
    noise = torch.rand(40, 8, generator=generator(2)) * (1 if "relu" not in gate else 2)
    losses = skipping(x, noise=noise).square().mean(1)
    assert 0 < float(skipping.active_fraction) < 0.5
    (losses.mean() + skipping.score_loss(losses) + skipping.penalty()).backward()
    dense = made(gate, block=16, outputs=128)
    dense.load_state_dict(made(gate, block=16, outputs=128).state_dict())
    with torch.no_grad():
        dense.gater[2].bias.copy_(skipping.gater[2].bias)
    logits, experts = parts(dense, x)
    gates = GATES[gate](logits, noise=noise)
    losses = (experts * gates.repeat_interleave(16, dim=1)).square().mean(1)
    total = losses.mean()
    if gate == "sbn":
        p = logits.sigmoid()
        total = total + ((gates - p).detach() * (losses.detach()[:, None] - 1.0) * logits).sum(1).mean()
    if "relu" in gate:
        total = total + 1e-5 * gates.abs().sum()
    else:
        total = total + 0.01 * sparsity_penalty(GATES[gate].probability(logits), 0.1)
    total.backward()
    for name, parameter in dense.named_parameters():
        torch.testing.assert_close(skipping.get_parameter(name).grad, parameter.grad, msg=name)


def test_the_unbiased_gater_gets_the_estimators_gradient_and_nothing_else():
    layer, x = made("sbn", penalty_weight=0.0), batch()
    losses = layer(x, generator=generator()).square().mean(1)
    losses.mean().backward(retain_graph=True)
    assert layer.gater[0].weight.grad is None
    assert layer.weight.grad.abs().sum() > 0
    experts = layer.weight.grad.clone()
    term = layer.score_loss(losses)
    assert float(term.detach()) == 0
    term.backward()
    assert layer.gater[0].weight.grad.abs().sum() > 0
    assert torch.equal(layer.weight.grad, experts)


def test_a_gate_that_backpropagates_has_no_score():
    layer = made("st")
    losses = layer(batch(), generator=generator()).square().mean(1)
    assert float(layer.score_loss(losses)) == 0
    assert not layer.score_loss(losses).requires_grad
    assert layer.baseline is None


def test_initial_weights_are_within_their_bounds_and_fill_them():
    layer = ConditionalLinear(30, 200, 40, generator=generator())
    for weight, bound in (
        (layer.weight, (6 / 230) ** 0.5),
        (layer.gater[0].weight, (6 / 70) ** 0.5),
        (layer.gater[2].weight, 4 * (6 / 240) ** 0.5),
    ):
        assert 0.98 * bound < weight.abs().max() <= bound
    assert all(b.abs().max() == 0 for b in (layer.bias, layer.gater[0].bias, layer.gater[2].bias))
    rectified = ConditionalLinear(30, 200, 40, gate="noisy-relu", generator=generator())
    assert torch.all((rectified.gater[2].weight != 0).sum(1) == 15)
    again = ConditionalLinear(30, 200, 40, generator=generator())
    assert torch.equal(again.weight, layer.weight)


@pytest.mark.parametrize("gate", GATES)
def test_evaluation_is_deterministic_and_opens_what_is_above_the_threshold(gate):
    layer, x = made(gate, block=16).eval(), batch()
    with torch.no_grad():
        layer.gate.threshold.fill_(0.4)
    logits, experts = parts(layer, x)
    value = {"sts": logits.sigmoid().sqrt(), "noisy-relu": logits.relu(), "relu": logits.relu()}
    gates = torch.where(logits > 0.4, value.get(gate, torch.ones_like(logits)), 0)
    y = layer(x)
    torch.testing.assert_close(y, experts * gates.repeat_interleave(16, dim=1))
    assert torch.equal(y, layer(x))


@pytest.mark.parametrize("fraction", [0.1, 0.25])
def test_the_calibrated_threshold_opens_exactly_the_fraction(fraction):
    layer, x = made(), batch(100)
    threshold = layer.calibrate_threshold([x[:30], (x[30:], None)], fraction)
    logits, _ = parts(layer, x)
    expected = torch.quantile(logits.flatten().double(), 1 - fraction)
    assert float(threshold) == pytest.approx(expected.item(), rel=1e-6)
    layer.eval()(x)
    # 6400 gates: the share is a multiple of 1/6400, and ties have probability zero.
    assert float(layer.active_fraction) == pytest.approx(fraction, abs=1e-7)
    assert float(layer.state_dict()["gate.threshold"]) == float(threshold)


def test_the_threshold_is_calibrated_to_the_sparsity_unless_said_otherwise():
    layer = made(sparsity=0.3)
    layer.calibrate_threshold([batch(100)])
    layer.eval()(batch(100))
    assert float(layer.active_fraction) == pytest.approx(0.3, abs=1e-4)


@pytest.mark.parametrize(("gate", "lr", "strength"), [("st", 0.5, 1.0), ("sts", 0.5, 1.0), ("sbn", 0.5, 1.0)])
def test_the_penalty_brings_the_share_of_open_gates_to_its_target(gate, lr, strength):
    layer, noise, x = made(gate, penalty_weight=strength), generator(), batch(200)
    optimizer = torch.optim.SGD(layer.gater.parameters(), lr=lr)
    for _ in range(300):
        layer(x, generator=noise)
        optimizer.zero_grad()
        layer.penalty().backward()
        optimizer.step()
    # 12 800 gates of standard deviation 0.3: 0.0027 for the sample.
    assert float(layer.active_fraction) == pytest.approx(0.1, abs=0.015)


def test_the_controller_moves_the_weight_of_rectifiers_for_the_batch_after():
    layer, x = made("relu"), batch(50)
    start = float(layer.penalty_weight)
    layer(x)
    gates = parts(layer, x)[0].relu()
    assert float(layer.active_fraction) > 0.11
    assert float(layer.penalty()) == pytest.approx(start * float(gates.sum()), rel=1e-5)
    assert float(layer.penalty_weight) == pytest.approx(1.1 * start, rel=1e-6)
    layer.eval()(x)
    assert float(layer.penalty_weight) == pytest.approx(1.1 * start, rel=1e-6)


def test_leading_dimensions_are_those_of_the_input():
    layer, x = made("sbn", block=16), batch(24)
    noise = torch.rand(24, 4, generator=generator(2))
    y = layer(x.view(4, 6, 6), noise=noise.view(4, 6, 4))
    total = layer.score_loss(y.square().sum(-1)) + layer.penalty()
    (gradient,) = torch.autograd.grad(total, layer.gater[0].weight)
    flat = made("sbn", block=16)
    flat_y = flat(x, noise=noise)
    torch.testing.assert_close(y.flatten(0, 1), flat_y)
    flat_total = flat.score_loss(flat_y.square().sum(-1)) + flat.penalty()
    torch.testing.assert_close(gradient, torch.autograd.grad(flat_total, flat.gater[0].weight)[0])


def test_a_layer_that_has_trained_can_be_copied_and_saved():
    layer, x = made("sbn", block=16), batch()
    losses = layer(x, generator=generator()).square().mean(1)
    layer.score_loss(losses).backward()
    other = copy.deepcopy(layer)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    third = made("sbn", block=16)
    third.load_state_dict(torch.load(file, weights_only=True))
    for again in (other, third):
        assert torch.equal(again(x, generator=generator(5)), layer(x, generator=generator(5)))
        assert torch.equal(again.baseline.value, layer.baseline.value)


def test_nothing_is_drawn_from_the_global_generator_where_one_is_given():
    # The fixture of all tests compares the global state before and after.
    layer = made("noisy-relu", block=16)
    layer(batch(), generator=generator())


@pytest.mark.parametrize("gate", ["st", "sts", "sbn", "relu"])
def test_half_precision_samples_as_full_precision_does(gate):
    layer, x = made(gate, block=16), batch()
    noise = torch.rand(20, 4, generator=generator(2))
    expected = layer(x, noise=noise)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x, noise=noise)
        total = y.float().square().mean() + layer.penalty()
    total.backward()
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), expected, rtol=0.1, atol=0.1)
    assert layer.penalty().dtype == torch.float32


def test_digits_are_learned_with_a_tenth_of_the_blocks():
    from aleator.data import load

    digits = load("digits")
    inputs, targets = digits.normalise(digits.train.inputs).flatten(1), digits.train.targets
    layer, noise = (
        ConditionalLinear(64, 320, 16, gate="st", block=16, penalty_weight=0.1, generator=generator()),
        generator(),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = nn.Linear(320, 10)
    optimizer = torch.optim.SGD([*layer.parameters(), *head.parameters()], lr=0.1)
    for step in range(300):
        rows = torch.arange(32 * step, 32 * step + 32) % len(inputs)
        losses = F.cross_entropy(head(layer(inputs[rows], generator=noise)), targets[rows], reduction="none")
        loss = losses.mean() + layer.score_loss(losses) + layer.penalty()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    layer.calibrate_threshold([inputs])
    layer.eval()
    error = (head(layer(inputs)).argmax(1) != targets).float().mean()
    assert float(layer.active_fraction) == pytest.approx(0.1, abs=0.001)
    assert float(error) < 0.2  # 0.9 by chance


@pytest.mark.plain
@pytest.mark.parametrize("gate", ["st", "sbn", "relu"])
@pytest.mark.parametrize("block", [1, 16])
def test_a_compiled_layer_equals_a_plain_one(gate, block):
    x, noise = batch(), torch.rand(20, 64 // block, generator=generator(2))
    found = []
    for compiled in (False, True):
        layer = made(gate, block=block)
        call = torch.compile(layer, backend="aot_eager", fullgraph=block == 1) if compiled else layer
        losses = call(x, noise=noise).square().mean(1)
        total = losses.mean() + layer.score_loss(losses) + layer.penalty()
        total.backward()
        found.append([losses, total, layer.active_fraction, *(p.grad for p in layer.parameters())])
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.plain
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ConditionalLinear(0, 64, 5), "in_features must be at least 1, got 0"),
        (lambda: ConditionalLinear(6, 64, 0), "gater_hidden must be at least 1, got 0"),
        (lambda: made(block=24), "block must divide out_features, 64, got 24"),
        (lambda: made(block=0), "block must divide out_features, 64, got 0"),
        (lambda: made(sparsity=0.0), r"sparsity must be in \(0, 1\), got 0.0"),
        (lambda: made(sparsity=1.0), r"sparsity must be in \(0, 1\), got 1.0"),
        (lambda: made(penalty_weight=-1.0), "penalty_weight must not be negative and must be finite, got -1.0"),
        (lambda: made("hard"), "gate must be an estimator or one of st, st-identity, relaxed, .*, got 'hard'"),
        (lambda: made()(batch(0)), r"x must be a batch of rows of 6 features, got shape \(0, 6\)"),
        (lambda: made()(batch(3, 7)), r"x must be a batch of rows of 6 features, got shape \(3, 7\)"),
        (lambda: made()(torch.zeros(6)), r"x must be a batch of rows of 6 features, got shape \(6,\)"),
        (lambda: made()(batch() * float("nan")), "logits must be finite, got values from nan to nan"),
        (lambda: made().calibrate_threshold([]), "inputs must have at least one example, got none"),
        (lambda: made().calibrate_threshold([batch(0)]), "inputs must have at least one example, got none"),
        (lambda: made().calibrate_threshold([batch()], 1.0), r"fraction must be in \(0, 1\), got 1.0"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.plain
@pytest.mark.parametrize("gate", GATES)
def test_a_step_that_skips_nothing_reads_nothing_from_the_device(gate):
    # Tensors of the device "meta" have no values, and asking for one is an error.
    layer = ConditionalLinear(6, 64, 5, gate=gate, device="meta")
    losses = layer(torch.empty(20, 6, device="meta"), noise=torch.empty(20, 64, device="meta")).square().mean(1)
    (losses.mean() + layer.score_loss(losses) + layer.penalty()).backward()
    assert layer.weight.grad.shape == (64, 6)


@pytest.mark.plain
def test_the_class_of_an_estimator_is_no_estimator():
    with pytest.raises(TypeError, match="estimator must be a GateEstimator, got <class"):
        made(BernoulliST)


@pytest.mark.plain
def test_a_mean_loss_is_refused_by_the_unbiased_gate():
    layer = made("sbn")
    losses = layer(batch(), generator=generator()).square().mean(1)
    with pytest.raises(ValueError, match="loss_per_example must have one entry per example, got a scalar"):
        layer.score_loss(losses.mean())


@pytest.mark.plain
def test_a_penalty_before_any_batch_is_refused():
    for gate in (BernoulliST(), NoisyReLU()):
        with pytest.raises(RuntimeError, match="no forward pass in training mode yet"):
            made(gate).penalty()
