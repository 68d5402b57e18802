from hypothesis import given
from hypothesis import strategies as st

from aleator.optim.spectra.shared_clipping import owners

SHAPES = st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), max_size=30)


def work(shape):
    m, n = min(shape), max(shape)
    return m * m * (n + 9 * m)


@given(shapes=SHAPES, processes=st.integers(1, 8))
def test_no_process_has_more_than_its_share_and_one_matrix(shapes, processes):
    owner = owners(shapes, processes)
    loads = [sum(work(s) for s, o in zip(shapes, owner, strict=True) if o == p) for p in range(processes)]
    assert sum(loads) == sum(map(work, shapes))
    assert max(loads) <= sum(loads) / processes + max(map(work, shapes), default=0)
    assert min(loads) > 0 or len(shapes) < processes


def test_shapes_that_occur_once_do_not_all_go_to_the_first_process():
    assert owners([(512, 512), (512, 1536), (512, 2048), (2048, 512)], 2) == [1, 0, 0, 1]
    assert owners([(8, 8), (4, 4), (4, 4), (4, 4)], 2) == [0, 1, 1, 1]
