"""The temperature: where it rests, which way it moves, and that it stays positive."""

import math

import pytest
import torch

from aleator.rl import Temperature, temperature_step

RULES = ("exp_sgd", "exp_plain", "adam")


@pytest.mark.parametrize(("rule", "factor"), [("exp_sgd", 0.3), ("exp_plain", 1.0)])
def test_the_rules_are_their_formulas_for_numbers_and_tensors(rule, factor):
    expected = 0.3 * math.exp(0.01 * factor * (-2 - 1.5))
    assert temperature_step(0.3, 1.5, -2.0, 0.01, rule) == pytest.approx(expected, rel=1e-12)
    tensors = torch.tensor([0.3, 0.3]).double(), torch.tensor([1.5, -2.0]).double()
    found = temperature_step(*tensors, -2.0, 0.01, rule)
    assert found.tolist() == pytest.approx(
        [0.3 * math.exp(0.01 * tensors[0][0].item() / 0.3 * factor * -3.5), tensors[0][1].item()]
    )


@pytest.mark.parametrize("rule", RULES)
def test_it_rests_at_the_target_and_moves_against_the_entropy(rule):
    def moved(entropy):
        temperature = Temperature(0.2, -2.0, 0.01, rule)
        for _ in range(3):
            temperature.step(torch.tensor(entropy))
        return temperature.alpha.item()

    assert moved(-2.0) == pytest.approx(0.2, rel=1e-6)
    assert moved(-1.0) < 0.2 < moved(-3.0)
    assert 0 < moved(1e3) <= moved(-1.0) * 1.001  # Adam steps as far for any entropy


def test_adam_is_adam_on_the_logarithm():
    temperature = Temperature(0.2, -2.0, 0.01, "adam")
    log_alpha = torch.tensor(0.2).log().requires_grad_()
    adam = torch.optim.Adam([log_alpha], lr=0.01)
    for entropy in (1.0, -3.0, 0.5):
        temperature.step(torch.tensor(entropy))
        log_alpha.grad = torch.tensor(entropy + 2.0)
        adam.step()
    torch.testing.assert_close(temperature.alpha, log_alpha.detach().exp())


def test_a_fixed_temperature_stays():
    temperature = Temperature(0.2, None, 0.01)
    temperature.step(torch.tensor(5.0))
    assert temperature.alpha.item() == pytest.approx(0.2)


@pytest.mark.plain
def test_a_rule_with_memory_is_no_function():
    with pytest.raises(ValueError, match="rule must be exp_sgd or exp_plain, got 'adam'"):
        temperature_step(0.2, 0.0, -1.0, 0.01, "adam")
