"""What a round costs over several nodes, on paper: `python -m benchmarks.nodes` prints the table of docs/scaling.md.

Nothing is measured here. A pass of n tokens over N nodes takes

    compute     max(weights / N / memory, 2 * parameters * n / N / arithmetic)
    reductions  2 * layers * (2 * (N - 1) * latency + 2 * (N - 1) / N * n * width * bytes / network)
    logits      (N - 1) * latency + (N - 1) / N * n * vocabulary * bytes / network
    broadcast   2 * ceil(log2 N) * latency

Tensor parallelism adds up twice a layer, in a ring; rank 0 broadcasts each pass (its size, then itself) and gathers the
logits. Reading keys and values is left out, and nothing overlaps. A round is a pass of rows * (1 + drafted) tokens and
rank 0's own work. Each further draft token is accepted with the same chance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, log2


@dataclass(frozen=True, slots=True)
class Target:
    parameters: float
    layers: int
    width: int
    vocabulary: int
    bytes: int  # of a weight, and of an activation


@dataclass(frozen=True, slots=True)
class Node:
    memory: float  # bytes a second
    arithmetic: float  # operations a second that products reach


@dataclass(frozen=True, slots=True)
class Network:
    name: str
    latency: float  # seconds
    speed: float  # bytes a second and node


TARGET = Target(parameters=70e9, layers=80, width=8192, vocabulary=128_256, bytes=2)
NODE = Node(memory=3e12, arithmetic=400e12)
NETWORKS = (
    Network("inside a machine: 3 µs, 400 GB/s", 3e-6, 400e9),
    Network("InfiniBand: 10 µs, 25 GB/s", 10e-6, 25e9),
    Network("Ethernet: 50 µs, 1.25 GB/s", 50e-6, 1.25e9),
)
NODES = (2, 4, 8)
ROWS = (1, 16, 128)
OWN = 0.3e-3  # seconds of rank 0 in a round: drafting, policy, judgement
CHANCE = 0.6  # that a further draft token is accepted
LONGEST = 16


def pass_seconds(target: Target, node: Node, network: Network, nodes: int, tokens: int) -> float:
    """One forward pass of so many tokens, all rows together."""
    arithmetic = 2 * target.parameters * tokens / nodes / node.arithmetic
    compute = max(target.parameters * target.bytes / nodes / node.memory, arithmetic)
    share = (nodes - 1) / nodes
    activations = tokens * target.width * target.bytes
    reduction = 2 * (nodes - 1) * network.latency + 2 * share * activations / network.speed
    logits = (nodes - 1) * network.latency + share * tokens * target.vocabulary * target.bytes / network.speed
    broadcast = 2 * ceil(log2(nodes)) * network.latency
    return compute + 2 * target.layers * reduction + logits + broadcast


def round_seconds(network: Network, nodes: int, rows: int, drafted: int) -> float:
    return OWN + pass_seconds(TARGET, NODE, network, nodes, rows * (1 + drafted))


def tokens_per_round(drafted: int, chance: float = CHANCE) -> float:
    """What a row emits on average, the correction or bonus included."""
    return sum(chance**place for place in range(drafted + 1))


def best_draft(network: Network, nodes: int, rows: int) -> int:
    """The length with the most tokens a second, 0 included."""
    return max(
        range(LONGEST + 1), key=lambda drafted: tokens_per_round(drafted) / round_seconds(network, nodes, rows, drafted)
    )


def table() -> Iterator[str]:
    """The lines of the table in docs/scaling.md."""
    yield "| network | nodes | " + " | ".join(f"{rows} row{'s' * (rows > 1)}" for rows in ROWS) + " |"
    yield "|---|---|" + "---|" * len(ROWS)
    for network in NETWORKS:
        for nodes in NODES:
            yield f"| {network.name} | {nodes} | " + " | ".join(_cell(network, nodes, rows) for rows in ROWS) + " |"


def _cell(network: Network, nodes: int, rows: int) -> str:
    drafted = best_draft(network, nodes, rows)
    plain, speculative = (round_seconds(network, nodes, rows, count) for count in (0, drafted))
    gain = tokens_per_round(drafted) * plain / speculative
    return f"{1e3 * plain:.1f} → {1e3 * speculative:.1f} ms, {drafted} drafted, **{gain:.2f}**"


if __name__ == "__main__":
    print("\n".join(table()))
