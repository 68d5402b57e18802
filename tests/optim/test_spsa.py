"""SPSA as an optimizer: the numbers of the functions underneath, weights that stay, machines that stay alike."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.nn import functional as F

from aleator.data import load
from aleator.gradients import (
    NonFiniteLoss,
    apply_scalars,
    apply_scalars_,
    functional_loss,
    log8_decode,
    log8_encode,
    spsa,
    trainable,
)
from aleator.optim import SPSAOptimizer
from aleator.random import Streams, subtract_directions

RUN = 2026


def network(dtype=torch.float32, dropout=0.0):
    with Streams(0).scope("init"):
        model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Dropout(dropout), nn.Linear(4, 3))
    return model.to(dtype)


def batch(dtype=torch.float32):
    generator = Streams(0).generator("batch")
    return torch.randn(16, 5, generator=generator).to(dtype), torch.randint(3, (16,), generator=generator)


def loss_of(model, dtype=torch.float32):
    inputs, targets = batch(dtype)
    return lambda: F.cross_entropy(model(inputs).float(), targets)


def made(model, **options):
    return SPSAOptimizer(model.named_parameters(), **{"lr": 0.05, "generator_key": RUN} | options)


def weights(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# --- numbers


@pytest.mark.parametrize("kind", ["rademacher", "popcount", "gaussian"])
@pytest.mark.parametrize("restore", ["master", "snapshot"])
def test_probes_and_rounds_are_those_of_the_functions(kind, restore):
    model = network()
    optimizer = made(model, directions=kind, weight_decay=0.1, restore=restore)
    inputs, targets = batch()
    theta, loss = trainable(model), functional_loss(model, lambda net, _: F.cross_entropy(net(inputs), targets))
    for number in range(3):
        keys = [(RUN, number, machine, sample) for machine in range(2) for sample in range(2)]
        slopes = [float(spsa(lambda t: loss(t, None), theta, None, 1e-3, key=key, kind=kind)) for key in keys]
        found = [optimizer.probe(loss_of(model), machine=machine, sample=sample) for *_, machine, sample in keys]
        assert found == slopes
        codes = [log8_encode(slope) for slope in slopes]
        theta = apply_scalars(
            theta, [log8_decode(code) for code in codes], None, 0.05, keys=keys, kind=kind, weight_decay=0.1
        )
        sent = [(machine, sample, optimizer.encode(g)) for (*_, machine, sample), g in zip(keys, found, strict=True)]
        assert [code for *_, code in sent] == codes
        optimizer.apply(sent[::-1], step=number)
        assert equal(weights(model), theta)


def test_a_step_is_a_round_of_one_gradient():
    one, other = network(), network()
    stepping, by_hand = made(one), made(other)
    for number in range(3):
        mean = stepping.step(loss_of(one))
        assert float(mean) == pytest.approx(loss_of(other)().item(), abs=1e-4)
        by_hand.apply([(0, 0, by_hand.encode(by_hand.probe(loss_of(other))))])
        assert stepping.round == by_hand.round == number + 1
        assert equal(weights(one), weights(other))


@pytest.mark.parametrize(("codec", "code"), [("log8", 63), ("log9", (1, -2)), ("float32", 0.8999999761581421)])
def test_codes_are_those_of_the_codec_and_what_is_not_finite_is_sent_as_zero(codec, code):
    optimizer = made(network(), codec=codec)
    assert optimizer.encode(0.9) == code
    assert optimizer.decode(code) == pytest.approx(0.9, rel=0.07)
    for number in (0.0, float("nan"), float("inf"), 1e300 * 1e10):
        assert optimizer.decode(optimizer.encode(number)) == 0.0


def test_it_learns_digits():
    digits = load("digits")
    inputs, targets = digits.normalise(digits.train.inputs).flatten(1), digits.train.targets
    model = nn.utils.skip_init(nn.Linear, 64, 10)
    nn.init.zeros_(model.weight), nn.init.zeros_(model.bias)
    optimizer = made(model, lr=0.02)
    for number in range(60):
        rows = slice(64 * (number % 20), 64 * (number % 20 + 1))

        def loss(rows=rows):
            return F.cross_entropy(model(inputs[rows]), targets[rows])

        slopes = [optimizer.probe(loss, sample=sample) for sample in range(8)]
        optimizer.apply([(0, sample, optimizer.encode(g)) for sample, g in enumerate(slopes)])
    accuracy = (model(inputs).argmax(1) == targets).float().mean()
    assert accuracy > 0.5, "a guess is right for a tenth"


def test_groups_have_rates_of_their_own_and_frozen_weights_stay():
    model = network()
    model[0].bias.requires_grad_(False)
    before = weights(model)
    groups = [
        {"params": list(model[0].named_parameters("first"))},
        {"params": list(model[3].named_parameters("last")), "lr": 0.0},
    ]
    optimizer = SPSAOptimizer(groups, lr=0.1, generator_key=RUN)
    optimizer.step(loss_of(model))
    after = weights(model)
    assert {name for name in before if not torch.equal(before[name], after[name])} == {"0.weight"}


# --- weights that stay


@pytest.mark.parametrize("restore", ["master", "snapshot", "inplace"])
def test_a_probe_leaves_weights_as_they_are(restore):
    model = network()
    before = weights(model)
    optimizer = made(model, restore=restore)
    for sample in range(5):
        optimizer.probe(loss_of(model), sample=sample)
    rest = max(float((before[name] - value).abs().max()) for name, value in weights(model).items())
    assert rest == 0 if restore != "inplace" else 0 < rest < 1e-6


@pytest.mark.parametrize("restore", ["master", "snapshot", "inplace"])
@pytest.mark.parametrize("call", [1, 2])
def test_a_loss_that_fails_leaves_weights_as_they_are(restore, call):
    model = network()
    before, calls = weights(model), []

    def fails():
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        return loss_of(model)()

    optimizer = made(model, restore=restore)
    with pytest.raises(KeyboardInterrupt):
        optimizer.probe(fails)
    assert all(torch.allclose(before[name], value, atol=1e-6) for name, value in weights(model).items())
    if restore != "inplace":
        assert equal(before, weights(model))


@pytest.mark.parametrize("call", [1, 3, 4, 5, 7])
def test_an_interrupt_between_two_tensors_leaves_weights_as_they_are(monkeypatch, call):
    model = network()
    optimizer, before, calls = made(model, restore="inplace"), weights(model), []

    def interrupted(*args, **options):
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        subtract_directions(*args, **options)

    monkeypatch.setattr("aleator.optim.spsa.subtract_directions", interrupted)
    with pytest.raises(KeyboardInterrupt):
        optimizer.probe(loss_of(model))
    assert all(torch.allclose(before[name], value, atol=1e-6) for name, value in weights(model).items())


def test_half_precision_steps_in_its_master_copy():
    model = network(torch.bfloat16)
    optimizer = made(model, lr=1e-5)
    start = {name: p.detach().float() for name, p in model.named_parameters()}
    for _ in range(40):
        optimizer.step(loss_of(model, torch.bfloat16))
    names = dict(model.named_parameters())
    masters = {name: optimizer.state[parameter]["master"] for name, parameter in names.items()}
    assert all(master.dtype == torch.float32 for master in masters.values())
    assert all(torch.equal(masters[name].bfloat16(), parameter) for name, parameter in names.items())
    moved = max(float((masters[name] - start[name]).abs().max()) for name in names)
    assert 0 < moved < 2**-9, "single steps are below what bfloat16 resolves"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_who_steps_in_the_master_copies_goes_on_like_the_optimizer(dtype):
    model, twin = network(dtype), network(dtype)
    optimizer, other = made(model), made(twin)
    masters = other.masters()
    for number in range(3):
        g = optimizer.probe(loss_of(model, dtype))
        assert other.probe(loss_of(twin, dtype)) == g
        optimizer.apply([(0, 0, optimizer.encode(g))])
        slopes = [other.decode(other.encode(g))]
        apply_scalars_(masters, slopes, None, 0.05, keys=[(RUN, number, 0, 0)])
        other.adopt_masters(number + 1)
        assert equal(weights(model), weights(twin))
    assert other.round == 3
    with torch.no_grad():
        twin[0].bias.add_(1.0)
    with pytest.raises(ValueError, match=r"parameters must stay as they are .*, 0\.bias was changed"):
        other.probe(loss_of(twin, dtype))


def test_masters_are_no_part_of_a_graph_and_the_optimizer_can_be_copied():
    model = network()
    optimizer = made(model)
    assert not any(master.requires_grad for master in optimizer.masters().values())
    assert copy.deepcopy(optimizer).masters().keys() == optimizer.masters().keys()


@pytest.mark.parametrize("call", [SPSAOptimizer.masters, lambda optimizer: optimizer.adopt_masters(0)])
def test_without_master_copies_there_are_none_to_step_in(call):
    with pytest.raises(ValueError, match="restore must be master where there are master copies, got 'snapshot'"):
        call(made(network(), restore="snapshot"))


def test_weights_changed_between_rounds_are_taken_over_and_between_probe_and_step_refused():
    model = network()
    optimizer = made(model)
    optimizer.step(loss_of(model))
    with torch.no_grad():
        model[0].weight.fill_(0.25)
    optimizer.apply([])
    assert torch.equal(model[0].weight, torch.full((4, 5), 0.25))
    gradient = optimizer.probe(loss_of(model))
    with torch.no_grad():
        model[0].weight.add_(1)
    with pytest.raises(ValueError, match=r"between the probes of a round and its step, 0\.weight was changed"):
        optimizer.apply([(0, 0, optimizer.encode(gradient))])
    assert float(model[0].weight.detach()[0, 0]) == 1.25


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_changed_by_way_of_data_are_taken_over(dtype):
    model = network(dtype)
    optimizer = made(model)
    optimizer.step(loss_of(model, dtype))
    model[0].weight.data.fill_(0.25)
    optimizer.apply([])
    assert torch.equal(model[0].weight, torch.full((4, 5), 0.25, dtype=dtype))


def test_weights_may_be_changed_after_a_step_that_failed():
    model = network()
    optimizer = made(model)
    with pytest.raises(NonFiniteLoss):
        optimizer.step(lambda: float("nan"))
    with torch.no_grad():
        model[0].weight.fill_(0.25)
    optimizer.step(loss_of(model))
    assert optimizer.round == 1


@pytest.mark.parametrize("frozen", [True, False])
def test_what_is_trained_stays_the_same_between_probe_and_step(frozen):
    model = network()
    model[0].bias.requires_grad_(frozen)
    optimizer = made(model)
    optimizer.probe(loss_of(model))
    model[0].bias.requires_grad_(not frozen)
    with pytest.raises(ValueError, match=r"0\.bias was changed"):
        optimizer.apply([(0, 0, 70)])


def test_a_probe_in_inference_mode_leaves_a_master_that_steps():
    model = network()
    optimizer = made(model)
    with torch.inference_mode():
        gradient = optimizer.probe(loss_of(model))
    assert not any(state["master"].is_inference() for state in optimizer.state.values())
    optimizer.apply([(0, 0, optimizer.encode(gradient))])


def test_tensors_without_names_are_numbered_by_their_places():
    parameters = [nn.Parameter(torch.zeros(4)) for _ in range(12)]
    optimizer = SPSAOptimizer(parameters, lr=0.1, generator_key=RUN)
    theta = {f"{place:02}": torch.zeros(4) for place in range(12)}
    theta = apply_scalars(theta, [log8_decode(70)], None, 0.1, keys=[(RUN, 0, 0, 0)])
    optimizer.apply([(0, 0, 70)])
    assert all(torch.equal(parameter, value) for parameter, value in zip(parameters, theta.values(), strict=True))


def test_frozen_weights_in_half_precision_need_no_master():
    model = network()
    model[0].bfloat16().requires_grad_(False)
    inputs = batch()[0]
    optimizer = made(model, restore="snapshot")
    optimizer.step(lambda: model[3](model[0](inputs.bfloat16()).float()).square().mean())
    assert optimizer.round == 1


def test_both_sides_see_one_dropout_mask_and_generators_move_as_in_one_pass():
    model = network(dropout=0.5)
    inputs = batch()[0]
    seen = []

    def loss():
        hidden = model[2](torch.ones(64))
        seen.append(hidden.clone())
        return model(inputs).square().mean()

    state = torch.get_rng_state()
    made(model).probe(loss)
    after = torch.get_rng_state()
    assert torch.equal(*seen)
    torch.set_rng_state(state)
    loss()
    assert torch.equal(after, torch.get_rng_state())
    torch.set_rng_state(state)


def test_under_autocast_every_pass_sees_the_weights_of_its_own():
    model = nn.utils.skip_init(nn.Linear, 8, 1, bias=False)
    nn.init.ones_(model.weight)
    optimizer = made(model, eps=0.5, lr=1.0)
    z = torch.ones(4, 8)
    with torch.autocast("cpu", torch.bfloat16):
        model(z)
        slope = optimizer.probe(lambda: model(z).float().mean())
    free = optimizer.probe(lambda: model(z).mean())
    assert slope == pytest.approx(free, abs=0.1)
    assert slope != 0


# --- going on


def test_saved_and_loaded_it_goes_on_with_the_same_bits_also_where_layers_are_registered_in_another_order():
    model = network(torch.bfloat16)
    optimizer = made(model)
    loss = loss_of(model, torch.bfloat16)
    for _ in range(3):
        optimizer.step(loss)
    other = network(torch.bfloat16)
    other.load_state_dict(model.state_dict())
    another = SPSAOptimizer(list(other.named_parameters())[::-1], lr=0.7, generator_key=RUN)
    another.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert another.round == 3
    for _ in range(3):
        optimizer.step(loss)
        another.step(loss_of(other, torch.bfloat16))
    assert equal(weights(model), weights(other))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_a_copy_goes_on_by_itself(copied):
    model = network()
    optimizer = made(model)
    optimizer.step(loss_of(model))
    other, another = copied((model, optimizer))
    optimizer.step(loss_of(model))
    another.step(loss_of(other))
    assert equal(weights(model), weights(other))


@pytest.mark.parametrize("restore", ["master", "snapshot"])
def test_it_goes_on_from_a_distributed_checkpoint(restore):
    model, other = network(), network()
    optimizer, another = made(model, restore=restore), made(other, restore=restore)
    optimizer.step(loss_of(model))
    other.load_state_dict(model.state_dict())
    set_optimizer_state_dict(other, another, copy.deepcopy(get_optimizer_state_dict(model, optimizer)))
    assert another.round == 1
    optimizer.step(loss_of(model))
    another.step(loss_of(other))
    assert equal(weights(model), weights(other))


def test_who_loads_a_state_shares_no_weights_with_whom_it_is_from():
    model = network()
    optimizer = made(model)
    optimizer.step(loss_of(model))
    other = copy.deepcopy(model)
    another = made(other)
    another.load_state_dict(optimizer.state_dict())
    another.probe(loss_of(other))
    before = weights(other)
    optimizer.step(loss_of(model))
    another.probe(loss_of(other), sample=1)
    assert equal(before, weights(other))


def test_a_group_added_after_loading_has_to_have_the_options_that_were_loaded():
    model = network()
    saved = SPSAOptimizer(list(model[0].named_parameters("a")), generator_key=1).state_dict()
    optimizer = SPSAOptimizer(list(model[0].named_parameters("a")), generator_key=2)
    optimizer.load_state_dict(saved)
    group = {"params": list(model[3].named_parameters("b"))}
    with pytest.raises(ValueError, match="generator_key must be the same for all groups, 1, got 2"):
        optimizer.add_param_group(dict(group))
    optimizer.add_param_group(group | {"generator_key": 1})


@pytest.mark.filterwarnings("error")
def test_a_schedule_moves_the_rate():
    model = network()
    optimizer = made(model)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.1)
    optimizer.apply([(0, 0, optimizer.encode(optimizer.probe(loss_of(model))))])
    schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.005)


PROGRAM = """
import sys
import torch
import torch.distributed as dist
from tests.optim.test_spsa import RUN, loss_of, made, network, weights

dist.init_process_group("gloo")
rank = dist.get_rank()
model = network()
optimizer = made(model)
for number in range(20):
    mine = torch.tensor([optimizer.encode(optimizer.probe(loss_of(model), machine=rank, sample=s)) for s in range(2)])
    sent = [torch.empty_like(mine) for _ in range(2)]
    dist.all_gather(sent, mine)
    optimizer.apply([(m, s, int(code)) for m, codes in enumerate(sent) for s, code in enumerate(codes)], step=number)
torch.save(weights(model), f"{sys.argv[1]}/{rank}")
if torch.distributed.is_available():
    from torch.distributed.fsdp import fully_shard

    model = network()
    for layer in (model[0], model[3]):
        fully_shard(layer, reshard_after_forward=True)
    fully_shard(model, reshard_after_forward=True)
    optimizer = made(model)
    for number in range(3):
        optimizer.step(loss_of(model))
    found = {name: value.full_tensor() for name, value in weights(model).items()}
    torch.save(found, f"{sys.argv[1]}/sharded-{rank}")
dist.barrier()
dist.destroy_process_group()
"""


def test_processes_that_exchange_bytes_stay_alike_and_shards_have_the_bits_of_the_whole(tmp_path, processes):
    (tmp_path / "program.py").write_text(PROGRAM)
    processes(tmp_path / "program.py", 2, tmp_path)
    alone = network()
    optimizer = made(alone)
    for number in range(20):
        places = [(machine, sample) for machine in range(2) for sample in range(2)]
        slopes = [optimizer.probe(loss_of(alone), machine=machine, sample=sample) for machine, sample in places]
        optimizer.apply([(*place, optimizer.encode(g)) for place, g in zip(places, slopes, strict=True)], step=number)
    for rank in range(2):
        assert equal(torch.load(tmp_path / str(rank), weights_only=True), weights(alone))
    whole = network()
    optimizer = made(whole)
    for _ in range(3):
        optimizer.step(loss_of(whole))
    for rank in range(2):
        assert equal(torch.load(tmp_path / f"sharded-{rank}", weights_only=True), weights(whole))


# --- bad input


@pytest.mark.plain
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eps": 0.0}, "eps must be positive and finite, got 0.0"),
        ({"lr": -1.0}, r"lr must not be negative, got -1\.0"),
        ({"weight_decay": -1.0}, r"weight_decay must not be negative, got -1\.0"),
        ({"directions": "normal"}, "directions must be one of rademacher, popcount, gaussian, got 'normal'"),
        ({"codec": "byte"}, "codec must be one of log8, log9, float32, got 'byte'"),
        ({"norm": "sum"}, "norm must be one of sqrt, mean, got 'sum'"),
        ({"restore": "copy"}, "restore must be one of master, snapshot, inplace, got 'copy'"),
        ({"generator_key": -1}, r"generator_key must be a whole number in \[0, 2\*\*64\), got -1"),
        ({"generator_key": 1.5}, r"generator_key must be a whole number in \[0, 2\*\*64\), got 1\.5"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        made(network(), **options)


@pytest.mark.plain
def test_groups_share_what_is_of_the_run_and_half_precision_needs_a_master():
    model = network()
    groups = [
        {"params": list(model[0].named_parameters("a"))},
        {"params": list(model[3].named_parameters("b")), "eps": 0.1},
    ]
    with pytest.raises(ValueError, match=r"eps must be the same for all groups, 0\.001, got 0\.1"):
        SPSAOptimizer(groups, generator_key=0)
    with pytest.raises(ValueError, match="restore must be master for parameters in half precision, got 'inplace'"):
        made(network(torch.bfloat16), restore="inplace")
    with pytest.raises(ValueError, match="params must have one at least that requires a gradient, got none"):
        made(network().requires_grad_(False)).step(lambda: 0.0)


@pytest.mark.plain
def test_bad_rounds_change_nothing():
    model = network()
    optimizer, before = made(model), weights(model)
    for call, message in (
        (lambda: optimizer.apply([(0, 0, 1)], step=4), "step must be the next round, 0, got 4"),
        (lambda: optimizer.apply([(0, 1, 1), (0, 1, 2)]), r"one for each machine and sample, got two for \(0, 1\)"),
        (lambda: optimizer.apply([(0, 0, 256)]), r"code must be in \[0, 255\], got 256"),
        (lambda: optimizer.apply([(0, 0, 1.5)]), r"codes must be those of log8, got 1\.5"),
        (lambda: optimizer.apply([(-1, 0, 1)]), "got -1"),
        (lambda: optimizer.step(), "closure must be given, since a step computes the loss twice, got None"),
        (lambda: optimizer.probe(lambda: torch.zeros(2)), r"closure must return a scalar, got shape \(2,\)"),
        (lambda: optimizer.probe(lambda: None), "closure must return a scalar, got None"),
        (
            lambda: optimizer.probe(lambda: torch.tensor(1j)),
            r"closure must return a scalar, got shape \(\) of torch\.complex64",
        ),
        (lambda: made(model, codec="float32").apply([(0, 0, 1e300)]), r"finite in float32, got 1e\+300"),
        (lambda: optimizer.apply([(0, 0, 1), (0, 0, None)]), r"got two for \(0, 0\)"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(NonFiniteLoss, match="loss must be finite on both sides, got nan at theta"):
        optimizer.probe(lambda: torch.tensor(torch.nan))
    groups = [{"params": list(model[0].named_parameters("a"))}, {"params": list(model[3].named_parameters("b"))}]
    broken = SPSAOptimizer(groups, lr=0.1, generator_key=RUN)
    broken.param_groups[1]["lr"] = float("nan")
    with pytest.raises(ValueError, match="lr must be finite, got nan"):
        broken.apply([(0, 0, 70)])
    assert equal(before, weights(model))
    assert optimizer.round == broken.round == 0
