"""Arrays in, arrays out: knows no models, clocks or files, and randomness is an argument.

From the ground up:

    arrays          the operations that the rest needs, over NumPy, PyTorch and MLX
    noise           random numbers as a pure function of what they are for
    sampling        settings, and from logits to the distribution that is sampled from
    budget          how large a draft may be, and what it costs
    draft           drafts, chains and trees, and the verdict on them
    draws           from weights to a token
    lessons         which seeds the texts had from which drafters and policies learned
    distributions   the target's distributions of one draft, computed at once or when they are read
    rules           which draft tokens stay: token, block, coupled
"""
