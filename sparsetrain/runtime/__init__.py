"""Many workers: what they say to each other, and what it costs.

Nothing here replaces JAX's own distributed runtime; this room is built on it. `cost_model` predicts, before a cluster
is rented, how long an exchange takes with so many workers on such a network, and where sparse messages begin
to pay. It needs NumPy alone.
"""

from sparsetrain.runtime import cost_model

__all__ = ["cost_model"]
