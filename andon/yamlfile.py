"""A strict reader of YAML: no duplicate keys, no merge keys, no alias bombs, no tags, no surprising types, a place for
every error.

Plain scalars are read as people mean them: `true` and `false` are the only booleans, a number is written in decimal, and
everything else (`no`, `1:30`, `010`, `2026-01-01`) is the text it is.
"""

import math
import re
from typing import Any

import yaml

from andon.fileerror import FileError, Path, shown

__all__ = ["Document", "FileError", "Path", "shown"]

LIMIT_BYTES = 1 << 20
LIMIT_DEPTH = 32
LIMIT_NODES = 20_000
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)\Z")
_FLOAT = re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?\Z")
# Named by what is refused: a class of what is allowed, with all of Unicode in it, takes 10 ms to compile at each start.
_NOT_YAML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff\ufffe\uffff]")
"""What YAML does not allow to stand in a file, whatever it is written in."""
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What an escape sequence in quotes could bring in: no name, path, query or argument has a use for it."""
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Document:
    """What a YAML file holds, as plain dicts, lists, texts, numbers and booleans, and where each thing stands."""

    def __init__(self, file: str, content: bytes) -> None:
        self.file = file
        self._places: dict[Path, tuple[int, int]] = {(): (1, 1)}
        self._nodes = 0
        if len(content) > LIMIT_BYTES:
            beyond = _place_after(content[:LIMIT_BYTES].decode("utf-8", "replace"))
            raise FileError(file, beyond, (), f"larger than {LIMIT_BYTES >> 20} MiB")
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            before = content[: error.start].decode("utf-8")
            raise FileError(file, _place_after(before), (), f"not UTF-8: {error.reason}") from error
        if (found := _NOT_YAML.search(text)) is not None:
            raise FileError(file, _place_after(text[: found.start()]), (), "a control character stands here")
        try:
            self._check(text)
            node = yaml.compose(text, Loader=_LOADER)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            words = ", ".join(part for part in (error.context, error.problem) if part)
            raise FileError(file, _place(mark) if mark else None, (), words or "not YAML") from error
        self.data: Any = self._read(node, (), 0) if node is not None else None

    def _check(self, text: str) -> None:
        """Refuse tags and deep nesting before anything is built: composing recurses in C, without a limit."""
        depth = nodes = 0
        for event in yaml.parse(text, Loader=_LOADER):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            nodes += isinstance(event, yaml.NodeEvent)
            place = _place(event.start_mark) if event.start_mark else None
            if depth > LIMIT_DEPTH:
                raise FileError(self.file, place, (), f"nested deeper than {LIMIT_DEPTH} levels")
            if nodes > LIMIT_NODES:
                raise FileError(self.file, place, (), f"more than {LIMIT_NODES:,} values")
            if tag := getattr(event, "tag", None):
                raise FileError(self.file, place, (), f"tags are not read: {tag}")
            if isinstance(event, yaml.ScalarEvent) and _HIDDEN.search(event.value):
                raise FileError(self.file, place, (), "a control character is written here")

    def error(self, path: Path, words: str) -> FileError:
        """An error at `path`, or at the nearest place above it."""
        return FileError(self.file, self.place(path), path, words)

    def place(self, path: Path) -> tuple[int, int]:
        """Line and column of `path`, or of the nearest above it."""
        while path and path not in self._places:
            path = path[:-1]
        return self._places[path]

    def _read(self, node: yaml.Node, path: Path, depth: int) -> Any:
        place = _place(node.start_mark)
        self._places.setdefault(path, place)  # of a value; that of its key is more useful, and stands there already
        self._nodes += 1
        if self._nodes > LIMIT_NODES:
            raise FileError(self.file, place, (), f"more than {LIMIT_NODES:,} values; aliases repeat too much")
        if depth > LIMIT_DEPTH:
            raise FileError(self.file, place, (), f"nested deeper than {LIMIT_DEPTH} levels")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self._read(item, (*path, index), depth + 1) for index, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            place = _place(key_node.start_mark)
            if not isinstance(key_node, yaml.ScalarNode):
                raise FileError(self.file, place, path, "a key must be plain text")
            key = str(key_node.value)
            if key == "<<":
                raise FileError(self.file, place, path, "merge keys (<<) are not read; write the keys out")
            if key in found:
                raise FileError(self.file, place, (*path, key), "this key stands here twice")
            self._places[(*path, key)] = place
            found[key] = self._read(value_node, (*path, key), depth + 1)
        return found

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        text = str(node.value)
        if getattr(node, "style", None) in ("'", '"', "|", ">"):
            return text
        if node.tag == "tag:yaml.org,2002:null":
            return None
        if text in ("true", "false"):
            return text == "true"
        if _INT.match(text):
            return int(text) if len(text) < 19 else text
        if _FLOAT.match(text) and math.isfinite(float(text)):
            return float(text)
        return text


def _place(mark: Any) -> tuple[int, int]:
    """Line and column as people count them."""
    return mark.line + 1, mark.column + 1


def _place_after(before: str) -> tuple[int, int]:
    """Line and column of what stands after this text."""
    return before.count("\n") + 1, len(before) - before.rfind("\n")
