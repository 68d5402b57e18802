"""What may be concluded from an hour of runs: effects of arms, repeated looks, and what the hour carries."""
