"""What a subscriber says of one version of a file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from pydantic import ValidationError

from caterva2.client.answers import Answer
from caterva2.dtypes import parse_dtype
from caterva2.errors import BadGatewayError
from caterva2.models import ArrayInfo, FrameInfo, SchunkInfo
from caterva2.paths import DatasetPath


@dataclass(frozen=True)
class Version:
    """What the subscriber says of one version of a file.

    Attributes:
        meta: the answer of `GET /api/info` as it is.
        info: the same, checked.
        etag: the version; None when the server names none.
    """

    meta: dict[str, Any]
    info: ArrayInfo | FrameInfo
    etag: str | None

    @classmethod
    def of(cls, answer: Answer, path: DatasetPath) -> Version:
        """Read an answer of `GET /api/info`.

        Raises:
            BadGatewayError: if it is something else.
        """
        meta = answer.json()
        model = ArrayInfo if isinstance(meta, dict) and "shape" in meta else FrameInfo
        try:
            return cls(meta, model.model_validate(meta), answer.etag)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "it"
            raise BadGatewayError(f"the description of {path} makes no sense: {place}: {first['msg']}") from error

    @cached_property
    def schunk(self) -> SchunkInfo:
        """The compressed storage."""
        return self.info.schunk if isinstance(self.info, ArrayInfo) else self.info

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of an item; bytes for what is not an array."""
        if isinstance(self.info, ArrayInfo):
            return parse_dtype(self.info.dtype)
        return np.dtype((np.void, max(1, int(self.info.cparams.get("typesize", 1)))))

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """What slices are resolved against."""
        if isinstance(self.info, ArrayInfo):
            return self.info.shape
        return (self.info.nbytes // self.dtype.itemsize,)
