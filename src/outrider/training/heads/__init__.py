"""Training of draft heads, on what the target writes itself."""
