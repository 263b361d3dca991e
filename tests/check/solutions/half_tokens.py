"""It is multiplied, and no longer whole."""


class AdaptiveSpeculator:
    def __init__(self, initial_lookahead=4):
        self.lookahead = initial_lookahead
        self.average = 0.6

    def update_lookahead(self, acceptance_rate):
        self.average = 0.7 * self.average + 0.3 * acceptance_rate
        if self.average > 0.75:
            self.lookahead = min(self.lookahead * 1.25, 8)
        elif self.average < 0.4:
            self.lookahead = max(self.lookahead * 0.8, 1)
