"""NAS-Bench-Graph: graph neural networks of four nodes on four data sets."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.errors import must
from nas.tables.draft import Draft
from nas.tables.sources import checksum, found, no_part, read_npz

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

DATA = ("cora", "citeseer", "pubmed", "cs")
CHOICES = 53_056
"""Links and operations whose network the benchmark has; 26,206 of them are truly different."""
FETCH = (
    "nasbench_graph_light.npz, converted from NAS-Bench-Graph (Qin et al. 2022); "
    "its own files are pickles, which are not read"
)


def load(path: Path, part: str | None = None) -> Draft:
    """Read the npz file of the data folder, and give every choice the record of its network.

    Different links and operations can describe one network; the benchmark lists each network once.

    Raises:
        BadInput: the file is missing or damaged, or networks are missing.
    """
    no_part(part, "nasbench_graph")
    file = found(path, ("nasbench_graph/nasbench_graph_light.npz", "nasbench_graph_light.npz"), FETCH)
    arrays = read_npz(file, ("link_id", "ops", "link_table", "op_names", "cora__valid_perf"))
    links = [tuple(map(int, row)) for row in arrays["link_table"]]
    names = [str(name) for name in arrays["op_names"]]
    skip = names.index("skip")
    listed = zip(arrays["link_id"].tolist(), arrays["ops"].tolist(), strict=True)
    known = {network(links[link], ops, skip): row for row, (link, ops) in enumerate(listed)}
    every = product(range(len(links)), *[range(len(names))] * 4)
    rows = [(known.get(network(links[c[0]], c[1:], skip), -1), c) for c in every]
    kept = [(row, choice) for row, choice in rows if row >= 0]
    if set(range(len(arrays["ops"]))) != {row for row, _ in kept}:
        raise must(str(file), "list each network once", f"{len(known):,} networks", f"fetch {FETCH}")
    values = list(zip(*[choice for _, choice in kept], strict=True))
    decisions: dict[str, Any] = {"link": ["".join(map(str, links[i])) for i in values[0]]}
    decisions |= {f"op_{i}": [names[o] for o in values[i + 1]] for i in range(4)}
    draft = Draft(
        "nasbench_graph",
        "Qin et al. 2022 (NAS-Bench-Graph)",
        {file.name: checksum(file)},
        decisions,
        complete=CHOICES,
        notes=[f"{len(known):,} networks, each repeated for all {len(kept):,} choices that describe one"],
    )
    order = np.array([row for row, _ in kept])
    for data in DATA:
        draft.add(f"{data}_valid_accuracy", arrays[f"{data}__valid_perf"][order])
        draft.add(f"{data}_test_accuracy", arrays[f"{data}__perf"][order])
        draft.add(f"{data}_latency_ms", arrays[f"{data}__latency"][order] * 1e3, "ms", "static")
        draft.add(f"{data}_params", np.round(arrays[f"{data}__para"][order] * 1e6), nature="static")
    return draft


def network(links: Sequence[int], ops: Sequence[int], skip: int) -> Any:
    """What a choice describes: nested tuples, equal for equal networks.

    Every node reads one earlier node; nodes that nothing reads are joined to the output. A skip stands for
    the node it reads. A node is (operation, times it is joined to the output, its sorted readers).

    Args:
        links: the node that each of the computing nodes 1, 2, … reads; 0 is the raw input.
        ops: their operations.
        skip: the operation that passes its input on.
    """
    stands = [0]
    joined = [0] * (len(ops) + 1)
    readers: dict[int, list[int]] = {0: []}
    for node, (source, op) in enumerate(zip(links, ops, strict=True), start=1):
        stands.append(stands[source] if op == skip else node)
        if op != skip:
            readers[stands[source]].append(node)
            readers[node] = []
        if node not in links:
            joined[stands[node]] += 1

    def form(node: int) -> Any:
        return (ops[node - 1] if node else -1, joined[node], tuple(sorted(map(form, readers[node]))))

    return form(0)
