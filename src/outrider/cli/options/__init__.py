"""The flags of the commands, in groups, and what they mean together."""
