"""The path of a training run through parameter space, kept as it goes."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxopt_tut.probes import Probe, Snapshot
from jaxopt_tut.splitting import split_model
from jaxopt_tut.types import DTypeLike, Params


def record_trajectory(*, dtype: DTypeLike | None = None) -> Probe:
    r"""Keep the trained arrays at each measurement, as a probe of `fit`.

    $$(\theta_0, \theta_k, \theta_{2 k}, \dots, \theta_T)$$

    With `probe_every=k`. `pca_plane` takes what it leaves in `history.probes`: a tree like the
    parameters (of a model that of its trained arrays) with an axis of measurements before those of
    every leaf. Costs a copy of the parameters each time, on the device until the epoch ends, then
    on the host.

    Args:
      dtype: The precision in which floating arrays are kept, such as `jnp.bfloat16`; by default
        their own. Complex ones keep theirs.

    Returns:
      A probe for `fit(..., probes={"path": record_trajectory()}, probe_every=10)`.

    Raises:
      ValueError: If `dtype` is not a floating one.

    Example:
      >>> import optax
      >>> from jaxopt_tut.training import fit
      >>> loss_fn = lambda w, batch: jnp.sum((w - batch) ** 2) / 2
      >>> result = fit(loss_fn, jnp.zeros(2), optax.sgd(0.5), jnp.ones((4, 2)), batch_size=1,
      ...              num_epochs=1, key=jax.random.key(0), progress=False,
      ...              probes={"path": record_trajectory()}, probe_every=2)
      >>> print(result.history.probe_steps, result.history.probes["path"][:, 0])
      [0 2 4] [0.     0.75   0.9375]
    """
    if dtype is not None and not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"record_trajectory needs a floating dtype, got dtype={dtype!r}.")

    def measure(state: None, now: Snapshot) -> tuple[None, Params]:
        trained = split_model(now.params, "record_trajectory", hashed=False).trained
        return state, jax.tree.map(lambda leaf: _kept(jnp.asarray(leaf), dtype), trained)

    return Probe(lambda _: None, measure)


def _kept(leaf: Array, dtype: DTypeLike | None) -> Array:
    is_cast = dtype is not None and jnp.issubdtype(leaf.dtype, jnp.floating)
    return leaf.astype(dtype) if is_cast else leaf
