"""Figures and tables for a paper."""

import re

import matplotlib as mpl
import pandas as pd
import pytest

import plots
import run_bench
from plots import latex, markdown, style
from plots.__main__ import main as draw_again
from tests.plots.test_figures import record

TEXT = """A table of 2 numbers:

| a_b | second |
| --- | --- |
| 1 ± 2 | 5% |
| **no** | ρ ≤ 3 \\| x |

Its note.

The next.

| only |
| --- |
| – |
"""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The folder of figures, drawn in all formats."""
    folder, names = record(tmp_path_factory.mktemp("drawn"))
    files = plots.draw([*plots.FIGURES], folder, names, how=plots.How(("pdf", "svg", "png", "tex")))
    assert all(file.exists() for file in files)
    return folder / "figures"


def test_figures_are_as_wide_as_a_papers_columns_and_their_letters_are_text(drawn):
    pdf = (drawn / "training-rk2-nt2.pdf").read_bytes()
    width = float(re.search(rb"/MediaBox \[ ?0 0 ([\d.]+)", pdf)[1])
    assert width == pytest.approx(72 * style.TWO_COLUMNS)
    assert b"/Type42" in pdf or b"/TrueType" in pdf or b"/CIDFontType2" in pdf
    svg = (drawn / "training-rk2-nt2.svg").read_text()
    assert f'width="{72 * style.TWO_COLUMNS:g}pt"' in svg
    assert ">ANODE (checkpointed, exact)</text>" in svg


def test_a_pdf_leaves_its_caption_to_the_paper(drawn):
    tex = (drawn / "training-rk2-nt2.tex").read_text()
    assert tex.startswith("\\begin{figure*}")
    assert "\\includegraphics{training-rk2-nt2}" in tex
    assert re.search(r"\\caption\{Training loss .*Data: real images.*2 seeds", tex)
    assert "\\label{fig:suite-training-rk2-nt2}" in tex


def test_table_is_latex_with_booktabs_caption_and_label(drawn):
    tex = (drawn / "accuracy.tex").read_text()
    for part in ("\\toprule", "\\midrule", "\\bottomrule", "\\label{tab:suite-accuracy}"):
        assert part in tex
    assert tex.count(r" \\") == 1 + 6
    assert "\\caption{Test accuracy after the last epoch, in per cent. Data: real images" in tex


def test_paragraphs_of_markdown_become_captions_of_the_tables_they_belong_to():
    first, second = latex.tables(TEXT, "x").split("\\label")[0], latex.tables(TEXT, "x")
    assert "\\caption{A table of 2 numbers: Its note.}" in first
    assert "\\caption{The next.}" in second
    assert "\\label{tab:x-1}" in second
    assert "\\label{tab:x-2}" in second
    assert r"a\_b & second" in first + second
    assert r"no & $\rho$ $\leq$ 3 \textbar{} x" in second
    assert r"1 $\pm$ 2 & 5\%" in second


def test_markdown_is_read_as_it_is_written():
    frame = pd.DataFrame({"a": ["1", "x|y"], "b": ["", "<b>"]})
    columns = {name: markdown.value(name, "") for name in frame}
    rows = [{k: v.replace("|", "\\|") for k, v in r.items()} for r in frame.to_dict("records")]
    (found,) = markdown.blocks(markdown.table(columns, rows))
    pd.testing.assert_frame_equal(found, frame)


def test_long_table_goes_over_pages():
    rows = "\n".join(["| 1 | 2 |"] * 50)
    written = latex.tables(f"| a | b |\n| --- | --- |\n{rows}\n", "x")
    assert "\\begin{longtable}{rr}" in written


def test_formats_that_are_not_chosen_are_not_written(tmp_path):
    folder, names = record(tmp_path)
    plots.draw(["training"], folder, names, how=plots.How(("pdf",)))
    assert {file.suffix for file in (folder / "figures").iterdir()} == {".pdf"}


@pytest.mark.parametrize("list_", ["gif", "png,gif", "", "png,,svg", "PNG"])
def test_unknown_format_is_one_line_before_anything_runs(tmp_path, capsys, list_):
    assert run_bench.main(["--format", list_, "--out", str(tmp_path / "new")]) == 2
    assert re.fullmatch(r"error: argument --format: [^\n]+\n", capsys.readouterr().err)
    assert draw_again([str(tmp_path), "--format", list_]) == 2
    assert re.fullmatch(r"error: unknown format [^\n]+\n", capsys.readouterr().err)
    assert [*tmp_path.iterdir()] == []


def test_letters_of_every_label_and_column_are_known_to_latex(drawn):
    written = "".join(file.read_text() for file in drawn.glob("*.tex"))
    assert written.isascii()
    assert mpl.rcParams["svg.fonttype"] == "path"  # the user's own
