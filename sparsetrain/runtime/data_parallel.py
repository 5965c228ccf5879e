"""A training step on many workers: what differs between them lies apart, what does not is held once.

        g_i = grad loss(w, batch_i),    updates, state_i = tx(g_i, state_i, w),    w <- w + updates

Under `shard_map` the gradient of replicated parameters arrives summed over the workers. A compressor would
see the sum, and every worker would remember what all have left out; so the parameters are cast to varying
before they are differentiated, and each worker's gradient is its own.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from sparsetrain import tree, varying
from sparsetrain.compress.ledger import Ledger
from sparsetrain.compress.local_steps import LocalStepsState, sync


class Trained(NamedTuple):
    """Parameters and optimizer state; what differs between workers has a leading axis [W], sharded."""

    params: Any
    opt_state: Any


class DataParallel:
    """What `data_parallel` returns: `init`, `place`, `step`, `params`."""

    def __init__(
        self,
        loss: Callable[[Any, Any], jax.Array],
        tx: optax.GradientTransformation,
        mesh: Mesh,
        names: tuple[str, ...],
        *,
        apart: bool,
    ):
        self._loss, self._tx, self._mesh, self._names = loss, tx, mesh, names
        self._apart = apart
        self._rows = P(names)
        self._differs: Trained | None = None
        self._compiled: Any = None

    def init(self, params: Any) -> Trained:
        """Parameters on all devices, and the optimizer's first state.

        Args:
          params: tree of arrays, the same in all processes.

        Returns:
          `Trained`; a checkpoint is restored into the like of it.

        Raises:
          ValueError: workers would drift apart, see `data_parallel`.
        """
        params = jax.tree.map(np.asarray, params)
        self._differs = differs = self.differs(params)
        specs = jax.tree.map(lambda own: self._rows if own else P(), differs)
        shardings = jax.tree.map(lambda spec: NamedSharding(self._mesh, spec), specs)
        self._compiled = jax.jit(
            self._on_workers(
                functools.partial(self._turn, differs), (specs, self._rows), (specs, P())
            ),
            donate_argnums=0,
            out_shardings=(shardings, NamedSharding(self._mesh, P())),
        )

        def start(params: Any) -> Trained:
            return self._stacked(differs, Trained(params, self._tx.init(params)))

        return jax.jit(self._on_workers(start, P(), specs), out_shardings=shardings)(params)

    def place(self, batch: Any) -> Any:
        """Makes arrays over all workers of what this process has for its own ones.

        Args:
          batch: tree of arrays, leading axis: examples of this process, its workers' in order.

        Returns:
          Tree of arrays whose leading axis is sharded over the workers.
        """
        sharding = NamedSharding(self._mesh, self._rows)
        place = functools.partial(jax.make_array_from_process_local_data, sharding)
        return jax.tree.map(lambda leaf: place(np.asarray(leaf)), batch)

    def step(self, trained: Trained, batch: Any) -> tuple[Trained, jax.Array]:
        """One step of every worker.

        Args:
          trained: taken over; go on with what is returned.
          batch: as `place` makes it; every worker's loss sees its own rows.

        Returns:
          (trained, mean of the losses).

        Raises:
          ValueError: before `init`.
        """
        if self._compiled is None:
            raise ValueError(
                "data_parallel: call init(params) first, also before a checkpoint is read"
            )
        return self._compiled(trained, batch)

    def params(self, trained: Trained) -> Any:
        """Parameters that all workers agree upon: with `local_steps` those of the last exchange.

        Raises:
          ValueError: workers that train apart agree upon nothing; see `trained.params`.
        """
        if self._differs is None or not any(jax.tree.leaves(self._differs.params)):
            return trained.params
        one = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), trained.params
        )
        return sync(one, trained.opt_state)

    def differs(self, params: Any) -> Trained:
        """Which leaves differ between workers: read off the types that a step gives them.

        Args:
          params: tree of arrays, or of their shapes.

        Returns:
          `Trained` of bools.

        Raises:
          ValueError: workers would drift apart, see `data_parallel`.
        """
        example = jax.eval_shape(lambda p: Trained(p, self._tx.init(p)), params)
        # Every worker keeps its own accounts, even where all send alike.
        differs = jax.tree.map(
            lambda node: jax.tree.map(lambda _: isinstance(node, Ledger), node),
            example,
            is_leaf=lambda node: isinstance(node, Ledger),
        )
        known = None
        while differs != known:
            # What differs makes other things differ at the next step.
            known = differs
            differs = jax.tree.map(lambda a, b: a or b, known, self._types_after(known, example))
        has_anchor = bool(tree.nodes(LocalStepsState, example.opt_state))
        if any(jax.tree.leaves(differs.params)) and not (self._apart or has_anchor):
            raise ValueError(
                f"tx: leaves every worker of the mesh axes {self._names} its own parameters; exchange "
                "gradients with compress.exchange(..., axis_name=...), or say apart=True"
            )
        return differs

    def _types_after(self, differs: Trained, example: Trained) -> Trained:
        seen: list[Trained] = []

        def look(held: Trained) -> jax.Array:
            held = jax.tree.map(lambda own, leaf: self._own(leaf) if own else leaf, differs, held)
            # Of the gradients no more matters here than that they differ.
            updates, state = self._tx.update(self._own(held.params), held.opt_state, held.params)
            after = Trained(optax.apply_updates(held.params, updates), state)
            seen.append(jax.tree.map(lambda leaf: bool(varying.axes_of(leaf)), after))
            return jnp.zeros(())

        jax.eval_shape(self._on_workers(look, P(), P()), example)
        return seen[-1]

    def _turn(self, differs: Trained, held: Trained, batch: Any) -> tuple[Trained, jax.Array]:
        """One worker's step."""
        held = jax.tree.map(lambda own, leaf: leaf[0] if own else leaf, differs, held)
        value, gradients = jax.value_and_grad(self._loss)(self._own(held.params), batch)
        updates, state = self._tx.update(gradients, held.opt_state, held.params)
        after = Trained(optax.apply_updates(held.params, updates), state)
        return self._stacked(differs, after), lax.pmean(value, self._names)

    def _own(self, values: Any) -> Any:
        return varying.over(frozenset(self._names), values)

    def _stacked(self, differs: Trained, values: Trained) -> Trained:
        return jax.tree.map(
            lambda own, leaf: self._own(leaf)[None] if own else leaf, differs, values
        )

    def _on_workers(self, function: Callable[..., Any], inputs: Any, outputs: Any) -> Any:
        return jax.shard_map(function, mesh=self._mesh, in_specs=inputs, out_specs=outputs)


def data_parallel(
    loss: Callable[[Any, Any], jax.Array],
    tx: optax.GradientTransformation,
    mesh: Mesh,
    *,
    axis_name: str | tuple[str, ...] = "workers",
    apart: bool = False,
) -> DataParallel:
    """A compiled training step in which every device is a worker with a batch of its own.

    Args:
      loss: (params, batch) -> scalar.
      tx: any optax chain, with `axis_name` given to those of its parts that exchange something
        (`compress.exchange`, `compress.local_steps`, `masks.*`).
      mesh: of `worker_mesh`, its axes of either kind.
      axis_name: of the mesh, one name or several.
      apart: whether workers may keep parameters of their own for ever, as in the rounds of P-GaP.

    Returns:
      `DataParallel`. Which leaves differ between workers is read off the types at `init`: with
      `exchange` residuals do and parameters do not; with `local_steps` parameters and moments do,
      the anchor does not.

    Raises:
      ValueError: at `init`, a transformation that exchanges nothing, so that workers would drift
        apart without a word.

    Example:
      >>> from sparsetrain import compress, runtime
      >>> mesh = runtime.worker_mesh(jax.devices()[:1])
      >>> tx = optax.chain(compress.exchange(compress.top_k(0.5), axis_name="workers"), optax.sgd(1.0))
      >>> run = runtime.data_parallel(lambda w, x: jnp.mean(x @ w), tx, mesh)
      >>> trained, _ = run.step(run.init(jnp.zeros(2)), run.place(jnp.array([[3.0, 1.0]])))
      >>> run.params(trained).tolist()
      [-3.0, 0.0]
    """
    names = axis_name if isinstance(axis_name, tuple) else (axis_name,)
    return DataParallel(loss, tx, mesh, names, apart=apart)
