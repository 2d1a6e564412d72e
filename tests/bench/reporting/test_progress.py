import io
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from bench.reporting import progress, remaining
from bench.reporting.names import shared, short_names
from bench.reporting.progress import SuiteProgress
from bench.reporting.remaining import Plan, Position
from tests.bench.builders import experiment, row, run

REASON = """Traceback (most recent call last):
  File "a.py", line 1, in a
    raise KeyError
KeyError

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "a.py", line 2, in a
    raise RuntimeError(...)
RuntimeError: it \x1b[31mbroke\r
and this is more"""


EPOCH = 1000.0
"""Planned seconds of an epoch of the first experiment; the plan counts little beside them."""


def suite(width=200, **console):
    """Two experiments of four epochs with ten steps; the second needs three times as long."""
    first, second = experiment(seed=0, num_epochs=4), experiment(seed=1, num_epochs=4)
    output = io.StringIO()
    plans = {first: Plan(4, 10, EPOCH / 10), second: Plan(4, 10, 3 * EPOCH / 10)}
    return first, second, SuiteProgress(Console(file=output, width=width, **console), plans), output


@pytest.fixture
def clock(monkeypatch):
    """Its attribute `now` is the time."""
    time = SimpleNamespace(now=0.0, monotonic=lambda: time.now)
    for module in (progress, remaining):
        monkeypatch.setattr(module, "time", time)
    return time


def ended(of, **changes):
    return run(of.name, epochs=[row(1)], summary={"seconds": 5.0}, **changes)


def test_log_gets_a_line_for_each_run_that_ends():
    first, second, shown, output = suite()
    with shown:
        shown.run_started(first)
        shown.run_started(second)
        shown.stepped(second, Position(1, 3, 2.5))
        shown.epoch_finished(second, row(1))
        shown.run_finished(ended(second))
        shown.run_finished(ended(first, status="failed", reason=REASON))
    one, other = output.getvalue().splitlines()
    assert one.startswith(f"[1/2] {second.name}: test accuracy 10.0%, loss 2.000")
    assert "; the suite: " in one
    assert other == f"[2/2] {first.name}: FAILED: RuntimeError: it \\x1b[31mbroke\\r"


def test_what_an_exception_says_is_not_told_at_any_length():
    told = progress.describe(run("a", status="failed", reason="it broke" * 1000))
    assert told.startswith("FAILED: it broke")
    assert told.endswith("…")
    assert len(told) < 400


def test_log_gets_a_line_of_a_long_run_now_and_then_and_what_is_left(clock):
    _, second, shown, output = suite()
    with shown:
        shown.run_started(second)
        for epoch, clock.now in enumerate((600.0, 610.0, 1200.0, 2400.0), start=1):
            shown.epoch_finished(second, row(epoch))
        shown.run_finished(ended(second))  # three quarters of the suite
    lines = output.getvalue().splitlines()
    assert [line.split(": ")[-1].rsplit(", ", 1)[1] for line in lines[:-1]] == [
        "30 minutes left",
        "7 minutes left",
        "0 seconds left",
    ]
    assert f"{second.name}: 1/4 epochs, loss 2.000, test accuracy 10.0%, 30 min" in lines[0]
    assert lines[-1].endswith("; the suite: 13 minutes left")


def test_remaining_time_follows_from_measured_steps_also_of_runs_that_have_not_begun(clock):
    first, _, shown, _ = suite()
    assert shown._suite_seconds_left() == pytest.approx(16 * EPOCH)  # as planned
    shown.run_started(first)
    clock.now = 500.0  # the start counts in no step
    shown.stepped(first, Position(1, 1, 2.5))
    clock.now = 1500.0  # ten times as slow
    shown.stepped(first, Position(1, 2, 2.5))
    assert shown._suite_seconds_left() == pytest.approx(10 * 15.8 * EPOCH, rel=0.05)


def test_runs_at_once_share_the_planned_time():
    first, second = experiment(seed=0), experiment(seed=1)
    plans = {first: Plan(2, 10, 1.0), second: Plan(2, 10, 1.0)}
    shown = SuiteProgress(Console(file=io.StringIO()), plans, at_once=2)
    assert shown._suite_seconds_left() == pytest.approx(20.0, rel=0.01)


def test_steps_before_a_checkpoint_are_not_left():
    first, second = experiment(seed=0), experiment(seed=1)
    plans = {first: Plan(2, 10, 1.0), second: Plan(2, 10, 1.0)}
    shown = SuiteProgress(Console(file=io.StringIO()), plans, reached={first: (2, 5)})
    assert shown._suite_seconds_left() == pytest.approx(25.0, rel=0.01)
    shown.run_started(first)
    shown.run_postponed(first)
    assert shown._suite_seconds_left() == pytest.approx(25.0, rel=0.01)


def test_terminal_of_80_columns_shows_all_that_run_and_the_suite(clock):
    first, second, shown, output = suite(
        80, force_terminal=True, force_interactive=True, color_system=None
    )
    with shown:
        shown.run_started(first)
        shown.run_started(second)
        shown.epoch_finished(second, row(1))
        shown.stepped(second, Position(2, 10, 1.5))
        shown.stepped(first, Position(1, 7, 2.25))
        clock.now = 60.0
        shown._live.refresh()
    titles, one, other, whole = output.getvalue().rsplit("epoch", 1)[1].splitlines()[:4]
    assert titles.split() == ["step", "loss", "accuracy", "left"]
    shown_of_one, shown_of_other = (re.sub("[━╸╺]", "", line).split()[:-2] for line in (one, other))
    assert shown_of_one == ["seed", "0", "1/4", "7/10", "2.250", "–"]
    assert shown_of_other == ["seed", "1", "2/4", "testing", "1.500", "10.0%"]
    assert whole.startswith("0 of 2 runs done ━")
    assert all("━" in line and len(line) <= 80 for line in (one, other, whole))


def test_name_of_a_run_is_what_differs_and_the_rest_is_said_once():
    runs = [
        experiment(gradient=gradient, method=method, n_steps=n_steps)
        for method, n_steps in (("euler", 1), ("rk2", 2))
        for gradient in ("baseline", "node")
    ]
    assert [*short_names(runs).values()] == ["baseline", "euler nt1 node", "rk2 nt2 node"]
    assert shared(runs).startswith("resnet4, seed 0, 2 epochs, batch 32, lr 0.1, 80 training")
    assert [*short_names(runs[3:]).values()] == ["resnet4 node"]  # nothing differs


def test_what_a_run_did_before_it_was_stopped_is_not_taken_for_speed(clock):
    _, second, shown, output = suite()
    with shown:
        shown.run_started(second)
        shown.run_resumed(second, [row(1), row(2)])
        shown.stepped(second, Position(3, 1, 0.7))
        clock.now = 600.0
        shown.epoch_finished(second, row(3))
        clock.now = 1200.0
        shown.epoch_finished(second, row(4))
        shown.run_finished(ended(second))
    one, _, other = output.getvalue().splitlines()
    assert one.endswith("3/4 epochs, loss 0.667, test accuracy 30.0%, 11 minutes left")
    # Half of three quarters took 20 minutes, and a quarter is left.
    assert other.endswith("; the suite: 14 minutes left")


def test_run_of_another_process_is_no_run_here():
    first, second, shown, output = suite()
    with shown:
        shown.run_started(first)
        shown.run_postponed(first)
        shown.note("another process is running it")
        shown.run_started(second)
        shown.run_finished(ended(second))
    lines = output.getvalue().splitlines()
    assert lines[0] == "another process is running it"
    assert lines[1].startswith(f"[1/2] {second.name}")


def test_what_a_run_does_again_after_its_process_died_is_more_to_do(clock):
    _, second, shown, output = suite()
    with shown:
        shown.run_started(second)
        for epoch, clock.now in enumerate((100.0, 200.0, 300.0), start=1):
            shown.epoch_finished(second, row(epoch))
        shown.run_resumed(second, [])  # without a checkpoint
        shown.run_resumed(second, [row(1)])  # with one, and once more
        shown.run_resumed(second, [row(1)])
        for epoch, clock.now in enumerate((400.0, 500.0, 600.0), start=2):
            shown.epoch_finished(second, row(epoch))
        shown.run_finished(ended(second))
    *lines, last = output.getvalue().splitlines()
    assert "2/4 epochs, loss 1.000, test accuracy 20.0%, 3 minutes left" in lines[-3]
    assert lines[-1].endswith("0 seconds left")
    # Six epochs took ten minutes, and the other run takes as long as one and a third.
    assert last.endswith("; the suite: 2 minutes left")
