"""What a settled round takes on a device, counted by one that stands for a GPU: at most 30 launches and 2 reads.

The whole table is a matter of minutes (make test-launches); a few corners of it are tried with the other tests.
"""

from dataclasses import replace
from itertools import product

import pytest
from test_graphed_heads import on_gpu, parts_of
from test_graphs import even_clock

from tiny.runtimes import tiny

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("safetensors.torch")

from outrider import (  # noqa: E402
    Draft,
    Drafter,
    DynamicTree,
    Engine,
    Fixed,
    JointDrafter,
    LookupDrafter,
    ModelDrafter,
    ModelTreeDrafter,
    Request,
    SamplingParams,
    SuffixSource,
)
from outrider.drafters.heads.drafter import HeadDrafter  # noqa: E402
from outrider.drafters.heads.opening import TorchHead  # noqa: E402
from outrider.runtimes.torch.cuda.model import GraphedLlama  # noqa: E402
from tiny.standing import Stand, StandingDevice  # noqa: E402

MOST_LAUNCHES, MOST_READS = 30, 2
BEGINNING = 2  # rounds that read the prompts and make static buffers; then so many are counted
COUNTED = 4
NODES = {"chain of 4": 4, "tree of 16": 16, "tree of 64": 64}
SHAPES = {"tree of 16": DynamicTree(4, 6, 4), "tree of 64": DynamicTree(8, 6, 16)}
ROWS = (1, 8, 32)
SAMPLINGS = {"greedy": SamplingParams(temperature=0), "sampled": SamplingParams(temperature=0.8)}
RULES = {"greedy": "token", "token": "token", "block": "block", "coupled": "coupled"}
ALL = [
    each
    for each in product(("model", "head", "lookup"), NODES, RULES, ROWS)
    if each[2] != "block" or each[1] == "chain of 4"  # which judges chains alone
] + [("joint", shape, "greedy", rows) for shape, rows in product(SHAPES, ROWS)]
CORNERS = [
    ("model", "tree of 16", "token", 1),
    ("model", "chain of 4", "block", 32),
    ("head", "tree of 64", "greedy", 8),
    ("head", "tree of 16", "token", 1),
    ("joint", "tree of 16", "greedy", 8),
    ("lookup", "tree of 64", "coupled", 1),
]


class Looked(Drafter):
    """Trees of one size, of tokens that some table on the host names."""

    def __init__(self, nodes: int, chain: bool) -> None:
        self.trees = not chain
        self._draft = Draft(
            tuple(range(1, nodes + 1)) if chain else tuple(node % 40 + 1 for node in range(nodes)),
            None if chain else tuple((node - 1) // 2 for node in range(nodes)),
            source="table",
        )

    def propose(self, sequences, budgets):
        return [self._draft for _ in sequences]


def drafter_of(kind, shape, target, device, folder):
    if kind == "lookup":
        return Looked(NODES[shape], shape not in SHAPES)
    if kind == "model":
        draft = GraphedLlama.of(tiny("Llama"), device=device)
        return ModelTreeDrafter(draft, SHAPES[shape]) if shape in SHAPES else ModelDrafter(draft)
    settings = {"target_size": 32, "size": 32, "vocab_size": 48, "drafted": range(0, 48, 2)}
    head, ids = parts_of(folder, **settings)
    network = TorchHead(on_gpu(head), target.embedding(), ids, device)
    drafter = HeadDrafter(network, trees=shape in SHAPES, shape=SHAPES.get(shape))
    return JointDrafter(LookupDrafter([SuffixSource()]), drafter, clock=even_clock()) if kind == "joint" else drafter


@pytest.fixture(autouse=True)
def captured_at_once(monkeypatch):
    """Shapes are captured when they first come up: how many tokens the rows of a round keep, and so the shape of what
    follows, differs from round to round, and some shapes are rare."""
    monkeypatch.setattr("outrider.runtimes.torch.cuda.graphs.CAPTURED_AT", 1)


def counts_of(kind, shape, way, rows, folder):
    """The most that a settled round takes, of each kind."""
    with Stand() as stand:
        device = StandingDevice(stand)
        target = GraphedLlama.of(
            tiny("Llama", num_hidden_layers=2 if kind in ("model", "lookup") else 4), device=device
        )
        drafter = drafter_of(kind, shape, target, device, folder)
        engine = Engine(
            target, drafter, lookahead=Fixed(NODES[shape]), rule=RULES[way], max_rows=rows, capacity=240,
            prefix_caching=False, clock=even_clock(),
        )  # fmt: skip
        sampling = SAMPLINGS["greedy" if way == "greedy" else "sampled"]
        handles = [
            engine.submit(Request((3, 5, 7 + row % 30), 200, replace(sampling, seed=row), stop_token_ids=frozenset()))
            for row in range(rows)
        ]
        found = []
        for _ in range(BEGINNING + COUNTED):
            before = stand.counts()
            engine.step()
            found.append({name: now - before[name] for name, now in stand.counts().items()})
        assert [handle.error for handle in handles] == [None] * rows
        assert all(len(handle.tokens) > COUNTED for handle in handles)
    return {name: max(each[name] for each in found[BEGINNING:]) for name in found[0]}


@pytest.mark.parametrize(("kind", "shape", "way", "rows"), CORNERS)
def test_a_round_launches_thirty_times_and_reads_twice_at_most(kind, shape, way, rows, tmp_path):
    used = counts_of(kind, shape, way, rows, tmp_path / "head")
    assert used["launches"] <= MOST_LAUNCHES
    assert used["reads"] <= (1 if kind == "lookup" else MOST_READS)


@pytest.mark.launches
@pytest.mark.parametrize(("kind", "shape", "way", "rows"), ALL)
def test_so_does_every_other_round(kind, shape, way, rows, tmp_path):
    used = counts_of(kind, shape, way, rows, tmp_path / "head")
    print(kind, shape, way, rows, used)
    assert used["launches"] <= MOST_LAUNCHES
    assert used["reads"] <= (1 if kind == "lookup" else MOST_READS)
