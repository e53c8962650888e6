"""Which version to return to, when that is allowed, and why: pure rules over a line's board."""

from typing import Literal

import msgspec

from andon.board import Line
from andon.clock import Time, age
from andon.model import Deployment

Basis = Literal["healthy", "good", "vendor", "unjudged", "success"]
TRUSTED: frozenset[str] = frozenset({"healthy", "good", "vendor"})
"""What an automatic rollback may return to."""


class Target(msgspec.Struct, frozen=True):
    """What a rollback would do now."""

    current: Deployment
    to: Deployment
    basis: Basis
    words: str
    """Why this one, for the footer: `healthy 3 d`, `vendor says ok`, `ran 3 d, never judged`."""


class Nothing(msgspec.Struct, frozen=True):
    """There is nothing to return to, and why."""

    why: str


def target(line: Line, now: Time) -> Target | Nothing:
    """What F4 would return to."""
    current = line.current
    if current is None:
        return Nothing("nothing was deployed yet")
    if line.went_back(current):
        return Nothing(f"nothing to undo: on {short(current.version)}")
    candidates, blocked = _candidates(line, current)
    for basis in ("healthy", "vendor", "unjudged", "success"):
        for candidate in candidates:
            found = _fits(line, candidate, basis, now)
            if found is not None:
                return Target(current, candidate, *found)
    return Nothing(blocked or "no earlier version to return to")


def to_version(line: Line, version: str, now: Time) -> Target | Nothing:
    """The rollback to a version that a person names: any earlier one that is still there."""
    current = line.current
    if current is None:
        return Nothing("nothing was deployed yet")
    candidates, blocked = _candidates(line, current, faulty_too=True)
    named = _named([current, *candidates], version)
    if len({item.version for item in named}) > 1:
        return Nothing(f"{version} fits {' and '.join(short(item.version) for item in named[:2])}: write more of it")
    if not named:
        return Nothing(blocked or f"{version} never ran here, as far as is known")
    found = named[0]
    if found is current:
        return Nothing(f"{short(current.version)} already runs")
    if _is_faulty(line, found):
        return Nothing(f"{short(found.version)} is marked faulty; mark it good first if it is")
    return Target(current, found, "success", f"named; live {age(now - found.at)} ago")


def short(version: str) -> str:
    """A version for a list: the first 4 signs of a hash, a tag of up to 8 signs in full."""
    return version[:4] if _is_hash(version) else version[:8]


def _candidates(line: Line, current: Deployment, *, faulty_too: bool = False) -> tuple[list[Deployment], str]:
    """Earlier deployments of other versions, newest first, and why there are no more of them."""
    found: list[Deployment] = []
    blocked = ""
    seen = {current.version}
    older = line.deployments[: line.deployments.index(current)]
    barrier = _irreversible(line, current)
    for deployment in reversed(older):
        if barrier:
            blocked = f"{short(barrier.version)} is marked irreversible: roll forward"
            break
        usable = deployment.state == "settled" and deployment.available and deployment.version not in seen
        if usable and (faulty_too or not _is_faulty(line, deployment)):
            found.append(deployment)
        if _irreversible(line, deployment):
            barrier = deployment
    return found, blocked


def _irreversible(line: Line, deployment: Deployment) -> Deployment | None:
    return deployment if deployment.id in line.barriers else None


def _is_faulty(line: Line, deployment: Deployment) -> bool:
    """Whether the last word on this version, or on this deployment, is that it is faulty."""
    words = [mark for mark in line.marks.values() if mark.version == deployment.version]
    return bool(words) and max(words, key=lambda mark: mark.at).mark == "faulty"


def _fits(line: Line, deployment: Deployment, wanted: str, now: Time) -> tuple[Basis, str] | None:
    """Whether a candidate is trusted on the wanted ground, and the words for it."""
    mark = line.marks.get(deployment.id)
    watch = line.watches.get(deployment.id)
    verdict = watch.verdict if watch else None
    word = verdict.word if watch and verdict and (watch.ended or verdict.word == "regressed") else ""
    ran = age(now - deployment.at)
    if wanted == "healthy" and mark is not None and mark.mark == "good":
        return "good", f"marked good by {mark.who}"
    if word == "regressed":
        return None  # whatever the vendor says of it
    if wanted == "healthy":
        return ("healthy", f"healthy {ran}") if word == "healthy" else None
    if wanted == "vendor":
        return ("vendor", "vendor says ok") if deployment.verified else None
    if wanted == "unjudged":
        return ("unjudged", f"{word} {ran}") if word else None
    return "success", f"ran {ran}, never judged"


def _named(deployments: list[Deployment], version: str) -> list[Deployment]:
    """Those that a person can mean: of exactly that version, else of versions that begin so, or of a hash cut short."""
    exact = [item for item in deployments if item.version == version]
    if exact or len(version) < 4:
        return exact
    return [
        item
        for item in deployments
        if item.version.startswith(version) or (_is_hash(item.version) and version.startswith(item.version))
    ]


def _is_hash(version: str) -> bool:
    return len(version) >= 7 and all(char in "0123456789abcdef" for char in version)
