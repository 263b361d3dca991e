"""Where to stop adding tokens to the drafts of a round."""

from __future__ import annotations

import numpy as np

from outrider.maths.arrays import HostFloats


def best_stop(
    rows: int, gains: HostFloats, drafting: HostFloats, passes: HostFloats, overhead: float
) -> tuple[int, int, float]:
    """The number of tokens with which the round emits most per second.

    Args:
        rows: each emits a token besides the accepted ones.
        gains: [ways, tokens]: the chance that each token is accepted, in the order in which they are added. Ways are
            different orders, or bounds on the depth; they compete.
        drafting, passes: [ways, tokens]: seconds of drafting, and of the target's pass, with all tokens so far.
        overhead: seconds that a round takes besides.

    Returns:
        the way, the index of the last token to add, and the tokens per second.
    """
    rates = (rows + np.cumsum(gains, axis=-1)) / (passes + drafting + overhead)
    best = int(rates.argmax())
    way, last = divmod(best, gains.shape[-1])
    return way, last, float(rates.flat[best])
