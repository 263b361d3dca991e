"""Outrider's drafters inside other engines."""
