"""What a study and a gradient method state of themselves fits together."""

from dataclasses import fields

import pytest

import plots
from bench.studies.study import Study
from bench.suites import SUITES
from solvers import GRADIENTS

STUDIES = [suite for suite in SUITES.values() if isinstance(suite, Study)]


def names(dataclass):
    return {field.name for field in fields(dataclass)}


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_facts_of_a_study_name_what_is_there(study):
    assert set(study.figures) <= plots.MEASURED_FIGURES.keys()
    assert {field for replaced in study.options.values() for field in replaced} <= names(study)
    assert {"device", *study.key} <= names(study.row)
    for case in (*study.cases(), *study.check_cases()):
        assert case.name
        assert all(hasattr(case, field) for field in study.key)
    if study.comparison is not None:
        assert set(study.comparison.key) <= names(study.row)
        for case in study.check_cases():
            for experiment in study.comparison.experiments(case):
                assert all(hasattr(experiment, f) for f in study.comparison.experiment_key)


def test_foreign_gradient_method_cannot_state_an_unknown_exactness():
    class Vague:
        name = "vague"
        exactness = "nearly"

        def solve(self, rhs, z0, method, n_steps):
            return z0

    with pytest.raises(ValueError, match="its exactness is none of exact, up to summation"):
        GRADIENTS.resolve(Vague())
