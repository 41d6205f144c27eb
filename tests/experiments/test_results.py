"""Every claim holds on a result as it should be, and fails on a falsified one."""

import importlib
from pathlib import Path

import pytest

from experiments import _catalog

FOLDER = Path(__file__).parent / "results"


@pytest.mark.parametrize("name", _catalog.find())
def test_every_claim_holds_on_a_good_result_and_can_fail(name):
    assert (FOLDER / f"{name}.py").exists(), (
        f"tests/experiments/results/{name}.py is missing; its results() yields a Result on which "
        "all claims hold, then falsified ones, on which each claim fails at least once"
    )
    check = importlib.import_module(_catalog.module_of(name)).check
    module = importlib.import_module(f"tests.experiments.results.{name}")
    makers = [maker for key, maker in vars(module).items() if key.startswith("results")]
    assert makers, f"tests/experiments/results/{name}.py has no function results()"
    for maker in makers:
        good, *falsified = maker()
        claims = check(good)
        headlines = sum(claim.headline for claim in claims)
        assert headlines == 1, f"{name} needs one claim with headline=True"
        assert [claim.text for claim in claims if not claim.holds] == []
        failed = {claim.text for result in falsified for claim in check(result) if not claim.holds}
        assert {claim.text for claim in claims} == failed


def test_an_experiment_without_results_is_told_which_file_to_add(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "FOLDER", tmp_path)
    with pytest.raises(AssertionError, match=r"^tests/experiments/results/ravine\.py is missing; "):
        test_every_claim_holds_on_a_good_result_and_can_fail("ravine")


def test_results_are_those_of_an_experiment():
    assert {file.stem for file in FOLDER.glob("*.py")} <= set(_catalog.find())
