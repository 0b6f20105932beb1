"""The least work that writing a node takes, so that a writer knows how to come to an end.

Knuth's generalisation of Dijkstra's algorithm to grammars: each node is settled once, cheapest first.
"""

import heapq
from itertools import count

from understudy.server.generate.grammar.expression import (
    Characters,
    Choice,
    Edge,
    Expression,
    Literal,
    Repeat,
    Rules,
    Sequence,
    children,
)
from understudy.server.generate.work import Work

_UNITS_OF_A_NODE = 2


def least_costs(root: Expression, rules: Rules, work: Work) -> dict[int, int]:
    """Return the costs of all nodes under `root` by their identity; those that never end are missing.

    A node costs one more than what it is made of, and a literal one more than its characters: more than the length of its
    shortest text.
    """
    nodes, parents = _reachable(root, rules, work)
    missing = {key: len(node.parts) for key, node in nodes.items() if isinstance(node, Sequence)}
    sums = dict.fromkeys(missing, 1)
    ties = count()
    queue = [(cost, next(ties), key) for key, node in nodes.items() if (cost := _own_cost(node)) is not None]
    heapq.heapify(queue)
    costs: dict[int, int] = {}
    while queue:
        cost, _, key = heapq.heappop(queue)
        if key in costs:
            continue
        costs[key] = cost
        for parent_key in parents[key]:
            parent = nodes[parent_key]
            if isinstance(parent, Sequence):
                missing[parent_key] -= 1
                sums[parent_key] += cost
                if not missing[parent_key]:
                    heapq.heappush(queue, (sums[parent_key], next(ties), parent_key))
            else:
                times = parent.lowest if isinstance(parent, Repeat) else 1
                heapq.heappush(queue, (1 + times * cost, next(ties), parent_key))
    return costs


def _reachable(
    root: Expression, rules: Rules, work: Work
) -> tuple[dict[int, Expression], dict[int, list[int]]]:
    """Return all nodes by identity, and for each the nodes that it is a part of, once for each time."""
    nodes = {id(root): root}
    parents: dict[int, list[int]] = {id(root): []}
    pending = [root]
    while pending:
        node = pending.pop()
        parts = children(node, rules)
        work.spend(_UNITS_OF_A_NODE * (1 + len(parts)))
        for child in parts:
            if id(child) not in nodes:
                nodes[id(child)] = child
                parents[id(child)] = []
                pending.append(child)
            parents[id(child)].append(id(node))
    return nodes, parents


def _own_cost(node: Expression) -> int | None:
    """Return the cost of a node that needs no other, None for the rest."""
    match node:
        case Literal(text):
            return 1 + len(text)
        case Characters():
            return 2
        case Edge() | Sequence(()) | Repeat(_, 0):
            return 1
        case Choice(()):
            return None
        case _:
            return None
