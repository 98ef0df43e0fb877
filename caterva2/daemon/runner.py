"""Run an app: as a process, or inside a caller's event loop.

The app's lifespan is entered here and not by uvicorn, which would turn an error of start-up into a log of its
own; so it reaches the caller as it was raised, and the lifespan ends after the last request.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from enum import IntEnum
from pathlib import Path
from typing import Protocol, TypeVar

import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from caterva2.address import Address
from caterva2.daemon.arguments import Command, parser
from caterva2.daemon.guarded import Guard, guarded_by
from caterva2.daemon.latency import prefer_latency
from caterva2.daemon.listener import listening
from caterva2.daemon.logs import configure_logging
from caterva2.daemon.tls import Reloadable
from caterva2.errors import Caterva2Error, SettingsError

logger = logging.getLogger(__name__)
# Seconds for requests under way. Streams that never end are ended by what an app put into `app.state.on_stop`, which is
# called at once; others (MQTT over WebSocket) are cut after it.
_GRACE = 3
# Seconds that cut requests have to clean up before the lifespan ends.
_CLEAN_UP = 2.0
# Seconds that an idle connection is kept: longer than any client keeps it, or it would meet a closed one.
_KEEP_ALIVE = 75
_WS_MAX_SIZE = 1024 * 1024


class ExitStatus(IntEnum):
    """How a daemon ended."""

    OK = 0
    CRASHED = 1
    BAD_SETTINGS = 2


class DaemonSettings(Protocol):
    """What the runner needs to know of a daemon's settings."""

    @property
    def http(self) -> Address:
        """Where to listen."""

    @property
    def certificate(self) -> Path | None:
        """The certificate to show; None is no TLS."""

    @property
    def key(self) -> Path | None:
        """Its private key; None if it is in the same file."""

    @property
    def loglevel(self) -> str:
        """What to log."""

    @property
    def max_connections(self) -> int:
        """Connections at once."""

    @property
    def patience(self) -> float:
        """Seconds that a client may take to go on."""


Settings = TypeVar("Settings", bound=DaemonSettings)
AppFactory = Callable[[Settings, Address], Starlette]
Loader = Callable[[Mapping[str, object], Mapping[str, str], Path], Settings]


def main_for(
    command: Command, load: Loader[Settings], create_app: AppFactory[Settings], argv: Sequence[str] | None
) -> int:
    """Be the `main` of a daemon: read the settings, serve until told to stop.

    Args:
        command: the daemon.
        load: makes its settings of options, environment and current directory.
        create_app: makes its app of the settings and the address that is listened on.
        argv: the arguments; None for those of the process.

    Returns:
        The exit status.
    """
    options = vars(parser(command).parse_args(argv))
    try:
        settings = load(options, os.environ, Path.cwd())
    except SettingsError as error:
        return _refuse(command.prog, error)
    return serve(create_app, settings, command)


def serve(create_app: AppFactory[Settings], settings: Settings, command: Command) -> int:
    """Serve until SIGINT or SIGTERM, or until a background task crashes; return the exit status."""
    configure_logging(settings.loglevel)
    title = " ".join(filter(None, (command.prog, _name_of(settings))))
    try:
        tls = _tls(settings)
        with listening(settings.http, f"--http or [{command.kind}] http") as (bound, address):
            address = replace(address, tls=tls is not None)
            app = create_app(settings, address)
            server = AppServer(app, bound, settings, tls=tls, access_log=settings.loglevel == "debug")
            prefer_latency()
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(_until_stopped(server, f"{title}: listening on {_where(address)}"))
    except Caterva2Error as error:
        return _refuse(title, error)


@asynccontextmanager
async def serving(create_app: AppFactory[Settings], settings: Settings) -> AsyncIterator[str]:
    """Serve inside the caller's event loop; give the base of its URLs.

    Raises:
        Exception: what the app's lifespan raises; on leaving, what crashed a background task.
    """
    tls = _tls(settings)
    with listening(settings.http) as (bound, address):
        address = replace(address, tls=tls is not None)
        server = AppServer(create_app(settings, address), bound, settings, tls=tls)
        task = asyncio.create_task(server.run(), name=f"server on {address}")
        try:
            await _started(server, task)
            yield "http://localhost" if address.socket else address.url
        finally:
            server.stop()
            await asyncio.wait({task})
        if not task.cancelled():
            task.result()
    if server.crash is not None:
        raise server.crash


async def _started(server: AppServer, task: asyncio.Task[None]) -> None:
    waiting = asyncio.create_task(server.started.wait(), name="waiting for the server")
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    if task.done():
        task.result()


class AppServer:
    """One app on one socket.

    Args:
        app: the app; not yet started.
        bound: the socket; already listening.
        guard: the settings that bound what a client may take.
        tls: what it speaks TLS with; None is plain HTTP.
        access_log: whether to log each request.
    """

    def __init__(
        self,
        app: Starlette,
        bound: socket.socket,
        guard: Guard,
        *,
        tls: Reloadable | None = None,
        access_log: bool = False,
    ) -> None:
        # A redirect names the address that we listen on, which is not the one that clients use behind a proxy.
        app.router.redirect_slashes = False
        self.crash: BaseException | None = None
        self.started = asyncio.Event()
        self._app = app
        self._socket = bound
        self._guard = guard
        self._tls = tls
        self._access_log = access_log
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None
        self._stops = 0
        self._on_stop: list[Callable[[], None]] = []
        self._on_reload: list[Callable[[], object]] = [] if tls is None else [tls.reload]

    async def run(self) -> None:
        """Start the app, serve it until `stop`, and end it."""
        self._task = asyncio.current_task()
        self._app.state.on_crash = self._crashed
        self._app.state.on_stop = self._on_stop
        self._app.state.on_reload = self._on_reload
        async with self._app.router.lifespan_context(self._app) as state:
            app = _WithState(self._app, state or {})
            config = _config(app, self._guard, self._tls, access_log=self._access_log)
            server = self._server = _Server(config, self.started.set)
            if self._stops == 0:
                await server.serve(sockets=[self._socket])
                await _finish(server.server_state.tasks)

    def stop(self) -> None:
        """Ask for a clean end; asked again, end at once."""
        self._stops += 1
        while self._on_stop:
            self._on_stop.pop()()
        if self._server is None or not self._server.started:
            self._cancel()
            return
        self._server.should_exit = True
        if self._stops > 1:
            self._server.force_exit = True
            self._cancel()

    def reload(self) -> bool:
        """Read certificates again, and what else an app put into `app.state.on_reload`; return whether there is any."""
        for each in self._on_reload:
            each()
        return bool(self._on_reload)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _crashed(self, error: BaseException) -> None:
        self.crash = self.crash or error
        if self._stops == 0:
            self.stop()


class _WithState:
    """Hands the lifespan's state to each request, as a server does that enters the lifespan itself."""

    def __init__(self, app: ASGIApp, state: Mapping[str, object]) -> None:
        self._app = app
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"] = dict(self._state)
        await self._app(scope, receive, send)


class _Server(uvicorn.Server):
    """uvicorn's server, which leaves the signals to us and says when it is ready."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _config(app: ASGIApp, guard: Guard, tls: Reloadable | None, *, access_log: bool) -> uvicorn.Config:
    config = uvicorn.Config(
        app,
        lifespan="off",
        http=guarded_by(guard),
        ws="websockets-sansio",
        ws_max_size=_WS_MAX_SIZE,
        ws_per_message_deflate=False,
        # MQTT has pings of its own, and paho answers these without a mask: each connection would end at the first one.
        ws_ping_interval=None,
        log_config=None,
        access_log=access_log,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=_GRACE,
    )
    config.load()
    # Not from files that uvicorn is told, which it would read in its own way, and never again.
    config.ssl = tls.context if tls is not None else None
    return config


async def _finish(tasks: set[asyncio.Task[None]]) -> None:
    # uvicorn cancels what exceeds the grace but does not wait: its clean-up still needs the lifespan.
    if tasks:
        await asyncio.wait(set(tasks), timeout=_CLEAN_UP)


async def _until_stopped(server: AppServer, greeting: str) -> int:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, server.stop)
    loop.add_signal_handler(signal.SIGHUP, _hang_up, server, sys.stderr.isatty())
    task = asyncio.create_task(server.run(), name="server")
    try:
        await _started(server, task)
        _say(greeting)
        await task
    except asyncio.CancelledError:
        pass
    except Caterva2Error:
        raise
    except Exception as error:
        if isinstance(error, OSError) and not server.started.is_set():
            raise SettingsError(f"cannot start: {error}") from error
        logger.critical("crashed", exc_info=True)
        return ExitStatus.CRASHED
    if isinstance(server.crash, SettingsError):
        # Not a fault of the program: something that could not be known at start-up, such as a name taken.
        raise server.crash
    return ExitStatus.CRASHED if server.crash else ExitStatus.OK


def _hang_up(server: AppServer, terminal: bool) -> None:  # noqa: FBT001 - a plain callback
    if server.reload():
        return
    if terminal:
        # As ever: the terminal that it was started in is closed.
        server.stop()
    else:
        logger.info("SIGHUP: there is nothing to read again")


def _tls(settings: DaemonSettings) -> Reloadable | None:
    if settings.certificate is not None:
        return Reloadable(settings.certificate, settings.key)
    if settings.key is not None:
        raise SettingsError(f"{settings.key}: is a key without a certificate: set certificate too")
    return None


def _refuse(title: str, error: Caterva2Error) -> int:
    _say(f"{title}: {' '.join(str(error).split())}")
    return ExitStatus.BAD_SETTINGS


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _name_of(settings: object) -> str:
    return str(getattr(settings, "name", "") or getattr(settings, "id", ""))


def _where(address: Address) -> str:
    return f"unix:{address}" if address.socket else address.url
