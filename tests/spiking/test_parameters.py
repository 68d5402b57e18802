import math

import pytest

from aleator.spiking import RuleParameters, SpikingParameters, preset
from aleator.spiking.parameters import CellParameters


def test_scaling_targets_are_those_of_the_program():
    mnist, fashion = preset("hao2019-mnist-400"), preset("hao2019-fashion-400")
    assert 784 * mnist.input_rule.target == pytest.approx(78.4)
    assert 400 * mnist.class_rule.target == pytest.approx(0.1 * 400 * 8)
    assert 784 * fashion.input_rule.target == pytest.approx(19.6)
    assert 400 * fashion.class_rule.target == pytest.approx(800)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("mnist-100", (0.005, 0.04, 0.07, 6e6, -52, 8)),
        ("mnist-400", (0.005, 0.04, 0.07, 6e6, -52, 8)),
        ("mnist-1600", (0.02, 0.08, 0.07, 8e6, -52, 8)),
        ("mnist-6400", (0.01, 0.04, 0.05, 2e7, -52, 8)),
        ("mnist-10000", (0.0075, 0.04, 0.05, 2e7, -52, 8)),
        ("fashion-400", (0.02, 0.32, 0.05, 5e7, -60, 40)),
        ("fashion-6400", (0.0005, 0.08, 0.05, 2e7, -52, 8)),
    ],
)
def test_presets_are_the_values_of_the_program(name, values):
    p = preset(f"hao2019-{name}")
    found = (p.input_rule.lr, p.class_rule.lr, p.theta_step, p.tau_theta, p.hidden.threshold, p.class_rule.w_max)
    assert found == pytest.approx(values)


def test_a_pixel_of_255_has_64_hertz_at_first():
    p = preset("hao2019-mnist-400")
    assert 255 * p.rate_per_grey * p.intensity == 63.75
    assert (p.stimulus_steps, p.rest_steps) == (700, 300)


def test_what_is_taken_out_is_out_and_nothing_else_changes():
    p = preset("hao2019-mnist-400")
    assert p.without("input_scaling").input_rule.target is None
    assert p.without("class_scaling").class_rule.target is None
    assert p.without("lateral_inhibition") == p.replace(inhibition=0.0)
    assert p.without("adaptive_threshold") == p.replace(theta_step=0.0, tau_theta=math.inf)
    assert p.without("symmetry") == p.replace(symmetric=False)
    assert p.without() == p


@pytest.mark.plain
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: preset("hao2019"), "preset must be one of hao2019-mnist-100, .*, got 'hao2019'"),
        (lambda: SpikingParameters().replace(tau_thet=1), "got tau_thet; did you mean tau_theta?"),
        (lambda: SpikingParameters().without("noise"), "ablation must be one of input_scaling, .*, got 'noise'"),
        (lambda: SpikingParameters(dt=0.0), r"dt must be in \(0, 1.0\], the shortest time constant, got 0.0"),
        (lambda: SpikingParameters(dt=1.5), r"dt must be in \(0, 1.0\], the shortest time constant, got 1.5"),
        (lambda: SpikingParameters(rate_per_grey=1.0), "rate times dt must be at most 1, got 8160.0 Hz times 0.5 ms"),
        (lambda: SpikingParameters(teacher_rate=2001.0), "rate times dt must be at most 1, got 2001.0 Hz"),
        (
            lambda: SpikingParameters(input_rule=RuleParameters(-0.1, 1.0, 0.1)),
            "input_rule.lr must not be negative and must be finite, got -0.1",
        ),
        (
            lambda: SpikingParameters(class_rule=RuleParameters(0.1, 1.0, 0.0)),
            "class_rule.target must be positive and finite, or None for no scaling, got 0.0",
        ),
        (
            lambda: SpikingParameters(tau_theta=math.nan),
            "tau_theta must be a number, got nan",
        ),
        (
            lambda: SpikingParameters(rest=-1.0),
            "stimulus must be at least dt and rest not negative, got 350.0 and -1",
        ),
        (lambda: SpikingParameters(excitation=math.nan), "excitation must be a number, got nan"),
        (
            lambda: SpikingParameters(hidden=CellParameters(100.0, math.nan, -65.0, -52.0, 2.0)),
            "hidden.rest must be a number, got nan",
        ),
        (
            lambda: SpikingParameters(classes=CellParameters(math.nan, -60.0, -45.0, -40.0, 2.0)),
            "classes.tau must be a number, got nan",
        ),
        (
            lambda: SpikingParameters(input_rule=RuleParameters(0.1, math.nan, None)),
            "input_rule.w_max must be positive, got nan",
        ),
        (
            lambda: SpikingParameters(class_rule=RuleParameters(math.inf, 1.0, None)),
            "class_rule.lr must not be negative and must be finite, got inf",
        ),
        (lambda: SpikingParameters(trace_step=-0.1), "trace_step must not be negative, got -0.1"),
        (lambda: SpikingParameters(trace_init=math.nan), "trace_init must be a number, got nan"),
    ],
    ids=[
        *("preset", "parameter", "ablation", "dt-zero", "dt-long", "pixel-rate", "teacher-rate"),
        *(
            "lr",
            "target",
            "tau_theta",
            "rest",
            "nan",
            "cell",
            "cell-tau",
            "w_max",
            "lr-inf",
            "trace_step",
            "trace_init",
        ),
    ],
)
def test_wrong_values_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
