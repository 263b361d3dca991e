"""The files of models: where they are, what they say of themselves, and what they are told apart by."""
