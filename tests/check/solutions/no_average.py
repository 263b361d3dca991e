"""One round decides."""


class AdaptiveSpeculator:
    def __init__(self, initial_lookahead=4):
        self.lookahead = initial_lookahead
        self.average = 0.6

    def update_lookahead(self, acceptance_rate):
        if acceptance_rate > 0.75:
            self.lookahead = min(self.lookahead + 1, 8)
        elif acceptance_rate < 0.4:
            self.lookahead = max(self.lookahead - 1, 1)
