"""Plain values held against the signature of the class they are meant for: unknown, missing, of another type."""

from __future__ import annotations

import difflib
import inspect
import os
import sys
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import Any

from omegaconf import MISSING


def nearest(word: str, names: Iterable[str], otherwise: str = "") -> str:
    """How to mend a wrong name."""
    valid = sorted(names)
    close = difflib.get_close_matches(word, valid, n=1)
    return f"did you mean {close[0]}?" if close else otherwise or f"choose from {', '.join(valid) or 'nothing: there is none'}"


def arguments(path: str, cls: type, given: Mapping[Any, Any]) -> Iterator[str]:
    """What is wrong with the arguments of a class: unknown, missing, or of another type than the signature says."""
    parameters = inspect.signature(cls).parameters
    names = [n for n, p in parameters.items() if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    dot = f"{path}." if path else ""
    for key, value in given.items():
        if isinstance(key, bool):
            yield f"{dot}{key}: YAML reads on, off, yes and no as booleans -> use another word or quote it"
        elif str(key).startswith("_"):
            continue  # _walk has refused it
        elif key not in names:
            yield f"{dot}{key}: unknown argument -> {nearest(str(key), names)}"
        elif value != MISSING and not _fits(value, hint := _hint(cls, parameters[key])):
            yield f"{dot}{key}: {value!r} is of type {type(value).__name__} -> give {_words(hint)}"
    for name in names:
        if name not in given and parameters[name].default in (inspect.Parameter.empty, MISSING):
            yield f"{dot}{name}: is missing -> give it a value"


def _hint(cls: type, parameter: inspect.Parameter) -> Any:
    """The type of a parameter; Any where its annotation cannot be evaluated, as with imports for type checkers only."""
    holder = types.SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
    if parameter.annotation is parameter.empty:
        return Any
    names = getattr(inspect.getattr_static(cls, "__init__"), "__globals__", vars(sys.modules[cls.__module__]))
    try:
        return typing.get_type_hints(holder, names)[parameter.name]
    except NameError:
        return Any


def _fits(value: Any, hint: Any) -> bool:
    """Whether a YAML value can be an argument of this type. Objects still to be built pass."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or (isinstance(value, dict) and "_target_" in value):
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, arg) for arg in args)
    if origin is typing.Annotated:
        return _fits(value, args[0])
    if origin is typing.Literal:
        return any(value == arg and type(value) is type(arg) for arg in args)
    kind = origin or hint
    if not isinstance(kind, type) or kind is object:
        return True
    if isinstance(value, list):
        return _list_fits(value, kind, args)
    if isinstance(value, dict):
        of_key, of_value = args if len(args) == 2 else (Any, Any)
        return issubclass(kind, Mapping) and all(_fits(k, of_key) and _fits(v, of_value) for k, v in value.items())
    if issubclass(kind, Enum):
        return value in kind.__members__
    # exact types, because a bool is an int to Python and a str a sequence
    scalars: tuple[type, ...] = (int, float) if kind is float else (str,) if issubclass(kind, os.PathLike) else (kind,)
    return type(value) in scalars


def _list_fits(value: list[Any], kind: type, args: tuple[Any, ...]) -> bool:
    """Whether a YAML list can be an argument of this type, item by item."""
    if kind is tuple and args and args[-1] is not Ellipsis:
        return len(value) == len(args) and all(map(_fits, value, args))
    holds_items = issubclass(kind, Iterable) and not issubclass(kind, str | Mapping)
    return holds_items and all(_fits(item, args[0] if args else Any) for item in value)


def _words(hint: Any) -> str:
    """A type as a user reads it."""
    plain = isinstance(hint, type) and not typing.get_args(hint)
    return hint.__name__ if plain else str(hint).replace("typing.", "").replace("NoneType", "None")
