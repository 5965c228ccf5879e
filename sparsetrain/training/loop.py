"""One training run of any task from its config, resumable at any moment."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from sparsetrain import compress, data, masks, programs, runtime, tree
from sparsetrain.compress.ledger import Ledger
from sparsetrain.training import build, measure, networks, stages, state, step
from sparsetrain.training.checkpoint import Checkpoints
from sparsetrain.training.metrics import (
    JsonLines,
    TensorBoard,
    Writer,
    has_tensorboard,
    replace_text,
)
from sparsetrain.training.operations import backward_flops
from sparsetrain.training.progress import Progress, Silent, choose
from sparsetrain.training.stages import Stage
from sparsetrain.training.state import TrainState
from sparsetrain.training.summary import summarize


class Result(NamedTuple):
    """What a finished run leaves in memory; `summary` and `history` are on disk too.

    Attributes:
      summary: contents of `summary.json`.
      history: one record per evaluation, the lines of `metrics.jsonl`.
      state: the last state. Of `masks.name="dpf"` its weights are dense; what was scored is
        `masks.forward_params(state.variables, state.opt_state)`.
    """

    summary: dict[str, Any]
    history: list[dict[str, Any]]
    state: TrainState


def train_and_evaluate(
    config: ml_collections.ConfigDict,
    workdir: str | os.PathLike[str],
    progress: Progress | None = None,
) -> Result:
    """Trains the network of a config on its task, or continues where an earlier call was cut off.

    Writes into `workdir`: `config.json`, `metrics.jsonl` (a line per evaluation), `checkpoints/`,
    `stages.json` (who made which steps), TensorBoard events in `events/` where TensorBoard is
    installed, and at the end `summary.json`. A finished run is read back, not repeated.

    Killed at any moment and called again with the same config, a run continues from its last
    checkpoint. Batches and dropout depend on the seed and the step alone, and a step is one
    compiled program however many of them a call makes, so on CPU the parameters end bit-identical
    to those of a run that was never killed. On a GPU, XLA adds with atomics in a scatter-add whose
    indices may repeat (the gradient of a gather, such as an embedding) and chooses algorithms by
    timing them, so two runs may differ in the last bits; `XLA_FLAGS=--xla_gpu_deterministic_ops=true`
    forbids both at some cost of time. Our own rules scatter by `set` on distinct columns, which is
    deterministic.

    Called with another number of workers, it goes on from its last checkpoint with these, see
    `resize`: epochs keep their examples, steps are counted on, and an epoch has as many of them as
    the new workers need. Learning rate and batch of a worker stay, so the batch of all changes.

    Called by all processes of a job (see `runtime.start`), it first compares their configs and
    versions, keeps one state on the devices of all of them, and lets process 0 alone write and show
    anything; `workdir` is then a folder that all can see.

    Args:
      config: see `configs/` for the fields.
      workdir: folder of the run, made if absent. It belongs to one config.
      progress: what a person sees; a bar on a terminal and plain lines elsewhere by default.

    Returns:
      `Result`. Of the fields of `summary`, `validation_...` and `test_...` are the scores of the task
      (fractions, but for a perplexity or a loss), `train_loss` is the mean over
      the last epoch in nats, `gradient_angle` is in radians, `kept_fraction` the share of
      output-gradient entries that the rules keep, `memory_norm` the norm of the stored total,
      `backward_flops` and `dense_backward_flops` a worker's operations of a step with and without the rules (see
      `operations`),
      `seconds_per_step` the median over evaluations, without compilation; with a compressed
      exchange also `bits_sent`, `wire_bytes`, `moved_bytes`, `dense_bits` (exact totals of all workers) and
      `compression_ratio`; with masks also `density` and `mask_error`, see `masks.report`.

    Raises:
      build.ConfigError: the config cannot be run: an unknown name, a value out of range, data that
        cannot be read, a missing package, a `workdir` that holds a run with another config, other
        workers than before whose state cannot be made of the old ones', or processes with different
        configs or versions.
    """
    with build.config_errors():
        runtime.check_agreement(
            runtime.versions()
            | {f"config.{name}": value for name, value in _flat(config.to_dict()).items()}
        )
        # Not before all agree: asking for the number of this process starts its devices.
        progress = (progress or choose()) if jax.process_index() == 0 else Silent()
        run = _Run(config, Path(workdir), progress)
    try:
        return run.finish()
    finally:
        run.close()


class _Run:
    """All that is fixed during a run, and the files it has open."""

    def __init__(
        self, config: ml_collections.ConfigDict, workdir: Path, progress: Progress
    ) -> None:
        self.config = ml_collections.FrozenConfigDict(config)
        self.workdir, self.progress = workdir, progress
        self.writes = jax.process_index() == 0
        config = self.config
        self.batch_size = config.data.batch_size
        self.workers = build.workers(config.get("workers", 1))
        self.data = build.load(config, self.workers.count)
        self.task = self.data.task
        most = self.data.examples // self.workers.count
        if not 1 <= self.batch_size <= most:
            raise ValueError(
                f"data.batch_size={self.batch_size}: must lie in 1..{most}, "
                "the number of training examples of a worker"
            )
        for field in ("epochs", "eval_every", "checkpoint_every", "steps_per_call"):
            if config[field] < 1:
                raise ValueError(f"{field}={config[field]}: must be at least 1")
        model, optimizer, self.functions = build.functions(
            config.model,
            config.backward,
            config.optimizer,
            config.compress,
            self.task,
            config.get("masks"),
            self.workers,
        )
        if config.get("steps") is not None and config.steps < 1:
            raise ValueError(f"steps={config.steps}: must be at least 1, or None for whole epochs")
        batch = jax.tree.map(lambda leaf: jnp.asarray(leaf[: self.batch_size]), self.data.train)
        inputs = self.task.inputs(batch)

        chosen = build.chosen(config.get("masks"), self.functions.loss, batch)

        def one() -> TrainState:
            return state.create(model, optimizer, inputs, config.seed, chosen)

        def create() -> TrainState:
            begin = one()
            own = self.workers.stacked((begin.variables, begin.opt_state))
            return TrainState(begin.step, own[0], own[1], begin.key)

        self.model, self.seen = model, build.seen(config.get("masks"))
        # Shapes alone, so that no batch is held.
        self.inputs = jax.eval_shape(lambda: inputs)
        layers = networks.layers(model, inputs)
        self.kept_fraction = measure.kept_fraction(layers)
        self.sparse_paths = tuple(dict.fromkeys(layer.path for layer in layers if layer.rule))
        past = self._past()
        shapes = jax.eval_shape(one)
        # See `step.Functions.one_by_one`.
        alone = config.steps_per_call == 1 or (
            jax.default_backend() == "cpu"
            and programs.convolves(self.functions.loss, shapes.variables, batch)
        )
        self.steps = self.functions.one_by_one if alone else self.functions.train
        self.checkpoints = Checkpoints(workdir / "checkpoints")
        restored = self.checkpoints.restore(
            lambda step: self.workers.abstract(shapes, stages.that_made(step, past).workers),
            progress.note,
        )
        if restored is None:
            place = self.workers.placed(jax.eval_shape(create))
            self.state = jax.jit(create, out_shardings=place)()
            course = [Stage(0, 0, self.workers.count)]
        else:
            self.state, course = self._taken_over(restored, past)
        self.start, self.stage = int(self.state.step), course[-1]
        self.per_epoch = self._per_epoch(self.stage)
        self.total = self.stage.step + (config.epochs - self.stage.epoch) * self.per_epoch
        if config.get("steps") is not None:
            self.total = min(self.total, config.steps)
        if self.writes and self.start < self.total:
            # Stages first: they tell what the checkpoints are, whoever goes on.
            stages.write(workdir, course)
            replace_text(workdir / "config.json", self._config_text())
        self.json_lines = JsonLines(
            workdir / "metrics.jsonl", resume_step=self.start, write_file=self.writes
        )
        self.writers: list[Writer] = [self.json_lines]
        if self.writes and self.start < self.total and has_tensorboard():
            self.writers.append(TensorBoard(workdir / "events"))

    def _config_text(self) -> str:
        return json.dumps(self.config.to_dict(), indent=2, sort_keys=True) + "\n"

    def _past(self) -> list[Stage]:
        """The stages of the run that is already there, once its config has been found to be ours."""
        path, workers = self.workdir / "config.json", 1
        if path.exists():
            there, here = json.loads(path.read_text()), json.loads(self._config_text())
            workers, _ = there.pop("workers", 1), here.pop("workers", 1)
            there, here = _flat(there), _flat(here)
            different = [
                f"{name} is {there.get(name)!r} there and {here.get(name)!r} now"
                for name in sorted(there.keys() | here.keys())
                if there.get(name) != here.get(name)
            ]
            if different:
                raise build.ConfigError(
                    f"{self.workdir} holds a run with another config ({'; '.join(different)}): "
                    "choose another --workdir, or delete this one"
                )
        found = stages.read(self.workdir)
        # On a network disk one process may see what another no longer does.
        runtime.check_agreement({str(self.workdir / stages.NAME): found})
        return found or [Stage(0, 0, workers if workers > 1 else self.workers.count)]

    def _taken_over(
        self, restored: TrainState, past: list[Stage]
    ) -> tuple[TrainState, list[Stage]]:
        """A restored state in the hands of this run's workers; its stages, theirs the last."""
        made = stages.that_made(int(restored.step), past)
        course = past[: past.index(made) + 1]
        if made.workers == self.workers.count:
            return restored, course
        state, step = self.workers.dealt(restored, made.workers), int(restored.step)
        self.progress.note(
            f"checkpoint {step} is of {made.workers} workers, and {self.workers.count} go on: what was held "
            "back is dealt to them, and an epoch has another number of steps"
        )
        epoch = made.epochs(step, self._per_epoch(made))
        return state, [*course, Stage(step, epoch, self.workers.count)]

    def _per_epoch(self, stage: Stage) -> int:
        return self.task.steps_per_epoch(self.data.examples, self.batch_size * stage.workers)

    def finish(self) -> Result:
        """Trains from where the run stands to its end."""
        self.progress.start(self.workdir.name, self.start, self.total)
        if self.start < self.total:
            for text in self.data.notes:
                self.progress.note(text)
            self._train()
        history = self.json_lines.history
        if not history:
            raise build.ConfigError(
                f"{self.json_lines.path} has lost its lines: delete {self.workdir} to start afresh"
            )
        summary = summarize(history, self.task) | backward_flops(self.model, self.inputs)
        if self.writes:
            replace_text(self.workdir / "summary.json", json.dumps(summary, indent=2) + "\n")
        return Result(summary, history, self.state)

    def _train(self) -> None:
        config = self.config
        splits = {
            name: jax.device_put(getattr(self.data, name))
            for name in ("train", "validation", "test")
            if getattr(self.data, name) is not None
        }
        examples = self.workers.shared(splits["train"], self.data.train)
        key = state.data_key(self.state.key)
        done = self.start
        # Zero steps: compiles outside the clock.
        order = self._order(key, self.stage.epochs(done, self.per_epoch))
        self.state, _ = self.steps(self.state, examples, order, np.int32(0))
        while done < self.total:
            epoch, behind = divmod(done - self.stage.step, self.per_epoch)
            epoch += self.stage.epoch
            if behind == 0:
                order, waiting, losses = self._order(key, epoch), 0.0, 0.0
            steps = min(config.steps_per_call, self.per_epoch - behind, self.total - done)
            begin = time.perf_counter()
            self.state, loss = self.steps(self.state, examples, order, np.int32(steps))
            losses += steps * float(loss)
            waiting += time.perf_counter() - begin
            done += steps
            behind += steps
            self.progress.advance(done)
            # A last epoch may be cut short; checkpoints lie between epochs, and there.
            last = done == self.total
            if behind < self.per_epoch and not last:
                continue
            epoch += 1
            if last or epoch % config.eval_every == 0:
                self._evaluate(done, epoch, losses / behind, waiting / behind, splits)
            if last or epoch % config.checkpoint_every == 0:
                # After the metrics, so that a restored step always has its line.
                self.checkpoints.save(self.state)

    def _order(self, key: jax.Array, epoch: int) -> jax.Array:
        examples = self.data.examples
        batch = self.batch_size * self.workers.count
        if self.task.keeps_order:
            order = jnp.arange(examples, dtype=jnp.int32)
        else:
            order = data.epoch_permutation(key, epoch, examples)
        rows = order[: self.per_epoch * batch].reshape(self.per_epoch, batch)
        # A step takes the row of its own number, and these workers began at another than zero.
        first = self.stage.step % self.per_epoch
        return jnp.roll(rows, first, axis=0) if first else rows

    def _evaluate(
        self, done: int, epoch: int, loss: float, seconds: float, splits: dict[str, Any]
    ) -> None:
        # Those of one worker: with local steps, between two exchanges, his own.
        variables, opt_state = map(self.workers.own, (self.state.variables, self.state.opt_state))
        if self.seen is not None:
            variables = self.seen(variables, opt_state)
        metrics = {
            "epoch": epoch,
            "train_loss": loss,
            **self._scores(variables, splits, done == self.total),
            "kept_fraction": self.kept_fraction,
            "memory_norm": float(measure.memory_norm(variables)),
            "seconds_per_step": seconds,
            "gradient_angle": None,
        }
        examples = min(self.config.angle_examples, self.data.examples)
        if examples >= self.batch_size:
            angles = self.functions.angles(
                variables,
                jax.tree.map(lambda leaf: leaf[:examples], splits["train"]),
                self.batch_size,
                self.sparse_paths,
            )
            metrics |= {name: float(value) for name, value in angles.items()}
        metrics |= compress.report(self.workers.gathered(tree.nodes(Ledger, self.state.opt_state)))
        metrics |= masks.report(opt_state)
        for writer in self.writers:
            writer.write(done, metrics)
        self.progress.advance(done, metrics)

    def _scores(
        self, variables: Any, splits: dict[str, Any], is_last: bool
    ) -> dict[str, float | None]:
        """Scores of validation and test, by the compiled functions and by the task on the host."""
        scorers = [self.data.at_evaluation, self.data.at_end if is_last else None]
        found: dict[str, float | None] = {}
        for split in ("validation", "test"):
            if split in splits:
                compiled = self.functions.scores(variables, splits[split])
                found |= {f"{split}_{name}": float(value) for name, value in compiled.items()}
            for scorer in filter(None, scorers):
                scores = scorer(*self._plain(variables), split)
                found |= {f"{split}_{name}": value for name, value in scores.items()}
        return found

    def _plain(self, variables: Any) -> tuple[Any, dict[str, Any]]:
        """The model without rules, and its variables."""
        dense = step.without(variables, *step.SPARSE_COLLECTIONS)
        if not hasattr(self.model, "to_dense"):
            return self.model, dense
        return self.model.model, {**dense, "params": self.model.to_dense(dense["params"])}

    def close(self) -> None:
        self.progress.stop()
        for writer in self.writers:
            writer.close()
        self.checkpoints.close()


def _flat(tree: Any, path: str = "") -> dict[str, Any]:
    """Nested dictionary -> dotted name: value."""

    def leaves(node: Any, path: str) -> Iterator[tuple[str, Any]]:
        if isinstance(node, dict):
            for key, value in node.items():
                yield from leaves(value, f"{path}.{key}" if path else key)
        else:
            yield path, node

    return dict(leaves(tree, path))
