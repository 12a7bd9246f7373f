"""A page is whole, says what the trials say, and trusts no text."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from toys import plain_space, trial

from nas import Graph, stream
from nas.proposal import Failure
from nas.report import data
from nas.report.accounts import failures
from nas.report.html import report
from nas.report.ledger import failure_groups, ledger
from nas.report.markup import Html, embedded, tag
from nas.report.picture import LARGEST, drawing, picture

VOID = {"meta", "link", "br", "path", "rect"}
LOADING = {"src", "srcset", "data", "poster", "background", "action", "xlink:href"}


class Checked(HTMLParser):
    """Elements that are closed in order, and everything that would be loaded from elsewhere."""

    def __init__(self, text):
        super().__init__()
        self.open, self.loads, self.styles, self.ids = [], [], "", []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, name, attributes):
        given = dict(attributes)
        self.ids += [given["id"]] if "id" in given else []
        self.loads += [v for k, v in attributes if k in LOADING]
        if name == "link" or (name == "a" and not given["href"].startswith("#")):
            self.loads.append(given["href"])
        if name not in VOID:
            self.open.append(name)

    def handle_startendtag(self, name, attributes):
        assert name in VOID
        self.handle_starttag(name, attributes)

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, text):
        if self.open and self.open[-1] == "style":
            self.styles += text


def test_the_page_is_valid_and_loads_nothing(page):
    page = Checked(page)
    assert [address for address in page.loads if address != "data:,"] == []
    assert not re.search(r"url\(|@import", page.styles)
    assert len(page.ids) == len(set(page.ids))
    assert "honesty" in page.ids


def test_equal_trials_give_equal_pages(runs, page):
    assert report(runs[0], [runs[-1]]) == page


def test_no_text_of_the_run_becomes_markup(runs, page):
    assert any(t.failed for t in runs[0].history.trials)
    assert "<script>alert" not in page
    assert "ValueError: &lt;script&gt;alert(" in page
    assert tag("p", "<b>", Html("<i></i>"), title='"') == '<p title="&quot;">&lt;b&gt;<i></i></p>'
    inside = embedded({"a": "</script><!--", "b": float("nan")}, "x")
    assert inside.count("</script>") == 1
    assert "<!--" not in inside
    assert json.loads(inside[inside.index("{") : inside.rindex("}") + 1]) == {"a": "</script><!--", "b": None}


def test_failures_are_counted_by_reason_with_their_log(runs):
    result = runs[0]
    failed = [t.number for t in result.history.trials if t.failed]
    (group,) = failure_groups(result.history.trials, result.folder / "logs")
    assert list(group.trials) == failed
    assert "raise ValueError" in group.excerpt
    assert f"{len(failed)} trials, error" in failures(result)


def test_an_unfinished_or_empty_run_has_a_page(runs, tmp_path):
    import shutil

    from nas.cli.opened import found, opened

    place = tmp_path / "empty"
    shutil.copytree(runs[0].folder, place)
    lines = (place / "journal.log").read_text().splitlines(keepends=True)
    (place / "journal.log").write_text("".join(line for line in lines if '"record"' not in line))
    result = opened(found(place, None, None))
    assert not result.history.trials
    page = report(result)
    Checked(page)
    assert "nothing feasible was measured, so nothing is claimed" in page


def test_time_is_accounted_for():
    space = plain_space(4, 3)
    rng = stream(0, "ledger")
    at = [space.sample(rng) for _ in range(4)]
    trials = [
        replace(trial(0, at[0], role="baseline", loss=1.0), queued=10.0, started=10.0, ended=12.0),
        replace(
            trial(1, at[1], loss=1.0), queued=12.0, started=13.0, ended=17.0, attempts=2, lost_seconds=3.0
        ),
        # Two at once, one of which fails.
        replace(trial(2, at[2], loss=1.0), started=15.0, ended=18.0, outcome=Failure("error", "no", 3.0)),
        replace(trial(3, at[3], role="confirm", loss=1.0), started=19.0, ended=20.0),
    ]
    found = ledger(trials)
    assert found.wall == 10.0
    assert found.evaluating == 2.0 + 5.0 + 1.0
    assert found.waiting == 2.0
    assert (found.searching, found.baseline, found.failed, found.confirming) == (4.0, 2.0, 3.0, 1.0)
    assert found.busy == 10.0
    assert (found.lost, found.retried) == (3.0, 1)
    assert (found.trials, found.evaluated, found.failures, found.confirmed) == (2, 2, 1, 1)


def test_graphs_are_drawn_in_layers_without_overlaps(runs):
    graph = Graph(
        [
            ("input", ()),
            ("conv_with_a_very_long_name", (0,)),
            ("pool", (0,)),
            ("sum", (1, 2)),
            ("sum", (0, 3)),
        ]
    )
    svg = drawing(graph)
    assert svg.count("<rect") == 5
    assert svg.count("<path") == 6
    boxes = [
        tuple(float(re.search(rf' {k}="([\d.-]+)"', rect)[1]) for k in ("x", "y", "width", "height"))
        for rect in re.findall(r"<rect[^>]*>", svg)
    ]
    heights = [y for _, y, _, _ in boxes]
    assert heights[0] < heights[1] == heights[2] < heights[3] < heights[4]
    (x1, _, w1, _), (x2, _, w2, _) = boxes[1], boxes[2]
    assert x1 + w1 < x2 or x2 + w2 < x1
    assert "<title>conv_with_a_very_long_name</title>" in svg


def test_a_space_without_a_small_graph_shows_choices(runs):
    space = plain_space(4, 3)
    a = space.sample(stream(0, "picture"))
    assert picture(space, a).startswith("<table")
    member = runs[0].front()[0]
    assert picture(runs[0].parts.space, member.architecture).startswith("<svg")
    assert LARGEST >= 20


def test_points_carry_what_is_known(runs):
    result, front = runs[0], runs[0].front()
    run = data.run("a", result.history.trials, front, 0)
    assert run["front_of"].count(2) == len(front)
    assert run["front_of"].count(2) + run["front_of"].count(1) == len(front.candidates)
    assert 0 < run["front_of"].count(0) < len(run["front_of"])
    assert len(run["text"]) == len(run["columns"]["score"]) == len(run["front_of"])
    assert run["volume"]["volumes"][-1] == pytest.approx(front.hypervolume(), abs=1e-6)
    seconds = run["volume"]["seconds"]
    assert seconds == sorted(seconds)
    assert seconds[-1] > 0


def test_axes_of_the_parallel_coordinates_hold_every_line(runs):
    result = runs[0]
    found = data.parallel(result.front(), result.history.trials, result.parts.space, ())
    names = [d["label"] for d in found["dimensions"]]
    assert names == ["width", "first", "second", "third", "score", "cost", "size"]
    assert all(len(d["values"]) == found["lines"] for d in found["dimensions"])
    third = found["dimensions"][3]
    assert third["ticktext"][0] == "off"
    # What is inactive lies at the bottom, within a quarter of its place.
    inactive = [
        m
        for m in data.measured(result.history.trials, result.parts.objectives)
        if "third" not in m.architecture
    ]
    assert sum(v < 0.5 for v in third["values"]) == len(inactive)
