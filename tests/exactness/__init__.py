"""Exactness: what the decoder emits has the target's distribution, whatever drafts, verifies and plans."""
