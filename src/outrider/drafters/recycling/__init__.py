"""Successors that the target had in mind, kept and used again."""
