"""What rounds cost: passes of the target, and drafting. Learned from times; nothing here reads a clock."""
