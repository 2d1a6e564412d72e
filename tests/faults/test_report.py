"""The table of faults says what its tests did, and no more."""

import subprocess
import sys

from tests.faults.command import ROOT

TESTS = """
import pytest

@pytest.mark.fault("kill")
@pytest.mark.parametrize("times", [2, 3])
def test_two(injected, times):
    injected(times, "all as it must be")

@pytest.mark.fault("shared")
def test_breaks(injected):
    injected(1, "all as it must be")
    assert False

@pytest.mark.fault("ray")
def test_not_here(injected):
    pytest.skip("not here")

@pytest.mark.fault("writes")
def test_that_counts_nothing():
    pass

def test_of_no_row():
    pass
"""


def test_table_says_what_was_counted_what_failed_and_what_did_not_run(tmp_path):
    file, report = tmp_path / "test_made_up.py", tmp_path / "faults.md"
    file.write_text(TESTS)
    line = ["-p", "tests.conftest", "-p", "no:cacheprovider", "--faults-report", str(report), "-q"]
    code = subprocess.run(
        [sys.executable, "-m", "pytest", *line, "-o", "addopts=", "--rootdir", tmp_path, file],
        cwd=ROOT,
        capture_output=True,
    ).returncode
    assert code == 1
    rows = {}
    for row in report.read_text().splitlines():
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        if len(cells) == 5:
            rows[cells[0].split()[-1]] = cells[1:4]
    assert rows["command"] == ["5 times", "5 × all as it must be", "2"]
    assert rows["folder"] == ["1 times", "**1 of the tests failed**; 1 × all as it must be", "1"]
    assert rows["killed"] == ["0 times", "**1 of the tests skipped**", "1"]
    assert rows["gone"] == ["0 times", "nothing was counted", "1"]
    assert rows["options"] == ["–", "did not run", "0"]
