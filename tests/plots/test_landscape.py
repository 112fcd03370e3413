"""What a landscape says: the mean of each cell, the best one and its interval, contours, and what diverged."""

from __future__ import annotations

from typing import Any

from plots.made_up import cell, draw_landscape, legend_of, words

from lora_mnist_cli.plots import landscape


def test_a_landscape_outlines_the_best_on_validation_images_and_never_a_cell_where_a_run_diverged():
    cells = [
        cell(0, 0, 99.0, validation=0.5), cell(1, 0, 80.0, 82.0, validation=0.9), cell(0, 1, 99.9, diverged=1),
        cell(1, 1, diverged=2), cell(2, 0, 70.0), cell(2, 1, 71.0), cell(0, 2, 60.0), cell(1, 2, 61.0),
    ]  # fmt: skip
    figure = draw_landscape(cells, 3, 3)
    axes, bar = figure.axes
    assert landscape.best_cell(cells) is cells[1]
    (outline,) = [patch for patch in axes.patches if not patch.get_fill()]
    assert outline.get_xy() == (0.5, -0.5)
    entry, *others = legend_of(figure.axes[0])
    assert entry == (
        "best on validation images (90.00 %): learning rate 0.001, rank 1\n"
        "81.00 % on test images, 95 % interval 68.29 to 93.71"
    )
    assert others == ["some seeds diverged", "every seed diverged", "no run"]
    assert words(axes) == ["99.0", "81.0", "70.0", "99.9", "71.0", "60.0", "61.0"]
    assert bar.get_ylabel() == "Test accuracy on 5-9 (%)"
    assert landscape.best_cell([cell(0, 0, 9.0, validation=None), cell(1, 0, diverged=1)]) is None


def test_a_landscape_has_contours_between_cells_and_none_on_a_grid_without_a_shape():
    def contours(columns: int, rows: int) -> list[Any]:
        cells = [cell(x, y, 10.0 * x + y) for x in range(columns) for y in range(rows)]
        axes = draw_landscape(cells, columns, rows).axes[0]
        return [found for found in axes.collections if hasattr(found, "levels")]

    (lines_between,) = contours(4, 3)
    assert all(0 < level < 32 for level in lines_between.levels)
    assert not contours(4, 2)
    methods = [cell(x, y, 10.0 * x + y) for x in range(4) for y in range(3)]
    axes = draw_landscape(methods, 4, 3, ordered=False).axes[0]
    assert not [found for found in axes.collections if hasattr(found, "levels")]
    flat = [cell(x, y, 50.0) for x in range(3) for y in range(3)]
    assert not [found for found in draw_landscape(flat, 3, 3).axes[0].collections if hasattr(found, "levels")]


def test_a_landscape_where_everything_diverged_says_so():
    figure = draw_landscape([cell(x, 0, diverged=3) for x in range(2)], 2, 1)
    assert words(figure.axes[0]) == ["every run diverged"]
    assert legend_of(figure.axes[0]) == ["every seed diverged"]
