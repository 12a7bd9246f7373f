"""Everything a user can get wrong is one line that says what, where and what to do, before anything runs."""

from __future__ import annotations

import re

import pytest
from commands import QUICK, Terminal

CONFIGS = {
    "unknown key": ("spce: conv", r"unknown key 'spce'; did you mean 'space'\?"),
    "no near key": ("space: conv\nzzz: 1", r"unknown key 'zzz'; known: seed, space"),
    "unknown budget": (
        "space: conv\nbudget: {trial: 3}",
        r"budget: unknown key 'trial'; did you mean 'trials'",
    ),
    "unknown objective key": (
        "space: conv\nobjectives: [{metric: accuracy, gol: max}]",
        r"objectives\.0: unknown key 'gol'; did you mean 'goal'",
    ),
    "missing space": ("task: digits", r"space: must be given"),
    "space of a wrong type": ("space: 5", r"space: must be a text or a mapping, got 5"),
    "evaluators no list": (
        "space: conv\nevaluators: training",
        r"evaluators: must be a list, got 'training'",
    ),
    "budget no mapping": ("space: conv\nbudget: 5", r"budget: must be a mapping, got 5"),
    "empty budget": ("space: conv\nbudget: {}", r"budget must set a limit"),
    "budget below range": (
        "space: conv\nbudget: {trials: 0}",
        r"budget\.trials: must be greater than 0, got 0",
    ),
    "budget of a wrong type": (
        "space: conv\nbudget: {trials: many}",
        r"budget\.trials: must be a whole number, got 'many'",
    ),
    "negative seed": ("space: conv\nseed: -1", r"seed: must be greater than or equal to 0, got -1"),
    "seed no integer": ("space: conv\nseed: 1.5", r"seed: must be a whole number, got 1\.5"),
    "a boolean is no number": ("space: conv\nseed: true", r"seed: must be a whole number, got True"),
    "no mapping": ("[1, 2]", r"config must map keys to values, got \[1, 2\]"),
    "empty file": ("", r"config must map keys to values, got None"),
    "key that is no text": ("space: conv\n1: 2", r"1: keys should be strings"),
    "key that is a list": ("? [1]\n: 2", r"a key must be a plain value in line 1, column 3"),
    "duplicate key": (
        "space: conv\nseed: 1\nspace: mlp",
        r"c\.yaml must be valid YAML: the key 'space' stands twice in line 3, column 1",
    ),
    "nested duplicate key": (
        "space: conv\nbudget: {trials: 1, trials: 2}",
        r"the key 'trials' stands twice in line 2, column 21",
    ),
    "broken YAML": ("space: [conv", r"c\.yaml must be valid YAML: .* in line 1, column 13"),
    "tab in YAML": ("space:\n\tname: conv", r"must be valid YAML: .*'\\t'.* in line 2, column 1"),
    "bad tag": ("space: !!int ten", r"must be valid YAML: invalid literal"),
    "python object": ("space: !!python/object:os.system {}", r"must be valid YAML: could not determine"),
    "too deep": ("[" * 3000, r"must be valid YAML: "),
    "unknown space": ("space: cnov", r"space: unknown space 'cnov'; did you mean 'conv'\?"),
    "unknown task": ("space: conv\ntask: digts", r"task: unknown task 'digts'; did you mean 'digits'\?"),
    "unknown strategy": (
        "space: conv\nstrategy: evoluton",
        r"strategy: unknown strategy 'evoluton'; did you mean 'evolution'\?",
    ),
    "unknown evaluator": (
        "space: conv\nevaluators: [trainng]",
        r"evaluators\.0: unknown evaluator 'trainng'; did you mean 'training'\?",
    ),
    "unknown target": ("space: conv\ntarget: hst", r"target: unknown target 'hst'; did you mean 'host'\?"),
    "unknown metric": (
        "space: conv\nobjectives: max acuracy",
        r"objectives: unknown metric 'acuracy'; did you mean 'accuracy'\?",
    ),
    "unknown executor": ("space: conv\nexecutor: nowhere", r"executor: .*'nowhere'"),
    "unknown memo": (
        "space: conv\nmemo: functonal",
        r"memo: unknown memo 'functonal'; did you mean 'functional'",
    ),
    "unknown exporter": (
        "space: conv\nexport: {formats: [pt3]}",
        r"export\.formats: unknown exporter 'pt3'; did you mean 'pt2'\?",
    ),
    "export of nothing trained": (
        QUICK + "export: {formats: [json]}",
        r"export\.formats: evaluators must hold one that keeps weights",
    ),
    "no reading of an objective": (
        "space: conv\nobjectives: accuracy up",
        r"objectives: objective must read like",
    ),
    "two goals of a metric": (
        "space: conv\nobjectives: [max accuracy, min accuracy]",
        r"objectives: objectives must name each metric once, got 'accuracy'",
    ),
    "limit without a bound": (
        "space: conv\nobjectives: [max accuracy, {metric: params, goal: limit}]",
        r"objectives\.1: params\.bound must be given for goal limit",
    ),
    "wrong goal": (
        "space: conv\nobjectives: [{metric: accuracy, goal: up}]",
        r"objectives\.0\.goal: must be 'min', 'max' or 'limit', got 'up'",
    ),
    "relative bound without baseline": (
        "space: conv\nobjectives: max accuracy >= baseline - 0.01",
        r"objectives\.accuracy\.bound must have a baseline, .*; set baseline:",
    ),
    "a bound nobody meets": (
        "space: conv\nobjectives: max accuracy, min params <= 1",
        r"objectives: params must be <= 1, got \d+ at the nearest of .* loosen",
    ),
    "an infeasible space": (
        'space: {factory: "./own.py:Nothing"}',
        r"space: Nothing must have feasible architectures, got none in 10,000",
    ),
    "missing data": (
        "space: conv\ntask: {name: fashion_mnist, data: nowhere}",
        r"task: data must be a folder with .*, got 'nowhere'",
    ),
    "one objective only": (
        "space: conv\nobjectives: max accuracy, min params\nstrategy: aging_evolution",
        r"strategy: aging_evolution takes one objective .*; 'nas list pairs' shows what works",
    ),
    "a strategy that needs more": (
        'space: {factory: "./own.py:Tiny"}\nstrategy: {factory: "./own.py:NeedsSupernet"}',
        r"strategy: needssupernet needs a space with supernet; Tiny has none",
    ),
    "factory without a file": (
        'space: {factory: "./none.py:Tiny"}',
        r"space: factory must name a file that exists, got './none\.py:Tiny'",
    ),
    "factory without a name": (
        'space: {factory: "./own.py:Tinny"}',
        r"space: unknown name in \./own\.py 'Tinny'; did you mean 'Tiny'\?",
    ),
    "factory without a module": (
        'space: {factory: "no_such_package:Tiny"}',
        r"space: factory must be importable, got 'no_such_package:Tiny'; No module named",
    ),
    "factory without a colon": ("space: {factory: own}", r"space: factory must read 'package\.module:name'"),
    "factory with broken Python": (
        'space: {factory: "./broken.py:Tiny"}',
        r"space: factory must be valid Python, got './broken\.py:Tiny'; .* in line 2",
    ),
    "factory that is a number": (
        'space: {factory: "./own.py:number"}',
        r"space: factory \./own\.py:number must be a class or function in Python, got 5",
    ),
    "factory of something else": (
        'space: {factory: "./own.py:Tiny"}\nstrategy: {factory: "./own.py:Tiny"}',
        r"strategy must be a nas\.Strategy, got",
    ),
    "factory and name": (
        "space: {name: conv, factory: x}",
        r"space: space must have either name: or factory:",
    ),
    "unknown setting": (
        "space: {name: conv, depht: 3}",
        r"space: unknown setting of conv 'depht'; did you mean 'depth'\?",
    ),
    "setting of a wrong type": (
        "space: {name: conv, classes: ten}",
        r"space: conv: classes must be a whole number or null, got 'ten'",
    ),
    "setting of a user's wrong type": (
        'space: {factory: "./own.py:Tiny", classes: ten}',
        r"space: \./own\.py:Tiny: classes must be a whole number, got 'ten'",
    ),
    "setting out of range": (
        "space: {name: conv, depth: 0}",
        r"space: depth must be a whole number in \[1, 16\], got 0",
    ),
    "evaluator setting of a wrong type": (
        "space: conv\nevaluators: [{name: training, epochs: ten}]",
        r"evaluators\.0: training: epochs must be a whole number, got 'ten'",
    ),
    "a setting that is not the user's to set": (
        "space: conv\nevaluators: [{name: training, space: 5}]",
        r"evaluators\.0: unknown setting of training 'space'",
    ),
    "baseline out of the space": (
        'space: {factory: "./own.py:Tiny"}\nbaseline: {width: 99, act: relu}',
        r"baseline: width must .*99",
    ),
    "baseline without a file": (
        'space: {factory: "./own.py:Tiny"}\nbaseline: {factory: "./none.py:x"}',
        r"baseline: factory must name a file that exists",
    ),
    "join of one": ("space: {join: [conv], name: x}", r"space: space must have join: alone"),
}


@pytest.fixture
def nas(tmp_path, monkeypatch, capsys):
    terminal = Terminal(tmp_path, monkeypatch, capsys)
    terminal.write("broken.py", "class Tiny:\n    def (")
    return terminal


def refused(nas, answer, message):
    """One line on standard error that says what the message asks for; nothing else happened."""
    assert answer.code == 2, answer
    assert answer.out == ""
    assert re.fullmatch(r"error: [^\n]+\n", answer.err), answer.err
    assert re.search(message, answer.err), answer.err
    assert not (nas.folder / "runs").exists()


@pytest.mark.parametrize("case", CONFIGS)
def test_a_wrong_config_is_refused_in_one_line(nas, case):
    text, message = CONFIGS[case]
    refused(nas, nas("search", nas.write("c.yaml", text)), message)


@pytest.mark.parametrize("case", ["a bound nobody meets", "unknown exporter", "unknown key"])
def test_a_dry_run_refuses_the_same(nas, case):
    text, message = CONFIGS[case]
    refused(nas, nas("search", nas.write("c.yaml", text), "--dry-run", "--json"), message)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("budget.trials", r"--set must read a\.b=value, got 'budget\.trials'"),
        ("=3", r"--set must read a\.b=value"),
        ("a..b=3", r"--set must read a\.b=value"),
        ("seed.x=3", r"--set must lead through mappings and lists, not through seed"),
        ("evaluators.7=cost", r"--set must name a position below 1 in the list"),
        ("evaluators.x.epochs=1", r"--set must name a position below 1 in the list"),
        ("budget.trails=3", r"budget: unknown key 'trails'; did you mean 'trials'\?"),
        ("seed=[1", r"--set seed must be valid YAML"),
    ],
)
def test_a_wrong_setting_is_refused(nas, setting, message):
    config = nas.write("c.yaml", "seed: 1\n" + QUICK)
    refused(nas, nas("search", config, "--set", setting), message)


def test_a_config_that_cannot_be_read_is_refused(nas):
    refused(nas, nas("search", "none.yaml"), r"config must be a file that can be read, got 'none\.yaml'")
    refused(nas, nas("search", "."), r"config must be a file that can be read")
    (nas.folder / "latin.yaml").write_bytes("space: \xe9".encode("latin-1"))
    refused(nas, nas("search", "latin.yaml"), r"config must be UTF-8 text")


@pytest.mark.parametrize("command", ["resume", "status", "logs", "front", "export"])
def test_a_folder_that_is_no_run_is_refused(nas, command):
    message = r"run must be a folder made by 'nas search'"
    refused(nas, nas(command, "nowhere"), message)
    refused(nas, nas(command, "."), message)


def test_a_folder_that_holds_something_is_not_searched_in(nas):
    config = nas.write("c.yaml", QUICK)
    refused(nas, nas("search", config, "--out", "."), r"--out must be a new or empty folder")
    assert nas("search", config, "--out", "taken", "--set", "budget.trials=1").code == 0
    answer = nas("search", config, "--out", "taken")
    refused(nas, answer, r"--out must be a new folder, got 'taken'; continue that run with: nas resume taken")


def test_a_number_that_is_no_trial_is_refused(nas):
    nas("search", nas.write("c.yaml", QUICK), "--out", "run", "--set", "budget.trials=2")
    refused(nas, nas("logs", "run", 99), r"NUMBER must be a trial from 0 to 1, got 99")
    refused(nas, nas("export", "run", "--trial", 99), r"--trial must be one of the front's, .* got 99")
    assert nas("logs", "run", "x").code == 2


def test_what_a_run_is_cannot_be_changed_when_it_goes_on(nas):
    nas("search", nas.write("c.yaml", QUICK), "--out", "run", "--set", "budget.trials=2")
    for setting, message in [
        ("seed=3", r"seed of the run in run must stay 0, got 3; start a new run with another --out"),
        ("strategy=grid", r"strategy of the run in run must stay 'random', got 'grid'"),
        ("objectives=max accuracy", r"objectives of the run in run must stay"),
        ("task.limit=61", r"data of the run in run must stay"),
    ]:
        refused(nas, nas("resume", "run", "--set", setting), message)


@pytest.mark.parametrize("command", ["search", "list", "check", "front"])
def test_a_wrong_call_exits_with_two(nas, command):
    assert nas(command, "--no-such-option").code == 2
