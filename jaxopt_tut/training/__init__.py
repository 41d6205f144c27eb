"""Compiled training runs.

* `fit`: train on data that stays on the device, one donated program a step.
* `Streamed`, `Batches`: data that come to the device as they are needed, for `fit`.
* `fsdp`, `by_path`: cut up parameters over devices, for `fit(..., shard=)`.
* `evaluator`: metrics over a whole data set, for `fit(..., evaluate=)`.
* `Aux`: what a loss with metrics or model state returns beside its value.
* `train`: the same loop as one pure function, for `jit`, `vmap` and `grad`; `Trained`.
* `shuffled`: the batches of `fit` as a function of the step; `Shuffled`.
* `patience`: end a run when nothing is gained, for `fit(..., stop=)`.
* `Event`, `csv_log`: what a run tells, for `fit(..., on_event=)`, and a table of it in a file.
* `Probe`: a measurement that a run takes as it goes, for `fit(..., probes=)`; `Snapshot`.
* `race`: optimizers compared on the same problems; `Problem`, `problems`, `RaceTable`.
* `Checkpoint`: save a run and resume it bit for bit, for `fit(..., checkpoint=)`; `restore`,
  `verify`, `Verification`, `CheckpointReport`, `DamagedCheckpoint`.
* `sweep`: every configuration with every key, by `Vmap`, `Map`, a mesh or an executor; `Sweep`.
* `grid`, `sample`: configurations, of axes or of `Uniform`, `LogUniform`, `Choice`.
* `find_learning_rate`: a rate to begin with, from a short training in which it rises; `RateRange`.
* `mixed_precision`: a loss whose products of matrices have operands in half precision.
* `halving`: many configurations for a few steps, the better half for more; `Halving`.
* `compilation_cache`: keep compiled programs on disk between processes.
"""

from jaxopt_tut.losses import Aux
from jaxopt_tut.probes import Probe, Snapshot
from jaxopt_tut.training.checkpoints import (
    Checkpoint,
    CheckpointReport,
    DamagedCheckpoint,
    Verification,
    restore,
    verify,
)
from jaxopt_tut.training.compilation import compilation_cache
from jaxopt_tut.training.data import Batches, Streamed
from jaxopt_tut.training.evaluation import evaluator
from jaxopt_tut.training.events import Event, csv_log
from jaxopt_tut.training.fitting import fit
from jaxopt_tut.training.history import History
from jaxopt_tut.training.learning_rates import RateRange, find_learning_rate
from jaxopt_tut.training.precision import mixed_precision
from jaxopt_tut.training.pure import Shuffled, Trained, shuffled, train
from jaxopt_tut.training.races import Problem, RaceTable, problems, race
from jaxopt_tut.training.result import FitResult
from jaxopt_tut.training.sharding import by_path, fsdp
from jaxopt_tut.training.stops import patience
from jaxopt_tut.training.sweeps import (
    Best,
    Choice,
    Halving,
    LogUniform,
    Map,
    Sweep,
    Uniform,
    Vmap,
    grid,
    halving,
    sample,
    sweep,
)

__all__ = [
    "Aux",
    "Batches",
    "Best",
    "Checkpoint",
    "CheckpointReport",
    "Choice",
    "DamagedCheckpoint",
    "Event",
    "FitResult",
    "Halving",
    "History",
    "LogUniform",
    "Map",
    "Probe",
    "Problem",
    "RaceTable",
    "RateRange",
    "Shuffled",
    "Snapshot",
    "Streamed",
    "Sweep",
    "Trained",
    "Uniform",
    "Verification",
    "Vmap",
    "by_path",
    "compilation_cache",
    "csv_log",
    "evaluator",
    "find_learning_rate",
    "fit",
    "fsdp",
    "grid",
    "halving",
    "mixed_precision",
    "patience",
    "problems",
    "race",
    "restore",
    "sample",
    "shuffled",
    "sweep",
    "train",
    "verify",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
