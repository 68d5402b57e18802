"""Every example runs as its first lines say, in a process of its own."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def output_of(warm) -> Callable[..., str]:
    def output_of(path: Path, *words: str) -> str:
        done = warm.script(path, *words)
        assert done.code == 0, done.err
        return done.out

    return output_of


@pytest.fixture
def with_transformers(warm) -> None:
    pytest.importorskip("transformers", reason="needs the extra text: pip install 'aleator[text]'")
    warm.get_ready("transformers.trainer", "transformers.models.llama.modeling_llama")


def test_rs2_in_your_loop_beats_the_static_subset_with_every_seed(output_of):
    said = output_of(EXAMPLES / "rs2_in_your_loop.py")
    pairs = re.findall(r"seed \d: static subset ([\d.]+)%, RS2 ([\d.]+)%", said)
    assert len(pairs) == 3, said
    assert all(float(rs2) > float(static) for static, rs2 in pairs), said


def test_rs2_distributed_takes_the_planned_steps_on_two_processes(processes):
    said, nothing = processes(EXAMPLES / "rs2_distributed.py", 2)
    assert nothing == ""
    found = re.fullmatch(r"2 processes, (\d+) of (\d+) steps, test accuracy ([\d.]+)%\n", said)
    assert found, said
    assert found[1] == found[2]
    assert float(found[3]) > 90  # 96.4 measured; 10 is guessing


def test_spectra_in_trainer_learns(output_of, with_transformers):
    said = output_of(EXAMPLES / "spectra_in_trainer.py")
    found = re.search(r"^100 steps of SPECTRA .*: ([\d.]+) before, ([\d.]+) after$", said, re.MULTILINE)
    assert found, said
    assert 5.4 < float(found[1]) < 5.7  # ln 256 = 5.55, a guess
    assert float(found[2]) < 3.0  # 2.46 measured


def test_one_byte_in_trainer_learns_by_bytes(output_of, with_transformers):
    said = output_of(EXAMPLES / "one_byte_in_trainer.py")
    found = re.search(r"loss ([\d.]+) before, ([\d.]+) after; (\d+) bytes sent by each of 1,", said)
    assert found, said
    assert float(found[2]) < float(found[1]) - 0.1  # 5.515 and 5.334 measured
    assert 0 < int(found[3]) <= 60 * 4  # a byte for a micro-batch


def test_samplers_in_trainer_resume_bit_for_bit(output_of, with_transformers):
    said = output_of(EXAMPLES / "samplers_in_trainer.py")
    for name in ("RS2", "mixture"):
        assert re.search(rf"^{name}: \d+ steps, interrupted after \d+ and resumed: the same weights$", said, re.M), said


def test_laplacian_in_your_loop_is_closer_than_the_best_constant(output_of):
    said = output_of(EXAMPLES / "laplacian_in_your_loop.py", "200")
    found = re.fullmatch(r"best constant ([\d.]+), network after 200 steps ([\d.]+)\n", said)
    assert found, said
    assert float(found[2]) < float(found[1]) / 2  # 0.0754 and 0.0044 measured


def test_coupled_toy_keeps_samples_on_the_diagonal_only_with_coupled_scores(output_of):
    said = output_of(EXAMPLES / "coupled_toy.py", "300")
    pairs = re.findall(r"seed \d: coupled ([\d.]+)%, independent ([\d.]+)%", said)
    assert len(pairs) == 2, said
    for coupled, independent in pairs:  # 13.6 and 14.5 measured; 1.3 and 1.4 after the 1 000 steps of the example
        assert float(coupled) < 25
        assert 45 < float(independent) < 55  # four modes instead of two


def test_heat_in_a_square_is_learned(output_of):
    said = output_of(EXAMPLES / "heat_in_a_square.py", "150")
    found = re.search(r"^before: relative error ([\d.]+)\nafter 150 steps: relative error ([\d.]+)$", said, re.M)
    assert found, said
    assert float(found[2]) < 0.5 * float(found[1])  # 0.39 of 1.16 measured


def test_s3im_in_nerfstudio_loop_learns_the_room(output_of):
    said = output_of(EXAMPLES / "s3im_in_nerfstudio_loop.py")
    found = re.search(r"^a view held out: ([\d.]+) dB, the mean colour ([\d.]+) dB$", said, re.MULTILINE)
    assert found, said
    assert float(found[1]) > float(found[2]) + 4  # 22.72 and 15.57 measured


def test_a_face_of_your_own_is_found_and_learned(output_of):
    pytest.importorskip("imageio", reason="needs the extra video: pip install 'aleator[video]'")
    said = output_of(EXAMPLES / "a_face_of_your_own.py")
    assert "2 faces, and empty.png without one" in said
    found = re.search(r"^loss ([\d.]+), then ([\d.]+); (0\.\d+) of the photographs were shown$", said, re.MULTILINE)
    assert found, said
    assert float(found[2]) < 0.7 * float(found[1])
    assert 0.2 < float(found[3]) < 0.3  # none in the first half, half in the second


def test_no_example_is_left_out():
    tested = set(re.findall(r"EXAMPLES / \"(\w+\.py)\"", Path(__file__).read_text()))
    assert {path.name for path in EXAMPLES.glob("*.py")} == tested


def test_stac_pendulum_says_what_it_learned(output_of):
    pytest.importorskip("gymnasium", reason="needs the extra rl: pip install 'aleator[rl]'")
    said = output_of(EXAMPLES / "stac_pendulum.py", "700")
    assert re.search(r"^median return -\d+ before, -\d+ after 700 steps$", said, re.MULTILINE), said
    assert re.search(r"torque [+-]\d\.\d\d, value -\d", said), said


def test_a_flow_is_aligned_and_keeps_what_it_learned_without_guidance(output_of):
    said = output_of(EXAMPLES / "align_a_flow.py")
    before, after = map(int, re.findall(r"(\d+)%", said))
    assert before < 25  # one of eight spots
    assert after > 2 * before
