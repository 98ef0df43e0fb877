"""Settings: `caterva2.toml`, the environment and the options become one frozen model per service.

Precedence is option > environment > file > default. In the environment a setting is named after its section
and key (`CATERVA2_BROKER_HTTP`, `CATERVA2_BUS_URL`); the one short name is the tutorial's `CATERVA2_SECRET`,
the subscriber's secret. A service reads other sections only to find its partner: a publisher and a subscriber
the broker's address, a client the subscriber's.

Nothing here looks at the process: options, environment and current directory are arguments of the `load_*`
functions. What cannot be used is a `SettingsError` of one line, which names the place and the remedy.
"""

from caterva2.settings.loading import load_broker, load_client, load_publisher, load_subscriber
from caterva2.settings.models import (
    BrokerSettings,
    BusSettings,
    ClientSettings,
    PublisherSettings,
    SubscriberSettings,
)
from caterva2.settings.sources import CONF_FILE

__all__ = [
    "CONF_FILE",
    "BrokerSettings",
    "BusSettings",
    "ClientSettings",
    "PublisherSettings",
    "SubscriberSettings",
    "load_broker",
    "load_client",
    "load_publisher",
    "load_subscriber",
]
