"""What a person or the immune system asks of a deploy target: roll back, push a fix through a hold, mark a version."""

import asyncio

from andon import rollback
from andon.acts import NOT_AFTER_S, Door, NotDone
from andon.board import Line
from andon.clock import Clock, Time
from andon.config import LineConfig
from andon.cord import Cord
from andon.events import DeploymentSeen, Marked, MarkWord
from andon.keeper import Store
from andon.model import Act, Deployment, HoldId, OwnerKind, new_id
from andon.ports import READ_LIMIT_S, Passed, whole
from andon.proof import read_current, unreadable

LOOK_LIMIT_S = 2.0
GRACE_S = 3.0
"""How long a rollback by key can be withdrawn before it is sent; none when the verdict is already *regressed*."""


class Shipper:
    """Rollback, push and marks for the lines of one config."""

    def __init__(self, lines: dict[str, LineConfig], door: Door, cord: Cord, store: Store, clock: Clock) -> None:
        self.lines = lines
        self.door = door
        self.cord = cord
        self.store = store
        self.clock = clock

    async def rollback(
        self,
        line: str,
        who: str,
        why: str,
        *,
        to: str = "",
        expected: str = "",
        grace_s: float = 0.0,
        age_s: float = 0.0,
        auto: bool = False,
    ) -> Act:
        """Stop the line, then return to an earlier version: the one `rollback.target` names, or `to`.

        `expected` is the deployment that was on the screen when it was asked; if another one runs, NotDone says so. The
        line stays held whatever becomes of the rollback. Raises NotDone; LedgerUnusable: then nothing was sent.
        """
        self.door.check_may_act(line)
        kind: OwnerKind = "immune" if auto else "person"
        seen = _found(self.store.board.line(line), to, self.clock.now())
        if isinstance(seen, rollback.Target) and expected in ("", seen.current.id):
            # The cord comes at once: neither a slow target nor a slow ledger may delay it.
            await self.cord.pull(line, who, why, kind=kind, deployment=seen.current.id, age_s=age_s)
        if not auto:
            await self._look_first(line)
        going = await self._going_back(line)
        if going is not None and not to:
            await self.cord.pull(line, who, why, kind=kind, age_s=age_s)
            self.door.adopt(going)
            return going
        found = _found(self.store.board.line(line), to, self.clock.now())
        if isinstance(found, rollback.Nothing):
            raise NotDone(found.why)
        if expected and expected != found.current.id:
            raise NotDone(f"{rollback.short(found.current.version)} runs now, not what was on the screen: look again")
        await self.cord.pull(line, who, why, kind=kind, deployment=found.current.id, age_s=age_s)
        # The pull may have waited, behind the same key held down: what it was asked for can be done by now.
        going = await self._going_back(line)
        if going is not None and not to:
            return going
        runs = self.store.board.line(line).current
        if runs is None or runs.id != found.current.id:
            raise NotDone(f"{rollback.short(runs.version) if runs else 'nothing'} runs now: look again")
        act = self._act(
            "rollback", line, found.current, found.to.version, who, why, grace_s=grace_s, age_s=age_s, auto=auto
        )
        return await self.door.ask(act)

    async def _going_back(self, line: str) -> Act | None:
        """The rollback that a press joins: on its way from what runs, or to it. What is unknown is read first."""
        for act in self.store.board.line(line).unsettled("rollback"):
            if act.state == "unknown":
                await self.door.proof.read(act)
                fresh = self.store.board.line(line).acts.get(act.id, act)
                runs = self.store.board.line(line).current
                if fresh.state == "verified" and runs is not None and runs.id in (fresh.ref, fresh.expected):
                    return fresh
                if fresh.settled:
                    continue
            current = self.store.board.line(line).current
            if current is not None and (act.expected == current.id or act.version == current.version):
                return act
        return None

    async def _look_first(self, line: str) -> None:
        """Read what runs, for at most two seconds: the board may be old, or of a ledger that nobody feeds."""
        deploy, entry = self.door.targets.deploy(line), self.lines[line].deploy
        if deploy is None or entry is None:
            return
        try:
            current = await read_current(deploy, LOOK_LIMIT_S)
        except Exception:  # noqa: BLE001 - unreadable, for whatever reason: the target itself, or the next look, decides
            return
        if current is not None and self.store.board.line(line).deployment(current.id) != current:
            seen = DeploymentSeen(line=line, at=current.at, source=entry.source, deployment=current)
            await self.store.commit(seen, urgent=True)

    async def push(self, line: str, version: str, who: str, why: str, *, through: HoldId = "") -> Act:
        """Ship one version whose tests passed for exactly that change; through a hold if the line is stopped."""
        self.door.check_may_act(line)
        board = self.store.board.line(line)
        if not why.strip():
            raise NotDone("a version is pushed with a reason")
        holds = {hold.id for hold in board.open_holds}
        if holds and through not in holds:
            listed = ", ".join(sorted(holds))
            raise NotDone(f"{line} is stopped: name the hold the fix goes through, --through {listed}")
        if through and not holds:
            raise NotDone(f"{line} has no open hold {through}")
        deploy = self.door.targets.deploy(line)
        if deploy is None:
            raise NotDone(f"{line}: the config names no deploy target")
        await self._must_have_passed(line, version)
        try:
            current = await read_current(deploy)
        except Exception as error:  # whatever an adapter does wrong in a read, it is unreadable
            raise NotDone(f"{line}: cannot read what runs: {unreadable(error)}") from error
        if current is not None and current.version == version:
            raise NotDone(f"{rollback.short(version)} already runs")
        return await self.door.ask(self._act("push", line, current, version, who, why, hold=through))

    async def _must_have_passed(self, line: str, version: str) -> None:
        """Raise NotDone unless every CI of the line says that the tests passed for exactly this change."""
        change = self.store.board.line(line).change(version)
        if not self.lines[line].ci:
            raise NotDone(f"{line} has no CI that could say whether the tests of {rollback.short(version)} passed")
        for entry in self.lines[line].ci:
            ci = self.door.targets.ci(line, entry.target)
            if ci is None:
                continue
            try:
                async with asyncio.timeout(READ_LIMIT_S):
                    passed = whole(await ci.passed(change.id if change else version), Passed)
            except Exception as error:  # whatever an adapter does wrong in a read, it is unreadable
                raise NotDone(f"{line}: cannot read whether the tests passed: {unreadable(error)}") from error
            if passed.state != "yes":
                words = {"no": "its tests failed", "running": "its tests still run"}.get(passed.state)
                raise NotDone(f"{rollback.short(version)}: {words or 'no tests are known for exactly this change'}")

    async def mark(self, line: str, deployment: str, mark: MarkWord, who: str, why: str) -> Marked:
        """Say what a deployment is: `good`, `faulty` or `irreversible`. By its id, or by the version that ran last."""
        self.door.check_may_act(line)
        if not why.strip():
            raise NotDone("a deployment is marked with a reason")
        board = self.store.board.line(line)
        found = board.deployment(deployment)
        if found is None:
            matches = [item for item in board.deployments if item.version.startswith(deployment)]
            if not matches or not deployment:
                raise NotDone(f"{line} has no deployment {deployment}")
            if len({item.version for item in matches}) > 1:
                raise NotDone(f"{deployment} fits more than one version; write more of it")
            found = matches[-1]
        event = Marked(
            line=line, at=self.clock.now(), deployment=found.id, version=found.version, mark=mark, who=who, why=why
        )
        await self.store.commit(event)
        return event

    def _act(
        self,
        kind: str,
        line: str,
        current: Deployment | None,
        version: str,
        who: str,
        why: str,
        *,
        hold: HoldId = "",
        grace_s: float = 0.0,
        age_s: float = 0.0,
        auto: bool = False,
    ) -> Act:
        now = self.clock.now()
        entry = self.lines[line].deploy
        return Act(
            id=new_id(),
            kind="rollback" if kind == "rollback" else "push",
            line=line,
            target=entry.target if entry else "",
            subject=current.id if current else "nothing",
            who=who,
            why=why,
            at=now,
            not_before=now + self.clock.real(grace_s),
            not_after=now + self.clock.real(grace_s + NOT_AFTER_S),
            environment=self.lines[line].environment,
            asker=self.door.me,
            auto=auto,
            data_age_s=age_s,
            expected=current.id if current else "",
            version=version,
            hold=hold,
        )


def _found(line: Line, to: str, now: Time) -> rollback.Target | rollback.Nothing:
    """What a rollback would do: to the version that is named, else to the one that the rules choose."""
    return rollback.to_version(line, to, now) if to else rollback.target(line, now)
