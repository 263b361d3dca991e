"""Trees that grow on the device are those that `Growth` grows on the host. The device is the CPU here."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from outrider.drafters.grown import replay  # noqa: E402
from outrider.drafters.growth import Growth  # noqa: E402
from outrider.drafters.lookup.calibration import BUCKETS, Calibration  # noqa: E402
from outrider.maths.budget import Budget, Prices  # noqa: E402
from outrider.maths.draft import CHOSEN, ROOT  # noqa: E402
from outrider.maths.noise import RoundNoise  # noqa: E402
from outrider.maths.sampling import UNCHANGED  # noqa: E402
from outrider.runtimes.growing import Grown, TreePlan, TreeRow  # noqa: E402
from outrider.runtimes.torch.cuda.growing import TreeLayout, Trees  # noqa: E402
from outrider.runtimes.torch.cuda.hashing import keys_of, scrambled, signed  # noqa: E402
from outrider.runtimes.torch.cuda.tree_rollout import fill, tree_layout_of  # noqa: E402

CAPACITY, SCRATCH = 100, 1000


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**40), st.integers(0, 2**20), st.booleans(), st.integers(0, 4))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_keys_that_the_device_makes_are_those_of_the_host(
    seed: int, start: int, position: int, shared: bool, drafters: int
) -> None:
    noise = RoundNoise(seed, start, shared)
    for number in range(drafters):
        noise = noise.of_drafter(number)
    keys = noise.tree(position)
    for depth, branch in ((0, 0), (3, 0), (2, 7)):
        expected = noise.draft(position + depth, branch)
        word = scrambled(torch.tensor([signed(keys.word)]) ^ (keys.position + depth))
        found = keys_of(scrambled(word ^ (signed(keys.last) + branch * keys.branch)))
        assert tuple(found[0].numpy().view(np.uint32).tolist()) == keys.at(depth, branch) == expected


class OnDevice:
    """Trees whose children have shares that a generator makes up, by row and place, as a model would."""

    def __init__(self, plan: TreePlan, rows: int) -> None:
        self.layout: TreeLayout = tree_layout_of(plan, rows)
        area = np.empty(self.layout.size, dtype=np.int64)
        fill(area, self.layout, plan, range(len(plan.rows)), [10 + row for row in range(len(plan.rows))])
        there = torch.from_numpy(area)
        self.trees = Trees(self.layout, self.layout.sections(there), there.device)
        self.sections = self.layout.batch.sections(torch.zeros(self.layout.batch.size, dtype=torch.int64))
        self.passes: list[dict[str, Any]] = []

    def grow(self, plan: TreePlan, random: np.random.Generator) -> Grown:
        trees, layout = self.trees, self.layout
        trees.begin()
        for level in range(plan.depth):
            here = layout.level(level)
            shape = (layout.rows, here.stop - here.start, layout.widths[level])
            shares = np.sort(random.dirichlet(np.full(shape[2] + 1, 0.5), size=shape[:2])[..., :-1], axis=-1)[..., ::-1]
            alone = (random.random((*shape[:2], 1)) < 0.2) & (np.arange(shape[2]) > 0)
            shares = np.where(alone, 0, shares)
            tokens = torch.from_numpy(random.integers(1000, size=shape))
            good = torch.ones(shape[:2], dtype=torch.bool)
            trees.open(level, tokens, torch.from_numpy(np.ascontiguousarray(shares, dtype=np.float32)), good)
            if level + 1 < plan.depth:
                trees.plan(level, self.sections, CAPACITY, SCRATCH)
                names = ("tokens", "positions", "places", "ancestors", "lengths")
                self.passes.append({name: getattr(self.sections, name).clone().numpy() for name in names})
        return Grown(trees.above.numpy(), trees.tokens.numpy(), trees.probabilities.numpy(), None)


def calibrations_of(random: np.random.Generator) -> tuple[list[Calibration], np.ndarray]:
    """For drawn and for chosen children, as the host and as the device has them."""
    found, factors = [Calibration(), Calibration()], np.zeros((2, 2, 2, BUCKETS))
    for kind, calibration in enumerate(found):
        for _ in range(60):
            evidence = (int(random.integers(2)), int(random.integers(2)))
            calibration.learn({1: float(random.random())}, evidence, int(random.integers(3)))
        for ((level, rank), bucket), factor in calibration.factors().items():
            factors[kind, level, rank, bucket] = factor
    return found, factors


TREES = st.tuples(
    st.integers(0, 2**32), st.integers(1, 5), st.integers(1, 5), st.integers(1, 4), st.booleans(), st.booleans()
)


@given(TREES)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_trees_are_those_of_the_host(shape: tuple[int, int, int, int, bool, bool]) -> None:
    """With prices, chances that are corrected, and rows of unlike budgets; and what is fed of them is what stands in
    their text."""
    seed, depth, beam, width, corrected, fixed = shape
    random = np.random.default_rng(seed)
    widths = tuple(int(each) for each in random.integers(1, width + 1, size=depth))
    calibrations, factors = calibrations_of(random)
    rows, references = [], []
    for _ in range(3):
        nodes, levels, chosen = int(random.integers(1, 14)), int(random.integers(1, depth + 1)), random.random() < 0.5
        costs = np.cumsum(random.random(int(random.integers(1, 16))) * 0.1)
        prices = Prices((0.0, *costs.tolist())) if random.random() < 0.5 else Prices()
        least = float(random.choice([0.0, 0.02]))
        references.append(Growth(Budget(nodes, levels, prices), beam=beam, least=least))
        steps = () if chosen else references[-1].steps
        rows.append(TreeRow(UNCHANGED, bool(chosen), RoundNoise(1, 2).tree(3), nodes, levels, least, steps))
    own = (0.6, 0.3, 0.1, 0.05)[: max(widths)] if fixed else None
    plan = TreePlan(rows, widths, beam, own, factors if corrected else None)
    device = OnDevice(plan, 4)
    grown = device.grow(plan, random)
    for number, (reference, row) in enumerate(zip(references, rows, strict=True)):
        asked = [[ROOT]]

        def open_children(
            node: int,
            tokens: list[int],
            possible: list[float],
            place: int,
            reference: Growth = reference,
            row: TreeRow = row,
            asked: list[list[int]] = asked,
        ) -> range:
            level = 0 if place == 0 else 1 + (place - 1) // beam
            if level == len(asked):
                asked.append(reference.next_level())
            assert node == asked[level][(place - 1) % beam if level else 0]
            shares = list((own or possible)[: len(possible)])
            if corrected:
                known = calibrations[int(row.chosen)]
                shares = [known.calibrated(share, (min(level, 1), min(rank, 1))) for rank, share in enumerate(shares)]
            return reference.open_from(node, tokens, shares, CHOSEN if row.chosen else place)

        replay(grown, number, open_children)
        assert [len(nodes) for nodes in asked] == [
            int((grown.above[number, device.layout.level(level)] != -2).sum()) for level in range(len(asked))
        ]
        assert reference.next_level() == [] or len(asked) == plan.depth
        check_passes(device, number, grown)


def check_passes(device: OnDevice, number: int, grown: Grown) -> None:
    """Every node that is fed sees the text and its own ancestors, and lies behind the text."""
    layout, children = device.layout, device.layout.most_children
    seen: dict[int, set[int]] = {0: set()}  # of a place, the places that its node sees
    for level, fed in enumerate(device.passes, start=1):
        for place, candidate in zip(
            range(layout.level(level).start, layout.level(level).stop),
            grown.above[number, layout.level(level)].tolist(),
            strict=True,
        ):
            at = number * layout.beam + place - layout.level(level).start
            words = fed["ancestors"][number, place - layout.level(level).start].view(np.uint64)
            bits = {64 * word + bit for word in range(len(words)) for bit in range(64) if int(words[word]) >> bit & 1}
            if candidate < 0:
                assert fed["places"][at] == SCRATCH
                assert not bits
                continue
            seen[place] = seen[candidate // children] | {place}
            assert bits == {each - 1 for each in seen[place]}
            assert fed["tokens"][at] == grown.tokens[number].ravel()[candidate]
            assert fed["positions"][at] == 10 + number + level - 1
            assert fed["places"][at] == number * CAPACITY + 10 + number + place - 1
