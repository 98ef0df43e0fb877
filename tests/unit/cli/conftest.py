from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.client.subscriber import FakeSubscriber, Stage, serving


@pytest.fixture(scope="session")
def stage() -> Iterator[tuple[Stage, str]]:
    """One listening server for all tests: starting and stopping one takes longer than most of them."""
    stage = Stage()
    with serving(stage) as url:
        yield stage, url


@pytest.fixture
def subscriber(stage: tuple[Stage, str]) -> FakeSubscriber:
    """A subscriber without datasets."""
    fake = FakeSubscriber()
    stage[0].app, fake.url = fake.app(), stage[1]
    return fake
