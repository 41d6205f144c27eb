"""One wrong layer is enough, and a quick run passes."""

import numpy as np
import pytest

from experiments.diagnosis import doctor_on_broken_inits as doctor
from experiments.diagnosis.doctor_on_broken_inits import CONSTANT, STARTS
from tests.experiments.results.doctor_on_broken_inits import results


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
    assert sum(not claim.holds for claim in doctor.check(spoiled)) == 3
    assert np.isclose(spoiled.backward, found.backward, rtol=1e-6)
