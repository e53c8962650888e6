"""A document's values as the types that a struct declares: strictly, and what does not fit is named at its place.

msgspec has the last word on each value; what is said about it is in the words of a config's author.
"""

import difflib
import re
import types
import typing
from typing import Any, Literal

import msgspec

from andon.yamlfile import Document, FileError
from andon.yamlfile import Path as Where

_WORDS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "keys and values",
    "null": "nothing",
}
"""msgspec's names of types, as a config's author would say them."""


class Typed:
    """The values of one document, as structs."""

    def __init__(self, document: Document) -> None:
        self.document = document

    def convert(self, data: Any, kind: type[Any], where: Where) -> Any:
        """`data` as the struct `kind`, strictly; an unknown key is named with the nearest known one."""
        if not isinstance(data, dict):
            raise self.document.error(where, "keys and values are expected here")
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        for key in data:
            if key not in fields:
                raise self.unknown(key, list(fields), where)
        for name, field in fields.items():
            if name in data:
                self._fits(data[name], field.type, (*where, name))
            elif field.required:
                raise self.document.error(where, f"the key {name!r} is missing")
        return self._decoded(data, kind, where)

    def unknown(self, key: str, known: list[str], where: Where) -> FileError:
        """What to raise for a key that is not known there."""
        near = difflib.get_close_matches(key, known, 1, 0.5)
        hint = f'did you mean "{near[0]}"?' if near else f"there are {', '.join(sorted(known)) or 'none'}"
        return self.document.error((*where, key), f"unknown key; {hint}")

    def _fits(self, data: Any, kind: Any, where: Where) -> None:
        """Raise FileError where `data` is not of the type `kind`: at the innermost place that does not fit."""
        if data is None:
            raise self.document.error(where, "nothing stands after this key; write a value, or leave the key out")
        parts = typing.get_args(kind)
        origin = typing.get_origin(kind)
        if origin in (types.UnionType, typing.Union):
            structs = [part for part in parts if part is not type(None)]
            if len(structs) == 1:
                return self._fits(data, structs[0], where)
        elif origin is typing.Annotated:
            self._fits(data, parts[0], where)
        elif origin is Literal:
            if data not in parts:
                raise self._none_of(data, [str(part) for part in parts], where)
        elif origin is dict and isinstance(data, dict):
            for key, item in data.items():
                self._fits(item, parts[1], (*where, key))
        elif origin in (list, tuple) and isinstance(data, list):
            for index, item in enumerate(data):
                self._fits(item, parts[0], (*where, index))
        elif isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            self.convert(data, kind, where)
        self._decoded(data, kind, where)
        return None

    def _none_of(self, data: Any, known: list[str], where: Where) -> FileError:
        near = difflib.get_close_matches(str(data), known, 1, 0.5)
        hint = f'; did you mean "{near[0]}"?' if near else ""
        return self.document.error(where, f"{data!r} is none of {', '.join(known)}{hint}")

    def _decoded(self, data: Any, kind: Any, where: Where) -> Any:
        """`data` as `kind`; the last word is the type's own."""
        try:
            return msgspec.convert(data, kind, strict=True)
        except msgspec.ValidationError as error:
            words, _, at = str(error).partition(" - at `$")
            raise self.document.error((*where, *_steps(at.rstrip("`"))), _plain(words)) from error


def _steps(at: str) -> Where:
    """`[0].key` of a validation error as steps of a path."""
    return tuple(int(index) if index else key for index, key in re.findall(r"\[(\d+)\]|\.(\w+)", at))


def _plain(words: str) -> str:
    """A validation error in words of a config's author."""

    def named(match: re.Match[str]) -> str:
        return " or ".join(_WORDS.get(part, part) for part in match.group(1).split(" | ") if part != "null")

    words = re.sub(r"`([^`]*)`", named, words).replace(", got ", ", not ")
    return words[:1].lower() + words[1:]
