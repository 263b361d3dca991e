"""Drafts that are looked up, not computed: one tree from every source."""
