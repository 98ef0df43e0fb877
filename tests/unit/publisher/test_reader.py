"""caterva2.publisher.reader: one version per answer, a bounded cache, bounded reading ahead."""

import asyncio
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caterva2.errors import NotFoundError, UnavailableError, VersionChangedError
from caterva2.frames import file_skeleton
from caterva2.publisher.directory import Directory
from caterva2.publisher.reader import AnatomyCache, Reader
from caterva2.publisher.source import Anatomy, OpenDataset


def anatomy(nbytes: int = 1) -> Anatomy:
    """The anatomy of a plain file."""
    skeleton = file_skeleton(nbytes)
    return Anatomy(skeleton, skeleton.layout())


SAMPLE = anatomy()


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=60))
def test_the_cache_keeps_what_was_used_last_within_its_limit(steps: list[tuple[int, bool]]) -> None:
    """Whatever is put and got, the cache is a least-recently-used one of three entries."""
    cache, model = AnatomyCache(3 * SAMPLE.cost), dict[int, None]()
    for n, put in steps:
        if put and n not in model:
            cache.put((str(n), ""), SAMPLE)
            model[n] = None
            for old in [*model][:-3]:
                del model[old]
        elif not put:
            assert (n in model) == (cache.get((str(n), "")) is not None)
            if n in model:
                del model[n]
                model[n] = None

        assert len(model) * SAMPLE.cost == cache.size


def test_what_is_larger_than_the_cache_is_not_kept() -> None:
    """One huge anatomy does not drive out all others."""
    cache = AnatomyCache(2 * SAMPLE.cost)
    cache.put(("small", ""), SAMPLE)
    cache.put(("huge", ""), anatomy(100 << 30))

    assert cache.get(("small", "")) is SAMPLE
    assert cache.get(("huge", "")) is None


def reader(root: Path, settle: float = 0.0, seen: list[tuple[str, str | None]] | None = None) -> Reader:
    """A reader of a directory."""
    met = [] if seen is None else seen
    return Reader(Directory(root), settle=settle, on_version=lambda path, etag: met.append((path, etag)))


def test_a_young_file_is_waited_for(tmp_path: Path) -> None:
    """What was just written is read once it was left alone for long enough."""

    async def scenario() -> None:
        (tmp_path / "a").write_text("x")
        touched = (tmp_path / "a").stat().st_ctime
        async with reader(tmp_path, settle=0.3).open("a") as dataset:
            assert 0.3 <= time.time() - touched
            assert b"x" == dataset.pread(0, 1)

    asyncio.run(scenario())


def test_a_file_from_the_future_is_read_when_it_does_not_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the clock was set back, files are not refused until it has caught up."""
    (tmp_path / "a").write_text("x")
    opened = Directory.open

    def from_the_future(self: Directory, path: str) -> OpenDataset:
        dataset = opened(self, path)
        dataset.version = replace(dataset.version, touched=time.time() + 3600)
        return dataset

    monkeypatch.setattr(Directory, "open", from_the_future)

    async def scenario() -> None:
        async with reader(tmp_path, settle=0.1).open("a") as dataset:
            assert b"x" == dataset.pread(0, 1)

    asyncio.run(scenario())


def test_a_file_that_does_not_come_to_rest_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait is bounded, and the error says when to try again."""
    monkeypatch.setattr("caterva2.publisher.reader._PATIENCE", 0.2)

    async def scenario() -> None:
        async def touch() -> None:
            while True:
                os.utime(tmp_path / "a")
                await asyncio.sleep(0.01)

        (tmp_path / "a").write_text("x")
        toucher = asyncio.create_task(touch())
        with pytest.raises(UnavailableError) as caught:
            await reader(tmp_path, settle=0.5).read("a", lambda dataset, anatomy: None)
        toucher.cancel()

        assert 1.0 == caught.value.retry_after

    asyncio.run(scenario())


def test_a_version_that_changes_while_it_is_read_is_read_again(tmp_path: Path) -> None:
    """What was taken of a version that is no more does not count."""

    async def scenario() -> None:
        (tmp_path / "a").write_text("old")
        answers: list[bytes] = []

        def take(dataset: OpenDataset, _anatomy: Anatomy) -> bytes:
            answers.append(dataset.pread(0, 10))
            if len(answers) == 1:
                (tmp_path / "a").write_text("new!")
            return answers[-1]

        assert b"new!" == await reader(tmp_path).read("a", take)
        assert [b"old", b"new!"] == answers

    asyncio.run(scenario())


def test_each_version_met_is_told(tmp_path: Path) -> None:
    """What readers meet, also nothing, is told, so that the journal can be put right."""

    async def scenario() -> None:
        (tmp_path / "a").write_text("x")
        seen: list[tuple[str, str | None]] = []
        reading = reader(tmp_path, seen=seen)
        async with reading.open("a") as dataset:
            etag = dataset.version.etag
        with pytest.raises(NotFoundError):
            await reading.read("b", lambda dataset, anatomy: None)

        assert [("a", etag), ("b", None)] == seen

    asyncio.run(scenario())


def test_chunks_of_a_version_that_is_no_more_are_not_given(tmp_path: Path) -> None:
    """The piece during whose reading the file changed is not given out."""

    async def scenario() -> None:
        (tmp_path / "a").write_bytes(bytes(20 << 20))
        reading = reader(tmp_path)
        async with reading.open("a") as dataset:
            found = reading.anatomy("a", dataset)
            os.utime(tmp_path / "a")
            with pytest.raises(VersionChangedError):
                await anext(aiter(reading.pieces(dataset, found, [0, 1, 2])))

    asyncio.run(scenario())
