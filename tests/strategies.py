"""Hypothesis strategies for everything that can happen: each event kind, with text as strangers could write it.

They are made from the records themselves, so that a field or a kind added tomorrow is searched too. Ids come from small
pools, so that the events of one history meet.
"""

from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

from andon.events import KINDS, ActAsked, ActStepped, Event, HoldPlaced
from andon.model import SETTLED
from tests.helpers import HOSTILE

LINES = ("shop", "payments")
texts = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=12))
numbers = st.one_of(
    st.sampled_from([0, -0.0, 1, 1_700_000_000, 1_700_000_000.25, 5e-324, 1.7e308]),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
)
times = st.integers(0, 40).map(float)
"""Few, so that equal and out-of-order times are common."""


def _pool(sign: str, most: int) -> st.SearchStrategy[str]:
    return st.sampled_from([f"{sign}{number:07}" for number in range(most)])


POOLS: dict[str, st.SearchStrategy[str]] = {
    "line": st.sampled_from(LINES),
    "id": _pool("x", 9),
    "run": _pool("x", 9),
    "change": _pool("x", 9),
    "version": _pool("x", 9),
    "deployment": _pool("x", 9),
    "act": _pool("x", 9),
    "hold": _pool("x", 9),
    "target": _pool("t", 3),
    "source": _pool("s", 3),
    "metric": st.sampled_from(["", "conversion", "p95 latency"]),
}
"""Which texts are ids."""


def of(cls: type[Any], *, wild: bool) -> st.SearchStrategy[Any]:
    """Records of a class; `wild`: every text hostile and every number any, else ids and times that meet."""
    fields = inspect.type_info(cls).fields
    needed = {field.name: _value(field, wild) for field in fields if field.required}
    more = {field.name: _value(field, wild) for field in fields if not field.required and (wild or _matters(field))}
    return st.fixed_dictionaries(needed, optional=more).map(lambda values: cls(**values))


def _matters(field: inspect.Field) -> bool:
    """Whether a board could fold an event in another way for this field."""
    plain = isinstance(field.type, inspect.StrType | inspect.IntType) and field.name not in POOLS
    return not plain and field.name not in ("stages", "numbers", "before", "note")


def _value(field: inspect.Field, wild: bool) -> st.SearchStrategy[Any]:
    if not wild and isinstance(field.type, inspect.StrType) and field.name in POOLS:
        return POOLS[field.name]
    return _of_type(field.type, wild)


def _of_type(kind: inspect.Type, wild: bool) -> st.SearchStrategy[Any]:
    match kind:
        case inspect.StrType():
            return texts if wild else st.sampled_from(["", "ann", "[/]"])
        case inspect.FloatType():
            return numbers if wild else times
        case inspect.IntType():
            return st.integers(-(2**53), 2**53)
        case inspect.BoolType():
            return st.booleans()
        case inspect.NoneType():
            return st.none()
        case inspect.LiteralType(values=values):
            return st.sampled_from(sorted(values))
        case inspect.VarTupleType(item_type=item):
            return st.lists(_of_type(item, wild), max_size=3).map(tuple)
        case inspect.UnionType(types=types):
            return st.one_of([_of_type(one, wild) for one in types])
        case inspect.StructType(cls=cls):
            return of(cls, wild=wild)
    raise TypeError(f"no strategy for {kind}")


def _at_one(event: Event) -> Event:
    """The event with its hold or act on its own line, as the ledger wants it."""
    if isinstance(event, HoldPlaced):
        open_ = {"lifted_at": None, "lifted_by": "", "lifted_why": ""}
        return HoldPlaced(event.line, event.at, msgspec.structs.replace(event.hold, line=event.line, **open_))
    if isinstance(event, ActAsked):
        return ActAsked(event.line, event.at, msgspec.structs.replace(event.act, line=event.line))
    return event


def _possible(event: Event) -> bool:
    return not (isinstance(event, ActStepped) and event.was in SETTLED)


def kind(name: str, *, wild: bool = True) -> st.SearchStrategy[Event]:
    """Events of one kind that a ledger could take."""
    return of(KINDS[name], wild=wild).filter(_possible).map(_at_one)


happenings = st.one_of([kind(name, wild=False) for name in KINDS])
"""Any event, with ids that other events have too."""

histories = st.lists(happenings, min_size=8, max_size=30)
