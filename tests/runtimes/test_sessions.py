"""What every Session must do, whatever the runtime. A new runtime adds a line to MODELS.

The truth is a fresh session that is fed a root path from the start, in one call.
"""

import functools
import random
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from outrider import FunctionModel, InputError, ModelError, TableModel
from outrider.maths.arrays import to_numpy
from outrider.runtimes.base import Features, Pass
from tiny import gguf as tiny_gguf
from tiny import mlx as tiny_mlx
from tiny import native as tiny_native

VOCABULARY = 48
CAPACITY = 64
GRAPHED_ON = "cpu"  # benchmarks/gpu runs these tests with "cuda"


def table():
    return TableModel.random(6, 2)


def function():
    inner = TableModel.random(6, 2)
    return FunctionModel(
        lambda ids: np.stack([inner.logits_after(ids[0, : i + 1].tolist()) for i in range(ids.shape[1])])
    )


def function_of_the_last_token():
    inner = TableModel.random(6, 2)
    return FunctionModel(lambda ids: inner.logits_after(ids[0].tolist()))


def tiny(kind, **settings):
    """A randomly initialised transformers model of a few thousand parameters."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    sizes = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 256,
        "initializer_range": 0.4,
    }
    config = getattr(transformers, kind + "Config")(**sizes | settings)
    name = {"Gemma3Text": "Gemma3"}.get(kind, kind) + "ForCausalLM"
    return getattr(transformers, name)(config).eval()


def wrapped(kind, **settings):
    def make():
        model = tiny(kind, **settings)
        from outrider.runtimes.torch.model import TransformersModel

        return TransformersModel(model)

    return make


def fused(kind, dtype="float32", **settings):
    def make():
        model = tiny(kind, **settings)
        from outrider.runtimes.torch.fused_llama import can_take_over, take_over
        from outrider.runtimes.torch.model import TransformersModel

        if dtype == "bfloat16":  # it is read in that precision
            model = model.bfloat16()
        assert can_take_over(model)
        return TransformersModel(model, fused=take_over(model, dtype))

    return make


def graphed(kind, dtype="float32", **settings):
    """A session as on a GPU, with the CPU in its place."""

    def make():
        torch = pytest.importorskip("torch")
        from outrider.runtimes.torch.cuda.model import GraphedLlama, can_take_over

        model = tiny(kind, **settings)
        assert can_take_over(model)
        return GraphedLlama.of(model, dtype=getattr(torch, dtype), device=GRAPHED_ON)

    return make


def native(kind, dtype="float32", **settings):
    @functools.cache
    def make():
        tiny_native.library()
        return tiny_native.of_transformers(tiny(kind, **settings), dtype)

    return make


def of_mlx(kind, **settings):
    @functools.cache
    def make():
        pytest.importorskip("mlx_lm")
        from outrider.runtimes.mlx.model import MlxModel

        return MlxModel(tiny_mlx.model(kind, **settings))

    return make


def of_the_course(kind):
    @functools.cache
    def make():
        pytest.importorskip("mlx.core")
        from outrider.runtimes.mlx.course import CourseModel

        return CourseModel(getattr(tiny_mlx, kind)())

    return make


def llamacpp(architecture, cache_type="float32"):
    """A randomly initialised GGUF file in llama.cpp."""

    def make():
        pytest.importorskip("llama_cpp")
        pytest.importorskip("gguf")
        from outrider.runtimes.llamacpp.context import Settings
        from outrider.runtimes.llamacpp.loading import open_file
        from outrider.runtimes.llamacpp.model import LlamaCppModel

        with tempfile.TemporaryDirectory() as folder:
            file = tiny_gguf.save(Path(folder) / "tiny.gguf", architecture, vocabulary=VOCABULARY)
            return LlamaCppModel(open_file(file), architecture, Settings(threads=1, cache_type=cache_type))

    return make


SLIDING = {"sliding_window": 5}
MAMBA = {"num_hidden_layers": 2, "state_size": 4, "conv_kernel": 3, "time_step_rank": 4}
JAMBA = {
    "num_hidden_layers": 2,
    "attn_layer_offset": 1,
    "attn_layer_period": 2,
    "expert_layer_offset": 1,
    "expert_layer_period": 2,
    "num_experts": 2,
    "num_experts_per_tok": 1,
    "mamba_d_state": 4,
    "mamba_d_conv": 3,
    "mamba_dt_rank": 4,
    "use_mamba_kernels": False,
}
QWEN3_NEXT = {
    "num_hidden_layers": 2,
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_conv_kernel_dim": 3,
    "num_experts": 2,
    "num_experts_per_tok": 1,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
}
GEMMA = {"sliding_window": 5, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
MODELS = {
    "table": table,
    "function": function,
    "function-of-last": function_of_the_last_token,
    "llama": wrapped("Llama"),
    "qwen3": wrapped("Qwen3"),
    "mistral-sliding": wrapped("Mistral", **SLIDING),
    "gemma3-sliding": wrapped("Gemma3Text", **GEMMA),
    "gpt-neox": wrapped("GPTNeoX"),
    "fused-llama": fused("Llama"),
    "fused-llama-int8": fused("Llama", "int8"),
    "fused-llama-bias": fused("Llama", attention_bias=True, mlp_bias=False),
    "fused-qwen2": fused("Qwen2"),
    "fused-qwen3": fused("Qwen3"),
    "fused-mistral": fused("Mistral", sliding_window=None),
    "graphed-llama": graphed("Llama"),
    "graphed-llama-bias": graphed("Llama", attention_bias=True, mlp_bias=False, tie_word_embeddings=True),
    "graphed-qwen2": graphed("Qwen2"),
    "graphed-qwen3": graphed("Qwen3"),
    "graphed-mistral": graphed("Mistral", sliding_window=5),
    "native-llama": native("Llama"),
    "native-llama-q8_0": native("Llama", "q8_0", attention_bias=True),
    "native-qwen2": native("Qwen2"),
    "native-qwen3": native("Qwen3", tie_word_embeddings=True),
    "native-mistral-sliding": native("Mistral", **SLIDING),
    "gemma2-capped": wrapped("Gemma2", sliding_window=5),
    "torch-mamba": wrapped("Mamba", **MAMBA),
    "torch-jamba": wrapped("Jamba", **JAMBA),
    "torch-qwen3-next": wrapped("Qwen3Next", **QWEN3_NEXT),
    "mlx-llama": of_mlx("llama"),
    "mlx-qwen3": of_mlx("qwen3"),
    "mlx-gemma3-sliding": of_mlx("gemma3_text"),
    "mlx-mamba": of_mlx("mamba"),
    "mlx-jamba": of_mlx("jamba"),
    "mlx-recurrent-gemma": of_mlx("recurrent_gemma"),
    "course": of_the_course("CourseModel"),
    "course-with-cache": of_the_course("CourseModelWithCache"),
    "llamacpp-llama": llamacpp("llama"),
    "llamacpp-qwen3": llamacpp("qwen3"),
    "llamacpp-gemma3-sliding": llamacpp("gemma3"),
    "llamacpp-mamba": llamacpp("mamba"),
}


@functools.cache
def made(name):
    """The same for all tests: a model keeps nothing, its sessions do."""
    return MODELS[name]()


@pytest.fixture(params=MODELS)
def model(request):
    return made(request.param)


def fresh(model, tokens, count=1):
    """Logits after the last `count` tokens, from a session that never saw anything else."""
    session = model.open(1, CAPACITY)
    return to_numpy(session.extend(Pass([0], [tokens], wanted=[count])).logits).astype(np.float64)


def same(found, expected):
    """Up to rounding: a token that sees one token too many, or sits one place off, differs by tenths."""
    np.testing.assert_allclose(to_numpy(found).astype(np.float64), expected, atol=2e-3, rtol=1e-3)


def text(model, length, seed=0):
    return [random.Random(seed * 1000 + i).randrange(model.traits.vocab_size) for i in range(length)]


def test_a_chain_fed_in_pieces_equals_one_fed_at_once(model):
    tokens = text(model, 20)
    session = model.open(1, CAPACITY)
    session.extend(Pass([0], [tokens[:11]], wanted=[0]))
    session.keep(0, range(11))
    found = session.extend(Pass([0], [tokens[11:]])).logits
    assert found.shape == (9, model.traits.vocab_size)
    same(found, fresh(model, tokens, 9))


def test_wanted_logits_are_those_of_the_last_tokens(model):
    first, second = text(model, 7, 1), text(model, 4, 2)
    session = model.open(2, CAPACITY)
    found = session.extend(Pass([0, 1], [first, second], wanted=[2, 3])).logits
    same(found, np.concatenate([fresh(model, first, 2), fresh(model, second, 3)]))


def test_rows_of_different_lengths_share_a_pass(model):
    texts = [text(model, length, length) for length in (13, 4, 9)]
    session = model.open(4, CAPACITY)
    for row, tokens in zip((3, 0, 1), texts, strict=True):
        session.extend(Pass([row], [tokens], wanted=[0]))
        session.keep(row, range(len(tokens)))
    new = [text(model, length, 50 + length) for length in (1, 3, 2)]
    found = session.extend(Pass([3, 0, 1], new)).logits
    same(found, np.concatenate([fresh(model, t + n, len(n)) for t, n in zip(texts, new, strict=True)]))


def test_a_dropped_tail_leaves_no_trace(model):
    tokens = text(model, 8)
    session = model.open(1, CAPACITY)
    session.extend(Pass([0], [tokens + text(model, 6, 9)]))
    session.keep(0, range(8))
    assert session.length(0) == 8
    more = text(model, 3, 5)
    same(session.extend(Pass([0], [more])).logits, fresh(model, tokens + more, 3))


def test_truncated_rows_go_on_from_there(model):
    tokens = text(model, 12)
    session = model.open(1, CAPACITY)
    session.extend(Pass([0], [tokens], wanted=[0]))
    session.keep(0, range(12))
    session.truncate(0, 5)
    more = text(model, 3, 5)
    same(session.extend(Pass([0], [more])).logits, fresh(model, tokens[:5] + more, 3))


def test_a_released_row_starts_empty(model):
    session = model.open(2, CAPACITY)
    session.extend(Pass([0, 1], [text(model, 9), text(model, 5)], wanted=[0, 0]))
    session.keep(0, range(9))
    session.release(0)
    assert session.length(0) == 0
    tokens = text(model, 4, 3)
    same(session.extend(Pass([0], [tokens])).logits, fresh(model, tokens, 4))


def test_an_adopted_prefix_goes_on_as_if_it_had_been_read(model):
    tokens = text(model, 40)
    session = model.open(3, CAPACITY)
    session.extend(Pass([0, 1], [tokens, text(model, 25, 9)], wanted=[0, 0]))
    session.keep(0, range(40))
    session.keep(1, range(25))
    session.extend(Pass([0, 1], [text(model, 5, 8), text(model, 4, 7)]))  # tentative tokens, which nobody adopts
    session.adopt(1, 0, 19)
    session.adopt(2, 0, 33)
    assert [session.length(row) for row in range(3)] == [40, 19, 33]
    session.keep(0, [0, 1])  # the source goes on
    more, others, last = text(model, 3, 5), text(model, 4, 6), text(model, 2, 4)
    found = session.extend(Pass([1, 2], [more, others])).logits
    same(found, np.concatenate([fresh(model, tokens[:19] + more, 3), fresh(model, tokens[:33] + others, 4)]))
    session.keep(1, [0, 1])
    session.release(2)
    found = session.extend(Pass([0, 1], [last, last])).logits
    held = tokens + text(model, 5, 8)[:2]
    same(found, np.concatenate([fresh(model, held + last, 2), fresh(model, tokens[:19] + more[:2] + last, 2)]))


def test_a_row_may_adopt_its_own_beginning(model):
    tokens = text(model, 20)
    session = model.open(2, CAPACITY)
    session.extend(Pass([1], [tokens], wanted=[0]))
    session.keep(1, range(20))
    session.extend(Pass([1], [text(model, 3, 7)], [[-1, -1, 0]]))
    session.adopt(1, 1, 12)
    assert session.length(1) == 12
    more = text(model, 3, 5)
    same(session.extend(Pass([1], [more])).logits, fresh(model, tokens[:12] + more, 3))


def test_what_a_row_does_not_hold_is_not_adopted(model):
    session = model.open(2, CAPACITY)
    session.extend(Pass([0], [text(model, 5)], wanted=[0]))
    session.keep(0, range(3))
    with pytest.raises(InputError, match="row 1 cannot adopt 4 tokens of row 0: that row holds 3"):
        session.adopt(1, 0, 4)
    assert session.length(1) == 0
    with pytest.raises(InputError, match="row 2 cannot adopt a prefix: this session has 2 rows"):
        session.adopt(2, 0, 3)


def test_each_node_of_a_tree_sees_its_own_root_path_only(model):
    stem = text(model, 7)
    #        0 -- 1 -- 3        -1 -- 4 -- 5
    #          \- 2 -- 6
    parents = [-1, 0, 0, 1, -1, 4, 2]
    tokens = text(model, len(parents), 4)
    session = model.open(2, CAPACITY)
    session.extend(Pass([1], [stem], wanted=[0]))
    session.keep(1, range(len(stem)))
    found = to_numpy(session.extend(Pass([1], [tokens], [parents])).logits)
    for node in range(len(parents)):
        path = []
        above = node
        while above != -1:
            path.insert(0, tokens[above])
            above = parents[above]
        same(found[node], fresh(model, stem + path)[0])


def test_keeping_a_branch_compacts_the_row_to_it(model):
    stem = text(model, 5)
    session = model.open(1, CAPACITY)
    session.extend(Pass([0], [stem], wanted=[0]))
    session.keep(0, range(5))
    tokens = text(model, 6, 8)
    session.extend(Pass([0], [tokens], [[-1, 0, 0, 1, 2, 4]]))
    session.keep(0, [0, 2, 4])
    more = text(model, 2, 6)
    same(session.extend(Pass([0], [more])).logits, fresh(model, [*stem, tokens[0], tokens[2], tokens[4], *more], 2))


def test_a_tree_may_grow_level_by_level(model):
    session = model.open(1, CAPACITY)
    stem = text(model, 4)
    session.extend(Pass([0], [stem], wanted=[0]))
    session.keep(0, range(4))
    a, b, c, d, e = text(model, 5, 7)
    session.extend(Pass([0], [[a, b]], [[-1, -1]]))
    found = session.extend(Pass([0], [[c, d, e]], [[0, 1, 1]])).logits
    same(found, np.concatenate([fresh(model, [*stem, *path]) for path in ([a, c], [b, d], [b, e])]))


def test_trees_and_chains_share_a_pass(model):
    session = model.open(2, CAPACITY)
    first, second = text(model, 6, 1), text(model, 3, 2)
    session.extend(Pass([0, 1], [first, second], wanted=[0, 0]))
    session.keep(0, range(6))
    session.keep(1, range(3))
    a, b, c, d = text(model, 4, 7)
    found = session.extend(Pass([0, 1], [[a, b], [c, d]], [[-1, -1], None])).logits
    paths = ([*first, a], [*first, b], [*second, c], [*second, c, d])
    same(found, np.concatenate([fresh(model, path) for path in paths]))


@pytest.mark.parametrize("seed", range(3))
def test_any_course_of_calls_equals_a_fresh_prefill(model, seed):
    choose = random.Random(seed)
    session = model.open(3, CAPACITY)
    held = [[], [], []]
    for _ in range(25):
        rows = choose.sample(range(3), choose.randint(1, 3))
        rows = [row for row in rows if len(held[row]) < CAPACITY - 8]
        if choose.random() < 0.5:
            rows.sort()  # as the engine gives them; rows side by side may be computed together
        if not rows:
            break
        tokens = [[choose.randrange(model.traits.vocab_size) for _ in range(choose.randint(1, 6))] for _ in rows]
        trees = [None if choose.random() < 0.5 else [choose.randint(-1, i - 1) for i in range(len(t))] for t in tokens]
        found = to_numpy(session.extend(Pass(rows, tokens, trees)).logits)
        first = 0
        for row, new, tree in zip(rows, tokens, trees, strict=True):
            parents = [i - 1 for i in range(len(new))] if tree is None else tree
            paths = []
            for node in range(len(new)):
                paths.append([*(paths[parents[node]] if parents[node] >= 0 else []), node])
            node = choose.randrange(len(new))
            same(found[first + node], fresh(model, held[row] + [new[i] for i in paths[node]])[0])
            first += len(new)
            kept = choose.choice([[], *paths])
            session.keep(row, kept)
            held[row] += [new[i] for i in kept]
            if choose.random() < 0.2:
                held[row] = held[row][: choose.randint(0, len(held[row]))]
                session.truncate(row, len(held[row]))
            assert session.length(row) == len(held[row])
        if choose.random() < 0.2:
            row, source = choose.randrange(3), choose.randrange(3)
            held[row] = held[source][: choose.randint(0, len(held[source]))]
            session.adopt(row, source, len(held[row]))


def spoilt_by_token_0():
    torch = pytest.importorskip("torch")
    model = tiny("Llama")
    with torch.no_grad():
        model.model.embed_tokens.weight[0] = float("nan")
    return model


def spoilt_mlx(kind):
    pytest.importorskip("mlx_lm")
    from outrider.runtimes.mlx.model import MlxModel

    module = tiny_mlx.model(kind, tie_word_embeddings=False)
    inner = getattr(module, "model", None) or module.backbone
    (inner.embed_tokens if hasattr(inner, "embed_tokens") else inner.embeddings).weight[0] = float("nan")
    model = MlxModel(module)
    assert model.shares_passes == (kind == "llama")
    return model


@pytest.mark.parametrize("name", ["llama", "fused-llama", "graphed-llama", "mlx-llama", "mlx-mamba", "llamacpp-llama"])
def test_what_broke_one_text_is_gone_with_it(name, monkeypatch):
    if name.startswith("mlx"):
        model = spoilt_mlx(name.removeprefix("mlx-"))
    elif name.startswith("llamacpp"):
        tensors = tiny_gguf.weights("llama", VOCABULARY)
        tensors["token_embd.weight"][0] = float("nan")
        monkeypatch.setattr(tiny_gguf, "weights", lambda *settings: tensors)
        model = MODELS[name]()
    else:
        spoilt = spoilt_by_token_0()
        monkeypatch.setitem(globals(), "tiny", lambda kind, **settings: spoilt)
        model = MODELS[name]()
    session = model.open(2, CAPACITY)
    broken = session.extend(Pass([0], [[1, 2, 0] + [3] * 20], wanted=[1])).logits
    assert np.isnan(to_numpy(broken)).all()
    session.keep(0, range(10))
    session.release(0)
    texts = [text(model, 3, 1), text(model, 30, 2)]
    texts = [[max(token, 1) for token in tokens] for tokens in texts]
    for row, tokens in enumerate(texts):  # by themselves, or padding might bury what is left of the first text
        session.extend(Pass([row], [tokens], wanted=[0]))
        session.keep(row, range(len(tokens)))
    found = session.extend(Pass([0, 1], [[5], [6, 7]])).logits
    same(found, np.concatenate([fresh(model, [*texts[0], 5]), fresh(model, [*texts[1], 6, 7], 2)]))


def test_what_no_cache_could_do_is_refused(model):
    session = model.open(2, 8)
    with pytest.raises(InputError, match="would hold 9 tokens: this session was opened for 8"):
        session.extend(Pass([0], [[0] * 9]))
    with pytest.raises(InputError, match="extended by no token"):
        session.extend(Pass([0], [[]]))
    with pytest.raises(InputError, match="distinct and below 2"):
        session.extend(Pass([0, 0], [[1], [1]]))
    with pytest.raises(InputError, match="one earlier tentative token each"):
        session.extend(Pass([0], [[1, 2]], [[-1, 1]]))
    session.extend(Pass([0], [[1, 2, 3]], [[-1, 0, 0]]))
    with pytest.raises(InputError, match="does not lead from the last committed token"):
        session.keep(0, [0, 1, 2])
    with pytest.raises(InputError, match="cannot be cut to 5 tokens"):
        session.truncate(0, 5)


@pytest.mark.parametrize(
    ("name", "kind", "settings"),
    [
        ("llama", "Llama", {}),
        ("qwen3", "Qwen3", {}),
        ("mistral-sliding", "Mistral", SLIDING),
        ("gemma3-sliding", "Gemma3Text", GEMMA),
        ("gpt-neox", "GPTNeoX", {}),
        ("gemma2-capped", "Gemma2", {"sliding_window": 5}),
        ("torch-mamba", "Mamba", MAMBA),
        ("torch-jamba", "Jamba", JAMBA),
        ("torch-qwen3-next", "Qwen3Next", QWEN3_NEXT),
        ("fused-llama", "Llama", {}),
        ("fused-llama-bias", "Llama", {"attention_bias": True, "mlp_bias": False}),
        ("fused-qwen2", "Qwen2", {}),
        ("fused-qwen3", "Qwen3", {}),
        ("fused-mistral", "Mistral", {"sliding_window": None}),
        ("graphed-llama", "Llama", {}),
        ("graphed-llama-bias", "Llama", {"attention_bias": True, "mlp_bias": False, "tie_word_embeddings": True}),
        ("graphed-qwen2", "Qwen2", {}),
        ("graphed-qwen3", "Qwen3", {}),
        ("graphed-mistral", "Mistral", {"sliding_window": 5}),
    ],
)
def test_logits_are_those_of_transformers_itself(name, kind, settings):
    torch = pytest.importorskip("torch")
    tokens = random.Random(0).choices(range(VOCABULARY), k=30)
    with torch.inference_mode():
        expected = tiny(kind, **settings)(torch.tensor([tokens])).logits[0]
    same(fresh(made(name), tokens, 30), to_numpy(expected))


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma3_text", "mamba", "jamba", "recurrent_gemma"])
def test_logits_are_those_of_mlx_lm_itself(kind):
    mx = pytest.importorskip("mlx.core")
    pytest.importorskip("mlx_lm")
    tokens = random.Random(0).choices(range(VOCABULARY), k=30)
    expected = tiny_mlx.model(kind)(mx.array([tokens]))[0]
    same(fresh(of_mlx(kind)(), tokens, 30), to_numpy(expected))


@pytest.mark.parametrize(
    ("kind", "shares"), [("llama", True), ("qwen3", True), ("gemma3_text", True), ("mamba", False), ("jamba", False)]
)
def test_rows_of_mlx_models_share_passes_where_all_layers_attend(kind, shares):
    pytest.importorskip("mlx_lm")
    assert of_mlx(kind)().shares_passes == shares


class AnotherCode:
    """A model of mlx-lm whose code makes something else of its caches; it remembers the shapes of its inputs."""

    def __init__(self, inner, view=lambda layer: layer):
        self.inner, self.args, self.layers, self._view = inner, inner.args, inner.layers, view
        self.shapes = []
        if hasattr(inner, "make_cache"):
            self.make_cache = inner.make_cache

    def __call__(self, inputs, cache):
        self.shapes.append(inputs.shape)
        return self.inner(inputs, cache=[self._view(layer) for layer in cache])


class LayerView:
    def __init__(self, layer):
        self._layer = layer
        self.update_and_fetch, self.make_mask = layer.update_and_fetch, layer.make_mask

    @property
    def offset(self):
        return self._layer.offset


class OffsetOfTheFirstRow(LayerView):
    @property
    def offset(self):
        offset = self._layer.offset
        return offset if isinstance(offset, int) else int(offset[0].item())


class NoArrays(LayerView):
    @property
    def offset(self):
        return range(self._layer.offset).stop  # a TypeError for an array


class WindowUnsaid(LayerView):
    """Leaves it to the cache to know how far back its tokens see."""

    def __init__(self, layer):
        super().__init__(layer)
        self.make_mask = lambda width, return_array=False, window_size=None: layer.make_mask(
            width, return_array=return_array, window_size=None
        )


def test_mlx_caches_know_their_windows():
    pytest.importorskip("mlx_lm")
    from outrider.runtimes.mlx.model import MlxModel

    model = MlxModel(AnotherCode(tiny_mlx.model("gemma3_text"), WindowUnsaid))
    tokens = text(model, 20)
    same(fresh(model, tokens, 20), fresh(of_mlx("gemma3_text")(), tokens, 20))


@pytest.mark.parametrize("spoil", [OffsetOfTheFirstRow, NoArrays])
def test_mlx_models_whose_code_takes_no_offset_per_row_are_read_row_by_row(spoil):
    pytest.importorskip("mlx_lm")
    from outrider.runtimes.mlx.model import MlxModel

    model = MlxModel(AnotherCode(tiny_mlx.model("llama"), spoil))
    assert not model.shares_passes
    texts = [text(model, 5, 1), text(model, 9, 2)]
    found = model.open(2, CAPACITY).extend(Pass([0, 1], texts)).logits
    same(found, np.concatenate([fresh(of_mlx("llama")(), tokens, len(tokens)) for tokens in texts]))


def test_a_long_text_before_a_tree_is_not_torn_apart():
    pytest.importorskip("mlx_lm")
    from outrider.runtimes.mlx.model import MlxModel

    module = AnotherCode(tiny_mlx.model("llama"))
    model = MlxModel(module)
    session = model.open(1, CAPACITY)
    tokens = text(model, 40)
    module.shapes.clear()
    parents = [*range(-1, 36), 36, 36, 37]
    found = session.extend(Pass([0], [tokens], [parents], [5])).logits
    assert module.shapes == [(1, 38), (2, 1)]
    paths = [36, [37], [38], [37, 39]]
    stem = tokens[:37]
    expected = [fresh(model, stem[:36]), fresh(model, stem)]
    expected += [fresh(model, stem + [tokens[node] for node in path]) for path in paths[1:]]
    same(found, np.concatenate(expected))
    session.keep(0, [*range(37), 37, 39])
    same(session.extend(Pass([0], [[7]])).logits, fresh(model, [*stem, tokens[37], tokens[39], 7]))


def test_a_long_text_is_read_without_its_logits():
    pytest.importorskip("mlx_lm")
    from outrider.runtimes.mlx.model import MlxModel

    module = AnotherCode(tiny_mlx.model("llama"))
    model = MlxModel(module)
    session = model.open(2, 200)
    first, second = text(model, 100, 1), text(model, 70, 2)
    module.shapes.clear()
    found = session.extend(Pass([0, 1], [first, second], wanted=[2, 70])).logits
    assert module.shapes == [(1, 98), (2, 70)]
    expected = [model.open(1, 200).extend(Pass([0], [tokens])).logits for tokens in (first, second)]
    same(found, np.concatenate([to_numpy(expected[0])[-2:], to_numpy(expected[1])]))


def test_memory_grows_with_the_text():
    pytest.importorskip("mlx_lm")
    model = of_mlx("llama")()
    session = model.open(2, 1000)
    tokens = text(model, 600)
    session.extend(Pass([0, 1], [tokens[:10], tokens[:3]], wanted=[0, 0]))
    session.keep(0, range(10))
    session.keep(1, range(3))
    session.extend(Pass([0], [tokens[10:]], wanted=[0]))
    session.keep(0, range(590))
    found = session.extend(Pass([0, 1], [[5], [6]])).logits
    whole = model.open(2, 1000).extend(Pass([0, 1], [[*tokens, 5], [*tokens[:3], 6]], wanted=[1, 1])).logits
    same(found, to_numpy(whole))


def test_a_model_that_cannot_be_read_token_by_token_is_refused():
    pytest.importorskip("transformers")
    from outrider.runtimes.torch.model import TransformersModel

    recurrent_gemma = tiny("RecurrentGemma", lru_width=32, attention_window_size=6, conv1d_width=3)
    with pytest.raises(ModelError, match=r"gives other logits when a text is read token by token \(.*FunctionModel"):
        TransformersModel(recurrent_gemma)


@pytest.mark.parametrize(("kind", "steps"), [("torch-mamba", True), ("torch-jamba", True), ("torch-qwen3-next", False)])
def test_models_of_transformers_that_forget_what_was_before_are_read_token_by_token(kind, steps):
    session = made(kind).open(1, CAPACITY)
    assert session._readers[0].stepwise == steps


def test_a_model_that_forgets_what_hardly_mattered_is_found_out_too():
    pytest.importorskip("transformers")
    from outrider.runtimes.torch.model import TransformersModel

    model = TransformersModel(tiny("Mamba", **MAMBA, initializer_range=0.1))
    assert model.open(1, CAPACITY)._readers[0].stepwise


def test_int8_gives_a_token_the_same_logits_in_any_batch():
    torch = pytest.importorskip("torch")
    from outrider.runtimes.torch.linears import Int8Linear

    torch.manual_seed(0)
    linear = Int8Linear(torch.randn(40, 64), torch.randn(40))
    x = torch.randn(16, 64) * torch.logspace(-3, 3, 16)[:, None]
    together = linear(x)
    for row in range(16):
        assert torch.equal(linear(x[row : row + 1])[0], together[row])


def test_int8_products_are_close_despite_outliers():
    torch = pytest.importorskip("torch")
    from outrider.runtimes.torch.linears import Int8Linear

    torch.manual_seed(0)
    weight = torch.randint(-127, 128, (40, 64)).float() / 127  # of which int8 loses nothing
    weight[:, 0] = 1
    x = torch.randn(4, 64)
    x[:, 3] = 300  # an outlier, next to which one digit would leave nothing of the rest
    exact = x @ weight.T
    assert (Int8Linear(weight, None)(x) - exact).abs().max() < 0.05


# How far a node's logits may lie from those of its own path decoded alone, in shares of the largest logit: some ten
# roundings of the precision. With a mask that leaks or positions that are off they differ by far more.
TOLERANCES = {"float32": 1e-5, "float16": 1e-2, "bfloat16": 8e-2, "int8": 1e-3}


def in_precision(dtype):
    if dtype in ("float32", "int8"):
        return fused("Llama", dtype)()
    torch = pytest.importorskip("torch")
    from outrider.runtimes.torch.model import TransformersModel

    return TransformersModel(tiny("Llama").to(getattr(torch, dtype)))


def worst_node(model, seed=0):
    """The largest difference between a node's logits and those of its own path alone, over the largest logit."""
    parents = [-1, 0, 0, 1, -1, 4, 2, 4, 7, 3, 0]
    stem, tokens = text(model, 9, seed), text(model, len(parents), seed + 50)
    session = model.open(1, CAPACITY)
    session.extend(Pass([0], [stem], wanted=[0]))
    session.keep(0, range(len(stem)))
    found = to_numpy(session.extend(Pass([0], [tokens], [parents])).logits).astype(np.float64)
    paths = []
    for node, parent in enumerate(parents):
        paths.append([*(paths[parent] if parent >= 0 else []), tokens[node]])
    alone = np.concatenate([fresh(model, stem + path) for path in paths])
    return np.abs(found - alone).max() / np.abs(alone).max()


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_the_nodes_of_a_tree_are_right_in_every_precision(dtype):
    model = in_precision(dtype)
    assert max(worst_node(model, seed) for seed in range(5)) < TOLERANCES[dtype]


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_of_few_tokens_the_wanted_ones_are_read(dtype):
    """However few are fed: in bfloat16 copies of the first stand behind them."""
    model = fused("Llama", dtype)()
    for fed in range(1, 7):
        tokens = text(model, fed)
        everything = to_numpy(model.open(1, CAPACITY).extend(Pass([0], [tokens])).logits).astype(np.float64)
        for wanted in range(fed + 1):
            found = to_numpy(model.open(1, CAPACITY).extend(Pass([0], [tokens], wanted=[wanted])).logits).astype(
                np.float64
            )
            assert found.shape == (wanted, model.traits.vocab_size)
            allowed = TOLERANCES[dtype] * np.abs(everything).max()
            np.testing.assert_allclose(found, everything[fed - wanted :], rtol=0, atol=allowed)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("held", [0, 17, 96])
def test_a_long_text_is_what_it_is_in_short_pieces(dtype, held):
    """Attention over it is cut into pieces: every token has to see all that stands before it."""
    model = fused("Llama", dtype)()
    tokens = text(model, 240)
    session = model.open(1, 256)
    expected = []
    for first in range(0, len(tokens), 16):
        expected.append(to_numpy(session.extend(Pass([0], [tokens[first : first + 16]])).logits).astype(np.float64))
        session.keep(0, range(len(tokens[first : first + 16])))
    expected = np.concatenate(expected)
    session = model.open(2, 256)
    if held:
        session.extend(Pass([1], [tokens[:held]], wanted=[0]))
        session.keep(1, range(held))
    found = to_numpy(session.extend(Pass([1], [tokens[held:]])).logits).astype(np.float64)
    np.testing.assert_allclose(found, expected[held:], rtol=0, atol=TOLERANCES[dtype] * np.abs(expected).max())


@pytest.mark.parametrize("keys", [1, 32])
def test_a_long_text_is_cut_so_that_little_is_looked_at_in_vain(keys):
    pytest.importorskip("torch")
    from outrider.runtimes.torch.ragged_cache import PIECE, SHORT, Blocks

    for start in (0, 1, 31, 96, 200):
        for count in (1, 5, SHORT, SHORT + 1, 300, 512):
            pieces = Blocks(keys=keys).pieces(start, count)
            assert [place for piece in pieces for place in piece] == list(range(count))
            if count > SHORT:
                assert max(map(len, pieces)) <= PIECE
                assert all((start + piece.start) % keys == 0 for piece in pieces[1:])


def leaking(plan):
    """Every node sees the node before it, whoever its parent is."""
    sees = plan.sees.copy()
    for node in range(1, plan.counts[0]):
        sees[0, node, plan.starts[0] + node - 1] = True
    return replace(plan, sees=sees)


def by_index(plan):
    """Every node stands where its place among the tokens fed says."""
    places = np.arange(plan.starts[0], plan.starts[0] + plan.counts[0])
    return replace(plan, positions=places[None, :])


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("mistake", [leaking, by_index])
def test_a_leaking_mask_and_a_wrong_position_are_found(mistake, dtype, monkeypatch):
    model = in_precision(dtype)
    from outrider.runtimes.layout import Plan

    right = Plan.of.__func__

    def wrong(cls, ledger, rows, counts):
        plan = right(cls, ledger, rows, counts)
        chain = all(parent == node - 1 for node, parent in enumerate(ledger.parents(rows[0])))
        return plan if chain else mistake(plan)

    monkeypatch.setattr(Plan, "of", classmethod(wrong))
    assert worst_node(model) > 2 * TOLERANCES[dtype]


# Features: what a pass tells besides logits

# Of each model that gives hidden states, the one of transformers that it was made of.
SHOWING = {
    "llama": lambda: tiny("Llama"),
    "qwen3": lambda: tiny("Qwen3"),
    "mistral-sliding": lambda: tiny("Mistral", **SLIDING),
    "gemma3-sliding": lambda: tiny("Gemma3Text", **GEMMA),
    "gpt-neox": lambda: tiny("GPTNeoX"),
    "fused-llama": lambda: tiny("Llama"),
    "fused-qwen2": lambda: tiny("Qwen2"),
    "fused-qwen3": lambda: tiny("Qwen3"),
    "graphed-llama": lambda: tiny("Llama"),
    "graphed-qwen3": lambda: tiny("Qwen3"),
    "native-llama": lambda: tiny("Llama"),
    "native-qwen2": lambda: tiny("Qwen2"),
    "native-mistral-sliding": lambda: tiny("Mistral", **SLIDING),
}


def hidden_of(reference, tokens, layers):
    """[tokens, size] of each layer, from transformers' own forward."""
    import torch

    with torch.inference_mode():
        states = reference(torch.tensor([tokens]), output_hidden_states=True).hidden_states
    return [to_numpy(states[layer][0]).astype(np.float64) for layer in layers]


@pytest.mark.parametrize("name", SHOWING)
def test_hidden_states_are_those_of_transformers(name):
    model, reference = made(name), SHOWING[name]()
    last = model.traits.layers
    assert model.traits.hidden_size == 32
    for layers in ((0, 1, last), (last, 1)):
        features = Features(hidden=layers)
        session = model.open(2, CAPACITY)
        one, other = text(model, 9, 1), text(model, 5, 2)
        # Prompts in pieces, whose logits nobody wants; of every fed token the states are told.
        scored = session.extend(Pass([0, 1], [one[:6], other], wanted=[0, 1], features=features))
        truth = [hidden_of(reference, one, layers), hidden_of(reference, other, layers)]
        for found, of_one, of_other in zip(scored.hidden, *truth, strict=True):
            same(found, np.concatenate([of_one[:6], of_other]))
        session.keep(0, range(6))
        session.keep(1, range(5))
        # A tree behind row 0, and one token behind row 1.
        work = Pass([0, 1], [[*one[6:], 3, 4, 5], [7]], [[-1, 0, 1, 2, 2, 4], [-1]], [4, 1], features)
        scored = session.extend(work)
        assert len(scored.logits) == 5
        paths = ([*one, 3], [*one, 4, 5])
        truth = [hidden_of(reference, path, layers) for path in (*paths, [*other, 7])]
        for found, left, right, of_other in zip(scored.hidden, *truth, strict=True):
            same(found, np.concatenate([left[6:], right[-2:], of_other[-1:]]))


def test_the_most_probable_tokens_are_those_of_the_logits(model):
    session = model.open(2, CAPACITY)
    features = Features(top=3)
    scored = session.extend(Pass([0, 1], [text(model, 5, 1), text(model, 3, 2)], wanted=[2, 3], features=features))
    scored.wait()
    logits = to_numpy(scored.logits).astype(np.float64)
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    tokens, probabilities = to_numpy(scored.top.tokens), to_numpy(scored.top.probabilities)
    assert tokens.shape == probabilities.shape == (5, 3)
    np.testing.assert_allclose(probabilities, -np.sort(-p)[:, :3], rtol=1e-4)
    np.testing.assert_allclose(np.take_along_axis(p, tokens.astype(np.int64), -1), probabilities, rtol=1e-4)
    nothing = session.extend(Pass([0], [text(model, 2)], wanted=[0], features=features))
    assert nothing.top.tokens.shape == (0, 3)
    assert session.extend(Pass([0], [text(model, 1)])).top is None


def test_features_that_cannot_be_had_are_refused(model):
    session = model.open(1, CAPACITY)
    traits = model.traits
    unknown = Features(hidden=(traits.layers + 1,)) if traits.hidden_size else Features(hidden=(0,))
    why = "it has layers 0 to" if traits.hidden_size else "gives no hidden states"
    for features, message in ((unknown, why), (Features(top=traits.vocab_size + 1), "its vocabulary has")):
        with pytest.raises(InputError, match=message):
            session.extend(Pass([0], [text(model, 4)], features=features))
    same(session.extend(Pass([0], [text(model, 4)], wanted=[1])).logits, fresh(model, text(model, 4)))
