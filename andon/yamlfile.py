"""A strict reader of YAML: no duplicate keys, no merge keys, no alias bombs, no surprising types, a place for every error.

Plain scalars are read as people mean them: `true` and `false` are the only booleans, a number is written in decimal, and
everything else (`no`, `1:30`, `010`, `2026-01-01`) is the text it is.
"""

import re
from typing import Any

import yaml

LIMIT_BYTES = 1 << 20
LIMIT_DEPTH = 32
LIMIT_NODES = 20_000
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)\Z")
_FLOAT = re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?\Z")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Path = tuple[str | int, ...]


class FileError(Exception):
    """Something in a file is wrong: where, what, and what to do about it."""

    def __init__(self, file: str, place: tuple[int, int] | None, path: Path, words: str) -> None:
        self.file, self.place, self.path, self.words = file, place, path, words
        where = file + (f":{place[0]}:{place[1]}" if place else "")
        named = f"{shown(path)}: " if path else ""
        super().__init__(f"{where}: {named}{words}")


def shown(path: Path) -> str:
    """A path as a person writes it: `lines.checkout.metrics[0].every`."""
    out = ""
    for part in path:
        out += f"[{part}]" if isinstance(part, int) else f".{part}" if out else str(part)
    return out


class Document:
    """What a YAML file holds, as plain dicts, lists, texts, numbers and booleans, and where each thing stands."""

    def __init__(self, file: str, content: bytes) -> None:
        self.file = file
        self._places: dict[Path, tuple[int, int]] = {}
        self._nodes = 0
        if len(content) > LIMIT_BYTES:
            raise FileError(file, None, (), f"larger than {LIMIT_BYTES >> 20} MiB")
        try:
            node = yaml.compose(content.decode("utf-8"), Loader=_LOADER)
        except UnicodeDecodeError as error:
            raise FileError(file, None, (), f"not UTF-8: {error.reason} at byte {error.start}") from error
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = (mark.line + 1, mark.column + 1) if mark else None
            raise FileError(file, place, (), error.problem or "not YAML") from error
        except yaml.YAMLError as error:
            raise FileError(file, None, (), f"not YAML: {str(error).splitlines()[0]}") from error
        except RecursionError as error:
            raise FileError(file, None, (), f"nested deeper than {LIMIT_DEPTH} levels") from error
        self.data: Any = self._read(node, (), 0) if node is not None else None

    def error(self, path: Path, words: str) -> FileError:
        """An error at `path`, or at the nearest place above it."""
        known = path
        while known and known not in self._places:
            known = known[:-1]
        return FileError(self.file, self._places.get(known), path, words)

    def _read(self, node: yaml.Node, path: Path, depth: int) -> Any:
        place = (node.start_mark.line + 1, node.start_mark.column + 1)
        self._places.setdefault(path, place)
        self._nodes += 1
        if self._nodes > LIMIT_NODES:
            raise FileError(self.file, place, (), "more than 20,000 values; aliases repeat too much")
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
            place = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
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
        if not str(node.tag).startswith("tag:yaml.org,2002:"):
            raise self.error(path, f"the tag {node.tag} is not read")
        if node.tag == "tag:yaml.org,2002:str" or getattr(node, "style", None) in ("'", '"', "|", ">"):
            return text
        if node.tag == "tag:yaml.org,2002:null":
            return None
        if text in ("true", "false"):
            return text == "true"
        if _INT.match(text):
            return int(text) if len(text) < 19 else text
        if _FLOAT.match(text):
            return float(text)
        return text
