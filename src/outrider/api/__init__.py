"""The front doors: the classic interface for one text and for many."""
