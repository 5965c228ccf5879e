"""One run to one result file: never a partial one, never a finished one again."""

import dataclasses
import functools
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from experiments.grid import circumstances
from experiments.msbp_mnist.runs import Run
from sparsetrain import analysis
from sparsetrain.training import build, progress, step, train_and_evaluate
from sparsetrain.training.metrics import replace_text
from sparsetrain.training.state import TrainState

# Training images, the same for every run, on which the gradient angles are taken.
ANGLE_EXAMPLES = 10_240
CURVES = ("train_loss", "validation_accuracy", "test_accuracy", "memory_norm", "gradient_angle")


def record(
    run: Run,
    out: Path,
    scratch: Path,
    change: Callable[[ml_collections.ConfigDict], None] = lambda config: None,
) -> bool:
    """Trains one run and writes `<out>/<name>.json`, unless that file is there.

    Args:
      run: what to train.
      out: folder of the results, made if absent.
      scratch: folder of the run while it goes on; a run cut off continues there, and a finished one is removed.
      change: edits the config before it is used; the tests shrink the job with it.

    Returns:
      Whether there was something to do.
    """
    path = out / f"{run.name}.json"
    if path.exists():
        return False
    config = run.config()
    change(config)
    begin = time.perf_counter()
    result = train_and_evaluate(config, scratch / run.name, progress.Silent())
    # Of the last call: a run that was cut off and continued shows less.
    ended = circumstances(begin)
    measured = {
        "summary": result.summary,
        "curves": {name: [line[name] for line in result.history] for name in CURVES},
        "angles": angles(config, result.state),
        # The memory moves only where there is one.
        "angles_moving": (
            angles(config, result.state, moving=True)
            if run.decay or run.method == "adaptive"
            else None
        ),
        "angle_examples": ANGLE_EXAMPLES,
    }
    content = dataclasses.asdict(run) | measured | ended
    out.mkdir(parents=True, exist_ok=True)
    replace_text(path, json.dumps(content, indent=1) + "\n")
    shutil.rmtree(scratch / run.name)
    return True


def angles(
    config: ml_collections.ConfigDict, state: TrainState, moving: bool = False
) -> dict[str, float]:
    """Gradient estimation angles of a trained network, in radians.

        delta = angle(mean_b g_b, mean_b grad l_b)      b: batches of the training size

    on the first `ANGLE_EXAMPLES` training images, without dropout, at fixed parameters. The paper does not say what
    its memory does meanwhile, and it matters: held, every batch receives the memory that training left, and
    what that owes to its last few batches stays in the mean; moving, it is updated from batch to batch as
    in training, and what one batch drops another receives.

    Args:
      config: of the run.
      state: its last state.
      moving: whether the memory is updated from batch to batch.

    Returns:
      Parameter path -> angle of that parameter's gradient; "all" -> angle of the whole vector.
    """
    config = ml_collections.FrozenConfigDict(config)
    loaded = build.load(config, workers=1)
    _, _, functions = build.functions(
        config.model, config.backward, config.optimizer, config.compress, loaded.task
    )
    size = config.data.batch_size
    examples = min(ANGLE_EXAMPLES, loaded.examples) // size * size
    taken = tuple(jnp.asarray(part[:examples]) for part in loaded.train)

    def held(variables: Any) -> Any:
        # By all variables, because one function object compiles once; what the memory gets is dropped.
        return analysis.full_data_gradient(functions.loss, variables, (taken,), size)["params"]

    # Without its taps a row-sparse model has the same gradient in dense form.
    sparse = step.without(state.variables, "row_sparse")
    if moving:
        batches = jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), taken)
        estimate = moving_gradient(functions.loss, sparse, batches)
    else:
        estimate = held(sparse)
    true = held(step.without(state.variables, *step.SPARSE_COLLECTIONS))
    found = {name: float(x) for name, x in analysis.angle_per_leaf(estimate, true).items()}
    return found | {"all": float(analysis.angle(estimate, true))}


@functools.partial(jax.jit, static_argnums=0)
def moving_gradient(loss: Callable[..., jax.Array], variables: Any, batches: Any) -> Any:
    """Sum over batches of the sparse gradient at fixed parameters, with the memory updated after each batch.

    Args:
      loss: (variables, batch) -> mean loss of a batch.
      variables: with "params" and "memory".
      batches: tree of arrays [N, B, ...].

    Returns:
      Tree like the parameters.
    """

    def add(carry: tuple[Any, Any], batch: Any) -> tuple[Any, None]:
        sums, memory = carry
        gradient = jax.grad(loss)({**variables, "memory": memory}, batch)
        # The memory's gradient is its increment.
        carry = (sums, memory), (gradient["params"], gradient["memory"])
        return jax.tree.map(jnp.add, *carry), None

    zeros = jax.tree.map(jnp.zeros_like, variables["params"])
    return jax.lax.scan(add, (zeros, variables["memory"]), batches)[0][0]
