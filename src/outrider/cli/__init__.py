"""The command line: `outrider generate | check | bench | trace | doctor`."""

from outrider_command import main

__all__ = ["main"]
