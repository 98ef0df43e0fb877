"""The tutorial, typed as it stands, with each of its machines as a directory of this one.

Only names and ports are replaced, because the machines do not exist and the ports may be in use.
"""

import os
import re
import socket
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import blosc2
import httpx
import numpy as np
import pytest

from tests.support.processes import Daemon, Process, run, run_daemon
from tests.support.programs import command, free_port, python, require_program
from tests.support.waiting import wait_until

HOSTS = ("broker.example.org", "pub.lab.example.org", "sub.edu.example.org")
PORTS = ("3104", "3115", "3116", "3126")


@dataclass
class Site:
    """The machines of the tutorial."""

    directory: Path
    stack: ExitStack
    replacements: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.replacements = dict.fromkeys(HOSTS, "localhost") | {port: str(free_port()) for port in PORTS}

    def typed(self, text: str) -> str:
        """The text with the names and ports of this machine."""
        for old, new in self.replacements.items():
            text = re.sub(rf"\b{re.escape(old)}\b", new, text)
        return text

    def at(self, host: str) -> Path:
        """The current directory on a machine."""
        directory = self.directory / host
        directory.mkdir(exist_ok=True)
        return directory

    def write(self, host: str, text: str, mode: str = "w") -> None:
        """Put text into a machine's caterva2.toml."""
        with (self.at(host) / "caterva2.toml").open(mode) as file:
            file.write(self.typed(text))

    def start(self, host: str, line: str) -> Daemon:
        """Type the command of a daemon."""
        name, *options = self.typed(line).split()
        return self.stack.enter_context(run_daemon(name, *options, cwd=self.at(host)))

    def type(self, host: str, line: str) -> str:
        """Type another command of ours, and return what it prints."""
        name, *arguments = self.typed(line).split()
        done = run([*command(name), *arguments], cwd=self.at(host))
        assert 0 == done.returncode, done.stderr
        return done.stdout

    def python(self, host: str, code: str) -> str:
        """Run a piece of Python, and return what it prints."""
        done = run([python(), "-W", "error", "-c", self.typed(code)], cwd=self.at(host))
        assert 0 == done.returncode, done.stderr
        return done.stdout


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """The machines, with nothing on them yet."""
    with ExitStack() as stack:
        yield Site(tmp_path, stack)


BROKER = """
[broker]
http = "broker.example.org:3104"
"""
BROKER_STATE = """\
statedir = "./cat2-bro"
"""
PUBLISHERS = """
[publisher.foo]
http = "pub.lab.example.org:3115"
statedir = "./cat2-pub.foo"
name = "foo"
root = "./foo-root"
[publisher.bar]
http = "pub.lab.example.org:3116"
statedir = "./cat2-pub.bar"
name = "bar"
root = "./bar-root"
"""
SUBSCRIBER = """
[subscriber]
http = "sub.edu.example.org:3126"
statedir = "./cat2-sub"
"""
CLIENT = """
[subscriber]
urlbase = "http://sub.edu.example.org:3126" # "https://..." if needed
#[client] # uncomment section if needed
#username = "user@example.com"
#password = "foobar11"
"""


def write_roots(directory: Path) -> None:
    """Make the two roots of the tutorial."""
    for name in ("foo", "bar"):
        (directory / f"{name}-root").mkdir()
        (directory / f"{name}-root" / "readme.txt").write_text(f"This is the {name} root.\n")


def everything(site: Site, host: str = "one") -> None:
    """Set up the tutorial in one directory, for one machine."""
    write_roots(site.at(host))
    site.write(host, BROKER + BROKER_STATE + 'mqtt = "localhost:0"\n' + PUBLISHERS + SUBSCRIBER)


def in_use(port: int) -> bool:
    """Whether something listens on this port."""
    with socket.socket() as probe:
        return probe.connect_ex(("localhost", port)) == 0


def test_broker(site: Site) -> None:
    """The broker runs with the tutorial's options, and then with its file."""
    broker = site.start("broker", "cat2bro --http *:3104")
    assert 200 == httpx.get(site.typed("http://localhost:3104/health")).status_code
    assert (site.at("broker") / "_caterva2/bro").is_dir()
    assert 0 == broker.interrupt()

    broker = site.start("broker", "cat2bro --http broker.example.org:3104 --statedir ./cat2-bro")
    assert (site.at("broker") / "cat2-bro").is_dir()
    assert 0 == broker.interrupt()

    site.write("broker", BROKER + BROKER_STATE)
    broker = site.start("broker", "cat2bro")

    assert site.typed("http://broker.example.org:3104") == broker.url
    assert {} == httpx.get(f"{broker.url}/api/roots").json()


def test_publishers_without_broker(site: Site) -> None:
    """Publishers that find no broker say "Connection refused" and keep trying; told where it is, they register."""
    if in_use(8000):
        pytest.skip("port 8000, where the tutorial expects nothing, is in use")
    site.start("broker", "cat2bro --http broker.example.org:3104")
    write_roots(site.at("pub"))
    site.write("pub", PUBLISHERS)
    for name in ("foo", "bar"):
        publisher = site.start("pub", f"cat2pub --id {name}")
        publisher.wait_for(r"localhost:8000.*[Cc]onnection refused|[Cc]onnection refused.*localhost:8000")
        assert publisher.running
        assert "Traceback" not in publisher.output
        assert 0 == publisher.interrupt()

    site.write("pub", BROKER, mode="a")
    for name in ("foo", "bar"):
        site.start("pub", f"cat2pub --id {name}")

    url = site.typed("http://broker.example.org:3104/api/roots")
    wait_until(lambda: {"foo", "bar"} == httpx.get(url).json().keys(), "both roots at the broker")


def test_whole(site: Site) -> None:
    """From a subscriber of two publishers a workstation reads both roots, with cat2cli and in Python."""
    site.write("broker", BROKER + BROKER_STATE)
    site.start("broker", "cat2bro")
    write_roots(site.at("pub"))
    site.write("pub", PUBLISHERS + BROKER)
    site.start("pub", "cat2pub --id foo")
    site.start("pub", "cat2pub --id bar")
    site.write("sub", SUBSCRIBER + BROKER)
    subscriber = site.start("sub", "cat2sub")
    wait_until(lambda: {"foo", "bar"} <= httpx.get(f"{subscriber.url}/api/roots").json().keys(), "both roots")

    roots = site.type("work", "cat2cli --subscriber http://sub.edu.example.org:3126 roots")
    site.write("work", CLIENT)

    assert roots == site.type("work", "cat2cli roots")
    assert ["bar", "foo"] == [line.split("\t")[0] for line in sorted(roots.splitlines()) if line[0] != "@"]
    assert "subscribed to foo\n" == site.type("work", "cat2cli subscribe foo")
    assert "readme.txt\n" == site.type("work", "cat2cli list foo")
    assert "This is the bar root.\n" == site.type("work", "cat2cli show bar/readme.txt")
    assert "foo/readme.txt\n" == site.type("work", "cat2cli download foo/readme.txt")
    assert "This is the foo root.\n" == (site.at("work") / "foo/readme.txt").read_text()


def test_python(site: Site) -> None:
    """The tutorial's Python runs as it stands, with the address as an argument and from the file."""
    everything(site)
    for line in ("cat2bro", "cat2pub --id foo", "cat2pub --id bar"):
        site.start("one", line)
    subscriber = site.start("one", "cat2sub")
    wait_until(lambda: {"foo", "bar"} <= httpx.get(f"{subscriber.url}/api/roots").json().keys(), "both roots")
    site.write("work", CLIENT.replace("urlbase", "url"))

    printed = site.python(
        "work",
        """
import caterva2
roots = caterva2.get_roots(urlbase='http://sub.edu.example.org:3126')
foo = caterva2.Root('foo', urlbase='http://sub.edu.example.org:3126')
print(sorted(name for name in roots if name[0] != '@'), foo.name, foo.file_list, foo['readme.txt'][:])

from tomllib import load as toml_load # "from tomli" on Python < 3.11
with open('caterva2.toml', 'rb') as conf_file:
    conf = toml_load(conf_file)
#user_auth = dict(username=conf['client]['username'],
#                 password=conf['client]['password'])
foo = caterva2.Root('foo',
                    urlbase=conf['subscriber']['url'],
                    #user_auth=user_auth,
                    )
print(foo['readme.txt'].fetch(slice(5)))
""",
    )

    assert "['bar', 'foo'] foo ['readme.txt'] b'This is the foo root.\\n'\nb'This '\n" == printed
    assert site.type("work", "cat2cli roots").startswith(("@public", "bar", "foo"))  # "url" is understood there too


def test_change(site: Site) -> None:
    """An array that is put into a root, and changed later, is read as it is, as the new tutorial ends."""
    everything(site)
    for line in ("cat2bro", "cat2pub --id foo", "cat2sub"):
        site.start("one", line)
    wait_until(lambda: "foo" in site.type("one", "cat2cli roots"), "the root at the subscriber")
    numbers = """
import blosc2
import numpy as np

blosc2.asarray(np.arange(1000).reshape(20, 50), urlpath="foo-root/numbers.b2nd", mode="w")
"""

    site.python("one", numbers)

    def shown() -> str:
        done = run([*command("cat2cli"), "show", "foo/numbers.b2nd[3, 10:15]"], cwd=site.at("one"))
        return done.stdout

    wait_until(lambda: "[160 161 162 163 164]\n" == shown(), "the new array")
    site.python("one", numbers.replace("np.arange(1000)", "np.arange(1000, 2000)"))
    wait_until(lambda: "[1160 1161 1162 1163 1164]\n" == shown(), "the changed array")


def test_watch(site: Site) -> None:
    """On the bus, mosquitto_sub shows the roots and each change as JSON."""
    program = require_program("mosquitto_sub")
    everything(site)
    broker = site.start("one", "cat2bro")
    port = next(url for url in httpx.get(f"{broker.url}/api/bus").json()["urls"] if url.startswith("mqtt:"))
    for name in ("foo", "bar"):
        site.start("one", f"cat2pub --id {name}")
    watch = [program, "-p", port.rpartition(":")[2], "-v", "-t", "caterva2/#"]

    with Process(watch, cwd=site.at("one")) as watcher:
        watcher.wait_for(r'^caterva2/root/foo \{"name":"foo",.*"status":"online"')
        watcher.wait_for(r'^caterva2/root/bar \{"name":"bar",.*"status":"online"')
        with (site.at("one") / "foo-root/readme.txt").open("a") as file:
            file.write("Another line.\n")
        change = watcher.wait_for(r"^caterva2/change/foo (\{.*\})$")[1]

    assert '"type":"modified"' in change
    assert '"path":"readme.txt"' in change


def test_c2array(site: Site) -> None:
    """`blosc2.C2Array` reads an array of a publisher through the subscriber."""
    subscriber = with_array(site)

    array = blosc2.C2Array("foo/ds.b2nd", urlbase=subscriber.url)

    assert ((30, 40), np.dtype("f8")) == (array.shape, array.dtype)
    np.testing.assert_array_equal(array[3:5, ::], VALUES[3:5])
    np.testing.assert_array_equal((array + 1)[:2], VALUES[:2] + 1)
    assert VALUES[2, 7] == array[2, 7]


def test_upstream_client(site: Site) -> None:
    """Upstream's client 2025.6.26 lists and reads what this subscriber serves."""
    interpreter = os.environ.get("CATERVA2_UPSTREAM_PYTHON")
    if interpreter is None:
        pytest.skip("CATERVA2_UPSTREAM_PYTHON names no Python with upstream's client")
    subscriber = with_array(site)
    code = f"""
import blosc2, caterva2
client = caterva2.Client("{subscriber.url}")
roots = client.get_roots()
print(caterva2.__version__, roots["foo"]["name"], client.subscribe("foo"), client.get_list("foo"))
array = client.get("foo/ds.b2nd")
print(array.shape, array.dtype, array[3, :4].tolist(), array[:].sum())
print(client.get("foo/readme.txt")[:])
print(client.get_info("foo/ds.b2nd")["chunks"], len(client.get_chunk("foo/ds.b2nd", 0)) > 32)
# Its downloads are what "fetch" answers: Blosc2 frames.
print(blosc2.schunk_from_cframe(client.download("foo/readme.txt", "got.b2").read_bytes())[:])
"""

    # Not this source tree: that package has the same name.
    done = run([interpreter, "-c", code], cwd=site.at("work"), env={"PYTHONPATH": ""})

    assert 0 == done.returncode, done.stderr
    assert [
        "2025.6.26 foo Ok ['ds.b2nd', 'readme.txt']",
        "(30, 40) float64 [120.0, 121.0, 122.0, 123.0] 719400.0",
        "b'This is the foo root.\\n'",
        "[10, 10] True",
        "b'This is the foo root.\\n'",
    ] == done.stdout.splitlines()


ORDERS = ("bro pub sub", "bro sub pub", "pub bro sub", "pub sub bro", "sub bro pub", "sub pub bro")


@pytest.mark.parametrize("order", ORDERS)
def test_any_order(site: Site, order: str) -> None:
    """In whatever order the daemons are started, a client reads in the end."""
    everything(site)
    lines = {"bro": "cat2bro", "pub": "cat2pub --id foo", "sub": "cat2sub"}

    for name in order.split():
        site.start("one", lines[name])

    wait_until(lambda: "This is the foo root.\n" == read(site), "reading")


def test_kill(site: Site) -> None:
    """Each daemon may be killed and started again: what was read stays readable, and changes arrive again."""
    everything(site)
    daemons = {line: site.start("one", line) for line in ("cat2bro", "cat2pub --id foo", "cat2sub")}
    wait_until(lambda: "This is the foo root.\n" == read(site), "reading")
    file = site.at("one") / "foo-root/readme.txt"

    for number, (line, daemon) in enumerate(daemons.items()):
        daemon.kill()
        if line != "cat2sub":
            assert "root" in read(site) or "Change" in read(site), f"nothing to read while {line} is away"
        file.write_text(f"Change {number}, made while {line} was away.\n")
        daemon.start()
        wait_until(lambda: file.read_text() == read(site), f"the change made while {line} was away")
        file.write_text(f"Change {number}, made after {line} came back.\n")
        wait_until(lambda: file.read_text() == read(site), f"the change made after {line} came back")


VALUES = np.arange(1200.0).reshape(30, 40)


def with_array(site: Site) -> Daemon:
    """Start a broker, the publisher of `foo` with the array `ds.b2nd`, and a subscriber that knows it."""
    everything(site)
    blosc2.asarray(VALUES, chunks=(10, 10), blocks=(5, 5), urlpath=str(site.at("one") / "foo-root/ds.b2nd"))
    for line in ("cat2bro", "cat2pub --id foo"):
        site.start("one", line)
    subscriber = site.start("one", "cat2sub")
    wait_until(lambda: "foo" in httpx.get(f"{subscriber.url}/api/roots").json(), "the root at the subscriber")
    return subscriber


def read(site: Site) -> str:
    """Read foo/readme.txt through the subscriber of `everything`."""
    conf = tomllib.loads((site.at("one") / "caterva2.toml").read_text())
    url = f"http://{conf['subscriber']['http']}/api/download/foo/readme.txt"
    return httpx.get(url).raise_for_status().text
