"""Importers of tables of real trainings, one a benchmark; ``load(path, part)`` gives a `Draft`."""

BUILTIN = {
    "hpo_svm": "nas.tables.hpo_svm:load",
    "hpo_taskset": "nas.tables.hpo_taskset:load",
    "hpo_xgboost": "nas.tables.hpo_xgboost:load",
    "hw_gpt_bench": "nas.tables.hw_gpt_bench:load",
    "nasbench201": "nas.tables.nasbench201:load",
    "nasbench_graph": "nas.tables.nasbench_graph:load",
    "nasbench_macro": "nas.tables.nasbench_macro:load",
    "synthetic": "nas.tables.synthetic:load",
    "transnasbench101": "nas.tables.transnasbench101:load",
}
"""Kinds of ``nas data import``; ``table``, for any csv file, takes lists of columns besides."""
