"""What passes of the target and drafts cost, learned from measured times."""
