"""Settings: sources, precedence, and one clear line for each mistake."""

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from caterva2.address import Address
from caterva2.errors import SettingsError
from caterva2.settings import (
    BrokerSettings,
    BusSettings,
    ClientSettings,
    PublisherSettings,
    SubscriberSettings,
    load_broker,
    load_client,
    load_publisher,
    load_subscriber,
)
from caterva2.settings.models import SECTIONS

SAMPLE = Path(__file__).parents[2] / "deploy" / "caterva2.sample.toml"
Load = Callable[[Mapping[str, object], Mapping[str, str], Path], Any]

TWO = """
[publisher]
loglevel = "debug"
[publisher.foo]
http = "localhost:3115"
name = "foo"
root = "foo-root"
loglevel = "error"
[publisher.bar]
name = "bar"
root = "foo-root"
"""


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    """A current directory with a directory to publish."""
    (tmp_path / "foo-root").mkdir()
    return tmp_path


def conf(cwd: Path, text: str) -> Path:
    """Write caterva2.toml."""
    file = cwd / "caterva2.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_broker_defaults(cwd: Path) -> None:
    """Without any source cat2bro listens on localhost:8000 and keeps its state below _caterva2."""
    expected = BrokerSettings(
        http=Address("localhost", 8000),
        mqtt=Address("localhost", 1883),
        statedir=cwd / "_caterva2/bro",
        urlbase=None,
        loglevel="info",
        bus=BusSettings(url="", prefix="caterva2", username="", password="", keepalive=15),
    )

    assert expected == load_broker({}, {}, cwd)


def test_publisher_defaults(cwd: Path) -> None:
    """A publisher needs its name and root only."""
    expected = PublisherSettings(
        id="",
        name="foo",
        root=cwd / "foo-root",
        http=Address("localhost", 8001),
        statedir=cwd / "_caterva2/pub",
        urlbase=None,
        broker="http://localhost:8000",
        loglevel="info",
        heartbeat=30.0,
        settle=0.1,
        rescan=300.0,
    )

    assert expected == load_publisher({"name": "foo", "root": "foo-root"}, {}, cwd)


def test_subscriber_defaults(cwd: Path) -> None:
    """A subscriber needs nothing."""
    expected = SubscriberSettings(
        id="",
        http=Address("localhost", 8002),
        statedir=cwd / "_caterva2/sub",
        urlbase=None,
        broker="http://localhost:8000",
        loglevel="info",
        max_staleness=1.0,
        cache_size=None,
        secret="",
    )

    assert expected == load_subscriber({}, {}, cwd)


def test_client_defaults(cwd: Path) -> None:
    """A client looks for the subscriber on this machine."""
    settings = load_client({}, {}, cwd)

    assert ClientSettings(subscriber="http://localhost:8002", username="", password="") == settings
    assert settings.urlbase == "http://localhost:8002"


def test_id_names_the_state_directory(cwd: Path) -> None:
    """With an ID the state directory is its own."""
    conf(cwd, TWO)

    assert cwd / "_caterva2/pub.foo" == load_publisher({"id": "foo"}, {}, cwd).statedir
    assert cwd / "_caterva2/sub.x" == load_subscriber({"id": "x"}, {}, cwd).statedir


def test_precedence(cwd: Path) -> None:
    """An option wins over the environment, that over the file, that over the default."""
    file = {"http": "localhost:1", "statedir": "file", "loglevel": "error"}
    conf(cwd, "[broker]\n" + "".join(f'{key} = "{value}"\n' for key, value in file.items()))
    environ = {"CATERVA2_BROKER_HTTP": "localhost:2", "CATERVA2_BROKER_STATEDIR": "environment"}

    settings = load_broker({"http": "localhost:3", "statedir": None}, environ, cwd)

    assert Address("localhost", 3) == settings.http
    assert cwd / "environment" == settings.statedir
    assert settings.loglevel == "error"
    assert settings.urlbase is None


def test_own_section_overrides_the_common_one(cwd: Path) -> None:
    """What [publisher.ID] says wins over [publisher], which fills the rest."""
    conf(cwd, TWO)

    foo, bar = (load_publisher({"id": each}, {}, cwd) for each in ("foo", "bar"))

    assert ("foo", "error", Address("localhost", 3115)) == (foo.name, foo.loglevel, foo.http)
    assert ("bar", "debug", Address("localhost", 8001)) == (bar.name, bar.loglevel, bar.http)


def test_files_of_the_bus_are_relative_to_the_current_directory_too(cwd: Path) -> None:
    """As the paths in the service's own section are; an empty one is none."""
    file = cwd / "caterva2.toml"
    file.write_text('[bus]\nca = "ca.pem"\nkey = ""\n')

    settings = load_broker({}, {"CATERVA2_BUS_PASSWORD_FILE": "/run/secret"}, cwd).bus

    assert (cwd / "ca.pem", None, Path("/run/secret")) == (settings.ca, settings.key, settings.password_file)


def test_conf_names_another_file(cwd: Path) -> None:
    """--conf, or else CATERVA2_CONF, names the file; relative paths still start at the current directory."""
    (cwd / "etc").mkdir()
    (cwd / "etc/a.toml").write_text('[broker]\nstatedir = "a"\n')
    (cwd / "etc/b.toml").write_text('[broker]\nstatedir = "b"\n')

    assert cwd / "a" == load_broker({"conf": "etc/a.toml"}, {"CATERVA2_CONF": "etc/b.toml"}, cwd).statedir
    assert cwd / "b" == load_broker({}, {"CATERVA2_CONF": "etc/b.toml"}, cwd).statedir


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("", "http://localhost:8000"),
        ('[broker]\nhttp = "broker.example.org:3104"', "http://broker.example.org:3104"),
        ('[broker]\nhttp = "*:3104"', "http://localhost:3104"),
        ('[broker]\nhttp = "[::1]:3104"', "http://[::1]:3104"),
        ('[broker]\nhttp = "*:3104"\nurlbase = "https://b.example.org/cat/"', "https://b.example.org/cat"),
        ('[broker]\nhttp = "./b.sock"\nurlbase = "https://b.example.org"', "https://b.example.org"),
        ('[broker]\nhttp = "*:3104"\n[subscriber]\nbroker = "other:1"', "http://other:1"),
        ('[broker]\nhttp = "*:3104"\n[subscriber]\nbroker = ""', ""),
    ],
)
def test_address_of_the_broker(cwd: Path, text: str, url: str) -> None:
    """The broker's address is `broker`, or else urlbase, or else http, of [broker]; "" is no broker."""
    conf(cwd, text)

    assert url == load_subscriber({}, {}, cwd).broker


def test_environment_of_the_broker_serves_its_partners(cwd: Path) -> None:
    """CATERVA2_BROKER_HTTP tells a publisher where the broker is, even against urlbase in the file."""
    conf(cwd, '[broker]\nurlbase = "https://b.example.org"\n')
    options = {"name": "foo", "root": "foo-root"}

    assert load_publisher(options, {"CATERVA2_BROKER_HTTP": "b:5"}, cwd).broker == "http://b:5"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ('[subscriber]\nurlbase = "http://sub.example.org:3126"', "http://sub.example.org:3126"),
        ('[subscriber]\nurl = "http://sub.example.org:3126/"', "http://sub.example.org:3126"),
        ('[subscriber]\nurl = "http://old:1"\nurlbase = "http://new:1"', "http://new:1"),
        ('[subscriber]\nhttp = "*:8012"', "http://localhost:8012"),
        ('[subscriber]\nhttp = "*:8012"\n[client]\nsubscriber = "https://s/p"', "https://s/p"),
    ],
)
def test_address_of_the_subscriber(cwd: Path, text: str, url: str) -> None:
    """A client asks [client] subscriber, or else urlbase (or url), or else http, of [subscriber]."""
    conf(cwd, text)

    assert url == load_client({}, {}, cwd).urlbase


def test_environment_reaches_every_setting(cwd: Path) -> None:
    """Each setting has its variable: section and key, and the tutorial's short one."""
    environ = {
        "CATERVA2_PUBLISHER_ID": "x",
        "CATERVA2_PUBLISHER_NAME": "foo",
        "CATERVA2_PUBLISHER_ROOT": "foo-root",
        "CATERVA2_PUBLISHER_HEARTBEAT": "2.5",
        "CATERVA2_BUS_URL": "mqtts://bus.example.org",
        "CATERVA2_BUS_KEEPALIVE": "20",
        "CATERVA2_SECRET": "c2sikrit",
    }

    publisher = load_publisher({}, environ, cwd)

    assert ("x", "foo", 2.5) == (publisher.id, publisher.name, publisher.heartbeat)
    assert ("mqtts://bus.example.org", 20) == (publisher.bus.url, publisher.bus.keepalive)
    assert load_subscriber({}, environ, cwd).secret == "c2sikrit"


def test_variables_of_others_are_ignored(cwd: Path) -> None:
    """Kubernetes' variables for a service named caterva2, and those of other programs, do no harm."""
    environ = {
        "CATERVA2_PORT": "tcp://10.0.0.1:80",
        "CATERVA2_BROKER_SERVICE_HOST": "10.0.0.1",
        "CATERVA2_BROKER_PORT_8000_TCP_ADDR": "10.0.0.1",
        "CATERVA2_TEST_BIN": "/x",
    }

    assert load_broker({}, {}, cwd) == load_broker({}, environ, cwd)


def test_mqtt_can_be_off(cwd: Path) -> None:
    """`mqtt = ""` is no TCP listener; left out it is on the host of http, with a unix socket on localhost."""
    conf(cwd, '[broker]\nmqtt = ""\n')

    assert load_broker({}, {}, cwd).mqtt is None
    assert Address("", 1883) == load_broker({"http": "*:1", "mqtt": None}, {}, cwd / "foo-root").mqtt
    assert Address("localhost", 1883) == load_broker({"http": "./x.sock"}, {}, cwd / "foo-root").mqtt


@pytest.mark.parametrize(
    ("load", "text", "message"),
    [
        (load_broker, "[broker\n", r"caterva2.toml: is not TOML: .*line 1.*"),
        (load_broker, '[brokr]\nhttp = "x:1"', r"caterva2.toml: \[brokr\]: no such section: did you mean broker\?"),
        (load_broker, 'http = "x:1"', r"caterva2.toml: \[http\]: no such section: .*"),
        (load_broker, 'broker = "x:1"', r"caterva2.toml: broker: is a section: .*"),
        (load_broker, '[broker]\nhtpp = "x:1"', r"caterva2.toml: broker.htpp: .*did you mean http\?"),
        (
            load_broker,
            "[broker]\nfrobnicate = 1",
            r"caterva2.toml: broker.frobnicate: .*remove it, or use one of http.*",
        ),
        (load_broker, '[broker.x]\nhttp = "x:1"', r"caterva2.toml: broker.x: no such setting: .*"),
        (load_broker, "[broker]\nhttp = 8000", r"caterva2.toml: broker.http: 8000 has the wrong type: .*quotes"),
        (load_broker, '[broker]\nhttp = "8000"', r"caterva2.toml: broker.http: '8000' is not an address: .*"),
        (load_broker, '[broker]\nhttp = "h:99999"', r"caterva2.toml: broker.http: .*at most 65535"),
        (load_broker, '[broker]\nmqtt = "./x.sock"', r"caterva2.toml: broker.mqtt: .*unix socket.*"),
        (load_broker, '[broker]\nloglevel = "loud"', r"caterva2.toml: broker.loglevel: 'loud' .*'debug', .*"),
        (load_broker, '[broker]\nurlbase = "ftp://x"', r"caterva2.toml: broker.urlbase: 'ftp://x' .*"),
        (load_broker, '[bus]\nurl = "http://x"', r"caterva2.toml: bus.url: 'http://x' .*mqtt://.*"),
        (load_broker, '[bus]\nurl = "mqtt://u:p@x"', r"caterva2.toml: bus.url: .*username and password"),
        (load_broker, '[bus]\nprefix = "a/#"', r"caterva2.toml: bus.prefix: 'a/#' is not a topic prefix.*"),
        (load_broker, '[bus]\nkeepalive = "15"', r"caterva2.toml: bus.keepalive: '15' has the wrong type: .*number.*"),
        (load_broker, "[bus]\nkeepalive = true", r"caterva2.toml: bus.keepalive: True has the wrong type.*"),
        (load_broker, "[bus]\nkeepalive = 1.5", r"caterva2.toml: bus.keepalive: 1.5 .*"),
        (load_broker, "[publisher.'a b']\n", r"caterva2.toml: publisher.'a b': is not an ID.*"),
        (load_broker, "[publisher.a]\nid = 'a'", r"caterva2.toml: publisher.a.id: no such setting.*"),
        (load_subscriber, "[subscriber]\ncache = 1", r"caterva2.toml: subscriber.cache: no such setting.*"),
        (load_subscriber, "[subscriber]\nmax_staleness = -1", r"caterva2.toml: subscriber.max_staleness: -1 .*"),
        (load_subscriber, '[subscriber]\ncache_size = "50X"', r".*cache_size: .*is not a size: write .*"),
        (load_subscriber, '[subscriber]\ncache_size = "15M"', r".*cache_size: .*too little.*"),
        (load_subscriber, "[subscriber]\nmax_staleness = nan", r"caterva2.toml: subscriber.max_staleness: nan .*"),
        (load_subscriber, '[broker]\nhttp = "x"', r"caterva2.toml: broker.http: 'x' is not an address.*"),
        (load_subscriber, '[broker]\nhttp = "h:0"', r"caterva2.toml: broker.http: port 0 .*"),
        (load_subscriber, '[broker]\nhttp = "./b.sock"', r"caterva2.toml: broker.http: .*unix socket.*urlbase.*"),
        (load_subscriber, "[subscriber.a]\n[subscriber.b]", r"--id: which subscriber is meant\? .*a, b"),
        (load_publisher, "", r"publisher.name: is missing: .*cat2pub NAME ROOT.*CATERVA2_PUBLISHER_NAME.*"),
        (load_publisher, TWO, r"--id: which publisher is meant\? Say --id with one of bar, foo"),
        (load_publisher, '[publisher.foo]\nname="foo"', r"publisher.name: is missing: .*--id foo"),
        (load_publisher, '[publisher]\nname="@foo"\nroot="foo-root"', r"caterva2.toml: publisher.name: '@foo' .*"),
        (load_publisher, '[publisher]\nname="a/b"\nroot="foo-root"', r"caterva2.toml: publisher.name: 'a/b' .*"),
        (load_publisher, '[publisher]\nname="a"\nroot="gone"', r"caterva2.toml: publisher.root: .*gone is not a dir.*"),
        (load_publisher, '[publisher]\nname="a"\nroot=""', r"caterva2.toml: publisher.root: '' is not the path of .*"),
        (load_broker, '[broker]\nstatedir="a\\u0000"', r"caterva2.toml: broker.statedir: 'a.x00' is not the path .*"),
        (load_publisher, '[publisher]\nname="a"\nroot="."\nheartbeat=0', r"caterva2.toml: publisher.heartbeat: 0 .*"),
        (load_client, '[client]\nsubscriber = "s"', r"caterva2.toml: client.subscriber: 's' is not an address.*"),
        (load_client, '[client]\nurl = "s:1"', r"caterva2.toml: client.url: no such setting.*"),
    ],
)
def test_mistakes_in_the_file(cwd: Path, load: Load, text: str, message: str) -> None:
    """A mistake in the file is one line that names file, section and key, and the remedy."""
    conf(cwd, text)

    with pytest.raises(SettingsError) as caught:
        load({}, {}, cwd)

    assert re.fullmatch(message, str(caught.value)), str(caught.value)


@pytest.mark.parametrize(
    ("options", "environ", "message"),
    [
        ({"http": "x"}, {}, r"--http: 'x' is not an address: .*"),
        ({"conf": "none.toml"}, {}, r"none.toml: no such file: .*--conf"),
        ({"conf": "."}, {}, r"\.: cannot be read: .*"),
        ({}, {"CATERVA2_BROKER_HTTP": "x"}, r"CATERVA2_BROKER_HTTP: 'x' is not an address: .*"),
        ({}, {"CATERVA2_BROKER_HTPP": "x:1"}, r"CATERVA2_BROKER_HTPP: .*did you mean CATERVA2_BROKER_HTTP\?"),
        ({}, {"CATERVA2_BROKR_HTTP": "x:1"}, r"CATERVA2_BROKR_HTTP: .*did you mean CATERVA2_BROKER_HTTP\?"),
        ({}, {"CATERVA2_BUS_KEEPALIVE": "soon"}, r"CATERVA2_BUS_KEEPALIVE: 'soon' is not possible: .*integer.*"),
    ],
)
def test_mistakes_in_options_and_environment(
    cwd: Path, options: Mapping[str, object], environ: Mapping[str, str], message: str
) -> None:
    """A mistake in an option or a variable is one line that names it."""
    with pytest.raises(SettingsError) as caught:
        load_broker(options, environ, cwd)

    assert re.fullmatch(message, str(caught.value)), str(caught.value)


def test_unknown_id(cwd: Path) -> None:
    """An ID without a section, in a file that has others, is refused with their names."""
    conf(cwd, TWO)

    with pytest.raises(SettingsError) as caught:
        load_publisher({"id": "fo"}, {}, cwd)

    assert "--id: there is no section [publisher.fo]: use one of bar, foo" == str(caught.value)


def test_bad_id(cwd: Path) -> None:
    """An ID becomes part of a directory's name, so it is checked."""
    with pytest.raises(SettingsError) as caught:
        load_subscriber({"id": "../x"}, {}, cwd)
    for identifier in ("access", "groups"):
        with pytest.raises(SettingsError, match=f"{identifier}' is a setting"):
            load_subscriber({"id": identifier}, {}, cwd)

    assert str(caught.value).startswith("--id: '../x' is not an identifier")


def test_missing_root_given_as_argument(cwd: Path) -> None:
    """A root that is not there is named with the place it was given at."""
    with pytest.raises(SettingsError) as caught:
        load_publisher({"name": "foo", "root": "gone"}, {}, cwd)

    assert f"argument ROOT: {cwd / 'gone'} is not a directory: create it, or name another one" == str(caught.value)


def test_garbage_is_not_toml(cwd: Path) -> None:
    """Bytes that are no text at all are refused in one line too."""
    (cwd / "caterva2.toml").write_bytes(b"\xff\xfe\0[broker]\n")

    with pytest.raises(SettingsError) as caught:
        load_broker({}, {}, cwd)

    assert str(caught.value).startswith("caterva2.toml: is not TOML: ")
    assert "\n" not in str(caught.value)


def test_arguments_name_a_root_beside_sections_of_others(cwd: Path) -> None:
    """With name and root as arguments, no ID is needed though the file has several."""
    conf(cwd, TWO)

    assert load_publisher({"name": "baz", "root": "foo-root"}, {}, cwd).name == "baz"


def test_passwords_are_not_shown(cwd: Path) -> None:
    """Secrets do not appear in the text of the settings, which may be logged."""
    environ = {"CATERVA2_SECRET": "hush1", "CATERVA2_BUS_PASSWORD": "hush2", "CATERVA2_CLIENT_PASSWORD": "hush3"}

    shown = f"{load_subscriber({}, environ, cwd)!r} {load_client({}, environ, cwd)!r}"

    assert "hush" not in shown


def test_settings_are_frozen(cwd: Path) -> None:
    """Nobody changes settings once they are made."""
    settings = load_broker({}, {}, cwd)

    with pytest.raises(ValidationError):
        settings.loglevel = "debug"


def test_the_process_environment_is_not_read(cwd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the environment that is handed over counts."""
    monkeypatch.setitem(os.environ, "CATERVA2_BROKER_HTTP", "elsewhere:1")
    monkeypatch.setitem(os.environ, "HTTP", "elsewhere:2")

    assert Address("localhost", 8000) == load_broker({}, {}, cwd).http
    assert Address("localhost", 8000) == BrokerSettings().http


def uncommented() -> dict[str, Any]:
    """The sample with all its commented settings in force."""
    return tomllib.loads(re.sub(r"^#(?=\w+ = )", "", SAMPLE.read_text(encoding="utf-8"), flags=re.MULTILINE))


@pytest.mark.parametrize("section", sorted(SECTIONS))
def test_sample_lists_every_setting(section: str) -> None:
    """The sample file has each setting of each section, and no other."""
    known = SECTIONS[section].model_fields
    keys = {key for key, value in uncommented()[section].items() if key in known or not isinstance(value, dict)}

    assert known.keys() - {"id", "bus"} == keys


@pytest.mark.parametrize("name", ["broker", "subscriber", "client"])
def test_sample_shows_the_defaults(tmp_path: Path, name: str) -> None:
    """What the sample shows after a "#" are the defaults."""
    loads: dict[str, Load] = {"broker": load_broker, "subscriber": load_subscriber, "client": load_client}
    text = re.sub(r"^#(?=\w+ = )", "", SAMPLE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    conf(tmp_path, text.replace('"./foo-root"', '"."'))

    assert loads[name]({}, {}, tmp_path / "..") == loads[name](
        {"conf": str(tmp_path / "caterva2.toml")}, {}, tmp_path / ".."
    )


def test_sample_shows_the_defaults_of_a_publisher(cwd: Path) -> None:
    """What the sample shows after a "#" for publishers are the defaults, but for name and root."""
    shown = {key: value for key, value in uncommented()["publisher"].items() if not isinstance(value, dict)}
    plain = load_publisher({"name": shown["name"], "root": shown["root"]}, {}, cwd)
    text = "\n".join(f"{key} = {value!r}" for key, value in shown.items())
    conf(cwd, f"[publisher]\n{text}\n")

    assert plain == load_publisher({}, {}, cwd)


@pytest.mark.parametrize(("identifier", "port"), [("foo", 3115), ("bar", 3116)])
def test_sample_serves_the_publishers_of_the_tutorial(cwd: Path, identifier: str, port: int) -> None:
    """The sample as it is serves `cat2pub --id foo` and `cat2pub --id bar`."""
    (cwd / "bar-root").mkdir()

    settings = load_publisher({"conf": str(SAMPLE), "id": identifier}, {}, cwd)

    assert (identifier, cwd / f"{identifier}-root") == (settings.name, settings.root)
    assert (Address("localhost", port), cwd / f"cat2-pub.{identifier}") == (settings.http, settings.statedir)
    assert settings.broker == "http://localhost:8000"


def test_every_setting_has_its_sentence() -> None:
    """Below each attribute of the models stands a sentence on it."""
    source = Path(SECTIONS["broker"].__module__.replace(".", "/") + ".py")
    text = (Path(__file__).parents[2] / source).read_text(encoding="utf-8")
    fields = re.findall(r"^    (\w+): .*(?:\n    (\"\"\".+\"\"\"))?", text, flags=re.MULTILINE)

    assert [] == [name for name, sentence in fields if not sentence and name not in {"cls", "model_config"}]


def test_quotas(cwd: Path) -> None:
    """A quota is a size too, however small; without one there is no limit."""
    environ = {"CATERVA2_SUBSCRIBER_QUOTA": "2T", "CATERVA2_SUBSCRIBER_USER_QUOTA": "1K"}

    assert (2 << 40, 1024) == tuple(getattr(load_subscriber({}, environ, cwd), key) for key in ("quota", "user_quota"))
    assert (None, None) == tuple(getattr(load_subscriber({}, {}, cwd), key) for key in ("quota", "user_quota"))


@pytest.mark.parametrize(
    ("text", "size"),
    [("", None), ("50G", 50 << 30), ("1.5 gib", 3 << 29), ("20MB", 20 << 20), ("20000000", 20_000_000)],
)
def test_cache_size(cwd: Path, text: str, size: int | None) -> None:
    """A size is a number with a unit of powers of 1024, or of bytes."""
    assert size == load_subscriber({}, {"CATERVA2_SUBSCRIBER_CACHE_SIZE": text}, cwd).cache_size


def test_a_broker_with_a_certificate_is_asked_over_https(cwd: Path) -> None:
    """Who finds the broker by [broker] http knows by [broker] certificate that it speaks https; so do clients."""
    text = '[broker]\nhttp = "*:3104"\ncertificate = "b.pem"\n'
    text += '[subscriber]\nhttp = "localhost:3126"\ncertificate = "s.pem"\n'
    conf(cwd, text)

    assert "https://localhost:3104" == load_subscriber({}, {}, cwd).broker
    assert "https://localhost:3126" == load_client({}, {}, cwd).urlbase
    assert "http://localhost:3104" == load_subscriber({}, {"CATERVA2_BROKER_CERTIFICATE": ""}, cwd).broker
    assert "http://b:1" == load_subscriber({"broker": "b:1"}, {}, cwd).broker


def test_files_start_at_the_current_directory(cwd: Path) -> None:
    """Relative paths of certificates do, in [bus] too; "" is none."""
    conf(cwd, '[subscriber]\ncertificate = "s.pem"\nkey = ""\n[bus]\nca = "ca.pem"\n')
    settings = load_subscriber({}, {}, cwd)

    assert (cwd / "s.pem", None, cwd / "ca.pem") == (settings.certificate, settings.key, settings.bus.ca)


def test_tokens_of_publishers(cwd: Path) -> None:
    """Tokens by root stand in a table, or in a variable of their own form."""
    conf(cwd, '[subscriber]\ntokens = { foo = "0123456789abcdef", bar = "0123456789abcdefg" }\n')
    expected = {"foo": "0123456789abcdef", "bar": "0123456789abcdefg"}

    assert expected == load_subscriber({}, {}, cwd).tokens
    given = {"CATERVA2_SUBSCRIBER_TOKENS": "foo=0123456789abcdef=, baz=0123456789abcdefh"}
    assert {"foo": "0123456789abcdef=", "baz": "0123456789abcdefh"} == load_subscriber(
        {}, given, cwd / "foo-root"
    ).tokens
    assert "0123456789abcdef" not in repr(load_subscriber({}, {}, cwd))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('tokens = "foo"', r"caterva2.toml: subscriber.tokens: 'foo' has the wrong type: write a table.*"),
        ("tokens = { foo = 1 }", r"caterva2.toml: subscriber.tokens: .*string.*"),
        ('tokens = { foo = "short" }', r"caterva2.toml: subscriber.tokens: .*easy to guess.*openssl rand -hex 24.*"),
        ('tokens = { foo = "0123456789 abcdef" }', r"caterva2.toml: subscriber.tokens: .*printable ASCII.*"),
        ('tokens = { "a/b" = "0123456789abcdef" }', r"caterva2.toml: subscriber.tokens: 'a/b' .*"),
        ('certificate = "a\\u0000"', r"caterva2.toml: subscriber.certificate: .*not the path of a file.*"),
    ],
)
def test_mistakes_in_tokens_and_files(cwd: Path, text: str, message: str) -> None:
    """A token that is none, or of no root, is named."""
    conf(cwd, f"[subscriber]\n{text}\n")

    with pytest.raises(SettingsError) as caught:
        load_subscriber({}, {}, cwd)

    assert re.fullmatch(message, str(caught.value)), str(caught.value)


@pytest.mark.parametrize(("variable", "value"), [("TOKEN", "short"), ("ACCESS", "closed"), ("TOKEN", "é" * 20)])
def test_mistakes_of_a_publisher(cwd: Path, variable: str, value: str) -> None:
    """A token that is too short, or an access that there is not, is named by its variable."""
    environ = {f"CATERVA2_PUBLISHER_{variable}": value}

    with pytest.raises(SettingsError, match=f"CATERVA2_PUBLISHER_{variable}: "):
        load_publisher({"name": "foo", "root": "foo-root"}, environ, cwd)


def test_dotenv(cwd: Path) -> None:
    """The file `.env` stands for variables that the environment lacks; other programs' variables are not ours."""
    conf(cwd, '[subscriber]\nsecret = "of the file"\nlogin = false\n')
    (cwd / ".env").write_text("# ours\nexport CATERVA2_SECRET='of $HOME'\nOTHER=1\nCATERVA2_SUBSCRIBER_MAXUSERS=3\n")

    settings = load_subscriber({}, {}, cwd)
    assert ("of $HOME", 3, False) == (settings.secret, settings.maxusers, settings.with_users)
    assert "of the environment" == load_subscriber({}, {"CATERVA2_SECRET": "of the environment"}, cwd).secret


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"CATERVA2_SUBSCRIBER_HTPP=x", r"^\.env: CATERVA2_SUBSCRIBER_HTPP: no such setting"),
        (b"CATERVA2_SUBSCRIBER_MAXUSERS=x", r"^\.env: CATERVA2_SUBSCRIBER_MAXUSERS: 'x' is not possible"),
        (b"\xff", r"^\.env: is not UTF-8 text"),
    ],
)
def test_mistakes_in_dotenv(cwd: Path, content: bytes, told: str) -> None:
    """A mistake in `.env` is told with its place."""
    (cwd / ".env").write_bytes(content)

    with pytest.raises(SettingsError, match=told):
        load_subscriber({}, {}, cwd)


def test_dotenv_is_a_directory(cwd: Path) -> None:
    """A directory of that name, which some virtual environments have, is none of ours."""
    (cwd / ".env").mkdir()

    assert "" == load_subscriber({}, {}, cwd).secret


@pytest.mark.parametrize("text", ["register = 1", 'register = "true"', 'maxusers = "5"', 'login = ""'])
def test_switches_have_types(cwd: Path, text: str) -> None:
    """In the file a switch is true or false, and a number a number."""
    conf(cwd, f"[subscriber]\n{text}\n")

    with pytest.raises(SettingsError, match="has the wrong type"):
        load_subscriber({}, {}, cwd)
