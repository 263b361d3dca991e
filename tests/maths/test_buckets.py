"""The shapes to which passes are padded."""

import numpy as np
import pytest

from outrider.maths.buckets import Buckets

BUCKETS = Buckets((1, 2, 4), (1, 2, 5, 8))


@pytest.mark.parametrize(
    ("rows", "width", "bucket"),
    [(1, 1, (1, 1)), (1, 3, (1, 5)), (3, 5, (4, 5)), (4, 8, (4, 8)), (5, 1, None), (1, 9, None)],
)
def test_a_pass_goes_into_the_smallest_bucket_that_holds_it(rows, width, bucket):
    assert BUCKETS.of(rows, width) == bucket


def test_what_is_computed_is_the_bucket_and_beyond_it_the_pass_itself():
    counts = np.arange(1, 12)
    assert BUCKETS.padded(1, counts).tolist() == [1, 2, 5, 5, 5, 8, 8, 8, 9, 10, 11]
    assert BUCKETS.padded(3, np.array([3, 4, 6, 7, 24, 25])).tolist() == [4, 8, 8, 20, 32, 25]
    assert BUCKETS.padded(5, np.array([5, 9])).tolist() == [5, 9]
    assert (BUCKETS.padded_rows(3), BUCKETS.padded_rows(9)) == (4, 9)
