"""Tests of whether a constant learning rate has done what it can, as schedules that then lower it."""
