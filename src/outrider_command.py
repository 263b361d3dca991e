"""The `outrider` command.

It stands outside the package: importing the package takes a moment, and a key that is pressed meanwhile should end the
command without a traceback.
"""

import sys

INTERRUPTED = 130


def main() -> None:
    """The entry point."""
    try:
        from outrider.cli.app import run
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    sys.exit(run(sys.argv[1:]))
