"""Drafters: they propose tokens that the target will verify. One file per drafter."""
