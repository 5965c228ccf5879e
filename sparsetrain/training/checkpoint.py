"""Checkpoints that survive a kill at any moment, by orbax."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

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
    process never leaves one that looks finished. Two are kept: if the last cannot be read all the
    same (a disk fault), the one before it is restored.

    Args:
      directory: folder of the checkpoints, made if absent.
      keep: how many of them stay.
    """

    def __init__(self, directory: str | os.PathLike[str], keep: int = 2) -> None:
        self._manager = ocp.CheckpointManager(
            Path(directory).absolute(),
            # Not asynchronous: the buffers of the state are donated to the very next call.
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep, create=True, enable_async_checkpointing=False
            ),
        )

    def save(self, state: TrainState) -> None:
        """Writes the state under its step; it is whole on disk when this returns."""
        self._manager.save(int(state.step), args=ocp.args.StandardSave(to_tree(state)))

    def restore(
        self, abstract: TrainState, note: Callable[[str], None] = lambda text: None
    ) -> TrainState | None:
        """The last state that can be read, or None.

        Args:
          abstract: state of the wanted structure, shapes and dtypes, as from `jax.eval_shape`.
          note: told of each checkpoint that cannot be read and is therefore deleted.

        Returns:
          The state with all leaves on the default device; None where there is no checkpoint.

        Raises:
          ValueError: there are checkpoints and none of them can be read.
        """
        target = jax.eval_shape(to_tree, abstract)
        place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        target = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), target
        )
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            try:
                tree = self._manager.restore(step, args=ocp.args.StandardRestore(target))
                state = from_tree(tree)
                break
            except Exception as error:  # orbax, tensorstore and zlib each raise their own kinds.
                last = error
                note(f"checkpoint {step} cannot be read ({type(error).__name__}), skipped")
        else:
            if steps:
                raise ValueError(
                    f"{self._manager.directory}: none of the checkpoints {steps} can be read; "
                    "delete the work directory to start afresh"
                ) from last
            return None
        for unreadable in steps[: steps.index(step)]:
            self._manager.delete(unreadable)
        return state

    def close(self) -> None:
        """Ends orbax's threads."""
        self._manager.close()
