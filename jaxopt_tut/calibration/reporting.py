"""Put what was measured into a report."""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxopt_tut.calibration.checking import nonfinite_leaves, relative_errors
from jaxopt_tut.calibration.network import Network
from jaxopt_tut.calibration.reports import CalibrationReport, How, LayerCalibration
from jaxopt_tut.calibration.spread import PerStep, Spread
from jaxopt_tut.types import Batch, Params


def make_report(
    network: Network,
    before: Mapping[str, Spread],
    predicted: Mapping[str, PerStep],
    after: Mapping[str, Spread],
    how: Mapping[str, How],
    unmet: Mapping[str, str],
    objective: Float[Array, " step"] | Float[np.ndarray, " step"] | tuple[()] = (),
) -> CalibrationReport:
    """Put what was measured, before and after, in the order of the program.

    A loss of the network, with the weights that are returned, that is not finite is unmet too.
    """
    if network.loss is not None and not np.isfinite(network.loss) and "loss" not in unmet:
        unmet = {**unmet, "loss": f"it is {network.loss:g} with the parameters returned"}
    relative = relative_errors(network, after)
    layers = {}
    for name in (layer.name for layer in network.layers):
        variance = after[name].variance
        with np.errstate(invalid="ignore"):  # an infinite error of a variance of zero
            error = np.where(variance == 0, 0, relative[name] * variance)
        layers[name] = LayerCalibration(
            jnp.asarray(before[name].variance),
            jnp.asarray(predicted.get(name, np.full(np.shape(variance), np.nan))),
            jnp.asarray(variance),
            jnp.asarray(error, variance.dtype),
        )
    return CalibrationReport(
        layers,
        jnp.asarray(objective),
        not unmet,
        tuple(how.items()),
        tuple(network.left.items()),
        tuple(unmet.items()),
    )


def give_back(
    caller: str,
    network: Network,
    before: Mapping[str, Spread],
    after: Mapping[str, Spread],
    params: Params,
    batch: Batch,
) -> tuple[Params, CalibrationReport]:
    """Return the parameters as they came, and a report that names the leaves that are not finite.

    If all that came in is finite the network overflows, and that is an error.
    """
    drawn = {layer.param for layer in network.layers if layer.name not in network.left}
    unmet = {
        name: why for name, why in nonfinite_leaves(params, batch).items() if name not in drawn
    }
    if not unmet:
        for name, spread in after.items():
            if not np.isfinite(spread.variance).all():
                raise ValueError(
                    f"{caller} needs activations with a finite second moment, got pre-activations "
                    f"of variance {float(np.max(spread.variance))} at {name!r}."
                )
    network.left |= dict.fromkeys(before, "nothing was drawn")
    return params, make_report(network, before, {}, before, {}, unmet)
