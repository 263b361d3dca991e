"""Verdicts made on the device: from logits and drafts to accepted tokens, in operations that a graph can hold."""
