"""Results of `doctor_on_broken_inits`: one as it should be, then falsified ones."""

from experiments.diagnosis import doctor_on_broken_inits as doctor
from experiments.diagnosis.doctor_on_broken_inits import STARTS


def results():
    right = {
        name: [[(start.kind or "", layer) for layer in start.layers]] * 3
        for name, start in STARTS.items()
    }
    good = doctor.Result(right, 1e-16, {})
    yield good
    # A doctor who never says anything, on gradients that are no rounding errors.
    yield good._replace(verdicts={name: [[]] * 3 for name in STARTS}, backward=0.1)
    # One who says the same of everything.
    yield good._replace(verdicts={name: [[("symmetric", 0)]] * 3 for name in STARTS})
