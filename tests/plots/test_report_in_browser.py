"""The report in a real browser, Chromium or Chrome without a window: make test-report."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest

import plots
from tests.plots.test_figures import recorded  # noqa: F401

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
COMMITTED = Path(__file__).parents[2] / "results" / "reference" / "report.html"

WATCH = """<script>
const wrong = [];
addEventListener("error", (event) => wrong.push(String(event.message || event.target.src)), true);
addEventListener("securitypolicyviolation", (event) => wrong.push(event.blockedURI));
</script>"""
LOOK = """<script>
addEventListener("load", () => {
  const tables = [...document.querySelectorAll("table")];
  const column = (table, i) => [...table.tBodies[0].rows].map((row) => row.cells[i].textContent);
  const sorted = tables.map((table) => [...table.querySelectorAll("th")].map((head, i) => {
    const found = [column(table, i)];
    for (const turn of [1, 2]) {
      head.querySelector("button").click();
      found.push(column(table, i));
    }
    return found;
  }));
  const found = {
    wrong, sorted,
    widths: [...document.images].map((image) => image.naturalWidth),
    requests: performance.getEntriesByType("resource").map((entry) => entry.name)
      .filter((name) => !name.startsWith("data:")),
    overflow: document.documentElement.scrollWidth - innerWidth,
  };
  const told = document.createElement("pre");
  told.id = "found";
  told.textContent = JSON.stringify(found);
  document.body.append(told);
});
</script>"""


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    return found


@pytest.fixture(params=["committed", "of a suite"])
def page(request, recorded):  # noqa: F811
    if request.param == "committed":
        return COMMITTED
    folder, names = recorded
    return plots.draw(tuple(plots.FIGURES), folder, names)[-1]


def open_in(browser, file, tmp_path, size):
    """The findings of WATCH and LOOK in a copy of the page."""
    copy = tmp_path / "copy.html"
    text = file.read_text(encoding="utf-8")
    copy.write_text(
        text.replace("<head>", f"<head>{WATCH}", 1).replace("</body>", f"{LOOK}</body>")
    )
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--window-size={size}"]
    home = ["--user-data-dir=" + str(tmp_path / "profile"), "--virtual-time-budget=10000"]
    command = [browser, *flags, *home, "--dump-dom", copy.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    return json.loads(unescape(re.search(r'<pre id="found">(.*?)</pre>', shown, re.DOTALL)[1]))


@pytest.mark.browser
def test_report_loads_alone_shows_its_figures_and_sorts_its_tables(browser, page, tmp_path):
    found = open_in(browser, page, tmp_path, "1200,900")
    assert found["wrong"] == []
    assert found["requests"] == []
    assert len(found["widths"]) >= 3
    assert all(width > 100 for width in found["widths"])
    assert found["overflow"] <= 0
    changed = 0
    for before, up, down in (column for table in found["sorted"] for column in table):
        assert sorted(before) == sorted(up) == sorted(down)
        numbers = [float(cell.replace(",", "")) for cell in up if re.fullmatch(r"[\\d,.]+", cell)]
        assert numbers == sorted(numbers)
        changed += up != before or down != before
    assert changed


@pytest.mark.browser
def test_report_is_no_wider_than_a_phone(browser, page, tmp_path):
    # A window has at least 500 pixels without a frame around it.
    frame = tmp_path / "phone.html"
    frame.write_text(
        page.read_text(encoding="utf-8").replace("<body>", '<body style="width:380px">')
    )
    assert open_in(browser, frame, tmp_path, "500,900")["overflow"] <= 0
