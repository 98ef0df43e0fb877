"""caterva2.chunks: sound chunks pass, unsound ones never reach Blosc2."""

import os
import subprocess
import sys

import blosc2
import numpy as np
import pytest

from caterva2.chunks import (
    NAN,
    UNINIT,
    ZERO,
    ChunkSpec,
    check_chunk,
    chunk_blocksize,
    chunk_length,
    compress_file_chunk,
    decompress_chunk,
    file_chunksize,
    special_chunk,
    stored_header,
)
from caterva2.errors import FrameError

MIB = 1 << 20


@pytest.mark.parametrize("typesize", [1, 2, 8, 255, 300])
@pytest.mark.parametrize("clevel", [0, 1, 9])
@pytest.mark.parametrize("codec", [c for c in blosc2.Codec if c.value < 32], ids=str)
def test_chunks_of_blosc2_are_sound(codec: blosc2.Codec, clevel: int, typesize: int) -> None:
    """What the installed Blosc2 compresses passes, and decompresses to what it was."""
    data = np.arange(typesize * 700 // 4 + 1, dtype="<i4").tobytes()[: typesize * 700]
    cparams = blosc2.CParams(codec=codec, clevel=clevel, typesize=typesize, blocksize=typesize * 100, nthreads=1)
    chunk = blosc2.compress2(data, cparams=cparams)
    spec = ChunkSpec(len(data), chunk_blocksize(chunk), typesize)

    assert (data, len(chunk)) == (decompress_chunk(chunk, spec), chunk_length(chunk))
    assert data == decompress_chunk(memoryview(chunk), ChunkSpec(len(data), 0, typesize))


@pytest.mark.parametrize(
    "spec", [ChunkSpec(5601, 800, 8), ChunkSpec(5599, 800, 8), ChunkSpec(5600, 400, 8), ChunkSpec(5600, 800, 4)]
)
def test_a_chunk_of_another_form_is_refused(spec: ChunkSpec) -> None:
    """Another length, block size or item size than the frame's is damage."""
    chunk = blosc2.compress2(np.arange(700), typesize=8, blocksize=800)
    check_chunk(chunk, ChunkSpec(5600, 800, 8))
    with pytest.raises(FrameError, match="chunk 7 is damaged"):
        check_chunk(chunk, spec, "chunk 7")


def test_a_chunk_that_is_cut_or_extended_is_refused() -> None:
    """The chunk's own length must be that of its bytes."""
    chunk = blosc2.compress2(np.arange(700), typesize=8, blocksize=800)
    for spoiled in [*(chunk[:n] for n in range(len(chunk))), chunk + b"x"]:
        with pytest.raises(FrameError):
            check_chunk(spoiled, ChunkSpec(5600, 800, 8))


@pytest.mark.parametrize("nbytes", [1, 87, 32 << 10, 100_000, MIB, 16 * MIB])
@pytest.mark.parametrize("kind", ["zeros", "text", "random"])
def test_chunks_of_files(kind: str, nbytes: int) -> None:
    """A file's chunk has no short form, and decompresses to the file's bytes, always from the same bytes."""
    data = {"zeros": bytes(nbytes), "text": (b"words " * nbytes)[:nbytes], "random": os.urandom(nbytes)}[kind]
    chunk = compress_file_chunk(data)
    spec = ChunkSpec(nbytes, 32 << 10, 1)

    assert data == decompress_chunk(chunk, spec)
    assert (0, chunk) == (chunk[31] >> 4 & 7, compress_file_chunk(data))


@pytest.mark.parametrize(("nbytes", "size"), [(0, 16 * MIB), (16 * MIB, 16 * MIB), (16 * MIB + 1, MIB), (5 << 40, MIB)])
def test_large_files_are_cut_finer(nbytes: int, size: int) -> None:
    """A file up to 16 MiB is one chunk; a larger one is cut into chunks of 1 MiB."""
    assert size == file_chunksize(nbytes)


@pytest.mark.parametrize(("kind", "value"), [(ZERO, 0.0), (NAN, np.nan), (UNINIT, 0.0)])
@pytest.mark.parametrize("blocksize", [0, 80])
def test_special_chunks(kind: int, value: float, blocksize: int) -> None:
    """The short forms are sound, and what is not initialised reads as zeros."""
    spec = ChunkSpec(800, blocksize, 8)
    data = decompress_chunk(special_chunk(kind, spec), spec)

    assert np.array_equal(np.full(100, value), np.frombuffer(data), equal_nan=True)


def test_uninitialised_chunks_are_never_decoded() -> None:
    """A chunk that says UNINIT gives zeros, and not this process's memory."""
    spec = ChunkSpec(800, 80, 8)
    chunk = bytearray(special_chunk(ZERO, spec))
    chunk[31] = UNINIT << 4

    assert bytes(800) == decompress_chunk(bytes(chunk), spec)


def test_stored_headers() -> None:
    """Header and data together are an uncompressed chunk, also of large items."""
    for typesize in (1, 8, 300):
        data = os.urandom(typesize * 10)
        spec = ChunkSpec(len(data), len(data), typesize)

        assert data == decompress_chunk(stored_header(spec) + data, spec)


_FUZZ = """
import faulthandler, os, random, struct, sys, time
faulthandler.enable()
import blosc2, numpy as np
from caterva2.chunks import ChunkSpec, decompress_chunk
from caterva2.errors import FrameError
random.seed(1)
rng = np.random.default_rng(1)
chunks = []
for codec in (blosc2.Codec.LZ4, blosc2.Codec.ZSTD, blosc2.Codec.BLOSCLZ, blosc2.Codec.ZLIB, blosc2.Codec.LZ4HC):
    for name in (blosc2.Filter.NOFILTER, blosc2.Filter.SHUFFLE, blosc2.Filter.BITSHUFFLE, blosc2.Filter.DELTA):
        cparams = blosc2.CParams(codec=codec, filters=[name], filters_meta=[0], typesize=8, blocksize=800, nthreads=1)
        chunks.append(blosc2.compress2(rng.integers(0, 99, 700), cparams=cparams))
spec = ChunkSpec(5600, 800, 8)
accepted = refused = 0
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    chunk = bytearray(random.choice(chunks))
    for _ in range(random.choice((1, 1, 2, 8))):
        at = random.randrange(random.choice((32, 64, len(chunk))))
        chunk[at] = random.choice((chunk[at] ^ 1 << random.randrange(8), random.randrange(256), 0, 255))
    if random.random() < 0.2:
        del chunk[random.randrange(len(chunk)):]
        if len(chunk) >= 16:
            struct.pack_into("<i", chunk, 12, len(chunk))
    try:
        data = decompress_chunk(bytes(chunk), spec)
        assert len(data) == 5600
        accepted += 1
    except FrameError:
        refused += 1
print(accepted, refused)
"""


def test_mutated_chunks_are_refused_or_decode_and_nothing_crashes() -> None:
    """What passes the check never crashes Blosc2; a crash would show as a signal."""
    done = subprocess.run([sys.executable, "-c", _FUZZ, "4"], capture_output=True, text=True, timeout=100, check=False)

    assert 0 == done.returncode, done.stderr[-3000:]
    accepted, refused = map(int, done.stdout.split())
    assert accepted > 100
    assert refused > 100
