"""Products with curvature matrices equal those with the dense ones."""

import gc
import math
import weakref

import pytest
import torch
from scipy.sparse.linalg import eigsh
from torch import nn
from torch.func import functional_call, hessian, jacrev
from torch.nn import functional as F

from aleator.optim import CurvatureOperator, group_spectra, lanczos, slq


class Tied(nn.Module):
    """An embedding whose weight is the last layer's too, a frozen layer between, and attention."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.last = nn.Linear(4, 5, bias=False)
        self.last.weight = self.embedding.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        seen = self.embedding(tokens)
        mixed, _ = self.attention(seen, seen, seen, need_weights=False)
        return self.last(torch.tanh(self.frozen(mixed)).mean(1))


def built(name: str):
    """Return a model in float64, its loss, and a batch."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        x = torch.randn(7, 3, dtype=torch.float64)
        classes = torch.randint(4, (7,))
        model: nn.Module
        if name == "mlp":
            model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4))
        elif name == "logistic":
            model = nn.Linear(3, 4)
        elif name == "normalised":
            model = nn.Sequential(
                nn.Linear(3, 5), nn.BatchNorm1d(5), nn.GELU(), nn.Dropout(0.5), nn.Linear(5, 4)
            ).eval()
        elif name == "tied":
            return Tied().double(), F.cross_entropy, (torch.randint(5, (7, 6)), torch.randint(5, (7,)))
        elif name == "convolution":
            model = nn.Sequential(
                nn.Unflatten(1, (1, 3)), nn.Conv1d(1, 2, 2), nn.Softplus(), nn.Flatten(), nn.Linear(4, 4)
            )
        elif name == "squared":
            model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4))
            return model.double(), F.mse_loss, (x, torch.randn(7, 4, dtype=torch.float64))
        return model.double(), F.cross_entropy, (x, classes)


def dense(name: str, kind: str) -> tuple[torch.Tensor, CurvatureOperator]:
    """Return the whole matrix from `torch.func`, and the operator."""
    model, loss_fn, (x, y) = built(name)
    trained = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
    shapes = [(n, p.shape, p.numel()) for n, p in trained.items()]
    flat = torch.cat([p.reshape(-1) for p in trained.values()])

    def outputs(vector: torch.Tensor) -> torch.Tensor:
        parts = vector.split([count for _, _, count in shapes])
        return functional_call(model, {n: p.view(s) for (n, s, _), p in zip(shapes, parts, strict=True)}, (x,))

    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        if kind == "hessian":
            whole = hessian(lambda v: loss_fn(outputs(v), y))(flat)
        else:
            jacobian = jacrev(outputs)(flat).flatten(0, 1)
            f = outputs(flat).detach()
            inner = hessian(lambda flat_f: loss_fn(flat_f.view_as(f), y))(f.reshape(-1))
            whole = jacobian.T @ inner @ jacobian
    return whole.detach(), CurvatureOperator(model, loss_fn, [(x, y)], kind)


def formed(op: CurvatureOperator) -> torch.Tensor:
    return torch.stack([op @ column for column in torch.eye(op.shape[0], dtype=op.dtype)])


NAMES = ["mlp", "logistic", "normalised", "tied", "convolution", "squared"]


@pytest.mark.parametrize("kind", ["hessian", "ggn"])
@pytest.mark.parametrize("name", NAMES)
def test_products_equal_the_dense_matrix(name, kind):
    whole, op = dense(name, kind)
    found = formed(op)
    assert torch.allclose(found, whole, atol=1e-9, rtol=1e-9)
    assert torch.allclose(found, found.T, atol=1e-12)
    if kind == "ggn":
        assert float(torch.linalg.eigvalsh(found)[0]) > -1e-12


def test_ggn_is_the_hessian_of_logistic_regression():
    model, loss_fn, batch = built("logistic")
    both = [formed(CurvatureOperator(model, loss_fn, [batch], kind)) for kind in ("hessian", "ggn")]
    assert torch.allclose(*both, atol=1e-12)
    assert float(both[0].abs().max()) > 0.01


def test_fisher_has_the_ggn_for_its_mean_over_labels():
    model, loss_fn, (x, y) = built("mlp")
    vector = torch.ones(44, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    many = [(x.repeat(3000, 1), y.repeat(3000))]  # the mean over 3 000 draws of every label
    fisher = CurvatureOperator(model, loss_fn, many, "fisher", generator=generator) @ vector
    ggn = CurvatureOperator(model, loss_fn, [(x, y)], "ggn") @ vector
    assert float((fisher - ggn).norm() / ggn.norm()) < 0.05
    assert float((fisher - ggn).norm()) > 1e-6  # labels were drawn


@pytest.mark.parametrize("chunk", [None, 2])
def test_fisher_keeps_its_labels_from_product_to_product(chunk):
    model, loss_fn, batch = built("mlp")
    op = CurvatureOperator(model, loss_fn, [batch], "fisher", chunk=chunk, generator=torch.Generator().manual_seed(0))
    found = formed(op)
    assert torch.allclose(found, found.T, atol=1e-12)
    assert torch.equal(op @ torch.ones(44).double(), op @ torch.ones(44).double())


@pytest.mark.parametrize("kind", ["hessian", "ggn"])
def test_streaming_and_pieces_equal_one_pass(kind):
    model, loss_fn, (x, y) = built("mlp")
    vector = torch.linspace(-1, 1, 44, dtype=torch.float64)
    once = CurvatureOperator(model, loss_fn, [(x, y)], kind) @ vector
    batches = CurvatureOperator(model, loss_fn, iter([(x[:2], y[:2]), (x[2:3], y[2:3]), (x[3:], y[3:])]), kind)
    pieces = CurvatureOperator(model, loss_fn, [(x, y)], kind, chunk=3)
    assert batches.examples == pieces.examples == 7
    for op in (batches, pieces):
        assert torch.allclose(op @ vector, once, atol=1e-12)
        assert torch.allclose(op @ vector, once, atol=1e-12)  # and again


def test_weight_decay_is_added_to_every_eigenvalue():
    model, loss_fn, batch = built("mlp")
    plain, decayed = (CurvatureOperator(model, loss_fn, [batch], weight_decay=w) for w in (0.0, 0.3))
    vector = torch.linspace(-1, 1, 44, dtype=torch.float64)
    assert torch.allclose(decayed @ vector, plain @ vector + 0.3 * vector)


def test_new_weights_are_seen_and_old_graphs_let_go():
    model, loss_fn, batch = built("mlp")
    op = CurvatureOperator(model, loss_fn, [batch], "ggn")
    vector = torch.ones(44, dtype=torch.float64)
    before = op @ vector
    with torch.no_grad():
        model[0].weight.mul_(2)
    after = op @ vector
    assert torch.equal(after, CurvatureOperator(model, loss_fn, [batch], "ggn") @ vector)
    assert not torch.allclose(before, after)
    gone = weakref.ref(op)
    gc.disable()
    try:
        del op
        assert gone() is None  # no cycle holds the graph
    finally:
        gc.enable()


def test_a_block_is_the_block_of_the_whole():
    model, loss_fn, batch = built("mlp")
    whole = formed(CurvatureOperator(model, loss_fn, [batch]))
    block = formed(CurvatureOperator(model, loss_fn, [batch], params=list(model[2].parameters())))
    assert torch.allclose(block, whole[20:, 20:], atol=1e-12)
    groups = {"first": list(model[0].parameters()), "last": list(model[2].parameters())}
    found = group_spectra(model, loss_fn, [batch], groups, steps=44, generator=torch.Generator().manual_seed(0))
    assert found["last"].top == pytest.approx(float(torch.linalg.eigvalsh(whole[20:, 20:])[-1]), rel=1e-9)
    assert found["first"].top == pytest.approx(float(torch.linalg.eigvalsh(whole[:20, :20])[-1]), rel=1e-9)
    each = group_spectra(model, loss_fn, [batch], steps=5, generator=torch.Generator().manual_seed(0))
    assert list(each) == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_scipy_finds_the_same_eigenvalues():
    whole, op = dense("mlp", "hessian")
    values = eigsh(op.scipy(), k=3, which="LA", return_eigenvectors=False)
    assert sorted(values) == pytest.approx(torch.linalg.eigvalsh(whole)[-3:].tolist(), rel=1e-9)


@pytest.mark.parametrize("kind", ["hessian", "ggn"])
def test_the_largest_eigenvalue_in_float32_is_within_a_millionth_of_the_dense_one(kind):
    with torch.random.fork_rng([]):
        torch.manual_seed(2)
        model = nn.Sequential(nn.Linear(20, 16), nn.Tanh(), nn.Linear(16, 10))
        x = torch.randn(100, 20)
    y = x[:, :10].argmax(1)
    single = slq(CurvatureOperator(model, F.cross_entropy, [(x, y)], kind), 60, generator=torch.Generator()).top
    whole = formed(CurvatureOperator(model.double(), F.cross_entropy, [(x.double(), y)], kind))
    assert len(whole) == 506
    assert single == pytest.approx(float(torch.linalg.eigvalsh(whole)[-1]), rel=1e-6)


def test_a_compiled_model_is_looked_at_as_it_was():
    model, loss_fn, batch = built("mlp")
    vector = torch.ones(44, dtype=torch.float64)
    compiled = CurvatureOperator(torch.compile(model), loss_fn, [batch]) @ vector
    assert torch.equal(compiled, CurvatureOperator(model, loss_fn, [batch]) @ vector)


def test_half_precision_and_mixed_parameters_have_a_wide_vector():
    model, loss_fn, (x, y) = built("mlp")
    model = model.float()
    model[2] = nn.Sequential(model[2].bfloat16())
    model.insert(2, nn.Identity())

    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = model[0], model[3]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(torch.tanh(self.first(x)).bfloat16()).float()

    op = CurvatureOperator(Mixed(), loss_fn, [(x.float(), y)], "ggn")
    assert op.dtype == torch.float32
    exact = CurvatureOperator(*built("mlp")[:2], [(x, y)], "ggn") @ torch.ones(44).double()
    assert float((op @ torch.ones(44) - exact).norm() / exact.norm()) < 0.05


def test_what_the_loss_does_not_depend_on_has_no_curvature():
    with torch.random.fork_rng([]):
        model = nn.ModuleDict({"used": nn.Linear(2, 1, bias=False), "unused": nn.Linear(2, 1)}).double()

    class Called(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.model["used"](x)

    x = torch.eye(2, dtype=torch.float64)
    for kind in ("hessian", "ggn"):
        op = CurvatureOperator(Called(), F.mse_loss, [(x, torch.zeros(2, 1).double())], kind)
        assert torch.allclose(formed(op).diagonal(), torch.tensor([1.0, 1, 0, 0, 0]).double())
        linear = CurvatureOperator(Called(), lambda f, _: f.mean(), [(x, x)], kind)
        assert torch.equal(linear @ torch.ones(5).double(), torch.zeros(5).double())


def test_nothing_of_the_model_is_changed():
    model, loss_fn, batch = built("normalised")
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        lanczos(CurvatureOperator(model, loss_fn, [batch]), 3, generator=torch.Generator().manual_seed(0))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(parameter.grad, torch.ones_like(parameter)) for parameter in model.parameters())


def test_autocast_outside_does_not_reach_the_products():
    model, loss_fn, (x, y) = built("mlp")
    model, x = model.float(), x.float()
    plain = CurvatureOperator(model, loss_fn, [(x, y)]) @ torch.ones(44)
    with torch.autocast("cpu", torch.bfloat16):
        inside = CurvatureOperator(model, loss_fn, [(x, y)]) @ torch.ones(44)
    assert torch.equal(plain, inside)


class Noisy(nn.Module):
    """Drops at random in every mode."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(F.dropout(x, 0.5, training=True))


def test_a_pass_that_draws_is_named_and_the_global_generator_stays():
    _, loss_fn, (x, y) = built("mlp")
    with torch.random.fork_rng([]):
        model = Noisy()
    op = CurvatureOperator(model, loss_fn, [(x.float(), y)])
    with pytest.raises(RuntimeError, match=r"two products .* differ by .* dropout .* batch normalisation"):
        op @ torch.ones(16)


def test_modules_in_training_mode_are_named():
    model, loss_fn, batch = built("normalised")
    model.train()
    before = model[1].running_mean.clone()
    with pytest.raises(
        RuntimeError, match=r"in training mode are 1 \(BatchNorm1d\), 3 \(Dropout\): call model.eval\(\)"
    ):
        CurvatureOperator(model, loss_fn, [batch]) @ torch.ones(54).double()
    assert torch.equal(model[1].running_mean, before)


@pytest.mark.plain
def test_what_cannot_be_is_refused():
    model, loss_fn, (x, y) = built("mlp")
    op = CurvatureOperator(model, loss_fn, [(x, y)])
    with pytest.raises(ValueError, match=r"vector must have the shape \(44,\), got \(3,\)"):
        op @ torch.ones(3)
    with pytest.raises(ValueError, match=r"loss_fn must return a scalar tensor, got shape \(7,\)"):
        CurvatureOperator(model, lambda f, t: F.cross_entropy(f, t, reduction="none"), [(x, y)]) @ torch.ones(44)
    with pytest.raises(ValueError, match=r"data must hold at least one example, got none"):
        CurvatureOperator(model, loss_fn, [])
    with pytest.raises(ValueError, match=r"data must hold at least one example, got none"):
        CurvatureOperator(model, loss_fn, [(x[:0], y[:0])])
    with pytest.raises(ValueError, match=r"params must be trained, got one of shape \(4,\) without requires_grad"):
        CurvatureOperator(model, loss_fn, [(x, y)], params=[torch.zeros(4)])
    with pytest.raises(ValueError, match=r"params must hold every parameter once, got one twice"):
        CurvatureOperator(model, loss_fn, [(x, y)], params=[model[0].weight, model[0].weight])
    with pytest.raises(ValueError, match=r"kind must be 'hessian', 'ggn' or 'fisher', got 'kfac'"):
        CurvatureOperator(model, loss_fn, [(x, y)], "kfac")
    with pytest.raises(ValueError, match=r"chunk must be at least 1, got 0"):
        CurvatureOperator(model, loss_fn, [(x, y)], chunk=0)
    with pytest.raises(ValueError, match=r"weight_decay must be finite and not negative, got nan"):
        CurvatureOperator(model, loss_fn, [(x, y)], weight_decay=math.nan)
    with pytest.raises(ValueError, match=r"generator must be given with kind 'fisher' and with no other, got none"):
        CurvatureOperator(model, loss_fn, [(x, y)], "fisher")
