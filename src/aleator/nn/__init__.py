"""What is random, or made trainable, inside a model: layers and functions of tensors."""

from aleator.nn.tract import TrAct, apply_tract, first_layer_group, remove_tract
from aleator.nn.tract_gradient import tract_weight_grad
from aleator.nn.tract_preconditioner import TrActPreconditioner

__all__ = [
    "TrAct",
    "TrActPreconditioner",
    "apply_tract",
    "first_layer_group",
    "remove_tract",
    "tract_weight_grad",
]
