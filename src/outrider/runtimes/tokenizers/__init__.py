"""Tokenizers that all runtimes share."""
