"""Draft heads with random weights in both formats, a reference of their forward pass, and a table that shows states."""

import json
from dataclasses import replace

import numpy as np
import pytest

from outrider import TableModel
from outrider.runtimes.stateless import StatelessSession

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")

SIZE, INNER, HEADS, KEY_HEADS, HEAD_SIZE = 16, 24, 4, 2, 6
LAYERS = (1, 2, 3)
SPREAD = 1.2  # of the logits of a random head


class ShownSession(StatelessSession):
    def extend(self, work):
        scored = super().extend(work)
        layers = [[] for _ in work.features.hidden]
        for row, new in zip(work.rows, work.tokens, strict=True):
            above = self._ledger.parents(row)
            for node in range(len(above) - len(new), len(above)):
                context = self._ledger.context(row, node)
                for states, layer in zip(layers, work.features.hidden, strict=True):
                    states.append(self._model.state(layer, context))
        return replace(scored, hidden=tuple(np.array(states, dtype=np.float32) for states in layers))


class ShownTable(TableModel):
    """A table with hidden states, which tell of the same tokens as its logits."""

    def __init__(self, logits, **settings):
        super().__init__(logits, **settings)
        size = self.traits.vocab_size
        generator = np.random.default_rng(5)
        self._states = generator.normal(size=(4, *(size,) * max(self.order, 1), SIZE)).astype(np.float32)
        self._embedding = generator.normal(size=(size, SIZE)).astype(np.float32)
        self.traits = replace(self.traits, hidden_size=SIZE, layers=4)

    def state(self, layer, context):
        if layer == 0:
            return self._embedding[context[-1]]
        recent = tuple(context[-max(self.order, 1) :])
        return self._states[(layer - 1, *(0,) * (max(self.order, 1) - len(recent)), *recent)]

    def embedding(self):
        return self._embedding

    def open(self, rows, capacity):
        return ShownSession(self, rows, capacity)


def write(
    folder,
    *,
    vocab_size,
    drafted=None,
    older=False,
    kind="llama",
    options=None,
    seed=0,
    target_size=SIZE,
    size=SIZE,
    embeds=False,
    layers=LAYERS,
    rope=None,
):
    """A checkpoint, each tensor named as in the format."""
    torch.manual_seed(seed)
    options = options or {}
    folder.mkdir(parents=True, exist_ok=True)
    ids = list(range(vocab_size)) if drafted is None else list(drafted)
    layer = "midlayer" if older else "layers.0"

    def weight(rows, columns):
        return torch.randn(rows, columns) / columns**0.5

    def norm(width):
        return 1 + 0.3 * torch.randn(width)

    weights = {
        "fc.weight": weight(size, len(layers) * target_size),
        f"{layer}.input_layernorm.weight": norm(size),
        f"{layer}.hidden_norm.weight": norm(size),
        f"{layer}.post_attention_layernorm.weight": norm(size),
        f"{layer}.self_attn.q_proj.weight": weight(HEADS * HEAD_SIZE, 2 * size),
        f"{layer}.self_attn.k_proj.weight": weight(KEY_HEADS * HEAD_SIZE, 2 * size),
        f"{layer}.self_attn.v_proj.weight": weight(KEY_HEADS * HEAD_SIZE, 2 * size),
        f"{layer}.self_attn.o_proj.weight": weight(size, HEADS * HEAD_SIZE),
        f"{layer}.mlp.gate_proj.weight": weight(INNER, size),
        f"{layer}.mlp.up_proj.weight": weight(INNER, size),
        f"{layer}.mlp.down_proj.weight": weight(size, INNER),
        "norm.weight": norm(size),
        "lm_head.weight": SPREAD * weight(len(ids), size),
    }
    if kind == "qwen3":
        weights |= {f"{layer}.self_attn.{part}_norm.weight": norm(HEAD_SIZE) for part in "qk"}
    if options.get("norm_before_fc"):
        weights["input_norm.weight"] = norm(len(layers) * target_size)
    if options.get("fc_norm"):
        weights |= {f"fc_norm.{number}.weight": norm(target_size) for number in range(len(layers))}
    if embeds:
        weights["embed_tokens.weight"] = torch.randn(vocab_size, size)
    if drafted is not None:
        weights["d2t"] = torch.tensor([token - place for place, token in enumerate(ids)])
        weights["t2d"] = torch.tensor([token in ids for token in range(vocab_size)])
    sizes = {
        "model_type": kind,
        "vocab_size": vocab_size,
        "hidden_size": size,
        "intermediate_size": INNER,
        "num_hidden_layers": 1,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_HEADS,
        "head_dim": HEAD_SIZE,
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 512,
        "hidden_act": "silu",
    }
    own = {"draft_vocab_size": len(ids), "eagle_aux_hidden_state_layer_ids": list(layers)}
    if target_size != size:
        own["target_hidden_size"] = target_size
    if older:
        rope = {"rope_theta": 1000.0, "rope_scaling": rope}
        config = {"architectures": ["LlamaForCausalLMEagle3"], **sizes, **own, **rope, **options}
        torch.save(weights, folder / "pytorch_model.bin")
    else:
        sizes["rope_parameters"] = rope or {"rope_theta": 1000.0, "rope_type": "default"}
        config = {
            "architectures": ["Eagle3Speculator"],
            "speculators_model_type": "eagle3",
            "transformer_layer_config": sizes,
            **own,
            "norm_before_residual": False,
            **options,
        }
        safetensors_torch.save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


class Reference:
    """The forward pass of a head over one text, from its start, in float64 and as plainly as can be.

    Args:
        embedding: of the target, where the head has none.
    """

    def __init__(self, folder, embedding=None):
        self.config = json.loads((folder / "config.json").read_text())
        if (folder / "pytorch_model.bin").exists():
            weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
        else:
            weights = safetensors_torch.load_file(folder / "model.safetensors")
        self.weights = {
            name.replace("midlayer.", "layers.0."): (weight.double() if weight.is_floating_point() else weight).numpy()
            for name, weight in weights.items()
        }
        self.layer = self.config.get("transformer_layer_config", self.config)
        self.embedding = self.weights.get("embed_tokens.weight", embedding)

    def logits_after(self, text, states, drafted=()):
        """The logits [vocabulary] of what follows `drafted`, which follows `text`; -inf for what cannot be drafted.

        Args:
            states: [tokens of the text but the last, states of all layers].
        """
        w = self.weights
        read = np.array(states, dtype=np.float64)
        if self.config.get("norm_before_fc"):
            read = self.norm(read, "input_norm")
        if self.config.get("fc_norm"):
            count = len(self.config["eagle_aux_hidden_state_layer_ids"])
            pieces = np.split(read, count, axis=1)
            read = np.concatenate([self.norm(piece, f"fc_norm.{i}") for i, piece in enumerate(pieces)], axis=1)
        entries = list(zip(read @ w["fc.weight"].T, text[1:], strict=True))
        keys, values, made = [], [], None
        for place in range(len(entries) + len(drafted)):
            if place < len(entries):
                state, token = entries[place]
            else:
                passed_on = self.norm(made, "norm") if self.config.get("norm_output") else made
                state, token = passed_on, drafted[place - len(entries)]
            made = self.step(state, token, place, keys, values)
        scores = self.norm(made, "norm") @ w["lm_head.weight"].T
        wide = np.full(self.layer["vocab_size"], -np.inf)
        offsets = w.get("d2t", np.zeros(len(scores), dtype=int))
        wide[np.arange(len(scores)) + offsets] = scores
        return wide

    def step(self, state, token, place, keys, values):
        at = "layers.0"
        normed = self.norm(state, f"{at}.hidden_norm")
        both = np.concatenate([self.norm(self.embedding[token].astype(float), f"{at}.input_layernorm"), normed])
        q, k, v = ((self.weights[f"{at}.self_attn.{part}_proj.weight"] @ both).reshape(-1, HEAD_SIZE) for part in "qkv")
        if self.layer["model_type"] == "qwen3":
            q, k = self.norm(q, f"{at}.self_attn.q_norm"), self.norm(k, f"{at}.self_attn.k_norm")
        keys.append(self.turned(k, place))
        values.append(v)
        q = self.turned(q, place)
        attended = []
        for head in range(HEADS):
            shared = head * KEY_HEADS // HEADS
            scores = np.array([q[head] @ key[shared] for key in keys]) / HEAD_SIZE**0.5
            weights = np.exp(scores - scores.max())
            attended.append(weights / weights.sum() @ np.array([value[shared] for value in values]))
        base = normed if self.config.get("norm_before_residual") else state
        x = base + self.weights[f"{at}.self_attn.o_proj.weight"] @ np.concatenate(attended)
        y = self.norm(x, f"{at}.post_attention_layernorm")
        gate, up = self.weights[f"{at}.mlp.gate_proj.weight"] @ y, self.weights[f"{at}.mlp.up_proj.weight"] @ y
        return x + self.weights[f"{at}.mlp.down_proj.weight"] @ (gate / (1 + np.exp(-gate)) * up)

    def norm(self, x, name):
        scale = np.sqrt((x**2).mean(axis=-1, keepdims=True) + self.layer["rms_norm_eps"])
        return x / scale * self.weights[f"{name}.weight"]

    def turned(self, x, place):
        half = HEAD_SIZE // 2
        parameters = self.layer.get("rope_parameters") or self.layer.get("rope_scaling") or {}
        base = parameters.get("rope_theta", self.layer.get("rope_theta"))
        angles = place / parameters.get("factor", 1.0) / base ** (np.arange(half) * 2 / HEAD_SIZE)
        a, b = x[:, :half], x[:, half:]
        return np.concatenate(
            [a * np.cos(angles) - b * np.sin(angles), b * np.cos(angles) + a * np.sin(angles)], axis=1
        )


def trained(target, drafted, *, steps, seed=0, folder=None):
    """A head that learned from texts that a table wrote, opened for drafting, and written where a folder is given."""
    from outrider.drafters.heads.layout import write_head
    from outrider.drafters.heads.opening import laid_out
    from outrider.training.heads.corpus import Lessons, Reader
    from outrider.training.heads.rollout import HeadStudent
    from outrider.training.heads.start import config_for, new_head
    from outrider.training.heads.trainer import Trainer, TrainingSettings
    from outrider.training.shards import Text

    generator = np.random.default_rng(seed)
    texts = []
    for _ in range(48):
        tokens = [0]
        while len(tokens) < 40:
            logits = target.logits_after(tokens).astype(float)
            weights = np.exp(logits - logits.max())
            tokens.append(int(generator.choice(len(weights), p=weights / weights.sum())))
        empty = np.zeros((len(tokens) - 1, 1))
        texts.append(Text(tuple(tokens), 1, empty, empty))
    ids, embedding = torch.tensor(drafted), torch.from_numpy(target.embedding())
    config = config_for(SIZE, target.traits.layers, target.traits.vocab_size, len(drafted), 64)
    head = new_head(config, embedding, ids)
    reader = Reader(target, ids, config.layers, 64)
    ticks = iter(range(10**9))
    settings = TrainingSettings(rate=1e-2, seconds=steps, measured=steps / 2, depth=3, tokens=512)
    learned, held_out = (Lessons(part, reader, 1 << 20) for part in (texts[8:], texts[:8]))
    Trainer(HeadStudent(head, embedding), learned, held_out, settings, clock=lambda: next(ticks)).run()
    if folder is not None:
        folder.mkdir()
        write_head(folder, head, ids, {"name_or_path": target.name, "architectures": []}, torch.float32)
    return laid_out(head, embedding, ids, "float32")
