import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench import records
from bench.errors import UsageError
from bench.records import CostRow, GradientRow, Measurement
from bench.records.comparison import IDENTITY, compare, noise
from bench.suites import SUITES
from tests.bench.builders import row, run

N_IMAGES = 320
REFERENCE = Path(__file__).parents[3] / "results" / "reference"
COMMITTED = sorted(
    folder
    for folder in REFERENCE.iterdir()
    if (folder / records.MEASUREMENTS).exists() or any(folder.glob(f"*/{records.RUN}"))
)


def epochs(**changes):
    return [row(epoch, **changes) for epoch in (1, 2)]


def write(results, *runs):
    for one in runs:
        records.write_run(results, one)
    return results / "suite"


def compared(folder, first, second):
    """The comparison of two lists of runs."""
    return compare(write(folder / "before", *first), write(folder / "after", *second))


def change(found, quantity, seed="0"):
    rows = found.changes
    (one,) = rows[(rows["quantity"] == quantity) & (rows["seed"] == seed)].to_dict("records")
    return one


def test_results_are_the_same_as_themselves(tmp_path):
    folder = write(tmp_path, run(epochs=epochs()), run("b", seed=1, epochs=epochs()))
    found = compare(folder, folder)
    assert set(found.changes["verdict"]) == {"same"}
    assert (found.conditions, found.only_before, found.only_after) == ((), (), ())


@pytest.mark.parametrize("suite", COMMITTED, ids=lambda folder: folder.name)
def test_every_committed_result_is_the_same_as_itself(suite):
    found = compare(suite, suite)
    assert len(found.changes)
    assert set(found.changes["verdict"]) == {"same"}
    assert not found.changes.duplicated(["suite", "case", "seed", "quantity"]).any()


@pytest.mark.parametrize("name", [s.name for s in SUITES.values() if not s.trains])
def test_what_identifies_a_case_of_a_study_is_compared(name):
    """Otherwise two of its cases would be taken for one."""
    study = SUITES[name]
    given = set(study.key) & {field for field in study.row.__dataclass_fields__}
    assert given - {"seed"} <= set(IDENTITY)


def test_accuracy_on_the_same_images_is_judged_by_mcnemar(tmp_path):
    first = np.arange(N_IMAGES) < 160
    for more, verdict in ((3, "within noise"), (20, "better")):
        second = np.arange(N_IMAGES) < 160 + more
        runs = [
            run(
                epochs=epochs(test_accuracy=correct.mean()),
                correct={"running": records.packed(correct)},
            )
            for correct in (first, second)
        ]
        found = change(compared(tmp_path / verdict, runs[:1], runs[1:]), "accuracy, running")
        assert found["verdict"] == verdict
        assert found["difference"] == pytest.approx(more / N_IMAGES)
        assert (noise.mcnemar(first, second).p_value < 0.05) == (verdict == "better")
        # On other images the same difference is within the noise of both.
        other = {**runs[1].data, "fingerprint": "4567"}
        found = compared(tmp_path / f"{verdict}-others", runs[:1], [replace(runs[1], data=other)])
        assert change(found, "accuracy, running")["verdict"] == "within noise"
        assert found.conditions == (("fingerprint of the data", "0123", "4567"),)


@pytest.mark.parametrize("discordant", [(0, 0), (3, 1), (9, 1), (10, 1), (40, 20), (60, 20)])
def test_paired_noise_is_where_mcnemar_becomes_significant(discordant):
    first = np.repeat([True, False, True], [*discordant, 100])
    second = np.repeat([False, True, True], [*discordant, 100])
    difference = abs(first.mean() - second.mean())
    is_significant = noise.mcnemar(first, second).p_value < 0.05
    assert (difference > noise.paired(first, second)) == is_significant


def test_accuracy_without_its_images_has_the_standard_error_of_both(tmp_path):
    one, other = (run(epochs=epochs(test_accuracy=value)) for value in (0.5, 0.4))
    found = change(compared(tmp_path, [one], [other]), "accuracy, running")
    error = math.sqrt((0.25 + 0.24) / N_IMAGES)
    assert found["noise"] == pytest.approx(1.96 * error)
    assert (found["verdict"], found["worsening"]) == ("worse", pytest.approx(0.1))


def test_seeds_are_compared_one_by_one_and_together(tmp_path):
    def of_losses(*losses):
        return [
            run(f"seed{seed}", seed=seed, epochs=epochs(train_loss=loss))
            for seed, loss in enumerate(losses)
        ]

    found = compared(tmp_path, of_losses(1, 2, 3), of_losses(1.1, 2.1, 3.13))
    assert change(found, "training loss", "0")["difference"] == pytest.approx(0.1)
    assert math.isnan(change(found, "training loss", "0")["noise"])
    mean = change(found, "training loss", "mean")
    assert mean["difference"] == pytest.approx(0.11)
    assert mean["noise"] == pytest.approx(4.30 * 0.01)
    assert (mean["verdict"], mean["worsening"]) == ("worse", pytest.approx(0.055))
    results = found.results
    assert results[results["quantity"] == "training loss"]["seed"].tolist() == ["mean"]
    scattered = compared(tmp_path / "scattered", of_losses(1, 2, 3), of_losses(1.5, 1.8, 3.1))
    assert change(scattered, "training loss", "mean")["verdict"] == "within noise"


def test_time_differs_where_the_quartiles_do_not_overlap(tmp_path):
    def taking(*seconds):
        return [run(epochs=[row(i, seconds_per_step=s) for i, s in enumerate(seconds, start=1)])]

    before = taking(1.0, 1.1, 1.2, 1.3, 1.4)  # quartiles: 1.1 and 1.3
    overlapping = compared(tmp_path / "a", before, taking(1.25, 1.25, 1.4, 1.5, 1.5))
    assert change(overlapping, "time per step")["verdict"] == "within noise"
    apart = compared(tmp_path / "b", before, taking(1.35, 1.35, 1.4, 1.5, 1.5))
    assert change(apart, "time per step")["verdict"] == "worse"
    faster = compared(tmp_path / "c", before, taking(0.5, 0.6, 0.7))
    assert change(faster, "time per step")["verdict"] == "better"
    assert change(faster, "time per step")["worsening"] == pytest.approx(-0.6 / 1.2)


def test_mean_over_seeds_that_agree_has_the_noise_of_the_single_seeds(tmp_path):
    def taking(*seconds):
        epochs = [row(i, seconds_per_step=s) for i, s in enumerate(seconds, start=1)]
        return [run(f"seed{seed}", seed=seed, epochs=epochs) for seed in (0, 1)]

    found = compared(tmp_path, taking(1, 2, 3), taking(1.1, 2.1, 3.1))
    mean = change(found, "time per step", "mean")
    assert mean["noise"] == pytest.approx(1 / math.sqrt(2))
    assert mean["verdict"] == "within noise"


def test_any_difference_of_memory_is_a_difference(tmp_path):
    one, other = (run(epochs=epochs(), summary={"peak_memory_bytes": n}) for n in (1000, 1008))
    found = change(compared(tmp_path, [one], [other]), "peak memory")
    assert (found["verdict"], found["worsening"]) == ("worse", 0.008)


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (0.0, 1e-9, "worse"),  # no longer the same bits
        (1e-7, 2e-7, "within noise"),  # rounding
        (1e-7, 1e-4, "worse"),
        (0.3, 0.2, "better"),
    ],
)
def test_gradient_error_that_is_0_has_no_noise_and_others_that_of_rounding(
    tmp_path, before, after, verdict
):
    runs = [run(epochs=epochs(gradient_error=error)) for error in (before, after)]
    assert change(compared(tmp_path, runs[:1], runs[1:]), "gradient error")["verdict"] == verdict


def test_gradient_error_of_an_inexact_method_after_training_has_no_known_noise(tmp_path):
    one, other = (run(epochs=epochs(gradient_error=error)) for error in (0.3, 0.3 + 1e-9))
    found = change(compared(tmp_path, [one], [other]), "gradient error")
    assert math.isnan(found["noise"])
    assert found["verdict"] == "worse"


def test_a_run_that_diverges_is_worse_than_one_that_is_completed(tmp_path):
    diverged = run(epochs=epochs(train_loss=math.inf), status="diverged", reason="loss")
    found = compared(tmp_path, [run(epochs=epochs())], [diverged])
    assert change(found, "completed")["verdict"] == "worse"
    assert found.changes["quantity"].tolist() == ["completed"]
    others = [run(f"seed{seed}", seed=seed, epochs=epochs()) for seed in (1, 2)]
    found = compared(tmp_path / "seeds", [run(epochs=epochs()), *others], [diverged, *others])
    assert change(found, "completed", "mean")["verdict"] == "worse"


def test_conditions_and_what_one_folder_alone_has_are_named(tmp_path):
    newer = {"device": "cpu", "device_name": "another", "packages": {"torch": "3"}}
    found = compared(
        tmp_path,
        [run("a", epochs=epochs()), run("b", seed=1, epochs=epochs())],
        [run("a", epochs=epochs(), environment=newer), run("c", seed=2, epochs=epochs())],
    )
    assert (found.only_before, found.only_after) == (("b",), ("c",))
    assert found.conditions == (
        ("device", "a test machine", "a test machine | another"),
        ("torch", "not stated", "3"),
    )


def test_cases_are_named_by_what_they_do_not_share(tmp_path):
    names = {"node": "resnet4, node", "baseline": "resnet4, baseline"}
    runs = [run(name, gradient=name, epochs=epochs()) for name in names]
    assert set(compared(tmp_path, runs, runs).changes["case"]) == set(names.values())
    runs = [run(str(lr), lr=lr, epochs=epochs()) for lr in (0.1, 0.2)]
    cases = compared(tmp_path / "rates", runs, runs).changes["case"]
    assert set(cases) == {"resnet4, node, lr 0.1", "resnet4, node, lr 0.2"}


def test_measurements_are_paired_by_what_was_measured(tmp_path):
    def cost(gradient, phase, seconds):
        where = ("resnet4", "rk2", 2, gradient, 64, "contiguous", "float32", "eager", "cpu", phase)
        times = {"seconds": seconds, "low": 0.9 * seconds, "high": 1.1 * seconds}
        return CostRow(*where, **times, peak_bytes=1000, gradient_error=0.0)

    for place, factor in (("before", 1), ("after", 2)):
        rows = [cost(g, p, factor) for g in ("anode", "node") for p in ("step", "forward")]
        records.write_rows(tmp_path / place / "measurements.csv", CostRow, rows[: 5 - factor])
    found = compare(tmp_path / "before", tmp_path / "after")
    times = found.changes[found.changes["quantity"] == "time per step"]
    assert times["case"].tolist() == [
        "resnet4, anode, step",
        "resnet4, anode, forward",
        "resnet4, node, step",
    ]
    assert times["worsening"].tolist() == [1, 1, 1]
    memory = found.changes[found.changes["quantity"] == "peak memory"]
    assert memory["verdict"].tolist() == ["same", "same"]
    assert found.only_before == ("resnet4 rk2 2 node 64 contiguous float32 eager cpu forward",)


def test_gradient_errors_in_float64_have_the_rounding_of_float64(tmp_path):
    for place, error in (("before", 1e-13), ("after", 2e-13)):
        key = ("resnet4", "rk2", 2, "anode-steps", "float64", "initial", "relu", 1.0, "cpu")
        rows = [GradientRow(*key, part="all parameters", error=error, cosine=1, lipschitz=1)]
        records.write_rows(tmp_path / place / "measurements.csv", GradientRow, rows)
    found = compare(tmp_path / "before", tmp_path / "after").changes
    assert found["verdict"].tolist() == ["worse"]


def test_suites_are_paired_by_name_where_a_folder_has_several(tmp_path):
    for place, seconds in (("before", 1.0), ("after", 3.0)):
        for suite, factor in (("one", 1.0), ("two", 2.0)):
            where = ("resnet4", "rk2", 2, "anode", 64, "cpu", "float32")
            time = factor * seconds
            row = Measurement(*where, "seconds_per_step", "seconds", time, time, time, 1)
            records.write_rows(tmp_path / place / suite / "measurements.csv", Measurement, [row])
    found = compare(tmp_path / "before", tmp_path / "after").changes
    assert found[["suite", "before", "after"]].values.tolist() == [["one", 1, 3], ["two", 2, 6]]
    # Two suites by themselves are compared whatever their names are.
    one = compare(tmp_path / "before" / "one", tmp_path / "after" / "two").changes
    assert one[["before", "after"]].values.tolist() == [[1, 6]]


def test_folder_of_a_suite_may_be_renamed(tmp_path):
    where = ("resnet4", "rk2", 2, "anode", 64, "cpu", "float32", "seconds_per_step", "seconds")
    for place in ("before", "after"):
        write(tmp_path / place, run(epochs=epochs()))
        records.write_rows(
            tmp_path / place / "suite" / "measurements.csv",
            Measurement,
            [Measurement(*where, 1, 1, 1, 1)],
        )
    renamed = (tmp_path / "after" / "suite").rename(tmp_path / "after" / "renamed")
    found = compare(tmp_path / "before" / "suite", renamed)
    assert (found.only_before, found.only_after) == ((), ())


def test_folders_that_cannot_be_compared_are_refused(tmp_path):
    folder = write(tmp_path / "whole", run(epochs=epochs()))
    empty = tmp_path / "empty"
    empty.mkdir()
    for other, said in (
        (tmp_path / "nowhere", "is no folder"),
        (empty, "no recorded run or measurement"),
        (write(tmp_path / "other", run("b", seed=7, epochs=epochs())), "in common"),
    ):
        with pytest.raises(UsageError, match=said):
            compare(folder, other)
        with pytest.raises(UsageError, match=said):
            compare(other, folder)
    (folder / "a" / records.EPOCHS).write_text("epoch\n")
    with pytest.raises(UsageError, match="is damaged"):
        compare(folder, folder)
