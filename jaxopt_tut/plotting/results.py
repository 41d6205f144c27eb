"""Results of the library as what displays draw: curves by epoch, numbers by layer, points."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxopt_tut import optimizers
from jaxopt_tut.calibration import CalibrationReport
from jaxopt_tut.curvature import TrackedSharpness
from jaxopt_tut.diagnostics import Diagnosis, LayerStatistics, Statistics
from jaxopt_tut.landscape import Trajectory
from jaxopt_tut.plotting.numbers import optional_named
from jaxopt_tut.taps import Tape
from jaxopt_tut.training import FitResult, History

_OF_TRAINING = FitResult | History


def epoch_curves(
    caller: str, train: Any, validation: Any, metric: str | None
) -> tuple[Any, Any, str | None]:
    """Return what `fit` recorded of an epoch as two mappings of numbers, and what it is.

    Anything else comes back as it is, to be judged by who draws it.
    """
    train, validation = _alone(train), _alone(validation)
    runs = {name: list(found) for name, given in _items(train) if (found := _runs(given))}
    if not runs:
        if metric is not None:
            raise ValueError(
                f"{caller} needs what fit returned for metric={metric!r}, "
                f"got {type(train).__name__}."
            )
        return train, validation, None
    histories = [history for group in runs.values() for history in group]
    metric = _default_metric(histories) if metric is None else metric
    known = {name for history in histories for name in (*history.train, *history.validation)}
    if metric not in known:
        raise ValueError(
            f"{caller} needs a metric that was recorded ({', '.join(sorted(known)) or 'none'}), "
            f"got metric={metric!r}."
        )
    given = optional_named(caller, "validation", validation)
    drawn_train, drawn_validation = dict(train), dict(given)
    for name, group in runs.items():
        del drawn_train[name]
        for side, drawn in (("train", drawn_train), ("validation", drawn_validation)):
            curves = [getattr(history, side).get(metric) for history in group]
            if any(curve is not None for curve in curves) and name not in drawn:
                drawn[name] = _stacked(caller, name, curves)
    return drawn_train, drawn_validation, metric


def _alone(given: Any) -> Any:
    """Return one curve, of a result or of numbers, as a mapping without a name."""
    if isinstance(given, Mapping | str) or given is None:
        return given
    is_empty = isinstance(given, list | tuple) and not given
    is_array = hasattr(given, "__array__") or type(given) in (list, tuple)
    return {"": given} if _runs(given) or (is_array and not is_empty) else given


def search_values(caller: str, given: Any) -> dict[str, Any]:
    """Return the losses of searches of `minimize` by name; nothing where there is no search."""
    named = given if isinstance(given, Mapping) else {"": given}
    kinds = optimizers.Solution | optimizers.History
    searches = {name: one for name, one in named.items() if isinstance(one, kinds)}
    if searches and len(searches) < len(named):
        other = next(name for name in named if name not in searches)
        raise ValueError(
            f"{caller} needs trainings or searches, got both: steps at {next(iter(searches))!r}, "
            f"epochs at {other!r}."
        )
    return {name: _losses(caller, name, one) for name, one in searches.items()}


def _losses(caller: str, name: str, search: Any) -> np.ndarray:
    """Return the losses of one search, without what a program compiled for it repeats."""
    history = search.history if isinstance(search, optimizers.Solution) else search
    if history is None:
        found = f" for {name!r}" if name else ""
        raise ValueError(
            f"{caller} needs the losses of a search, got a Solution without history{found}: "
            "call minimize(..., history=True)."
        )
    values = np.asarray(history.value, float)
    if isinstance(search, optimizers.Solution) and values.ndim == 1:
        return values[: int(search.steps) + 1]
    return values


def _items(values: Any) -> list[tuple[str, Any]]:
    return list(values.items()) if isinstance(values, Mapping) else []


def _runs(given: Any) -> Iterator[History] | None:
    """Return the histories of one result, or of a list of them."""
    group = [given] if isinstance(given, _OF_TRAINING) else given
    if not isinstance(group, list | tuple) or isinstance(group, np.ndarray) or not group:
        return None
    if not all(isinstance(one, _OF_TRAINING) for one in group):
        return None
    return (one.history if isinstance(one, FitResult) else one for one in group)


def _default_metric(histories: Sequence[History]) -> str:
    """Choose the accuracy, else what both sides have, else the loss."""
    train = [name for history in histories for name in history.train]
    validation = [name for history in histories for name in history.validation]
    both = [name for name in validation if name in train]
    return next((n for n in ("accuracy", *both) if n in train or n in validation), "loss")


def _stacked(caller: str, name: str, curves: Sequence[Any]) -> np.ndarray:
    """Return runs of equal length, a row each."""
    found = [np.zeros(0) if curve is None else np.asarray(curve, float) for curve in curves]
    lengths = sorted({len(curve) for curve in found})
    if len(lengths) > 1:
        raise ValueError(f"{caller} needs runs of equal length, got {lengths} epochs for {name!r}.")
    return np.stack(found)


def measured_sharpness(caller: str, results: Any) -> tuple[Any, dict[str, Any]]:
    """Return the steps at which runs of `fit` measured sharpness, and what they found."""
    named = {"": results} if isinstance(results, _OF_TRAINING) else results
    if not isinstance(named, Mapping) or not all(
        isinstance(x, _OF_TRAINING) for x in named.values()
    ):
        raise TypeError(
            f"{caller} needs what fit returned, or steps and what was measured there, "
            f"got {type(results).__name__} alone."
        )
    found, steps = {}, None
    for name, one in named.items():
        history = one.history if isinstance(one, FitResult) else one
        probes = {
            probe: measured.value
            for probe, measured in history.probes.items()
            if isinstance(measured, TrackedSharpness)
        }
        if not probes:
            raise ValueError(
                f"{caller} needs a sharpness_probe among the probes of fit, got "
                f"{sorted(history.probes) or 'none'}{f' for {name!r}' if name else ''}."
            )
        steps = history.probe_steps if steps is None else steps
        if not np.array_equal(steps, history.probe_steps):
            raise ValueError(f"{caller} needs runs measured at the same steps, got {name!r}.")
        found |= {
            " ".join(filter(None, (name, probe if len(probes) > 1 or not name else ""))): value
            for probe, value in probes.items()
        }
    return steps, found


def layer_profiles(values: Any) -> Any:
    """Return the variances by layer of a result, or of those in a mapping; else what came."""
    if isinstance(values, Diagnosis | Statistics):
        return {"pre-activations": _variances(values.layers)}
    if isinstance(values, CalibrationReport):
        named = {field: _of_report(values, field) for field in ("before", "predicted", "after")}
        return {
            name: layers for name, layers in named.items() if np.isfinite([*layers.values()]).any()
        }
    if _are_layers(values):
        return {"pre-activations": _variances(values)}
    if isinstance(values, Mapping) and not isinstance(values, Tape):
        return {name: _profile(given) for name, given in values.items()}
    return values


def _profile(given: Any) -> Any:
    if isinstance(given, Diagnosis | Statistics):
        return _variances(given.layers)
    if isinstance(given, CalibrationReport):
        return _of_report(given, "after")
    return _variances(given) if _are_layers(given) else given


def _are_layers(given: Any) -> bool:
    is_filled = isinstance(given, Mapping) and len(given) > 0
    return is_filled and all(isinstance(layer, LayerStatistics) for layer in given.values())


def _variances(layers: Mapping[str, LayerStatistics]) -> dict[str, float]:
    """Return the variances of pre-activations; a layer in a scan has one a step."""
    return dict(
        step
        for name, layer in layers.items()
        for step in _steps(name, layer.pre_activations.variance)
    )


def _of_report(report: CalibrationReport, field: str) -> dict[str, float]:
    return dict(
        step
        for name, layer in report.layers.items()
        for step in _steps(name, getattr(layer, field))
    )


def _steps(name: str, numbers: Any) -> Iterator[tuple[str, float]]:
    for index, value in np.ndenumerate(np.asarray(numbers, float)):
        yield name + (f"[{','.join(map(str, index))}]" if index else ""), float(value)


def path_points(path: Any) -> Any:
    """Return the points of a trajectory, of a history of a search or of its solution."""
    if isinstance(path, optimizers.Solution) and path.history is not None:
        path = path.history
    if isinstance(path, Trajectory):
        return path.points
    return path.params if isinstance(path, optimizers.History) else path
