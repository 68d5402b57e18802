"""What may be concluded from a few random samples: intervals, and the paired comparison of runs.

scipy is imported when a function is called, so that importing this package costs nothing.
"""

from aleator.stats.intervals import clopper_pearson, mean_interval
from aleator.stats.paired import PairedDifference, paired_difference

__all__ = ["PairedDifference", "clopper_pearson", "mean_interval", "paired_difference"]
