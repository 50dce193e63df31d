"""How an answer is judged: by its numbers, one thing at a time.

Never by its source: whoever takes the softmax over all experts, picks the top k and normalises
again has written gpt-oss's router too. The order of diagnosis is type, shape, dtype, then the
first row that differs; a recognised mistake comes after that, from `core`.

Numbers are printed with as many decimals as it takes to see the difference, and no more; of
a text, the first line that differs (`texts`).
Limits: values are tensors, whole numbers, texts, truth values, lists of these, or tuples. A list
of tensors is not one of ints: a tensor is never found in a set, and prints as something else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from labhelpers.exercises.texts import (
    as_list,
    ids_difference,
    items_difference,
    quoted,
    text_difference,
)

MOST_VALUES = 6  # of a row, in a message
Show = Callable[[list[int]], str] | None


def difference(
    got: Any,
    expected: Any,
    tolerance: float,
    axes: Sequence[str] = (),
    outputs: Sequence[str] = (),
    show: Show = None,
) -> str:
    """Say where `got` differs from `expected`, or "" if it does not.

    tolerance: for |got - expected| / (1 + |expected|). axes: names of the leading dimensions
    ("token", "head"). outputs: names of the parts, if a tuple is expected. show: a list of ids
    as text, if the ids are tokens.
    """
    if got is None:
        return "It returned nothing (`None`): does the function end with `return`?"
    if isinstance(expected, tuple):
        if not isinstance(got, tuple | list) or len(got) != len(expected):
            return f"It must return {len(expected)} things: `{', '.join(outputs)}`."
        for name, a, b in zip(outputs, got, expected, strict=True):
            if a is None or b is None:  # a part may rightly be None
                if a is not b:
                    wanted = "a tensor" if isinstance(b, Tensor) else quoted(b)
                    return f"In `{name}`: expected {wanted}, got {quoted(a)}."
            elif found := difference(a, b, tolerance, axes):
                return f"In `{name}`: {found[0].lower()}{found[1:]}"
        return ""
    if isinstance(expected, Tensor):
        return _tensor_difference(got, expected, tolerance, axes)
    return _plain_difference(got, expected, tolerance, show)


def same(a: Any, b: Any, tolerance: float) -> bool:
    """Are two results equal within the tolerance? Results of any kind may be compared."""
    if isinstance(b, tuple):
        return (
            isinstance(a, tuple | list)
            and len(a) == len(b)
            and all(same(x, y, tolerance) for x, y in zip(a, b, strict=True))
        )
    if a is None or b is None:
        return a is b
    if isinstance(b, Tensor):
        return not _tensor_difference(a, b, tolerance, ())
    if isinstance(b, dict):
        return isinstance(a, dict) and a == b
    if isinstance(b, list):  # with types, for a wrong version may return a list of tensors
        return isinstance(a, list) and [_typed(v) for v in a] == [_typed(v) for v in b]
    return not _plain_difference(a, b, tolerance)


def largest_error(a: Tensor, b: Tensor) -> float:
    """max |a - b| / (1 + |b|), or infinity if shapes or dtypes differ (or one has a NaN)."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return float("inf")
    if not b.numel():
        return 0.0
    error = _errors(a, b).max().item()
    return error if error == error else float("inf")


def _errors(a: Tensor, b: Tensor) -> Tensor:
    a, b = a.detach().cpu().double(), b.detach().cpu().double()
    alike = (a == b) | (a.isnan() & b.isnan())  # an infinity less itself would be a NaN
    return ((a - b).abs() / (1 + b.abs())).masked_fill(alike, 0.0)


def _tensor_difference(got: Any, expected: Tensor, tolerance: float, axes: Sequence[str]) -> str:
    if not isinstance(got, Tensor):
        of_it = ""
        if isinstance(got, list | bytes | bytearray):
            made = "list(...)" if isinstance(got, bytes | bytearray) else "..."
            if expected.dtype == torch.uint8:  # else it would be int64
                made += ", dtype=torch.uint8"
            of_it = f" `torch.tensor({made})` makes one of it."
            if got and all(isinstance(value, Tensor) for value in got):
                of_it = " Of a list of tensors `torch.stack(...)` makes one."
        return f"Expected a tensor, got `{type(got).__name__}`.{of_it}"
    if got.is_meta or got.layout != expected.layout:
        kind = "meta" if got.is_meta else "sparse"
        return f"Expected a plain tensor with all its numbers, got a {kind} one."
    if got.shape != expected.shape:
        return f"Expected shape `{list(expected.shape)}`, got `{list(got.shape)}`."
    if got.dtype != expected.dtype:
        return f"Expected dtype `{_name(expected)}`, got `{_name(got)}`."
    bad = ~(_errors(got, expected) <= tolerance)  # a NaN is bad: it is not <= anything
    if not bad.any():
        return ""
    *index, column = [int(i) for i in bad.nonzero()[0]] if bad.dim() else [0]
    start = max(0, min(column - 2, expected.shape[-1] - MOST_VALUES)) if bad.dim() else 0

    def row(tensor: Tensor) -> list[float]:
        values = tensor.detach().cpu().double()[tuple(index)].reshape(-1)
        return values[start : start + MOST_VALUES].tolist()

    names = [axes[d] if d < len(axes) else "row" if not d else "index" for d in range(len(index))]
    places = [f"{name} {i}" for name, i in zip(names, index, strict=True)]
    where = ", ".join([*places, *([f"from column {start}"] if start else [])])
    wanted, given = _numbers(row(expected), row(got), not expected.is_floating_point())
    text = f"expected `{wanted}`, got `{given}`."
    return f"{where}: {text}".capitalize() if where else text.capitalize()


def _name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _numbers(expected: list[float], got: list[float], whole: bool) -> tuple[str, str]:
    """Both rows as text, with 2 to 7 decimals: as few as show that they differ."""
    for decimals in (0,) if whole else range(2, 8):
        texts = [" ".join(_number(v, decimals) for v in row) for row in (expected, got)]
        if texts[0] != texts[1]:
            break
    return texts[0], texts[1]


def _number(value: float, decimals: int) -> str:
    text = f"{value:.{decimals}f}"
    return text[1:] if text.startswith("-") and not text.strip("-0.") else text  # no -0.00


def _typed(value: Any) -> tuple[str, Any]:
    return type(value).__name__, value.tolist() if isinstance(value, Tensor) else value


def _plain_difference(got: Any, expected: Any, tolerance: float, show: Show = None) -> str:
    if isinstance(expected, str):
        return text_difference(got, expected)
    if isinstance(expected, list) and all(type(value) is int for value in expected):
        return _list_difference(got, expected, show)
    if isinstance(expected, list):
        return items_difference(got, expected)
    if isinstance(expected, bool):
        return "" if got is expected else f"Expected `{expected}`, got {quoted(got)}."
    if getattr(got, "shape", None) == ():  # of torch or of numpy
        got = got.item()
    if isinstance(got, Tensor):
        return f"Expected a number, got a tensor of shape `{list(got.shape)}`."
    if isinstance(got, bool) or not isinstance(got, int | float):
        return f"Expected a number, got `{type(got).__name__}`."
    if isinstance(expected, float):
        if abs(got - expected) <= tolerance * (1 + abs(expected)):
            return ""
        wanted, given = _numbers([expected], [got], False)
        return f"Expected `{wanted}`, got `{given}`."
    return "" if got == expected else f"Expected `{expected:,}`, got `{got:,}`."


def _list_difference(got: Any, expected: list[int], show: Show = None) -> str:
    if isinstance(got, Tensor):
        return "Expected a list of plain ints, got a tensor: `.tolist()` makes a list of it."
    if not isinstance(got, list):
        return f"Expected a list of plain ints, got `{type(got).__name__}`.{as_list(got)}"
    for value in got:
        if isinstance(value, Tensor):
            return (
                "Expected a list of plain ints, got a list of tensors: `int(...)` makes an int of "
                "a tensor with one number."
            )
        if type(value) is not int:
            return f"Expected a list of plain ints, but it holds a `{type(value).__name__}`."
    if show is not None:
        return ids_difference(got, expected, show)
    return "" if got == expected else f"Expected `{_listed(expected)}`, got `{_listed(got)}`."


def _listed(values: Sequence[Any]) -> str:
    shown = ", ".join(map(str, values[:12]))
    return f"[{shown}, ... {len(values) - 12} more]" if len(values) > 12 else f"[{shown}]"
