"""What sessions of mlx-lm's models do beyond what every session does (test_sessions.py)."""

import numpy as np
import pytest

from outrider.maths.arrays import to_numpy
from outrider.runtimes.base import Pass
from tiny import mlx as tiny_mlx
from tiny.runtimes import of_mlx
from tiny.sessions import CAPACITY, fresh, same, text

pytest.importorskip("mlx_lm")

from outrider.runtimes.mlx.model import MlxModel


@pytest.mark.parametrize(
    ("kind", "shares"), [("llama", True), ("qwen3", True), ("gemma3_text", True), ("mamba", False), ("jamba", False)]
)
def test_rows_of_mlx_models_share_passes_where_all_layers_attend(kind, shares):
    assert of_mlx(kind).make().shares_passes == shares


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
    model = MlxModel(AnotherCode(tiny_mlx.model("gemma3_text"), WindowUnsaid))
    tokens = text(model, 20)
    same(fresh(model, tokens, 20), fresh(of_mlx("gemma3_text").make(), tokens, 20))


@pytest.mark.parametrize("spoil", [OffsetOfTheFirstRow, NoArrays])
def test_mlx_models_whose_code_takes_no_offset_per_row_are_read_row_by_row(spoil):
    model = MlxModel(AnotherCode(tiny_mlx.model("llama"), spoil))
    assert not model.shares_passes
    texts = [text(model, 5, 1), text(model, 9, 2)]
    found = model.open(2, CAPACITY).extend(Pass([0, 1], texts)).logits
    same(found, np.concatenate([fresh(of_mlx("llama").make(), tokens, len(tokens)) for tokens in texts]))


def test_a_long_text_before_a_tree_is_not_torn_apart():
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
    model = of_mlx("llama").make()
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
