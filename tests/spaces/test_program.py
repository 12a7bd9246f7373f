"""Programs: what is valid, what they compute, which of them count as one, and what they are worth."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from nas import keys
from nas.encoding import Encoder
from nas.errors import BadInput, Diverged, UnknownName
from nas.keys.symbolic import Symbolic
from nas.program import FUNCTIONS, BadShape, Program, Statement, constants_of
from nas.proposal import Proposal
from nas.registry import create
from nas.rng import stream
from nas.spaces.mlp import MlpSpace
from nas.spaces.program import ProgramSpace
from nas.variation import crossover, mutate

FORMULAS = ProgramSpace(length=10)
RULES = ProgramSpace(interface="optimizer", length=10)
MOMENTUM = "m = interpolate(g, m, 0.9)\nu = copy(m)"
LION = """
t0 = interpolate(g, m, 0.9)
u = sign(t0)
m = interpolate(g, m, 0.99)
"""


def samples(space, n, seed=0):
    rng = stream(seed, "programs")
    return [space.sample(rng) for _ in range(n)]


def run(program, inputs):
    with np.errstate(all="ignore"):
        return program.run(np, inputs, constants_of(program.signature))


def inputs_of(space, n=32, seed=3):
    rng = stream(seed, "inputs")
    return {name: rng.standard_normal((n, *shape)) for name, shape in space.interface.inputs.items()}


def outputs_of(space, program, seed=3):
    inputs = inputs_of(space, seed=seed)
    shapes = space.interface.outputs
    found = run(program, inputs)
    return np.concatenate([np.broadcast_to(found[n], (32, *shape)).ravel() for n, shape in shapes.items()])


# --- functions and shapes -----------------------------------------------------------------------------------


def test_there_are_between_10_and_45_functions():
    assert 10 <= len(FUNCTIONS) <= 45


@pytest.mark.parametrize("name", FUNCTIONS)
def test_abstract_execution_tells_the_shape_and_numpy_and_torch_agree(name):
    """For every combination of operand shapes: either both refuse, or the shape is the one that was told."""
    function = FUNCTIONS[name]
    shapes = [(), (3,), (2, 3)]
    rng = stream(0, "functions", name)
    accepted = 0
    for combination in np.ndindex(*[len(shapes)] * function.arity):
        chosen = [shapes[i] for i in combination]
        try:
            told = function.rule(*chosen)
        except BadShape:
            continue
        accepted += 1
        operands = [rng.standard_normal((5, *shape)) for shape in chosen]
        result = function.apply(np, operands)
        assert result.shape == (5, *told), f"{name}{chosen}"
        assert np.isfinite(result).all()
        tensors = function.apply(torch, [torch.tensor(x) for x in operands])
        np.testing.assert_allclose(tensors.numpy(), result, rtol=1e-10, atol=1e-12)
    assert accepted > 0


@pytest.mark.parametrize("name", [n for n, f in FUNCTIONS.items() if f.commutative or f.neutral is not None])
def test_declared_properties_hold(name):
    f = FUNCTIONS[name]
    a, b, c = stream(0, "properties").standard_normal((3, 6, 4))
    if f.commutative:
        np.testing.assert_array_equal(f.compute(np, a, b), f.compute(np, b, a))
    if f.associative:
        np.testing.assert_allclose(
            f.compute(np, a, f.compute(np, b, c)), f.compute(np, f.compute(np, a, b), c), rtol=1e-12
        )
    if f.neutral is not None:
        np.testing.assert_array_equal(f.compute(np, a, np.full((6, 1), f.neutral)), a)


@pytest.mark.parametrize(
    "text",
    [
        "y = norm(0.5)",
        "y = dot(x, 1)",
        "y = matmul(A, 1)",
        "y = copy(x)",
        "t0 = outer(x, x)\nt1 = add(t0, x)",
    ],
)
def test_programs_that_do_not_execute_on_shapes_are_infeasible(text):
    assert not FORMULAS.feasible(FORMULAS.from_text(text))


def test_functions_are_safe_where_mathematics_is_not():
    zero, large = np.zeros((1, 2)), np.full((1, 2), 500.0)
    for name in ("div", "reciprocal", "log", "sqrt", "normalise"):
        assert np.isfinite(FUNCTIONS[name].apply(np, [zero] * FUNCTIONS[name].arity)).all()
    assert np.isfinite(FUNCTIONS["exp"].apply(np, [large])).all()
    assert np.isfinite(FUNCTIONS["softmax"].apply(np, [large])).all()


# --- the space ----------------------------------------------------------------------------------------------


def test_text_round_trips():
    for a in samples(FORMULAS, 20):
        program = FORMULAS.program(a)
        assert FORMULAS.program(FORMULAS.from_text(str(program))) == program


@pytest.mark.parametrize("text", ["y := x", "y = norm(x, x)", "y = nrm(x)", "z = norm(x)", "y = norm(z)"])
def test_unreadable_programs_are_refused(text):
    with pytest.raises(BadInput):
        FORMULAS.from_text(text)


def test_too_long_programs_are_refused():
    with pytest.raises(BadInput, match="at most 10 statements"):
        FORMULAS.from_text("y = norm(x)\n" * 11)


def test_generic_mutation_inserts_deletes_and_alters():
    rng = stream(0, "mutations")
    parent = FORMULAS.from_text("t0 = tanh(x)\ny = norm(t0)")
    changes = {len(FORMULAS.program(mutate(FORMULAS, parent, rng)).statements) - 2 for _ in range(300)}
    assert changes == {-1, 0, 1}


def test_statements_can_be_inserted_between_others():
    parent = FORMULAS.architecture(
        {
            **{f"step.{i}.used": False for i in range(10)},
            **{"step.2.used": True, "step.2.function": "copy", "step.2.to": "t0", "step.2.a": "x"},
            **{"step.5.used": True, "step.5.function": "norm", "step.5.to": "y", "step.5.a": "t0"},
        }
    )
    rng = stream(0, "between")
    children = (FORMULAS.program(mutate(FORMULAS, parent, rng)).statements for _ in range(300))
    assert any(len(c) == 3 and c[0].to == "t0" and c[2].function == "norm" for c in children)


@pytest.mark.parametrize("space", [FORMULAS, RULES])
def test_variation_and_encoding_stay_feasible(space):
    rng, encoder = stream(0, "variation"), Encoder(space)
    parents = samples(space, 20)
    for a, b in pairwise(parents):
        for child in (mutate(space, a, rng), crossover(space, a, b, rng)):
            assert space.program(child).valid
            assert encoder.decode(encoder.encode([child])[0]) == child


def test_most_mutations_are_accepted():
    """The generic mutation is no lottery: more than half of its unfiltered children are valid."""
    rng = stream(0, "acceptance")
    accepted = tried = 0
    for a in samples(RULES, 50):
        names = [name for name in a if RULES.by_name[name].size > 1]
        for _ in range(10):
            name = names[int(rng.integers(len(names)))]
            changed = {**a, name: RULES.by_name[name].mutate(a[name], rng)}
            accepted += RULES.feasible(RULES.complete(changed, rng))
            tried += 1
    assert accepted > 0.5 * tried


def test_the_module_computes_what_the_program_computes():
    for space in (FORMULAS, RULES):
        inputs = inputs_of(space)
        for a in samples(space, 20):
            outputs = space.build(a).double()(*[torch.tensor(x) for x in inputs.values()])
            flat = (
                outputs.ravel()
                if isinstance(outputs, torch.Tensor)
                else torch.cat([o.ravel() for o in outputs])
            )
            expected = outputs_of(space, space.program(a))
            np.testing.assert_allclose(flat.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_live_statements_give_what_all_give():
    for a in samples(RULES, 50):
        program = RULES.program(a)
        values = {n: np.zeros((1, *RULES.interface.shapes[n])) for n in RULES.interface.zeros}
        values |= constants_of(RULES.interface) | inputs_of(RULES)
        with np.errstate(all="ignore"):
            for s in program.statements:
                values[s.to] = FUNCTIONS[s.function].apply(np, [values[n] for n in s.operands])
        found = run(program, inputs_of(RULES))
        for name in RULES.interface.outputs:
            np.testing.assert_array_equal(found[name], values[name])


def test_settings():
    with pytest.raises(UnknownName, match="did you mean 'tanh'"):
        ProgramSpace(functions=["tanhh"])
    with pytest.raises(UnknownName, match="optimizer"):
        ProgramSpace(interface="optimiser")
    with pytest.raises(BadInput, match="length"):
        ProgramSpace(length=0)
    assert set(ProgramSpace(functions=["add", "norm"]).functions) == {"add", "norm"}


# --- keys ---------------------------------------------------------------------------------------------------


def renamed(program, rng):
    """Temporaries under other names."""
    names = program.signature.temporaries
    other = dict(zip(names, rng.permutation(names).tolist(), strict=True))
    return replace(
        program,
        statements=tuple(
            Statement(s.function, other.get(s.to, s.to), tuple(other.get(o, o) for o in s.operands))
            for s in program.statements
        ),
    )


def with_dead_code(program, rng):
    """A statement at the front whose result is overwritten or never read."""
    reads = {o for s in program.statements for o in s.operands}
    unread = [t for t in program.signature.temporaries if t not in reads]
    to = str(rng.choice(unread)) if unread else program.statements[0].to
    if not unread and (not program.statements or to in program.statements[0].operands):
        return program
    return replace(program, statements=(Statement("exp", to, ("0.5",)), *program.statements))


def reordered(program, rng):
    """Operands of commutative functions the other way round."""
    return replace(
        program,
        statements=tuple(
            replace(s, operands=s.operands[::-1])
            if FUNCTIONS[s.function].commutative and rng.random() < 0.7
            else s
            for s in program.statements
        ),
    )


@pytest.mark.parametrize("space", [FORMULAS, RULES])
@pytest.mark.parametrize("change", [renamed, with_dead_code, reordered])
def test_disguised_programs_keep_their_symbolic_key(space, change):
    key, rng = Symbolic(space.operators), stream(0, "disguises")
    changed = 0
    for a in samples(space, 200):
        program = space.program(a)
        other = change(program, rng)
        changed += other != program
        assert key(other.graph()) == key(program.graph()), f"{program}\n\n{other}"
    assert changed > 40


@pytest.mark.parametrize("space", [FORMULAS, RULES])
@pytest.mark.parametrize("name", ["symbolic", "numeric"])
def test_programs_with_one_key_compute_one_function(space, name):
    """On inputs that the numeric key has not seen."""
    key = keys.create(name, space)
    first: dict[str, np.ndarray] = {}
    shared = 0
    for a in samples(space, 300):
        result = outputs_of(space, space.program(a))
        if key(a) in first:
            shared += 1
            np.testing.assert_allclose(
                result, first[key(a)], rtol=1e-6, atol=1e-9, err_msg=str(space.program(a))
            )
        elif not key(a).startswith(keys.ERROR):
            first[key(a)] = result
    assert shared > 10


def test_numbers_see_what_the_algebra_does_not():
    a, b = (FORMULAS.from_text(t) for t in ("y = dot(x, x)", "t0 = square(x)\ny = total(t0)"))
    numeric, symbolic = keys.create("numeric", FORMULAS), keys.create("symbolic", FORMULAS)
    assert numeric(a) == numeric(b)
    assert symbolic(a) != symbolic(b)


def test_neutral_constants_do_not_count():
    key = keys.create("symbolic", FORMULAS)
    plain = key(FORMULAS.from_text("y = norm(x)"))
    assert plain == key(FORMULAS.from_text("t0 = mul(1, x)\nt1 = add(t0, 0)\ny = norm(t1)"))
    assert plain != key(FORMULAS.from_text("t0 = mul(2, x)\ny = norm(t0)"))


def test_adding_zeros_of_a_shape_counts():
    """A number plus the zeros that ``u`` begins as is a vector, not that number."""
    widened = RULES.program(RULES.from_text("t0 = add(u, 1)\nt1 = total(t0)\nu = mul(t1, g)"))
    key = Symbolic(RULES.operators)
    other = RULES.program(RULES.from_text("u = mul(1, g)"))
    assert key(widened.graph()) != key(other.graph())
    assert widened.valid


# --- what they are worth ------------------------------------------------------------------------------------


def loss_of(evaluator, space, text, seed=0, **proposal):
    (outcome,) = evaluator.evaluate([Proposal(space.from_text(text), ("loss",), **proposal)], seed=seed)
    return outcome.values["loss"]


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("ridge", "t0 = dot(x, w)\ny = tanh(t0)"),
        ("distance", "t0 = sub(w, x)\ny = norm(t0)"),
        ("layer", "t0 = matmul(A, x)\nt0 = relu(t0)\ny = mean(t0)"),
        (
            "gated",
            "t0 = mean(x)\nt0 = mul(t0, 2)\nt0 = mul(t0, 2)\nt0 = sigmoid(t0)\n"
            "t1 = dot(x, w)\ny = mul(t0, t1)",
        ),
    ],
)
def test_the_true_formula_leaves_nothing_and_others_do(target, text):
    evaluator = create("evaluator", {"name": "program_regression", "formula": target}, {"space": FORMULAS})
    assert loss_of(evaluator, FORMULAS, text) < 1e-12
    assert loss_of(evaluator, FORMULAS, f"{text}\ny = neg(y)") < 1e-12, "scaling is free"
    assert loss_of(evaluator, FORMULAS, "y = head(x)") > 0.1
    assert loss_of(evaluator, FORMULAS, "y = copy(0.5)") == 1.0


def test_a_formula_that_overflows_diverges():
    evaluator = create("evaluator", "program_regression", {"space": FORMULAS})
    text = (
        "t0 = exp(99)\n".replace("99", "2") + "t0 = exp(t0)\n" * 2 + "t0 = cube(t0)\n" * 5 + "y = mul(t0, t0)"
    )
    with pytest.raises(Diverged):
        loss_of(evaluator, FORMULAS, text)


def test_known_update_rules_train_and_others_do_not():
    evaluator = create("evaluator", "program_optimizer", {"space": RULES})
    descent, momentum, lion = (loss_of(evaluator, RULES, t) for t in ("u = copy(g)", MOMENTUM, LION))
    assert max(descent, momentum, lion) < -0.3
    assert loss_of(evaluator, RULES, "t0 = copy(0)") == pytest.approx(0.0)
    assert loss_of(evaluator, RULES, "u = neg(g)") > -0.01
    assert loss_of(evaluator, RULES, "u = copy(g)", fidelity=0.1) > descent


def test_losses_repeat_and_depend_on_seed_and_replicate():
    evaluator = create("evaluator", "program_optimizer", {"space": RULES})
    first = loss_of(evaluator, RULES, LION)
    assert loss_of(create("evaluator", "program_optimizer", {"space": RULES}), RULES, LION) == first
    assert loss_of(evaluator, RULES, LION, seed=1) != first
    assert loss_of(evaluator, RULES, LION, replicate=1) != first


def test_gradients_are_those_of_the_losses():
    from nas.estimators.program import Problems

    problems = Problems(stream(0, "problems"), 2, 3, 1)
    w, step = problems.start + 0.3, 1e-6
    for i in range(3):
        shift = np.eye(3)[i] * step
        slope = (problems.losses(w + shift) - problems.losses(w - shift)) / (2 * step)
        np.testing.assert_allclose(problems.gradients(w)[:, i], slope, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["program_regression", "program_optimizer"])
def test_other_spaces_are_refused(name):
    with pytest.raises(BadInput, match="programs"):
        create("evaluator", name, {"space": MlpSpace(input_shape=(4,), classes=2)})
    other = RULES if name == "program_regression" else FORMULAS
    with pytest.raises(BadInput, match="programs"):
        create("evaluator", name, {"space": other})


def test_a_program_of_nothing_is_its_beginning():
    program = Program(RULES.interface, ())
    assert program.valid
    assert program.graph()[-1] == ("output", (0, 1, 2))
    assert not run(program, inputs_of(RULES))["u"].any()
