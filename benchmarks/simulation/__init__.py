"""Lookahead policies in simulated rounds: acceptance and costs are known there, and so is the best that could be done.

No model runs. Whether a draft token is accepted is drawn from chances that belong to the place in the text, and each
round takes the seconds that a known curve says. A policy sees what the engine would show it, times with noise included;
the oracle sees the truth.
"""
