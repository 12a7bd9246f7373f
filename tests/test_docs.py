"""The documents say what is: their code runs, their configs are valid, their commands and names exist."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest
import yaml

import nas
from nas import registry
from nas.config import BudgetConfig, Config, load, search_of
from nas.estimators import MEASURES
from nas.keys import KEYS
from nas.parts import Parts

ROOT = Path(__file__).resolve().parents[1]
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DESIGN = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
CONFIG = (ROOT / "docs" / "config.md").read_text(encoding="utf-8")


def blocks(path, *languages):
    """Fenced blocks of a document in these languages, in order."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text(encoding="utf-8"), re.M | re.S)
    return [text for language, text in found if language in languages]


def rows(text, heading):
    """The cells of the tables below a heading, without the tables' own heads."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    lines = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in lines if not set("".join(line)) <= set("- ")]


def names(cell):
    return re.findall(r"`(\w+)`", cell)


def named(path):
    return pytest.param(path, id=path.name)


@pytest.fixture(autouse=True)
def _own_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_registered", {kind: {} for kind in registry.KINDS})


def write_files(path):
    """Put the blocks that begin with ``# file: name`` where the document's configs look for them."""
    for text in blocks(path, "python", "yaml"):
        first = text.partition("\n")[0]
        if first.startswith("# file: "):
            Path(first.removeprefix("# file: ")).write_text(text, encoding="utf-8")


@pytest.mark.parametrize("path", [named(p) for p in DOCS if blocks(p, "python")])
def test_code_runs_as_written(path, caplog):
    caplog.set_level("WARNING")
    write_files(path)
    namespace = {"__name__": "document"}
    for i, text in enumerate(blocks(path, "python")):
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(text, f"{path.name}, block {i}", "exec"), namespace)


WHOLE = [
    pytest.param(path, text, id=f"{path.name}-{i}")
    for path in DOCS
    for i, text in enumerate(blocks(path, "yaml"))
    if "space" in yaml.safe_load(text)
]


@pytest.mark.parametrize(("path", "text"), WHOLE)
def test_configs_are_valid(path, text):
    write_files(path)
    Path("config.yaml").write_text(text, encoding="utf-8")
    Parts(search_of(*load(Path("config.yaml"))))


def _command_lines():
    for path in DOCS:
        for text in blocks(path, "shell"):
            for line in text.splitlines():
                if line.strip() and not line.startswith("#"):
                    yield pytest.param(line, id=f"{path.name}: {line}")


@pytest.mark.parametrize("line", list(_command_lines()))
def test_commands_and_options_exist(line):
    words = [word for word in shlex.split(line, comments=True) if not re.match(r"[A-Z_]+=", word)]
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.M), words[1]
        return
    assert words[0] == "nas", "documents use nas and make only"
    import typer

    from nas.cli import app

    command, rest = typer.main.get_command(app), words[1:]
    while commands := getattr(command, "commands", None):
        assert rest[0] in commands
        command, rest = commands[rest[0]], rest[1:]
    command.make_context(words[1], rest)
    for word in words:
        if word.startswith("search_configs/"):
            assert (ROOT / word).is_file()


@pytest.mark.parametrize("path", [named(p) for p in DOCS])
def test_links_lead_to_files(path):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[\w-]*)?\)", path.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (path.parent / target).exists(), target


def test_the_index_names_every_page():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\]\((\w+\.md)\)", index)) == {p.name for p in DOCS[1:]} - {"index.md"}


# --- what exists, and what does not -------------------------------------------------------------------

PLUGINS = {
    "spaces": "space",
    "tasks": "task",
    "evaluators": "evaluator",
    "strategies": "strategy",
    "targets": "target",
    "exporters": "exporter",
}


@pytest.mark.parametrize(("row", "kind"), PLUGINS.items())
def test_the_readme_names_exactly_what_exists(row, kind):
    (cell,) = [cells[1] for cells in rows(README, "What exists") if cells[0] == row]
    assert sorted(names(cell)) == sorted(registry._builtin(kind))


def test_what_is_planned_does_not_exist_yet():
    planned = re.findall(r"`(\w+)`", DESIGN.partition("\n## Planned\n")[2].partition("\n## ")[0])
    existing = {name for kind in registry.KINDS for name in registry._builtin(kind)}
    assert planned
    assert not existing & set(planned)


def test_the_design_names_every_room_and_no_other():
    (tree,) = re.findall(r"^```\nnas/\n(.*?)^search_configs", DESIGN, re.M | re.S)
    described = {line.split()[0].rstrip("/") for line in tree.splitlines() if line.startswith("  ")}
    there = {p.name for p in (ROOT / "nas").iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()}
    assert described == there - {"__init__.py", "__main__.py"}


def test_the_design_draws_the_order_that_is_enforced():
    from test_house import CHAIN, ROOMS

    (drawn,) = re.findall(r"^```\n(errors rng .*?)^```$", DESIGN, re.M | re.S)
    existing = [[r for r in step.split() if r in ROOMS or r == "|"] for step in CHAIN.split("→")]
    assert [step.split() for step in drawn.split("→")] == [step for step in existing if step]


def test_the_design_names_every_command_and_no_other():
    import typer

    from nas.cli import app

    (line,) = re.findall(r"^  cli/ +one command a file: (.*)$", DESIGN, re.M)
    assert sorted(line.split()) == sorted(typer.main.get_command(app).commands)


def test_every_key_of_a_config_is_documented_with_its_default():
    documented = {names(cells[0])[0]: cells[2] for cells in rows(CONFIG, "Keys") if names(cells[0])}
    assert list(documented) == list(Config.model_fields)
    for name, shown in documented.items():
        field = Config.model_fields[name]
        if field.is_required():
            assert shown == "required", name
            continue
        default = field.get_default(call_default_factory=True)
        plain = default.model_dump(exclude_none=True) if hasattr(default, "model_dump") else default
        assert (None if shown == "none" else yaml.safe_load(shown.strip("`"))) == plain, name


def test_every_limit_of_a_budget_is_documented():
    assert [n for cells in rows(CONFIG, "Budgets") for n in names(cells[0])] == list(
        BudgetConfig.model_fields
    )


def test_every_key_of_the_memo_is_documented():
    assert sorted(n for cells in rows(CONFIG, "Shared answers") for n in names(cells[0])) == sorted(KEYS)


def test_every_metric_is_documented_with_its_evaluator():
    documented = {
        metric: names(cells[2])[0]
        for cells in rows(CONFIG, "Objectives and bounds")
        if len(cells) == 4 and names(cells[2])
        for metric in names(cells[0])
    }
    assert documented == MEASURES


def test_files_that_a_run_leaves_are_documented():
    front = nas.search(
        space="mlp",
        task={"name": "digits", "limit": 40},
        evaluator={"name": "training", "epochs": 1},
        objectives="max accuracy, min params",
        trials=2,
        out="run",
    )
    assert front
    documented = {n.rstrip("/") for cells in rows(CONFIG, "The run's folder")
                  for n in re.findall(r"`([\w./]+)`", cells[0])}  # fmt: skip
    assert {path.name for path in Path("run").iterdir()} <= documented
