import io
from types import SimpleNamespace

from rich.console import Console

from bench.reporting import progress
from bench.reporting.progress import SuiteProgress
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


def suite(**console):
    """Two experiments, the second estimated to take three times as long."""
    first, second = experiment(seed=0, num_epochs=4), experiment(seed=1, num_epochs=4)
    output = io.StringIO()
    shown = SuiteProgress(
        Console(file=output, width=200, **console), {first.name: 1.0, second.name: 3.0}
    )
    return first, second, shown, output


def ended(of, **changes):
    return run(of.name, epochs=[row(1)], summary={"seconds": 5.0}, **changes)


def test_log_gets_a_line_for_each_run_that_ends():
    first, second, shown, output = suite()
    with shown:
        shown.run_started(first)
        shown.run_started(second)
        shown.epoch_finished(second, row(1))
        shown.run_finished(ended(second))
        shown.run_finished(ended(first, status="failed", reason=REASON))
    one, other = output.getvalue().splitlines()
    assert one.startswith(f"[1/2] {second.name}: test accuracy 10.0%, loss 2.000")
    assert "; the suite: 0 seconds left" in one
    assert other == f"[2/2] {first.name}: FAILED: RuntimeError: it \\x1b[31mbroke\\r"


def test_what_an_exception_says_is_not_told_at_any_length():
    told = progress.describe(run("a", status="failed", reason="it broke" * 1000))
    assert told.startswith("FAILED: it broke")
    assert told.endswith("…")
    assert len(told) < 400


def test_log_gets_a_line_of_a_long_run_now_and_then_and_what_is_left(monkeypatch):
    now = 0.0
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now))
    first, second, shown, output = suite()
    with shown:
        shown.run_started(second)
        for epoch, now in enumerate((600.0, 610.0, 1200.0, 2400.0), start=1):  # noqa: B007
            shown.epoch_finished(second, row(epoch))
        shown.run_finished(ended(second))  # three quarters of the suite
        shown.run_started(first)
    lines = output.getvalue().splitlines()
    assert [line.split(": ")[-1].rsplit(", ", 1)[1] for line in lines[:-1]] == [
        "30 minutes left",
        "7 minutes left",
        "0 seconds left",
    ]
    assert f"{second.name}: 1/4 epochs, loss 2.000, test accuracy 10.0%, 30 min" in lines[0]
    assert lines[-1].endswith("; the suite: 13 minutes left")


def test_terminal_shows_all_that_run_and_the_suite_at_once():
    first, second, shown, output = suite(
        force_terminal=True, force_interactive=True, color_system=None
    )
    with shown:
        shown.run_started(first)
        shown.run_started(second)
        shown.epoch_finished(second, row(1))
        shown.epoch_finished(first, row(1))
        shown.epoch_finished(first, row(2))
    whole, one, other = output.getvalue().rsplit("suite", 1)[1].splitlines()[:3]
    assert "0/2 runs" in whole
    assert first.name in one
    assert "2/4 epochs" in one
    assert second.name in other
    assert "1/4 epochs" in other
    assert "left, loss 2.000, test accuracy 10.0%" in other


def test_what_a_run_did_before_it_was_stopped_is_not_taken_for_speed(monkeypatch):
    now = 0.0
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now))
    _, second, shown, output = suite()
    with shown:
        shown.run_started(second)
        shown.run_resumed(second, [row(1), row(2)])
        now = 600.0
        shown.epoch_finished(second, row(3))
        now = 1200.0
        shown.epoch_finished(second, row(4))
        shown.run_finished(ended(second))
    one, _, other = output.getvalue().splitlines()
    assert one.endswith("3/4 epochs, loss 0.667, test accuracy 30.0%, 10 minutes left")
    # Half of three quarters took 20 minutes, and a quarter is left.
    assert other.endswith("; the suite: 13 minutes left")


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


def test_what_a_run_does_again_after_its_process_died_is_more_to_do(monkeypatch):
    now = 0.0
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now))
    _, second, shown, output = suite()
    with shown:
        shown.run_started(second)
        for epoch, now in enumerate((100.0, 200.0, 300.0), start=1):  # noqa: B007
            shown.epoch_finished(second, row(epoch))
        shown.run_resumed(second, [])  # without a checkpoint
        shown.run_resumed(second, [row(1)])  # with one, and once more
        shown.run_resumed(second, [row(1)])
        for epoch, now in enumerate((400.0, 500.0, 600.0), start=2):  # noqa: B007
            shown.epoch_finished(second, row(epoch))
        shown.run_finished(ended(second))
    *lines, last = output.getvalue().splitlines()
    assert "2/4 epochs, loss 1.000, test accuracy 20.0%, 3 minutes left" in lines[-3]
    assert lines[-1].endswith("0 seconds left")
    # Six epochs took ten minutes, and the other run takes as long as one and a third.
    assert last.endswith("; the suite: 2 minutes left")
