"""Single Blosc2 chunks: what a sound one looks like, and the chunks that plain files are cut into.

The format is C-Blosc2's (README_CHUNK_FORMAT.rst there). Blosc2 trusts the lengths that a chunk states, so no chunk
from a file or from the network reaches it before `check_chunk` has passed it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import blosc2
import numpy as np

from caterva2.errors import FrameError

CHUNK_HEADER = 32  # bytes; also the largest overhead that compression adds to a chunk
ZERO, NAN, VALUE, UNINIT = 1, 2, 3, 4
# A file up to one chunk of upstream's size is one chunk, as there; a larger one is cut finer, so that a slice of
# it, or an append to it, costs little.
_FILE_CHUNKSIZE, _LARGE_FILE_CHUNKSIZE = 16 << 20, 1 << 20
FILE_BLOCKSIZE = 32 << 10


@dataclass(frozen=True, slots=True)
class ChunkSpec:
    """What a sound chunk must say of itself; sizes in bytes, `blocksize` 0 when the frame leaves it open."""

    nbytes: int
    blocksize: int
    typesize: int


def check_chunk(chunk: bytes | memoryview, spec: ChunkSpec, what: str = "the chunk") -> None:
    """Refuse whatever Blosc2 must not see: it trusts the lengths that a chunk states.

    Raises:
        FrameError: if the chunk is not what `spec` says, or points outside of itself.
    """
    if (reason := _flaw(chunk, spec)) is not None:
        raise FrameError(f"{what} is damaged: {reason}")


def _flaw(chunk: bytes | memoryview, spec: ChunkSpec) -> str | None:
    if len(chunk) < CHUNK_HEADER:
        return "it is truncated"
    nbytes, blocksize, cbytes = struct.unpack_from("<iii", chunk, 4)
    kind = chunk[31] >> 4 & 7
    if chunk[0] != 5 or chunk[2] & 5 != 5 or chunk[31] & 8 or kind > UNINIT:
        return "its header is of an unknown form"
    if chunk[3] != (spec.typesize if spec.typesize < 256 else 1):
        return "it has items of another size"
    if nbytes != spec.nbytes or cbytes != len(chunk):
        return "its length is wrong"
    if blocksize < 1 or (spec.blocksize and blocksize != min(spec.blocksize, nbytes)):
        return "its blocks have another size"
    if kind:
        return None if len(chunk) == CHUNK_HEADER + (spec.typesize if kind == VALUE else 0) else "its length is wrong"
    if chunk[2] & 2:
        return None if cbytes == nbytes + CHUNK_HEADER else "its length is wrong"
    return _flaw_of_blocks(chunk, -(-nbytes // blocksize))


def _flaw_of_blocks(chunk: bytes | memoryview, nblocks: int) -> str | None:
    start = CHUNK_HEADER + 4 * nblocks
    if len(chunk) < start:
        return "it is truncated"
    starts = np.frombuffer(chunk, "<i4", nblocks, CHUNK_HEADER)
    return "a block lies outside of it" if starts.min() < start or starts.max() > len(chunk) - 4 else None


def chunk_length(header: bytes | memoryview) -> int:
    """The length in bytes that a chunk states in its first 16 bytes; not yet believed."""
    return int(struct.unpack_from("<i", header, 12)[0])


def chunk_blocksize(header: bytes | memoryview) -> int:
    """The size in bytes of the blocks that a chunk states in its first 12 bytes; not yet believed."""
    return int(struct.unpack_from("<i", header, 8)[0])


def special_chunk(kind: int, spec: ChunkSpec) -> bytes:
    """Make the 32 bytes that stand for a chunk of zeros or NaNs; uninitialised ones are given as zeros."""
    # Decoding UNINIT would hand out whatever the process had in that memory.
    form = NAN if kind == NAN else ZERO
    blocksize = min(spec.blocksize or spec.nbytes, spec.nbytes)
    head = bytearray(
        struct.pack("<4B3i", 5, 1, 5 | 0x10, min(spec.typesize, 255), spec.nbytes, blocksize, CHUNK_HEADER)
    )
    head[3] = spec.typesize if spec.typesize < 256 else 1
    return bytes(head + bytes(15) + bytes([form << 4]))


def stored_header(spec: ChunkSpec) -> bytes:
    """Make the header of a chunk that is stored uncompressed; its data would follow."""
    typesize = spec.typesize if spec.typesize < 256 else 1
    blocksize = min(spec.blocksize or spec.nbytes, spec.nbytes)
    return struct.pack("<4B3i", 5, 1, 7, typesize, spec.nbytes, blocksize, spec.nbytes + CHUNK_HEADER) + bytes(16)


def file_chunksize(nbytes: int) -> int:
    """The size, in bytes, of the chunks that a plain file of `nbytes` bytes is cut into."""
    return _FILE_CHUNKSIZE if nbytes <= _FILE_CHUNKSIZE else _LARGE_FILE_CHUNKSIZE


def file_cparams(nbytes: int = _FILE_CHUNKSIZE) -> blosc2.CParams:
    """How a plain file is compressed; one thread makes the same bytes every time."""
    return blosc2.CParams(
        typesize=1, codec=blosc2.Codec.ZSTD, clevel=1, nthreads=1, blocksize=min(FILE_BLOCKSIZE, max(nbytes, 1)),
        filters=[blosc2.Filter.NOFILTER] * 5 + [blosc2.Filter.SHUFFLE],
    )  # fmt: skip


def compress_file_chunk(data: bytes) -> bytes:
    """Compress one chunk of a plain file."""
    chunk: bytes = blosc2.compress2(data, cparams=file_cparams(len(data)))
    # Blosc2 reads the short form of an all-zeros chunk from an index only, not from a chunk's place in a frame.
    return _zeros_by_block(chunk) if chunk[31] >> 4 & 7 == ZERO else chunk


def _zeros_by_block(special: bytes) -> bytes:
    """Write a special chunk of zeros as one whose blocks each are the stream of length 0 that means zeros."""
    nbytes, blocksize, _ = struct.unpack_from("<iii", special, 4)
    nblocks = -(-nbytes // blocksize)
    start = CHUNK_HEADER + 4 * nblocks
    head = bytearray(special[:CHUNK_HEADER])
    struct.pack_into("<i", head, 12, start + 4 * nblocks)
    head[31] &= 0x8F
    return bytes(head) + struct.pack(f"<{nblocks}i", *range(start, start + 4 * nblocks, 4)) + bytes(4 * nblocks)


def decompress_chunk(chunk: bytes | memoryview, spec: ChunkSpec, what: str = "the chunk") -> bytes:
    """Decompress a chunk, after `check_chunk`.

    Raises:
        FrameError: if the chunk is damaged.
    """
    check_chunk(chunk, spec, what)
    if chunk[31] >> 4 & 7 == UNINIT:
        return bytes(spec.nbytes)
    try:
        # With several threads a damaged first block of a DELTA chunk leaves the others waiting for ever.
        data: bytes = blosc2.decompress2(chunk, nthreads=1)
    except (RuntimeError, ValueError, TypeError) as error:
        raise FrameError(f"{what} is damaged: it does not decompress") from error
    return data
