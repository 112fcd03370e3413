"""Figures show the data they were given, and become files that are whole, small in surprises and always the same."""

from __future__ import annotations

import itertools
import math
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from plots.made_up import (
    EVERY_KIND,
    HALVES,
    PROBES,
    STRATEGIES,
    draw_alpha,
    draw_predictions,
    draw_ranks,
    draw_rates,
    draw_tradeoff,
    epoch,
    factors,
    legend_of,
    line,
    lines,
    rate,
    render,
    result,
    subsets,
    subtitle_of,
    words,
    written_above,
)  # fmt: skip

from lora_mnist_cli.plots import (
    alpha,
    confusion,
    forgetting,
    history,
    learning_rate,
    predictions,
    scores,
    spectrum,
    strategies,
    style,
    tradeoff,
)
from lora_mnist_cli.stages.plotting import KINDS
from lora_mnist_cli.system.errors import MachineError, UsageError

T_2 = 4.3027  # t(2) leaves 2.5 % above it, by any table
MAGIC = {"png": b"\x89PNG\r\n", "svg": b"<?xml", "pdf": b"%PDF-"}


# What all kinds share


def test_every_kind_has_a_figure_here():
    assert set(KINDS) <= set(EVERY_KIND)


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_every_kind_has_its_title_and_nothing_beyond_the_edge(kind):
    figure = EVERY_KIND[kind]()
    assert figure.get_suptitle() == kind.capitalize()
    assert figure.get_figwidth() == style.WIDTH
    render(figure)
    box = figure.get_tightbbox()
    assert min(box.x0, box.y0) >= -1e-6
    assert box.x1 <= figure.get_figwidth() + 1e-6
    assert box.y1 <= figure.get_figheight() + 1e-6


@pytest.mark.parametrize("kind", [kind for kind in EVERY_KIND if kind != "predictions"])
def test_every_axis_says_what_it_shows(kind):
    for axes in EVERY_KIND[kind]().axes:
        bottom = axes.get_subplotspec() is None or axes.get_subplotspec().is_last_row()
        is_colourbar = axes.get_label() == "<colorbar>"
        assert axes.get_xlabel() or is_colourbar or not bottom
        # A row of panels with one axis says it once, at the left; bars are named one by one.
        row = axes.get_shared_y_axes().get_siblings(axes)
        named = any(label.get_text()[:1].isalpha() for other in row for label in other.get_yticklabels())
        assert named or any(other.get_ylabel() for other in row)
        if any(word in axes.get_ylabel() for word in ("ccuracy", "Share")):
            assert "(%)" in axes.get_ylabel()


def test_drawing_leaves_no_trace_in_matplotlib():
    before = dict(matplotlib.rcParams)
    for draw in EVERY_KIND.values():
        draw()
    assert dict(matplotlib.rcParams) == before


def test_pyplot_and_torch_stay_out():
    script = (
        "import sys\n"
        "from lora_mnist_cli.plots import alpha, confusion, history, learning_rate, predictions, ranks, style\n"
        "from lora_mnist_cli.plots import forgetting, landscape, spectrum, tradeoff\n"
        "assert not {'matplotlib.pyplot', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_users_own_settings_have_no_say(tmp_path):
    style.save(EVERY_KIND["history"](), tmp_path / "a.png")
    with matplotlib.rc_context({"font.size": 30, "axes.grid": False, "lines.linewidth": 9}):
        style.save(EVERY_KIND["history"](), tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_long_titles_are_broken_and_signs_are_left_alone():
    title = "a rather long title with $two$ signs that mean nothing to a typesetter " * 2
    figure = history.draw([epoch(0)], title=title)
    assert figure.get_suptitle().replace("\n", " ") == title.strip()
    assert "\n" in figure.get_suptitle()
    render(figure)


def unchanged(layers: int) -> Figure:
    zero = {f"fc{i + 1}": (np.zeros((2, 1)), np.ones((1, 3))) for i in range(layers)}
    return spectrum.draw([spectrum.Change("rank 1", zero)], title="x")


NEXT_TO_NOTHING: list[tuple[Callable[[Any], Figure], Any, set[str] | None]] = [
    (draw_ranks, [], {"no accuracy on these digits"}),
    (draw_ranks, [result(4, None, old=None)], {"no accuracy on these digits"}),
    (draw_alpha, [], None), (draw_alpha, [{"alpha": 1.0, "subsets": subsets(old=None)}], None),
    (draw_alpha, [{"alpha": 1.0, "subsets": subsets(old=0.5, new=0.5)}], None),
    (lambda rows: history.draw(rows, title="x"), [], {"nothing was recorded"}),
    (draw_rates, [], None), (draw_rates, [rate(1, 0.1, None, failed=True)], None),
    (draw_rates, [rate(1, 0.1, 0.5)], None), (draw_rates, [rate(1, 0.1, 1.0), rate(1, 0.2, 0.0)], None),
    (unchanged, 0, {"no layer was changed"}), (unchanged, 1, {"ΔW is zero"}), (unchanged, 5, {"ΔW is zero"}),
    (draw_tradeoff, {}, None), (draw_tradeoff, {"rank 1": []}, None),
    (draw_tradeoff, {"rank 1": [(1.0, None, 0.5)]}, None), (draw_tradeoff, {"rank 1": [(-1.0, 0.5, 0.5)]}, None),
]  # fmt: skip
"""Drawings of little or nothing, and the words in each panel where it has nothing else."""


@pytest.mark.parametrize(("draw", "data", "says"), NEXT_TO_NOTHING)
def test_next_to_nothing_is_drawn_and_said(draw, data, says):
    figure = draw(data)
    render(figure)
    if says:
        assert all(set(words(axes)) == says for axes in figure.axes)
    if draw is draw_alpha:
        assert words(figure.axes[0])


# Files


# Lines, markers and text are in ranks, images in predictions, hatches in forgetting: vector formats write them apart.
AS_FILES = [
    *((kind, "png") for kind in EVERY_KIND),
    *((k, s) for k in ("ranks", "predictions", "forgetting") for s in ("svg", "pdf")),
]


@pytest.mark.parametrize(("kind", "suffix"), AS_FILES)
def test_saved_twice_is_the_same_to_the_byte(kind, suffix, tmp_path):
    for name in ("a", "b"):
        style.save(EVERY_KIND[kind](), tmp_path / f"{name}.{suffix}")
    first, second = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in ("a", "b"))
    assert first.startswith(MAGIC[suffix])
    assert first == second
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"a.{suffix}", f"b.{suffix}"]


def test_metadata_names_no_program_and_no_date(tmp_path):
    for suffix, words_out in {
        "png": [b"Software"],
        "svg": [b"dc:date", b"dc:creator"],
        "pdf": [b"CreationDate"],
    }.items():
        path = tmp_path / f"x.{suffix}"
        style.save(EVERY_KIND["history"](), path)
        assert not [word for word in words_out if word in path.read_bytes()]


def test_a_capital_suffix_is_fine_and_an_older_picture_is_replaced(tmp_path):
    path = tmp_path / "X.PNG"
    path.write_text("older")
    style.save(EVERY_KIND["history"](), path)
    assert path.read_bytes().startswith(MAGIC["png"])
    assert style.check_suffix(Path("x.Svg")) == "svg"


@pytest.mark.parametrize("name", ["x.jpg", "x.", "x", "x.png.gz"])
def test_another_suffix_is_refused_and_leaves_nothing(name, tmp_path):
    with pytest.raises(UsageError) as caught:
        style.save(EVERY_KIND["history"](), tmp_path / name)
    assert caught.value.exit_code == 2
    assert name in caught.value.problem
    assert all(suffix in str(caught.value) for suffix in (".png", ".svg", ".pdf"))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError):
        style.check_suffix(tmp_path / name)


def test_a_missing_folder_or_one_in_the_pictures_place_is_the_machines_failure(tmp_path):
    with pytest.raises(MachineError, match="nowhere") as caught:
        style.save(EVERY_KIND["history"](), tmp_path / "nowhere" / "x.png")
    assert caught.value.exit_code == 5
    assert "--runs-dir" not in caught.value.hint
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "x.png").mkdir()
    with pytest.raises(MachineError):
        style.save(EVERY_KIND["history"](), tmp_path / "x.png")
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


# Scores


def test_accuracy_of_finds_the_row_and_says_none_for_none():
    rows = subsets(old=0.25, new=None, all=math.nan)
    assert scores.accuracy_of(rows, "0-4") == 0.25
    assert [scores.accuracy_of(rows, digits) for digits in ("5-9", "0-9", "7")] == [None, None, None]


# Predictions


@pytest.mark.parametrize(("count", "mistakes"), [(1, 0), (1, 1), (3, 1), (10, 0), (37, 12), (50, 50)])
def test_predictions_show_each_image_and_mark_each_mistake(count, mistakes):
    figure = draw_predictions(count, mistakes=mistakes)
    (axes,) = figure.axes
    assert len(axes.images) == count
    last = np.asarray(axes.images[-1].get_array())
    np.testing.assert_array_equal(last, (np.arange((count - 1) * 784, count * 784) % 256).reshape(28, 28))

    captions = words(axes)
    assert captions[:mistakes] == [f"{n % 10}→{(n + 1) % 10}" for n in range(mistakes)]
    assert captions[mistakes:] == [f"{n % 10}" for n in range(mistakes, count)]
    bold = [text.get_fontweight() == "bold" for text in axes.texts]
    thick = [patch.get_linewidth() > 2 for patch in axes.patches]
    assert bold == thick == [True] * mistakes + [False] * (count - mistakes)

    right, wrong = (text.get_text() for text in figure.legends[0].get_texts())
    assert f"({count - mistakes} shown)" in right
    assert f"({mistakes} shown)" in wrong
    # The examples are of this picture, where it has them.
    assert mistakes == count or right.startswith(f"{captions[mistakes]}: right")
    assert not mistakes or wrong.startswith("0→1: wrong, a 0 taken for a 1 ")


def test_predictions_have_at_most_ten_columns_and_stay_inside():
    figure = draw_predictions(37)
    extents = [image.get_extent() for image in figure.axes[0].images]
    assert len({round(extent[0], 6) for extent in extents}) == 10
    assert len({round(extent[2], 6) for extent in extents}) == 4
    assert max(extent[1] for extent in extents) < style.WIDTH
    assert max(extent[2] for extent in extents) < figure.get_figheight()
    widths = {(round(right - left, 6), round(bottom - top, 6)) for left, right, bottom, top in extents}
    assert len(widths) == 1
    ((width, height),) = widths
    assert width == height  # the axes is in inches, so pixels are square


def test_predictions_refuse_nothing_and_what_does_not_belong_together():
    with pytest.raises(UsageError, match="no images"):
        draw_predictions(0)
    with pytest.raises(ValueError, match="2 labels"):
        predictions.draw(np.zeros((1, 28, 28), np.uint8), np.zeros(2, int), np.zeros(1, int), title="x")


# Ranks


def test_ranks_of_one_seed_are_the_figures_given():
    figure = draw_ranks([result(64, 0.98), result(1, 0.82, old=0.0), result(8, 0.97)], study={1: 0.8381, 8: 0.9696})
    upper, lower = figure.axes
    x, y = line(upper, "one seed")
    assert x == [1, 8, 64]
    assert y == pytest.approx([82, 97, 98])
    x, y = line(upper, "original study")
    assert x == [1, 8]
    assert y == pytest.approx([83.81, 96.96])
    assert line(lower, "one seed")[1] == pytest.approx([0, 1, 1])
    assert written_above(upper) == ["82.00", "97.00", "98.00"]
    assert written_above(lower) == ["0.00", "1.00", "1.00"]
    assert "5-9" in upper.get_title("left")
    assert "0-4" in lower.get_title("left")
    assert lower.get_xscale() == "log"
    assert [label.get_text() for label in lower.get_xticklabels()] == ["1\n1,050", "8\n8,400", "64\n67,200"]
    study_marker, own_marker = (upper.lines[i].get_marker() for i in (0, 1))
    assert study_marker != own_marker
    assert upper.get_ylim()[0] > 70
    assert lower.get_ylim()[0] <= 0
    assert lower.get_ylim()[1] >= 100


def test_ranks_of_many_seeds_give_every_run_mean_and_interval():
    accuracies = {2: [0.90, 0.92, 0.97], 8: [0.95, 0.96, 0.98]}
    results = [result(rank, value, seed=s) for rank, some in accuracies.items() for s, value in enumerate(some)]
    upper = draw_ranks(results).axes[0]
    assert "mean and its 95 % interval, n = 3 seeds" in legend_of(upper)
    x, y = line(upper, "each seed")
    assert x == [2, 2, 2, 8, 8, 8]
    assert y == pytest.approx([90, 92, 97, 95, 96, 98])
    (container,) = upper.containers
    data, _, (bars,) = container
    assert list(data.get_ydata()) == pytest.approx([100 * statistics.fmean(some) for some in accuracies.values()])
    for segment, some in zip(bars.get_segments(), accuracies.values(), strict=True):
        mean, half = 100 * statistics.fmean(some), 100 * T_2 * statistics.stdev(some) / 3**0.5
        assert segment[:, 1] == pytest.approx([mean - half, min(100, mean + half)], rel=1e-4)


def test_the_interval_of_two_seeds_is_cut_where_no_accuracy_can_be():
    results = [result(rank, value, seed=s) for rank in (1, 3) for s, value in enumerate((0.1, 0.9))]
    figure = draw_ranks(results)
    render(figure)
    upper = figure.axes[0]
    (container,) = upper.containers
    assert [segment[:, 1].tolist() for segment in container[2][0].get_segments()] == [[0, 100], [0, 100]]
    low, high = upper.get_ylim()
    assert all(low <= text.xy[1] <= high for text in upper.texts)


def test_ranks_with_uneven_seeds_say_so():
    upper = draw_ranks([result(1, 0.8), result(2, 0.9), result(2, 0.92, seed=1), result(2, 0.91, seed=2)]).axes[0]
    assert "mean and its 95 % interval, n = 1 to 3 seeds" in legend_of(upper)


def test_ranks_drop_what_has_no_accuracy():
    figure = draw_ranks([result(1, None), result(2, 0.9, old=None), result(4, 0.95)])
    upper, lower = figure.axes
    assert line(upper, "one seed")[0] == [2, 4]
    assert line(lower, "one seed")[0] == [1, 4]
    render(figure)


@pytest.mark.parametrize("accuracies", [(0.8, 0.9, 0.95), (0.95, 0.9, 0.8)])
def test_the_legend_of_ranks_hides_no_point(accuracies):
    figure = draw_ranks([result(rank, value) for rank, value in zip((1, 8, 64), accuracies, strict=True)])
    render(figure)
    upper = figure.axes[0]
    (legend,) = figure.legends
    assert legend.get_window_extent().y1 <= figure.axes[-1].get_tightbbox().y0 < upper.get_window_extent().y0


def test_one_rank_is_a_point_on_an_axis_that_is_not_absurdly_fine():
    figure = draw_ranks([result(8, 0.97)])
    upper = figure.axes[0]
    low, high = upper.get_ylim()
    assert low < 97 < high
    assert high - low >= 2
    assert upper.get_xlim()[0] < 8 < upper.get_xlim()[1]
    render(figure)


def test_an_adapter_on_all_digits_has_its_own_row_above_the_bases():
    results = [result(64, 0.96, old=0.98, all=0.97)]
    upper, lower = draw_ranks(results, new_digits="0-9", study={64: 0.9714}).axes
    assert line(upper, "one seed")[1] == pytest.approx([97])
    assert line(lower, "one seed")[1] == pytest.approx([98])
    (only,) = draw_ranks(results, base_digits="0-9", new_digits="0-9").axes
    assert line(only, "one seed")[1] == pytest.approx([97])
    assert only.get_xlabel()


def test_crowded_ranks_keep_the_powers_of_two_and_labels_apart():
    figure = draw_ranks([result(rank, 0.9 + rank / 1000) for rank in range(1, 65)])
    upper, lower = figure.axes
    assert len(line(upper, "one seed")[0]) == 64
    shown = set(lower.get_xticks())
    assert {1, 2, 4, 8, 16, 32, 64} <= shown
    render(figure)
    boxes = sorted((label.get_window_extent() for label in lower.get_xticklabels()), key=lambda box: box.x0)
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


def test_a_rank_with_two_parameter_counts_names_none():
    other = {**result(4, 0.9, seed=1), "trainable_parameters": 7}
    lower = draw_ranks([result(4, 0.9), other]).axes[1]
    assert [label.get_text() for label in lower.get_xticklabels()] == ["4"]
    assert lower.get_xlabel() == "Rank"


def test_what_has_no_rank_is_a_line_across_with_the_band_of_its_interval():
    full = [result(0, accuracy, seed=seed) for seed, accuracy in enumerate((0.97, 0.98, 0.99))]
    figure = draw_ranks([result(1, 0.80), result(8, 0.90)], ceilings={"Full": full, "Head": [result(0, 0.7)]})
    upper = figure.axes[0]
    assert line(upper, "Full, mean and its 95 % interval, n = 3")[1] == pytest.approx([98, 98])
    assert line(upper, "Head, one seed")[1] == pytest.approx([70, 70])
    assert written_above(upper) == ["80.00", "90.00"]
    (band,) = upper.patches
    half = T_2 * 1.0 / 3**0.5
    assert (band.get_y(), band.get_height()) == pytest.approx((98 - half, 2 + half), rel=1e-3)  # cut at 100 %
    low, high = upper.get_ylim()
    assert low < 70
    assert high > 100


def test_the_accuracy_of_the_base_is_a_line_in_the_lower_panel():
    figure = draw_ranks([result(1, 0.8), result(8, 0.9)], bases=[0.99, 0.98])
    upper, lower = figure.axes
    assert line(lower, "mean of 2 bases: 98.5 %")[1] == pytest.approx([98.5, 98.5])
    assert "mean of 2 bases: 98.5 %" in legend_of(upper)
    assert line(draw_ranks([result(1, 0.8)], bases=[0.992]).axes[1], "the base: 99.2 %")


# Alpha


def test_alpha_has_a_line_for_each_digit_set_and_names_its_ends():
    rows = [{"alpha": a, "subsets": subsets(old=1 - a / 2, new=a / 2, all=0.5)} for a in (1.5, 0.0, 1.0)]
    figure = draw_alpha(rows)
    (axes,) = figure.axes
    for label, expected in {"0-4": [100, 50, 25], "5-9": [0, 50, 75], "0-9": [50, 50, 50]}.items():
        x, y = line(axes, label)
        assert x == [0.0, 1.0, 1.5]
        assert y == pytest.approx(expected)
    assert {"0-4 (base)", "5-9 (learned)", "0-9 (all)"} <= set(words(axes))
    assert {"base (alpha 0)", "as trained (alpha 1)"} <= set(words(axes))
    assert len({drawn.get_marker() for drawn in axes.lines if drawn.get_marker() != "None"}) == 3
    assert axes.get_ylim() == (0, 100)


def test_the_crossing_of_two_lines_is_between_the_alphas_that_were_scored():
    rows = [{"alpha": a, "subsets": subsets(old=1 - a * a, new=a * a)} for a in (1.0, 0.0, 0.5)]
    assert alpha.crossing(rows, "0-4", "5-9") == alpha.Crossing(0.5, 1.0, pytest.approx(2 / 3), pytest.approx(50))
    assert alpha.crossing(rows[:2], "0-4", "0-4") is None
    assert alpha.crossing([{"alpha": 0.0, "subsets": subsets(old=None, new=0.5)}], "0-4", "5-9") is None


def test_alpha_marks_only_what_is_in_range():
    rows = [{"alpha": a, "subsets": subsets(old=0.5)} for a in (0.5, 0.9)]
    assert words(draw_alpha(rows).axes[0]) == ["0-4 (base)"]
    ends = [{"alpha": a, "subsets": subsets(old=0.5)} for a in (0.0, 1.0)]
    assert len([word for word in words(draw_alpha(ends, trained_alpha=0.0).axes[0]) if "alpha" in word]) == 1


@pytest.mark.parametrize(
    ("digits", "drawn"),
    [
        (("0-4", "0-9"), {"0-4", "5-9", "0-9"}),
        (("0-4", "5-7"), {"0-4", "5-9", "0-9"}),
        (("0-9", "5-9"), {"0-9", "5-9"}),
        (("0-9", "0-9"), {"0-9"}),
    ],
)
def test_alpha_with_digit_sets_that_coincide_draws_each_once(digits, drawn):
    rows = [{"alpha": a, "subsets": subsets(old=0.9, new=0.8, all=0.85)} for a in (0.0, 1.0)]
    figure = draw_alpha(rows, base_digits=digits[0], new_digits=digits[1])
    (axes,) = figure.axes
    labels = [label for label in lines(axes) if "(" in label]
    assert sorted(label.split()[0] for label in labels) == sorted(drawn)
    looks = {(line_.get_color(), line_.get_marker()) for line_ in axes.lines if "(" in line_.get_label()}
    assert len(looks) == len(drawn)
    render(figure)


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_alpha_keeps_the_names_of_equal_lines_apart(level):
    figure = draw_alpha([{"alpha": a, "subsets": subsets(old=level, new=level, all=level)} for a in (0.0, 1.0)])
    render(figure)
    (axes,) = figure.axes
    names = [text.get_window_extent() for text in axes.texts if "alpha" not in text.get_text()]
    names.sort(key=lambda box: box.y0)
    assert len(names) == 3
    assert all(below.y1 <= above.y0 for below, above in itertools.pairwise(names))
    box = axes.get_window_extent()
    assert all(box.y0 - 1 <= (name.y0 + name.y1) / 2 <= box.y1 + 1 for name in names)


# History


def test_history_is_the_figures_given_by_rising_epoch():
    figure = history.draw([epoch(2, 0.03, 0.98), epoch(0, 15.0, 0.0), epoch(1, 0.3, 0.9)], title="x")
    left, right = figure.axes
    assert line(left, "training") == ([0, 1, 2], pytest.approx([15, 0.3, 0.03]))
    assert line(left, "validation") == ([0, 1, 2], pytest.approx([30, 0.6, 0.06]))
    assert line(right, "training") == ([0, 1, 2], pytest.approx([0, 90, 98]))
    assert line(right, "validation") == ([0, 1, 2], pytest.approx([0, 45, 49]))
    assert left.get_yscale() == "log"
    assert "loss" in left.get_ylabel()
    assert legend_of(right) == ["training: 98.00 % at the end", "validation: 49.00 % at the end"]


def test_history_of_one_row_has_points_and_ticks():
    figure = history.draw([epoch(0, 15.5)], title="x")
    left, right = figure.axes
    assert line(left, "training") == ([0], [15.5])
    assert right.get_ylim() == (-3, 103)
    render(figure)
    low, high = left.get_ylim()
    assert sum(low <= tick <= high for tick in left.get_yticks()) >= 2


def test_history_of_a_sample_says_so_and_every_word_has_room():
    losses = [2.3, 0.09, 0.08, 0.041, 0.026, 0.021, 0.016, 0.01, 0.0075, 0.0105, 0.00282]
    rows = [{**epoch(0), "epoch": at, "train_loss": loss, "train_accuracy": 1.0} for at, loss in enumerate(losses)]
    figure = history.draw(rows, title="x", sample=2048)
    render(figure)
    left, right = figure.axes
    assert "2,048" in subtitle_of(figure)
    assert left.get_tightbbox().x1 <= right.get_tightbbox().x0


def test_history_shows_the_accuracies_that_training_reached_and_says_where_it_began():
    accuracies = [0.02, 0.972, 0.981, 0.985]
    figure = history.draw([epoch(at, 1.0, accuracy, val=False) for at, accuracy in enumerate(accuracies)], title="x")
    left, right = figure.axes
    low, high = right.get_ylim()
    assert 96 < low < 97.2
    assert 98.5 < high < 100
    assert right.get_xlabel() == "Epoch (before training: 2.0 %)"
    assert left.get_xlabel() == "Epoch (0: before training)"


def test_history_without_validation_has_one_curve():
    figure = history.draw([epoch(0, val=False), epoch(1, val=False)], title="x")
    for axes in figure.axes:
        assert [label.split(":")[0] for label in legend_of(axes)] == ["training"]
    render(figure)


def test_history_drops_what_a_logarithm_can_not_show():
    rows = [epoch(0, 1.0), epoch(1, 0.0), epoch(2, math.nan), epoch(3, math.inf), epoch(4, 0.5)]
    figure = history.draw(rows, title="x")
    assert line(figure.axes[0], "training") == ([0, 4], [1.0, 0.5])
    render(figure)


def test_history_marks_where_the_learning_rate_changed_but_not_every_step_of_a_schedule():
    rows = [epoch(0, lr=0.0), epoch(1), epoch(2), epoch(3, lr=1e-4)]
    assert line(history.draw(rows, title="x").axes[1], "learning rate") == ([2.5, 2.5], [0, 1])
    falling = [epoch(number, lr=1.0 / (number + 1)) for number in range(20)]
    assert not [name for name in lines(history.draw(falling, title="x").axes[0]) if "learning" in name]


# Learning rate


def test_learning_rates_of_one_seed_are_the_figures_given_and_the_best_has_a_star():
    figure = draw_rates([rate(4, 0.01, 0.9), rate(1, 0.01, 0.8), rate(1, 0.001, 0.5), rate(4, 0.001, 0.95)])
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.001", "0.01"]
    assert line(axes, "rank 1:") == ([0, 1], pytest.approx([50, 80]))
    assert line(axes, "rank 4:") == ([0, 1], pytest.approx([95, 90]))
    marked = [drawn.get_xydata() for drawn in axes.lines if drawn.get_marker() == "*"]
    stars = [[float(v) for v in points[0]] for points in marked if len(points)]
    assert stars == [pytest.approx([1, 80]), pytest.approx([0, 95])]
    assert legend_of(axes)[:2] == ["rank 1: ≥ 0.01 (80.0 %)", "rank 4: ≤ 0.001 (95.0 %)"]
    assert "5-9" in axes.get_ylabel()


def test_learning_rates_of_several_seeds_are_means_and_their_t_intervals():
    accuracies = [0.90, 0.92, 0.97]
    figure = draw_rates([rate(2, lr, a, seed=s) for lr in (0.1, 0.2) for s, a in enumerate(accuracies)])
    (axes,) = figure.axes
    assert line(axes, "rank 2")[1] == pytest.approx([93, 93])
    bars = [drawn.get_ydata() for drawn in axes.lines if drawn.get_marker() == "_"]
    half = 100 * T_2 * statistics.stdev(accuracies) / 3**0.5
    assert len(bars) == 2
    for bar in bars:
        assert list(bar) == pytest.approx([93 - half, min(100, 93 + half)], rel=1e-4)
    assert "means of 3 seeds with their 95 % intervals" in subtitle_of(figure)
    (faint,) = [drawn for drawn in axes.lines if drawn.get_alpha()]
    assert sorted(faint.get_ydata()) == pytest.approx(sorted(2 * [100 * accuracy for accuracy in accuracies]))


def test_the_ranks_of_a_rate_stand_in_its_column():
    rates = [1e-3, 4e-3, 1.6e-2]
    figure = draw_rates([rate(rank, lr, 0.9) for rank in (1, 2, 4, 8, 16, 32, 64) for lr in rates])
    render(figure)
    (axes,) = figure.axes
    left, right = axes.transData.transform([(0.5, 90), (1.5, 90)])[:, 0]
    for drawn in axes.lines:
        if drawn.get_label().startswith("rank"):
            first, middle, last = drawn.get_transform().transform(drawn.get_xydata())[:, 0]
            assert first < left < middle < right < last


@pytest.mark.parametrize(
    ("spread", "shown"), [(0.001, "rank 2: 0.01 (80.0 %)"), (0.2, "rank 2: 0.01 (80.0 %) ?")]
)  # fmt: skip
def test_a_best_rate_that_the_data_can_not_tell_from_another_has_a_question_mark(spread, shown):
    means = {0.001: 0.7, 0.01: 0.8, 0.1: 0.6}
    rows = [rate(2, lr, mean + spread * seed, seed=seed) for lr, mean in means.items() for seed in (-1, 0, 1)]
    axes = draw_rates(rows).axes[0]
    assert legend_of(axes)[0] == shown
    assert any("may be as good" in name for name in legend_of(axes)) == shown.endswith("?")


def test_a_rate_at_which_a_run_diverged_has_a_cross_and_is_never_the_best():
    rows = [rate(2, lr, 0.8, seed=s) for lr in (0.1, 0.2) for s in (0, 1)]
    rows += [rate(2, 0.05, 0.7, seed=s) for s in (0, 1)]
    rows += [rate(2, 0.4, 0.99), rate(2, 0.4, None, seed=1, failed=True)]
    rows += [rate(2, 0.8, None, seed=s, failed=True) for s in (0, 1)]
    figure = draw_rates(rows)
    render(figure)
    (axes,) = figure.axes
    assert line(axes, "rank 2")[0] == [0, 1, 2, 3]
    crosses = [drawn for drawn in axes.lines if drawn.get_marker() == "x" and len(drawn.get_xdata())]
    assert [float(cross.get_xdata()[0]) for cross in crosses] == [3, 4]
    assert crosses[0].get_markeredgewidth() < crosses[1].get_markeredgewidth()
    assert legend_of(axes) == [
        "rank 2: 0.1 (80.0 %) ?", "the best rate", "some seeds diverged", "every seed diverged",
        "?: others may be as good,\nas their intervals overlap",
    ]  # fmt: skip
    foot = axes.transAxes.transform((0, learning_rate._STRIP))[1]
    assert axes.transData.transform((1, 80))[1] > foot


def test_a_line_of_what_has_no_rank_is_named_for_its_method():
    rows = [rate(rank, lr, 0.8 + lr) for rank in (0, 2) for lr in (0.05, 0.1)]
    figure = draw_rates(rows, unranked="Full fine-tuning")
    assert legend_of(figure.axes[0])[:2] == ["Full fine-tuning: ≥ 0.1 (90.0 %)", "rank 2: ≥ 0.1 (90.0 %)"]


def test_the_legend_of_many_ranks_stays_within_the_picture():
    figure = draw_rates([rate(rank, lr, 0.9) for rank in range(1, 65) for lr in (0.1, 0.2)], power=0.5)
    render(figure)
    (axes,) = figure.axes
    names = [name for name in legend_of(axes) if name.startswith("rank")]
    assert (len(names), names[0][:7], names[-1][:8]) == (style.MOST_NAMED, "rank 1:", "rank 64:")
    assert figure.get_tightbbox().y0 >= 0
    assert "rank^0.5" in axes.get_xlabel()


# Spectrum


def test_the_spectrum_of_a_product_is_the_one_it_was_made_with():
    B, A = factors([5.0, 2.0, 0.25])
    assert spectrum.singular_values(B, A) == pytest.approx([5.0, 2.0, 0.25])
    assert spectrum.singular_values(B @ A) == pytest.approx([5.0, 2.0, 0.25])  # the rest is zero but for rounding
    assert spectrum.singular_values(-2 * B, A) == pytest.approx([10.0, 4.0, 0.5])
    assert spectrum.singular_values(B, np.zeros_like(A)).size == 0
    wide, tall = np.ones((2, 6)), np.ones((6, 3))  # a rank above both sides
    assert spectrum.singular_values(wide, tall) == pytest.approx([6 * 6**0.5])
    with pytest.raises(ValueError, match="not 3"):
        spectrum.singular_values(A, A, A)


def test_the_spectrum_has_a_panel_a_layer_and_a_line_for_each_change_that_has_it():
    one, two = factors([4.0]), factors([3.0, 1.0])
    whole = spectrum.Change("all weights", {"fc2": (two[0] @ two[1],)})
    figure = spectrum.draw([spectrum.Change("rank 1", {"fc1": one, "fc2": one}), whole], title="x")
    render(figure)
    first, second = figure.axes
    assert lines(first) == {"rank 1": ([1], pytest.approx([4]))}
    assert lines(second) == {"rank 1": ([1], pytest.approx([4])), "all weights": ([1, 2], pytest.approx([3, 1]))}
    assert [axes.get_title("left") for axes in figure.axes] == ["fc1 (9 → 7)", "fc2 (9 → 7)"]
    assert {axes.get_yscale() for axes in figure.axes} == {"log"}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["rank 1", "all weights"]


def test_seeds_of_a_spectrum_are_faint_under_their_geometric_mean():
    runs = [[4.0, 0.5], [2.0, 1.0], [8.0, 0.25]]
    changes = [spectrum.Change("rank 2", {"fc2": factors(values)}) for values in runs]
    figure = spectrum.draw([*changes, spectrum.Change("all weights", {"fc2": (np.diag([3.0, 2.0, 1.0]),)})], title="x")
    render(figure)
    (axes,) = figure.axes
    assert line(axes, "rank 2") == ([1, 2], pytest.approx([4, 0.5]))
    faint = [list(drawn.get_ydata()) for drawn in axes.lines if drawn.get_alpha()]
    assert faint == [pytest.approx(sorted(values, reverse=True)) for values in runs]
    (band,) = axes.collections
    heights = band.get_paths()[0].vertices
    half = T_2 * math.log(2) / 3**0.5
    assert sorted(heights[heights[:, 0] == 1][:, 1])[0] == pytest.approx(4 * math.exp(-half), rel=1e-3)
    assert sorted(heights[heights[:, 0] == 1][:, 1])[-1] == pytest.approx(4 * math.exp(half), rel=1e-3)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "rank 2", "all weights", "each seed", "95 % interval of the geometric mean"
    ]  # fmt: skip


def test_values_next_to_nothing_are_left_out_and_the_subtitle_says_so():
    figure = spectrum.draw([spectrum.Change("rank 3", {"fc2": factors([5.0, 1.0, 1e-4])})], title="x", subtitle="Own")
    render(figure)
    assert figure.axes[0].get_ylim()[0] > 0.5
    assert subtitle_of(figure) == "Own; values below 0.005 are left out"
    assert subtitle_of(spectrum.draw([spectrum.Change("rank 2", {"fc2": factors([5.0, 1.0])})], title="x")) == ""


def test_what_is_known_to_32_bits_has_no_singular_values_below_its_rounding():
    generator = np.random.default_rng(0)
    left, right = generator.normal(size=(40, 2)), generator.normal(size=(2, 60))
    whole = left @ right + generator.normal(size=(40, 60)) * 1e-9
    assert spectrum.singular_values(whole).size == 40
    assert spectrum.singular_values(whole.astype(np.float32)).size == 2


# Tradeoff


def test_a_path_goes_from_the_base_over_the_trained_alpha_to_a_dashed_end():
    points = [(1.25, 0.0, 0.7), (0.0, 0.9, 0.05), (1.0, 0.1, 0.8), (0.5, 0.5, None), (0.2, 0.7, 0.4)]
    figure = draw_tradeoff({"rank 1": points, "rank 4": [(0.0, 0.9, 0.05), (1.0, 0.2, 0.95)]})
    render(figure)
    (axes,) = figure.axes
    assert line(axes, "rank 1") == (pytest.approx([90, 70, 10]), pytest.approx([5, 40, 80]))
    assert line(axes, "rank 4") == (pytest.approx([90, 20]), pytest.approx([5, 95]))
    (beyond,) = [drawn for drawn in axes.lines if drawn.get_linestyle() == ":"]
    assert [list(map(float, data)) for data in beyond.get_data()] == [pytest.approx([10, 0]), pytest.approx([80, 70])]
    assert line(axes, "the base") == (pytest.approx([90]), pytest.approx([5]))
    marked = [drawn for drawn in axes.lines if drawn.get_marker() == "*" and len(drawn.get_xdata())]
    assert [float(drawn.get_xdata()[0]) for drawn in marked] == pytest.approx([10, 20])
    assert (axes.get_xlabel(), axes.get_ylabel()) == (
        "Test accuracy on the base's digits 0-4 (%)", "Test accuracy on the new digits 5-9 (%)"
    )  # fmt: skip
    assert subtitle_of(figure) == "seed 0"
    assert [text for text in legend_of(axes) if text.startswith("rank")] == ["rank 1: 10.0, 80.0", "rank 4: 20.0, 95.0"]


def test_seeds_of_a_path_are_faint_under_their_means_with_intervals_where_it_was_trained():
    ends = [(0.1, 0.80), (0.2, 0.84), (0.3, 0.85)]
    paths = [
        {"label": "rank 1", "trained_alpha": 1.0, "points": [
            {"alpha": 0.0, "old": 0.9, "new": 0.05}, {"alpha": 1.0, "old": old, "new": new}
        ]}
        for old, new in ends
    ]  # fmt: skip
    figure = tradeoff.draw(paths, old_digits="0-4", new_digits="5-9", title="x")
    render(figure)
    (axes,) = figure.axes
    assert line(axes, "rank 1") == (pytest.approx([90, 20]), pytest.approx([5, 83]))
    faint = [drawn for drawn in axes.lines if (drawn.get_alpha() or 1) < 0.4]
    assert [[float(values[-1]) for values in drawn.get_data()] for drawn in faint] == [
        pytest.approx([100 * old, 100 * new]) for old, new in ends
    ]
    flat = [drawn for drawn in axes.lines if len(drawn.get_xdata()) == 2 and drawn.get_linewidth() == 1.2]
    halves = [T_2 * statistics.stdev(100 * end[place] for end in ends) / 3**0.5 for place in (0, 1)]
    assert list(flat[0].get_xdata()) == pytest.approx([max(0, 20 - halves[0]), 20 + halves[0]], rel=1e-4)
    assert list(flat[1].get_ydata()) == pytest.approx([83 - halves[1], 83 + halves[1]], rel=1e-4)
    assert legend_of(axes)[-2:] == ["95 % intervals as trained", "each seed"]


# Confusion


def test_confusion_writes_counts_and_colours_shares():
    counts = np.zeros((10, 10), dtype=np.int64)
    counts[0, 0], counts[0, 6] = 75, 25
    counts[3, 5] = 4
    figure = confusion.draw(counts, title="x")
    axes, bar = figure.axes
    (image,) = axes.images
    shares = np.ma.filled(image.get_array(), 0)
    assert (shares[0, 0], shares[0, 6], shares[3, 5]) == (75, 25, 100)
    assert shares.sum() == 200
    assert np.ma.getmaskarray(image.get_array()).sum() == 97
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert {cells[0, 0], cells[6, 0], cells[5, 3], cells[1, 0]} == {"75", "25", "4", "0"}
    assert words(axes).count("no images") == 8
    assert len(cells) == 2 * 10 + 8
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Predicted digit", "True digit")
    assert axes.get_title("left") == "75 of 104 test images right: accuracy 72.12 %"
    assert "%" in bar.get_ylabel()
    assert image.get_clim() == (0, 100)
    assert "stretched" in bar.get_ylabel()


def test_confusion_tells_counts_apart_and_parts_old_digits_from_new():
    counts = np.eye(10, dtype=np.int64) * 969
    counts[:, 0], counts[:, 1] = 1, 30
    axes, _ = confusion.draw(counts, title="x", old=(0, 1, 2, 3, 4, 8)).axes
    (image,) = axes.images
    one, thirty, half, most = (image.norm(100 * count / 1000) for count in (1, 30, 600, 969))
    assert 0.05 < one < thirty - 0.2 < half - 0.7 < most - 0.8
    lines_across = {(tuple(drawn.get_xdata()), tuple(drawn.get_ydata())) for drawn in axes.lines}
    assert lines_across == {
        *(((0, 1), (place, place)) for place in (4.5, 7.5, 8.5)),
        *(((place, place), (0, 1)) for place in (4.5, 7.5, 8.5)),
    }


def test_confusion_text_is_light_on_dark_and_dark_on_light():
    counts = np.eye(10, dtype=np.int64) * 99
    counts[0, 1] = 1
    (axes, _) = confusion.draw(counts, title="x").axes
    colour = {text.get_position(): text.get_color() for text in axes.texts}
    assert (colour[0, 0], colour[1, 0]) == ("white", style.INK)


def test_confusion_of_nothing_and_of_another_shape():
    figure = confusion.draw(np.zeros((10, 10), dtype=np.int64), title="x")
    assert figure.axes[0].get_title("left") == "no test images"
    render(figure)
    with pytest.raises(ValueError, match="10 x 10"):
        confusion.draw(np.zeros((5, 5), dtype=np.int64), title="x")


# Forgetting


def bars(axes: Axes) -> dict[tuple[float, ...], list[float]]:
    """Colour → the lengths of the bars that have it, from top to bottom."""
    found: dict[tuple[float, ...], list[float]] = {}
    for bar in axes.patches:
        found.setdefault(tuple(round(part, 3) for part in bar.get_facecolor()), []).append(bar.get_width())
    return found


def test_forgetting_goes_from_the_probes_to_the_answers_and_writes_every_figure_beyond_its_bar():
    figure = forgetting.draw(HALVES, PROBES, title="x")
    old, new, *below = figure.axes
    untrained, base, adapter = bars(old).values()
    assert untrained == pytest.approx([80, 78])
    assert base == pytest.approx([95, 93, 99.5, 99])
    assert adapter == pytest.approx([94, 92, 60, 1])
    assert list(bars(new).values())[2] == pytest.approx([84, 82, 97, 96])
    assert [text.get_text() for text in old.get_yticklabels()] == [
        "probe on fc1", "probe on fc2", "answer,\ntask known", "answer,\nall ten digits",
    ]  # fmt: skip
    assert words(old) == ["80.0", "78.0", "95.0", "93.0", "99.5", "99.0", "94.0", "92.0", "60.0", "1.0"]
    assert old.get_title("left") == "Digits 0-4, which the base knew"
    assert new.get_title("left") == "Digits 5-9, which the adapter learned"
    for axes, accuracy in zip(below[:2], (1.0, 96.0), strict=True):
        assert line(axes, "all ten digits") == ([80], [pytest.approx(accuracy)])
        assert axes.get_title("left").endswith("all ten digits 25.0 %, task known 12.5 %")
    for axes in below[2:]:
        assert [list(steps.get_data().values) for steps in axes.patches] == [[0, 10], [0, 10]]
    (legend,) = figure.legends
    colours = {patch.get_facecolor() for patch in legend.findobj(Patch)}
    assert {bar.get_facecolor() for axes in (old, new) for bar in axes.patches} <= colours
    assert all(word in subtitle_of(figure) for word in ("probe:", "task known:", "ECE"))
    assert not [drawn for drawn in old.lines if drawn.get_marker() != "None"]  # separate measures are not joined


def test_forgetting_without_new_digits_has_one_column():
    figure = forgetting.draw(
        [row for row in HALVES if row["half"] == "old"], [row | {"new": None} for row in PROBES], title="x"
    )
    assert len(figure.axes) == 3
    render(figure)


# Strategies


def test_each_cure_has_two_points_every_seed_and_the_intervals_of_its_means():
    figure = strategies.draw(STRATEGIES, title="x")
    render(figure)
    (axes,) = figure.axes
    assert not axes.patches  # a bar's length would say nothing on this scale
    assert _means(axes, style.OLD) == pytest.approx([1, 2, 96])
    assert _means(axes, style.NEW) == pytest.approx([96, 95, 91])
    seeds = [sorted(drawn.get_xdata()) for drawn in axes.lines if drawn.get_alpha()]
    assert pytest.approx([95, 96, 97]) in seeds
    assert pytest.approx([89, 91, 93]) in seeds
    intervals = [list(drawn.get_xdata()) for drawn in axes.lines if drawn.get_marker() == "|"]
    half = T_2 * 1.0 / 3**0.5
    assert pytest.approx([0, 1 + half], rel=1e-4) in intervals  # cut at 0 %
    assert pytest.approx([96 - half, 96 + half], rel=1e-4) in intervals
    (column,) = axes.child_axes
    assert [label.get_text() for label in column.get_yticklabels()][:2] == ["1.0 (0.0 to 3.5)", "96.0 (91.0 to 100.0)"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["Plain", "Full", "Kept"]
    assert legend_of(axes) == ["old digits 0-4", "new digits 5-9", "each seed", "95 % interval of the mean"]


def test_one_seed_of_a_cure_has_no_interval():
    forgot = {**STRATEGIES, "cures": [{"title": "Plain", "runs": [{"old": 0.0, "new": 0.98}]}]}
    figure = strategies.draw(forgot, title="x")
    render(figure)
    (axes,) = figure.axes
    assert legend_of(axes) == ["old digits 0-4", "new digits 5-9"]
    assert (_means(axes, style.OLD), _means(axes, style.NEW)) == ([0], [98])
    assert len(axes.lines) == 2


def _means(axes: Axes, role: style.Role) -> list[float]:
    drawn = [one for one in axes.lines if one.get_marker() == role.marker and one.get_color() == role.colour]
    return [float(one.get_xdata()[0]) for one in drawn if not one.get_alpha()]


def test_the_scale_of_cures_spreads_what_is_near_all_and_gives_every_accuracy_back():
    percents = np.array([0.0, 3.0, 50.0, 90.0, 96.0, 98.0, 99.0, 100.0])
    places = strategies.stretch(percents)
    assert (np.diff(places) > 0).all()
    assert places[5] - places[4] > 8 * (places[1] - places[0])  # 96 to 98 % against 0 to 3 %
    np.testing.assert_allclose(strategies._unstretch(places), percents, atol=1e-9)
