"""XGBoost's hyperparameters: 5,000 random configurations on each of six data sets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nas.tables.draft import Draft
from nas.tables.sources import checksum, found, numbers, part_of, read_csv

if TYPE_CHECKING:
    from pathlib import Path

PARTS = ("a6a", "australian", "german.numer", "heart", "ijcnn1", "madelon")
FETCH = "xgboost_6_tasks.csv.gz, converted from the tables of Salinas et al. 2020 (Quantile-based transfer)"

_REALS = (
    "log2_min_child_weight",
    "subsample",
    "colsample_bytree",
    "log2_gamma",
    "log2_lambda",
    "eta",
    "log2_alpha",
)


def load(path: Path, part: str | None = None) -> Draft:
    """Read the configurations of one data set.

    Args:
        path: the data folder, its ``hpo_tabular`` folder, or the csv file.
        part: the data set; ``a6a`` by default. Each has configurations of its own.

    Raises:
        BadInput: the file is missing or damaged.
    """
    part = part_of(part, PARTS)
    file = found(path, ("hpo_tabular/xgboost_6_tasks.csv.gz", "xgboost_6_tasks.csv.gz"), FETCH)
    columns = read_csv(file, ("task", "metric_error", "hp_max_depth_index", *[f"hp_{n}" for n in _REALS]))
    here = [i for i, task in enumerate(columns["task"]) if task == part]

    def column(name: str) -> Any:
        return numbers([columns[name][i] for i in here])

    decisions: dict[str, Any] = {name: column(f"hp_{name}") for name in _REALS}
    decisions["max_depth_index"] = [int(v) for v in column("hp_max_depth_index")]
    paper = "Salinas et al. 2020"
    draft = Draft(f"hpo_xgboost/{part}", paper, {file.name: checksum(file)}, decisions)
    draft.add("auc_error", column("metric_error"))
    return draft
