"""The native runtime computes the same bits in every shape, on every instruction set, and what others compute."""

import functools
import os
import threading
from unittest import mock

import gguf
import numpy as np
import pytest

from outrider import Engine, ModelError, Request, SamplingParams, SettingError
from outrider.maths.arrays import to_numpy, top_of_logits
from outrider.runtimes.base import Features, Pass
from tiny import native as tiny_native
from tiny.runtimes import GEMMA, SLIDING, tiny
from tiny.sessions import text

library = tiny_native.library()
SETS = library.instruction_sets()
DTYPES = ("q8_0", "q4_0", "bfloat16", "float32")
CAPACITY = 96
# Two rotations, as layers with windows and those without have them.
TWO_ROTATIONS = {
    "full_attention": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64}
# Sizes that are no whole tiles or blocks, more heads than one kernel takes, windows, biases, norms of heads, layers
# without rotation; scales and caps that no default is near.
KINDS = {
    "llama": ("Llama", {"attention_bias": True, "mlp_bias": True, "num_hidden_layers": 2}),
    "qwen2": (
        "Qwen2",
        {"hidden_size": 40, "intermediate_size": 72, "num_attention_heads": 10, "num_key_value_heads": 1},
    ),
    "qwen3": ("Qwen3", {"head_dim": 32, "tie_word_embeddings": True, "num_hidden_layers": 2}),
    "mistral": ("Mistral", SLIDING),
    "smollm3": ("SmolLM3", {"pad_token_id": 0}),
    # Three of seven experts, whose width is no whole tile, and a layer without.
    "qwen3_moe": (
        "Qwen3Moe",
        {
            "hidden_size": 40,
            "num_experts": 7,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 24,
            "norm_topk_prob": True,
            "mlp_only_layers": [1],
        },
    ),
    "mixtral": ("Mixtral", {"num_local_experts": 5, "num_experts_per_tok": 2, "num_hidden_layers": 2}),
    # Norms over all heads together.
    "olmoe": (
        "Olmoe",
        {
            "num_experts": 6,
            "num_experts_per_tok": 2,
            "norm_topk_prob": False,
            "num_hidden_layers": 2,
            "eos_token_id": 1,
        },
    ),
    # A shared expert, which is wider than the others, and weights whose sum is not 1.
    "qwen2_moe": (
        "Qwen2Moe",
        {
            "num_experts": 6,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 24,
            "shared_expert_intermediate_size": 40,
            "decoder_sparse_step": 2,
            "num_hidden_layers": 4,
        },
    ),
    # Queries that grow every 16 tokens.
    "ministral3": (
        "Ministral3",
        {
            "num_hidden_layers": 2,
            "pad_token_id": 0,
            "rope_parameters": {
                "type": "yarn",
                "rope_theta": 10000.0,
                "factor": 4.0,
                "original_max_position_embeddings": 16,
                "mscale": 1.0,
                "mscale_all_dim": 1.0,
                "llama_4_scaling_beta": 0.5,
            },
        },
    ),
    "seed_oss": ("SeedOss", {"num_hidden_layers": 2, "mlp_bias": True, "attention_out_bias": True}),
    "ernie4_5": ("Ernie4_5", {"num_hidden_layers": 2, "use_bias": True}),
    "glm4": ("Glm4", {"num_hidden_layers": 2, "pad_token_id": 0}),
    "exaone4": ("Exaone4", SLIDING | {"sliding_window_pattern": 3}),
    "hunyuan": ("HunYuanDenseV1", {"num_hidden_layers": 2}),
    # Biases, sinks, and windows in every other layer.
    "gpt_oss": (
        "GptOss",
        {
            "num_local_experts": 6,
            "num_experts_per_tok": 2,
            "num_hidden_layers": 2,
            "sliding_window": 5,
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 10000.0,
                "factor": 4.0,
                "original_max_position_embeddings": 64,
                "truncate": False,
            },
        },
    ),
    "gemma": ("Gemma", {"num_hidden_layers": 2}),
    "gemma2": (
        "Gemma2",
        {
            "sliding_window": 5,
            "query_pre_attn_scalar": 16,
            "attn_logit_softcapping": 3.0,
            "final_logit_softcapping": 5.0,
        },
    ),
    "granitemoe": (
        "GraniteMoe",
        {
            "num_local_experts": 6,
            "num_experts_per_tok": 2,
            "num_hidden_layers": 2,
            "embedding_multiplier": 3.0,
            "attention_multiplier": 0.2,
            "residual_multiplier": 0.5,
            "logits_scaling": 2.0,
        },
    ),
    "granite": (
        "Granite",
        {
            "embedding_multiplier": 3.0,
            "attention_multiplier": 0.2,
            "residual_multiplier": 0.5,
            "logits_scaling": 2.0,
            "attention_bias": True,
        },
    ),
    "phi3": (
        "Phi3",
        {
            "sliding_window": 5,
            "pad_token_id": 0,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
        },
    ),
    "olmo2": ("Olmo2", {"num_hidden_layers": 2}),
    "olmo3": ("Olmo3", GEMMA | {"rope_parameters": TWO_ROTATIONS | {"full_attention": YARN}}),
    "gemma3": ("Gemma3Text", GEMMA | {"query_pre_attn_scalar": 16, "rope_parameters": TWO_ROTATIONS}),
}
ROTATIONS = {
    "llama3": {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
    "linear": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0},
    "yarn": YARN,
}


@functools.cache
def module(kind):
    name, settings = KINDS[kind]
    made = tiny(name, **settings)
    # Which experts are chosen hangs on little: rounding shows with some weights more than with others.
    return made if "num_experts_per_tok" in settings and kind not in ("olmoe", "gpt_oss") else with_norms(made)


def with_norms(made):
    """Norms and biases of their own: new ones are all alike, so that one in another's place would not show."""
    import torch

    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if "norm" in name or name.endswith("bias"):
                weight += 0.1 * torch.randn(weight.shape)
    return made


def on(instruction_set):
    return mock.patch.dict(os.environ, OUTRIDER_NATIVE_ISA=instruction_set)


@functools.cache
def opened(kind, dtype, instruction_set=SETS[0], threads=1, cache_type=None):
    with on(instruction_set):
        return tiny_native.of_transformers(module(kind), dtype, threads, cache_type=cache_type)


def logits(session, *arguments, **named):
    return session.extend(Pass(*arguments, **named)).logits.copy()


def at_once(model, tokens):
    return logits(model.open(1, CAPACITY), [0], [tokens])


@pytest.fixture(params=SETS)
def instruction_set(request):
    return request.param


@pytest.fixture(params=[(kind, dtype) for kind in KINDS for dtype in DTYPES], ids="-".join)
def model(request, instruction_set):
    return opened(*request.param, instruction_set)


# The same bits


def test_a_token_has_the_same_bits_in_chains_pieces_batches_and_trees(model):
    tokens = text(model, 41)
    whole = at_once(model, tokens)
    for sizes in ((1,) * 41, (17, 1, 2, 3, 4, 5, 6, 3), (33, 8)):
        session, found, at = model.open(3, CAPACITY), [], 0
        for size in sizes:
            # Another text beside it, in a row of another length.
            found.append(
                logits(session, [2, 0], [tokens[at : at + size], text(model, 1 + at % 3, at)], wanted=[size, 1])
            )
            session.keep(2, range(size))
            session.keep(0, range(1))
            at += size
        found = np.concatenate([part[:size] for part, size in zip(found, sizes, strict=True)])
        assert np.array_equal(found, whole)
    session = model.open(2, CAPACITY)
    session.extend(Pass([1], [tokens[:30]], wanted=[0]))
    session.keep(1, range(30))
    # Each token of the text, and before each of them two others that lead elsewhere.
    tree, parents, true, above = [], [], [], -1
    for token in tokens[30:]:
        tree += [(token + 1) % 48, (token + 2) % 48, token]
        parents += [above, len(tree) - 3, above]
        above = len(tree) - 1
        true.append(above)
    found = logits(session, [1], [tree], [parents])
    assert np.array_equal(found[true], whole[30:])
    session.keep(1, true[:7])
    assert np.array_equal(logits(session, [1], [tokens[37:]]), whole[37:])


def test_an_adopted_prefix_has_the_bits_of_one_that_was_read(model):
    tokens = text(model, 41)
    whole = at_once(model, tokens)
    session = model.open(3, CAPACITY)
    for token in tokens[:35]:  # one by one, as an answer is written
        session.extend(Pass([0], [[token]], wanted=[0]))
        session.keep(0, [0])
    session.extend(Pass([1], [text(model, 40, 3)], wanted=[0]))
    session.keep(1, range(40))
    for length in (35, 33, 17, 16, 1):
        session.adopt(1, 0, length)
        assert np.array_equal(logits(session, [1], [tokens[length:]]), whole[length:])
    session.adopt(0, 0, 20)
    assert np.array_equal(logits(session, [0], [tokens[20:]]), whole[20:])


def test_output_has_the_same_bits_with_and_without_the_prefix_cache():
    model = opened("llama", "q4_0")
    prompt = text(model, 40)
    answers = []
    for caching in (True, False):
        engine = Engine(model, max_rows=2, capacity=CAPACITY, prefix_caching=caching)
        found, asked = [], prompt
        for seed in range(3):
            handle = engine.submit(Request(asked, 10, SamplingParams(seed=seed), frozenset(), logprobs=True))
            events = []
            while not engine.idle:
                events += engine.step()
            assert (handle.stats.cached_tokens > 30) == (caching and seed > 0)
            found.append([(event.token, event.logprob) for event in events])
            asked = [*asked, *handle.tokens, 3]
        answers.append(found)
    assert answers[0] == answers[1]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cache_type", ["float16", "float32"])
def test_every_instruction_set_has_the_bits_of_the_portable_one(kind, dtype, cache_type):
    portable = opened(kind, dtype, "portable", 1, cache_type)
    tokens = text(portable, 37)
    expected = at_once(portable, tokens)
    assert np.isfinite(expected).all()
    for other in SETS:
        assert np.array_equal(at_once(opened(kind, dtype, other, 1, cache_type), tokens), expected), other


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threads", [2, 3, 8])
@pytest.mark.parametrize("kind", ["llama", "qwen3_moe"])
def test_the_number_of_threads_changes_no_bit(kind, dtype, threads):
    one, several = (opened(kind, dtype, threads=count) for count in (1, threads))
    for length in (1, 7, 70):
        tokens = text(one, length, length)
        assert np.array_equal(at_once(one, tokens), at_once(several, tokens))


BLOCKS = [
    "q5_0",
    "q5_1",
    "q2_k",
    "q3_k",
    "q4_k",
    "q5_k",
    "q6_k",
    "iq4_nl",
    "iq4_xs",
    "mxfp4",
]  # whose numbers gguf tells
SIZES = [(16, 32), (48, 64), (33, 96), (130, 192)]
SIZES_OF_K = [(16, 256), (33, 512), (130, 768)]


@pytest.mark.parametrize(
    "kind, outputs, inputs",
    [
        (kind, *size)
        for kind in ["q8_0", "q4_0", "q4_1", "f32", "f16", "bf16", *BLOCKS]
        for size in (SIZES_OF_K if kind.endswith(("_k", "_xs")) else SIZES)
    ],
)
def test_products_are_those_of_the_numbers_in_the_file(kind, outputs, inputs, instruction_set):
    draw = np.random.default_rng(outputs)
    data, weights = (
        numbers_of_blocks(draw, kind, outputs, inputs) if kind in BLOCKS else numbers(draw, kind, outputs, inputs)
    )
    matrix = library.pack(data, kind, "same", outputs, inputs, [], 1)
    np.testing.assert_array_equal(matrix.numbers(), weights)
    for tokens in (1, 2, 3, 4, 5, 6, 7, 13):
        x = draw.normal(size=(tokens, inputs)).astype(np.float32)
        x[0] = 1.0  # the largest sums: all inputs are 127 when rounded
        x[1:2] = -1.0
        found = library.multiply(matrix, x, instruction_set)
        taken = (x if kind in ("f32", "f16", "bf16") else as_int8(x)).astype(np.float64)
        largest = np.abs(taken) @ np.abs(weights.T)
        assert (np.abs(found - taken @ weights.T) <= 2e-6 * largest).all()
        for token in range(tokens):
            assert np.array_equal(library.multiply(matrix, x[token : token + 1], instruction_set)[0], found[token])


def numbers(draw, kind, outputs, inputs):
    """Weights as GGUF files hold them, bytes, and what they stand for; with the extremes among them."""
    if kind in ("f32", "f16", "bf16"):
        plain = draw.normal(size=(outputs, inputs)).astype(np.float32)
        if kind == "bf16":
            halves = (plain.view(np.uint32) >> 16).astype(np.uint16)
            return halves.view(np.uint8).reshape(-1), (halves.astype(np.uint32) << 16).view(np.float32)
        plain = plain.astype(np.float16 if kind == "f16" else np.float32)
        return plain.view(np.uint8).reshape(-1), plain.astype(np.float32)
    blocks = (outputs, inputs // 32)
    scales = draw.normal(size=(*blocks, 1)).astype(np.float16)
    scale = scales.astype(np.float32)
    if kind == "q8_0":
        whole = draw.integers(-128, 128, (*blocks, 32)).astype(np.int8)
        whole[0] = -128
        parts, weights = [scales.view(np.uint8), whole.view(np.uint8)], scale * whole
    else:
        whole = draw.integers(0, 16, (*blocks, 32)).astype(np.uint8)
        whole[0] = 15
        packed = whole[..., :16] | whole[..., 16:] << 4
        if kind == "q4_0":
            parts, weights = [scales.view(np.uint8), packed], scale * (whole.astype(np.float32) - 8)
        else:
            least = draw.normal(size=(*blocks, 1)).astype(np.float16)
            parts = [scales.view(np.uint8), least.view(np.uint8), packed]
            weights = scale * whole + least.astype(np.float32)
    data = np.ascontiguousarray(np.concatenate(parts, axis=-1)).reshape(-1)
    return data, weights.reshape(outputs, inputs).astype(np.float32)


def numbers_of_blocks(draw, kind, outputs, inputs):
    """The same for any bytes: all of them are weights, but for the float16 scales at the ends of a block."""
    size, bytes_of_block = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind.upper()]]
    blocks = draw.integers(0, 256, (outputs, inputs // size, bytes_of_block)).astype(np.uint8)
    blocks[0] = 255  # all numbers and scales the largest ones
    if kind == "mxfp4":  # a byte has the exponent of the scale
        blocks[0], blocks[..., 0] = 119, draw.integers(119, 130, blocks.shape[:2])
    halves = {"q2_k": -2, "q3_k": -1, "q6_k": -1, "q5_1": 2, "q4_k": 2, "q5_k": 2}.get(kind, 1)
    scales = draw.normal(size=(*blocks.shape[:2], abs(halves))).astype(np.float16).view(np.uint8)
    at = slice(None, scales.shape[-1]) if halves > 0 else slice(-scales.shape[-1], None)
    if kind != "mxfp4":
        blocks[..., at] = scales
    weights = gguf.quants.dequantize(blocks.reshape(outputs, -1), gguf.GGMLQuantizationType[kind.upper()])
    return blocks.reshape(-1), weights.astype(np.float32)


def as_int8(x):
    """Activations, rounded in blocks of 32."""
    blocks = x.reshape(len(x), -1, 32)
    most = np.abs(blocks).max(-1, keepdims=True)
    return (np.rint(blocks * (np.float32(127) / most)) * (most / np.float32(127))).reshape(x.shape)


# What others compute


def reference(kind, tokens):
    import torch

    with torch.inference_mode():
        return to_numpy(module(kind)(torch.tensor([tokens])).logits[0])


@pytest.mark.parametrize("kind", KINDS)
def test_float32_is_what_transformers_computes(kind):
    model = opened(kind, "float32")
    tokens = text(model, 60)
    np.testing.assert_allclose(at_once(model, tokens), reference(kind, tokens), rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype, most", [("bfloat16", 0.02), ("q8_0", 0.12), ("q4_0", 0.7)])
def test_rounded_weights_are_near(kind, dtype, most):
    """In shares of the standard deviation of the logits, on average: weights are large, and errors grow."""
    model = opened(kind, dtype)
    tokens = text(model, 60)
    expected = reference(kind, tokens)
    assert np.abs(at_once(model, tokens) - expected).mean() < most * expected.std()


@pytest.mark.parametrize("kind", ["mistral", "gemma2", "gemma3", "olmo3", "phi3", "gpt_oss"])
@pytest.mark.parametrize("window", [1, 59, 60, 200])
def test_windows_are_those_of_transformers(kind, window):
    import torch

    name, settings = KINDS[kind]
    made = tiny(name, **settings | {"sliding_window": window})
    model = tiny_native.of_transformers(made, "float32")
    tokens = text(model, 60)
    with torch.inference_mode():
        expected = to_numpy(made(torch.tensor([tokens])).logits[0])
    np.testing.assert_allclose(at_once(model, tokens), expected, rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_rotations_are_those_of_transformers(rotation):
    import torch

    made = tiny("Llama", rope_parameters=ROTATIONS[rotation])
    model = tiny_native.of_transformers(made, "float32")
    tokens = text(model, 90)
    with torch.inference_mode():
        expected = to_numpy(made(torch.tensor([tokens])).logits[0])
    np.testing.assert_allclose(at_once(model, tokens), expected, rtol=1e-4, atol=3e-3)


# The most probable tokens


def most_probable(model, tokens, count, sizes=None):
    session, found = model.open(1, CAPACITY), []
    for size in sizes or [len(tokens)]:
        part, tokens = tokens[:size], tokens[size:]
        found.append(session.extend(Pass([0], [part], features=Features(top=count))).top)
        session.keep(0, range(size))
    return np.concatenate([top.tokens for top in found]), np.concatenate([top.probabilities for top in found])


@functools.cache
def wide(kind="llama", instruction_set=SETS[0], threads=1):
    """A vocabulary of several groups and pieces, the last ones incomplete, in which every token has a double."""
    made = tiny(KINDS[kind][0], **KINDS[kind][1], vocab_size=9001)
    weights = made.lm_head.weight.data
    weights[4500:9000] = weights[:4500].clone()
    with on(instruction_set):
        return tiny_native.of_transformers(made, "q8_0", threads)


@pytest.mark.parametrize("count", [1, 2, 7, 64])
def test_the_most_probable_tokens_are_those_that_numpy_finds(count, instruction_set):
    model = wide(instruction_set=instruction_set)
    tokens = text(model, 12)
    found, probabilities = most_probable(model, tokens, count)
    expected, of_numpy = top_of_logits(at_once(model, tokens), count)
    assert np.array_equal(found, expected)
    np.testing.assert_allclose(probabilities, of_numpy, rtol=1e-5)
    assert probabilities.dtype == np.float32


def test_the_most_probable_tokens_have_the_same_bits_in_every_shape_and_set_and_number_of_threads():
    tokens = text(wide(), 21)
    found, probabilities = most_probable(wide(), tokens, 8)
    for model, sizes in [(wide(), [1] * 21), (wide(threads=3), [5, 16])] + [
        (wide(instruction_set=s), None) for s in SETS
    ]:
        again = most_probable(model, tokens, 8, sizes)
        assert np.array_equal(again[0], found)
        assert np.array_equal(again[1], probabilities)


def test_more_tokens_than_groups_are_found():
    model = opened("llama", "q8_0")
    tokens, size = text(model, 5), model.traits.vocab_size
    found, probabilities = most_probable(model, tokens, size)
    assert np.array_equal(found, top_of_logits(at_once(model, tokens), size)[0])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


# Numbers that are none


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_the_most_probable_tokens_of_a_row_that_is_no_number_are_nan(value, instruction_set, monkeypatch):
    monkeypatch.setenv("OUTRIDER_NATIVE_ISA", instruction_set)
    made = tiny("Llama")
    made.model.embed_tokens.weight.data[5, 3] = value
    top = tiny_native.of_transformers(made, "float32").open(1, CAPACITY)
    top = top.extend(Pass([0], [[1, 2, 5]], features=Features(top=4))).top
    assert np.isnan(top.probabilities[2]).all()
    assert np.isfinite(top.probabilities[:2]).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_reaches_its_own_text_alone(dtype, value, instruction_set, monkeypatch):
    monkeypatch.setenv("OUTRIDER_NATIVE_ISA", instruction_set)
    made = tiny("Llama")
    made.model.embed_tokens.weight.data[5, 3] = value
    model = tiny_native.of_transformers(made, dtype)
    sound, spoilt = [1, 2, 3, 4], [1, 5, 3, 4]
    expected = at_once(model, sound)
    session = model.open(2, CAPACITY)
    found = logits(session, [0, 1], [spoilt, sound])
    assert np.isnan(found[1:4]).all()
    assert np.array_equal(found[4:], expected)
    session.keep(0, range(4))
    session.release(0)
    assert np.array_equal(logits(session, [0], [sound]), expected)
    # In another branch of a tree it stands among the slots that are scored.
    session = model.open(1, CAPACITY)
    found = logits(session, [0], [[1, 5, 2, 3, 4]], [[-1, 0, 0, 2, 3]])
    assert np.array_equal(found[[0, 2, 3, 4]], expected)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_activations_that_are_no_numbers_spoil_quantised_products(value, instruction_set):
    data, _ = numbers(np.random.default_rng(0), "q8_0", 16, 64)
    matrix = library.pack(data, "q8_0", "same", 16, 64, [], 1)
    x = np.ones((2, 64), dtype=np.float32)
    x[1, 40] = value
    found = library.multiply(matrix, x, instruction_set)
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()


# Sessions side by side


def test_many_sessions_at_once_have_the_bits_of_each_alone():
    model = opened("llama", "q8_0", threads=3)
    texts = [text(model, 30, seed) for seed in range(6)]
    expected = [at_once(model, tokens) for tokens in texts]
    found = [None] * len(texts)

    def decode(place):
        for _ in range(20):
            session = model.open(1, CAPACITY)
            first = logits(session, [0], [texts[place][:11]])
            found[place] = np.concatenate([first, logits(session, [0], [texts[place][11:]])])

    threads = [threading.Thread(target=decode, args=(place,)) for place in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_goes_on():
    model = opened("llama", "q8_0", threads=3)
    tokens = text(model, 30)
    expected = at_once(model, tokens)
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(at_once(model, tokens), expected) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_logits_that_are_held_outlive_the_session():
    model = opened("llama", "q8_0")
    session = model.open(1, CAPACITY)
    held = session.extend(Pass([0], [text(model, 2)])).logits
    copy = held.copy()
    session.extend(Pass([0], [text(model, 40)]))  # needs more memory than there was
    del session
    assert np.array_equal(held, copy)


def test_hidden_states_have_the_same_bits_in_pieces():
    model = opened("llama", "q8_0")
    tokens, layers = text(model, 20), Features(hidden=(0, 1, model.traits.layers))
    whole = model.open(1, CAPACITY).extend(Pass([0], [tokens], features=layers)).hidden
    session = model.open(1, CAPACITY)
    parts = [session.extend(Pass([0], [tokens[at : at + 5]], features=layers)).hidden for at in range(0, 20, 5)]
    for layer, found in zip(whole, zip(*parts, strict=True), strict=True):
        assert np.array_equal(np.concatenate(found), layer)


# Settings and refusals


def test_an_instruction_set_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setenv("OUTRIDER_NATIVE_ISA", "avx1024")
    with pytest.raises(SettingError, match=r"OUTRIDER_NATIVE_ISA is avx1024: this processor runs .*portable"):
        tiny_native.of_transformers(tiny("Llama"))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"dtype": "int8"}, "dtype int8 is not of the native runtime: choose one of q8_0"),
        ({"device": "cuda"}, "the native runtime runs on the CPU"),
        ({"cache_type": "q8_0"}, "cache_type q8_0 is not of the native runtime"),
    ],
)
def test_settings_of_other_runtimes_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        tiny_native.of_transformers(tiny("Llama"), **settings)


def test_other_families_are_refused_with_where_they_go():
    with pytest.raises(ModelError, match="its architecture is GPTNeoXForCausalLM; choose backend torch or llama"):
        tiny_native.of_transformers(tiny("GPTNeoX"))


@pytest.mark.parametrize(
    "rows",
    [
        ([1], [0], [[-1]], [[1]], [1], []),
        ([0], [CAPACITY], [[-1]], [[1]], [1], []),
        ([0], [0], [[0]], [[1]], [1], []),
        ([0], [0], [[-1]], [[48]], [1], []),
        ([0], [0], [[-1]], [[-1]], [1], []),
        ([0], [0], [[-1]], [[]], [0], []),
        ([0], [0], [[-1]], [[1]], [2], []),
        ([0], [0], [[-1]], [[1, 2]], [1], []),
        ([0], [0], [[-1]], [[1]], [1], [9]),
        ([0], [], [[-1]], [[1]], [1], []),
    ],
)
def test_the_library_itself_refuses_what_would_lead_out_of_its_memory(rows):
    compiled = library.Session(opened("llama", "q8_0").compiled, 1, CAPACITY, True)
    with pytest.raises(ValueError):
        compiled.forward(*rows)


@pytest.mark.parametrize("sources, target", [([CAPACITY], 0), ([-1], 0), ([3, 2], 0), ([1, 2], 2), ([1, 2], CAPACITY)])
def test_the_library_itself_refuses_moves_out_of_its_memory(sources, target):
    compiled = library.Session(opened("llama", "q8_0").compiled, 1, CAPACITY, True)
    with pytest.raises(ValueError):
        compiled.move(0, sources, target)


@pytest.mark.parametrize("row, source, count", [(2, 0, 1), (0, 2, 1), (0, 1, CAPACITY + 1)])
def test_the_library_itself_refuses_copies_out_of_its_memory(row, source, count):
    compiled = library.Session(opened("llama", "q8_0").compiled, 2, CAPACITY, True)
    with pytest.raises(ValueError):
        compiled.copy(row, source, count)
