"""Two folders of results compared: every difference is judged against its noise."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench import records
from bench.records import CostRow, GradientRow, Measurement, Run
from bench.records.comparison import compare, noise
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


def verdict(folder, quantity, before, after):
    """The verdict and the change between two runs, each a record or its epochs."""
    first, second = (one if isinstance(one, Run) else run(epochs=one) for one in (before, after))
    found = change(compared(folder, [first], [second]), quantity)
    return found["verdict"], found


@pytest.mark.parametrize("suite", COMMITTED, ids=lambda folder: folder.name)
def test_every_committed_result_is_the_same_as_itself(suite):
    found = compare(suite, suite)
    assert len(found.changes)
    assert set(found.changes["verdict"]) == {"same"}
    assert (found.conditions, found.only_before, found.only_after) == ((), (), ())
    assert not found.changes.duplicated(["suite", "case", "seed", "quantity"]).any()


@pytest.mark.parametrize(("more", "judged"), [(3, "within noise"), (20, "better")])
def test_accuracy_on_the_same_images_is_judged_by_mcnemar(tmp_path, more, judged):
    first, second = (np.arange(N_IMAGES) < 160 + count for count in (0, more))
    one, other = (
        run(epochs=epochs(test_accuracy=c.mean()), correct={"running": records.packed(c)})
        for c in (first, second)
    )
    found, change_of_accuracy = verdict(tmp_path / "same", "accuracy, running", one, other)
    assert found == judged
    assert change_of_accuracy["difference"] == pytest.approx(more / N_IMAGES)
    assert (noise.mcnemar(first, second).p_value < 0.05) == (judged == "better")
    # On other images the same difference is within the noise of both.
    other = replace(other, data={**other.data, "fingerprint": "4567"})
    found = compared(tmp_path / "other", [one], [other])
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
    two = (epochs(test_accuracy=value) for value in (0.5, 0.4))
    judged, found = verdict(tmp_path, "accuracy, running", *two)
    assert found["noise"] == pytest.approx(1.96 * math.sqrt((0.25 + 0.24) / N_IMAGES))
    assert (judged, found["worsening"]) == ("worse", pytest.approx(0.1))


def test_seeds_are_compared_one_by_one_and_together(tmp_path):
    def of_losses(*losses):
        seeds = enumerate(losses)
        return [run(f"seed{s}", seed=s, epochs=epochs(train_loss=loss)) for s, loss in seeds]

    found = compared(tmp_path, of_losses(1, 2, 3), of_losses(1.1, 2.1, 3.13))
    assert change(found, "training loss", "0")["difference"] == pytest.approx(0.1)
    assert math.isnan(change(found, "training loss", "0")["noise"])
    mean = change(found, "training loss", "mean")
    assert [mean["difference"], mean["noise"]] == pytest.approx([0.11, 4.30 * 0.01])
    assert (mean["verdict"], mean["worsening"]) == ("worse", pytest.approx(0.055))
    results = found.results
    assert results[results["quantity"] == "training loss"]["seed"].tolist() == ["mean"]
    scattered = compared(tmp_path / "scattered", of_losses(1, 2, 3), of_losses(1.5, 1.8, 3.1))
    assert change(scattered, "training loss", "mean")["verdict"] == "within noise"


def taking(*seconds):
    return [row(i, seconds_per_step=s) for i, s in enumerate(seconds, start=1)]


@pytest.mark.parametrize(
    ("seconds", "judged"),
    [
        ((1.25, 1.25, 1.4, 1.5, 1.5), "within noise"),
        ((1.35, 1.35, 1.4, 1.5, 1.5), "worse"),
        ((0.5, 0.6, 0.7), "better"),
    ],
)
def test_time_differs_where_the_quartiles_do_not_overlap(tmp_path, seconds, judged):
    before = taking(1.0, 1.1, 1.2, 1.3, 1.4)  # quartiles: 1.1 and 1.3
    found, time = verdict(tmp_path, "time per step", before, taking(*seconds))
    assert found == judged
    assert time["worsening"] == pytest.approx(sorted(seconds)[len(seconds) // 2] / 1.2 - 1)


def test_mean_over_seeds_that_agree_has_the_noise_of_the_single_seeds(tmp_path):
    def seeds(*seconds):
        return [run(f"seed{seed}", seed=seed, epochs=taking(*seconds)) for seed in (0, 1)]

    mean = change(compared(tmp_path, seeds(1, 2, 3), seeds(1.1, 2.1, 3.1)), "time per step", "mean")
    assert mean["noise"] == pytest.approx(1 / math.sqrt(2))
    assert mean["verdict"] == "within noise"


def test_any_difference_of_memory_is_a_difference(tmp_path):
    two = (run(epochs=epochs(), summary={"peak_memory_bytes": n}) for n in (1000, 1008))
    judged, found = verdict(tmp_path, "peak memory", *two)
    assert (judged, found["worsening"]) == ("worse", 0.008)


@pytest.mark.parametrize(
    ("before", "after", "judged"),
    [
        (0.0, 1e-9, "worse"),  # no longer the same bits
        (1e-7, 2e-7, "within noise"),  # rounding
        (1e-7, 1e-4, "worse"),
        (0.3, 0.2, "better"),
        (0.3, 0.3 + 1e-9, "worse"),  # of an inexact method: the noise is not known
    ],
)
def test_noise_of_a_gradient_error_is_rounding_or_unknown(tmp_path, before, after, judged):
    two = (epochs(gradient_error=error) for error in (before, after))
    found, error = verdict(tmp_path, "gradient error", *two)
    assert found == judged
    assert math.isnan(error["noise"]) == (max(before, after) > 1e-5)


def test_a_run_that_diverges_is_worse_than_one_that_is_completed(tmp_path):
    whole, lost = run(epochs=epochs()), run(epochs=epochs(train_loss=math.inf), status="diverged")
    others = [run(f"seed{seed}", seed=seed, epochs=epochs()) for seed in (1, 2)]
    found = compared(tmp_path, [whole], [lost])
    assert change(found, "completed")["verdict"] == "worse"
    assert found.changes["quantity"].tolist() == ["completed"]
    found = compared(tmp_path / "seeds", [whole, *others], [lost, *others])
    assert change(found, "completed", "mean")["verdict"] == "worse"


def test_conditions_and_runs_of_one_folder_alone_are_named(tmp_path):
    newer = {"device": "cpu", "device_name": "another", "packages": {"torch": "3"}}
    first = [run("a", epochs=epochs()), run("b", seed=1, epochs=epochs())]
    second = [run("a", epochs=epochs(), environment=newer), run("c", seed=2, epochs=epochs())]
    found = compared(tmp_path, first, second)
    assert (found.only_before, found.only_after) == (("b",), ("c",))
    assert found.conditions == (
        ("device", "a test machine", "a test machine | another"),
        ("torch", "not stated", "3"),
    )


def test_cases_are_named_by_what_they_do_not_share(tmp_path):
    for field, values, names in (
        ("gradient", ("node", "baseline"), {"resnet4, node", "resnet4, baseline"}),
        ("lr", (0.1, 0.2), {"resnet4, node, lr 0.1", "resnet4, node, lr 0.2"}),
    ):
        runs = [run(str(value), **{field: value}, epochs=epochs()) for value in values]
        assert set(compared(tmp_path / field, runs, runs).changes["case"]) == names


def write_rows(folder, row_type, *rows):
    records.write_rows(folder / records.MEASUREMENTS, row_type, rows)


def test_measurements_are_paired_by_what_was_measured(tmp_path):
    def cost(gradient, phase, seconds):
        where = ("resnet4", "rk2", 2, gradient, 64, "contiguous", "float32", "eager", "cpu", phase)
        times = {"seconds": seconds, "low": 0.9 * seconds, "high": 1.1 * seconds}
        return CostRow(*where, **times, peak_bytes=1000, gradient_error=0.0)

    for place, factor in (("before", 1), ("after", 2)):
        rows = [cost(g, p, factor) for g in ("anode", "node") for p in ("step", "forward")]
        write_rows(tmp_path / place, CostRow, *rows[: 5 - factor])
    found = compare(tmp_path / "before", tmp_path / "after")
    times = found.changes[found.changes["quantity"] == "time per step"]
    cases = [("anode", "step"), ("anode", "forward"), ("node", "step")]
    assert times["case"].tolist() == [f"resnet4, {g}, {phase}" for g, phase in cases]
    assert times["worsening"].tolist() == [1, 1, 1]
    memory = found.changes[found.changes["quantity"] == "peak memory"]
    assert memory["verdict"].tolist() == ["same", "same"]
    assert found.only_before == ("resnet4 rk2 2 node 64 cpu contiguous float32 eager forward",)


def test_gradient_errors_in_float64_have_the_rounding_of_float64(tmp_path):
    for place, error in (("before", 1e-13), ("after", 2e-13)):
        key = ("resnet4", "rk2", 2, "anode-steps", "float64", "initial", "relu", 1.0, "cpu")
        row = GradientRow(*key, part="all parameters", error=error, cosine=1, lipschitz=1)
        write_rows(tmp_path / place, GradientRow, row)
    found = compare(tmp_path / "before", tmp_path / "after").changes
    assert found["verdict"].tolist() == ["worse"]


def test_suites_are_paired_by_name_where_a_folder_has_several(tmp_path):
    where = ("resnet4", "rk2", 2, "anode", 64, "cpu", "float32", "seconds_per_step", "seconds")
    for place, seconds in (("before", 1.0), ("after", 3.0)):
        for suite, factor in (("one", 1.0), ("two", 2.0)):
            row = Measurement(*where, *[factor * seconds] * 3, 1)
            write_rows(tmp_path / place / suite, Measurement, row)
    found = compare(tmp_path / "before", tmp_path / "after").changes
    assert found[["suite", "before", "after"]].values.tolist() == [["one", 1, 3], ["two", 2, 6]]
    # Two suites by themselves are compared whatever their names are.
    one = compare(tmp_path / "before" / "one", tmp_path / "after" / "two").changes
    assert one[["before", "after"]].values.tolist() == [[1, 6]]
