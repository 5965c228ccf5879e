"""Many workers on JAX's own distributed runtime: processes that find one another, agree before the
first step, and fail together."""

from sparsetrain.runtime.agreement import Disagreement, check_agreement, differences, versions
from sparsetrain.runtime.processes import Job, start

__all__ = ["Disagreement", "Job", "check_agreement", "differences", "start", "versions"]
