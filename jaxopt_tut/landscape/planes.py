"""Planes in parameter space: through paths that were taken, or through three models."""

import functools
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from typing_extensions import TypeAliasType

from jaxopt_tut.blocks import Block, brief, shown
from jaxopt_tut.hyperparameters import require_real
from jaxopt_tut.landscape.points import at_least_two
from jaxopt_tut.landscape.rows import Rows, flat_point, read_trajectories, split_point
from jaxopt_tut.trees import at_least_single, require_same_structure
from jaxopt_tut.types import Number, Params, PyTree, Scalar
from jaxopt_tut.vectors import Vector, magnitude, matmul, norm, ravel, safe_ratio

Pair = TypeAliasType("Pair", Float[Array, "2"])
"""Two numbers."""

Origin = TypeAliasType("Origin", Literal["mean", "start", "end"] | PyTree)
"""A point by what it is of the trajectories, or as parameters."""


@shown
class PlanePath(NamedTuple):
    """A trajectory seen from a plane."""

    coords: Float[Array, "points 2"]
    """Of the foot of each point, along both directions from the origin."""
    distance: Float[Array, "points"]
    """Of each point from the plane; NaN of a point that is not finite, as its coordinates."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class PcaPlane(Block):
    """A plane in parameter space, and what lies about it.

    Attributes:
      origin: Parameters, or a model of the kind that came.
      directions: Orthonormal, as trees of trained arrays; zeros where the points have none.
      explained: The share of each direction in the squared distances of the points from the origin.
      paths: Each trajectory by name; of a single one the name is `"path"`.
    """

    origin: PyTree
    directions: tuple[Params, Params]
    explained: Float[Array, "*runs 2"]
    paths: dict[str, PlanePath]

    def _block(self) -> tuple[str, list[tuple[str, str]]]:
        rows = [("explained", brief(self.explained))]
        for name, path in self.paths.items():
            rows.append((str(name), f"distance {brief(path.distance)}"))
        return "PcaPlane", rows

    @property
    def rows(self) -> Float[Array, "2 size"]:
        """The directions as flat vectors."""
        return jnp.stack([ravel(one)[0] for one in self.directions])

    def at(self, coords: Float[Array, "2"]) -> PyTree:
        """Return the point of the plane with these coordinates, of the kind of the origin.

        Args:
          coords: Two real numbers; more points are `jax.vmap(plane.at)(coords)`.

        Returns:
          Parameters, or a model.

        Raises:
          ValueError: If these are not two real numbers.
        """
        pair = coords if isinstance(coords, jax.Array) else np.asarray(coords)
        if pair.shape != (2,) or pair.dtype.kind not in "fiu":
            raise ValueError(
                f"PcaPlane.at needs two real numbers as coords, got {pair.dtype}{list(pair.shape)}."
            )
        trained, build = split_point("PcaPlane.at", self.origin)
        flat, unravel = ravel(trained)
        return build(unravel(flat + matmul(jnp.asarray(pair, flat.dtype), self.rows)))

    def grid(self, num_points: int = 25, *, margin: Number = 0.15) -> tuple[Array, Array]:
        """Return coordinates along both directions that cover all paths.

        Args:
          num_points: How many along each.
          margin: How far beyond the paths they reach, in parts of the extent.

        Returns:
          Two vectors, as `slice_2d` takes them.

        Raises:
          ValueError: If `num_points` is no whole number, or below 2.
          TypeError: If `margin` is no real number.
        """
        caller = "PcaPlane.grid"
        count = at_least_two(caller, num_points)
        require_real(caller, margin=margin)
        points = jnp.concatenate([path.coords for path in self.paths.values()])
        is_known = jnp.isfinite(points)
        low = jnp.min(points, axis=0, initial=jnp.inf, where=is_known)
        high = jnp.max(points, axis=0, initial=-jnp.inf, where=is_known)
        middle = jnp.where(high >= low, (low + high) / 2, 0)
        half = jnp.where(high >= low, (high - low) / 2, 0)
        half = jnp.where(
            half > 0, half, jnp.max(half)
        )  # as wide as the other, for points on a line
        reach = (1 + jnp.asarray(margin, half.dtype)) * jnp.where(half > 0, half, 1)
        first, second = jnp.linspace(middle - reach, middle + reach, count, axis=1)
        return first, second


def pca_plane(trajectory: PyTree, *, origin: Origin | None = None, like: PyTree = None) -> PcaPlane:
    r"""Lay the plane through an origin that is nearest to the points of one or more trajectories.

    $$\max_{d_1 \perp d_2,\, |d_i| = 1} \sum_{p, i} \langle w_p - o, d_i \rangle^2, \qquad
    \mathrm{explained}_i
    = \frac{\sum_p \langle w_p - o, d_i \rangle^2}{\sum_p |w_p - o|^2}, \qquad
    \mathrm{distance}_p = \Big| w_p - o - \sum_i \langle w_p - o, d_i \rangle\, d_i \Big|$$

    These are principal components of the points around the origin $o$. A share of .98 does not say
    that the plane shows what an optimizer met: the rest is where losses differ, so look at the
    distances, and at the loss of `plane.at(coords)` beside that of the point. Draw the loss with
    `slice_2d(loss_fn, plane.origin, plane.directions, *batches, coords=plane.grid())`.

    The second direction is sought after the first was taken out of the points, so that it is right
    down to rounding. Points that are not finite are left out. Of each direction that sign is taken
    for which the farthest point has a positive coordinate. Costs two products of all points with
    one another and the memory of three copies of them.

    Args:
      trajectory: A tree like the parameters whose leaves have a leading axis of points, as
        `record_trajectory` and `descend` keep them; a list of parameters or models; or a mapping of
        these by name. A mapping of alike values counts as trajectories by name, a list of alike
        items as points: with `like`, what has the form of the parameters is one trajectory.
      origin: Parameters, or `"mean"` of all points, or the `"start"` or `"end"` of the trajectories
        (their mean where these differ); by default the end of one, the mean of several.
      like: A model, whose trained arrays are the points: the origin then is one of its kind.

    Returns:
      The plane, with coordinates and distances of all points. A direction that the points do not
      have, since they lie on a line or in one place, is zero, and so is what it explains.

    Raises:
      TypeError: If a leaf is neither floating nor complex.
      ValueError: If a trajectory has one point, trees differ, or the origin is none of these.

    Example:
      >>> steps = jnp.array([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.1], [0.0, 0.0, 0.0]])
      >>> plane = pca_plane(steps)
      >>> print(plane.rows)
      [[1. 0. 0.]
       [0. 1. 0.]]
      >>> print(plane.paths["path"].distance, [f"{share:.3f}" for share in plane.explained])
      [0.  0.  0.1 0. ] ['0.798', '0.200']

    References:
      Li, Xu, Taylor, Studer, Goldstein (2018), "Visualizing the loss landscape of neural nets",
      section 7, who take the differences to the end (and their code the components around the mean
      of these). https://arxiv.org/abs/1712.09913
    """
    caller = "pca_plane"
    rows, trained, build = read_trajectories(caller, trajectory, like)
    if origin is None:
        origin = "end" if len(rows) == 1 else "mean"
    place = None if isinstance(origin, str) else flat_point(caller, origin, trained)
    if place is None and origin not in ("mean", "start", "end"):
        raise ValueError(
            f"{caller} needs origin='mean', 'start', 'end' or parameters, got origin={origin!r}."
        )
    where = origin if place is None else ""
    base, start, directions = _nearest(list(rows.values()), trained, place, where=where)
    return _seen_from(build(base), start, directions, rows, trained)


def project(plane: PcaPlane, params: PyTree) -> tuple[Pair, Scalar]:
    r"""Return where on a plane the foot of a point lies, and how far the point is from there.

    $$c_i = \langle w - o, d_i \rangle, \qquad \Big| w - o - \sum_i c_i d_i \Big|$$

    Args:
      plane: A plane.
      params: Parameters like its origin, a model, or a flat vector.

    Returns:
      Both coordinates and the distance.

    Raises:
      TypeError: If a leaf is neither floating nor complex.
      ValueError: If the trees differ.

    Example:
      >>> corners = jnp.zeros(3), jnp.array([2.0, 0.0, 0.0]), jnp.array([1.0, 1.0, 0.0])
      >>> coords, distance = project(plane_through(*corners), jnp.array([3.0, 4.0, 5.0]))
      >>> print(coords, distance)
      [3. 4.] 5.0
    """
    trained, _ = split_point("project", plane.origin)
    point = flat_point("project", params, trained)
    path = _look(ravel(trained)[0], plane.rows, point[None])
    return path.coords[0], path.distance[0]


def plane_through(a: PyTree, b: PyTree, c: PyTree) -> PcaPlane:
    r"""Lay the plane through three points, say three trained networks.

    $$o = a, \qquad d_1 \propto b - a, \qquad
    d_2 \propto (c - a) - \langle c - a, d_1 \rangle\, d_1$$

    Args:
      a: Parameters or a model, the origin.
      b: Another of the same kind, on the first axis.
      c: A third.

    Returns:
      The plane, with a path of one point for each: `"a"`, `"b"` and `"c"`. A direction that they do
      not have, since they lie on a line, is zero.

    Raises:
      TypeError: If a leaf is neither floating nor complex.
      ValueError: If the trees differ; the message names the key path.

    Example:
      >>> plane = plane_through(jnp.zeros(3), jnp.array([2.0, 0, 0]), jnp.array([1.0, 0, 3.0]))
      >>> print(plane.paths["c"].coords)
      [[1. 3.]]

    References:
      Garipov, Izmailov, Podoprikhin, Vetrov, Wilson (2018), "Loss surfaces, mode connectivity, and
      fast ensembling of DNNs", appendix A.1. https://arxiv.org/abs/1802.10026
    """
    caller = "plane_through"
    trained, build = split_point(caller, a)
    points = {"a": ravel(trained)[0]}
    for name, point in {"b": b, "c": c}.items():
        other, _ = split_point(caller, point)
        require_same_structure(trained, other, caller)
        points[name] = ravel(other)[0].astype(points["a"].dtype)
    start = points["a"]
    floor = _rounding(jnp.stack(list(points.values())))
    to_b, to_c = points["b"] - start, points["c"] - start
    first = _unit(to_b, floor)
    # what is rounded in b turns the first axis, and stands out at c as far as c is
    farther = safe_ratio(norm(to_c), norm(to_b), where=norm(to_b) > floor)
    second = _unit(_besides(first, to_c), floor * jnp.maximum(1, farther))
    rows = {name: point[None] for name, point in points.items()}
    return _seen_from(build(trained), start, jnp.stack([first, second]), rows, trained)


# in one program: point by point on the host it would be forty
@functools.partial(jax.jit, static_argnames="where")
def _nearest(
    rows: list[Float[Array, "_ size"]], like: Params, place: Vector | None, *, where: str
) -> tuple[Params, Vector, Float[Array, "2 size"]]:
    """Return a place or the point that is named, as tree and flat, and two directions from it."""
    _, unravel = ravel(like)
    base = unravel(_origin(where, rows) if place is None else place)
    start = ravel(base)[0]  # as rounded to the dtypes of the parameters
    points = jnp.concatenate(rows)
    is_finite = jnp.isfinite(points).all(axis=1, keepdims=True)
    points = jnp.where(is_finite, points, start)
    return base, start, _principal(points - start, _rounding(points))


def _seen_from(
    origin: PyTree,
    start: Vector,
    directions: Float[Array, "2 size"],
    rows: dict[str, Rows],
    like: Params,
) -> PcaPlane:
    """Make the plane, with its paths and what it explains of them."""
    paths, explained, pair = _looked_at(start, directions, list(rows.values()), like)
    return PcaPlane(origin, pair, explained, dict(zip(rows, paths, strict=True)))


@jax.jit
def _looked_at(
    start: Vector,
    directions: Float[Array, "2 size"],
    rows: list[Float[Array, "_ size"]],
    like: Params,
) -> tuple[list[PlanePath], Pair, tuple[Params, Params]]:
    """Return the paths, what the directions explain of them, and these as trees."""
    paths = [_look(start, directions, points) for points in rows]
    parts = [jnp.concatenate([path.coords, path.distance[:, None]], axis=1) for path in paths]
    parts = jnp.concatenate(parts)
    parts = jnp.where(jnp.isfinite(parts), parts, 0)
    squared = jnp.sum((parts / magnitude(parts)) ** 2, axis=0)
    # trees of the directions in at least single precision, whose lengths are 1
    _, unravel = ravel(jax.tree.map(at_least_single, like))
    first, second = map(unravel, directions)
    return paths, safe_ratio(squared[:2], jnp.sum(squared)), (first, second)


def _look(start: Vector, directions: Float[Array, "2 size"], points: Rows) -> PlanePath:
    """Return the coordinates of points, and their distances, NaN where a point is not finite."""
    from_start = points - start
    is_finite = jnp.isfinite(from_start).all(axis=1)
    from_start = jnp.where(is_finite[:, None], from_start, 0)
    coords = matmul(from_start, directions.T)
    # of what is left, for the difference of two squares has half the digits
    distance = jax.vmap(norm)(from_start - matmul(coords, directions))
    return PlanePath(
        jnp.where(is_finite[:, None], coords, jnp.nan), jnp.where(is_finite, distance, jnp.nan)
    )


def _origin(where: str, rows: list[Float[Array, "_ size"]]) -> Vector:
    """Return the point that is named, over the finite ones."""
    if where == "mean":
        return _mean(jnp.concatenate(rows))
    backwards = -1 if where == "end" else 1
    ends = []
    for points in rows:
        points = points[::backwards]
        ends.append(points[jnp.argmax(jnp.isfinite(points).all(axis=1))])
    return _mean(jnp.stack(ends))


def _mean(points: Rows) -> Vector:
    is_finite = jnp.isfinite(points).all(axis=1, keepdims=True)
    count = jnp.maximum(jnp.sum(is_finite, dtype=points.dtype), 1)
    return jnp.sum(jnp.where(is_finite, points / count, 0), axis=0)


def _rounding(points: Rows) -> Scalar:
    """Return how long a direction may be that rounding leaves of points on a line.

    An eps of the farthest point for each is a bound: it is rounded itself, in the differences, and
    in sums over the points. Measured was a third of it at most, on lines of 2 to 1000 points in 2
    to 100,000 dimensions, in both precisions.
    """
    return len(points) * jnp.finfo(points.dtype).eps * jnp.max(jax.vmap(norm)(points))


def _principal(rows: Rows, floor: Scalar) -> Float[Array, "2 size"]:
    """Return two orthonormal directions along which rows reach farthest, zero below the floor."""
    first = _leading(rows, floor)
    # The Gram matrix squares lengths: a direction shorter than the first by the root of rounding
    # would be noise in it, unless the first is taken out of the rows before.
    second = _leading(_besides(first, rows), floor)
    return jnp.stack([first, _unit(_besides(first, second), jnp.zeros_like(floor))])


def _leading(rows: Rows, floor: Scalar) -> Vector:
    """Return the direction along which rows reach farthest, with a sign of its own."""
    unit = magnitude(rows)
    scaled = rows / unit
    if rows.shape[0] <= rows.shape[1]:
        direction = matmul(_top_vector(matmul(scaled, scaled.T)), scaled)
    else:
        direction = _top_vector(matmul(scaled.T, scaled))
        direction = norm(matmul(scaled, direction)) * direction  # as long as the rows reach
    direction = _unit(direction, floor / unit)
    coords = matmul(rows, direction)
    # the first of those that are farthest, beyond rounding, decides
    size = jnp.abs(coords)
    farthest = coords[jnp.argmax(size >= 0.999 * jnp.max(size))]
    return jnp.where(farthest < 0, -direction, direction)


def _unit(vector: Vector, floor: Scalar) -> Vector:
    """Scale a vector to length 1, or to 0 if it is no longer than what rounding may leave."""
    length = norm(vector)
    return safe_ratio(vector, length, where=length > floor)


def _besides(first: Vector, rows: Float[Array, "*points size"]) -> Float[Array, "*points size"]:
    """Take a unit vector out of others, twice for rounding."""
    for _ in range(2):
        rows = rows - matmul(rows, first)[..., None] * first
    return rows


@jax.custom_jvp
def _top_vector(matrix: Float[Array, "n n"]) -> Float[Array, "n"]:
    """Return the eigenvector of the largest eigenvalue; its derivative needs no other to differ."""
    return jnp.linalg.eigh(matrix)[1][:, -1]


@_top_vector.defjvp
def _top_vector_jvp(
    primals: tuple[Float[Array, "n n"]], tangents: tuple[Float[Array, "n n"]]
) -> tuple[Float[Array, "n"], Float[Array, "n"]]:
    """Solve (lambda - A + lambda v v^T) dv = (1 - v v^T) dA v: autodiff divides by all gaps."""
    (matrix,), (change,) = primals, tangents
    vector = _top_vector(matrix)
    value = matmul(vector, matmul(matrix, vector))
    value = jnp.where(value > 0, value, 1)
    shifted = value * (jnp.eye(len(vector), dtype=matrix.dtype) + jnp.outer(vector, vector))
    moved = matmul(change, vector)
    moved = moved - matmul(vector, moved) * vector
    return vector, jnp.linalg.solve(shifted - matrix, moved)
