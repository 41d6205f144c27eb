"""Width transfer: which axes grow, what the maximal update parametrisation asks, and a check."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact
from typing_extensions import TypeAliasType

from jaxopt_tut import control_flow
from jaxopt_tut.blocks import shown
from jaxopt_tut.calibration.asking import require_form
from jaxopt_tut.calibration.network import require_concrete
from jaxopt_tut.calibration.roles import AxesByName, axis_roles, growth
from jaxopt_tut.loss_forms import LOSS, Bound, BoundLoss
from jaxopt_tut.losses import require_loss, value_part
from jaxopt_tut.optimizers.inner import require_optimizer, take_step
from jaxopt_tut.splitting import split_model
from jaxopt_tut.taps import record
from jaxopt_tut.taps.inner import leaf_name
from jaxopt_tut.trees import at_least_single, named_leaves, require_same_structure, split_arrays
from jaxopt_tut.types import Batch, LossFn, Optimizer, Params, PRNGKey, PyTree, Shape


def width_axes(
    make_params: Callable[[int], Params], widths: tuple[int, int]
) -> dict[str, tuple[int, ...]]:
    r"""Infer from two shapes which axes of each leaf grow with the width of a model.

    $$\mathrm{axes}(p) = \{a : s_a(p; n_1) \ne s_a(p; n_2)\}$$

    Nothing is computed: `make_params` is only traced. Choose two widths that no axis has by chance.

    Args:
      make_params: Builds the parameters of a given width.
      widths: Two different widths.

    Returns:
      For each leaf, by path, the axes that grow; none for those of fixed size.

    Raises:
      ValueError: If the widths are equal, or the two trees differ in more than sizes.

    Example:
      >>> from jaxopt_tut.models import mlp
      >>> axes = width_axes(lambda n: mlp.init(jax.random.key(0), (4, n, n, 2)), (8, 16))
      >>> axes["0/kernel"], axes["1/kernel"], axes["2/kernel"], axes["2/bias"]
      ((1,), (0, 1), (0,), ())
    """
    narrow, wide = _two_shapes("width_axes", make_params, widths)
    return {
        name: _grown(a.shape, b.shape)
        for (name, a), (_, b) in zip(named_leaves(narrow), named_leaves(wide), strict=True)
    }


@shown
class MupMultipliers(NamedTuple):
    """Factors in the structure of the parameters.

    Attributes:
      init: Of what a standard initializer (variance 1 / fan-in) draws at the new width.
      learning_rate: Of the learning rate that was found best at the base width.
    """

    init: PyTree
    learning_rate: PyTree


def mup_multipliers(
    make_params: Callable[[int], Params],
    base_width: int,
    width: int,
    *,
    optimizer: Literal["sgd", "momentum", "adam"] = "adam",
    in_axis: AxesByName = None,
    out_axis: AxesByName = None,
) -> MupMultipliers:
    r"""Return the factors that carry a learning rate from one width to another.

    With the growth $r = n / n_\text{base}$ of the fan-in and $s$ of the fan-out:

    | leaf | grows along | init | learning rate, SGD and momentum | Adam |
    |---|---|---|---|---|
    | hidden weights | both | 1 | $s / r$ | $1 / r$ |
    | output weights | fan-in | $r^{-1/2}$ | $1 / r$ | $1 / r$ |
    | input weights, biases, norms | fan-out | 1 | $s$ | 1 |
    | of fixed size | none | 1 | 1 | 1 |

    The init factor comes on top of weights drawn with variance 1 / fan-in. Multiply the updates of
    the optimizer by the other: `optax.chain(adam(lr), optax.stateless(lambda u, p: jax.tree.map(
    jnp.multiply, u, factors.learning_rate)))`. `coordinate_check` tells whether it worked.

    Which axes are inputs is read off the tree: a bias has the sizes of the outputs, and the
    projections of attention, (inputs, heads, head size) and (heads, head size, outputs), share two
    axes; else the last axis but one is summed over. Both ways to widen attention are known, by more
    heads and by larger ones. Larger ones ask for scores divided by the size of a head instead of
    its root (Yang, Hu, et al., definition 4.1): that is up to the model (in flax a query multiplied
    by `(base_size / size) ** 0.5` in an `attention_fn`), no factor here does it.

    Args:
      make_params: Builds the parameters of a given width.
      base_width: The width at which the learning rate was tuned.
      width: The width it is wanted for.
      optimizer: Which rule makes the updates.
      in_axis: The axis of a weight that is summed over, or several, where it cannot be read off:
        -1 for equinox without biases; by path, `{"*/q": 0, "*/o": (0, 1)}`, for some leaves alone.
      out_axis: The axis of a weight that counts units (equinox: -2), or several, alike.

    Returns:
      Two trees of floats in the structure of the parameters, with None where a leaf is no array.

    Raises:
      ValueError: If the widths are equal, the trees differ in more than sizes, it cannot be told
        whether an axis that grows is summed over, or the optimizer is not known.

    Example:
      >>> from jaxopt_tut.models import mlp
      >>> factors = mup_multipliers(lambda n: mlp.init(jax.random.key(0), (4, n, n, 2)), 64, 256)
      >>> [layer["kernel"] for layer in factors.learning_rate]
      [1.0, 0.25, 0.25]
      >>> [layer["kernel"] for layer in factors.init]
      [1.0, 1.0, 0.5]

    References:
      Yang, Hu, et al. (2022), table 3. https://arxiv.org/abs/2203.03466
    """
    if optimizer not in ("sgd", "momentum", "adam"):
        raise ValueError(
            f"mup_multipliers needs optimizer 'sgd', 'momentum' or 'adam', "
            f"got optimizer={optimizer!r}."
        )
    base, new = _two_shapes("mup_multipliers", make_params, (base_width, width))

    paths = [leaf_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(new)]
    pairs = zip(jax.tree.leaves(base), jax.tree.leaves(new), strict=True)
    dims = {
        path: tuple(zip(a.shape, b.shape, strict=True))
        for path, (a, b) in zip(paths, pairs, strict=True)
    }
    roles = axis_roles("mup_multipliers", dims, in_axis, out_axis)

    def factors(name: str) -> tuple[float, float]:
        fan_in, fan_out = (growth(dims[name], axes) for axes in roles[name])
        is_output = fan_in != 1 and fan_out == 1
        init = fan_in**-0.5 if is_output else 1.0
        return init, 1 / fan_in if optimizer == "adam" else fan_out / fan_in

    both = [factors(path) for path in paths]
    treedef = jax.tree.structure(new)
    return MupMultipliers(*(treedef.unflatten(list(one)) for one in zip(*both, strict=True)))


MakeRun = TypeAliasType("MakeRun", Callable[[int, PRNGKey], tuple[LossFn, Params, Optimizer]])
"""From a width and a key to a loss, a model and an optimizer."""


@shown
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class CoordinateCheck:
    """What `coordinate_check` measures.

    Attributes:
      changes: Root mean square of the change of each layer's pre-activations by training.
      slopes: Of each layer: the exponent with which the change grows with width.
      names: The layers; static.
      widths: The widths; static.
      ok: Whether no exponent is far from zero; static.
    """

    changes: Float[Array, "width layer"]
    slopes: Float[Array, " layer"]
    names: tuple[str, ...] = field(metadata={"static": True})
    widths: tuple[int, ...] = field(metadata={"static": True})
    ok: bool = field(metadata={"static": True})


def coordinate_check(
    make: MakeRun,
    widths: Sequence[int],
    batch: Batch,
    *,
    key: PRNGKey,
    steps: int = 3,
    tolerance: float = 0.25,
    num_seeds: int = 4,
) -> CoordinateCheck:
    r"""Check that a few steps change every layer by as much in a wide network as in a narrow one.

    $$\Delta_l(n) = \mathrm{rms}\bigl(z_l^{(t)} - z_l^{(0)}\bigr) \propto n^{s_l}, \qquad
      \text{ok} \iff \max_l |s_l| \le \text{tolerance}$$

    with the exponents $s_l$ from a least-squares fit in logarithms. In the standard
    parametrisation Adam makes hidden layers change with $s = 1/2$ to $1$; in the maximal update
    parametrisation all exponents are near zero, and a learning rate carries over. Costs `steps`
    steps of training for each width and seed.

    Args:
      make: `make(width, key)` returns a loss function, `loss_fn(params, batch)` or
        `(params, batch, key)` of one that draws, parameters or any model that `fit` takes, and an
        optimizer. What is no parameter is held fixed, such as running averages.
      widths: At least two, increasing; a factor of 8 between the ends tells exponents apart.
      batch: The data of all steps.
      key: Draws the parameters; each seed has its own key, the same for all widths. A loss that
        draws is handed another one at each step, and before and after training the same.
      steps: Steps of training.
      tolerance: Largest exponent taken for zero.
      num_seeds: Runs over which squared changes are averaged.

    Returns:
      Changes, exponents and the verdict.

    Raises:
      TypeError: If it is called inside a transformation such as `jit`: it decides by what it
        measures. If the loss cannot be called so, or the optimizer is none.
      ValueError: If there are fewer than two widths, they do not increase, the networks differ in
        their layers, the loss is no real scalar, or `steps` is not positive.

    Example:
      >>> import optax
      >>> from jaxopt_tut.models import mlp
      >>> def make(width, key):
      ...     def loss_fn(params, x):
      ...         return jnp.mean((mlp.apply(params, x, jnp.tanh) - 1) ** 2)
      ...     return loss_fn, mlp.init(key, (4, width, width, 2)), optax.sign_sgd(1e-2)
      >>> x = jax.random.normal(jax.random.key(0), (16, 4))
      >>> check = coordinate_check(make, (32, 128, 512), x, key=jax.random.key(1), num_seeds=1)
      >>> check.ok, bool(check.slopes[1] > 0.4)
      (False, True)

    References:
      Yang, Hu, et al. (2022), appendix D.1. https://arxiv.org/abs/2203.03466
    """
    require_concrete("coordinate_check", key, batch)
    widths = tuple(widths)
    if len(widths) < 2 or any(b <= a for a, b in pairwise(widths)):
        raise ValueError(
            f"coordinate_check needs at least two increasing widths, got widths={widths}."
        )
    if steps < 1 or num_seeds < 1:
        raise ValueError(
            "coordinate_check needs steps >= 1 and num_seeds >= 1, "
            f"got steps={steps} and num_seeds={num_seeds}."
        )
    names: tuple[str, ...] = ()
    squares = []
    for width in widths:
        found = [
            _changes(make, width, one, batch, steps) for one in jax.random.split(key, num_seeds)
        ]
        here = tuple(found[0])
        if names and here != names:
            raise ValueError(
                f"coordinate_check needs the same layers at all widths, got {names} at width "
                f"{widths[0]} and {here} at width {width}."
            )
        names = here
        squares.append(np.mean([[one[name] for name in names] for one in found], axis=0))
    changes = np.sqrt(np.array(squares))
    x = np.log(widths) - np.mean(np.log(widths))
    is_moved = (changes > 0).all(axis=0)
    logs = np.log(np.where(is_moved, changes, 1))
    slopes = np.where(is_moved, x @ logs / (x @ x), np.nan)
    ok = bool(is_moved.all() and np.isfinite(slopes).all() and np.abs(slopes).max() <= tolerance)
    return CoordinateCheck(jnp.asarray(changes), jnp.asarray(slopes), names, widths, ok)


def _changes(make: MakeRun, width: int, key: PRNGKey, batch: Batch, steps: int) -> dict[str, float]:
    """Train for a few steps; return the mean squared change of each layer."""
    caller = "coordinate_check"
    loss_fn, model, optimizer = make(width, key)
    require_optimizer(caller, optimizer)
    form = require_form(caller, loss_fn, has_model_state=False)
    loss_key = jax.random.fold_in(key, LOSS) if form.takes_key else None
    # the optimizer is handed what it is in `fit`, the trained arrays, whatever the model is
    params, carried, assembly = split_model(model, caller, hashed=False)
    bound = Bound(BoundLoss(loss_fn, form, assembly), params, (batch, carried, loss_key, None))

    def value(params, given):
        returned = bound.loss_fn(params, given)
        require_loss(caller, returned)
        return value_part(returned)

    @jax.jit
    def run(params):
        def follow(carry, step):
            loss = partial(value, given=bound.on(batch, step))
            after = take_step(caller, optimizer, loss, *carry)
            return (after.params, after.state), None

        start = params, optimizer.init(params)
        trained, _ = control_flow.scan(follow, start, jnp.arange(steps))[0]
        # the same draws before and after: what changes is what was trained
        loss = partial(value, given=bound.batch)
        look = record(loss, lambda site: site.kind == "pre_activation")
        before, after = look(params)[1], look(trained)[1]
        return jax.tree.map(_mean_square_change, before, after)

    return {name: float(value) for name, value in run(params).items()}


def _mean_square_change(
    before: Inexact[Array, "..."], after: Inexact[Array, "..."]
) -> Float[Array, ""]:
    return jnp.mean(jnp.abs(at_least_single(after) - at_least_single(before)) ** 2)


def _two_shapes(
    caller: str, make_params: Callable[[int], Params], widths: tuple[int, int]
) -> list[PyTree]:
    """Trace the parameters of two widths; they differ in sizes alone."""
    first, second = widths
    if first == second:
        raise ValueError(f"{caller} needs two different widths, got {first} twice.")

    def arrays(width: int) -> PyTree:
        leaves, rebuild = split_arrays(make_params(width))
        return rebuild.alone(leaves)

    shapes = [jax.eval_shape(lambda width=width: arrays(width)) for width in widths]
    ranks = [jax.tree.map(lambda leaf: np.zeros((0,) * len(leaf.shape)), one) for one in shapes]
    require_same_structure(ranks[0], ranks[1], caller)
    return shapes


def _grown(narrow: Shape, wide: Shape) -> tuple[int, ...]:
    return tuple(
        axis for axis, sizes in enumerate(zip(narrow, wide, strict=True)) if len(set(sizes)) > 1
    )
