"""A mapping of a YAML file, taken key by key: what is wrong with it is collected, with its line, and told at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

import yaml

from pmx.contract import shown

EMPTY = ("", "null", "Null", "NULL", "~")


class Part:
    """A mapping of the card, taken key by key; what is wrong with it is collected, with its line.

    Args:
        node: as PyYAML composed it; None = the key is not there.
        path: the keys that lead to it.
        problems: where mistakes are added.

    Example:
        >>> found = []
        >>> part = Part(yaml.compose("{tick: fast, tack: 1}", Loader=yaml.BaseLoader), "", found)
        >>> part.number("tick", 1.0), part.close()
        (1.0, None)
        >>> found[1]
        "line 1, tack: there is no such key -> nearest is 'tick'"
    """

    def __init__(self, node: yaml.Node | None, path: str, problems: list[str]) -> None:
        self.node, self.path, self.problems = node, path, problems
        self.cells: dict[str, yaml.Node] = {}
        self.known: list[str] = []
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                name = str(key.value)
                if name in self.cells:
                    self.wrong(name, "stands here twice -> keep one", key)
                self.cells[name] = value
        elif node is not None and not _is_null(node):
            self.wrong("", f"is {shown(str(plain(node)))!r} -> write it as keys with values")

    def wrong(self, key: str, what: str, node: yaml.Node | None = None) -> None:
        node = node or self.cells.get(key) or self.node
        line = f"line {node.start_mark.line + 1}, " if node is not None else ""
        self.problems.append(f"{line}{self.at(key)}: {what}")

    def at(self, key: str) -> str:
        return ".".join(p for p in (self.path, key) if p) or "the card"

    def take(self, key: str, needed: bool = False) -> yaml.Node | None:
        """The node of a key, None where it is missing or null."""
        self.known.append(key)
        node = self.cells.get(key)
        if node is None or _is_null(node):
            if needed:
                self.wrong(key, "is missing -> add it")
            return None
        return node

    def text(self, key: str, default: str | None = None, needed: bool = False) -> str:
        node = self.take(key, needed and default is None)
        if node is not None and not isinstance(node, yaml.ScalarNode):
            self.wrong(key, "is a list or a mapping -> a single word")
            return default or ""
        return (default or "") if node is None else str(node.value)

    def word(self, key: str) -> str | None:
        return self.text(key) or None

    def choice(self, key: str, options: Sequence[str], default: str | None = None) -> str:
        given = self.text(key, default, needed=True)
        if given and given not in options:
            self.wrong(key, f"{shown(given)!r} is none of {', '.join(options)}{near(given, options)}")
            return default or options[0]
        return given or options[0]

    def number(self, key: str, default: float | None = None, needed: bool = False) -> float | None:
        text = self.text(key, needed=needed)
        if not text:
            return default
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if value != value or value in (float("inf"), float("-inf")):
            self.wrong(key, f"{shown(text)!r} is not a number -> such as 2.5")
            return default
        return value

    def flag(self, key: str) -> bool:
        return self.choice(key, ("false", "true"), "false") == "true"

    def texts(self, key: str, needed: bool = False) -> tuple[str, ...]:
        """A list of words, or a single one."""
        node = self.take(key, needed)
        items = [] if node is None else node.value if isinstance(node, yaml.SequenceNode) else [node]
        if any(not isinstance(item, yaml.ScalarNode) for item in items):
            self.wrong(key, "is not a list of words -> such as [A, B]")
            return ()
        return tuple(str(item.value) for item in items)

    def words(self, key: str) -> dict[str, str]:
        """A mapping of words to words."""
        part = self.part(key)
        return {name: part.text(name, needed=True) for name in part.cells}

    def part(self, key: str, needed: bool = False) -> Part:
        return Part(self.take(key, needed), self.at(key), self.problems)

    def close(self) -> None:
        """Refuses the keys that nobody asked for."""
        for key, value in self.cells.items():
            if key not in self.known:
                self.wrong(key, f"there is no such key{near(key, self.known) or ' -> remove it'}", value)


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.style is None and node.value in EMPTY


def plain(node: yaml.Node | None) -> object:
    """A node as plain data; mappings as lists of pairs, since the order of channels counts."""
    if isinstance(node, yaml.MappingNode):
        return [(str(k.value), plain(v)) for k, v in node.value]
    if isinstance(node, yaml.SequenceNode):
        return [plain(v) for v in node.value]
    return None if node is None or _is_null(node) else str(node.value)


def near(word: str, options: Iterable[str]) -> str:
    """The end of a message that names the nearest of these words; empty where none is near."""
    found = difflib.get_close_matches(word, list(options), 2, 0.5)
    return f" -> nearest is {' or '.join(map(repr, found))}" if found else ""
