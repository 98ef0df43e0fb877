"""The Python client of a subscriber: `Client`, `Root`, `File`, `Dataset`, and functions for single requests.

`session` carries requests, login and errors; `answers`, `decoding` and `downloads` take answers apart; `objects`,
`files` and `watching` are what a program holds; `api` is the way in. It needs httpx, numpy, blosc2 and pydantic,
and nothing that only a daemon needs.
"""

from caterva2.client.api import (
    Client,
    adduser,
    append,
    copy,
    deluser,
    download,
    fetch,
    get_auth_cookie,
    get_chunk,
    get_info,
    get_list,
    get_roots,
    lazyexpr,
    listusers,
    move,
    remove,
    subscribe,
    upload,
)
from caterva2.client.auth import BasicAuth
from caterva2.client.files import Dataset, File
from caterva2.client.objects import Root
from caterva2.client.session import Session, sub_urlbase_default
from caterva2.client.watching import Change, Watch

__all__ = [
    "BasicAuth",
    "Change",
    "Client",
    "Dataset",
    "File",
    "Root",
    "Session",
    "Watch",
    "adduser",
    "append",
    "copy",
    "deluser",
    "download",
    "fetch",
    "get_auth_cookie",
    "get_chunk",
    "get_info",
    "get_list",
    "get_roots",
    "lazyexpr",
    "listusers",
    "move",
    "remove",
    "sub_urlbase_default",
    "subscribe",
    "upload",
]
