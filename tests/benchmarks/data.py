"""The datasets that are measured."""

import shutil
from pathlib import Path

import blosc2
import numpy as np

SHAPE, CHUNKS, BLOCKS = (131072, 2048), (256, 2048), (8, 2048)
"""1 GiB of float32 in 512 chunks of 2 MiB, which compress to about 550 KB each."""


def write_large(file: Path, shape: tuple[int, int] = SHAPE) -> None:
    """Write the large array; each chunk has other values."""
    cparams = blosc2.CParams(codec=blosc2.Codec.ZSTD, clevel=1, nthreads=2)
    array = blosc2.uninit(
        shape, np.float32, chunks=CHUNKS, blocks=BLOCKS, cparams=cparams, urlpath=str(file), mode="w", contiguous=True
    )
    # A steady signal whose lowest 8 bits are noise, as detectors give it: a quarter of the bytes does not compress.
    noise = np.random.default_rng(1).integers(0, 256, CHUNKS, dtype=np.uint32)
    for row in range(0, shape[0], CHUNKS[0]):
        number = row // CHUNKS[0]
        array[row : row + CHUNKS[0]] = (0x42280000 + (number << 8) + np.roll(noise, number, 0)).view(np.float32)


def copies(file: Path, count: int) -> list[Path]:
    """Copy a file, so that each copy is cold in the cache of a subscriber."""
    made = [file.with_stem(f"{file.stem}-{i}") for i in range(count)]
    for copy in made:
        shutil.copyfile(file, copy)
    return made


def write_many(directory: Path, count: int) -> None:
    """Write a root of many small files."""
    for i in range(count):
        folder = directory / f"d{i // 1000:03d}"
        if i % 1000 == 0:
            folder.mkdir(parents=True)
        (folder / f"file-{i:06d}.txt").write_bytes(b"x")
