"""Drafts copied from earlier in the text, or from a predicted text."""
