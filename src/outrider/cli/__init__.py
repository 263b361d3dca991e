"""The command line: `outrider generate | check | bench | trace | doctor`."""

import sys

INTERRUPTED = 130


def main() -> None:
    """The entry point of the `outrider` command."""
    try:
        # Here and not above, so that a key pressed while it is imported ends without a traceback.
        from outrider.cli.app import run
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    sys.exit(run(sys.argv[1:]))
