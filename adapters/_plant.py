"""The world of the plant: lines on simulated time, and the inputs that came to them from outside.

`World` is pure: `step(until)` lets happen what happens, `put(input)` takes in an act with a time. A line comes into
being when it is first asked for, and is then brought to where the others are: lines share nothing but the inputs.

World time is the clock it is given; a demo that goes faster is given a faster one. A *sleep* takes nothing away from
it: time in which nobody looked passes on the clock, while everything that was still to come moves to after it.
"""

import msgspec

from adapters._plant_shop import Shop
from adapters._plant_things import STATIONS, Happening
from adapters._plant_views import is_kept
from andon.clock import Time
from andon.model import Why
from andon.ports import Accepted, Answer, Conflict, Refused


class Put(msgspec.Struct, frozen=True, tag="put"):
    """Deploy a version, if `expected` is still current."""

    at: Time
    line: str
    version: str
    key: str
    expected: str | None = None
    through: str | None = None


class Abort(msgspec.Struct, frozen=True, tag="abort"):
    """Stop a deployment that rolls."""

    at: Time
    line: str
    deployment: str
    why: Why


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """Stop a run."""

    at: Time
    line: str
    run: str
    why: Why


class Stand(msgspec.Struct, frozen=True, tag="stand"):
    """Let stations stand, with a note each; an empty note lets one go on."""

    at: Time
    line: str
    stations: dict[str, str]


class Sleep(msgspec.Struct, frozen=True, tag="sleep"):
    """Nobody looked, from `at` until `until`."""

    at: Time
    until: Time


Act = Put | Abort | Cancel | Stand
Input = Act | Sleep


class World:
    """A plant. `time` is how far it has been stepped; `inputs` is all that came from outside, in order."""

    def __init__(self, seed: int, *, name: str = "w", start: Time = 0.0, calm_s: float = 300.0) -> None:
        self.seed, self.name, self.start, self.calm_s = seed, name, start, calm_s
        self.time = start
        self.inputs: list[Input] = []
        self._shops: dict[str, Shop] = {}

    def shop(self, line: str) -> Shop:
        """The line of that name, stepped to where the world is."""
        found = self._shops.get(line)
        if found is None:
            found = self._shops[line] = Shop(self.seed, self.name, line, self.start, self.calm_s)
            for one in self.inputs:
                if isinstance(one, Sleep) or one.line == line:
                    _take_in(found, one)
            found.step(self.time)
        return found

    def step(self, until: Time) -> list[Happening]:
        """Let happen on every line asked for so far what happens up to `until`; in order of time, then of lines."""
        self.time = max(self.time, until)
        happened = [one for line in sorted(self._shops) for one in self._shops[line].step(self.time)]
        return sorted(happened, key=lambda one: one.at)

    def put(self, one: Input) -> Answer:
        """Take an input in. What is not accepted changes nothing and is not kept. It must not lie in the past."""
        if one.at < self.time:
            raise ValueError(f"an input at {one.at} comes after the world was seen at {self.time}")
        self.time = one.at
        if isinstance(one, Sleep):
            for shop in self._shops.values():
                _take_in(shop, one)
            self.time = one.until
            self.inputs.append(one)
            return Accepted()
        shop = self.shop(one.line)
        rev = shop.rev
        answer = _take_in(shop, one)
        if shop.rev != rev and isinstance(answer, Accepted):
            self.inputs.append(one)
        return answer


def _take_in(shop: Shop, one: Input) -> Answer:
    """What a line answers to an input; it steps there first, so that all before it has happened."""
    shop.step_quietly(one.at)
    if isinstance(one, Put):
        return _put(shop, one)
    if isinstance(one, Abort):
        return _abort(shop, one)
    if isinstance(one, Cancel):
        return _cancel(shop, one)
    if isinstance(one, Stand):
        unknown = sorted(set(one.stations) - set(STATIONS))
        if unknown:
            return Refused(f"no station {unknown[0]!r} can stand on this line; there are {', '.join(STATIONS)}")
        if any(shop.halted.get(station, "") != note for station, note in one.stations.items()):
            shop.stand(one.stations)
        return Accepted(", ".join(one.stations))
    shop.sleep(one.until)
    return Accepted()


def _put(shop: Shop, one: Put) -> Answer:
    began = shop.keys.get(one.key)
    if began:
        return Accepted(began)
    number = shop.trunk.find(one.version)
    if number is None:
        return Refused(f"no version {one.version!r} was ever made on {shop.line}")
    if not shop.commits[number].built:
        return Refused(f"{one.version[:12]} has not been built")
    if not is_kept(shop, number):
        return Refused(f"the artefact of {one.version[:12]} is gone")
    if one.expected is not None and one.expected != shop.current.id:
        return Conflict(shop.current.id)
    return Accepted(shop.put(number, one.key, f"through hold {one.through}" if one.through else ""))


def _abort(shop: Shop, one: Abort) -> Answer:
    rollout = next((item for item in shop.rollouts if item.id == one.deployment), None)
    if rollout is None:
        return Refused(f"no deployment {one.deployment!r} on {shop.line}")
    if rollout.state == "settled":
        return Refused(f"{rollout.id} does not roll any more: it is live")
    if rollout.state == "rolling":
        shop.stop_rolling(rollout, f"aborted by {one.why.who}: {one.why.text}")
    return Accepted(rollout.id)


def _cancel(shop: Shop, one: Cancel) -> Answer:
    piece = shop.pieces.get(one.run)
    if piece is None:
        return Refused(f"no run {one.run!r} on {shop.line}")
    if piece.state in ("passed", "failed"):
        return Refused(f"{piece.id} has ended: it {piece.state}")
    if any(task.state == "running" for task in piece.of("deploy")):
        return Refused(f"{piece.id} is being deployed; abort its deployment instead")
    if piece.state != "cancelled":
        shop.cancel(piece, f"cancelled by {one.why.who}: {one.why.text}")
    return Accepted(piece.id)
