"""Frames, and the mirrors of them, as a publisher and a subscriber would have them."""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import blosc2

from caterva2.frames import FrameLayout, Skeleton
from caterva2.metadata import describe
from caterva2.models import DatasetEntry, Kind
from caterva2.paths import DatasetPath, RootName
from caterva2.records import SkeletonHead, digest_of
from caterva2.subscriber.mirror import Mirror
from caterva2.subscriber.mirrors import MirrorStore
from tests.support.arrays import Array

PATH = DatasetPath(RootName("foo"), "dir/a.b2nd")


@dataclass(frozen=True)
class Source:
    """A frame as it is published."""

    data: bytes
    head: SkeletonHead
    skeleton: Skeleton
    layout: FrameLayout

    def chunk(self, n: int) -> bytes:
        """A stored chunk."""
        offset = int(self.layout.offsets[n])
        (length,) = struct.unpack_from("<i", self.data, offset + 12)
        return self.data[offset : offset + length]

    def put(self, mirror: Mirror, *numbers: int) -> None:
        """Send chunks to a mirror."""
        for n in numbers:
            mirror.put(n, digest_of(self.chunk(n)), self.chunk(n))

    def fill(self, mirror: Mirror) -> Mirror:
        """Send all chunks that a mirror lacks."""
        self.put(mirror, *mirror.missing(range(self.layout.nchunks)))
        return mirror


def source(data: bytes, etag: str = "1", kind: Kind = "array", name: str = PATH.name) -> Source:
    """Publish the bytes of a frame."""
    skeleton, layout = Skeleton.read(lambda offset, length: data[offset : offset + length], len(data))
    entry = DatasetEntry(path=name, kind=kind, etag=etag, nbytes=len(data), mtime=1.0)
    info = describe(kind, skeleton, layout, cbytes=layout.cbytes, mtime=1.0)
    return Source(data, SkeletonHead(entry=entry, info=info, slotted=False), skeleton, layout)


def array_source(values: Array, etag: str = "1", **options: Any) -> Source:
    """Publish an array."""
    cparams = options.pop("cparams", None) or blosc2.CParams(nthreads=1, typesize=values.dtype.itemsize)
    return source(blosc2.asarray(values, cparams=cparams, contiguous=True, **options).to_cframe(), etag)


def mirrored(directory: Path, published: Source, path: DatasetPath = PATH) -> Mirror:
    """Mirror all of it."""
    return published.fill(MirrorStore(directory).create(path, published.head, published.skeleton))
