"""Does a training step of a path cost what the same network costs on its own?

    python benchmarks/supernet_speed.py

For the largest, a middle and the smallest path of each supernet: forward, backward and SGD step with momentum
on one batch, by the supernet and by the network that ``space.build`` gives, in turn. ``time_ratio`` is the
median of the ratios of neighbouring steps, with quartiles; ``memory_ratio`` compares what is kept for the
backward pass: bytes of distinct storages other than parameters, buffers and the input, or on a GPU the peak
above what was allocated before the step. On the processor it is the processor's time, of one thread, with
batches of 128; where there is a GPU, by the wall's clock, also there, with batches of 1,024. About 8 minutes
on two cores.
"""

from __future__ import annotations

import time
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

import torch
from record import record
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's name

from nas.spaces.mobile import MobileSpace
from nas.spaces.nasbench201 import NasBench201Space
from nas.spaces.vit import VitSpace

if TYPE_CHECKING:
    from collections.abc import Callable

    from nas.architecture import Architecture
    from nas.space import Space

SHAPE = (1, 28, 28)
REPEATS = 15
BATCH = {"cpu": 128, "cuda": 1024}
SPACES: dict[str, Callable[[], Space]] = {
    "mobile": lambda: MobileSpace(input_shape=SHAPE),
    "vit": lambda: VitSpace(input_shape=SHAPE),
    "nasbench201": lambda: NasBench201Space(nodes=3, input_shape=SHAPE, cells=1, channels=8),
}


def sized(space: Space, share: float) -> Architecture:
    """The architecture that takes of each decision the value at a share of its list: 1 for the last."""
    values = {leaf.name: leaf.values for leaf in space.leaves}
    return space.architecture({name: v[round(share * (len(v) - 1))] for name, v in values.items()})


def cells() -> dict[str, dict[str, str]]:
    """Cells of the largest, of mixed and of the smallest operations."""
    edges = ("edge_0_1", "edge_0_2", "edge_1_2")
    return {
        "largest": dict.fromkeys(edges, "nor_conv_3x3"),
        "middle": dict(zip(edges, ("nor_conv_3x3", "skip_connect", "nor_conv_1x1"), strict=True)),
        "smallest": dict.fromkeys(edges, "skip_connect"),
    }


def paths(name: str, space: Space) -> dict[str, Architecture]:
    """The three paths of a space."""
    if name == "nasbench201":
        return {label: space.architecture(choice) for label, choice in cells().items()}
    return {label: sized(space, s) for label, s in (("largest", 1.0), ("middle", 0.5), ("smallest", 0.0))}


class Step:
    """One training step, again and again on the same batch.

    Args:
        weights: all that the optimiser holds.
        forward: of images.
        device: where.
    """

    def __init__(self, weights: nn.Module, forward: Callable[[Tensor], Tensor], device: str) -> None:
        self.forward, self.device = forward, device
        state = (*weights.parameters(), *weights.buffers())
        self.kept = {t.untyped_storage().data_ptr() for t in state}
        self.optimiser = torch.optim.SGD(weights.parameters(), lr=1e-3, momentum=0.9)
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(BATCH[device], *SHAPE, generator=generator).to(device)
        self.y = torch.randint(0, 10, (BATCH[device],), generator=generator).to(device)

    def __call__(self) -> float:
        """Seconds of one step."""
        began = self._clock()
        self.optimiser.zero_grad()
        F.cross_entropy(self.forward(self.x), self.y).backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return self._clock() - began

    def memory(self) -> int:
        """Bytes of a step beyond weights, gradients, momenta and the batch."""
        return self._peak() if self.device == "cuda" else self._saved()

    def _peak(self) -> int:
        self.optimiser.zero_grad()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        self()
        return torch.cuda.max_memory_allocated() - before

    def _saved(self) -> int:
        storages: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in {*self.kept, self.x.untyped_storage().data_ptr()}:
                storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = F.cross_entropy(self.forward(self.x), self.y)
        del loss
        return sum(storages.values())

    def _clock(self) -> float:
        """Seconds: of this process, or by the wall's clock when all that was sent to a GPU is done."""
        if self.device == "cpu":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()


def compared(space: Space, architecture: Architecture, device: str, repeats: int) -> dict[str, Any]:
    """The path's step against the stand-alone network's."""
    torch.manual_seed(0)
    supernet = space.supernet()
    assert isinstance(supernet, nn.Module)
    supernet.to(device)
    alone = space.build(architecture).to(device)
    shared = Step(supernet, lambda x: supernet.forward(x, architecture), device)
    own = Step(alone, alone, device)
    for step in (shared, own, shared, own):
        step()
    pairs = []
    for i in range(repeats):
        first, second = (shared, own) if i % 2 else (own, shared)
        seconds = {first: first(), second: second()}
        pairs.append((seconds[shared], seconds[own]))
    ratios = [s / o for s, o in pairs]
    low, _, high = quantiles(ratios, n=4)
    return {
        "params": sum(p.numel() for p in alone.parameters()),
        "params_of_supernet": sum(p.numel() for p in supernet.parameters()),
        "alone_ms": 1e3 * median(o for _, o in pairs),
        "time_ratio": median(ratios),
        "time_ratio_quartiles": [low, high],
        "memory_ratio": shared.memory() / own.memory(),
    }


def main() -> None:
    torch.set_num_threads(1)
    figures: dict[str, Any] = {"repeats": REPEATS, "batch": BATCH, "shape": SHAPE}
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        for name, make in SPACES.items():
            space = make()
            for label, architecture in paths(name, space).items():
                row = compared(space, architecture, device, REPEATS)
                figures.setdefault(device, {}).setdefault(name, {})[label] = row
                print(device, name, label, {k: v for k, v in row.items() if "params" not in k}, flush=True)
    print(record("supernet_speed", figures, [0]))


if __name__ == "__main__":
    main()
