# ruff: noqa: ARG001 (all rules have one signature, whatever they read of it)
r"""Products, triangular solves, factorizations and Fourier transforms."""

import math
from typing import Any

import numpy as np
from jax import lax

from jaxopt_tut.autodiff.registry import (
    Derivatives,
    Integer,
    Needed,
    Values,
    define,
    define_push,
    primitive_named,
)
from jaxopt_tut.autodiff.rules.shape import push_linear


@define("dot_general")
def _dot_rule(
    cotangents: Derivatives,
    inputs: Values,
    outputs: Values,
    needed: Needed,
    *,
    dimension_numbers: tuple,
    precision: Any,
    preferred_element_type: Any,
    **params: Any,
) -> Derivatives:
    r"""$Z = XY$: $\bar X = \bar Z Y^\top$, $\bar Y = X^\top \bar Z$, for any axes."""
    (g,), (x, y) = cotangents, inputs
    (x_sum, y_sum), (x_batch, y_batch) = dimension_numbers
    flipped = ((y_sum, x_sum), (y_batch, x_batch))
    options = {"precision": precision, "preferred_element_type": preferred_element_type}
    num_x_free = x.ndim - len(x_sum) - len(x_batch)
    first = len(x_batch)
    y_part = tuple(range(first + num_x_free, g.ndim))
    x_part = tuple(range(first, first + num_x_free))
    return [
        _dot_back(g, x, y, y_part, dimension_numbers, options) if needed[0] else None,
        _dot_back(g, y, x, x_part, flipped, options) if needed[1] else None,
    ]


def _dot_back(g: Any, like: Any, other: Any, other_part: tuple, numbers: Any, options: Any) -> Any:
    """Contract the cotangent with the other factor and put the axes back where they were."""
    (like_sum, other_sum), (like_batch, other_batch) = numbers
    other_free = tuple(k for k in range(other.ndim) if k not in (*other_sum, *other_batch))
    batch = tuple(range(len(like_batch)))
    found = lax.dot_general(g, other, ((other_part, other_free), (batch, other_batch)), **options)
    like_free = [k for k in range(like.ndim) if k not in (*like_sum, *like_batch)]
    by_other = [like_sum[k] for k in np.argsort(np.asarray(other_sum, int))]
    order = [*like_batch, *like_free, *by_other]
    if order != sorted(order):
        found = lax.transpose(found, tuple(int(k) for k in np.argsort(order)))
    return found if found.dtype == like.dtype else lax.convert_element_type(found, like.dtype)


@define_push("dot_general")
def _dot_push(tangents: Derivatives, inputs: Values, outputs: Values, **params: Any) -> Derivatives:
    dot = primitive_named("dot_general")
    (x, y), (dx, dy) = inputs, tangents
    terms = []
    if dx is not None:
        terms.append(dot.bind(dx, y, **params))
    if dy is not None:
        terms.append(dot.bind(x, dy, **params))
    return [terms[0] if len(terms) == 1 else lax.add(*terms)]


def _flip(x: Any) -> Any:
    return lax.transpose(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def _matmul(x: Any, y: Any) -> Any:
    batch = tuple(range(x.ndim - 2))
    numbers = (((x.ndim - 1,), (x.ndim - 2,)), (batch, batch))
    return lax.dot_general(x, y, numbers, precision=lax.Precision.HIGHEST)


def _triangle(x: Any, lower: bool, diagonal: float) -> Any:
    """Keep one triangle of a matrix and multiply its diagonal."""
    rows = lax.broadcasted_iota(np.int32, x.shape, x.ndim - 2)
    columns = lax.broadcasted_iota(np.int32, x.shape, x.ndim - 1)
    inside = lax.gt(rows, columns) if lower else lax.lt(rows, columns)
    zero = lax.full_like(x, 0)
    scaled = lax.mul(x, lax.full_like(x, diagonal))
    return lax.select(inside, x, lax.select(lax.eq(rows, columns), scaled, zero))


@define("cholesky")
def _cholesky_rule(
    cotangents: Derivatives, inputs: Values, outputs: Values, needed: Needed, **params: Any
) -> Derivatives:
    r"""$A = L L^H$: $\bar A = L^{-\top} \Phi(L^\top \bar L)\, \bar L^{-1}$.

    $\Phi$ keeps the lower triangle and halves the diagonal (Murray, 2016, eq. 8).
    """
    (g,), (factor,) = cotangents, outputs
    factor = _triangle(factor, True, 1.0)  # the primitive leaves the other triangle as it was
    middle = _triangle(_matmul(_flip(factor), g), True, 0.5)
    left = lax.linalg.triangular_solve(factor, middle, left_side=True, lower=True, transpose_a=True)
    whole = lax.linalg.triangular_solve(lax.conj(factor) if _is_complex(factor) else factor, left,
                                        left_side=False, lower=True)  # fmt: skip
    return [whole]


def _is_complex(x: Any) -> bool:
    return np.issubdtype(x.dtype, np.complexfloating)


@define("triangular_solve")
def _triangular_rule(
    cotangents: Derivatives,
    inputs: Values,
    outputs: Values,
    needed: Needed,
    *,
    left_side: bool,
    lower: bool,
    transpose_a: bool,
    conjugate_a: bool,
    unit_diagonal: bool,
) -> Derivatives:
    r"""$X = A^{-1} B$: $\bar B = A^{-\top} \bar X$, $\bar A = -\bar B X^\top$ in the triangle."""
    (g,), (a, _), (x,) = cotangents, inputs, outputs
    solved = lax.linalg.triangular_solve(
        a, g, left_side=left_side, lower=lower, transpose_a=not transpose_a,
        conjugate_a=conjugate_a, unit_diagonal=unit_diagonal,
    )  # fmt: skip
    if not needed[0]:
        return [None, solved]
    product = _matmul(solved, _flip(x)) if left_side else _matmul(_flip(x), solved)
    product = lax.neg(_flip(product) if transpose_a else product)
    if conjugate_a and _is_complex(product):
        product = lax.conj(product)
    found = _triangle(product, lower, 0.0 if unit_diagonal else 1.0)
    return [found, solved if needed[1] else None]


@define("fft")
def _fft_rule(
    cotangents: Derivatives,
    inputs: Values,
    outputs: Values,
    needed: Needed,
    *,
    fft_type: Any,
    fft_lengths: tuple[Integer, ...],
) -> Derivatives:
    r"""$y_k = \sum_j x_j \omega^{jk}$ is symmetric: its transpose is itself.

    The real transforms add the projection on real signals, or on half of the spectrum.
    """
    (g,), (x,) = cotangents, inputs
    kind = lax.FftType(int(fft_type)) if not isinstance(fft_type, lax.FftType) else fft_type
    if kind in (lax.FftType.FFT, lax.FftType.IFFT):
        return [lax.fft(g, kind, fft_lengths)]
    if kind == lax.FftType.RFFT:
        missing = fft_lengths[-1] - g.shape[-1]
        config = [(0, 0, 0)] * (g.ndim - 1) + [(0, missing, 0)]
        whole = lax.pad(g, lax.full((), 0, g.dtype), config)
        return [lax.real(lax.fft(whole, lax.FftType.FFT, fft_lengths))]
    spectrum = lax.conj(lax.fft(g, lax.FftType.RFFT, fft_lengths))
    weights = np.full(x.shape[-1], 2.0 / math.prod(fft_lengths), g.dtype)
    weights[0] /= 2
    if fft_lengths[-1] % 2 == 0:
        weights[-1] /= 2
    spread = lax.broadcast_in_dim(weights, x.shape, (x.ndim - 1,))
    return [lax.mul(spectrum, lax.convert_element_type(spread, x.dtype))]


push_linear("fft")


@define("eigh")
def _eigh_rule(
    cotangents: Derivatives,
    inputs: Values,
    outputs: Values,
    needed: Needed,
    *,
    subset_by_index: tuple[Integer, Integer] | None = None,
    **params: Any,
) -> Derivatives:
    r"""$A = V \Lambda V^H$ with $\bar A = V^{-H} (\bar\Lambda + F \circ (V^\top \bar V)) V^\top$.

    $F_{ij} = 1 / (\lambda_j - \lambda_i)$ off the diagonal (Giles, 2008, section 3.1); undefined
    where eigenvalues coincide, as in JAX.
    """
    vectors, values = outputs
    n = vectors.shape[-2]
    if subset_by_index not in (None, (0, n)):
        raise NotImplementedError(
            f"eigh has a derivative only with all eigenvalues, got subset_by_index="
            f"{subset_by_index} of {n}."
        )
    g_vectors, g_values = cotangents
    rows, columns = (vectors.ndim - 2, vectors.ndim - 1)
    middle = lax.full_like(vectors, 0)
    eye = lax.eq(
        lax.broadcasted_iota(np.int32, vectors.shape, rows),
        lax.broadcasted_iota(np.int32, vectors.shape, columns),
    )
    batch = tuple(range(vectors.ndim - 2))
    if g_values is not None:
        across = lax.broadcast_in_dim(g_values, vectors.shape, (*batch, columns))
        middle = lax.select(eye, lax.convert_element_type(across, vectors.dtype), middle)
    if g_vectors is not None and n > 1:
        gap = lax.sub(
            lax.broadcast_in_dim(values, vectors.shape, (*batch, columns)),
            lax.broadcast_in_dim(values, vectors.shape, (*batch, rows)),
        )
        gap = lax.select(eye, lax.full_like(gap, 1), gap)
        turn = lax.div(
            _matmul(_flip(vectors), g_vectors), lax.convert_element_type(gap, vectors.dtype)
        )
        middle = lax.add(middle, lax.select(eye, lax.full_like(turn, 0), turn))
    conjugate = lax.conj(vectors) if _is_complex(vectors) else vectors
    return [_matmul(_matmul(conjugate, middle), _flip(vectors))]
