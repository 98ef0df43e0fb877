"""Verifying the cache: every chunk on disk against its digest; what is wrong is dropped and fetched again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from caterva2.errors import Caterva2Error, NotFoundError
from caterva2.models import VerifyAnswer
from caterva2.paths import DatasetPath
from caterva2.subscriber.catalog import Catalog
from caterva2.subscriber.mirror import Mirror
from caterva2.subscriber.mirrors import MirrorStore
from caterva2.subscriber.reader import Reader

logger = logging.getLogger(__name__)

# Chunks that are checked before others may use the thread.
_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Scrubber:
    """Verifies mirrors.

    Args:
        catalog: what is known of the roots.
        mirrors: what is on disk.
        reader: fetches again what was wrong.
        lets: whether the caller may read a dataset; others are left out.
    """

    catalog: Catalog
    mirrors: MirrorStore
    reader: Reader
    lets: Callable[[DatasetPath], bool]

    def paths(self, path: DatasetPath) -> list[DatasetPath]:
        """The datasets at or below a path.

        Raises:
            NotFoundError: if there is neither a root, a directory nor a dataset of this name.
        """
        if path.root.own:
            return []
        root = self.catalog.root(path.root)
        start = f"{path.name}/" if path.name else ""
        names = [name for name in self.catalog.datasets(root.name) if name == path.name or name.startswith(start)]
        if path.name and not names:
            raise NotFoundError(f"{path} does not exist")
        found = (DatasetPath(path.root, name) for name in sorted(names))
        return [each for each in found if self.lets(each)]

    async def verify(self, path: DatasetPath) -> AsyncIterator[VerifyAnswer]:
        """Verify the mirrors at or below a path.

        Yields:
            What was found so far, after each dataset, and at the end.
        """
        checked = wrong = refetched = 0
        for one in await asyncio.to_thread(self.paths, path):
            mirror = self.mirrors.get(one) or await asyncio.to_thread(self.mirrors.load, one)
            if mirror is None:
                continue
            kept = mirror.kept.tolist()
            for at in range(0, len(kept), _AT_ONCE):
                numbers = kept[at : at + _AT_ONCE]
                bad = await asyncio.to_thread(_bad, mirror, numbers)
                checked, wrong = checked + len(numbers), wrong + len(bad)
                if bad:
                    refetched += await self._refetch(one, mirror, bad)
                yield VerifyAnswer(checked=checked, wrong=wrong, refetched=refetched)
        yield VerifyAnswer(checked=checked, wrong=wrong, refetched=refetched)

    async def _refetch(self, path: DatasetPath, mirror: Mirror, numbers: list[int]) -> int:
        """Fetch chunks again, if this is still the version to have; return how many came."""
        logger.warning("%d chunks of %s were damaged in the cache", len(numbers), path)
        try:
            read = await self.reader.open(path)
            if read.frame is mirror:
                await self.reader.ensure(read, numbers)
        except Caterva2Error as error:
            # They are holes now, and are fetched when they are wanted.
            logger.warning("damaged chunks of %s could not be fetched again: %s", path, error)
            return 0
        return len(numbers) - len(mirror.missing(numbers))


def _bad(mirror: Mirror, numbers: list[int]) -> list[int]:
    return [n for n in numbers if not mirror.check(n)]
