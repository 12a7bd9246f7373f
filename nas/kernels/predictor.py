"""How long operations take on a device: models by kind of operation, fitted to a table of timings."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np

from nas.errors import must
from nas.kernels.conformal import Conformal
from nas.kernels.drift import drift_ms, without_drift
from nas.kernels.features import features
from nas.kernels.hull import Hull
from nas.kernels.roofline import Rates, roofline_ms
from nas.kernels.trees import Trees

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from nas.kernels.op import Op
    from nas.kernels.op_table import OpTable

SCHEMA = 1
"""Version of the files of models; another one is refused."""
PRODUCTS = ("conv", "linear", "bmm")
"""Families whose kernels are chosen among many; they get more trees."""
UNKNOWN_FACTOR = 3.0
"""Within which the time of an operation without a model is taken to lie, up and down."""
ALIKE = ("linear", "bmm", "softmax", "layer_norm", "pointwise")
"""Families in which an operation without a model of its own is as good as another of as many inputs."""


@final
@dataclass(frozen=True)
class OpModel:
    """Times of one kind of operation.

    Args:
        trees: predict log(time / roofline) from `features`.
        hull: where the trees have seen timings.
        line: (a, c) of a + c × roofline in ms, which takes over outside.
        drift: milliseconds that the table's clock gained over its session; left out of predictions.
        conformal: ratios on timings that were held out.
    """

    trees: Trees
    hull: Hull
    line: tuple[float, float]
    drift: float
    conformal: Conformal

    def predict(self, ops: Sequence[Op], rates: Rates) -> tuple[NDArray[Any], NDArray[Any]]:
        """Milliseconds at the session's start, and the trust in the trees (0 to 1); shape (n,) each."""
        trust = self.hull.trust(ops)
        _, x = features(ops, rates)
        roof = roofline_ms(ops, rates)
        line = np.log(self.line[0] + self.line[1] * roof)
        return np.exp(trust * (self.trees.predict(x) + np.log(roof)) + (1 - trust) * line), trust


def fit_op(table: OpTable, seed: int) -> OpModel:
    """A model of one kind of operation from all rows of a table; its intervals are of no width yet."""
    _, x = features(table.ops, table.rates)
    roof = roofline_ms(table.ops, table.rates)
    drift = drift_ms(x, table.position, table.median_ms, roof)
    ms = without_drift(table.median_ms, table.position, drift)
    trees = _boosted(x, np.log(ms / roof), seed, product=table.ops[0].family in PRODUCTS)
    none = Conformal(np.zeros(0))
    return OpModel(trees, Hull.around(table.ops), fit_line(roof, ms), drift, none)


def _boosted(x: NDArray[Any], y: NDArray[Any], seed: int, *, product: bool) -> Trees:
    """The mean of two ensembles: squared errors follow sharp regimes, absolute ones no outliers."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    models = [
        HistGradientBoostingRegressor(
            loss=loss,
            max_iter=220 if product else 100,
            learning_rate=0.1 if product else 0.12,
            max_leaf_nodes=31 if product else 16,
            min_samples_leaf=min(10 if product else 5, max(1, len(y) // 20)),
            l2_regularization=1.0 if product else 0.0,
            max_features=0.3,
            early_stopping=False,
            random_state=seed + i,
        ).fit(x, y)
        for i, loss in enumerate(("squared_error", "absolute_error"))
    ]
    return Trees.of_boosting(*models)


def fit_line(roof_ms: NDArray[Any], ms: NDArray[Any]) -> tuple[float, float]:
    """(a, c) >= 0 with the least mean relative error of a + c × roofline, by reweighted least squares."""
    from scipy.optimize import nnls

    design = np.column_stack([np.ones(len(ms)), roof_ms]) / ms[:, None]
    weights = np.ones(len(ms))
    for _ in range(20):
        found, _ = nnls(design * weights[:, None], weights)
        weights = 1 / np.sqrt(np.maximum(np.abs(design @ found - 1), 1e-3))
    a, c = found.tolist()
    return max(a, 1e-9), c


@final
@dataclass(frozen=True)
class OpTimes:
    """Predictions of n operations.

    Args:
        ms: shape (n,).
        factor: by which each may be off either way at the level asked for, >= 1.
        backed: share of each that comes from timings of its kind; 0 where only the roofline speaks.
    """

    ms: NDArray[Any]
    factor: NDArray[Any]
    backed: NDArray[Any]


@final
@dataclass(frozen=True)
class OpModels:
    """All models of a device.

    Args:
        device, dtype, backend: of the table that they were fitted to.
        rates: the machine's peaks.
        models: by (family, name).
        notes: JSON values: provenance, held-out errors by kind; ``power_w`` where power was measured.
    """

    device: str
    dtype: str
    backend: str
    rates: Rates
    models: Mapping[tuple[str, str], OpModel]
    notes: Mapping[str, Any] = field(default_factory=dict)

    def model_for(self, op: Op) -> OpModel | None:
        """The model of an operation's kind, or of one that runs alike."""
        found = self.models.get((op.family, op.name))
        if found is not None or op.family not in ALIKE:
            return found
        for (family, _), model in self.models.items():
            if family != op.family:
                continue
            if family != "pointwise" or np.isclose(model.hull.low[1], np.log1p(op.attributes["inputs"])):
                return model
        return None

    def predict(self, ops: Sequence[Op], level: float = 0.9) -> OpTimes:
        """Times of any operations; one without a model is a + c × roofline, pooled over all models.

        Args:
            ops: of this dtype.
            level: probability of the interval.
        """
        groups: dict[int, tuple[OpModel | None, list[int]]] = {}
        for i, op in enumerate(ops):
            model = self.model_for(op)
            key = hash((id(model), op.family))
            groups.setdefault(key, (model, []))[1].append(i)
        ms, factor, backed = np.zeros(len(ops)), np.ones(len(ops)), np.zeros(len(ops))
        for model, rows in groups.values():
            some = [ops[i] for i in rows]
            if model is None:
                a, c = self._pooled_line()
                ms[rows], factor[rows] = a + c * roofline_ms(some, self.rates), UNKNOWN_FACTOR
                continue
            ms[rows], backed[rows] = model.predict(some, self.rates)
            inside = min(model.conformal.quantile(level), np.log(UNKNOWN_FACTOR))
            factor[rows] = np.exp(inside * backed[rows] + np.log(UNKNOWN_FACTOR) * (1 - backed[rows]))
        return OpTimes(ms, factor, backed)

    def _pooled_line(self) -> tuple[float, float]:
        if not self.models:  # nothing was timed: the roofline itself
            return 0.0, 1.0
        lines = np.array([model.line for model in self.models.values()])
        a, c = np.median(lines, axis=0).tolist()
        return a, c

    def save(self, path: Path) -> None:
        """Write ``path`` (.npz, arrays only) and a JSON header of the same name."""
        arrays: dict[str, NDArray[Any]] = {}
        for (family, name), m in self.models.items():
            tag = f"{family}/{name}"
            for key, array in m.trees.arrays().items():
                arrays[f"{tag}/{key}"] = array
            scores = m.conformal.thinned().scores if len(m.conformal.scores) else m.conformal.scores
            arrays |= {f"{tag}/hull": np.stack([m.hull.low, m.hull.high]), f"{tag}/scores": scores}
            arrays[f"{tag}/line"] = np.array([*m.line, m.drift])
        np.savez_compressed(path, allow_pickle=False, **arrays)
        rates = {name: getattr(self.rates, name) for name in Rates.__slots__}
        named = {"device": self.device, "dtype": self.dtype, "backend": self.backend, "rates": rates}
        kinds = [list(kind) for kind in self.models]
        text = json.dumps({"schema": SCHEMA, **named, "kinds": kinds, "notes": dict(self.notes)}, indent=1)
        path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            BadInput: there is no such file, or it has another schema version.
        """
        if not path.is_file() or not path.with_suffix(".json").is_file():
            raise must("op models", "be an .npz file with its .json header", str(path))
        header = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        if header.get("schema") != SCHEMA:
            raise must(
                f"{path}: schema version", f"be {SCHEMA}", header.get("schema"), "fit the models again"
            )
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        kinds = [(family, name) for family, name in header["kinds"]]
        models = {kind: _model_of(arrays, "/".join(kind)) for kind in kinds}
        named = {name: header[name] for name in ("device", "dtype", "backend", "notes")}
        return cls(**named, rates=Rates(**header["rates"]), models=models)


def fit(table: OpTable, seed: int = 0, held_out: float = 0.2) -> OpModels:
    """Models of all kinds in a table.

    Errors and intervals come from models that did not see a share of the rows; the models that are kept see
    all rows. Rows of equal operations stay on one side.

    Args:
        table: at least 20 different operations of each kind.
        seed: of the split and of the trees.
        held_out: that share, between 0 and 1.

    Raises:
        BadInput: there are too few rows of a kind.
    """
    models, errors = {}, {}
    for kind, rows in table.kinds().items():
        some = table.only(rows)
        if len(set(some.ops)) < 20:
            raise must(f"timings of {'/'.join(kind)}", "be of at least 20 operations", len(set(some.ops)))
        out = held(some.ops, seed, held_out)
        trial, rest = fit_op(some.only(~out), seed), some.only(out)
        predicted = trial.predict(rest.ops, table.rates)[0] + trial.drift * rest.position
        conformal = Conformal.of(rest.median_ms, predicted)
        errors["/".join(kind)] = round(float(np.abs(predicted / rest.median_ms - 1).mean()), 4)
        m = fit_op(some, seed)
        models[kind] = OpModel(m.trees, m.hull, m.line, m.drift, conformal)
    notes = {**table.notes, "rows": len(table.ops), "held_out_mape": errors}
    return OpModels(table.device, table.dtype, table.backend, table.rates, models, notes)


def held(ops: Sequence[Op], seed: int, share: float) -> NDArray[Any]:
    """A mask of shape (n,): a share of the different operations, all rows of each."""
    different = sorted(set(ops), key=lambda op: (op.family, op.name, op.shape))
    drawn = np.random.default_rng(seed).random(len(different)) < share
    out = {op for op, chosen in zip(different, drawn.tolist(), strict=True) if chosen}
    return np.array([op in out for op in ops])


def _model_of(arrays: Mapping[str, NDArray[Any]], tag: str) -> OpModel:
    own = {key.removeprefix(f"{tag}/"): a for key, a in arrays.items() if key.startswith(f"{tag}/")}
    a, c, drift = own["line"].tolist()
    hull = Hull(own["hull"][0], own["hull"][1])
    return OpModel(Trees.of_arrays(own), hull, (a, c), drift, Conformal(own["scores"]))
