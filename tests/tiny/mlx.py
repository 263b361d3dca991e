"""Randomly initialised models of mlx-lm of a few thousand parameters, and one as a course on MLX writes it."""

import importlib
import math

VOCABULARY = 48
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "rms_norm_eps": 1e-5,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 256,
}
KINDS = {
    "llama": {},
    "qwen3": {"rope_theta": 1e4, "tie_word_embeddings": False},
    "gemma3_text": {"sliding_window": 5, "sliding_window_pattern": 3},
    "mamba": {
        "state_size": 4,
        "conv_kernel": 3,
        "use_bias": False,
        "use_conv_bias": True,
        "time_step_rank": 4,
    },
    "jamba": {
        "num_hidden_layers": 2,
        "attn_layer_offset": 1,
        "attn_layer_period": 2,
        "expert_layer_offset": 1,
        "expert_layer_period": 2,
        "num_experts": 2,
        "num_experts_per_tok": 1,
        "mamba_d_conv": 3,
        "mamba_d_state": 4,
        "mamba_expand": 2,
        "mamba_dt_rank": 4,
    },
    "recurrent_gemma": {
        "num_key_value_heads": 1,
        "attention_bias": False,
        "attention_window_size": 6,
        "block_types": ["recurrent", "recurrent", "attention"],
        "conv1d_width": 3,
        "embeddings_scale_by_sqrt_dim": True,
        "logits_soft_cap": 30.0,
        "lru_width": 32,
        "rope_theta": 1e4,
    },
}


def model(kind: str, *, seed: int = 0, spread: float = 0.15, **settings):
    """A model whose logits are spread enough for mistakes to show, and whose attention is too blunt to hide them."""
    import mlx.core as mx
    from mlx.utils import tree_map

    mx.random.seed(seed)  # some weights are drawn as the model is built
    module = importlib.import_module(f"mlx_lm.models.{kind}")
    built = module.Model(module.ModelArgs.from_dict({"model_type": kind, **SIZES, **KINDS[kind], **settings}))
    key = mx.random.key(seed)

    def drawn(weight):
        nonlocal key
        key, own = mx.random.split(key)
        return mx.random.normal(weight.shape, key=own) * spread if weight.ndim > 1 else weight

    built.update(tree_map(drawn, built.parameters()))
    mx.eval(built.parameters())
    return built


class CourseCache:
    """Keys and values of one layer, as the course's TinyKvFullCache keeps them."""

    def __init__(self):
        self.key_values = None
        self.offset = 0

    def update_and_fetch(self, key, value, mask_length=None, mask=None):
        import mlx.core as mx

        if self.key_values is not None:
            key = mx.concat([self.key_values[0], key], axis=2)
            value = mx.concat([self.key_values[1], value], axis=2)
        self.key_values = (key, value)
        self.offset = key.shape[2]
        return key, value, self.offset, mask

    def rewind(self, n):
        assert 0 < n <= self.offset
        self.offset -= n
        self.key_values = tuple(array[:, :, : self.offset] for array in self.key_values)


class CourseModel:
    """A decoder called as the course's are: model(inputs, offset, cache)."""

    def __init__(self, *, vocab_size: int = VOCABULARY, size: int = 16, layers: int = 2, seed: int = 0, spread=0.5):
        import mlx.core as mx

        self.num_hidden_layers = layers
        self.vocab_size = vocab_size
        self.size = size
        shapes = {"embedding": (vocab_size, size)}
        shapes |= {f"{name}{layer}": (size, size) for layer in range(layers) for name in "qkvo"}
        keys = mx.random.split(mx.random.key(seed), len(shapes))
        self.weights = {
            name: mx.random.normal(shape, key=key) * (spread if name != "embedding" else 1)
            for (name, shape), key in zip(shapes.items(), keys, strict=True)
        }

    def __call__(self, inputs, offset, cache):
        import mlx.core as mx

        length = inputs.shape[1]
        h = self.weights["embedding"][inputs]
        for layer in range(self.num_hidden_layers):
            q, k, v = ((mx.fast.rms_norm(h, None, 1e-5) @ self.weights[f"{name}{layer}"])[:, None] for name in "qkv")
            q, k = (mx.fast.rope(x, self.size, traditional=False, base=1e4, scale=1.0, offset=offset) for x in (q, k))
            k, v, _, mask = cache[layer].update_and_fetch(k, v, mask_length=length, mask="causal")
            scale = 1 / math.sqrt(self.size)
            attended = mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask=mask)
            h = h + attended[:, 0] @ self.weights[f"o{layer}"]
        return mx.fast.rms_norm(h, None, 1e-5) @ self.weights["embedding"].T


class CourseModelWithCache(CourseModel):
    """As in later editions of the course, where the model makes the cache."""

    def create_kv_cache(self):
        return [CourseCache() for _ in range(self.num_hidden_layers)]
