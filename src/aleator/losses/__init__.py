"""Random objectives: losses whose terms were drawn, and must be weighed for it."""

from aleator.losses.dsac_t import dsac_t_loss
from aleator.losses.flow_matching import Velocity, distillation_target, flow_matching
from aleator.losses.gaussian_nll import gaussian_head, gaussian_nll
from aleator.losses.group_policy import clipped_surrogate, group_advantages
from aleator.losses.pair_nll import pair_nll
from aleator.losses.quantile_huber import quantile_huber, quantile_huber_per_item
from aleator.losses.s3im import S3IM, s3im, s3im_weight
from aleator.losses.scalarized import scalarized_loss
from aleator.losses.score_matching import denoising_score_matching
from aleator.losses.td_target import pessimistic_td_target, td_target
from aleator.losses.v_prediction import v_prediction_loss

__all__ = [
    "S3IM",
    "Velocity",
    "clipped_surrogate",
    "denoising_score_matching",
    "distillation_target",
    "dsac_t_loss",
    "flow_matching",
    "gaussian_head",
    "gaussian_nll",
    "group_advantages",
    "pair_nll",
    "pessimistic_td_target",
    "quantile_huber",
    "quantile_huber_per_item",
    "s3im",
    "s3im_weight",
    "scalarized_loss",
    "td_target",
    "v_prediction_loss",
]
