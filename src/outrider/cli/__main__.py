"""`python -m outrider.cli`, the same as `outrider`."""

from outrider.cli import main

main()
