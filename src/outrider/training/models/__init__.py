"""Training of small language models, of the target's vocabulary, that draft."""
