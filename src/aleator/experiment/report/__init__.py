"""The report: one HTML file that says what a comparison, or a run, has shown.

It opens from the disk, asks the network for nothing, and holds the numbers, the plots, the command that made them and
the machine that ran it. What it concludes in words is computed from the intervals, and goes no further than they do.
"""

from aleator.experiment.report.build import write_report

__all__ = ["write_report"]
