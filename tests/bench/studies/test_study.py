"""What a study and a gradient method state of themselves fits together."""

from dataclasses import astuple, fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import plots
from bench.records import quantities, read_reference, read_rows, write_reference, write_rows
from bench.studies.study import Study
from bench.suites import SUITES
from solvers import GRADIENTS

STUDIES = [suite for suite in SUITES.values() if isinstance(suite, Study)]


def names(dataclass):
    return {field.name for field in fields(dataclass)}


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_facts_of_a_study_name_what_is_there(study):
    assert study.row in plots.BY_ROW
    assert {field for replaced in study.options.values() for field in replaced} <= names(study)
    assert {"device", *study.key} <= names(study.row)
    # Otherwise two of its cases would be taken for one.
    assert {*study.key} <= {*study.row.identity, "seed"}
    assert {*study.row.identity} <= names(study.row)
    assert quantities.kind_of(names(study.row)) is study.row
    for case in (*study.cases(), *study.check_cases()):
        assert case.name
        assert all(hasattr(case, field) for field in study.key)
    if study.comparison is not None:
        for case in study.check_cases():
            for experiment in study.comparison.experiments(case):
                assert all(hasattr(experiment, f) for f in study.comparison.experiment_key)


numbers = st.floats(allow_nan=False)
VALUES = {
    int: st.integers(0, 2**40),
    float: numbers,
    str: st.sampled_from(["", "a,b", 'a "quoted" word', "models.resnet:CHAIN:blocks=2"]),
    int | None: st.none() | st.integers(0, 2**40),
    float | None: st.none() | numbers,
}


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
@given(data=st.data())
@settings(max_examples=20)
def test_rows_are_read_as_they_were_written(study, data, tmp_path_factory):
    values = {field.name: VALUES[field.type] for field in fields(study.row)}
    rows = data.draw(st.lists(st.builds(study.row, **values), min_size=1, max_size=3))
    folder = tmp_path_factory.mktemp("rows")
    write_rows(folder / "rows.csv", study.row, rows)
    write_reference(folder / "reference.csv", study.row, rows)
    for read in (
        read_rows(folder / "rows.csv", study.row),
        read_reference(folder / "reference.csv", study.row),
    ):
        assert read == rows
        for row, written in zip(read, rows, strict=True):
            assert [*map(type, astuple(row))] == [*map(type, astuple(written))]


def test_foreign_gradient_method_cannot_state_an_unknown_exactness():
    class Vague:
        name = "vague"
        exactness = "nearly"

        def solve(self, rhs, z0, method, n_steps):
            return z0

    with pytest.raises(ValueError, match="its exactness is none of exact, up to summation"):
        GRADIENTS.resolve(Vague())
