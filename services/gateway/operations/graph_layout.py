"""The places of a graph's nodes in layers from left to right: each node is to the right of all that it follows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

#: Passes from the left and from the right that put nodes beside their neighbours.
PASSES = 4

#: A node, or a bend of an edge that passes a layer: the edge and the layer.
Cell = str | tuple[str, str, int]


@dataclass(frozen=True)
class Layout:
    """The cells of each layer from top to bottom, and the cells that each edge passes, both ends included."""

    layers: Sequence[Sequence[Cell]]
    paths: Mapping[tuple[str, str], Sequence[Cell]]


def layers_of(names: Iterable[str], edges: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Return the layer of each node: the length of the longest path that leads to it.

    Edges that close a circle are left out.
    """
    layers = dict.fromkeys(names, 0)
    remaining = {edge for edge in edges if edge[0] in layers and edge[1] in layers}
    ready = [name for name in layers if not any(end == name for _, end in remaining)]
    while ready:
        name = ready.pop()
        for edge in sorted(each for each in remaining if each[0] == name):
            remaining.remove(edge)
            layers[edge[1]] = max(layers[edge[1]], layers[name] + 1)
            if not any(end == edge[1] for _, end in remaining):
                ready.append(edge[1])
    return layers


def lay_out(names: Sequence[str], edges: Sequence[tuple[str, str]]) -> Layout:
    """Place the nodes. The order of ``names`` decides where the edges do not."""
    layer_of = layers_of(names, edges)
    layers: list[list[Cell]] = [[] for _ in range(max(layer_of.values(), default=-1) + 1)]
    for name in names:
        layers[layer_of[name]].append(name)
    paths: dict[tuple[str, str], Sequence[Cell]] = {}
    for start, end in edges:
        bends: list[Cell] = [(start, end, layer) for layer in range(layer_of[start] + 1, layer_of[end])]
        for bend, layer in zip(bends, range(layer_of[start] + 1, layer_of[end]), strict=True):
            layers[layer].append(bend)
        paths[start, end] = [start, *bends, end]
    _untangle(layers, paths.values())
    return Layout(layers, paths)


def _untangle(layers: list[list[Cell]], paths: Iterable[Sequence[Cell]]) -> None:
    """Order each layer by the mean place of its neighbours, so that few edges cross."""
    before: dict[Cell, list[Cell]] = {}
    after: dict[Cell, list[Cell]] = {}
    for path in paths:
        for left, right in pairwise(path):
            before.setdefault(right, []).append(left)
            after.setdefault(left, []).append(right)
    place = {cell: number for layer in layers for number, cell in enumerate(layer)}
    for turn in range(PASSES):
        neighbours = before if turn % 2 == 0 else after
        for layer in layers if turn % 2 == 0 else layers[::-1]:
            wanted = {
                cell: fmean(place[each] for each in neighbours[cell]) if neighbours.get(cell) else place[cell]
                for cell in layer
            }
            layer.sort(key=lambda cell: wanted[cell])
            place.update({cell: number for number, cell in enumerate(layer)})
