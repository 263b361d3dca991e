"""The names of the package: imported when they are asked for, the same for type checkers and for programs."""

import ast
import importlib
import inspect
import pickle
import subprocess
import sys

import pytest

import outrider

HEAVY = ("numpy", "asyncio", "pydantic", "outrider.engine", "outrider.drafters")


def ran(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def imports():
    """The names that type checkers see, each with its module."""
    tree = ast.parse(inspect.getsource(outrider))
    found = [
        node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module.startswith("outrider.")
    ]
    return {alias.name: node.module for node in found for alias in node.names}


def test_importing_the_package_imports_nothing_heavy():
    assert ran(f"import outrider, sys; print([each for each in {HEAVY} if each in sys.modules])") == "[]"


def test_type_checkers_and_programs_see_the_same_names():
    assert sorted(imports()) == outrider.__all__
    for name, module in imports().items():
        assert getattr(outrider, name) is getattr(importlib.import_module(module), name), name


def test_all_names_are_shown_before_they_are_imported():
    code = "import outrider; print(sorted(set(outrider.__all__) - set(dir(outrider))))"
    assert ran(code) == "[]"


def test_a_star_brings_all_names():
    assert ran("from outrider import *; print(Engine.__name__, load.__name__)") == "Engine load"


def test_rooms_are_attributes():
    code = "import outrider; print(outrider.structured.json_schema.__name__, outrider.errors.__name__)"
    assert ran(code) == "json_schema outrider.errors"


@pytest.mark.parametrize("name", ["Engines", "engines", "_engine", "__wrapped__", "a.b"])
def test_other_names_are_refused(name):
    with pytest.raises(AttributeError, match=f"module 'outrider' has no attribute '{name}'"):
        getattr(outrider, name)


def test_pickles_are_read_where_nothing_was_asked_for():
    data = pickle.dumps([outrider.SamplingParams(temperature=0.5), outrider.JointDrafter, outrider.generate])
    code = f"import outrider, pickle; print(pickle.loads({data!r})[0].temperature)"
    assert ran(code) == "0.5"
    assert pickle.loads(data)[1:] == [outrider.JointDrafter, outrider.generate]
