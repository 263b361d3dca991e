"""`python -m outrider`, the same as `outrider`; torchrun starts it under this name."""

from outrider_command import main

main()
