"""One line of the plant: a pure state machine of commits, pieces on their way through the stations, and hosts.

It moves only by `step(until)` and by what andon may do, on simulated time, and draws from one generator of its own:
the same seed and the same acts give the same happenings, in however many steps. It knows no clock, no file, no thread.
"""

import heapq
import random
from collections.abc import Callable
from typing import Any

from adapters._plant_past import live_through
from adapters._plant_things import HOSTS, STATIONS, Happening, Piece, Rollout, Task, Trunk
from adapters._plant_trade import Harm, Trade, title, trade
from andon.clock import Time
from andon.model import RunState, Station

KEPT_RUNS = 80
INVENTORY = 6
"""With that many changes waiting nobody commits to the line."""
VERIFIED_AFTER_S = 900.0


class Shop:
    """One line from commit to hosts. `time` is how far it has been stepped."""

    def __init__(self, seed: int, world: str, line: str, start: Time, calm_s: float) -> None:
        self.seed, self.world, self.line, self.start = seed, world, line, start
        self.time = start
        self.trade: Trade = trade(line)
        self.trunk = Trunk(world, line)
        self.commits = self.trunk.commits
        self.pieces: dict[str, Piece] = {}
        self.rollouts: list[Rollout] = []
        self.halted: dict[str, str] = {}
        """Stations that stand, and the note that says why."""
        self.keys: dict[str, str] = {}
        """Idempotency keys of deployments, and what they began."""
        self.rev = 0
        self._dice = random.Random(f"{seed}/{line}")  # noqa: S311  a shop, not a secret
        self._queue: list[tuple[Time, int, str, Any]] = []
        self._pushed = 0
        self._lanes: dict[str, list[Piece]] = {station: [] for station in STATIONS}
        self.busy: dict[str, Piece | None] = {"build": None, "test": None}
        self.hosts = [0] * HOSTS
        self.runs = 0
        self._out: list[Happening] = []
        self.harms: tuple[Harm, ...] = ()
        """From when on which share of the hosts ran which kind of defect."""
        self._gate = start
        self._slept = 0.0
        self._happens: dict[str, Callable[[Any], None]] = {
            "commit": self._on_commit,
            "defect": self._on_defect,
            "mend": self._on_mend,
            "task": self._on_task,
            "again": self._on_again,
            "ship": self._on_ship,
            "host": self._on_host,
            "verify": self._on_verify,
        }
        live_through(self)
        self._begin_story(calm_s)

    def step(self, until: Time) -> list[Happening]:
        """Let happen what happens up to `until`, and say what did since the last call."""
        self.step_quietly(until)
        out, self._out = self._out, []
        return out

    def step_quietly(self, until: Time) -> None:
        """Let happen what happens up to `until`, and keep for the next `step` what did."""
        while self._queue and self._queue[0][0] <= until:
            self.time, _, what, about = heapq.heappop(self._queue)
            self._happens[what](about)
        self.time = max(self.time, until)

    def sleep(self, until: Time) -> None:
        """Nothing happens from now until then: what was to come, comes later."""
        late = max(0.0, until - self.time)
        self._queue = [(at + late, order, what, about) for at, order, what, about in self._queue]
        self._slept += late
        self._gate += late
        self.time = max(self.time, until)

    def _later(self, seconds: float, what: str, about: Any = None) -> None:
        self._pushed += 1
        heapq.heappush(self._queue, (self.time + seconds, self._pushed, what, about))

    def _say(self, what: str, id_: str, state: str) -> int:
        self.rev += 1
        self._out.append(Happening(self.time, self.line, what, id_, state))
        return self.rev

    def _begin_story(self, calm_s: float) -> None:
        """The first commits: on a scripted line a defect, which ships soon after the calm."""
        if self.trade.scripted:
            self._gate = self.start + calm_s + self._dice.uniform(5.0, 30.0)
            self._later(max(4.0, calm_s - 170.0), "defect")
            self._later(max(60.0, calm_s - 40.0), "commit")
        else:
            self._later(self._dice.uniform(4.0, 70.0), "commit")

    def _on_commit(self, _: Any) -> None:
        """Somebody commits, unless the pile is high; and somebody will again."""
        mean = self.trade.commit_s
        waiting = sum(piece.state in ("waiting", "running") for piece in self.pieces.values())
        draw = self._dice.random()
        if waiting < INVENTORY:
            grown_up = self.time - self.start - self._slept > self.trade.defect_after_s
            harm = (
                self._dice.choice(self.trade.harms)
                if grown_up and draw < 0.06 and not self.trunk.open_defects()
                else ""
            )
            self._commit(title(self.trade, self._dice), self._dice.choice(self.trade.authors), harm=harm)
        self._later(min(900.0, max(40.0, self._dice.expovariate(1.0 / mean))), "commit")

    def _on_defect(self, _: Any) -> None:
        self._commit(self.trade.titles[0], self.trade.authors[0], harm="conversion", sure=True)

    def _on_mend(self, number: int) -> None:
        """The author of a defect takes it out again, once."""
        broken = self.commits[number]
        if broken.mended_by is None:
            broken.mended_by = len(self.commits)
            self._commit(f'Revert "{broken.change.title}"', broken.change.author, mends=number, sure=True)

    def _commit(self, name: str, author: str, harm: str = "", mends: int | None = None, sure: bool = False) -> None:
        commit = self.trunk.record(name, author, self.time, harm)
        commit.mends = mends
        self._say("change", commit.change.id, name)
        self._new_run(len(self.commits) - 1, sure)

    def _new_run(self, number: int, sure: bool) -> None:
        dice = self._dice
        flaky = bool(self.trade.flaky) and dice.random() < 0.3 and not sure
        red = dice.random() < 0.06 and not sure
        self.runs += 1
        tasks = [
            Task("build", "image", dice.uniform(35.0, 60.0)),
            Task("test", "lint", dice.uniform(8.0, 16.0)),
            Task("test", "unit", dice.uniform(30.0, 55.0), self.trade.flaky if flaky else ""),
            Task("test", "integration", dice.uniform(50.0, 85.0), "test_the_old_path_still_works" if red else ""),
            Task("deploy", "roll", sum(self.trade.roll_s) / 2.0),
        ]
        author = self.commits[number].change.author
        piece = Piece(f"{self.world}-{self.line}-{self.runs}", number, self.time, tasks, author)
        self.pieces[piece.id] = piece
        self._forget()
        self._touch(piece)
        self._lanes["build"].append(piece)
        self._take("build")

    def _forget(self) -> None:
        """Let the oldest ended runs go, so that a long-lived shop stays small."""
        over = len(self.pieces) - KEPT_RUNS
        for id_ in [piece.id for piece in self.pieces.values() if piece.ended_at is not None][: max(0, over)]:
            del self.pieces[id_]

    def _touch(self, piece: Piece, words: str = "") -> None:
        piece.words = words or piece.words
        piece.rev = self._say("run", piece.id, f"{piece.state} {'/'.join(task.state for task in piece.tasks)}")

    def _take(self, station: Station) -> None:
        """Let the next piece onto a free station that does not stand."""
        if station == "deploy":
            self._ship()
        elif station not in self.halted and not self.busy[station] and self._lanes[station]:
            piece = self.busy[station] = self._lanes[station].pop(0)
            piece.state = "running"
            self._start(piece, piece.of(station)[0])

    def _start(self, piece: Piece, task: Task) -> None:
        task.state, task.at = "running", self.time
        self._later(task.lasts_s, "task", (piece.id, task.name))
        self._touch(piece)

    def _on_task(self, about: tuple[str, str]) -> None:
        piece = self.pieces.get(about[0])
        if piece is None or piece.ended_at is not None:
            return
        task = next(task for task in piece.tasks if task.name == about[1])
        task.state, task.ended_at = ("failed" if task.fails else "passed"), self.time
        rest = [other for other in piece.of(task.station) if other.state == "waiting"]
        if task.fails:
            self._end(piece, "failed", f"{task.name}: {task.fails} failed")
            if task.fails == self.trade.flaky:
                self._later(self._dice.uniform(30.0, 80.0), "again", piece.number)
        elif rest:
            self._start(piece, rest[0])
        else:
            self._pass_on(piece, task.station)

    def _pass_on(self, piece: Piece, station: Station) -> None:
        """A station is done with a piece: on to the next."""
        self.busy[station] = None
        following = STATIONS[STATIONS.index(station) + 1]
        self.commits[piece.number].built = True
        self._lanes[following].append(piece)
        self._touch(piece)
        if following == "deploy":
            self._later(max(3.0, self._gate - self.time + 0.001), "ship")
        else:
            self._take(following)
        self._take(station)

    def _on_again(self, number: int) -> None:
        self._new_run(number, sure=False)

    def _end(self, piece: Piece, state: RunState, words: str) -> None:
        """A piece leaves the belt; its place becomes free."""
        piece.state, piece.ended_at = state, self.time
        for task in piece.tasks:
            if task.state in ("waiting", "running"):
                task.state = "passed" if state == "passed" else "cancelled"
                task.ended_at = self.time if task.at else None
        for station in STATIONS:
            if piece in self._lanes[station]:
                self._lanes[station].remove(piece)
            if self.busy.get(station) is piece:
                self.busy[station] = None
        self._touch(piece, words)
        for station in ("build", "test"):
            self._take(station)

    @property
    def current(self) -> Rollout:
        """What runs, or is on its way to."""
        return next(item for item in reversed(self.rollouts) if item.state != "failed")

    def _on_ship(self, _: Any) -> None:
        self._ship()

    def _ship(self) -> None:
        """The pipeline ships the newest change that passed, with the older ones as one batch; never an ancestor."""
        if "deploy" in self.halted or self.current.state == "rolling" or self.time < self._gate:
            return
        lane = self._lanes["deploy"]
        for piece in [piece for piece in lane if piece.number <= self.current.number]:
            self._end(piece, "passed", f"shipped already, with {self.trunk.version(self.current.number)[:7]}")
        if not lane:
            return
        newest = max(lane, key=lambda piece: piece.number)
        for piece in [piece for piece in lane if piece is not newest]:
            self._end(piece, "passed", f"ships with {self.trunk.version(newest.number)[:7]}")
        lane.remove(newest)
        task = newest.of("deploy")[0]
        task.state, task.at = "running", self.time
        self._touch(newest)
        self._gate = self.time + self.trade.soak_s
        self._later(self.trade.soak_s, "ship")
        self._roll(newest.number, self.commits[newest.number].change.author, newest.id)

    def _roll(self, number: int, by: str, piece: str = "", words: str = "") -> Rollout:
        """Begin to put a version on the hosts, one after the other."""
        before = self.current
        if before.state == "rolling":
            self._fail(before, "another deployment took its place")
        id_ = f"{self.world}-{self.line}-d{len(self.rollouts) + 1}"
        rollout = Rollout(id_, number, "rolling", self.time, by, before.number, piece, words=words)
        self.rollouts.append(rollout)
        rollout.rev = self._say("deployment", id_, "rolling")
        lasts = self._dice.uniform(*self.trade.roll_s)
        for host in range(HOSTS):
            self._later(lasts * (host + 1) / HOSTS, "host", (len(self.rollouts) - 1, host))
        return rollout

    def _on_host(self, about: tuple[int, int]) -> None:
        rollout, host = self.rollouts[about[0]], about[1]
        if rollout.state != "rolling":
            return
        self.hosts[host] = rollout.number
        self.measure()
        rollout.words = f"{host + 1} of {HOSTS} hosts"
        if host + 1 == HOSTS:
            rollout.state = "settled"
            self._later(VERIFIED_AFTER_S, "verify", about[0])
            self._settled(rollout)
        rollout.rev = self._say("deployment", rollout.id, f"{rollout.state} {rollout.words}")
        if rollout.state == "settled":
            self._ship()

    def _settled(self, rollout: Rollout) -> None:
        piece = self.pieces.get(rollout.piece)
        if piece and piece.ended_at is None:
            self._end(piece, "passed", f"live on {HOSTS} of {HOSTS} hosts")
        self._notice(rollout.before, rollout.number)

    def _notice(self, was: int, now: int) -> None:
        """A defect is taken out soon after somebody went back from it; much later where nobody does."""
        for number in self.trunk.open_defects():
            if number <= now:
                self._later(self._dice.uniform(1500.0, 2400.0), "mend", number)
            elif number <= was:
                self._later(self._dice.uniform(90.0, 200.0), "mend", number)

    def _on_verify(self, index: int) -> None:
        """The plant's own check finds nothing wrong; it does not look at what the business measures."""
        rollout = self.rollouts[index]
        if rollout.state == "settled" and self.current is rollout:
            rollout.verified = True
            rollout.rev = self._say("deployment", rollout.id, "verified")

    def _fail(self, rollout: Rollout, words: str) -> None:
        rollout.state, rollout.words = "failed", words
        rollout.rev = self._say("deployment", rollout.id, f"failed {words}")
        piece = self.pieces.get(rollout.piece)
        if piece and piece.ended_at is None:
            for task in piece.of("deploy"):
                task.state, task.ended_at = "failed", self.time
            self._end(piece, "failed", words)

    def put(self, number: int, key: str, words: str) -> str:
        """Deploy the version of a change, whatever stands; its deployment id."""
        self.keys[key] = self._roll(number, "andon", words=words).id
        return self.keys[key]

    def stop_rolling(self, rollout: Rollout, words: str) -> None:
        """Abort a deployment: every host goes back to what ran before."""
        self._fail(rollout, words)
        self.hosts = [self.current.number] * HOSTS
        self.measure()
        self._notice(rollout.number, self.current.number)
        self._ship()

    def cancel(self, piece: Piece, words: str) -> None:
        """Take a piece off the belt."""
        self._end(piece, "cancelled", words)

    def stand(self, stations: dict[str, str]) -> None:
        """Let stations stand, with a note each; an empty note lets one go on."""
        for station, note in stations.items():
            if note:
                self.halted[station] = note
            else:
                self.halted.pop(station, None)
            self._say("station", station, note)
        if stations.get("deploy") == "":
            self._gate = min(self._gate, self.time)  # who lifts a stop does not want to wait for the next window
        for station in STATIONS:
            self._take(station)

    def measure(self) -> None:
        """Note from when on which share of the hosts runs which defect."""
        shares: dict[str, float] = {}
        for number in self.hosts:
            for kind in self.trunk.harms_of(number):
                shares[kind] = shares.get(kind, 0.0) + 1.0 / HOSTS
        if shares != (self.harms[-1].shares if self.harms else {}):
            self.harms = (*self.harms, Harm(self.time, shares))
