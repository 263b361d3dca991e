"""Arrays in, arrays out: knows no models, clocks or files, and randomness is an argument."""
