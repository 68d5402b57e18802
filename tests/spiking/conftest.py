import pytest


@pytest.fixture(autouse=True)
def _compiled(compiled_kernels: None) -> None:
    """No test here is charged for the compilation, which takes minutes on a busy machine."""
