"""The claims hold on a good result, each can fail, and a quick run passes."""

import numpy as np
import pytest

from experiments.diagnosis import doctor_on_broken_inits as doctor
from experiments.diagnosis.doctor_on_broken_inits import CONSTANT, STARTS


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


def test_every_claim_holds_on_a_good_result_and_can_fail():
    good, *falsified = results()
    claims = doctor.check(good)
    assert [claim.text for claim in claims if not claim.holds] == []
    failed = {c.text for result in falsified for c in doctor.check(result) if not c.holds}
    assert {claim.text for claim in claims} == failed


@pytest.mark.parametrize("layer", [0, 4])
def test_one_wrong_layer_is_enough(layer):
    good = next(results())
    verdicts = good.verdicts | {CONSTANT: [[*good.verdicts[CONSTANT][0][1:], ("symmetric", layer)]]}
    failed = [c.text for c in doctor.check(good._replace(verdicts=verdicts)) if not c.holds]
    assert len(failed) == (layer == 4)


@pytest.mark.slow  # compiles the statistics
@pytest.mark.usefixtures("full_products")
def test_a_quick_run_passes_and_another_start_does_not(monkeypatch):
    config = doctor.Config().quick()
    found = doctor.run(config)
    assert [claim.text for claim in doctor.check(found) if not claim.holds] == []
    figures = doctor.plot(found)
    assert list(figures) == ["verdicts"]
    # Constant weights that are announced as healthy are called ill.
    swapped = STARTS | {"Xavier": STARTS["Xavier"]._replace(options=STARTS[CONSTANT].options)}
    monkeypatch.setattr(doctor, "STARTS", swapped)
    spoiled = doctor.run(config)
    assert sum(not claim.holds for claim in doctor.check(spoiled)) == 2
    assert np.isclose(spoiled.backward, found.backward, rtol=1e-6)
