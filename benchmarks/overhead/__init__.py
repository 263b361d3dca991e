"""The engine's own time in a round."""
