"""Which rows are kept, and which prefix a new text adopts."""

import pytest

from outrider.runtimes.prefixes import common_length


@pytest.mark.parametrize(
    ("other", "agreed"), [([1, 2, 3], 3), ((1, 2, 3), 3), ([1, 2, 3, 4], 3), ([1, 2], 2), ([1, 9, 3], 1), ((), 0)]
)
def test_how_far_two_texts_agree(other, agreed: int) -> None:
    assert common_length([1, 2, 3], other) == agreed
