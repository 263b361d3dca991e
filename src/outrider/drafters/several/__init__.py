"""Several drafters for one text."""
