"""Flags in groups: what they mean together, and that typer sees each of them."""

from dataclasses import dataclass
from typing import Annotated, get_args

import numpy as np
import pytest
import typer
import typer.main
from calls import PROMPT, refusal

import outrider
from outrider import TableModel
from outrider.cli.options.drafters import DRAFTERS, drafter_named
from outrider.cli.options.drafting import DraftingOptions
from outrider.cli.options.group import flattened, option
from outrider.cli.options.models import ModelOptions, RuntimeOptions
from outrider.errors import ModelError, SettingError
from outrider.runtimes.backends import CacheDtype, Dtype


def lookahead_of(outrider, monkeypatch, *arguments):
    """What `generate` hands to the decoder."""
    handed = []

    def decoder(drafter, target, lookahead, **settings):
        handed.append(lookahead)
        raise ModelError("no need to go on")

    monkeypatch.setattr("outrider.cli.generate.SpeculativeDecoder", decoder)
    monkeypatch.setattr("outrider.load", lambda *arguments, **settings: TableModel(np.zeros((4, 4))))
    assert "no need" in refusal(outrider, PROMPT, *arguments)
    return handed[0]


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ((), None),
        (("--num-draft-tokens", 3), 3),
        (("--draft-max", 0), 0),
        (("--drafter", "none"), 0),
    ],
)
def test_the_lookahead_is_chosen_by_goodput_or_fixed(outrider, monkeypatch, arguments, expected):
    assert lookahead_of(outrider, monkeypatch, *arguments) == expected


@pytest.mark.parametrize(
    "arguments, first, most", [((), 16, 16), (("--draft-max", 3), 3, 16), (("--draft-max", 20), 20, 20)]
)
def test_or_driven_by_the_acceptance_rate(outrider, monkeypatch, arguments, first, most):
    speculator = lookahead_of(outrider, monkeypatch, "--adaptive", *arguments)
    assert (speculator.lookahead, speculator.max_lookahead) == (first, most)


def test_where_a_number_is_needed_each_drafter_has_its_own():
    kinds = [DRAFTERS[name] for name in ("suffix", "model", "none")]
    assert [DraftingOptions().lookahead(kind) for kind in kinds] == [16, 4, 0]
    assert [DraftingOptions(num_draft_tokens=7).lookahead(kind) for kind in kinds[:2]] == [7, 7]


@dataclass(frozen=True)
class Inner:
    depth: Annotated[int, option("--depth -d", "N", "How deep.")] = 3


@dataclass(frozen=True)
class Outer:
    name: Annotated[str, typer.Argument()]
    inner: Inner = Inner()
    often: Annotated[list[str] | None, option("--often", "TEXT", "Repeatable.")] = None


def flat_command(got):
    def command(outer: Outer, loud: Annotated[bool, option("--loud", None, "Loud.")] = False) -> None:
        """What it does."""
        got.append((outer, loud))

    return flattened(command)


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["x"], (Outer("x"), False)),
        (["x", "-d", "5", "--loud"], (Outer("x", Inner(5)), True)),
        (["--often", "a", "y", "--often", "b"], (Outer("y", often=["a", "b"]), False)),
    ],
)
def test_a_group_arrives_as_one_value_groups_within_it_included(arguments, expected):
    got = []
    app = typer.Typer()
    app.command()(flat_command(got))
    typer.main.get_command(app)(args=arguments, standalone_mode=False)
    assert got == [expected]


def test_a_flattened_command_keeps_its_name_and_its_help():
    command = flat_command([])
    assert (command.__name__, command.__doc__) == ("command", "What it does.")


def test_a_head_is_made_of_a_head_alone():
    target = outrider.TableModel.random(8, 1, seed=0)
    with pytest.raises(SettingError, match="needs a draft head"):
        drafter_named("head").open(lambda: target, target)


@pytest.mark.parametrize("name", [name for name in DRAFTERS if name != "head"])
def test_every_drafter_is_made_by_its_name(folder, name):
    kind = drafter_named(name)
    target = outrider.load(folder)
    drafter = kind.open(lambda: target, target)
    assert (drafter is None) == (name == "none")
    assert kind.needs_model == (name in ("model", "model-tree", "merged", "intersection", "string"))


def test_a_drafter_without_a_name_is_refused():
    with pytest.raises(SettingError, match="choose one of lookup, recycling, model, model-tree"):
        drafter_named("oracle")


def test_llama_cpp_stores_what_the_flags_name():
    pytest.importorskip("llama_cpp")
    from outrider.runtimes.llamacpp.loading import FILE_TYPES
    from outrider.runtimes.llamacpp.model import CACHE_TYPES

    assert get_args(CacheDtype) == tuple(CACHE_TYPES)
    assert set(get_args(Dtype)) - {"int4"} == {"auto", *FILE_TYPES}  # int4 is of PyTorch on a GPU alone


@pytest.mark.parametrize(
    "backend, name", [("torch", "lookup"), ("mlx", "lookup"), ("llama", "suffix"), ("native", "lookup")]
)
def test_each_runtime_has_the_default_that_pays_there(backend, name):
    models = ModelOptions(runtime=RuntimeOptions(backend=backend))
    assert DraftingOptions().kind(models).name == name
