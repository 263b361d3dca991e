"""Goodput: the lookahead with the highest expected tokens per second."""
