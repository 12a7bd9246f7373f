"""Plots say the truth and are readable."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from toys import plain_space, trial

from nas import Fixed, parse_objectives, stream
from nas.errors import BadInput
from nas.front import Front
from nas.report.curves import hypervolume_history, label
from nas.report.plots import plot_front, plot_hypervolume

SPACE = plain_space(64, 3)


def architectures(n):
    rng = stream(0, "report")
    found = {}
    while len(found) < n:
        a = SPACE.sample(rng)
        found[a.key] = a
    return list(found.values())


def trials(*rows, baseline=None):
    start = [] if baseline is None else [trial(0, Fixed("a:b"), role="baseline", **baseline)]
    return start + [
        trial(i + len(start), a, **row)
        for i, (a, row) in enumerate(zip(architectures(len(rows)), rows, strict=True))
    ]


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """The figure that a function draws, and its file."""
    figures = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **k: (figures.append(self), save(self, *a, **k))[1]
    )

    def draw(function, *args):
        path = function(*args, tmp_path / "plot.png")
        return figures[-1], path

    return draw


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


TWO = parse_objectives("max accuracy >= 0.5, min latency_ms < 3")
ROWS = (
    {"accuracy": 0.9, "latency_ms": 2.0},
    {"accuracy": 0.6, "latency_ms": 1.0},
    {"accuracy": 0.55, "latency_ms": 1.5},
    {"accuracy": 0.4, "latency_ms": 0.5},
)


def test_two_objectives_are_one_panel_with_front_bounds_and_baseline(drawn):
    found = trials(*ROWS, baseline={"accuracy": 0.8, "latency_ms": 2.5})
    figure, path = drawn(plot_front, Front(found, TWO))
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("latency (ms)", "accuracy")
    assert legend(figure) == ["feasible (3)", "front (2)", "baseline", "latency (ms) <= 3", "accuracy >= 0.5"]
    points = {line.get_label(): line.get_xydata().tolist() for line in axes.get_lines()}
    assert points["front (2)"] == [[2.0, 0.9], [1.0, 0.6]]
    assert points["baseline"] == [[2.5, 0.8]]
    assert points["feasible (3)"] == [[2.0, 0.9], [1.0, 0.6], [1.5, 0.55]]
    with Image.open(path) as image:
        assert image.width > 700
        assert len(image.convert("RGB").getcolors(1_000_000)) > 50


def test_the_staircase_encloses_what_the_front_dominates(drawn):
    figure, _ = drawn(plot_front, Front(trials(*ROWS), TWO))
    steps = figure.axes[0].get_lines()[-1]
    assert steps.get_drawstyle() == "steps-post"
    assert steps.get_xdata().tolist() == [1.0, 2.0]


def test_three_objectives_are_three_panels(drawn):
    rows = [{**row, "params": 10.0 ** (3 + i)} for i, row in enumerate(ROWS)]
    figure, path = drawn(
        plot_front, Front(trials(*rows), parse_objectives("max accuracy, min latency_ms, min params"))
    )
    shown = [(a.get_xlabel(), a.get_ylabel(), a.get_xscale()) for a in figure.axes]
    assert shown == [
        ("latency (ms)", "accuracy", "linear"),
        ("params", "accuracy", "log"),
        ("params", "latency (ms)", "log"),
    ]
    with Image.open(path) as image:
        assert image.width > 2.5 * image.height


def test_nothing_overlaps(drawn):
    rng = np.random.default_rng(0)
    rows = [
        {"accuracy": rng.random(), "latency_ms": rng.random() * 2, "params": 10 ** rng.uniform(3, 6)}
        for _ in range(40)
    ]
    for text in ("max accuracy >= 0.1", "max accuracy >= 0.1, min latency_ms < 1.5",
                 "max accuracy, min latency_ms < 1.5, min params < 1e6"):  # fmt: skip
        figure, _ = drawn(plot_front, Front(trials(*rows), parse_objectives(text)))
        inside = figure.bbox
        boxes = [a.get_tightbbox() for a in figure.axes] + [figure.legends[0].get_window_extent()]
        for i, one in enumerate(boxes):
            assert one.x0 >= inside.x0 - 1, text
            assert one.x1 <= inside.x1 + 1, text
            assert not any(one.overlaps(other) for other in boxes[i + 1 :]), text


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ((1e3, 1e6), "log"),
        ((1.0, 5.0), "linear"),
        ((0.01, 0.99), "linear"),
        ((-1.0, 1e6), "linear"),
        ((0.0, 1e6), "linear"),
    ],
)
def test_axes_are_logarithmic_only_over_orders_of_magnitude(drawn, values, scale):
    rows = [{"accuracy": 0.5 + i / 10, "cost": v} for i, v in enumerate(values)]
    figure, _ = drawn(plot_front, Front(trials(*rows), parse_objectives("max accuracy, min cost")))
    assert figure.axes[0].get_xscale() == scale


def test_a_far_bound_does_not_press_the_points_together(drawn):
    objectives = parse_objectives("max accuracy, min latency_ms < 1000")
    figure, _ = drawn(plot_front, Front(trials(*ROWS), objectives))
    assert figure.axes[0].get_xlim()[1] < 5
    assert legend(figure) == ["feasible (4)", "front (3)"]


@pytest.mark.parametrize(("goal", "best"), [("max", [0.9, 0.9, 0.9, 0.9]), ("min", [0.9, 0.6, 0.55, 0.4])])
def test_one_objective_shows_the_best_so_far(drawn, goal, best):
    figure, _ = drawn(plot_front, Front(trials(*ROWS), parse_objectives(f"{goal} accuracy")))
    lines = {line.get_label(): line.get_ydata().tolist() for line in figure.axes[0].get_lines()}
    assert lines["best so far"] == best
    assert lines["feasible (4)"] == [row["accuracy"] for row in ROWS]


def test_an_empty_front_has_no_plot(tmp_path):
    with pytest.raises(BadInput, match="the front must have a member"):
        plot_front(Front([], TWO), tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


def test_hypervolume_grows_to_the_fronts(drawn):
    objectives = parse_objectives("max accuracy, min latency_ms")
    found = trials(*ROWS[::-1], baseline={"accuracy": 0.99, "latency_ms": 0.1})
    found.append(trial(9, found[1].proposal.candidate, role="confirm", latency_ms=0.5))
    counts, volumes = hypervolume_history(found, objectives)
    assert counts == [0, 1, 2, 3, 4, 4]
    assert volumes[0] == 0
    assert volumes == sorted(volumes)
    assert volumes[-1] == pytest.approx(Front(found, objectives).hypervolume())
    # In the box from (0.9, 0.5) to (0.35, 2.15): the first one dominates a strip of its whole width.
    assert volumes[1] == pytest.approx(0.05 / 0.55)
    figure, _ = drawn(plot_hypervolume, found, objectives)
    assert figure.axes[0].get_lines()[0].get_xdata().tolist() == counts


def test_hypervolume_of_nothing_is_zero(drawn):
    objectives = parse_objectives("max accuracy >= 2, min latency_ms")
    assert hypervolume_history(trials(*ROWS), objectives) == ([0, 4], [0.0, 0.0])
    drawn(plot_hypervolume, trials(*ROWS), objectives)


@pytest.mark.parametrize(
    ("metric", "text"),
    [("latency_ms", "latency (ms)"), ("energy_mj", "energy (mJ)"), ("model_bytes", "model (bytes)"),
     ("peak_memory_mb", "peak memory (MB)"), ("accuracy", "accuracy"), ("train_loss", "train loss"),
     ("ms", "ms")],
)  # fmt: skip
def test_labels_carry_units(metric, text):
    assert label(metric) == text
