"""What rounds over several nodes cost on paper, and that the document has what the formulas say."""

from pathlib import Path

import pytest

from benchmarks import nodes
from benchmarks.nodes import NETWORKS, NODE, TARGET, best_draft, pass_seconds, round_seconds, tokens_per_round

DOCUMENT = Path(__file__).parents[2] / "docs" / "scaling.md"
QUICK, MIDDLE, SLOW = NETWORKS


def test_the_document_has_the_table_that_the_formulas_give():
    assert "\n".join(nodes.table()) in DOCUMENT.read_text(encoding="utf-8")


def test_one_node_pays_for_no_network():
    one = [pass_seconds(TARGET, NODE, network, 1, 1) for network in NETWORKS]
    assert one == [TARGET.parameters * TARGET.bytes / NODE.memory] * 3  # a single token: reading the weights


def test_a_pass_of_one_token_over_two_nodes_is_the_sum_of_its_parts():
    weights = 70e9 * 2 / 2 / 3e12
    reductions = 2 * 80 * (2 * 10e-6 + 8192 * 2 / 25e9)
    logits = 10e-6 + 128_256 * 2 / 2 / 25e9
    broadcast = 2 * 10e-6
    assert pass_seconds(TARGET, NODE, MIDDLE, 2, 1) == pytest.approx(weights + reductions + logits + broadcast)


def test_many_tokens_are_bound_by_arithmetic():
    tokens = 10_000
    assert pass_seconds(TARGET, NODE, QUICK, 1, tokens) == pytest.approx(2 * 70e9 * tokens / 400e12)


def test_tokens_per_round_are_those_of_independent_acceptance():
    assert [tokens_per_round(drafted, 0.5) for drafted in range(4)] == [1, 1.5, 1.75, 1.875]


def test_slower_networks_and_more_rows_want_shorter_drafts():
    assert best_draft(QUICK, 2, 1) > best_draft(MIDDLE, 2, 1) > best_draft(SLOW, 2, 1) > 0
    assert best_draft(MIDDLE, 2, 1) > best_draft(MIDDLE, 2, 16) > best_draft(MIDDLE, 2, 128) == 0


def test_no_other_length_brings_more():
    best = best_draft(SLOW, 8, 1)
    speeds = [tokens_per_round(drafted) / round_seconds(SLOW, 8, 1, drafted) for drafted in range(17)]
    assert speeds[best] == max(speeds)
