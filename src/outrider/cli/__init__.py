"""The command line: `outrider generate | check | bench | doctor`."""

from outrider.cli.app import main

__all__ = ["main"]
