"""A control under a real duty: both sides are asked and kept, judged and acted on, and what was recorded is replayed."""

from pathlib import Path

import msgspec
import pytest

from andon.config import Config
from andon.events import Armed, Judged, decode
from tests.fakes import LINE, Guard, Shop, play
from tests.test_control_watch import BESIDE, Sides
from tests.test_statistical import _at_once, deployed, minutes
from tui import replaying


@pytest.mark.parametrize("worse", [0.6, 1.0])
def test_both_sides_are_asked_judged_and_replayed(worse: float) -> None:
    recorded: list[object] = []

    async def work(shop: Shop) -> None:
        now = deployed(shop)
        line = msgspec.structs.replace(shop.lines[LINE], metrics=(BESIDE,), shadow=0, canary_s=600.0)
        shop.lines[LINE] = line
        shop.meters["meter"] = Sides(  # type: ignore[assignment]
            shop, lambda at: worse if at >= now else 1.0, lambda at: 0.5 if at >= now + 60 else 1.0, 9000.0
        )
        guard = Guard(shop)
        guard.duty.watcher.statistical.in_thread = _at_once
        await minutes(12)
        watch = guard.line().watches["d2"]
        assert watch.verdict is not None
        assert watch.verdict.word == ("regressed" if worse < 1 else "healthy"), watch.verdict.sentence
        assert len(guard.room.acts("rollback")) == (1 if worse < 1 else 0)
        events = [decode(row.kind, row.body) for row in shop.ledger.read(0, 100_000)]
        recorded.extend([Config(Path("andon.yaml"), lines=shop.lines), replaying._Record(LINE, watch), events])

    play(work)
    config, record, events = recorded
    for event in events:  # type: ignore[attr-defined]
        if isinstance(event, Armed | Judged) and event.deployment == "d2":
            replaying._note(record, event, {})  # type: ignore[arg-type]
    again = replaying._again(config, record, "conversion")  # type: ignore[arg-type]
    verdict = record.judged["conversion"][0].verdict  # type: ignore[attr-defined]
    assert again.same
    assert again.sentence == verdict.sentence
    assert len(again.looks) == len(verdict.numbers) > 3
