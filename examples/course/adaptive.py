"""Task 3: how far to draft? A long draft pays where it is accepted, and is wasted where it is not.

python examples/course/adaptive.py
"""

from collections import deque


class AdaptiveSpeculator:
    """A lookahead that follows the average acceptance rate of the last rounds."""

    def __init__(self, initial_lookahead=4, min_lookahead=1, max_lookahead=16, window=8):
        self.lookahead = initial_lookahead
        self.min_lookahead = min_lookahead
        self.max_lookahead = max_lookahead
        self.rates = deque(maxlen=window)  # old rounds fall out: a text may change

    def update_lookahead(self, acceptance_rate):
        """Learn the rate of one round, accepted / drafted. Returns the lookahead of the next."""
        self.rates.append(acceptance_rate)
        average = sum(self.rates) / len(self.rates)
        if average > 0.8:
            self.lookahead = min(self.lookahead + 1, self.max_lookahead)
        elif average < 0.5:
            self.lookahead = max(self.lookahead - 1, self.min_lookahead)  # never 0: no rate would come again
        return self.lookahead


if __name__ == "__main__":
    speculator = AdaptiveSpeculator()
    for what, rate in (("a text that is easy to guess", 1.0), ("a hard one", 0.2), ("something between", 0.65)):
        print(f"{what:30}", [speculator.update_lookahead(rate) for _ in range(12)])
