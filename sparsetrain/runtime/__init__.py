"""Many workers on JAX's own distributed runtime: devices as workers, one step for all of them, what their exchange
costs, and processes that find one another, agree before the first step, and fail together."""

from sparsetrain.runtime import cost_model
from sparsetrain.runtime.agreement import Disagreement, check_agreement, differences, versions
from sparsetrain.runtime.data_parallel import DataParallel, Trained, data_parallel
from sparsetrain.runtime.end_of_round import end_of_round
from sparsetrain.runtime.mesh import worker_mesh
from sparsetrain.runtime.messages import MessageTraining, message_training
from sparsetrain.runtime.processes import Job, start

__all__ = [
    "DataParallel",
    "Disagreement",
    "Job",
    "MessageTraining",
    "Trained",
    "check_agreement",
    "cost_model",
    "data_parallel",
    "differences",
    "end_of_round",
    "message_training",
    "start",
    "versions",
    "worker_mesh",
]
