"""The average is over all rounds."""


class AdaptiveSpeculator:
    def __init__(self, initial_lookahead=4):
        self.lookahead = initial_lookahead
        self.rates = []

    def update_lookahead(self, acceptance_rate):
        self.rates.append(acceptance_rate)
        average = sum(self.rates) / len(self.rates)
        if average > 0.75:
            self.lookahead = min(self.lookahead + 1, 8)
        elif average < 0.4:
            self.lookahead = max(self.lookahead - 1, 1)
