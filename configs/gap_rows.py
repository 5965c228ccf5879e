"""What the tables of "Effective Model Sparsification by Scheduled Grow-and-Prune Methods" (arXiv 2106.09857) share.

    python -m experiments.main --config=configs/gap_table1.py:c_gap_80 --workdir=runs/c_gap_80

Four problems, each with its model, partitions, optimizer and epochs, and a function that puts a method on one. Times
of masks are in optimizer steps, those of the paper in epochs; `Problem.steps` is an epoch's steps."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import ml_collections

from configs import rows
from sparsetrain.models.pointnet2 import MULTI_SCALE

Partitions = tuple[tuple[str, str], ...]


def partitions(**groups: str) -> Partitions:
    """Name -> layers as (name, expression); biases, norms and statistics go with their layers.

    Example:
      >>> partitions(first="conv|norm")
      (('first', '(params/|batch_stats/)?(conv|norm)/.*'),)
    """
    return tuple((name, f"(params/|batch_stats/)?({group})/.*") for name, group in groups.items())


@dataclasses.dataclass(frozen=True)
class Problem:
    """What a table is about, in the paper's size or a small one.

    Attributes:
      base: config without levers.
      steps: of an epoch.
      each: T, epochs of a phase.
      phases: K of C-GaP.
      rounds: of P-GaP.
      fine: T', epochs of fine-tuning.
      dense_epochs: of the dense model.
      partitions: by their number kappa.
      dense: what is never masked, or None.
    """

    base: ml_collections.ConfigDict
    steps: int
    each: int
    phases: int
    rounds: int
    fine: int
    dense_epochs: int
    partitions: Mapping[int, Partitions]
    dense: str | None

    def rate(self, epochs: int) -> dict[str, Any]:
        """Fields of the optimizer that depend on how long it goes on."""
        name, steps = self.base.optimizer.schedule, epochs * self.steps
        if name == "cosine":
            return {"decay_steps": steps}
        if name == "stepwise":
            return {"boundaries": (2 * steps // 3, 5 * steps // 6)}
        return {}

    def config(self, epochs: int, phase: int | None = None, batch: int = 1) -> Any:
        """A copy of the base that goes on so long.

        Args:
          epochs: in all.
          phase: epochs of the first schedule; None for all.
          batch: workers that share an epoch.
        """
        config = self.base.copy_and_resolve_references()
        config.optimizer.update(self.rate(phase or epochs))
        return rows.budget(config, epochs * self.steps, max(1, self.steps // batch))


def dense(problem: Problem) -> ml_collections.ConfigDict:
    """The dense model."""
    return problem.config(problem.dense_epochs)


def gap(
    problem: Problem,
    density: float,
    kappa: int,
    *,
    order: str = "cyclic",
    distribution: str = "uniform",
    sparse_output: bool = False,
    **settings: Any,
) -> ml_collections.ConfigDict:
    """C-GaP or, with order="parallel", P-GaP, whose workers train apart and share the examples of an epoch."""
    phases = problem.rounds if order == "parallel" else problem.phases
    epochs, workers = phases * problem.each + problem.fine, kappa if order == "parallel" else 1
    config = problem.config(epochs, problem.each, workers)
    config.workers = workers
    keeps = problem.dense if distribution == "uniform" and not sparse_output else None
    return rows.masked(
        config,
        "grow_and_prune",
        density=density,
        # Non-uniform rows sparsify all layers.
        dense=r"params/conv/kernel" if sparse_output else keeps,
        partitions=problem.partitions[kappa],
        steps_per_phase=problem.each * problem.steps,
        phases=phases,
        order=order,
        distribution=distribution,
        fine_tune=tuple(problem.rate(problem.fine).items()),
        **settings,
    )


def rival(
    problem: Problem,
    name: str,
    density: float,
    epochs: int,
    *,
    distribution: str = "uniform",
    until: float = 0.8,
    optimizer: Mapping[str, Any] | None = None,
    task: Mapping[str, Any] | None = None,
    **settings: Any,
) -> ml_collections.ConfigDict:
    """Another method, with an optimizer or task settings of its own."""
    config = problem.config(epochs)
    if optimizer is not None:
        config.optimizer = ml_collections.ConfigDict(dict(optimizer))
    config.task.update(task or {})
    total = epochs * problem.steps
    return rows.masked(
        config,
        name,
        density=density,
        dense=problem.dense if distribution == "uniform" else None,
        distribution=distribution,
        until=int(until * total),
        begin=int(0.1 * total),
        end=int(until * total),
        every=settings.pop("every", min(100, max(1, problem.steps))),
        **settings,
    )


def gap_row(
    problem: Callable[[bool], Problem], density: float, kappa: int, **settings: Any
) -> rows.Row:
    """A row of grow-and-prune, of a problem in either size."""
    return lambda small: gap(problem(small), density, kappa, **settings)


def one_shot_row(problem: Callable[[bool], Problem], density: float, **settings: Any) -> rows.Row:
    """As many epochs as the dense model has, one pruning by magnitude, and as many again."""

    def make(small: bool) -> ml_collections.ConfigDict:
        found = problem(small)
        epochs = found.dense_epochs
        return rival(found, "one_shot", density, 2 * epochs, at=epochs * found.steps, **settings)

    return make


def pruned_row(problem: Callable[[bool], Problem], density: float, *before: float) -> rows.Row:
    """The dense model's epochs, and as many again behind every pruning by magnitude; densities `before` the last."""

    def make(small: bool) -> ml_collections.ConfigDict:
        found = problem(small)
        epochs = found.dense_epochs
        each = epochs * found.steps
        return _pruned(
            found.config((2 + len(before)) * epochs, epochs),
            found,
            "iterative",
            density,
            at=(1 + len(before)) * each,
            before=tuple((each * number, kept) for number, kept in enumerate(before, 1)),
        )

    return make


def admm_row(problem: Callable[[bool], Problem], density: float, *before: float) -> rows.Row:
    """The dense model's epochs, as many pulled by ADMM, as many behind the pruning; the last two for each more.

    Until a pruning the learning rate takes its course once, of pulled epochs and those before them together.
    """

    def make(small: bool) -> ml_collections.ConfigDict:
        found = problem(small)
        epochs = found.dense_epochs
        each = epochs * found.steps
        pulls = [
            (each * number, each * (number + 1)) for number in range(1, 2 * len(before) + 2, 2)
        ]
        begin, end = pulls[-1]
        return _pruned(
            found.config((3 + 2 * len(before)) * epochs, 2 * epochs),
            found,
            "admm",
            density,
            begin=begin,
            end=end,
            before=tuple((*pull, kept) for pull, kept in zip(pulls, before, strict=False)),
            # "Every few epochs" in the reference code.
            every=min(3, epochs) * found.steps,
        )

    return make


def _pruned(
    config: ml_collections.ConfigDict, problem: Problem, name: str, density: float, **settings: Any
) -> ml_collections.ConfigDict:
    """Fine-tuned for as many epochs as the dense model has."""
    return rows.masked(
        config,
        name,
        density=density,
        dense=problem.dense,
        distribution="uniform",
        fine_tune=tuple(problem.rate(problem.dense_epochs).items()),
        **settings,
    )


def resnet50(small: bool) -> Problem:
    """Image classification, B.1."""
    if small:
        steps, model = 57, {"name": "resnet50", "stages": (1, 1, 1, 1), "width": 8}
        times = {"each": 1, "phases": 4, "rounds": 2, "fine": 1, "dense_epochs": 4}
    else:
        steps, model = 1_281_167 // 2048, {"name": "resnet50"}
        times = {"each": 30, "phases": 28, "rounds": 8, "fine": 150, "dense_epochs": 250}
    tx = {
        "name": "sgd",
        "learning_rate": 0.05 if small else 2.048,
        "momentum": 0.875,
        "weight_decay": 3.05e-5,
        "schedule": "cosine",
        "decay_steps": 1,
        "warmup_steps": steps // 2 if small else 2 * steps,
    }
    base = rows.config(
        {"name": "images", "flips": True},
        "cifar10-png-subset" if small else "imagenet",
        64 if small else 2048,
        model,
        epochs=1,
        optimizer=tx,
        sizes=rows.CIFAR if small else rows.IMAGENET,
    )
    four = partitions(
        stage_0=r"conv|norm|stage_0_block_\d+",
        stage_1=r"stage_1_block_\d+",
        stage_2=r"stage_2_block_\d+",
        stage_3=r"stage_3_block_\d+|output",
    )
    kept = r"params/(conv|output)/kernel"
    return Problem(base, steps, partitions={1: partitions(all=r".*"), 4: four}, dense=kept, **times)


def ssd(small: bool) -> Problem:
    """Object detection, B.3."""
    if small:
        steps, model = 25, {"name": "ssd300", "stages": (1, 1, 1), "width": 8}
        times = {"each": 1, "phases": 4, "rounds": 1, "fine": 1, "dense_epochs": 2}
    else:
        steps, model = 118_287 // 64, {"name": "ssd300", "backbone": "resnet50"}
        times = {"each": 32, "phases": 40, "rounds": 10, "fine": 65, "dense_epochs": 65}
    tx = {
        "name": "sgd",
        "learning_rate": 2.6e-3,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "schedule": "stepwise",
        "boundaries": (1, 2),
        "warmup_steps": 300,
    }
    base = rows.config(
        "detection",
        "bccd" if small else "coco",
        8 if small else 64,
        model,
        epochs=1,
        optimizer=tx,
        sizes={"side": 300},
    )
    four = partitions(
        stage_0=r"conv|norm|stage_0_block_\d+",
        stage_1=r"stage_1_block_\d+",
        stage_2=r"stage_2_block_\d+",
        head=r"extra_\d_.*|offsets_\d|logits_\d",
    )
    kept = r"params/(offsets|logits)_\d/kernel"
    return Problem(base, steps, partitions={4: four}, dense=kept, **times)


def pointnet2(small: bool) -> Problem:
    """Parts of shapes, B.4."""
    model: dict[str, Any] = {"name": "pointnet2", "levels": MULTI_SCALE}
    task: dict[str, Any] = {"name": "point_clouds"}
    if small:
        few = ((64, ((0.3, 16, (16, 32)),)), (16, ((0.6, 16, (32, 64)),)))
        back = ((64, 32), (32, 32), (32, 32))
        model |= {"levels": few, "last": (64, 128), "back": back, "head": 32}
        steps, task = 25, {**task, "shapes": 800, "points": 256}
        times = {"each": 1, "phases": 4, "rounds": 1, "fine": 1, "dense_epochs": 2}
    else:
        steps = 13_998 // 32
        times = {"each": 25, "phases": 40, "rounds": 10, "fine": 250, "dense_epochs": 250}
    tx = {
        "name": "sgd",
        "learning_rate": 1e-3,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "schedule": "stepwise",
        "boundaries": (1, 2),
    }
    base = rows.config(
        task,
        "shapes" if small else "shapenet",
        32,
        model,
        epochs=1,
        optimizer=tx,
        sizes={"count": 20, "points": 2048},
    )
    four = partitions(
        down_0=r"down_0_\d", down_1=r"down_1_\d", down_2=r"down_2", head=r"up_\d|head|output"
    )
    return Problem(base, steps, partitions={4: four}, dense=None, **times)


def transformer(small: bool) -> Problem:
    """Translation, B.5; batches are of as many pairs as have 8 x 5,120 places for words."""
    size: dict[str, Any] = {"width": 1024, "feed": 4096, "heads": 16, "layers": 6}
    if small:
        size = {"width": 64, "feed": 128, "heads": 4, "layers": 6}
        times = {"each": 1, "phases": 3, "rounds": 1, "fine": 1, "dense_epochs": 2}
    else:
        times = {"each": 10, "phases": 30, "rounds": 10, "fine": 40, "dense_epochs": 40}
    steps = 29_000 // 64 if small else 4_500_000 // 1024
    tx = {
        "name": "adam",
        "learning_rate": 8.46e-4,
        "b1": 0.9,
        "b2": 0.997,
        "eps": 1e-9,
        "schedule": "inverse_square_root",
        "warmup_steps": 100 if small else 4_000,
    }
    model = {"name": "transformer", "dropout": 0.1, "pre_norm": True, "shares": True, **size}
    base = rows.config(
        {"name": "translation", "length": 20 if small else 40, "label_smoothing": 0.1},
        "multi30k-en-de" if small else "wmt14-en-de",
        64 if small else 1024,
        model,
        epochs=1,
        optimizer=tx,
    )
    outside = "encoder_norm|embedding"
    three = partitions(
        encoder=rf"encoder_\d+|{outside}",
        decoder_a=r"decoder_[0-2]",
        decoder_b=r"decoder_[3-5]|decoder_norm",
    )
    six = partitions(
        encoder_a=rf"encoder_[01]|{outside}",
        encoder_b=r"encoder_[23]",
        encoder_c=r"encoder_[45]",
        decoder_a=r"decoder_[01]",
        decoder_b=r"decoder_[23]",
        decoder_c=r"decoder_[45]|decoder_norm",
    )
    kept = r"params/embedding/embedding"
    return Problem(
        base, steps, partitions={1: partitions(all=r".*"), 3: three, 6: six}, dense=kept, **times
    )
