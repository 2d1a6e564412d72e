"""The report: one page about what is recorded, and what it says."""

import re
import shutil
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

import plots
import run_bench
from bench import records
from bench.errors import UsageError
from tests.bench.builders import row, run
from tests.plots.test_figures import REFERENCE, record

HOSTILE = 'A <script>alert(1)</script> & "B" 100%_$'


class Page(HTMLParser):
    """The links, pictures, headings and text of a page."""

    def __init__(self, file):
        super().__init__()
        self.links, self.pictures, self.text = [], [], ""
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.links += [values["href"]] if tag == "a" else []
        self.pictures += [values["src"]] if tag == "img" else []

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The folder of a suite with its report, and the names of its runs."""
    folder, names = record(tmp_path_factory.mktemp("drawn"))
    plots.draw(tuple(plots.FIGURES), folder, names)
    return folder, names


@pytest.fixture
def suite(drawn, tmp_path):
    """A copy of that folder."""
    return shutil.copytree(drawn[0], tmp_path / "suite")


def test_report_shows_every_figure_and_states_what_was_run_on_what(drawn):
    suite, _ = drawn
    page = Page(suite / "report.html")
    assert len(page.pictures) == len([*suite.rglob("*.png")])
    assert all(picture.startswith("data:image/svg+xml,") for picture in page.pictures)
    for said in (
        *("12 (11 ok, 1 diverged)", "0, 1", "real images, fingerprint 0123", "a test machine"),
        *("4 epochs, batch 64", "Gradient error against epoch", "76.92 / 77.45"),
    ):
        assert said in page.text
    assert page.text.count(f"python -m plots {suite}") >= 4


def test_links_of_a_report_are_relative_and_lead_to_records_and_figures(suite):
    links = [unquote(link) for link in Page(suite / "report.html").links]
    assert all((suite / link).exists() and not link.startswith("/") for link in links)
    assert sum(link.endswith("run.json") for link in links) == 12
    assert {"measurements.csv", "figures/training-rk2-nt2.svg", "figures/accuracy.csv"} < {*links}


def test_committed_report_links_to_what_is_committed_and_names_a_command_for_each_folder():
    folder = REFERENCE / "report.html"
    page = Page(folder)
    links = [unquote(link) for link in page.links if not link.startswith("#")]
    assert [link for link in links if not (REFERENCE / link).exists()] == []
    for suite in (file.parent.name for file in REFERENCE.glob("*/figures")):
        has_records = suite != "gradients"
        assert (
            f"python -m plots results/reference/{suite} --format png" in page.text
        ) == has_records
    assert folder.stat().st_size < 5e6


def test_report_names_no_other_address(suite):
    text = (suite / "report.html").read_text()
    addresses = re.findall(r'(?:src|href|action)="([^"]*)"|url\(|@import', text)
    assert not [a for a in addresses if re.match(r"(?!data:)[a-z]+:|//", a)]
    assert "default-src 'none'" in text


def test_foreign_text_stays_text_in_report_and_table(tmp_path):
    own = {"device": "cpu", "device_name": HOSTILE, "labels": {"mine:MINE": HOSTILE}}
    made = run("a", epochs=[row(1)], gradient="mine:MINE", environment=own)
    records.write_run(tmp_path, made)
    how = plots.How(("png", "tex"))
    plots.draw(["accuracy_table"], tmp_path / "suite", ["a"], how=how)
    page = Page(tmp_path / "suite" / "report.html")
    assert page.text.count(HOSTILE) == 4  # device, table, its caption, row of the run
    table = (tmp_path / "suite" / "figures" / "accuracy.tex").read_text()
    assert r"100\%\_\$" in table
    assert r"\textless{}script\textgreater{}" in table


def test_folder_of_several_suites_has_one_report(suite):
    made = run("a", epochs=[row(1)], suite="other & more")
    records.write_run(suite.parent, made)
    assert run_bench.main(["--report", "--out", str(suite.parent)]) == 0
    page = Page(suite.parent / "report.html")
    assert {"#suite", "#other-more", "suite/measurements.csv"} < {*page.links}
    assert "other & more" in page.text


def test_runs_of_different_protocols_are_not_put_into_one_figure(suite):
    before = (suite / "figures" / "accuracy.csv").read_bytes()
    records.write_run(suite.parent, run("longer", epochs=[row(1)], num_epochs=9))
    files = plots.draw_folder(suite)
    assert {file.parent.name for file in files if file.name == "accuracy.csv"} > {"figures"}
    assert (suite / "figures" / "accuracy.csv").read_bytes() == before
    assert {"4 epochs, batch 64", "9 epochs, batch 64"} <= {
        said for said in re.findall(r"\d epochs, batch 64", Page(files[-1]).text)
    }


def test_same_records_give_the_same_report(drawn):
    before = (drawn[0] / "report.html").read_bytes()
    plots.draw(tuple(plots.FIGURES), *drawn)
    assert (drawn[0] / "report.html").read_bytes() == before


@pytest.mark.parametrize("line", ["--report", "--report --suite smoke", "--plots-only"])
def test_report_without_records_is_one_line_and_writes_nothing(tmp_path, capsys, line):
    assert run_bench.main([*line.split(), "--out", str(tmp_path)]) == 2
    assert re.fullmatch(r"error: [^\n]+ run [^\n]+\n", capsys.readouterr().err)
    assert [*tmp_path.iterdir()] == []


def test_report_that_cannot_be_written_is_one_line(tmp_path):
    folder, names = record(tmp_path)
    (folder / "report.html").mkdir()
    with pytest.raises(UsageError, match=r"cannot write .*report\.html"):
        plots.draw(["accuracy_table"], folder, names)
