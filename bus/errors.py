"""Errors of the message bus.

BusError
├── BusUrlError          an address of a broker that cannot be used      .url .remedy
├── TopicError           a name or topic outside the grammar             .text .reason
├── DecodeError          a payload that is no message of ours            .topic .reason
├── MessageTooLargeError a message beyond the payload limit              .nbytes .limit
├── RefusedError         a client may not come in                        .code .reason
├── ProtocolError        a client breaks the rules of MQTT               .reason
│   └── ProtocolVersionError  a client speaks another version            .name .level
└── BusUnavailableError  no broker, or no answer in time                 .reason .url .cause

The first four are also ``ValueError``: the value itself is wrong, and trying again cannot help.
"""

from bus import reasons


class BusError(Exception):
    """Base of every error that this package raises on purpose."""


class BusUrlError(BusError, ValueError):
    """An address of a broker that cannot be used."""

    def __init__(self, url: str, remedy: str) -> None:
        super().__init__(f"bus address {url!r} cannot be used: {remedy}")
        self.url = url
        self.remedy = remedy


class TopicError(BusError, ValueError):
    """A name, topic or filter outside the grammar."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(f"{text[:300]!r}: {reason}")
        self.text = text
        self.reason = reason


class DecodeError(BusError, ValueError):
    """A payload that is no message of ours."""

    def __init__(self, topic: str, reason: str) -> None:
        super().__init__(f"message on {topic[:300]!r}: {reason}")
        self.topic = topic
        self.reason = reason


class MessageTooLargeError(BusError, ValueError):
    """A message beyond the payload limit."""

    def __init__(self, nbytes: int, limit: int) -> None:
        super().__init__(f"message of {nbytes} bytes is beyond the limit of {limit}")
        self.nbytes = nbytes
        self.limit = limit


class ProtocolError(BusError):
    """A client of the embedded broker breaks the rules of MQTT; its connection ends."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ProtocolVersionError(ProtocolError):
    """A client speaks another version of MQTT than 3.1.1."""

    def __init__(self, name: str, level: int) -> None:
        super().__init__(f"protocol {name[:20]!r} level {level} is not MQTT 3.1.1")
        self.name = name
        self.level = level


class RefusedError(BusError):
    """A client of the embedded broker may not come in; `code` goes into the CONNACK."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class BusUnavailableError(BusError):
    """There is no broker, or it did not answer in time; trying again later may help."""

    def __init__(self, reason: str, url: str | None = None, cause: reasons.Cause | None = None) -> None:
        super().__init__(f"bus unavailable{f' at {url}' if url else ''}: {reason}")
        self.reason = reason
        self.url = url
        self.cause = cause
