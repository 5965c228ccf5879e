"""Checkpoints that survive a kill at any moment, by orbax."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from sparsetrain.training import inventory
from sparsetrain.training.state import TrainState


def to_tree(state: TrainState) -> dict[str, Any]:
    """The state as orbax takes it: a dictionary, and the key as its data."""
    return state._asdict() | {"key": jax.random.key_data(state.key)}


def from_tree(tree: dict[str, Any]) -> TrainState:
    """Inverse of `to_tree`."""
    return TrainState(**(tree | {"key": jax.random.wrap_key_data(tree["key"])}))


class Checkpoints:
    """The last few states of a run on disk.

    orbax writes a checkpoint under a temporary name and renames it when it is whole, so a killed
    process never leaves one that looks finished. Then its files are written down, see `inventory`.
    Two are kept: if the last has been cut short or changed all the same, the one before it is
    restored, and never a state that is half of one and half of nothing.

    In a job of several processes each of them makes the same calls, on a folder that all can see.
    Arrays then live on the devices of all processes; each writes the shards it holds.

    Args:
      directory: folder of the checkpoints, made if absent.
      keep: how many of them stay.
    """

    def __init__(self, directory: str | os.PathLike[str], keep: int = 2) -> None:
        self._manager = ocp.CheckpointManager(
            Path(directory).absolute(),
            # Or orbax would conclude from the first checkpoint it reads, damaged or not, that all
            # hold what that one holds.
            item_handlers=ocp.StandardCheckpointHandler(),
            # Not asynchronous: the buffers of the state are donated to the very next call.
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep, create=True, enable_async_checkpointing=False
            ),
        )

    def save(self, state: TrainState) -> None:
        """Writes the state under its step; it is whole on disk when this returns."""
        step = int(state.step)
        self._manager.save(step, args=ocp.args.StandardSave(to_tree(state)))
        if jax.process_index() == 0:
            inventory.write(self._folder(step))

    def restore(
        self,
        abstract: TrainState | Callable[[int], TrainState],
        note: Callable[[str], None] = lambda text: None,
    ) -> TrainState | None:
        """The last state that is whole, or None.

        Args:
          abstract: state of the wanted structure, shapes and dtypes, as from `jax.eval_shape`; with
            shardings where leaves should not be on the default device. Where not all checkpoints have
            the same shapes, a function from a checkpoint's step to its own.
          note: told of each checkpoint that is not whole and is therefore deleted.

        Returns:
          The state; None where there is no checkpoint.

        Raises:
          ValueError: there are checkpoints and none of them is whole.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        complaints = []
        for step in steps:
            shapes = abstract if isinstance(abstract, TrainState) else abstract(step)
            state, complaint = self._read(step, _target(shapes))
            if state is not None:
                break
            complaints.append(f"checkpoint {step} is not whole: {complaint}")
        else:
            if steps:
                raise ValueError(
                    f"{self._manager.directory}: none of the checkpoints {steps} can be read "
                    f"({'; '.join(complaints)}); delete the work directory to start afresh"
                )
            return None
        for text, damaged in zip(complaints, steps, strict=False):
            note(f"{text}; it is deleted, and the run goes on from checkpoint {step}")
            # The run gets there again, and orbax overwrites nothing.
            self._manager.delete(damaged)
        return state

    def _read(self, step: int, target: dict[str, Any]) -> tuple[TrainState | None, str]:
        """A checkpoint, or None and what is wrong with it; the same in every process."""
        # One process looks, because others may not see the same at the same time on a network disk.
        complaint = inventory.complaint(self._folder(step)) if jax.process_index() == 0 else None
        if not _all(complaint is None):
            return None, complaint or "process 0 says why"
        state = None
        try:
            state = from_tree(self._manager.restore(step, args=ocp.args.StandardRestore(target)))
        except Exception as error:  # orbax, tensorstore and zlib each raise their own kinds.
            complaint = f"it cannot be read ({type(error).__name__})"
        return (state, "") if _all(state is not None) else (None, complaint or "not everywhere")

    def _folder(self, step: int) -> Path:
        return Path(self._manager.directory) / str(step)

    def close(self) -> None:
        """Ends orbax's threads."""
        self._manager.close()


def _target(abstract: TrainState) -> dict[str, Any]:
    """What orbax is to read, and where to."""
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(
        lambda x, wanted: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=wanted.sharding or here),
        jax.eval_shape(to_tree, abstract),
        abstract._asdict(),
    )


def _all(true_here: bool) -> bool:
    """Whether something is true in every process."""
    return bool(np.all(multihost_utils.process_allgather(np.array(true_here))))
