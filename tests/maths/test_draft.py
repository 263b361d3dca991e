"""Drafts: chains and trees, and which ones are refused."""

import numpy as np
import pytest

from outrider import Draft, InputError
from outrider.maths.draft import EMPTY, ROOT

#        root
#       /    \
#      0      1
#     / \      \
#    2   3      4
TREE = Draft((5, 6, 7, 8, 9), parents=(ROOT, ROOT, 0, 0, 1))
CHAIN = Draft((5, 6, 7))


def test_a_chain_needs_no_parents() -> None:
    assert CHAIN.is_chain
    assert [CHAIN.parent(node) for node in range(3)] == [ROOT, 0, 1]
    assert [CHAIN.children(node) for node in range(ROOT, 3)] == [[0], [1], [2], []]
    assert [CHAIN.depth(node) for node in range(3)] == [1, 2, 3]
    assert CHAIN.path(2) == (0, 1, 2)
    assert CHAIN.path(ROOT) == ()


def test_a_chain_may_name_its_parents() -> None:
    named = Draft((5, 6, 7), parents=(ROOT, 0, 1))
    assert named.is_chain
    assert [named.children(node) for node in range(ROOT, 3)] == [[0], [1], [2], []]


def test_a_tree_knows_children_depths_and_paths() -> None:
    assert not TREE.is_chain
    assert [TREE.children(node) for node in range(ROOT, 5)] == [[0, 1], [2, 3], [4], [], [], []]
    assert [TREE.depth(node) for node in range(5)] == [1, 1, 2, 2, 2]
    assert TREE.path(4) == (1, 4)


def test_children_stand_in_the_order_in_which_they_were_drawn() -> None:
    assert Draft((9, 1, 5), parents=(ROOT, ROOT, ROOT)).children(ROOT) == [0, 1, 2]


def test_an_empty_draft_has_no_children() -> None:
    assert len(EMPTY) == 0
    assert EMPTY.is_chain
    assert EMPTY.children(ROOT) == []
    assert Draft((), parents=()).children(ROOT) == []


def test_the_row_of_q_is_the_tokens_own_unless_said_otherwise() -> None:
    q = np.full((2, 4), 0.25, dtype=np.float32)
    assert [Draft((0, 1), q=q).q_row(node) for node in range(2)] == [0, 1]
    assert [Draft((0, 1, 2), q=q, q_rows=(1, -1, 0)).q_row(node) for node in range(3)] == [1, -1, 0]
    assert [CHAIN.q_row(node) for node in range(3)] == [-1, -1, -1]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"parents": (ROOT,)}, "a draft of 2 tokens has 1 parents: give one per token"),
        ({"parents": (ROOT, 1)}, "draft token 1 has parent 1: a parent stands before its child"),
        ({"parents": (0, ROOT)}, "draft token 0 has parent 0: a parent stands before its child"),
        ({"parents": (ROOT, -2)}, "draft token 1 has parent -2: a parent stands before its child"),
        ({"q_rows": (0,)}, "a draft of 2 tokens has 1 q rows: give one per token"),
        ({"q": np.ones((1, 4))}, "a draft of 2 tokens has 1 rows of q: give one per token"),
    ],
)
def test_a_draft_that_does_not_fit_together_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Draft((0, 1), **arguments)
