"""`python -m outrider.cli`, the same as `outrider`."""

from outrider.cli.app import main

main()
