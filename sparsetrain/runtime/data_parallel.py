"""A training step on many workers: what differs between them lies apart, what does not is held once.

        g_i = grad loss(w, batch_i),    updates, state_i = tx(g_i, state_i, w),    w <- w + updates

Under `shard_map` the gradient of replicated parameters arrives summed over the workers. A compressor would
see the sum, and every worker would remember what all have left out; so the parameters are cast to varying
before they are differentiated, and each worker's gradient is its own.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from sparsetrain import varying
from sparsetrain.compress.local_steps import sync
from sparsetrain.runtime.trained import Trained, which_differ


class DataParallel:
    """What `data_parallel` returns: `init`, `place`, `step`, `params`, `between_steps`."""

    def __init__(
        self,
        loss: Callable[..., Any],
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

    @property
    def names(self) -> tuple[str, ...]:
        """Mesh axes along which workers stand."""
        return self._names

    def init(self, params: Any, variables: Any = ()) -> Trained:
        """Parameters on all devices, and the optimizer's first state.

        Args:
          params: tree of arrays, the same in all processes.
          variables: other collections that the loss takes and returns, the same in all processes.

        Returns:
          `Trained`; a checkpoint is restored into the like of it.

        Raises:
          ValueError: workers would drift apart, see `data_parallel`.
        """
        params, variables = jax.tree.map(np.asarray, (params, variables))
        own = jax.tree.map(lambda _: True, variables)
        self._differs = differs = self.differs(params)._replace(variables=own)
        specs, shardings = self._layout(differs)
        self._compiled = jax.jit(
            self._on_workers(
                functools.partial(self._turn, differs), (specs, self._rows), (specs, P())
            ),
            donate_argnums=0,
            out_shardings=(shardings, NamedSharding(self._mesh, P())),
        )

        def start(params: Any, variables: Any) -> Trained:
            return self._stacked(differs, Trained(params, self._tx.init(params), variables))

        started = jax.jit(self._on_workers(start, P(), specs), out_shardings=shardings)
        return started(params, variables)

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

    def between_steps(self, function: Callable[[Trained], Trained]) -> Callable[[Trained], Trained]:
        """Compiles what workers do together now and then, such as at the end of a round.

        Args:
          function: what one worker has, without the leading axis, -> the like of it; it may use
            collectives over `names`.

        Returns:
          A function of `Trained` as `step` takes and returns it; what it is given is taken over.

        Raises:
          ValueError: before `init`.
        """
        if (differs := self._differs) is None:
            raise ValueError("data_parallel: call init(params) first; it says what workers share")
        specs, shardings = self._layout(differs)

        def turn(held: Trained) -> Trained:
            return self._stacked(differs, function(self._unstacked(differs, held)))

        mapped = self._on_workers(turn, (specs,), specs)
        return jax.jit(mapped, donate_argnums=0, out_shardings=shardings)

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
        """Which leaves differ between workers, see `which_differ`."""
        return which_differ(self._tx, params, self._mesh, self._names, apart=self._apart)

    def _turn(self, differs: Trained, held: Trained, batch: Any) -> tuple[Trained, jax.Array]:
        """One worker's step."""
        held = self._unstacked(differs, held)
        given = (batch,) if held.variables == () else (held.variables, batch)
        of_params = jax.value_and_grad(self._loss, has_aux=len(given) == 2)
        value, gradients = of_params(self._own(held.params), *given)
        value, variables = value if len(given) == 2 else (value, ())
        updates, state = self._tx.update(gradients, held.opt_state, held.params)
        after = Trained(optax.apply_updates(held.params, updates), state, variables)
        return self._stacked(differs, after), lax.pmean(value, self._names)

    def _own(self, values: Any) -> Any:
        return varying.over(frozenset(self._names), values)

    def _stacked(self, differs: Trained, values: Trained) -> Trained:
        return jax.tree.map(
            lambda own, leaf: self._own(leaf)[None] if own else leaf, differs, values
        )

    def _unstacked(self, differs: Trained, held: Trained) -> Trained:
        return jax.tree.map(lambda own, leaf: leaf[0] if own else leaf, differs, held)

    def _layout(self, differs: Trained) -> tuple[Any, Any]:
        """Specs, and shardings, of what differs and what does not."""
        specs = jax.tree.map(lambda own: self._rows if own else P(), differs)
        return specs, jax.tree.map(lambda spec: NamedSharding(self._mesh, spec), specs)

    def _on_workers(self, function: Callable[..., Any], inputs: Any, outputs: Any) -> Any:
        return jax.shard_map(function, mesh=self._mesh, in_specs=inputs, out_specs=outputs)


def data_parallel(
    loss: Callable[..., Any],
    tx: optax.GradientTransformation,
    mesh: Mesh,
    *,
    axis_name: str | tuple[str, ...] = "workers",
    apart: bool = False,
) -> DataParallel:
    """A compiled training step in which every device is a worker with a batch of its own.

    Args:
      loss: (params, batch) -> scalar; where `init` is given variables, such as batch statistics,
        (params, variables, batch) -> (scalar, variables).
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
      >>> import jax.numpy as jnp
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
