"""The lookahead that promises most tokens per second."""
