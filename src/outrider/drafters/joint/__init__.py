"""One tree from lookups and a draft head, which is asked only where its answer pays."""
