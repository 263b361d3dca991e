"""Mixtures of experts in the native runtime: their files, whatever the layout, and what cannot be true of them."""

import json
from dataclasses import replace

import numpy as np
import pytest

import outrider
from outrider import Engine, ModelError, Request, SamplingParams
from outrider.runtimes.backends import find_backend
from outrider.runtimes.llamacpp.checks import check_file
from outrider.runtimes.native import gguf
from outrider.runtimes.native.building import packed_as
from outrider.runtimes.native.description import Unknown
from runtimes.test_lying_gguf import setting
from runtimes.test_native import KINDS, at_once, module, opened, with_norms
from tiny import gguf as tiny_gguf
from tiny import native as tiny_native
from tiny.runtimes import tiny
from tiny.sessions import text

tiny_native.library()
MODEL = "qwen3_moe"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """As transformers saves it, a weight for each expert."""
    place = tmp_path_factory.mktemp("experts")
    module(MODEL).save_pretrained(place)
    return place


def changed(folder, place, tensors=lambda found: found, **config):
    """The folder with other weights or settings; a setting of None is left out."""
    from safetensors.numpy import load_file, save_file

    save_file(tensors(load_file(folder / "model.safetensors")), place / "model.safetensors")
    settings = json.loads((folder / "config.json").read_text()) | config
    (place / "config.json").write_text(json.dumps({key: value for key, value in settings.items() if value is not None}))
    return place


def fused(tensors):
    """The experts of a layer in two tensors, as transformers 5 has them in memory."""
    found = {name: tensor for name, tensor in tensors.items() if ".experts." not in name}
    count = len([name for name in tensors if name.startswith("model.layers.0.mlp.experts.") and "up_proj" in name])
    for layer in {name.split(".mlp.experts.")[0] for name in tensors if ".mlp.experts." in name}:
        each = [f"{layer}.mlp.experts.{expert}" for expert in range(count)]
        found[f"{layer}.mlp.experts.gate_up_proj"] = np.stack(
            [np.concatenate([tensors[f"{name}.{part}_proj.weight"] for part in ("gate", "up")]) for name in each]
        )
        found[f"{layer}.mlp.experts.down_proj"] = np.stack([tensors[f"{name}.down_proj.weight"] for name in each])
    return found


@pytest.mark.parametrize("dtype", ["q8_0", "float32"])
@pytest.mark.parametrize("kind", ["qwen3_moe", "mixtral", "qwen2_moe", "olmoe", "granitemoe"])
def test_experts_in_one_tensor_have_the_bits_of_experts_in_one_each(tmp_path, kind, dtype):
    """transformers 5 writes either; folders of the hub have a tensor for each."""
    module(kind).save_pretrained(tmp_path, save_original_format=False)
    joined, apart = tiny_native.open_folder(tmp_path, dtype), opened(kind, dtype)
    tokens = text(apart, 40)
    assert np.array_equal(at_once(joined, tokens), at_once(apart, tokens))
    assert find_backend(str(tmp_path)) == "native"


def in_mxfp4(tensors):
    """Weights of gpt-oss as folders of the hub have them: random blocks and scales."""
    draw = np.random.default_rng(3)
    for name in [name for name in tensors if name.endswith(("gate_up_proj", "down_proj"))]:
        experts, inputs, outputs = tensors.pop(name).shape
        tensors[f"{name}_blocks"] = draw.integers(0, 256, (experts, outputs, inputs // 32, 16)).astype(np.uint8)
        tensors[f"{name}_scales"] = draw.integers(122, 126, (experts, outputs, inputs // 32)).astype(np.uint8)
    return tensors


METHOD = {"quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}}


@pytest.fixture(scope="module")
def of_gpt_oss(tmp_path_factory):
    """Its width is whole blocks."""
    plain, place = tmp_path_factory.mktemp("plain"), tmp_path_factory.mktemp("mxfp4")
    name, sizes = KINDS["gpt_oss"]
    with_norms(tiny(name, **sizes | {"intermediate_size": 64})).save_pretrained(plain)
    return changed(plain, place, in_mxfp4, **METHOD)


def test_experts_in_mxfp4_are_what_transformers_computes(of_gpt_oss):
    import torch
    from transformers import AutoModelForCausalLM, Mxfp4Config

    model = tiny_native.open_folder(of_gpt_oss, "float32")
    tokens = text(model, 40)
    with torch.inference_mode():
        made = AutoModelForCausalLM.from_pretrained(
            of_gpt_oss, dtype=torch.float32, quantization_config=Mxfp4Config(dequantize=True)
        )
        expected = made(torch.tensor([tokens])).logits[0].numpy()
    np.testing.assert_allclose(at_once(model, tokens), expected, rtol=1e-4, atol=2e-3)


def test_experts_in_mxfp4_keep_their_numbers_beside_rounded_weights(of_gpt_oss):
    """Rounded to 8 bits they would take twice the memory."""
    assert find_backend(str(of_gpt_oss)) == "native"
    assert [packed_as("mxfp4", target) for target in ("q8_0", "q4_0", "f32")] == ["same", "same", "f32"]
    assert packed_as("bf16", "q8_0") == "q8_0"
    model, exact = (tiny_native.open_folder(of_gpt_oss, dtype) for dtype in ("q8_0", "float32"))
    tokens = text(model, 40)
    expected = at_once(exact, tokens)
    assert np.abs(at_once(model, tokens) - expected).mean() < 0.12 * expected.std()


MXFP4 = {
    "fewer-scales": ("_scales", lambda x: x[:, :, :0]),
    "fewer-experts": ("_scales", lambda x: x[:5]),
    "half-of-a-block": ("_blocks", lambda x: x[..., :8]),
    "flat-blocks": ("_blocks", lambda x: x.reshape(-1)),
    "a-scale-of-no-number": ("_scales", lambda x: np.full_like(x, 255)),
    "the-least-scale": ("_scales", lambda x: np.zeros_like(x)),
    "floats": ("_scales", lambda x: x.astype(np.float32)),
    "no-blocks": ("_blocks", lambda x: None),
}


@pytest.mark.parametrize("lie", MXFP4)
@pytest.mark.parametrize("part", ["gate_up_proj", "down_proj"])
def test_mxfp4_that_does_not_fit(tmp_path, of_gpt_oss, part, lie):
    end, change = MXFP4[lie]

    def spoilt(tensors):
        name = f"model.layers.1.mlp.experts.{part}{end}"
        tensors[name] = change(tensors[name])
        return {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items() if tensor is not None}

    refused(changed(of_gpt_oss, tmp_path, spoilt), "experts|mxfp4")


def test_the_parts_of_an_answer_of_gpt_oss_do_not_end_it(tmp_path):
    """As in llama.cpp: what other models end a turn with ends a part of its answer."""
    for further, ends in ((["<|return|>", "<|call|>"], {"<|return|>", "<|call|>"}), ([], {"<|end|>"})):
        words = [*tiny_gguf.WORDS, "<|end|>", *further]
        file = tiny_gguf.save(tmp_path / "tiny.gguf", "gpt-oss", words=words)
        stop = gguf.describe(check_file(file), file).stop
        assert {words[token] for token in stop} == {"</s>", *ends}


def refused(place, told):
    with pytest.raises(ModelError, match=told) as refusal:
        outrider.load(place, backend="native", threads=1)
    assert "\n" not in str(refusal.value)
    assert find_backend(str(place)) in ("torch", "native", "llama")


SETTINGS = {
    "no-experts": ({"num_local_experts": 0}, "num_local_experts is 0"),
    "experts-left-out": ({"num_local_experts": None}, "num_experts is None"),
    "experts-as-text": ({"num_local_experts": "many"}, "num_local_experts is 'many'"),
    "experts-true": ({"num_local_experts": True}, "num_local_experts is True"),
    "fewer-experts": ({"num_local_experts": 6}, "mlp.gate.weight has the shape"),
    "more-experts": ({"num_local_experts": 8}, "mlp.gate.weight has the shape"),
    "endless-experts": ({"num_local_experts": 10**18}, "mlp.gate.weight has the shape"),
    "none-used": ({"num_experts_per_tok": 0}, "num_experts_per_tok is 0"),
    "more-used": ({"num_experts_per_tok": 8}, "use 8 of 7 experts"),
    "half-of-one-used": ({"num_experts_per_tok": 0.5}, "num_experts_per_tok is 0.5"),
    "no-width": ({"moe_intermediate_size": 0}, "moe_intermediate_size is 0"),
    "another-width": ({"moe_intermediate_size": 40}, "gate_proj.weight has the shape"),
    "sum-of-weights-unsaid": ({"norm_topk_prob": None}, "norm_topk_prob is None"),
    "step-of-none": ({"decoder_sparse_step": 0}, "config.json holds a value of the wrong kind"),
    "step-as-text": ({"decoder_sparse_step": "one"}, "config.json holds a value of the wrong kind"),
    "plain-layers-as-number": ({"mlp_only_layers": 3}, "config.json holds a value of the wrong kind"),
    "experts-in-a-plain-layer": ({"mlp_only_layers": []}, "lack model.layers.1.mlp"),
    "a-plain-layer-with-experts": ({"mlp_only_layers": [0, 1]}, "lack model.layers.0.mlp.gate_proj"),
}


@pytest.mark.parametrize("lie", SETTINGS)
def test_settings_of_experts_that_cannot_be_true(tmp_path, folder, lie):
    config, told = SETTINGS[lie]
    refused(changed(folder, tmp_path, **config), told)


WEIGHTS = {
    "an-expert-less": lambda t: {name: x for name, x in t.items() if ".experts.6." not in name},
    "an-expert-of-another-width": lambda t: t | {UP: t[UP][:8]},
    "an-expert-turned-round": lambda t: t | {UP: np.ascontiguousarray(t[UP].T)},
    "no-router": lambda t: {name: x for name, x in t.items() if name != ROUTER},
    "a-router-of-another-width": lambda t: t | {ROUTER: t[ROUTER][:, :32].copy()},
    "a-flat-router": lambda t: t | {ROUTER: t[ROUTER].reshape(-1)},
    "joined-of-fewer": lambda t: (f := fused(t)) | {GATE_UP: f[GATE_UP][:6]},
    "joined-of-another-width": lambda t: (f := fused(t)) | {GATE_UP: f[GATE_UP][:, :24]},
    "joined-flat": lambda t: (f := fused(t)) | {DOWN: f[DOWN].reshape(-1)},
    "joined-of-nothing": lambda t: (f := fused(t)) | {DOWN: f[DOWN][:0]},
    "down-projections-missing": lambda t: {name: x for name, x in fused(t).items() if name != DOWN},
}
UP, ROUTER = "model.layers.0.mlp.experts.3.up_proj.weight", "model.layers.0.mlp.gate.weight"
GATE_UP, DOWN = "model.layers.0.mlp.experts.gate_up_proj", "model.layers.0.mlp.experts.down_proj"


@pytest.mark.parametrize("lie", WEIGHTS)
def test_weights_of_experts_that_do_not_fit(tmp_path, folder, lie):
    refused(changed(folder, tmp_path, WEIGHTS[lie]), "mlp")


FILES = {
    "no-experts": ("expert_count", 0, "2 of 0 experts"),
    "fewer-experts": ("expert_count", 5, "ffn_gate_inp.weight has the shape"),
    "more-experts": ("expert_count", 2**31 - 1, "2 of 2147483647 experts"),
    "none-used": ("expert_used_count", 0, "expert_used_count is 0"),
    "more-used": ("expert_used_count", 7, "uses 7 of 6 experts"),
    "another-width": ("expert_feed_forward_length", 16, "ffn_gate_exps.weight has the shape"),
    "no-width": ("expert_feed_forward_length", 0, "expert_feed_forward_length is 0"),
}


@pytest.mark.parametrize("lie", FILES)
def test_gguf_files_whose_experts_cannot_be_true(tmp_path, lie):
    key, value, told = FILES[lie]
    file = tiny_gguf.save(tmp_path / "tiny.gguf", "qwen3moe", words=tiny_gguf.WORDS)
    file.write_bytes(setting(file.read_bytes(), f"qwen3moe.{key}", value))
    refused(file, told)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("ffn_gate_inp", lambda x: x[:5]),
        ("ffn_gate_inp", lambda x: x.reshape(-1)),
        ("ffn_up_exps", lambda x: x[:5]),
        ("ffn_up_exps", lambda x: x[0]),
        ("ffn_down_exps", lambda x: x[:, :16]),
        ("ffn_down_exps", lambda x: None),
    ],
)
def test_gguf_files_whose_experts_have_other_shapes(tmp_path, part, change):
    name = f"blk.1.{part}.weight"
    tensors = tiny_gguf.weights("qwen3moe", 48)
    tensors |= {name: change(tensors[name])}
    tensors = {key: np.ascontiguousarray(tensor) for key, tensor in tensors.items() if tensor is not None}
    refused(tiny_gguf.save(tmp_path / "tiny.gguf", "qwen3moe", tensors=tensors), part)


@pytest.mark.parametrize(
    ("architecture", "key", "value"),
    [
        ("qwen3", "expert_count", 6),
        ("qwen3moe", "expert_gating_func", 2),  # sigmoid
        ("qwen3moe", "expert_weights_scale", 2.5),
        ("qwen3moe", "expert_group_count", 2),
        ("qwen3moe", "leading_dense_block_count", 1),
        ("qwen3moe", "expert_shared_feed_forward_length", 64),
        ("olmoe", "attention.clamp_kqv", 8.0),
    ],
)
def test_what_other_mixtures_do_is_refused_by_name(tmp_path, architecture, key, value):
    file = tiny_gguf.save(tmp_path / "tiny.gguf", architecture, words=tiny_gguf.WORDS)
    header = check_file(file)
    gguf.describe(header, file)
    with pytest.raises(Unknown, match=f"it has {architecture}.{key}"):
        gguf.describe(replace(header, values={**header.values, f"{architecture}.{key}": value}), file)


@pytest.mark.parametrize(
    ("architecture", "part"),
    [("mixtral", "ffn_up_shexp"), ("qwen3moe", "ffn_gate_inp_shexp"), ("qwen3", "ffn_up_exps")],
)
def test_experts_that_would_be_left_out_are_refused(tmp_path, architecture, part):
    tensors = tiny_gguf.weights(architecture, 48)
    tensors[f"blk.0.{part}.weight"] = np.zeros((32, 32), np.float32)
    refused(tiny_gguf.save(tmp_path / "tiny.gguf", architecture, tensors=tensors), f"it has blk.0.{part}")


def test_queries_that_are_clipped_are_refused(tmp_path):
    module("olmoe").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"clip_qkv": 8.0}))
    refused(tmp_path, "its clip_qkv is 8.0")


@pytest.mark.parametrize("drafter", ["suffix chain", "suffix tree"])
def test_greedy_speculation_says_what_plain_decoding_says(drafter):
    """Each token asks the same experts, however many are scored beside it."""
    model = opened(MODEL, "q8_0")
    prompts = [text(model, 20, seed) * 2 for seed in range(6)]
    chosen = outrider.SuffixDrafter() if drafter == "suffix chain" else outrider.SuffixTreeDrafter()

    def greedy(engine):
        handles = [
            engine.submit(Request(prompt, 24, SamplingParams(temperature=0), frozenset(), logprobs=True))
            for prompt in prompts
        ]
        events = []
        while not engine.idle:
            events += engine.step()
        return handles, sorted((event.sequence, event.index, event.token, event.logprob) for event in events)

    _, plain = greedy(Engine(model, max_rows=1, capacity=96))
    handles, drafted = greedy(Engine(model, chosen, max_rows=3, capacity=96, lookahead=4))
    assert sum(handle.stats.accepted for handle in handles) > 0
    assert drafted == plain
