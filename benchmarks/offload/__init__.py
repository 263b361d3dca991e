"""A target that is read from the disk in each pass: tokens per second plain and speculative."""
