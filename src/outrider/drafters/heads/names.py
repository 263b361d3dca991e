"""The names of a head's tensors in the format of speculators, where both runtimes need them."""

LAYER, OLDER_LAYER = "layers.0", "midlayer"
EMBEDDING, TO_TARGET, FROM_TARGET = "embed_tokens.weight", "d2t", "t2d"
