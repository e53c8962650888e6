"""The plant keeps what andon.contract asks of every adapter; its world runs fast, so that nobody waits for a rollout."""

from contextlib import asynccontextmanager

import pytest

from andon.clock import FastClock
from andon.contract import CIContract, DeployContract, HaltingContract, MetricsContract, NotifierContract
from andon.model import Metric
from tests.adapters.plants import connect, station


class Plant:
    """Opens one station of a new world."""

    kind: str

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.folder = tmp_path

    @asynccontextmanager
    async def opened(self):
        source = station(connect(self.folder, FastClock(100.0), calm_s=10_000.0), self.kind)
        yield source
        await source.close()


class TestCI(Plant, CIContract):
    kind = "ci"


class TestDeploy(Plant, DeployContract):
    kind = "deploy"


class TestHalting(Plant, HaltingContract):
    kind = "ci"


class TestMetrics(Plant, MetricsContract):
    kind = "metrics"
    metric = Metric("conversion", "shop", "proportion", "falls", "conversion")
    nothing = Metric("mood", "shop", "gauge", "falls", "mood")


class TestNotifier(Plant, NotifierContract):
    kind = "notify"
