"""Outrider as the decoding loop of transformers' `generate`."""

from outrider.hosts.transformers.loop import generate

__all__ = ["generate"]
