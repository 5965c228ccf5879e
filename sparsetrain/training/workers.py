"""Workers of a run: one, several that are simulated on one device, or one on each device of all processes."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from sparsetrain.training.resize import resized
from sparsetrain.training.state import TrainState

AXIS = "workers"


@dataclasses.dataclass(frozen=True)
class Workers:
    """How many there are, and where.

    Attributes:
      count: W.
      mesh: with the axis "workers"; None where one device simulates all of them.
    """

    count: int = 1
    mesh: Mesh | None = None

    @property
    def axis_name(self) -> str | None:
        """What transformations that exchange something are given; None for a single worker."""
        return AXIS if self.count > 1 else None

    def shared(self, here: Any, held: Any) -> Any:
        """What all workers see alike.

        Args:
          here: tree of arrays on this process's first device.
          held: the same, as NumPy arrays.

        Returns:
          `here`, or with several processes `held` on the devices of all of them.
        """
        if self.mesh is None:
            return here
        place = functools.partial(
            jax.make_array_from_process_local_data, NamedSharding(self.mesh, P())
        )
        return jax.tree.map(lambda leaf: place(np.asarray(leaf)), held)

    def abstract(self, one: TrainState, count: int | None = None) -> TrainState:
        """Shapes of a state, and where its leaves lie.

        Args:
          one: shapes of a single worker's state, as from `jax.eval_shape`.
          count: of another number of workers than these; their rows are wanted by every process.

        Returns:
          What `Checkpoints.restore` reads into.
        """
        count = self.count if count is None else count
        lead = (count,) * (count > 1)
        rows = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((*lead, *x.shape), x.dtype),
            (one.variables, one.opt_state),
        )
        state = TrainState(one.step, rows[0], rows[1], one.key)
        if self.mesh is None:
            return state
        whole: Any = NamedSharding(self.mesh, P())
        place = self.placed(state)
        if count != self.count:
            place = jax.tree.map(lambda _: whole, place)
        return jax.tree.map(
            lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at), state, place
        )

    def dealt(self, state: TrainState, before: int) -> TrainState:
        """What other workers held, as `abstract(one, before)` has it, in the hands of these."""
        host = jax.tree.map(lambda leaf: np.asarray(leaf.addressable_data(0)), state[1:3])
        state = resized(state._replace(variables=host[0], opt_state=host[1]), before, self.count)
        if self.mesh is None:
            return jax.tree.map(jnp.array, state)
        own = NamedSharding(self.mesh, P(AXIS))
        found = jax.tree.map(
            lambda rows: jax.make_array_from_callback(rows.shape, own, rows.__getitem__), state[1:3]
        )
        return state._replace(variables=found[0], opt_state=found[1])

    def placed(self, state: TrainState) -> Any:
        """Where the leaves of a state lie, its `stacked` parts a row a device; None: by default."""
        if self.mesh is None:
            return None
        rows: Any = NamedSharding(self.mesh, P(AXIS))
        same: Any = NamedSharding(self.mesh, P())
        own = jax.tree.map(lambda _: rows, (state.variables, state.opt_state))
        return TrainState(same, own[0], own[1], same)

    def stacked(self, tree: Any) -> Any:
        """One worker's arrays as everybody's beginning: a leading axis [W] if there are several."""
        if self.count == 1:
            return tree
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (self.count, *leaf.shape)), tree)

    def each(self, function: Callable[..., tuple[Any, jax.Array]]) -> Callable[..., Any]:
        """A function of one worker for all of them.

        Args:
          function: (own, dealt, *shared) -> (own, value).

        Returns:
          The same for `own` with a leading axis [W], `dealt` with one behind the first, as
          (own, mean of the values).
        """
        if self.count == 1:
            return lambda own, dealt, *shared: function(own, dealt[:, 0], *shared)
        if self.mesh is None:

            def simulated(own: Any, dealt: jax.Array, *shared: Any) -> tuple[Any, jax.Array]:
                axes = (0, 1, *(None for _ in shared))
                after, values = jax.vmap(function, axes, axis_name=AXIS)(own, dealt, *shared)
                return after, jnp.mean(values)

            return simulated

        def on_device(own: Any, dealt: jax.Array, *shared: Any) -> tuple[Any, jax.Array]:
            own, value = function(jax.tree.map(lambda leaf: leaf[0], own), dealt[:, 0], *shared)
            return jax.tree.map(lambda leaf: leaf[None], own), jax.lax.pmean(value, AXIS)

        def spread(own: Any, dealt: jax.Array, *shared: Any) -> Any:
            inputs = (P(AXIS), P(None, AXIS), *(P() for _ in shared))
            outputs = (P(AXIS), P())
            program = jax.shard_map(on_device, mesh=self.mesh, in_specs=inputs, out_specs=outputs)
            return program(own, dealt, *shared)

        return spread

    def own(self, tree: Any) -> Any:
        """What the first worker of this process has."""
        if self.count == 1:
            return tree
        if self.mesh is None:
            return jax.tree.map(lambda leaf: leaf[0], tree)
        return jax.tree.map(lambda leaf: leaf.addressable_data(0)[0], tree)

    def gathered(self, tree: Any) -> Any:
        """All workers' arrays where every process can read them."""
        if self.mesh is None or jax.process_count() == 1:
            return tree
        return multihost_utils.process_allgather(tree, tiled=True)
