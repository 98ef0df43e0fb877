"""The message bus: what the daemons say to one another, over MQTT.

It knows roots, changes and services by name, and nothing of arrays, files or the product. Pure
modules (`errors`, `topics`, `messages`, `interface`) are re-exported here; the ends of the bus are
imported from their own modules, because each stands on a library of its own:

- `bus.client.BusClient`: a member of a bus, over the network (paho-mqtt);
- `bus.memory.MemoryBroker`, `MemoryBus`: the same inside one process, for tests;
- `bus.broker.EmbeddedBroker`: a broker inside a daemon (amqtt, starlette).
"""

from bus.errors import (
    BusError,
    BusUnavailableError,
    BusUrlError,
    DecodeError,
    MessageTooLargeError,
    TopicError,
)
from bus.interface import Bus, Cleared, Connected, Disconnected, Event, Resync
from bus.messages import (
    MAX_PAYLOAD,
    Change,
    Changes,
    Message,
    RootAnnouncement,
    ServiceStatus,
    TokenGrant,
    decode,
    encode,
    pack_changes,
    topic_of,
)
from bus.topics import ChangeTopic, RootTopic, ServiceTopic, TokenTopic, Topics, check_name, covers

__all__ = [
    "MAX_PAYLOAD",
    "Bus",
    "BusError",
    "BusUnavailableError",
    "BusUrlError",
    "Change",
    "ChangeTopic",
    "Changes",
    "Cleared",
    "Connected",
    "DecodeError",
    "Disconnected",
    "Event",
    "Message",
    "MessageTooLargeError",
    "Resync",
    "RootAnnouncement",
    "RootTopic",
    "ServiceStatus",
    "ServiceTopic",
    "TokenGrant",
    "TokenTopic",
    "TopicError",
    "Topics",
    "check_name",
    "covers",
    "decode",
    "encode",
    "pack_changes",
    "topic_of",
]
