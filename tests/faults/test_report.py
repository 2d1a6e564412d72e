from collections import Counter

from tests.faults.report import ROWS, Row, table


def test_table_says_what_was_counted_what_failed_and_what_did_not_run():
    rows = {name: Row() for name in ROWS}
    rows["kill"] = Row(Counter({"no loss": 5}), Counter(passed=2), 90.0)
    rows["shared"] = Row(Counter({"no loss": 1}), Counter(failed=1))
    rows["ray"] = Row(tests=Counter(skipped=1))
    rows["writes"] = Row(tests=Counter(passed=1))
    cells = {name: line for name, line in zip(ROWS, table(rows)[4:], strict=True)}
    assert cells["kill"].endswith("| 5 times | 5 × no loss | 2 | 1.5 |")
    assert "| 1 times | **1 of the tests failed**; 1 × no loss | 1 |" in cells["shared"]
    assert "| 0 times | **1 of the tests skipped** | 1 |" in cells["ray"]
    assert "| 0 times | nothing was counted | 1 |" in cells["writes"]
    assert "| – | did not run | 0 |" in cells["hostile"]
