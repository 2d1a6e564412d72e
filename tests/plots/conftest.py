import pytest

from plots import drawing


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn, by name, still open."""
    drawn = {}

    def keep(figure, folder, name):
        drawn[name] = figure
        return []

    monkeypatch.setattr(drawing, "save", keep)
    return drawn
