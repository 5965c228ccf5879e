"""Deep Gradient Compression (DGC): sampled top-k, momentum correction, local clipping."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from sparsetrain import numerics, selection, varying
from sparsetrain.compress import entries
from sparsetrain.compress.compressor import LeafCompressor
from sparsetrain.compress.density import Density, ScheduledDensity, capacity, check, count_at
from sparsetrain.compress.momentum import momentum_correction
from sparsetrain.compress.top_k import code_parameter
from sparsetrain.compress.transform import exchange
from sparsetrain.payload import Dense, Payload, Sparse


@dataclasses.dataclass(frozen=True, eq=False)
class SampledTopK(LeafCompressor):
    """See `sampled_top_k`."""

    density: Density
    sample: float = 0.01
    lower: float = 0.8
    upper: float = 1.3
    adaptations: int = 10
    resample: bool = True
    key: Any = None

    def compress_leaf(
        self, u: jax.Array, state: Any, step: jax.Array, key: Any
    ) -> tuple[Payload, Any]:
        if u.ndim < 2:
            return Dense(u), state
        flat = u.reshape(-1)
        slots = capacity(self.density, flat.size)
        k = count_at(self.density, flat.size, step)
        stride = self._stride(flat.size, u.shape[-1])
        if stride == 1:
            kept = entries.largest(flat, slots, k)
        else:
            kept = self._sampled(flat, slots, k, stride, step, key)
        b = code_parameter(self.density, slots, flat.size)
        return Sparse(kept.indices, kept.used, u.shape, b, values=kept.values), state

    def _stride(self, size: int, columns: int) -> int:
        """One entry in how many is looked at; 1 where the tensor is too small for a sample."""
        largest = self.density
        if isinstance(largest, ScheduledDensity):
            largest = largest.largest
        wished = max(math.ceil(self.sample * size), math.ceil(2 / largest))
        stride = max(1, size // wished)
        # Coprime to the rows' length, or the sample would be of a few columns only.
        while math.gcd(stride, columns) > 1:
            stride -= 1
        return stride

    def _sampled(
        self,
        flat: jax.Array,
        slots: int,
        k: int | jax.Array,
        stride: int,
        step: jax.Array,
        key: Any,
    ) -> entries.Entries:
        rows = flat.size // stride
        offset = 0 if key is None else jax.random.randint(key, (), 0, stride, jnp.int32)
        grid = flat[: rows * stride].reshape(rows, stride)
        seen = lax.dynamic_index_in_dim(grid, offset, axis=1, keepdims=False)
        first = selection.kth_magnitude(seen, count_at(self.density, rows, step))
        threshold, count = self._adapted(flat, first, k)
        room = min(flat.size, max(slots, math.ceil(self.upper * slots)))

        def among_candidates() -> entries.Entries:
            mask = (jnp.abs(flat) >= threshold) & (flat != 0)
            found = entries.where(flat, mask, room)
            if room == slots:
                return found
            # The k largest, where the reference takes the k first.
            best = entries.largest(found.values, slots, jnp.minimum(found.used, k))
            at = jnp.minimum(best.indices, room - 1)
            return entries.rising(flat, found.indices[at], jnp.arange(slots) < best.used)

        return varying.cond(
            count <= room, among_candidates, lambda: entries.largest(flat, slots, k)
        )

    def _adapted(
        self, flat: jax.Array, threshold: jax.Array, k: int | jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """A threshold that between `lower` k and `upper` k entries reach, and how many do."""

        def count_of(threshold: jax.Array) -> jax.Array:
            mask = (jnp.abs(flat) >= threshold) & (flat != 0)
            return jnp.sum(mask, dtype=jnp.int32)

        def goes_on(state: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
            threshold, count, turn = state
            is_few = (count < self.lower * k) & (threshold > 0)
            is_many = (count > self.upper * k) & (not self.resample)
            return (is_few | is_many) & (turn < self.adaptations)

        def adapt(
            state: tuple[jax.Array, jax.Array, jax.Array],
        ) -> tuple[jax.Array, jax.Array, jax.Array]:
            threshold, count, turn = state
            threshold = threshold * jnp.where(count < k, self.lower, self.upper)
            return threshold, count_of(threshold), turn + 1

        start = (threshold, count_of(threshold), jnp.int32(0))
        threshold, count, _ = varying.while_loop(goes_on, adapt, start)
        return threshold, count


def sampled_top_k(
    density: Density,
    *,
    sample: float = 0.01,
    lower: float = 0.8,
    upper: float = 1.3,
    adaptations: int = 10,
    resample: bool = True,
    key: Any = None,
) -> SampledTopK:
    """DGC's selection: about the k largest entries, by a threshold that a strided sample estimates.

        tau = quantile of |u| over every s-th entry,    c = #{|u| >= tau}
        c < lower k:  tau <- lower tau, again             c > upper k:  the exact k largest
        else:         the min(c, k) largest of the c

    Args:
      density: fraction sent, 0 < density <= 1; or `warm_up(...)`, `scheduled(...)`.
      sample: fraction of a tensor that is looked at; never fewer than 2 / density entries, and
        everything where the tensor is too small for that, which makes the selection exact.
      lower: how few entries will do, in multiples of k; also the factor that lowers tau.
      upper: how many candidates will do; also the factor that raises tau without `resample`.
      adaptations: how often tau is changed at most.
      resample: whether too many candidates are cut to the k largest at once; else tau is raised
        until they are few enough.
      key: a typed JAX key, for an offset of the sample that changes; None: the first entry.

    Returns:
      A compressor; needs error feedback. Biased. Not all-reducible: workers send different
      positions. Tensors with fewer than two dimensions are sent whole, as `Dense`.

    Raises:
      ValueError: an argument out of range.

    Differs from the reference code:
      1. More than k candidates are cut to the k largest. There, between k and 1.3 k, they are cut
         to the first k by position, so that the end of a tensor is sent less often than its
         beginning, however large its entries: a bias that no sample removes.
      2. k = max(1, round(density * n)) as everywhere here, and not rounded up.
      3. If tau is still too low after all adaptations, the exact k largest are sent, not the first.

    Reference: Lin et al., Deep Gradient Compression (arXiv 1712.01887).

    Example:
      >>> compressor = sampled_top_k(density=0.5)
      >>> u = jnp.array([[1.0, -3.0], [2.0, 0.0]])
      >>> compressor.compress(u, compressor.init(u))[0].to_dense().tolist()
      [[0.0, -3.0], [2.0, 0.0]]
    """
    check(density)
    numerics.check_density(sample, "sample")
    if not 0.0 < lower < 1.0:
        raise ValueError(f"lower={lower}: must lie in (0, 1), a share of k such as 0.8")
    if not upper > 1.0:
        raise ValueError(f"upper={upper}: must exceed 1, a multiple of k such as 1.3")
    if adaptations < 0:
        raise ValueError(f"adaptations={adaptations}: must not be negative")
    return SampledTopK(density, sample, lower, upper, adaptations, resample, key)


def deep_gradient(
    density: Density,
    momentum: float = 0.9,
    *,
    nesterov: bool = False,
    masking: bool = True,
    clip_norm: float | None = None,
    workers: int | None = None,
    axis_name: Any = None,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """DGC as a recipe: local clipping, momentum correction, sampled top-k.

        g <- g min(1, G / (sqrt(W) ||g||)),    u <- momentum u + g,    v <- v + u,    send from v

    Follow it with `optax.sgd(lr)` without momentum: the momentum is in what is sent.

    Args:
      density: fraction sent; `warm_up(0.25, 0.001, epochs=4, steps_per_epoch=...)` is the paper's.
      momentum: 0 <= momentum < 1.
      nesterov: whether to look ahead.
      masking: whether velocities are zeroed where an entry was just sent.
      clip_norm: G, the norm at which the sum of all workers' gradients would be clipped; None for
        no clipping. A worker clips its own, over all tensors, before it is accumulated.
      workers: W; None for the size of `axis_name`, 1 without one.
      axis_name: of the workers, or None for one.
      **options: as for `sampled_top_k`.

    Returns:
      `exchange(sampled_top_k(...), momentum_correction(...))`, behind the clipping if there is one.

    Raises:
      ValueError: an argument out of range.

    Reference: Lin et al., Deep Gradient Compression (arXiv 1712.01887).

    Example:
      >>> tx = optax.chain(deep_gradient(0.001, clip_norm=1.0), optax.sgd(0.1))
    """
    if clip_norm is not None and not clip_norm > 0:
        raise ValueError(f"clip_norm={clip_norm}: must be positive; None for no clipping")
    if workers is not None and workers < 1:
        raise ValueError(f"workers={workers}: must be at least 1")
    memory = momentum_correction(momentum, nesterov=nesterov, masking=masking)
    sending = exchange(sampled_top_k(density, **options), memory, axis_name=axis_name)
    if clip_norm is None:
        return sending

    def clipped(gradients: Any, params: Any) -> Any:
        del params
        size = workers
        if size is None:
            size = 1 if axis_name is None else lax.psum(1, axis_name)
        clip = optax.clip_by_global_norm(clip_norm / math.sqrt(size))
        return clip.update(gradients, clip.init(gradients))[0]

    return optax.chain(optax.stateless(clipped), sending)
