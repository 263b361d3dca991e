"""`custom_generate=outrider.generate` beside transformers' own loop, on a tiny model."""

import copy
import gc
import weakref

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import numpy as np  # noqa: E402
from scipy import stats  # noqa: E402

import outrider  # noqa: E402
from outrider import SettingError  # noqa: E402

VOCABULARY = 24
PAD = 0


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(3)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.4,
        eos_token_id=1,
        pad_token_id=PAD,
        bos_token_id=2,
    )
    return transformers.LlamaForCausalLM(config).eval()


@pytest.fixture
def batch():
    """Three prompts of different lengths, padded on the left."""
    prompts = [[3, 4, 5, 6, 3, 4], [7, 8], [9, 3, 4, 5]]
    longest = max(map(len, prompts))
    ids = torch.tensor([[PAD] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return {"input_ids": ids, "attention_mask": mask}


def alike(model, batch, **settings):
    """Both loops' texts of one call."""
    expected = model.generate(**batch, **settings)
    found = model.generate(**batch, custom_generate=outrider.generate, **settings)
    return expected, found


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"repetition_penalty": 1.3},
        {"no_repeat_ngram_size": 2},
        {"bad_words_ids": [[4], [5, 6]], "min_new_tokens": 20},
        {"eos_token_id": [1, 11]},
        {"max_length": 20},
    ],
    ids=str,
)
@pytest.mark.parametrize("drafter", ["lookup", None])
def test_greedy_batches_are_those_of_transformers(model, batch, settings, drafter):
    settings = {"max_new_tokens": 40, "do_sample": False} | settings
    if "max_length" in settings:
        del settings["max_new_tokens"]
    expected = model.generate(**batch, **settings)
    found = model.generate(**batch, custom_generate=outrider.generate, drafter=drafter, **settings)
    assert expected.tolist() == found.tolist()


def test_samples_have_the_distribution_of_transformers(model):
    settings = {"do_sample": True, "temperature": 0.8, "top_k": 12, "top_p": 0.9, "max_new_tokens": 2}
    ids = torch.tensor([[3, 4, 5]])
    many = {"num_return_sequences": 1500, **settings}
    torch.manual_seed(0)
    found = model.generate(ids, custom_generate=outrider.generate, max_rows=64, **many)[:, 3:]
    torch.manual_seed(0)
    expected = model.generate(ids, **many)[:, 3:]
    for column in range(2):
        counts = np.stack([np.bincount(each[:, column].numpy(), minlength=VOCABULARY) for each in (found, expected)])
        seen = counts[:, counts.sum(axis=0) >= 10]
        assert stats.chi2_contingency(seen).pvalue > 1e-4


def test_a_seed_of_torch_reproduces_samples(model, batch):
    def drawn(seed):
        torch.manual_seed(seed)
        return model.generate(
            **batch, custom_generate=outrider.generate, do_sample=True, max_new_tokens=20, rule="coupled"
        ).tolist()

    assert drawn(5) == drawn(5)
    assert drawn(5) != drawn(6)


def test_other_criteria_are_asked_after_every_token(model):
    class Third(transformers.StoppingCriteria):
        def __call__(self, input_ids, scores, **_):
            return torch.tensor([input_ids.shape[1] >= 6])

    ids = torch.tensor([[3, 4, 5]])
    expected, found = alike(model, {"input_ids": ids}, stopping_criteria=[Third()], max_new_tokens=30, do_sample=False)
    assert expected.tolist() == found.tolist()
    assert found.shape == (1, 6)


def test_a_dictionary_is_returned_where_it_is_asked_for(model):
    found = model.generate(
        torch.tensor([[3, 4, 5]]), custom_generate=outrider.generate, max_new_tokens=4, return_dict_in_generate=True
    )
    assert found.sequences.shape == (1, 7)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"num_beams": 3}, "num_beams is 3"),
        ({"output_scores": True, "return_dict_in_generate": True}, "output_scores is asked for"),
        ({"guidance_scale": 2.0}, "UnbatchedClassifierFreeGuidance"),
        ({"attention_mask": torch.tensor([[1, 0, 1]])}, "row 0 hides tokens within the text"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_it_does_not_do_is_refused_in_one_line(model, settings, said):
    with pytest.raises(SettingError, match=said) as refused:
        model.generate(torch.tensor([[3, 4, 5]]), custom_generate=outrider.generate, max_new_tokens=4, **settings)
    assert "\n" not in str(refused.value)


def test_a_recurrent_model_decodes_a_batch():
    torch.manual_seed(0)
    sizes = {"vocab_size": 48, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}
    config = transformers.MambaConfig(**sizes, initializer_range=0.4, eos_token_id=None, pad_token_id=0)
    model = transformers.MambaForCausalLM(config).eval()
    ids = torch.tensor([[3, 4, 5], [7, 8, 9]])
    expected, found = alike(model, {"input_ids": ids}, max_new_tokens=12, do_sample=False)
    assert expected.tolist() == found.tolist()
    read = model(ids[:1], use_cache=True).cache_params
    with pytest.raises(SettingError, match="cache_params holds a text"):
        model.generate(ids[:1], cache_params=read, custom_generate=outrider.generate, max_new_tokens=4)


def test_a_model_that_sees_pictures_decodes_text():
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = sizes | {"num_key_value_heads": 2, "head_dim": 8, "vocab_size": 48, "model_type": "gemma3_text"}
    eyes = sizes | {"image_size": 32, "patch_size": 16}
    torch.manual_seed(0)
    config = transformers.Gemma3Config(text_config=text, vision_config=eyes, eos_token_id=None, pad_token_id=0)
    model = transformers.Gemma3ForConditionalGeneration(config).eval()
    ids = torch.tensor([[3, 4, 5], [7, 8, 9]])
    expected, found = alike(model, {"input_ids": ids}, max_new_tokens=8, do_sample=False)
    assert expected.tolist() == found.tolist()


def test_weights_that_changed_since_are_seen(model):
    ids = torch.tensor([[3, 4, 5]])
    settings = {"max_new_tokens": 12, "do_sample": False, "custom_generate": outrider.generate}
    before = model.generate(ids, **settings)
    head = model.lm_head.weight
    with torch.no_grad():
        kept = head.clone()
        head.copy_(head.flip(0))
    try:
        expected = model.generate(ids, max_new_tokens=12, do_sample=False)
        assert model.generate(ids, **settings).tolist() == expected.tolist() != before.tolist()
    finally:
        with torch.no_grad():
            head.copy_(kept)


def test_a_model_that_is_used_no_more_is_let_go(model):
    mine = copy.deepcopy(model)
    mine.generate(torch.tensor([[3, 4, 5]]), custom_generate=outrider.generate, max_new_tokens=4)
    alive = weakref.ref(mine)
    del mine
    gc.collect()
    assert alive() is None
