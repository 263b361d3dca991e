"""The engine: requests become sequences, and `Engine.step` advances them by one round."""
