"""Sessions for GPUs, with a device that stands for one: what is captured, copied, launched and read."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count

import numpy as np
import pytest

from tiny.runtimes import VOCABULARY, tiny
from tiny.sessions import CAPACITY, TOLERANCES, fresh, same, text, worst_node

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from outrider import (  # noqa: E402
    Engine,
    Fixed,
    Goodput,
    ModelDrafter,
    Request,
    SamplingParams,
    SuffixDrafter,
    SuffixTreeDrafter,
    load,
)
from outrider.maths import arrays  # noqa: E402
from outrider.maths.arrays import to_numpy  # noqa: E402
from outrider.runtimes.base import Pass  # noqa: E402
from outrider.runtimes.torch.cuda.device import Host  # noqa: E402
from outrider.runtimes.torch.cuda.model import GraphedLlama  # noqa: E402
from outrider.runtimes.torch.fused_llama import take_over  # noqa: E402
from outrider.runtimes.torch.model import TransformersModel  # noqa: E402
from tiny.standing import Stand, StandingDevice  # noqa: E402

GREEDY = SamplingParams(temperature=0)


class Counting(Host):
    """Counts what is captured, how often it is replayed, and waits."""

    def __init__(self) -> None:
        super().__init__()
        self.captured = self.replayed = self.waits = 0

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        self.captured += 1

        def replay() -> None:
            self.replayed += 1
            work()

        return replay

    def mark(self) -> Callable[[], None]:
        def wait() -> None:
            self.waits += 1

        return wait


def of_cpu(**settings):
    module = tiny("Llama", **settings)
    return TransformersModel(module, fused=take_over(module, "float32"))


@pytest.fixture
def device():
    return Counting()


@pytest.fixture
def model(device):
    return GraphedLlama.of(tiny("Llama"), device=device)


@pytest.fixture
def stand():
    with Stand() as stand:
        yield stand


@pytest.fixture
def standing(stand):
    return GraphedLlama.of(tiny("Llama"), device=StandingDevice(stand))


def read(session, row, tokens):
    session.extend(Pass([row], [tokens], wanted=[0]))
    session.keep(row, range(len(tokens)))


def test_a_bucket_is_captured_on_its_third_use_and_replayed_from_then_on(model, device):
    session = model.open(2, CAPACITY)
    tokens = text(model, 40)
    seen = []
    for number in range(5):
        found = session.extend(Pass([0], [tokens[3 * number : 3 * number + 3]]))
        same(found.logits, fresh(model, tokens[: 3 * number + 3], 3))
        session.keep(0, range(3))
        seen.append((device.captured, device.replayed, found.settled))
    assert seen == [(0, 0, False), (0, 0, False), (1, 1, False), (1, 2, True), (1, 3, True)]


def test_passes_of_unlike_shapes_share_a_bucket_where_padding_allows_it(model, device):
    session = model.open(4, CAPACITY)
    shapes = [(7, 1, 2), (8, 8, 8), (3, 7, 1), (5, 5, 7)]  # all padded to four rows of eight
    for shape in shapes:
        new = [text(model, count, count) for count in shape]
        found = session.extend(Pass([0, 2, 3], new)).logits
        same(found, np.concatenate([fresh(model, tokens, len(tokens)) for tokens in new]))
        for row in (0, 2, 3):
            session.truncate(row, 0)
    assert (device.captured, device.replayed) == (1, 2)


def test_a_long_prompt_is_never_captured(model, device):
    session = model.open(1, 256)
    tokens = text(model, 200)
    for _ in range(5):
        assert session.extend(Pass([0], [tokens], wanted=[1])).settled
        session.truncate(0, 0)
    assert device.captured == 0


def test_launch_waits_for_nothing_and_collect_for_the_pass(model, device):
    session = model.open(1, CAPACITY)
    found = session.extend(Pass([0], [text(model, 5)]))
    assert device.waits == 0
    found.wait()
    assert device.waits == 1


def test_an_area_that_is_being_copied_is_not_written_over(model, device):
    session = model.open(1, CAPACITY)
    for token in text(model, 9):
        session.extend(Pass([0], [[token]]))
        session.keep(0, [0])
    assert 0 < device.waits < 9  # for copies of some passes ago


def test_where_nothing_can_be_captured_passes_are_launched_and_said_to_be(monkeypatch):
    class Unable(Host):
        def capture(self, work):
            raise RuntimeError("operation not permitted when stream is capturing")

    model = GraphedLlama.of(tiny("Llama"), device=Unable())
    session = model.open(1, CAPACITY)
    tokens = text(model, 4)
    for token in tokens[:2]:
        read(session, 0, [token])
    with pytest.warns(RuntimeWarning, match="no graph of them can be captured: operation not permitted"):
        read(session, 0, tokens[2:3])
    same(session.extend(Pass([0], [tokens[3:]])).logits, fresh(of_cpu(), tokens))


def test_a_settled_pass_is_one_copy_and_one_launch_and_nothing_is_read(standing, stand):
    session = standing.open(2, CAPACITY)
    tree = [-1, 0, 0, 1]
    for number in range(5):
        before = stand.counts()
        session.extend(Pass([0, 1], [text(standing, 4, number)] * 2, [tree, None])).wait()
        session.keep(0, [0, 2])
        session.keep(1, range(3))
    after = stand.counts()
    assert after["copies"] - before["copies"] == 1
    assert after["reads"] == 0
    assert after["launches"] - before["launches"] <= 6  # the graph, the copy, and the branch of the pass before


@pytest.mark.parametrize("rows", [1, 3])
def test_a_session_takes_the_memory_that_the_engine_plans_for(standing, stand, rows):
    before = stand.allocated
    standing.open(rows, 20_000)
    taken = stand.allocated - before
    planned = rows * 20_000 * standing.traits.bytes_per_token
    assert planned < taken < 1.2 * planned


def test_a_branch_of_every_row_is_moved_at_once(standing, stand):
    session = standing.open(2, CAPACITY)
    stem = text(standing, 9)
    read(session, 0, stem)
    read(session, 1, stem[:4])
    tokens = text(standing, 6, 3)
    session.extend(Pass([0, 1], [tokens] * 2, [[-1, 0, 0, 1, 2, 4]] * 2))
    session.keep(0, [0, 2, 4, 5])
    session.keep(1, [0, 2])
    before = stand.counts()
    found = session.extend(Pass([0, 1], [[7], [8]])).logits
    paths = ([*stem, *(tokens[node] for node in (0, 2, 4, 5)), 7], [*stem[:4], tokens[0], tokens[2], 8])
    assert stand.copies - before["copies"] == 1
    for number, path in enumerate(paths):
        same(found[number : number + 1].cpu(), fresh(of_cpu(), path))


@pytest.mark.parametrize("rows", [(0,), (2, 0, 1)])
def test_a_draft_is_rolled_out_on_the_device_and_read_once(standing, stand, rows):
    texts = {row: text(standing, 5 + row, row) for row in rows}
    plain = of_cpu().open(3, CAPACITY)
    session = standing.open(3, CAPACITY)
    for row, tokens in texts.items():
        read(session, row, tokens)
        read(plain, row, tokens)
    for number in range(5):
        feeds = [[number + 1, row + 2] for row in rows]
        before = stand.counts()
        found = session.rollout(rows, feeds, 6, VOCABULARY - 5)
        used = {name: count - before[name] for name, count in stand.counts().items()}
        assert found == plain.rollout(rows, feeds, 6, VOCABULARY - 5)
        for row in rows:
            for each in (session, plain):
                each.keep(row, range(4))
    assert used["reads"] == 1
    assert used["copies"] == 2
    assert used["launches"] <= 12


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_nodes_of_a_tree_are_right_in_every_precision(dtype):
    model = GraphedLlama.of(tiny("Llama"), dtype=getattr(torch, dtype), device="cpu")
    assert max(worst_node(model, seed) for seed in range(3)) < TOLERANCES[dtype]


def test_a_prompt_may_be_longer_than_what_was_staged_before():
    settings = {"max_position_embeddings": 2048}
    tokens = text(of_cpu(), 1500)
    model = GraphedLlama.of(tiny("Llama", **settings), device="cpu")
    session, plain = model.open(1, 1600), of_cpu(**settings).open(1, 1600)
    for piece in (tokens[:1000], tokens[1000:]):
        found, expected = (each.extend(Pass([0], [piece], wanted=[2])).logits for each in (session, plain))
        for each in (session, plain):
            each.keep(0, range(len(piece)))
    same(found, to_numpy(expected))


def test_the_largest_and_the_most_probable_are_read_at_once(stand):
    logits = torch.randn(3, 50)
    there = logits.to("cuda")
    before = stand.reads
    values, tokens = arrays.largest(there)
    np.testing.assert_allclose(values, logits.max(-1).values)
    assert tokens.tolist() == logits.argmax(-1).tolist()
    assert stand.reads - before == 1
    tokens, probabilities = arrays.top_of_logits(there, 4)
    expected = torch.softmax(logits, -1).topk(4)
    assert tokens.tolist() == expected.indices.tolist()
    np.testing.assert_allclose(probabilities, expected.values, rtol=1e-5)
    assert stand.reads - before == 2


def texts_of(engine, prompts, tokens=24, **settings):
    handles = [engine.submit(Request(tuple(prompt), tokens, SamplingParams(**settings))) for prompt in prompts]
    while not engine.idle:
        engine.step()
    for handle in handles:
        assert handle.error is None
    return [handle.tokens for handle in handles]


DRAFTERS = {
    "nothing": lambda make: None,
    "suffix": lambda make: SuffixDrafter(),
    "suffix tree": lambda make: SuffixTreeDrafter(),
    "model": lambda make: ModelDrafter(make()),
}


@pytest.mark.parametrize("drafter", DRAFTERS)
@pytest.mark.parametrize("lookahead", [Fixed(4), Goodput()], ids=["fixed", "chosen"])
def test_greedy_text_is_that_of_the_session_for_cpus(drafter, lookahead):
    def graphed():
        return GraphedLlama.of(tiny("Llama"), device="cpu")

    prompts = [[3, 5, 7, 9] * 5, text(graphed(), 9, 4), text(graphed(), 17, 2)]
    plain = texts_of(Engine(of_cpu(), None, max_rows=3, capacity=128), prompts, temperature=0)
    engine = Engine(graphed(), DRAFTERS[drafter](graphed), lookahead=lookahead, max_rows=3, capacity=128)
    assert texts_of(engine, prompts, temperature=0) == plain


def even_clock():
    """Every pass takes as long as any other, so that rows share one, whatever else the machine does."""
    return map(float, count()).__next__


def rounds_of(engine, stand, rounds, *samplings):
    """What each round of two texts takes on the device."""
    for row in (0, 1):
        settings = replace(samplings[row % len(samplings)], seed=row)
        engine.submit(Request(tuple([3, 5, 7, 9 + row] * 5), 150, settings, stop_token_ids=frozenset()))
    found = []
    for _ in range(rounds):
        before = stand.counts()
        engine.step()
        found.append({name: now - before[name] for name, now in stand.counts().items()})
    return found


@pytest.mark.parametrize(("drafter", "reads"), [("nothing", 1), ("suffix", 1), ("suffix tree", 1), ("model", 2)])
def test_a_greedy_round_reads_once_and_once_more_for_the_draft_of_a_model(drafter, reads, standing, stand):
    """And launches 30 times at most, once its buckets are captured."""
    draft = DRAFTERS[drafter](lambda: GraphedLlama.of(tiny("Llama"), device=StandingDevice(stand)))
    engine = Engine(standing, draft, lookahead=Fixed(4), max_rows=2, capacity=200, clock=even_clock())
    used = rounds_of(engine, stand, 10, GREEDY)[-1]
    assert used["reads"] == reads
    assert used["copies"] <= 1 + 2 * (drafter == "model")
    assert used["launches"] <= 30


@pytest.mark.parametrize(
    ("drafter", "rule"), [("nothing", "token"), ("suffix", "token"), ("suffix tree", "coupled"), ("model", "block")]
)
def test_a_sampled_round_reads_twice_at_most_and_launches_thirty_times(drafter, rule, standing, stand):
    """Of rows of unlike settings, or with penalties, once what it does is captured and where they share a pass."""
    draft = DRAFTERS[drafter](lambda: GraphedLlama.of(tiny("Llama"), device=StandingDevice(stand)))
    engine = Engine(standing, draft, lookahead=Fixed(4), rule=rule, max_rows=2, capacity=200)
    sampling = SamplingParams(temperature=0.8, repetition_penalty=1.1 if drafter == "suffix" else 1.0)
    rounds = rounds_of(engine, stand, 16, sampling, replace(sampling, min_p=0.01, temperature=1.2))
    used = min(rounds[-7:], key=lambda each: each["launches"])
    assert used["reads"] == 1 + (drafter == "model")
    assert used["copies"] <= 2 + 3 * (drafter == "model")
    assert used["launches"] <= 10


@pytest.mark.parametrize(
    "rules",
    [("token",) * 3, ("block",) * 3, ("coupled",) * 3, ("token", "block", "coupled"), ("coupled", "token", "block")],
    ids="+".join,
)
def test_drafts_are_drawn_on_the_device_as_they_are_on_the_host(rules):
    """Rows of unlike settings, of which one is greedy, and unlike lookaheads."""
    prompts = [[3, 5, 7, 9] * 5, text(of_cpu(), 9, 4), text(of_cpu(), 17, 2)]
    samplings = [SamplingParams(temperature=0.7, seed=1), GREEDY, SamplingParams(top_k=9, top_p=0.9, seed=3)]
    found = []
    for make in (of_cpu, lambda: GraphedLlama.of(tiny("Llama"), device="cpu")):
        rounds = []
        engine = Engine(
            make(), ModelDrafter(make()), lookahead=Fixed(4), max_rows=3, capacity=128, observer=rounds.append
        )
        handles = [
            engine.submit(Request(tuple(prompt), 30, sampling, num_draft_tokens=4 - number, rule=rule))
            for number, (prompt, sampling, rule) in enumerate(zip(prompts, samplings, rules, strict=True))
        ]
        while not engine.idle:
            engine.step()
        # Which rows share a pass is a matter of time, and with it their order.
        drafted = [{part.sequence: part.draft for part in each.sequences} for each in rounds]
        found.append(([handle.tokens for handle in handles], drafted))
    assert found[0] == found[1]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_draft_model_with_a_bad_logit_is_dropped(bad):
    module = tiny("Llama")
    draft = GraphedLlama.of(module, device="cpu")
    draft.embedding()[7] = bad
    model = of_cpu()
    engine = Engine(model, ModelDrafter(draft), lookahead=Fixed(4), max_rows=1, capacity=128)
    with pytest.warns(RuntimeWarning, match="not a finite number"):
        (tokens,) = texts_of(engine, [[3, 7, 5]], seed=4)
    assert [tokens] == texts_of(Engine(model, None, max_rows=1, capacity=128), [[3, 7, 5]], seed=4)


def test_a_folder_that_is_opened_on_a_gpu_is_graphed_there(stand, tmp_path):
    tiny("Qwen2", tie_word_embeddings=True).save_pretrained(tmp_path)
    model = load(tmp_path, backend="torch", device="cuda", dtype="float32")
    assert isinstance(model, GraphedLlama)
    assert model.device.type == model.embedding().device.type == "cuda"
    assert model.traits.buckets.of(1, 5) == (1, 5)


WINDOWS = {
    "Mistral": {"sliding_window": 5},
    "Qwen2": {"sliding_window": 4, "use_sliding_window": True, "max_window_layers": 1},
}


@pytest.mark.parametrize("kind", WINDOWS)
@pytest.mark.parametrize("seed", range(3))
def test_windows_of_some_or_all_layers_are_kept(kind, seed):
    """Prompts, chains and trees, longer than a window and shorter."""
    from outrider.runtimes.torch.cuda.model import can_take_over

    settings = WINDOWS[kind] | {"max_position_embeddings": 1024}
    module = tiny(kind, **settings)
    assert can_take_over(module)
    models = (TransformersModel(tiny(kind, **settings)), GraphedLlama.of(module, device="cpu"))
    sessions = [model.open(2, 600) for model in models]
    random = np.random.default_rng(seed)
    for _ in range(4):
        count = int(random.choice([1, 7, 24, 140]))
        tokens = [random.integers(VOCABULARY, size=count).tolist(), random.integers(VOCABULARY, size=3).tolist()]
        tree = [int(random.integers(-1, node)) for node in range(count)]
        path = [count - 1]
        while tree[path[0]] != -1:
            path.insert(0, tree[path[0]])
        shapes = [tree if count > 1 and count < 60 else None, None]
        found = [session.extend(Pass([0, 1], tokens, shapes)).logits for session in sessions]
        same(found[1], to_numpy(found[0]))
        for session in sessions:
            session.keep(0, path if shapes[0] else range(count))
            session.keep(1, range(2))


def test_what_it_does_not_compute_is_left_to_others():
    from outrider.runtimes.torch.cuda.model import can_take_over

    growing = {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}
    assert not can_take_over(tiny("Llama", **growing))
