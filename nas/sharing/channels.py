"""Which layers of a module write and read the same channels, found in its traced graph.

Source: Fang et al. 2023 (DepGraph), sec. 3, layers that must be pruned together; here only what lies between
maps, and nothing along residual connections.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, final

import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp, TensorMetadata
from torch.nn import functional as F  # noqa: N812 - the field's name

if TYPE_CHECKING:
    from collections.abc import Iterable

CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
POINTWISE = (
    *(nn.ReLU, nn.ReLU6, nn.GELU, nn.SiLU, nn.ELU, nn.SELU, nn.CELU, nn.LeakyReLU, nn.Mish, nn.Softplus),
    *(nn.Sigmoid, nn.Tanh, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Softsign, nn.LogSigmoid),
    *(nn.Identity, nn.Dropout),
)
PLANAR = (
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
    *(nn.Upsample, nn.ZeroPad2d, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d),
)
POINTWISE_CALLS = frozenset(
    (
        *("relu", "relu_", "relu6", "gelu", "silu", "elu", "selu", "celu", "leaky_relu", "mish", "softplus"),
        *("sigmoid", "sigmoid_", "tanh", "hardswish", "hardsigmoid", "hardtanh", "dropout", "contiguous"),
        *("clone", "detach", "float", "to", "clamp", "square", "sqrt", "exp", "abs", "neg"),
    )
)
PLANAR_FUNCTIONS = frozenset(
    (
        *(F.max_pool1d, F.max_pool2d, F.max_pool3d, F.avg_pool1d, F.avg_pool2d, F.avg_pool3d),
        *(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d),
        *(F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d),
        *(F.interpolate, F.dropout2d),
    )
)
SUMS = frozenset({"add", "add_", "iadd", "sub", "sub_", "isub"})
PRODUCTS = frozenset({"mul", "mul_", "imul", "truediv", "div", "div_", "itruediv"})
RESHAPES = frozenset({"flatten", "view", "reshape"})
HARMLESS = frozenset({"size", "getattr", "dim", "getitem"})
RESIDUAL = "its channels run along a residual connection"


class Reader(NamedTuple):
    """A layer that reads channels, each as so many neighbouring input features."""

    name: str
    block: int


@final
@dataclass
class Channels:
    """Channels that must be kept or left out together.

    Attributes:
        units: how many there are.
        writers, readers, followers: names of the layers that make them, end them, and treat each alone.
        reason: why they cannot be left out; empty where they can.
    """

    units: int
    writers: list[str] = field(default_factory=list)
    readers: list[Reader] = field(default_factory=list)
    followers: list[str] = field(default_factory=list)
    reason: str = ""

    def within(self, prefix: str) -> Channels:
        """The same, named as parts of a larger module."""
        readers = [r._replace(name=prefix + r.name) for r in self.readers]
        writers, followers = ([prefix + name for name in names] for names in (self.writers, self.followers))
        return Channels(self.units, writers, readers, followers, self.reason)

    def join(self, other: Channels) -> None:
        """Take over what belongs to another set of as many channels."""
        self.writers += other.writers
        self.readers += other.readers
        self.followers += other.followers
        self.reason = self.reason or other.reason


class Stream(NamedTuple):
    """A value's channels, the axis that counts them, and how many neighbours there make up one."""

    channels: int
    axis: int
    block: int = 1


class Tracer(fx.Tracer):
    """Does not look into torch's own modules nor into those of the given names."""

    def __init__(self, whole: Iterable[str]) -> None:
        super().__init__()
        self._whole = frozenset(whole)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether it stays one operation."""
        return module_qualified_name in self._whole or super().is_leaf_module(m, module_qualified_name)


def traced(module: nn.Module, whole: Iterable[str] = ()) -> fx.GraphModule:
    """The module's graph, submodules of the given names as single operations.

    Raises:
        Exception: what the module's own code does with symbolic values.
    """
    return fx.GraphModule(module, Tracer(whole).trace(module))


def channels_of(graph: fx.GraphModule, inputs: tuple[Any, ...]) -> list[Channels]:
    """All channels that layers of a traced module write.

    Args:
        graph: from `traced`; in evaluation mode.
        inputs: of one call.
    """
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        ShapeProp(graph).propagate(*inputs)
    walk = _Walk(graph)
    for node in graph.graph.nodes:
        walk.visit(node)
    return [c for i, c in enumerate(walk.sets) if walk.find(i) == i and c.writers]


@final
class _Walk:
    """Follows channels through a graph; sets of channels are joined as they turn out to be the same."""

    def __init__(self, graph: fx.GraphModule) -> None:
        self._modules = dict(graph.named_modules())
        self._streams: dict[fx.Node, Stream] = {}
        self.sets: list[Channels] = []
        self._parents: list[int] = []

    def find(self, i: int) -> int:
        while self._parents[i] != i:
            i = self._parents[i]
        return i

    def visit(self, node: fx.Node) -> None:
        """Find out where the channels of a node's value come from."""
        if node.op == "call_module":
            self._module(node, str(node.target), self._modules[str(node.target)])
        elif node.op in ("call_function", "call_method"):
            self._call(node, _name(node))
        elif node.op == "output":
            self._stop(node, "its channels are the output")

    # --- modules ----------------------------------------------------------------------------------

    def _module(self, node: fx.Node, name: str, module: nn.Module) -> None:
        stream = self._streams.get(node.all_input_nodes[0]) if len(node.all_input_nodes) == 1 else None
        kind = type(module)
        if kind is nn.Linear or (kind in CONVS and module.groups == 1):
            self._map(node, name, module, stream)
        elif stream is None:
            self._stop(node, f"{name} ({kind.__name__}) reads them")
        elif kind in POINTWISE or (kind in PLANAR and stream.axis == 1):
            self._streams[node] = stream
        elif kind is nn.Flatten:
            self._reshape(node, stream)
        elif self._per_channel(module) and stream.axis == 1 and stream.block == 1:
            self._of(stream).followers.append(name)
            self._streams[node] = stream
        else:
            self._stop(node, f"{name} ({kind.__name__}) mixes them")

    def _map(self, node: fx.Node, name: str, module: Any, stream: Stream | None) -> None:
        """A layer that ends the channels it reads and writes new ones."""
        linear = type(module) is nn.Linear
        if stream is not None:
            last = len(_shape(node)) - 1
            if stream.axis == (last if linear else 1) and (linear or stream.block == 1):
                self._of(stream).readers.append(Reader(name, stream.block))
            else:
                self._stop(node, f"{name} ({type(module).__name__}) reads another axis")
        units = module.out_features if linear else module.out_channels
        self._parents.append(len(self.sets))
        self.sets.append(Channels(units, writers=[name]))
        self._streams[node] = Stream(len(self.sets) - 1, len(_shape(node)) - 1 if linear else 1)

    @staticmethod
    def _per_channel(module: Any) -> bool:
        if type(module) in CONVS:
            return bool(module.groups == module.in_channels == module.out_channels)
        return type(module) in NORMS

    # --- functions and methods --------------------------------------------------------------------

    def _call(self, node: fx.Node, name: str) -> None:
        streams = [self._streams[n] for n in node.all_input_nodes if n in self._streams]
        if not streams or name in HARMLESS:
            return
        if name in SUMS and len(node.all_input_nodes) > 1:
            self._stop(node, RESIDUAL)
        elif name in PRODUCTS | SUMS:
            self._product(node, streams)
        elif name in POINTWISE_CALLS or (node.target in PLANAR_FUNCTIONS and streams[0].axis == 1):
            self._streams[node] = streams[0]
        elif name in RESHAPES:
            self._reshape(node, streams[0])
        elif name == "mean":
            self._mean(node, streams[0])
        else:
            self._stop(node, f"{name}() reads them")

    def _product(self, node: fx.Node, streams: list[Stream]) -> None:
        """Channel by channel; what is multiplied is kept or left out together."""
        first, *others = streams
        same = all(
            (s.axis, s.block, self._of(s).units) == (first.axis, first.block, self._of(first).units)
            for s in others
        )
        shapes = {len(_shape(n)) for n in node.all_input_nodes}
        if len(streams) != len(node.all_input_nodes) or not same or len(shapes) > 1:
            self._stop(node, "they are multiplied by something else")
            return
        for other in others:
            a, b = self.find(first.channels), self.find(other.channels)
            if a != b:
                self.sets[a].join(self.sets[b])
                self._parents[b] = a
        self._streams[node] = first

    def _reshape(self, node: fx.Node, stream: Stream) -> None:
        """Axes behind the channels are flattened into them: each becomes a block of neighbours."""
        before, after = _shape(_read(node)), _shape(node)
        head = before[: stream.axis]
        if after == before:
            self._streams[node] = stream
        elif after == (*head, math.prod(before[stream.axis :])):
            self._streams[node] = stream._replace(block=stream.block * math.prod(before[stream.axis + 1 :]))
        else:
            self._stop(node, "they are reshaped")

    def _mean(self, node: fx.Node, stream: Stream) -> None:
        """Other axes are averaged; those before the channels must stay."""
        before, after = _shape(_read(node)), _shape(node)
        kept = after[: stream.axis + 1] == before[: stream.axis + 1]
        if kept and math.prod(after[stream.axis + 1 :]) == 1:
            self._streams[node] = stream
        else:
            self._stop(node, "they are averaged")

    # --- sets -------------------------------------------------------------------------------------

    def _of(self, stream: Stream) -> Channels:
        return self.sets[self.find(stream.channels)]

    def _stop(self, node: fx.Node, reason: str) -> None:
        """Keep the channels that a node reads as they are."""
        for read in node.all_input_nodes:
            if read in self._streams:
                channels = self._of(self._streams[read])
                channels.reason = channels.reason or reason


def _name(node: fx.Node) -> str:
    return (
        str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", str(node.target))
    )


def _read(node: fx.Node) -> fx.Node:
    return node.all_input_nodes[0]


def _shape(node: fx.Node) -> tuple[int, ...]:
    meta = node.meta.get("tensor_meta")
    return tuple(meta.shape) if isinstance(meta, TensorMetadata) else ()


def is_residual(graph: fx.GraphModule) -> bool:
    """Whether a block adds to its input: the output is reached from it by sums, norms and activations."""
    modules = dict(graph.named_modules())
    (output,) = (n for n in graph.graph.nodes if n.op == "output")
    places = [n for n in graph.graph.nodes if n.op == "placeholder"]
    (result,) = output.args
    if not isinstance(result, fx.Node) or not places:
        return False
    return _reaches(result, places[0], modules, added=False)


def _reaches(node: fx.Node, start: fx.Node, modules: dict[str, nn.Module], *, added: bool) -> bool:
    if node is start:
        return added
    if node.op == "call_module":
        through = isinstance(modules[str(node.target)], (*POINTWISE, *NORMS, nn.LayerNorm, nn.RMSNorm))
        return through and any(_reaches(n, start, modules, added=added) for n in node.all_input_nodes)
    name = _name(node)
    if name in ("add", "add_", "iadd"):
        return any(_reaches(n, start, modules, added=True) for n in node.all_input_nodes)
    if name in POINTWISE_CALLS and node.op != "get_attr":
        return any(_reaches(n, start, modules, added=added) for n in node.all_input_nodes)
    return False
