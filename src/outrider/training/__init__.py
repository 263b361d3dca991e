"""What a model teaches its own drafters."""
