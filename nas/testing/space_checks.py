"""What every space must keep to, as plain functions: nas check space my_package:MySpace."""

# ruff: noqa: ARG001 - every check has the same parameters, whether it needs the example or not

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nas
from nas.encoding import Encoder
from nas.errors import BadInput
from nas.rng import stream
from nas.space import Space
from nas.testing.expect import expect, generators_untouched
from nas.variation import crossover, mutate, neighbours

if TYPE_CHECKING:
    from collections.abc import Callable

    from nas.architecture import Architecture, Candidate
    from nas.decision import Value

SAMPLES = 16
"""Random architectures that a check looks at."""
BUILDS = 3
"""Random architectures that a check builds."""
COUNTED = 5_000
"""Spaces up to this size are enumerated."""

_KEYS = """
import json, sys
from nas.architecture import digest
print(json.dumps([digest(choices) for choices in json.load(sys.stdin)]))
"""


def check_samples_belong(space: Space, example: Any = None) -> None:
    """Samples are feasible, and checking them changes nothing."""
    for a in _samples(space):
        expect(space.feasible(a), f"sample() must give feasible architectures, got {a}")
        again = space.architecture(a)
        expect(list(again.items()) == list(a.items()), f"a sample must be canonical, got {a} for {again}")


def check_json_round_trip(space: Space, example: Any = None) -> None:
    """Architectures are JSON scalars, and come back from their text with the same key."""
    for a in _samples(space):
        again = space.architecture(json.loads(json.dumps(a.to_json())))
        expect(again == a and again.key == a.key, f"{a} must come back from JSON, got {again}")


def check_key_in_another_process(space: Space, example: Any = None) -> None:
    """Keys do not depend on the process or its hash seed."""
    samples = _samples(space)
    root = str(Path(nas.__file__).parent.parent)
    hash_seed = "1" if os.environ.get("PYTHONHASHSEED") == "2" else "2"
    answer = subprocess.run(
        [sys.executable, "-c", _KEYS],
        input=json.dumps([a.to_json() for a in samples]),
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=True,
    )
    keys = [a.key for a in samples]
    expect(json.loads(answer.stdout) == keys, f"keys must be equal in every process, got others than {keys}")


def check_inactive_are_dropped(space: Space, example: Any = None) -> None:
    """Values for decisions that are inactive make no other architecture."""
    rng = stream(0, "check", "inactive")
    for a in _samples(space):
        choices: dict[str, Value] = {leaf.name: leaf.sample(rng) for leaf in space.leaves}
        again = space.architecture({**choices, **a})
        expect(again == a, f"inactive decisions must be dropped, got {again} for {a}")


def check_size_is_the_count(space: Space, example: Any = None) -> None:
    """A small finite space enumerates distinct architectures, as many as its size says."""
    expect(space.size >= 1, f"size must be at least 1, got {space.size}")
    if space.size > COUNTED:
        return
    every = list(space.enumerate())
    expect(len(set(every)) == len(every), "enumerate() must give each architecture once, got repeats")
    restricted = type(space).feasible is not Space.feasible
    expect(
        len(every) <= space.size if restricted else len(every) == space.size,
        f"size must be the number of architectures, got {space.size} for {len(every)}",
    )


def check_mutation_changes_one_decision(space: Space, example: Any = None) -> None:
    """A mutant belongs and differs in one decision that was active before; others may switch on or off."""
    rng = stream(0, "check", "mutation")
    for a in _samples(space):
        b = mutate(space, a, rng)
        _expect_belongs(space, b)
        changed = [name for name in a if name in b and a[name] != b[name]]
        one = 0 if space.size == 1 else 1
        expect(len(changed) == one, f"a mutation must change one decision, got {changed} from {a} to {b}")


def check_crossover_takes_from_parents(space: Space, example: Any = None) -> None:
    """A child belongs, and has a parent's value wherever a parent has one."""
    rng = stream(0, "check", "crossover")
    samples = _samples(space)
    for a, b in pairwise(samples):
        child = crossover(space, a, b, rng)
        _expect_belongs(space, child)
        for name in child:
            offered = [parent[name] for parent in (a, b) if name in parent]
            expect(
                not offered or child[name] in offered,
                f"a child's {name} must be a parent's, got {child[name]!r} of {offered}",
            )


def check_neighbours_belong(space: Space, example: Any = None) -> None:
    """Neighbours belong and differ in exactly one decision that both have."""
    rng = stream(0, "check", "neighbours")
    a = _samples(space)[0]
    for b in neighbours(space, a, rng):
        _expect_belongs(space, b)
        changed = [name for name in a if name in b and a[name] != b[name]]
        expect(len(changed) == 1, f"a neighbour must differ in one decision, got {changed} from {a} to {b}")


def check_encoding_round_trip(space: Space, example: Any = None) -> None:
    """Decoding an encoded architecture gives it back; encodings lie in the unit cube."""
    encoder = Encoder(space)
    samples = _samples(space)
    vectors = encoder.encode(samples)
    inside = ((vectors >= 0) & (vectors <= 1)).all()
    expect(inside, "encodings must lie in [0, 1], got values outside")
    for a, vector in zip(samples, vectors, strict=True):
        expect(
            encoder.decode(vector) == a, f"decode(encode(a)) must be a, got {encoder.decode(vector)} for {a}"
        )


def check_graph_is_valid(space: Space, example: Any = None) -> None:
    """Either no architecture has a graph or all have a topologically ordered one."""
    graphs = [space.graph(a) for a in _samples(space)]
    present = [g for g in graphs if g is not None]
    expect(len(present) in (0, len(graphs)), "graph() must be there for all architectures or none")
    for graph in present:
        expect(len(graph) > 0, "a graph must have a node, got none")
        graph.checked()
        expect(isinstance(hash(graph), int), "a graph must be plain tuples")


def check_recipe_is_json(space: Space, example: Any = None) -> None:
    """Training settings are finite JSON scalars by name."""
    for a in _samples(space):
        for name, value in space.recipe(a).items():
            scalar = value is None or isinstance(value, str | int | float | bool)
            finite = not isinstance(value, float) or math.isfinite(value)
            expect(
                isinstance(name, str) and scalar and finite,
                f"recipe must map names to JSON scalars, got {name!r}: {value!r}",
            )


def check_build_runs_forward(space: Space, example: Any = None) -> None:
    """Modules are torch modules, and run the example in evaluation mode to finite numbers.

    A space without modules, such as the settings of a tabular benchmark, says so by `BadInput` for every
    architecture; then there is nothing to check.
    """
    import torch
    from torch import nn

    for a in _builds(space):
        module = _built(space, a, seed=0)
        expect(isinstance(module, nn.Module), f"build must give an nn.Module, got {type(module).__name__}")
        if example is None:
            continue
        with torch.no_grad():
            output = _run(module.eval(), example)
        if isinstance(output, torch.Tensor):
            expect(bool(torch.isfinite(output).all()), f"the output must be finite, got other values for {a}")


def check_build_keeps_to_torchs_generator(space: Space, example: Any = None) -> None:
    """Building draws from torch's generator only."""
    for a in _builds(space):
        with generators_untouched("build"):
            _built(space, a, seed=0)


def check_same_seed_same_weights(space: Space, example: Any = None) -> None:
    """Building twice under one torch seed gives equal modules."""
    import torch

    for a in _builds(space):
        first, second = (_built(space, a, seed=7).state_dict() for _ in range(2))
        expect(list(first) == list(second), f"build must name the same weights each time, got others for {a}")
        for name, w in first.items():
            equal = not isinstance(w, torch.Tensor) or torch.equal(w, second[name])
            expect(equal, f"build must draw the same weights from the same seed, got other {name} for {a}")


def check_supernet_path_is_its_module(space: Space, example: Any = None) -> None:
    """A supernet under an architecture computes what that architecture's own path computes."""
    import torch
    from torch import nn

    supernet = space.supernet()
    if supernet is None or example is None:
        return
    if isinstance(supernet, nn.Module):
        supernet.eval()
    for a in _samples(space)[:BUILDS]:
        with torch.no_grad():
            shared, own = supernet.forward(example, a), _run(supernet.path(a).eval(), example)
        _expect_equal(shared, own, a)


def check_supernet_path_fits_its_build(space: Space, example: Any = None) -> None:
    """A path has the weights of the architecture's own module, by name and shape, and is that module."""
    supernet = space.supernet()
    if supernet is None:
        return
    for a in _builds(space):
        path, own = supernet.path(a), _built(space, a, seed=0)
        weights = path.state_dict()
        try:
            own.load_state_dict(weights)
        except RuntimeError as error:
            raise AssertionError(
                f"path must have the weights of build, got others for {a}: {error}"
            ) from error
        if example is not None:
            _expect_equal(_run(path.eval(), example), _run(own.eval(), example), a)


def check_supernet_refuses_other_candidates(space: Space, example: Any = None) -> None:
    """A supernet runs nothing that is outside its space."""
    from nas.architecture import Architecture, Mixture

    supernet = space.supernet()
    if supernet is None or example is None:
        return
    a = _samples(space)[0]
    name = next(iter(a))
    outside: tuple[Candidate, ...] = (
        Architecture({"not a decision": 0}),
        Architecture({**a, name: "not a value"}),
        Architecture({k: v for k, v in a.items() if k != name}),
        Mixture({"not a decision": [1.0]}),
    )
    for candidate in outside:
        try:
            supernet.forward(example, candidate)
        except BadInput:
            continue
        raise AssertionError(
            f"a supernet must refuse what is not of its space, got an output for {candidate}"
        )


SPACE_CHECKS: tuple[Callable[[Space, Any], None], ...] = (
    check_samples_belong,
    check_json_round_trip,
    check_key_in_another_process,
    check_inactive_are_dropped,
    check_size_is_the_count,
    check_mutation_changes_one_decision,
    check_crossover_takes_from_parents,
    check_neighbours_belong,
    check_encoding_round_trip,
    check_graph_is_valid,
    check_recipe_is_json,
    check_build_runs_forward,
    check_build_keeps_to_torchs_generator,
    check_same_seed_same_weights,
    check_supernet_path_is_its_module,
    check_supernet_path_fits_its_build,
    check_supernet_refuses_other_candidates,
)
"""Called with a space and an example of its modules' input, or None when there is none to run forward."""


def _samples(space: Space) -> list[Architecture]:
    rng = stream(0, "check", "samples")
    return [space.sample(rng) for _ in range(SAMPLES)]


def _expect_belongs(space: Space, a: Architecture) -> None:
    try:
        again = space.architecture(a)
    except BadInput as error:
        raise AssertionError(f"variation must stay in the space, got {a}: {error}") from error
    expect(again == a and space.feasible(a), f"variation must stay feasible and canonical, got {a}")


def _builds(space: Space) -> list[Architecture]:
    """The architectures to build; none where the space refuses all of them."""
    refused = []
    samples = _samples(space)[:BUILDS]
    for a in samples:
        try:
            _built(space, a, seed=0)
        except BadInput as error:
            refused.append(str(error))
    some = refused[0] if refused else ""
    expect(len(refused) in (0, len(samples)), f"build must refuse all architectures or none, got {some}")
    return [] if refused else samples


def _built(space: Space, a: Architecture, seed: int) -> Any:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return space.build(a)


def _run(module: Any, example: Any) -> Any:
    return module(*example) if isinstance(example, tuple) else module(example)


def _expect_equal(one: Any, other: Any, a: Architecture) -> None:
    import torch

    equal = torch.allclose(one, other, rtol=1e-4, atol=1e-5)
    expect(equal, f"path, supernet and module must give equal outputs, got others for {a}")
