"""``nas list``, ``check``, ``schema``, ``init``, ``search --dry-run`` and ``--version``."""

from __future__ import annotations

import json
import time

import pytest
from commands import QUICK, TRAINED

import nas as toolkit
from nas import registry
from nas.cli.app import number
from nas.config import load
from nas.report.markup import duration


@pytest.mark.parametrize(
    ("kind", "plural"),
    [
        ("space", "spaces"),
        ("strategy", "strategies"),
        ("evaluator", "evaluators"),
        ("task", "tasks"),
        ("exporter", "exporters"),
    ],
)
def test_every_kind_is_listed_with_a_sentence(nas, kind, plural):
    found = json.loads(nas("list", plural, "--json").out)
    assert tuple(found) == registry.names(kind)
    assert all(line.strip() for line in found.values())
    lines = nas("list", plural).out.splitlines()
    assert [line.split()[0] for line in lines] == list(found)


def test_pairs_say_which_strategies_search_which_spaces(nas):
    rows = json.loads(nas("list", "pairs", "--json").out)
    works = {(row["strategy"], row["space"]): row for row in rows}
    assert len(works) == len(registry.names("strategy")) * len(registry.names("space"))
    assert works["evolution", "conv"]["works"] == "yes"
    assert works["aging_evolution", "conv"]["works"] == "one"
    assert "takes one objective" in works["aging_evolution", "conv"]["reason"]
    header, *lines = nas("list", "pairs").out.splitlines()
    assert header.split() == ["strategy", *registry.names("space")]
    assert any(line.split()[:2] == ["aging_evolution", "one"] for line in lines)


def test_a_space_that_cannot_be_made_does_not_hide_the_other_pairs(nas, monkeypatch):
    from nas.pairs import pairs

    monkeypatch.setattr(
        registry, "_registered", {**registry._registered, "space": {"demanding": lambda size: size}}
    )
    works = {(row["strategy"], row["space"]): row for row in pairs()}
    assert works["random", "demanding"]["works"] == "no"
    assert "size must be given" in works["random", "demanding"]["reason"]
    assert works["random", "conv"]["works"] == "yes"


def test_a_good_space_passes_and_a_bad_evaluator_fails_its_checks(nas):
    answer = nas("check", "space", "./own.py:Tiny")
    assert answer.code == 0
    assert "FAIL" not in answer.out
    nas.write(
        "bad.py",
        "import nas, itertools\n"
        "class Bad(nas.Evaluator):\n"
        "    metrics = frozenset({'accuracy'})\n"
        "    count = itertools.count()\n"
        "    def evaluate(self, proposals, *, seed):\n"
        "        return [nas.Measurement({'accuracy': float(next(self.count))}) for p in proposals]\n",
    )
    answer = nas("check", "evaluator", "./bad.py:Bad", "--json")
    failed = {row["check"] for row in json.loads(answer.out) if not row["passed"]}
    assert answer.code == 1
    assert failed == {"check_independent_of_batching", "check_independent_of_order"}


def test_functions_and_registered_names_are_checked_too(nas):
    assert nas("check", "evaluator", "./own.py:width").code == 1  # the conv space has no decision "width"
    nas.write("ok.py", "def size(model):\n    return sum(p.numel() for p in model.parameters())\n")
    assert nas("check", "evaluator", "./ok.py:size").code == 0
    assert nas("check", "evaluator", "cost").code == 0
    assert nas("check", "strategy", "random").code == 0
    assert nas("check", "strategy", "uniform").code == 0  # has a task, and a space with shared weights
    assert nas("check", "space", "join").code == 0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("space", "cnov"), "unknown space 'cnov'; did you mean 'conv'?"),
        (("strategy", "./own.py:Nope"), "unknown name in ./own.py 'Nope'"),
        (("evaluator", "./none.py:x"), "factory must name a file that exists, got './none.py:x'"),
        (("space", "./own.py:NeedsSupernet"), "./own.py:NeedsSupernet.space must be given"),
        (("evaluator", "./own.py:Tiny"), "evaluators.0 must be a nas.Evaluator"),
    ],
)
def test_what_cannot_be_checked_is_refused(nas, args, message):
    answer = nas("check", *args)
    assert answer.code == 2
    assert message in answer.err
    assert answer.err.count("\n") == 1


def test_the_schema_names_every_key(nas):
    schema = json.loads(nas("schema").out)
    assert {"space", "task", "objectives", "budget", "seed"} <= set(schema["properties"])
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["space"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (3, "3"), (12345.0, "12,345"), (0.123456, "0.1235"), (1234.5, "1,234"), (float("nan"), "nan"),
        (float("inf"), "inf"), (123456789012345, "123,456,789,012,345"), (10**15, "1.0e+15"),
        (9_99 * 10**498, "9.9e+500"), (-(7**2000), "-1.5e+1690"), (1e300, "1e+300"),
    ],
)  # fmt: skip
def test_numbers_are_readable(value, shown):
    assert number(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0 ms"), (0.0123, "12 ms"), (0.5, "0.5 s"), (59.4, "59 s"), (61, "1 min 1 s"), (7_260, "2 h 1 min")],
)
def test_durations_are_readable(seconds, shown):
    assert duration(seconds) == shown


def test_version_and_help(nas):
    assert nas("--version").out.strip() == toolkit.__version__
    for command in (
        "search",
        "resume",
        "status",
        "logs",
        "front",
        "list",
        "check",
        "schema",
        "init",
        "export",
    ):
        answer = nas(command, "--help")
        assert answer.code == 0
        assert "Usage" in answer.out


def test_init_writes_a_commented_config_that_runs(nas):
    answer = nas(
        "init",
        "mine.yaml",
        "--task",
        "digits",
        "--space",
        "mlp",
        "--target",
        "host",
        "--limit",
        5,
        "--minutes",
        0.1,
    )
    assert answer.code == 0, answer.err
    config, _ = load(nas.folder / "mine.yaml")
    assert config.space == "mlp"
    assert config.objectives[1].bound == 5
    assert config.budget.wall_seconds == 6
    assert "# " in (nas.folder / "mine.yaml").read_text()
    small = ["budget={trials: 1}", "task.limit=60", "evaluators.0.epochs=1", "objectives.1.bound=1e9"]
    assert nas("search", "mine.yaml", *(x for s in small for x in ("--set", s))).code == 0
    assert "must be new" in nas("init", "mine.yaml").err


def test_init_asks_for_what_was_not_given(nas, monkeypatch):
    import io
    import sys

    monkeypatch.setattr(sys, "stdin", io.StringIO("digits\nmlp\nhost\n0\n2\n"))
    answer = nas("init", "asked.yaml")
    assert answer.code == 0
    for question in ("Data", "Models to search", "Machine", "Latency limit", "Minutes"):
        assert question in answer.out
    config, _ = load(nas.folder / "asked.yaml")
    assert config.budget.wall_seconds == 120
    assert config.objectives[1].bound is None


def test_init_writes_nothing_that_would_not_run(nas):
    for args, message in [
        (("--space", "hyper"), "HyperSpace.model must be a factory"),
        (("--task", "digist"), "unknown task 'digist'; did you mean 'digits'?"),
    ]:
        given = {"--task": "digits", "--space": "mlp", "--target": "host", "--limit": 0, "--minutes": 1}
        given[args[0]] = args[1]
        answer = nas("init", "x.yaml", *(x for pair in given.items() for x in pair))
        assert answer.code == 2
        assert message in answer.err
        assert not (nas.folder / "x.yaml").exists()


def test_a_dry_run_tells_and_leaves_nothing(nas):
    answer = nas("search", "trained.yaml", "--dry-run")
    assert answer.code == 0
    lines = dict(line.split(None, 1) for line in answer.out.splitlines())
    assert lines["space"] == "Tiny, 16 architectures"
    assert lines["strategy"] == "random (RandomSearch)"
    assert lines["budget"] == "trials 4"
    assert "accuracy" in lines["sample"]
    assert lines["evaluation"].endswith("each at full fidelity")
    assert lines["estimate"].endswith("in all, if nothing is reused")
    assert not (nas.folder / "runs").exists()
    facts = json.loads(nas("search", "trained.yaml", "--dry-run", "--json").out)
    assert len(facts["samples"]) == 3
    assert facts["peak_memory_mb"] > 50


def test_a_dry_run_estimates_what_a_search_takes(nas):
    config = nas.write(
        "c.yaml", QUICK.replace("own.py:width", "own.py:sleeps").replace("min params", "min macs")
    )
    facts = json.loads(nas("search", config, "--dry-run", "--json").out)
    assert facts["seconds_per_evaluation"] == pytest.approx(0.3, rel=0.5)
    start = time.perf_counter()
    nas("search", config, "--json")
    assert 6 * facts["seconds_per_evaluation"] == pytest.approx(time.perf_counter() - start, rel=0.5)


def test_a_dry_run_counts_the_training_of_shared_weights(nas):
    text = """
space: {name: vit, patch: 4, embed_dims: [8], heads: [1], mlp_ratios: [1], least_depth: 1, depth: 2}
task: {name: digits, batch_size: 64}
objectives: max accuracy
stages: [{strategy: {name: uniform, epochs: 40}}]
evaluators: [inherited]
budget: {trials: 2}
"""
    config = nas.write("c.yaml", text)
    facts = json.loads(nas("search", config, "--dry-run", "--json").out)
    assert "training     uniform: about" in nas("search", config, "--dry-run").out
    short = text.replace("epochs: 40}}]", "epochs: 40}, budget: {trials: 8}}]")
    less = json.loads(nas("search", nas.write("d.yaml", short), "--dry-run", "--json").out)
    assert 0 < less["stages"]["uniform"] < facts["stages"]["uniform"] / 10


def test_a_dry_run_stops_where_a_sample_fails(nas):
    text = TRAINED.replace("name: training, epochs: 1", 'factory: "./own.py:fails"')
    answer = nas("search", nas.write("c.yaml", text), "--dry-run")
    assert answer.code == 1
    assert answer.err.count("\n") == 1
    assert "failed: RuntimeError: no such luck" in answer.err
