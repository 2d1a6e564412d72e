"""What the README shows works as it stands there."""

import re
import shutil
from pathlib import Path

import pytest

import run_bench

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_gradient_method_of_ones_own_is_benchmarked_without_touching_the_repository(
    tmp_path, monkeypatch, capsys
):
    (code,) = re.findall(r"```python\n# mine\.py\n(.*?)```", README, re.DOTALL)
    (tmp_path / "mine.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    line = "--suite gradients --check --network resnet4 --method euler --Nt 1 --gradient mine:MINE"
    assert run_bench.main([*line.split(), "--reference", str(tmp_path / "none.csv")]) == 2
    assert "there is no reference" in capsys.readouterr().err
    line = "--suite memory --network resnet4 --method euler --Nt 1,2 --batch_size 2"
    assert run_bench.main([*line.split(), "--gradient", "mine:MINE,backprop"]) == 0
    table = (tmp_path / "results" / "memory" / "measurements.csv").read_text().splitlines()
    assert [row.split(",")[4] for row in table[1:]] == ["mine:MINE", "backprop"] * 2


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_are_there(page):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) + re.findall(r'src="([^"]+)"', text)
    assert links
    for link in links:
        if not link.startswith("http"):
            assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_nothing_is_left_to_fill_in(page):
    assert "@@" not in page.read_text(encoding="utf-8")


def test_what_the_readme_shows_is_drawn_again_from_the_records(tmp_path):
    shown = ROOT / "results" / "reference" / "cifar10-quick-cpu"
    shutil.copytree(
        shown, tmp_path / "cifar10-quick", ignore=lambda folder, names: {"figures"} & {*names}
    )
    line = "--suite cifar10-quick --plots-only"
    assert run_bench.main([*line.split(), "--out", str(tmp_path)]) == 0
    drawn = tmp_path / "cifar10-quick" / "figures"
    assert {f.name for f in drawn.iterdir()} == {f.name for f in (shown / "figures").iterdir()}
    table = (drawn / "accuracy.csv").read_bytes()
    assert table == (shown / "figures" / "accuracy.csv").read_bytes()
