"""Many workers: devices as workers, one step for all of them, processes that start and fail together."""

from sparsetrain.runtime.data_parallel import DataParallel, Trained, data_parallel
from sparsetrain.runtime.mesh import worker_mesh

__all__ = ["DataParallel", "Trained", "data_parallel", "worker_mesh"]
