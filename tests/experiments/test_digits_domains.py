import pytest
import torch

from aleator.experiment.accelerators import make_accelerator
from aleator.random import Streams
from experiments.recipes.digits_domains import BATCH, SIZES, DigitsDomains, DigitsDomainsTask

SAMPLINGS = ("temperature", "scalarization", "quota")


def task(seed: int = 0, **options) -> DigitsDomainsTask:
    streams = Streams(seed)
    with streams.scope("init"):
        return DigitsDomains(**options).task(streams, make_accelerator("float32"))


def trained(built: DigitsDomainsTask) -> dict[str, float]:
    for batch in built.train_batches():
        built.train_step(batch)
    return built.evaluate("validation")


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_batches_have_the_variance_of_the_closed_form(sampling):
    exact = trained(task(sampling=sampling, steps=1))
    drawn = trained(task(sampling=sampling, steps=1, measured="batches", batches=1500))
    # Over ten seeds the difference has a standard deviation of 0.01 to 0.03.
    assert drawn["log2_variance/start"] == pytest.approx(exact["log2_variance/start"], abs=0.12)


def test_at_temperature_one_weighting_is_sampling():
    found = [trained(task(sampling=sampling, temperature=1, steps=1)) for sampling in SAMPLINGS[:2]]
    assert found[0] == pytest.approx(found[1], rel=1e-12)


def test_what_is_measured_does_not_change_the_training():
    one, other = task(steps=102), task(sampling="quota", measured="batches", batches=2, steps=102)
    assert set(trained(one)) == set(trained(other)) == {f"log2_variance/{point}" for point in ("start", "100", "end")}
    assert all(torch.equal(a, b) for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True))


def test_domains_are_of_classes_and_sizes_of_their_own():
    labels = torch.split(task().examples[1], list(SIZES.values()))
    assert [sorted(set(part.tolist())) for part in labels] == [[0, 1, 2, 3, 4, 5], [6, 7], [8, 9]]
    assert sum(len(part) for part in labels) == 896
    assert BATCH == 32
