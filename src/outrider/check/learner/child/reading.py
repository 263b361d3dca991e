"""What the text of a function tells, where its results cannot."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

LIMITS = {"min", "minimum", "fmin", "where", "clamp_max"}
RANGES = {"clip", "clamp", "clamp_"}  # limits from above only with two bounds, or with `max`


def takes_a_ratio_without_min(function: Callable[..., Any]) -> bool:
    """Whether something like p / q is computed, and nothing limits it to 1. False where the text is not known."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError, ValueError):
        return False
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return any(map(_is_ratio, ast.walk(tree))) and not any(map(_limits, calls))


def _is_ratio(node: ast.AST) -> bool:
    """A division, but not by a sum or a temperature."""
    if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)):
        return False
    words = {_name(part) for part in ast.walk(node.right)}
    return not isinstance(node.right, ast.Constant) and not any("sum" in word or "temp" in word for word in words)


def _limits(call: ast.Call) -> bool:
    name = _name(call.func)
    if name in RANGES:
        bounds = len(call.args) + isinstance(call.func, ast.Attribute)
        return bounds >= 3 or any(keyword.arg in ("max", "a_max") for keyword in call.keywords)
    return name in LIMITS


def _name(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
