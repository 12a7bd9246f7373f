"""Imports point one way, and naming things loads nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import nas

ROOT = Path(nas.__file__).parent
CHAIN = """
errors rng yaml12 columnar operators → decision → architecture
→ space supernet task target targets objective
→ proposal encoding variation program table tables record files journal snapshot database
→ evaluator strategy history tally front feasibility
→ keys memo kernels surrogates feasible attainable sharing → spaces | tasks | estimators | strategies | export
→ registry sources executor executors budget stopping inflight store database_store earlier watch study stage
testing pairs profiling → parts → result → run → experiment report config → cli
"""
STEPS = [step.replace("|", " ").split() for step in CHAIN.split("→")]
PLACE = {room: i for i, step in enumerate(STEPS) for room in step}
PLACE[""] = PLACE["registry"]  # the front door shows what stands before it
SIBLINGS = {room.strip() for step in CHAIN.split("→") if "|" in step for room in step.split("|")}
ROOMS = {path.name.removesuffix(".py") for path in ROOT.iterdir() if path.suffix in ("", ".py")}
ROOMS -= {"__init__", "__main__", "__pycache__"}
HEAVY = {"torch", "botorch", "optuna", "pymoo", "sklearn", "matplotlib", "networkx", "pandas", "scipy"}


def room(module):
    """The room that a module of ours lies in; empty for the front door, the package itself."""
    first = module.split(".")[1:2]
    return first[0] if first and first[0] in ROOMS else ""


def imports(node):
    """Every module of ours that is imported below a node, also in functions, but not for type checking."""
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
        node = ast.Module(node.orelse, [])
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "nas")
    if isinstance(node, ast.ImportFrom) and node.module == "nas":
        yield from (f"nas.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("nas.")):
        assert not node.level, f"line {node.lineno}: imports must name the whole path"
        yield node.module
    for child in ast.iter_child_nodes(node):
        yield from imports(child)


def edges():
    """All (file, room that imports, room that is imported)."""
    for path in sorted(ROOT.rglob("*.py")):
        here = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if here not in ("__init__", "__main__"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            yield from ((path.relative_to(ROOT), here, there) for there in map(room, imports(tree)))


def test_every_room_has_its_place():
    assert ROOMS - set(PLACE) == set()


def test_imports_point_one_way():
    found = list(edges())
    assert ("study", "history") in {(here, there) for _, here, there in found}  # the walk sees something
    wrong = [
        f"{file}: {here} must not see {there or 'the package itself'}"
        for file, here, there in found
        if here != there and (PLACE[there] > PLACE[here] or {here, there} <= SIBLINGS)
    ]
    assert not wrong, "\n".join(wrong)


def test_rooms_see_each_other_without_cycles():
    graph: dict[str, set[str]] = {}
    for _, here, there in edges():
        if here != there != "":
            graph.setdefault(here, set()).add(there)
    assert list(TopologicalSorter(graph).static_order())  # raises CycleError


@pytest.mark.parametrize(
    "statement",
    [
        "import nas",
        "import nas; nas.Study, nas.Budget, nas.Memoized, nas.Space, nas.search",
        "import sys; sys.argv = ['nas', '--help']; import nas.cli; nas.cli.main()",
        "import sys; sys.argv = ['nas', 'list', 'spaces']; import nas.cli; nas.cli.main()",
        "import sys; sys.argv = ['nas', 'list', 'strategies', '--json']; import nas.cli; nas.cli.main()",
        "import sys; sys.argv = ['nas', 'list', 'targets']; import nas.cli; nas.cli.main()",
    ],
)
def test_naming_things_loads_nothing_heavy(statement):
    code = f"""
import sys, atexit
atexit.register(lambda: print("\\nLOADED", *sorted({HEAVY!r} & set(sys.modules))))
{statement}
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "LOADED"


def test_every_public_name_is_there():
    for name in nas.__all__:
        assert getattr(nas, name) is not None, name
