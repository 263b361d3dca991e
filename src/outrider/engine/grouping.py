"""Which rows share a forward pass, where a pass pads all rows to the longest."""

from __future__ import annotations

from collections.abc import Sequence

from outrider.lookahead import CostCurve


def group_by_work(counts: Sequence[int], costs: CostCurve) -> list[list[int]]:
    """The cheapest partition of rows into passes, padding included.

    One pass over rows of 1 and of 17 tokens computes 17 for each; two passes read the weights twice. The measured costs
    say which is cheaper. In the best partition each group is a run of the rows sorted by their counts.

    Args:
        counts: new tokens of each row.

    Returns:
        groups of indices into `counts`.
    """
    order = sorted(range(len(counts)), key=lambda row: counts[row])
    if len(order) < 2:
        return [order] if order else []
    widest = counts[order[-1]]
    seconds = [[0.0], *(costs.table(rows, rows * widest).tolist() for rows in range(1, len(order) + 1))]
    cheapest = [0.0]  # cheapest[n]: of the n smallest rows
    first_of_last: list[int] = [0]
    for end in range(1, len(order) + 1):
        width = counts[order[end - 1]]
        total, first = min(
            (cheapest[first] + seconds[end - first][(end - first) * width], first) for first in range(end)
        )
        cheapest.append(total)
        first_of_last.append(first)
    groups = []
    end = len(order)
    while end:
        groups.append(sorted(order[first_of_last[end] : end]))
        end = first_of_last[end]
    return groups[::-1]
