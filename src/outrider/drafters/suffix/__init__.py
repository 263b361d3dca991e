"""Drafts copied from what the text, or a predicted text, said before."""
