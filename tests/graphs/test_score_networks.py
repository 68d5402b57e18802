"""Parameter counts of the published networks, their symmetries, and the same function written with loops."""

import pytest
import torch

from aleator.graphs import ScoreNetworkA, ScoreNetworkX, ScoreNetworkX_GMH
from aleator.graphs.graph_attention import for_blas, matrix_powers
from aleator.random import Streams
from benchmarks.looped_score_networks import LoopedA, LoopedX
from tests.graphs.small import graphs, permuted

KINDS = {
    "X": lambda: ScoreNetworkX(5, depth=3, hidden=8),
    "X-GMH": lambda: ScoreNetworkX_GMH(5, depth=2, hidden=8),
    "A": lambda: ScoreNetworkA(5, hidden=8, layers=3),
    "A-one-layer": lambda: ScoreNetworkA(5, hidden=8, layers=1, linears=1, c_init=1, heads=2),
    "A-MLP": lambda: ScoreNetworkA(5, hidden=8, layers=2, linears=3, c_init=3, adim=12, conv="MLP"),
}


def network(kind):
    with Streams(0).scope("init"):
        made = KINDS[kind]()
        for parameter in made.parameters():  # biases of convolutions start at zero
            parameter.data += 0.1 * torch.randn_like(parameter)
    return made


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


# data: features, depth, hidden, layers, linears, parameters of X, of A
PUBLISHED = {
    "ego-small": (17, 2, 32, 5, 2, 44_093, 135_713),
    "community-small": (10, 3, 32, 5, 2, 72_434, 134_369),
    "enzymes": (10, 5, 32, 7, 2, 182_066, 204_113),
    "grid": (5, 5, 32, 7, 2, 170_081, 203_153),
    "qm9": (4, 2, 16, 3, 3, 8_564, 23_825),
    "zinc250k": (9, 2, 16, 6, 3, 11_429, 62_873),
}


@pytest.mark.parametrize("data", PUBLISHED)
def test_networks_have_the_published_number_of_parameters(data):
    features, depth, hidden, layers, linears, of_x, of_a = PUBLISHED[data]
    with Streams(0).scope("init"):
        assert count(ScoreNetworkX(features, depth, hidden)) == of_x
        assert count(ScoreNetworkA(features, hidden, layers, linears)) == of_a


def test_other_counts():
    with Streams(0).scope("init"):
        assert count(ScoreNetworkX_GMH(9, 2, 16)) == 22_721  # ZINC250k, second version
        assert count(ScoreNetworkX(10, 2, 16)) == 12_050  # the reduced networks
        assert count(ScoreNetworkA(10, 16, 3, c_hidden=4, adim=16)) == 10_873


@pytest.mark.parametrize("kind", KINDS)
def test_the_function_and_its_gradients_are_those_of_loops_over_channels(kind):
    own = network(kind)
    with Streams(1).scope("init"):
        looped = (LoopedA if kind.startswith("A") else LoopedX)(own)
    assert count(looped) == count(own)
    found, expected = [], []
    for net, kept in ((own, found), (looped, expected)):
        x, adj, mask = graphs()
        x.requires_grad_()
        out = net(x, adj, mask)
        out.square().sum().backward()
        kept += [out, x.grad, net.final[0].weight.grad if net is own else net.final.linears[0].weight.grad]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
        assert b.abs().max() > 1e-3


@pytest.mark.parametrize(
    ("nodes", "width", "padded"), [(9, 4, 5), (8, 4, 7), (7, 4, 4), (20, 4, 4), (9, 16, 16), (0, 4, 4)]
)
def test_queries_of_small_graphs_get_zeros_that_change_no_product(nodes, width, padded):
    x = torch.randn(3, nodes, width, generator=torch.Generator().manual_seed(0))
    found = for_blas(x)
    assert found.shape == (3, nodes, padded)
    torch.testing.assert_close(found @ found.mT, x @ x.mT)


@pytest.mark.parametrize("kind", KINDS)
def test_networks_are_equivariant_under_permutations_of_nodes(kind):
    net, batch = network(kind), graphs()
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    out = net(*batch)
    expected = out[:, order] if kind.startswith("X") else out[:, order][:, :, order]
    torch.testing.assert_close(net(*permuted(batch, order)), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_stays_zero_and_does_not_change_the_network_of_a_graph(kind):
    net, (x, adj, mask) = network(kind), graphs()
    out = net(x, adj, mask)
    assert out[~mask].eq(0).all()
    if kind.startswith("A"):
        assert out.mT[~mask].eq(0).all()
        assert torch.equal(out, out.mT)
        assert out.diagonal(dim1=1, dim2=2).eq(0).all()
        assert out.abs().max() > 1e-3
    # Nothing inside attention is masked, but rows of padding meet no others: a narrower batch gives the same numbers.
    n = int(mask[0].sum())
    alone = net(x[:1, :n], adj[:1, :n, :n], mask[:1, :n])
    cut = out[:1, :n] if kind.startswith("X") else out[:1, :n, :n]
    torch.testing.assert_close(alone, cut, atol=1e-5, rtol=0)


def test_layers_that_are_computed_again_have_the_same_gradients():
    batch = graphs()
    found = []
    for recompute in (False, True):
        net = network("A")
        net.recompute = recompute
        net(*batch).square().sum().backward()
        found.append([parameter.grad for parameter in net.parameters()])
    for a, b in zip(*found, strict=True):
        assert (a is None and b is None) or torch.equal(a, b)


@pytest.mark.plain
def test_autocast_leaves_powers_and_attention_in_full_precision():
    large = graphs(batch=1, nodes=300).adj  # whose A² has entries near 17
    net, batch = network("A"), graphs()
    with torch.autocast("cpu", torch.bfloat16):
        assert (large @ large).dtype == torch.bfloat16
        powers = matrix_powers(large, 2)
        half = net(*batch)
    assert torch.equal(powers, torch.stack([large, large @ large]))
    torch.testing.assert_close(half.float(), net(*batch), atol=0.02, rtol=0)


@pytest.mark.plain
@pytest.mark.parametrize("kind", ["X", "A"])
def test_compiled_networks_give_the_same_numbers(kind):
    net, batch = network(kind), graphs()
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(*batch), net(*batch), atol=1e-6, rtol=1e-5)
    compiled(*batch).square().sum().backward()
    assert net.final[0].weight.grad.abs().max() > 0


@pytest.mark.plain
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ScoreNetworkA(5, 6, 2), "heads must divide the width of queries, 6, got 4"),
        (lambda: ScoreNetworkA(5, 8, 0), "layers must be at least 1, got 0"),
        (lambda: ScoreNetworkA(5, 8, 1, conv="GAT"), 'conv must be "GCN" or "MLP", got \'GAT\''),
        (lambda: ScoreNetworkA(5, 8, 1, adim=0), "adim must be at least 1, got 0"),
        (lambda: ScoreNetworkX(0, 1, 8), "features must be at least 1, got 0"),
        (lambda: ScoreNetworkX_GMH(5, 1, 8, linears=0), "linears must be at least 1, got 0"),
    ],
    ids=["heads", "layers", "conv", "adim", "features", "linears"],
)
def test_sizes_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
