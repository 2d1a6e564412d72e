"""--dry-run prints what the same command without it would run."""

import pytest

import run_bench
from bench import cli, data


@pytest.mark.parametrize(
    "line",
    [
        "--suite smoke --network resnet4 --seeds 0,1",
        "--suite cifar10 --fresh --jobs 2 --data-dir nowhere",
        "--suite cost --network resnet4",
        "--suite reversibility --seeds 0",
    ],
)
def test_names_and_their_number_are_printed_and_nothing_is_done(
    tmp_path, monkeypatch, capsys, line
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(data, "load", None)
    request = cli.parse(line.split())
    wanted = getattr(request, "experiments", None) or request.cases
    assert run_bench.main([*line.split(), "--dry-run"]) == 0
    *names, number = capsys.readouterr().out.splitlines()
    assert names == [one.name for one in wanted]
    assert len(set(names)) == len(names)
    assert number.split()[0] == str(len(names))
    assert list(tmp_path.iterdir()) == []
