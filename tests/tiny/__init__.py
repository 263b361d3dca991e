"""Tiny models, files and tokenizers that the tests share."""
