"""Lookahead policies in simulated rounds, where acceptance and costs are known, and so is the best possible policy.

No model runs. Each position of a text has a probability with which a draft token is accepted there, and each round
takes the seconds of a known cost curve. A policy sees what the engine would show it, times with noise included; the
oracle sees the truth.
"""
