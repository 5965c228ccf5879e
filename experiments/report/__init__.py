"""One page over one or many runs: `python -m experiments.report`."""
