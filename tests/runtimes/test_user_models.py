"""A user's model of transformers: what comes in which wrapper, that it is never changed, and what it may ask for."""

import copy
import sys
import threading
import warnings

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import outrider  # noqa: E402
from outrider import FunctionModel, ModelError, SamplingParams, SpeculativeDecoder, SuffixDrafter, SuffixTreeDrafter  # noqa: E402
from outrider.runtimes.base import Pass  # noqa: E402
from outrider.runtimes.loading import as_model  # noqa: E402
from outrider.runtimes.torch.model import TransformersModel  # noqa: E402
from tiny import runtimes  # noqa: E402

PROMPT = [3, 1, 4, 1, 5, 9, 2, 6, 5]
LONGEST = 16
GREEDY = SamplingParams(temperature=0)


def tiny(kind="Llama", seed=0, **settings):
    ends = {"bos_token_id": 1, "eos_token_id": None, "pad_token_id": 0}
    return runtimes.tiny(kind, seed, **{"max_position_embeddings": 128, **ends, **settings})


def generated(model, prompt=PROMPT):
    ids = torch.tensor([prompt])
    with torch.inference_mode():
        found = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=LONGEST)
    return found[0, len(prompt) :].tolist()


def decoded(model, prompt=PROMPT, drafter=None):
    return SpeculativeDecoder(drafter, model).generate(prompt, max_tokens=LONGEST, sampling=GREEDY).tokens


def contents(model):
    """All that a user could see of a model: objects and bits."""
    return {
        name: (module.training, list(vars(module)), *_tensors(module), *map(id, vars(module).values()))
        for name, module in model.named_modules()
    } | {"config": model.config.to_dict(), "attention": model.config._attn_implementation}


def _tensors(module):
    held = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    return [(name, id(each), each.tolist()) for name, each in held]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("kind", "settings"), [("Llama", {}), ("Gemma2", {}), ("Qwen3", {"sliding_window": 4})])
def test_a_model_is_bit_for_bit_what_it_was(kind, settings, training):
    model = tiny(kind, **settings).train(training)
    before = contents(model)
    decoded(model, drafter=SuffixDrafter())
    assert contents(model) == before


def test_a_model_in_training_mode_is_read_without_dropout():
    model = tiny("Phi3", resid_pdrop=0.5)
    expected = generated(model)
    model.train()
    assert [decoded(model) for _ in range(3)] == [expected] * 3
    assert model.training


def test_training_goes_on_and_is_seen():
    model = tiny()
    target = as_model(model)
    before = decoded(target)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
    assert decoded(target) == generated(model) != before


def test_nothing_is_duplicated():
    model = tiny()
    twin = as_model(model)._runs.module
    assert {id(each) for each in twin.parameters()} == {id(each) for each in model.parameters()}
    assert twin.config is not model.config


@pytest.fixture
def threads_that_take_turns_often():
    """A thread runs for a tenth of a millisecond, and not for the five of Python's default: several turns a pass."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("threads_that_take_turns_often")
def test_two_decoders_and_the_models_own_generate_in_three_threads():
    model, prompts = tiny(num_hidden_layers=1), [PROMPT[:4], PROMPT[:4:-1], [7, 7, 2]]
    expected = [generated(model, prompt) for prompt in prompts]
    before = contents(model)
    wrong = []

    def repeat(decode):
        try:
            for turn in range(40):
                which = turn % len(prompts)
                if decode(prompts[which]) != expected[which]:
                    wrong.append((decode, turn))
        except BaseException as error:
            wrong.append(error)

    decoders = [SpeculativeDecoder(SuffixDrafter(), model), SpeculativeDecoder(None, model)]
    calls = [
        lambda prompt, each=each: each.generate(prompt, max_tokens=LONGEST, sampling=GREEDY).tokens for each in decoders
    ]
    threads = [threading.Thread(target=repeat, args=(call,)) for call in (*calls, lambda p: generated(model, p))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert contents(model) == before


class Wrapper(torch.nn.Module):
    """As PEFT's PeftModel."""

    def __init__(self, model, prompt_learning=False):
        super().__init__()
        self.base_model = model
        self.peft_config = {"default": type("Setting", (), {"is_prompt_learning": prompt_learning})()}

    def get_base_model(self):
        return self.base_model

    def forward(self, *args, **kwargs):
        return self.base_model(*args, **kwargs)


class Unknown(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.inner = model

    def forward(self, ids):
        return self.inner(ids).logits


def test_wrappers_are_unwrapped():
    model = tiny(eos_token_id=7)
    for wrapper in (Wrapper(model), torch.compile(model), torch.compile(Wrapper(model))):
        found = as_model(wrapper)
        assert isinstance(found, TransformersModel)
        assert found.module is model
        assert found.traits.stop_token_ids == {7}
        assert found.traits.context_length == 128


def test_unknown_modules_around_a_model_are_refused():
    with pytest.raises(ModelError, match=r"Unknown around a model .* \(\.inner\)"):
        as_model(Unknown(tiny()))
    with pytest.raises(ModelError, match="learned tokens"):
        as_model(Wrapper(tiny(), prompt_learning=True))
    assert isinstance(as_model(torch.nn.Embedding(48, 48)), FunctionModel)


def test_a_model_compiled_in_place():
    """What was compiled was traced for the user's own calls; passes of Outrider's twin never run it."""
    runs = []

    def counting(graph, inputs):
        def run(*tensors):
            runs.append(graph)
            return graph.forward(*tensors)

        return run

    model = tiny(num_hidden_layers=1)
    expected = generated(model)
    model.compile(backend=counting)
    assert generated(model) == expected
    own = len(runs)
    assert own >= LONGEST
    target = as_model(model)
    assert target.shares_passes
    assert decoded(target, drafter=SuffixDrafter()) == expected
    assert len(runs) == own
    assert generated(model) == expected
    assert len(runs) == 2 * own


def test_offloaded_weights():
    accelerate = pytest.importorskip("accelerate")
    model = tiny()
    expected = generated(model)
    offloaded = accelerate.cpu_offload(copy.deepcopy(model), execution_device=torch.device("cpu"))
    assert offloaded.get_input_embeddings().weight.device.type == "meta"
    assert decoded(offloaded, drafter=SuffixDrafter()) == expected
    assert all(weight.device.type == "meta" for weight in offloaded.parameters())


def test_weights_on_the_disk(tmp_path):
    """Chains and trees, over weights that each pass reads from files."""
    accelerate = pytest.importorskip("accelerate")
    model = tiny()
    expected = generated(model)
    offloaded = accelerate.disk_offload(copy.deepcopy(model), str(tmp_path), execution_device=torch.device("cpu"))
    assert any(tmp_path.iterdir())
    assert decoded(offloaded, drafter=SuffixDrafter()) == expected
    assert decoded(offloaded, drafter=SuffixTreeDrafter()) == expected
    assert all(weight.device.type == "meta" for weight in offloaded.parameters())


def test_a_forward_replaced_by_a_function():
    model = tiny()
    mlp = model.model.layers[1].mlp
    own = mlp.forward
    mlp.forward = lambda x: 2 * own(x)
    assert decoded(model) == generated(model)
    with pytest.raises(ModelError, match=r"training mode .* call model.eval\(\)"):
        as_model(model.train())


def test_attention_sinks_are_computed_in_shared_passes():
    model = tiny("GptOss", num_local_experts=4, num_experts_per_tok=2, sliding_window=6)
    for layer in model.model.layers:
        torch.nn.init.normal_(layer.self_attn.sinks, std=3)
    target = as_model(model)
    assert target.shares_passes
    assert decoded(target, drafter=SuffixDrafter()) == generated(model)


def test_an_unknown_attention_argument_sends_a_model_to_replay(monkeypatch):
    from transformers.models.llama import modeling_llama

    own = modeling_llama.LlamaAttention.forward

    def forward(self, *args, **kwargs):
        return own(self, *args, unheard_of=1, **kwargs)

    monkeypatch.setattr(modeling_llama.LlamaAttention, "forward", forward)
    target = as_model(tiny())
    assert not target.shares_passes
    assert decoded(target, drafter=SuffixDrafter()) == generated(target.module)


@pytest.mark.parametrize("window", [6, 4096])
def test_a_window_that_only_the_mask_knows_sends_a_model_to_replay(monkeypatch, window):
    from transformers.models.mistral import modeling_mistral

    own = modeling_mistral.MistralAttention.forward

    def forward(self, *args, **kwargs):
        window, self.config.sliding_window = self.config.sliding_window, None
        try:
            return own(self, *args, **kwargs)
        finally:
            self.config.sliding_window = window

    monkeypatch.setattr(modeling_mistral.MistralAttention, "forward", forward)
    target = as_model(tiny("Mistral", sliding_window=window))
    assert not target.shares_passes
    assert decoded(target, drafter=SuffixDrafter()) == generated(target.module)


def test_a_mask_that_a_layer_makes_itself_sends_a_model_to_replay(monkeypatch):
    """It differs from the causal one only far back, where the trial does not look."""
    from transformers.models.llama import modeling_llama

    own = modeling_llama.LlamaAttention.forward

    def forward(self, *args, **kwargs):
        cache, width = kwargs["past_key_values"], kwargs["hidden_states"].shape[1]
        before = 0 if cache is None else cache.get_seq_length(self.layer_idx)
        queries, keys = before + torch.arange(width)[:, None], torch.arange(before + width)[None]
        seen = (keys <= queries) & (keys > queries - 20)
        return own(self, *args, **kwargs | {"attention_mask": seen[None, None]})

    monkeypatch.setattr(modeling_llama.LlamaAttention, "forward", forward)
    target = as_model(tiny())
    assert not target.shares_passes
    assert decoded(target, PROMPT * 4, SuffixDrafter()) == generated(target.module, PROMPT * 4)


FAR = {
    "a window in the mask alone": lambda batch, head, query, key: key > query - 20,
    "a window and the first tokens": lambda batch, head, query, key: (key > query - 20) | (key < 4),
}


@pytest.mark.parametrize("mask", FAR)
def test_a_mask_that_differs_only_far_back_sends_a_model_to_replay(monkeypatch, mask):
    from transformers.models.llama import modeling_llama

    own = modeling_llama.create_causal_mask
    monkeypatch.setattr(
        modeling_llama, "create_causal_mask", lambda *args, **kwargs: own(*args, **kwargs, and_mask_function=FAR[mask])
    )
    target = as_model(tiny())
    assert not target.shares_passes
    assert decoded(target, PROMPT * 4, SuffixDrafter()) == generated(target.module, PROMPT * 4)


def longrope(**settings):
    parameters = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 4,
        "long_factor": [8.0, 4.0, 9.0, 3.0],
        "original_max_position_embeddings": 32,
    }
    return tiny("Phi3", rope_parameters=parameters, original_max_position_embeddings=32, **settings)


def test_rotations_that_depend_on_the_longest_text_end_the_context():
    with pytest.warns(RuntimeWarning, match=r"up to 32 tokens here, not 128"):
        target = as_model(longrope())
    assert target.traits.context_length == 32
    with pytest.raises(outrider.InputError):
        decoded(target, prompt=PROMPT * 4)


def test_a_pass_never_leaves_its_rotations_in_the_users_model():
    model = longrope()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        target = as_model(model)
    rotation = model.model.rotary_emb
    generated(model, PROMPT * 5)  # beyond the switch
    long = rotation.inv_freq.clone()
    target.open(1, 32).extend(Pass([0], [PROMPT]))
    assert torch.equal(rotation.inv_freq, long)
    assert decoded(target) == generated(model)


def test_layers_that_pass_no_arguments_on_are_replayed():
    model = tiny("Nemotron")
    target = as_model(model)
    assert decoded(target, drafter=SuffixDrafter()) == generated(model)


def test_an_encoder_is_refused():
    model = transformers.BertLMHeadModel(
        transformers.BertConfig(
            vocab_size=48,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            initializer_range=0.4,
        )
    )
    with pytest.raises(ModelError, match="other logits when a text is read token by token"):
        as_model(model)


@pytest.mark.parametrize("window", [6, 4096])
def test_a_model_whose_cache_is_at_odds_with_its_mask_is_refused(monkeypatch, window):
    """As Moshi's: `generate` gives it a cache with a window, and its mask has none."""
    from transformers.models.mistral import modeling_mistral

    own = modeling_mistral.create_causal_mask
    monkeypatch.setattr(modeling_mistral, "create_sliding_window_causal_mask", own)
    with pytest.raises(ModelError, match="other logits when a text is read token by token"):
        as_model(tiny("Mistral", sliding_window=window))


def test_two_threads_do_not_leave_cudnn_off():
    from outrider.runtimes.torch.attention import without_cudnn

    before = torch.backends.cuda.cudnn_sdp_enabled()
    first, second = without_cudnn(), without_cudnn()
    first.__enter__()
    second.__enter__()  # of another thread, which begins before the first one ends, and ends after it
    first.__exit__(None, None, None)
    assert not torch.backends.cuda.cudnn_sdp_enabled()
    second.__exit__(None, None, None)
    assert torch.backends.cuda.cudnn_sdp_enabled() == before
