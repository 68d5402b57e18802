"""Parameters that `torch.distributed.tensor` has shared out take the steps of whole ones, bit for bit."""

from pathlib import Path


def test_fifty_rounds_on_shards_are_the_bits_of_fifty_rounds_on_whole_tensors(processes):
    said = processes(Path(__file__).with_name("sharded_program.py"), 2)
    wanted = "True True theta must be cut along one dimension or be whole everywhere\n"
    assert said == [wanted, wanted]
