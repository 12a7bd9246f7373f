"""Pages do in a browser what they promise."""

from __future__ import annotations

import pytest

from nas.report.compare import comparison_page

POINTS = """
await drawAll();
const place = document.getElementById("front-plot");
const traces = Object.fromEntries(place.data.map(t => [t.name || "staircase", {x: t.x, y: t.y}]));
const at = place.data.findIndex(t => (t.name || "").startsWith("FRONT"));
Plotly.Fx.hover(place, [{curveNumber: at, pointNumber: 0}]);
await new Promise(done => setTimeout(done, 300));
const shown = [...place.querySelectorAll(".hoverlayer text")].map(t => t.textContent).join("|");
return {traces, shown, bounds: place.layout.shapes.length, width: document.documentElement.scrollWidth,
        drawings: document.querySelectorAll("svg.graph").length, alerts: window.alerted || 0,
        plots: document.querySelectorAll(".js-plotly-plot, .parallel").length};
"""


def test_the_front_is_there_and_pointing_at_it_shows_an_architecture(runs, page, browse):
    found = browse(page, POINTS.replace("FRONT", "front ("))
    assert found["wrong"] == []
    assert found["loaded"] == []
    front = runs[0].front()
    drawn = found["traces"][f"front ({len(front)})"]
    assert len(front) > 3
    by_trial = sorted(front, key=lambda m: m.trial)
    assert drawn["x"] == pytest.approx([m.values["cost"] for m in by_trial], rel=1e-5)
    assert drawn["y"] == pytest.approx([m.values["score"] for m in by_trial], rel=1e-5)
    mark = front.baseline.values
    assert found["traces"]["baseline"]["x"] == [mark["cost"]]
    assert found["bounds"] == 2
    first = next(m for m in front if m.values["cost"] == pytest.approx(drawn["x"][0], rel=1e-5))
    assert f"trial {first.trial}" in found["shown"]
    for name, value in first.architecture.items():
        assert f"{name} {value}" in found["shown"]
    assert found["drawings"] == min(12, len(front)) + 1
    # The front, two curves, parallel coordinates, importance for each goal.
    assert found["plots"] == 6


def test_other_axes_can_be_chosen_and_a_phone_is_wide_enough(page, browse):
    script = """
const pick = document.getElementById("x");
pick.value = [...pick.options].findIndex(o => o.text === "size");
pick.dispatchEvent(new Event("change"));
await new Promise(done => setTimeout(done, 300));
const place = document.getElementById("front-plot");
return {title: place.layout.xaxis.title.text, width: document.documentElement.scrollWidth, inner: innerWidth};
"""
    found = browse(page, script, width=500)
    assert found["wrong"] == []
    assert found["title"] == "size"
    assert found["width"] <= found["inner"]


def test_runs_lie_over_each_other(runs, browse):
    found = browse(comparison_page(runs), POINTS.replace("FRONT", "random ("))
    assert found["wrong"] == []
    assert found["loaded"] == []
    for run in runs:
        assert f"{run.folder.name} ({len(run.front())})" in found["traces"]
    assert "trial" in found["shown"]
    assert found["plots"] == 3


PARALLEL = """
const place = document.getElementById("parallel-plot"), drawn = () => place.querySelectorAll(".name").length;
const before = drawn(), plots = document.querySelectorAll(".js-plotly-plot").length;
place.scrollIntoView();
for (let i = 0; i < 50 && !drawn(); i++) await new Promise(done => setTimeout(done, 50));
const names = [...place.querySelectorAll(".name")].map(t => t.textContent), all = +place.dataset.chosen;
const hold = place.querySelectorAll(".hold")[4], box = hold.getBoundingClientRect();
const at = (kind, share) => hold.dispatchEvent(
  new PointerEvent(kind, {clientX: box.x + 9, clientY: box.y + share * box.height, pointerId: 1}));
hold.setPointerCapture = () => 0;
at("pointerdown", 0.01); at("pointermove", 0.5); at("pointerup", 0.5);
const some = +place.dataset.chosen;
at("pointerdown", 0.5); at("pointerup", 0.5);
const values = data.parallel.dimensions[4].values, ends = [Math.min(...values), Math.max(...values)];
const pen = place.querySelector("canvas");
const pixels = pen.getContext("2d").getImageData(0, 0, pen.width, pen.height).data;
return {before, plots, names, all, some, again: +place.dataset.chosen, inked: pixels.some(v => v > 0),
        upper: values.filter(v => v >= (ends[0] + ends[1]) / 2).length};
"""


def test_far_plots_are_drawn_when_they_are_seen_and_a_range_of_an_axis_chooses_lines(page, browse):
    found = browse(page, PARALLEL)
    assert found["wrong"] == []
    assert found["before"] == 0
    assert 1 <= found["plots"] < 5
    assert found["names"] == ["width", "first", "second", "third", "score", "cost", "size"]
    assert found["inked"]
    assert 0 < found["some"] == found["upper"] < found["all"]
    assert found["again"] == found["all"]
