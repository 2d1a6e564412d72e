"""Curves that coincide are one, and no figure has more than six."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from plots import labels, series
from plots.drawing import caption, legend

METHODS = [*labels.GRADIENTS, *labels.PEERS, "anode-revolve:m=1", "mine:A", "mine:B"]


def rows(**values):
    """Errors of each gradient method at Nt = 1, 2, ..., in one panel."""
    return pd.DataFrame(
        {"gradient": gradient, "n_steps": n, "error": error}
        for gradient, errors in values.items()
        for n, error in enumerate(errors, start=1)
    )


def test_methods_with_the_same_values_are_one_curve_with_all_their_names():
    found = series.coinciding(
        rows(node=[1, 2], anode=[0, 0], backprop=[0, 0]), ["error"], ["n_steps"]
    )
    assert found == [("node",), ("anode", "backprop")]
    assert series.name(found[1]) == f"{labels.gradient('anode')}\n= {labels.gradient('backprop')}"
    assert len(series.entries(found)) == 2
    table = rows(node=[1, 2], anode=[1])  # at other points
    assert series.coinciding(table, ["error"], ["n_steps"]) == [("node",), ("anode",)]


def test_curve_that_hides_another_in_one_panel_has_the_dashes_of_both():
    axis = Figure().subplots()
    groups = [("node",), ("anode",), ("backprop",)]
    table = rows(node=[1, 2, 3], anode=[1, 2, 3.01], backprop=[9, 8, 7])
    series.plot(axis, table, "n_steps", "error", groups, log="")
    first, second, alone = axis.get_lines()
    assert first.get_color() != second.get_color()
    assert first.is_dashed()
    assert second.is_dashed()
    assert [line.get_markevery() for line in (first, second, alone)] == [(0, 2), (1, 2), None]
    caption(axis.figure, "One step.")
    assert "curves that coincide" in axis.figure.texts[0].get_text()


def test_points_that_coincide_are_one_mark_inside_another():
    axis = Figure().subplots()
    groups = [("node",), ("anode",), ("backprop",)]
    table = rows(node=[0.1], anode=[0.1], backprop=[0.2])
    series.plot(axis, table, "n_steps", "error", groups, log="")
    below, above, alone = axis.get_lines()
    assert below.get_markersize() == 2 * above.get_markersize()
    assert below.get_zorder() < above.get_zorder()
    assert alone.get_markevery() is None
    caption(axis.figure, "One step.")
    assert axis.figure.texts[0].get_text().endswith("A mark inside another: values that coincide.")


@pytest.mark.parametrize(("exact", "said"), [(True, "equal in every value"), (False, "within 1%")])
def test_caption_says_how_far_curves_with_one_entry_agree(exact, said):
    figure = Figure()
    legend(figure, series.entries([("anode", "backprop")]))
    caption(figure, "One step.", exact=exact)
    assert said in figure.texts[0].get_text()


@pytest.mark.parametrize("lost", [0.0, float("inf"), float("nan")])
def test_value_without_a_place_on_the_axis_hides_no_curve(lost):
    axis = Figure().subplots()
    table = rows(node=[1, 2, lost], anode=[5, 4, 3])
    series.plot(axis, table, "n_steps", "error", [("node",), ("anode",)])
    assert [line.get_markevery() for line in axis.get_lines()] == [None, None]


@given(st.lists(st.sampled_from(METHODS), unique=True))
def test_each_method_is_in_a_figure_of_six_and_anode_and_node_in_each_figure(methods):
    pages = list(series.pages([(gradient,) for gradient in methods]))
    shown = [[gradient for (gradient,) in page] for _, page in pages]
    assert {gradient for page in shown for gradient in page} == set(methods)
    assert all(len(page) <= series.MOST for page in shown)
    assert all(set(series.KEPT) & set(methods) <= set(page) for page in shown)
    assert [suffix for suffix, _ in pages] == ["", *(f"-{i}" for i in range(2, len(pages) + 1))][
        : len(pages)
    ]


def test_methods_of_the_users_own_are_in_the_first_figure():
    (_, first), *_ = series.pages([(gradient,) for gradient in METHODS])
    assert {("mine:A",), ("mine:B",)} < set(first)
