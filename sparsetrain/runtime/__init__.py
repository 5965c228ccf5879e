"""Many workers: devices as workers, one step for all of them, and what their exchange costs.

Nothing here replaces JAX's own distributed runtime; this room is built on it.
"""

from sparsetrain.runtime import cost_model
from sparsetrain.runtime.data_parallel import DataParallel, Trained, data_parallel
from sparsetrain.runtime.mesh import worker_mesh
from sparsetrain.runtime.messages import MessageTraining, message_training

__all__ = [
    "DataParallel",
    "MessageTraining",
    "Trained",
    "cost_model",
    "data_parallel",
    "message_training",
    "worker_mesh",
]
