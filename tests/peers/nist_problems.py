"""The 27 nonlinear-regression problems of NIST's Statistical Reference Datasets.

The data, both published starts and the certified parameters are in the public domain:
https://www.itl.nist.gov/div898/strd/nls/nls_main.shtml
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

DATA = Path(__file__).with_name("nist.json")
MOST_DIGITS = 11  # the certified values have eleven


class Fit(NamedTuple):
    """A model, data, two starts, and the parameters that minimise the sum of squares."""

    model: Callable[[Any, Any], Any]  # model(b, x), in `jax.numpy`
    x: np.ndarray
    y: np.ndarray
    starts: np.ndarray  # far, near
    certified: np.ndarray
    deviations: np.ndarray  # standard errors of the parameters
    sum_of_squares: float

    def residuals(self, b: Any) -> Any:
        """Return the model less the data."""
        return self.model(b, self.x) - self.y

    def half_squares(self, b: Any) -> Any:
        """Return the value that is minimised."""
        return 0.5 * jnp.sum(self.residuals(b) ** 2)

    def digits(self, b: Any) -> float:
        """Count the digits of the worst parameter that are right: 0 to `MOST_DIGITS`."""
        error = np.max(np.abs(np.asarray(b, float) / self.certified - 1))
        if not np.isfinite(error):
            return 0.0
        return float(np.clip(-np.log10(max(error, 10.0**-MOST_DIGITS)), 0, MOST_DIGITS))


def load() -> dict[str, Fit]:
    """Return the fits by name; call it with x64 enabled."""
    table = json.loads(DATA.read_text())
    return {
        name: _fit(name, {k: np.array(v) for k, v in row.items()}) for name, row in table.items()
    }


def _fit(name: str, row: dict[str, np.ndarray]) -> Fit:
    y, x = row.pop("y").astype(float), row.pop("x").astype(float)
    return Fit(
        model=MODELS[name],
        x=x.T,
        y=np.log(y) if name == "Nelson" else y,  # its model is one of log(y)
        starts=row["starts"].astype(float),
        certified=row["certified"].astype(float),
        deviations=row["deviations"].astype(float),
        sum_of_squares=float(row["sum_of_squares"]),
    )


def _rises(b: Any, x: Any) -> Any:
    return b[0] * (1 - jnp.exp(-b[1] * x))


def _chwirut(b: Any, x: Any) -> Any:
    return jnp.exp(-b[0] * x) / (b[1] + b[2] * x)


def _enso(b: Any, x: Any) -> Any:
    wave = lambda period, c, s: (
        c * jnp.cos(2 * jnp.pi * x / period) + s * jnp.sin(2 * jnp.pi * x / period)
    )
    return b[0] + wave(12, b[1], b[2]) + wave(b[3], b[4], b[5]) + wave(b[6], b[7], b[8])


def _gauss(b: Any, x: Any) -> Any:
    bump = lambda height, place, width: height * jnp.exp(-((x - place) ** 2) / width**2)
    return b[0] * jnp.exp(-b[1] * x) + bump(*b[2:5]) + bump(*b[5:8])


def _cubics(b: Any, x: Any) -> Any:
    below = 1 + b[4] * x + b[5] * x**2 + b[6] * x**3
    return (b[0] + b[1] * x + b[2] * x**2 + b[3] * x**3) / below


def _lanczos(b: Any, x: Any) -> Any:
    return sum(b[i] * jnp.exp(-b[i + 1] * x) for i in (0, 2, 4))


MODELS: dict[str, Callable[[Any, Any], Any]] = {
    "Bennett5": lambda b, x: b[0] * (b[1] + x) ** (-1 / b[2]),
    "BoxBOD": _rises,
    "Chwirut1": _chwirut,
    "Chwirut2": _chwirut,
    "DanWood": lambda b, x: b[0] * x ** b[1],
    "ENSO": _enso,
    "Eckerle4": lambda b, x: b[0] / b[1] * jnp.exp(-0.5 * ((x - b[2]) / b[1]) ** 2),
    "Gauss1": _gauss,
    "Gauss2": _gauss,
    "Gauss3": _gauss,
    "Hahn1": _cubics,
    "Kirby2": lambda b, x: (b[0] + b[1] * x + b[2] * x**2) / (1 + b[3] * x + b[4] * x**2),
    "Lanczos1": _lanczos,
    "Lanczos2": _lanczos,
    "Lanczos3": _lanczos,
    "MGH09": lambda b, x: b[0] * (x**2 + x * b[1]) / (x**2 + x * b[2] + b[3]),
    "MGH10": lambda b, x: b[0] * jnp.exp(b[1] / (x + b[2])),
    "MGH17": lambda b, x: b[0] + b[1] * jnp.exp(-x * b[3]) + b[2] * jnp.exp(-x * b[4]),
    "Misra1a": _rises,
    "Misra1b": lambda b, x: b[0] * (1 - (1 + b[1] * x / 2) ** -2),
    "Misra1c": lambda b, x: b[0] * (1 - (1 + 2 * b[1] * x) ** -0.5),
    "Misra1d": lambda b, x: b[0] * b[1] * x / (1 + b[1] * x),
    "Nelson": lambda b, x: b[0] - b[1] * x[0] * jnp.exp(-b[2] * x[1]),
    "Rat42": lambda b, x: b[0] / (1 + jnp.exp(b[1] - b[2] * x)),
    "Rat43": lambda b, x: b[0] / (1 + jnp.exp(b[1] - b[2] * x)) ** (1 / b[3]),
    "Roszman1": lambda b, x: b[0] - b[1] * x - jnp.arctan(b[2] / (x - b[3])) / jnp.pi,
    "Thurber": _cubics,
}
