import pytest


@pytest.fixture(scope="module", autouse=True)
def no_time_for_figures(request):
    """Tests of bench do not look at figures, but where their module says `DRAWN = True`."""
    if not getattr(request.module, "DRAWN", False):
        request.getfixturevalue("quickly_drawn")
