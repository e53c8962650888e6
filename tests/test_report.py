"""`andon report` as Markdown, JSON and a page: true to the ledger, and harmless whatever stands in it."""

import re
import time

import pytest

from adapters.sqlite import SqliteLedger
from andon.clock import WallClock
from andon.events import ChangesSeen, DeploymentSeen, Judged
from andon.model import Change, Deployment, Verdict
from tests.room_helpers import HOSTILE
from tests.test_commandline import Done, Shop

WORDS = [*HOSTILE, "| a [b](c) <i> `d` *e*"]
CONFIG = """
ledger: ledger.db
connections:
  one: {adapter: plant, seed: 1, world: ./one.world, calm_s: 1e9}
lines:
  checkout:
    deploy: {from: one}
"""


@pytest.fixture
def desk(tmp_path):
    shop = Shop(tmp_path, CONFIG)
    ledger = SqliteLedger(str(tmp_path / "ledger.db"), WallClock())
    now = time.time()
    for index, words in enumerate(WORDS):
        at = now - 3600 + index
        change = Change(f"c0ffee{index:02}", words, words[:20], at - 600)
        ledger.commit(ChangesSeen(line="checkout", at=at, source="ci", changes=(change,)))
        made = Deployment(f"d{index}{words[:10]}", change.id, "settled", at, by=words[:20])
        ledger.commit(DeploymentSeen(line="checkout", at=at, source="plant", deployment=made))
        found = Verdict("healthy", words)
        ledger.commit(Judged(line="checkout", at=at, deployment=made.id, verdict=found, final=True))
    ledger.close()
    return shop


def report(desk: Shop, *options: str) -> Done:
    return desk.do("report", "checkout", *options)


def test_json_has_every_key_also_where_nothing_is_known(desk):
    found = report(desk, "--format", "json").json
    for name in ("lead_time", "frequency", "fail_rate", "recovery", "rework", "learning", "stopping", "prevented"):
        assert {"value", "n", "low", "high", "p90", "rows", "words"} <= set(found[name]), name
    assert (found["recovery"]["value"], found["recovery"]["n"]) == (None, 0)
    assert found["frequency"]["n"] == len(WORDS)
    assert set(report(desk, "--json").json) == set(found)


def test_markdown_holds_strangers_text_as_text_only(desk):
    done = report(desk)
    assert done.code == 0, done.err
    assert "| Change lead time | 10.0 min" in done.out
    row = next(line for line in done.out.splitlines() if "(c)" in line)
    assert "\\| a \\[b](c) &lt;i> 'd' \\*e\\*" in row


def test_the_page_holds_no_script_no_address_and_no_markup_of_strangers(desk):
    done = report(desk, "--format", "html")
    assert done.code == 0, done.err
    page = done.out
    assert page.startswith("<!doctype html>")
    assert set(re.findall(r"<([a-z0-9]+)", page)) <= {
        *(
            "html",
            "head",
            "meta",
            "title",
            "style",
            "body",
            "h1",
            "h2",
            "p",
            "div",
            "a",
            "i",
            "b",
            "svg",
            "rect",
            "line",
        ),
        *("circle", "text", "details", "summary", "table", "tr", "td", "th"),
    }
    assert "&lt;i&gt;" in page
    assert not re.search(r"(src|href)=\"(?!#f\d)", page)
    assert "default-src 'none'" in page


def test_a_line_that_is_not_there_is_said(desk):
    done = desk.do("report", "chekout")
    assert done.code == 2
    assert "chekout" in done.err
