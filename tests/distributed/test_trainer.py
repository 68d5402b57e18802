"""`OneByteTrainer`: the weights are θ₀ and the log, on every machine, however it came to them; and what it refuses."""

from __future__ import annotations

import logging
import shutil
import signal
import threading

import pytest
import torch
from torch import nn
from torch.distributed import HashStore
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, TensorDataset

from aleator.distributed import Address, GradientLog, OneByteTrainer, StoreTransport, Swarm, in_process, tcp_store
from aleator.optim import SPSAOptimizer
from tests.distributed.swarms import Server

TRUTH = torch.tensor([[1.0, -2.0, 0.5]])
INPUTS = torch.randn(24, 3, generator=torch.Generator().manual_seed(3))
TARGETS = INPUTS @ TRUTH.T
BATCHES = [(INPUTS[i : i + 8], TARGETS[i : i + 8]) for i in (0, 8, 16)]
SOON = 0.3


@pytest.fixture(autouse=True)
def _lines(caplog, monkeypatch):
    caplog.set_level(logging.WARNING, "aleator.distributed")
    monkeypatch.delenv("ALEATOR_SWARM_KEY", raising=False)


def regression(dtype: torch.dtype = torch.float32) -> nn.Module:
    model = nn.Linear(3, 1, dtype=dtype) if dtype == torch.float32 else Half(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.25)
    return model


class Half(nn.Linear):
    """A layer in half precision whose outputs are float32."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__(3, 1, dtype=dtype)

    def forward(self, x):
        return super().forward(x.to(self.weight.dtype)).float()


@pytest.fixture(autouse=True)
def _initial_draws_put_back():
    """Layers draw their first weights from torch's generator; nothing else here may."""
    before = torch.random.get_rng_state()
    yield
    torch.random.set_rng_state(before)


def trainer(swarm: Swarm, model=None, loader=BATCHES, *, loss=mse_loss, samples=4, every=4, **options):
    model = regression() if model is None else model
    opt = SPSAOptimizer(model.named_parameters(), **{"lr": 0.05, "generator_key": 7, **options})
    return OneByteTrainer(model, loss, loader, opt, swarm, samples_per_round=samples, hash_every=every)


def weights(made: OneByteTrainer) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in made.model.named_parameters()}


def equal(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def replayed(made: OneByteTrainer, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """What the log makes of θ₀, after its bytes were read again."""
    theta = {name: p.detach().float() for name, p in regression(dtype).named_parameters()}
    GradientLog.from_bytes(made.log.to_bytes()).replay(theta, upto=made.round)
    return theta


def at_once(fits) -> None:
    """Let trainers take part at once, each in a thread."""
    errors = []

    def run(fit):
        try:
            fit()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(fit,), daemon=True) for fit in fits]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a trainer is stuck"
    if errors:
        raise errors[0]


# --- what it computes


def test_a_swarm_in_one_process_learns_a_regression_without_touching_the_global_generator():
    made = trainer(Swarm("local", machines=3))
    before = torch.random.get_rng_state()
    losses = made.fit(rounds=60)
    assert torch.equal(before, torch.random.get_rng_state())
    assert list(losses) == list(range(60))
    assert losses[59] < 0.02 * losses[0]
    assert torch.allclose(made.model.weight, TRUTH, atol=0.2)
    assert [commit.machines for commit in made.log] == [(0, 1, 2)] * 60
    assert made.traffic.gradients_sent == 60 * 3 * 4  # a byte for each gradient
    assert (made.not_finite, made.round, made.opt.round) == (0, 60, 60)


@pytest.mark.parametrize("codec", ["log8", "log9", "float32"])
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1, "norm": "mean", "directions": "popcount"}])
def test_the_log_turns_theta_0_into_the_weights_bit_for_bit(codec, options):
    made = trainer(Swarm("local", machines=2), codec=codec, **options)
    made.fit(rounds=9)
    assert equal(weights(made), replayed(made))
    assert not equal(weights(made), weights(trainer(Swarm("local"))))


@pytest.mark.parametrize("codec", ["log8", "log9", "float32"])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_one_machine_takes_the_steps_of_the_optimizer_by_itself(codec, decay):
    made = trainer(Swarm("local"), codec=codec, weight_decay=decay, samples=2)
    made.fit(rounds=6)
    model = regression()
    alone = SPSAOptimizer(model.named_parameters(), lr=0.05, generator_key=7, codec=codec, weight_decay=decay)
    for number in range(6):
        codes = []
        for sample in range(2):
            inputs, targets = BATCHES[(2 * number + sample) % 3]
            g = alone.probe(lambda x=inputs, y=targets: mse_loss(model(x), y), sample=sample)
            codes.append((0, sample, alone.encode(g)))
        alone.apply(codes)
    assert equal(weights(made), {name: p.detach() for name, p in model.named_parameters()})


def test_in_half_precision_the_log_leads_to_the_master_copies_and_they_to_the_model():
    made = trainer(Swarm("local", machines=2), regression(torch.bfloat16))
    made.fit(rounds=9)
    theta = replayed(made, torch.bfloat16)
    assert equal(theta, made.opt.masters())
    assert equal({name: value.bfloat16() for name, value in theta.items()}, weights(made))
    assert not equal({name: value.bfloat16().float() for name, value in theta.items()}, theta)  # they are finer


def test_machines_by_themselves_have_the_bits_of_as_many_in_one_process():
    """Each machine sees one batch, so that both ways give a machine the same batches."""
    together = trainer(Swarm("local", machines=3), loader=BATCHES[:1])
    together.fit(rounds=6)
    store = HashStore()
    apart = [trainer(Swarm(StoreTransport(store), min_machines=3), loader=BATCHES[:1]) for _ in range(3)]
    at_once([lambda made=made: made.fit(rounds=6) for made in apart])
    assert all(equal(weights(made), weights(together)) for made in apart)
    assert all(made.log.to_bytes() == together.log.to_bytes() for made in apart)


@pytest.mark.parametrize("join", ["replay", "snapshot"])
def test_who_comes_late_ends_with_the_bits_of_the_others(join, caplog):
    store = HashStore()
    first = trainer(Swarm(StoreTransport(store), join="snapshot"))
    first.fit(rounds=10)
    late = trainer(Swarm(StoreTransport(store), join=join, min_machines=2, round_timeout=30.0), loader=BATCHES[::-1])
    first._peer.member.min_machines = 2
    found = {}
    at_once([lambda: first.fit(rounds=14), lambda: found.update(late.fit(rounds=14))])
    assert equal(weights(late), weights(first))
    assert equal(weights(late), replayed(first))
    assert list(found) == [10, 11, 12, 13]
    assert list(first.log)[-1].machines == (0, 1)
    assert not caplog.text


def test_weights_in_another_order_of_memory_are_left_for_others_too():
    board, models = in_process(), [nn.Conv2d(3, 1, 2).to(memory_format=torch.channels_last) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    loader = [(torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(1)), torch.zeros(4, 1, 1, 1))]
    first, late = (trainer(Swarm(board, join="snapshot"), model, loader) for model in models)
    first.fit(rounds=5)
    assert board.snapshot()[0] == 4
    late.fit(rounds=6)
    first.fit(rounds=6)
    assert equal(weights(first), weights(late))


def test_who_finds_no_snapshot_joins_by_replay_and_says_so(caplog):
    board = in_process()
    first = trainer(Swarm(board))
    first.fit(rounds=5)
    late = trainer(Swarm(board, join="snapshot"))
    late.fit(rounds=7)
    assert "this process holds no snapshot before round 7; joining by replay" in caplog.text
    assert equal(weights(late), replayed(late))


def test_machines_of_a_store_end_with_equal_bits():
    served, port = tcp_store("127.0.0.1", 0, serve=True)
    one = trainer(Swarm(served, min_machines=2))
    other = trainer(Swarm("store", address=f"store://127.0.0.1:{port}", min_machines=2))
    at_once([lambda: one.fit(rounds=5), lambda: other.fit(rounds=5)])
    assert equal(weights(one), weights(other))
    assert equal(weights(one), replayed(other))


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="there is no redis-server")
def test_machines_of_a_signed_swarm_in_redis_end_with_equal_bits(tmp_path, monkeypatch):
    monkeypatch.setenv("ALEATOR_SWARM_KEY", "a secret of the swarm")
    server = Server(tmp_path / "redis")
    try:
        swarm = Swarm("redis", address=f"{server.address}?swarm=trained", min_machines=2)
        pair = [trainer(swarm), trainer(swarm)]
        at_once([lambda made=made: made.fit(rounds=5) for made in pair])
        assert equal(weights(pair[0]), weights(pair[1]))
        assert all(commit.signature for commit in pair[0].log)
        assert not server.client().exists("aleator:default:commits")
    finally:
        server.kill()


# --- going on


def test_two_calls_are_one_and_the_same_machine_goes_on():
    once, twice = (trainer(Swarm("local")) for _ in range(2))
    once.fit(rounds=7)
    twice.fit(rounds=3)
    assert twice.fit(rounds=3) == {}
    assert list(twice.fit(rounds=7)) == [3, 4, 5, 6]
    assert equal(weights(once), weights(twice))
    assert list(twice.log)[-1].machines == (0,)


def test_machine_that_was_killed_goes_on_as_the_same_one(tmp_path):
    board = in_process()
    killed = trainer(Swarm(board), loader=BATCHES[:1])
    killed.fit(rounds=5)
    torch.save(killed.state_dict(), tmp_path / "state.pt")
    killed.fit(rounds=7)  # what it did after it was saved is on the board
    back = trainer(Swarm(board), loader=BATCHES[:1])
    back.load_state_dict(torch.load(tmp_path / "state.pt"))
    assert (back.round, back.traffic.gradients_sent) == (5, 20)
    assert list(back.fit(rounds=9)) == [7, 8]
    assert {commit.machines for commit in back.log} == {(0,)}
    uninterrupted = trainer(Swarm("local"), loader=BATCHES[:1])
    uninterrupted.fit(rounds=9)
    assert equal(weights(back), weights(uninterrupted))


def test_state_brings_what_the_board_lost(tmp_path):
    first = trainer(Swarm("local"))
    first.fit(rounds=5)
    other = trainer(Swarm("local"))
    other.load_state_dict(first.state_dict())
    other.fit(rounds=6)
    assert other.log.to_bytes().startswith(first.log.to_bytes())
    assert equal(weights(other), replayed(other))


def test_a_state_without_a_weight_changes_nothing():
    made = trainer(Swarm("local"))
    made.fit(rounds=2)
    state = made.state_dict()
    del state["weights"]["bias"]
    other = trainer(Swarm("local"))
    before = weights(other)
    with pytest.raises(ValueError, match=r"state must hold weights of shape \(1,\) for bias"):
        other.load_state_dict(state)
    assert (other.round, len(other.log)) == (0, 0)
    assert equal(weights(other), before)


def test_a_pass_of_the_loader_follows_the_other_and_samplers_are_told_its_number():
    told = []

    class Sampler(torch.utils.data.SequentialSampler):
        def set_epoch(self, epoch):
            told.append(epoch)

    data = TensorDataset(INPUTS, TARGETS)
    loader = DataLoader(data, batch_size=8, sampler=Sampler(data), generator=torch.Generator().manual_seed(0))
    made = trainer(Swarm("local"), loader=loader)
    made.fit(rounds=3)  # 12 batches, 3 a pass
    listed = trainer(Swarm("local"))
    listed.fit(rounds=3)
    assert told == [0, 1, 2, 3]
    assert equal(weights(made), weights(listed))


def test_batches_with_names_go_into_the_model_by_them():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = regression()

        def forward(self, inputs, labels):
            return {"loss": mse_loss(self.inner(inputs), labels)}

    loader = [{"inputs": x, "labels": y} for x, y in BATCHES]
    made = trainer(Swarm("local"), Named(), loader, loss=lambda outputs, batch: outputs["loss"])
    losses = made.fit(rounds=20)
    plain = trainer(Swarm("local"))
    assert plain.fit(rounds=20) == losses
    assert equal(weights(plain), {name.removeprefix("inner."): p for name, p in weights(made).items()})


def test_a_loss_that_is_not_finite_travels_as_zero_and_is_counted():
    made = trainer(Swarm("local"), loader=[BATCHES[0], (INPUTS[:8], torch.full((8, 1), torch.inf))])
    losses = made.fit(rounds=3)
    assert made.not_finite == 6
    assert all(commit.contributions[0].gradients[1::2] == b"\0\0" for commit in made.log)
    assert losses[2] < losses[0]


# --- Ctrl-C


def pressing(times: int):
    """A loss during whose sixth call Ctrl-C is pressed, once or twice."""
    calls = []

    def loss(outputs, targets):
        calls.append(None)
        if len(calls) == 6:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
        return mse_loss(outputs, targets)

    return loss


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_leaves_the_swarm_with_its_weights_and_is_raised(times, caplog):
    board = in_process()
    made = trainer(Swarm(board), loss=pressing(times), samples=2)
    with pytest.raises(KeyboardInterrupt):
        made.fit(rounds=9)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert made.round == 1  # the sixth loss is in the second round
    assert equal(weights(made), replayed(made))
    assert board.announced() == {0: -1}
    stays = trainer(Swarm(board), samples=2)
    stays.fit(rounds=4)
    assert "did not answer" not in caplog.text
    made.fit(rounds=6)
    assert equal(weights(made), replayed(made))


def test_ctrl_c_is_heard_while_others_are_waited_for():
    made = trainer(Swarm("local", min_machines=2))
    timer = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        made.fit(rounds=2)
    timer.join()
    assert made.round == 0


def test_a_round_that_was_applied_in_part_is_applied_anew(caplog):
    made = trainer(Swarm("local"))
    made.fit(rounds=5)
    apply = made._replica.apply_all

    def broken_off(commits):
        made._replica._versions = dict.fromkeys(made._replica._versions, (0, -1))
        made._replica.parameters["weight"].add_(1.0)
        raise KeyboardInterrupt

    made._replica.apply_all = broken_off
    with pytest.raises(KeyboardInterrupt):
        made.fit(rounds=7)
    assert "a round was applied in part; the weights are built again from θ₀" in caplog.text
    made._replica.apply_all = apply
    made.fit(rounds=8)
    assert made.log.next_round == 8
    assert equal(weights(made), replayed(made))


# --- bad input


@pytest.mark.plain
@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("http",), {}, "transport must be one of local, store, redis, or a board, got 'http'"),
        (("redis://u:pw@h",), {}, "transport must be one of local, store, redis, or a board, got an address"),
        ((3,), {}, "transport must be a name or a board, got int"),
        (("local", 0), {}, "min_machines must be a whole number, at least 1, got 0"),
        (("local", 1, 0.0), {}, r"round_timeout must be positive, got 0\.0"),
        (("local", 1, 10.0, "download"), {}, "join must be one of replay, snapshot, got 'download'"),
        (("local",), {"machines": 0}, "machines must be a whole number, at least 1, got 0"),
        (("local",), {"snapshot_every": 4}, "snapshot_every must be None with join replay, got 4"),
        (("local",), {"address": "redis://h"}, "address must be None with transport local, got one"),
        (("redis",), {}, "address must begin with redis:// or rediss:// or unix:// for transport redis, got None"),
        (("store",), {"address": "redis://h"}, "address must begin with store:// for transport store, got redis://h:6379"),
        (("redis",), {"address": "redis://u:pw@h"}, r"address: an address must hold no password, .*redis://u:\*\*\*@h"),
    ],
)  # fmt: skip
def test_a_bad_description_of_a_swarm_is_named(arguments, options, message):
    with pytest.raises(ValueError, match=message) as refused:
        Swarm(*arguments, **options)
    assert "pw" not in str(refused.value)


def test_a_swarm_shows_where_it_meets_and_reads_the_address_once():
    swarm = Swarm("redis", address="redis://me@host?swarm=mine")
    assert swarm.address == Address.parse("redis://me@host?swarm=mine")
    assert "swarm='mine'" in repr(swarm)
    assert Swarm("redis", address=swarm.address) == swarm


@pytest.mark.plain
def test_a_board_is_no_swarm():
    with pytest.raises(ValueError, match="swarm must be a Swarm, got StoreTransport"):
        trainer(in_process())


def test_the_key_of_signatures_is_not_shown(monkeypatch):
    monkeypatch.setenv("ALEATOR_SWARM_KEY", "a secret of the swarm")
    made = trainer(Swarm("local"))
    made.fit(rounds=1)
    assert "a secret" not in repr(made._peer.member)


@pytest.mark.plain
def test_an_optimizer_that_cannot_follow_a_swarm_is_named():
    def made(opt, model, **options):
        return OneByteTrainer(model, mse_loss, BATCHES, opt, Swarm("local"), **options)

    model = regression()
    groups = [{"params": [("weight", model.weight)], "lr": 0.1}, {"params": [("bias", model.bias)], "lr": 0.2}]
    stepped = SPSAOptimizer(model.named_parameters(), generator_key=1)
    stepped.step(lambda: mse_loss(model(INPUTS), TARGETS))
    new = SPSAOptimizer(model.named_parameters(), lr=0.1, generator_key=1)
    for opt, options, message in [
        (torch.optim.SGD(model.parameters()), {}, "opt must be an SPSAOptimizer, got SGD"),
        (SPSAOptimizer(model.parameters(), generator_key=1), {}, "got parameters without names"),
        (SPSAOptimizer(groups, generator_key=1), {}, r"lr of opt must be one for all groups .* got 0\.1 and 0\.2"),
        (SPSAOptimizer([("weight", model.weight)], generator_key=1), {}, "just what the model trains, got bias in one"),
        (SPSAOptimizer(model.named_parameters(), generator_key=1, restore="inplace"), {}, "restore of opt must be"),
        (SPSAOptimizer(model.named_parameters(), lr=0.0, generator_key=1), {}, "lr must be positive and finite, got 0"),
        (stepped, {}, "opt must have taken no step before it is in a swarm, got one after 1"),
        (new, {"samples_per_round": 0}, "samples_per_round must be a whole number, at least 1, got 0"),
        (new, {"samples_per_round": 65536}, r"samples_per_round must be in \[1, 65535\], got 65536"),
        (new, {"samples_per_round": 1.5}, r"samples_per_round must be a whole number, at least 1, got 1\.5"),
        (new, {"hash_every": 0}, "hash_every must be a whole number, at least 1, got 0"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=message):
            made(opt, model, **options)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("loader", "loss", "message"),
    [
        ([], mse_loss, "loader must hold at least one batch in each pass, got none in pass 1"),
        (iter(BATCHES), mse_loss, "loader must hold at least one batch in each pass, got none in pass 2"),
        ([INPUTS], mse_loss, "loader must give batches .inputs, targets. or mappings, got Tensor"),
        ([(INPUTS, TARGETS, TARGETS)], mse_loss, "loader must give batches .inputs, targets. or mappings, got 3 parts"),
        (BATCHES, lambda y, t: (y - t).square(), r"loss_fn must return a scalar tensor, got shape \(8, 1\)"),
        (BATCHES, lambda y, t: 1.0, "loss_fn must return a scalar tensor, got float"),
        (BATCHES, lambda y, t: mse_loss(y, t).bfloat16(), "loss_fn must return float32 or float64, got torch.bfloat16"),
    ],
)  # fmt: skip
def test_bad_batches_and_losses_are_named_and_nobody_waits_for_the_machine(loader, loss, message):
    board = in_process()
    made = trainer(Swarm(board), loader=loader, loss=loss)
    with pytest.raises(ValueError, match=message):
        made.fit(rounds=3)
    assert all(round == -1 for round in board.announced().values())
    assert equal(weights(made), replayed(made))


@pytest.mark.plain
def test_half_a_round_is_refused():
    with pytest.raises(ValueError, match=r"rounds must be a whole number, at least 1, got 2\.5"):
        trainer(Swarm("local")).fit(rounds=2.5)


def test_what_must_stay_in_a_swarm_is_named_when_it_changes():
    made = trainer(Swarm("local"))
    made.fit(rounds=2)
    with pytest.raises(ValueError, match="rounds must be a whole number, at least 1, got 0"):
        made.fit(rounds=0)
    made.opt.param_groups[0]["lr"] = 0.01
    with pytest.raises(ValueError, match=r"lr of opt must stay 0\.05 in a swarm, which agreed on it, got 0\.01"):
        made.fit(rounds=3)
    made.opt.param_groups[0]["lr"] = 0.05
    saved = made.opt.state_dict()
    with torch.no_grad():
        made.model.bias.add_(1.0)
    with pytest.raises(ValueError, match="the model must keep the weights of the swarm, bias was changed"):
        made.fit(rounds=3)
    with torch.no_grad():
        made.model.bias.copy_(replayed(made)["bias"])
    made.opt.load_state_dict(saved)
    with pytest.raises(ValueError, match="another one was loaded: load that of the trainer"):
        made.fit(rounds=3)


def test_a_parameter_that_took_the_place_of_another_is_named():
    made = trainer(Swarm("local"))
    made.fit(rounds=1)
    made.model.load_state_dict(weights(made), assign=True)
    with pytest.raises(ValueError, match="opt must hold just what the model trains, got bias in one of them only"):
        made.fit(rounds=2)


def test_weights_changed_between_two_probes_are_refused_and_put_back():
    model = regression()

    def batches():
        yield from BATCHES
        with torch.no_grad():
            model.bias.add_(1.0)
        yield from BATCHES

    made = trainer(Swarm("local"), model, batches())
    with pytest.raises(ValueError, match=r"parameters must stay as they are .* bias was changed"):
        made.fit(rounds=2)
    assert equal(weights(made), replayed(made))


def test_another_start_or_number_of_samples_is_refused_at_the_handshake():
    board = in_process()
    trainer(Swarm(board)).fit(rounds=1)
    other = regression()
    with torch.no_grad():
        other.bias.add_(1.0)
    with pytest.raises(ValueError, match=r"the hash of θ₀ must be .* as in the swarm, got"):
        trainer(Swarm(board), other).fit(rounds=2)
    with pytest.raises(ValueError, match="samples must be 4 as in the swarm, got 2"):
        trainer(Swarm(board), samples=2).fit(rounds=2)


def test_a_state_of_other_machines_is_refused():
    pair = trainer(Swarm("local", machines=2))
    pair.fit(rounds=1)
    with pytest.raises(ValueError, match="machines must be 2 as in the saved state, got 1"):
        trainer(Swarm("local")).load_state_dict(pair.state_dict())
