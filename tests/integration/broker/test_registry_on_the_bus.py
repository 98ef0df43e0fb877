"""The broker's registry, fed over a real bus."""

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.processes import Daemon, Mosquitto, Process, run, run_daemon
from tests.support.programs import require_program
from tests.support.waiting import wait_until

OPTIONS = ("--http", "localhost:0", "--mqtt", "localhost:0")


def announcement(**changes: Any) -> str:
    """The announcement of root foo, as a publisher sends it."""
    values = {
        "name": "foo",
        "http": "http://localhost:8001",
        "status": "online",
        "epoch": "e1",
        "seq": 5,
        "instance": "i1",
        "birth": 1,
        "heartbeat": 30.0,
        "kind": "directory",
        "time": time.time(),
        "version": "1",
    }
    return json.dumps({**values, **changes})


def mqtt_port(broker: Daemon) -> str:
    """The port of the TCP listener, as the broker tells it."""
    urls = httpx.get(f"{broker.url}/api/bus").json()["urls"]
    return str(next(url for url in urls if url.startswith("mqtt://")).rpartition(":")[2])


def publish(port: str | int, topic: str, payload: str, cwd: Path) -> None:
    """Publish a retained message with mosquitto_pub; an empty payload clears it."""
    content = ["-m", payload] if payload else ["-n"]
    done = run([require_program("mosquitto_pub"), "-p", str(port), "-q", "1", "-r", "-t", topic, *content], cwd)
    assert done.returncode == 0, done.stderr


def retained(port: str, cwd: Path) -> dict[str, Any]:
    """What mosquitto_sub sees of the roots."""
    command = [require_program("mosquitto_sub"), "-p", port, "-t", "caterva2/root/#", "-v", "-W", "1"]
    lines = run(command, cwd).stdout.splitlines()
    return {topic: json.loads(payload) for topic, _, payload in (line.partition(" ") for line in lines)}


def roots(broker: Daemon) -> dict[str, Any]:
    """What the broker knows."""
    answer: dict[str, Any] = httpx.get(f"{broker.url}/api/roots").json()
    return answer


def test_announced_root_is_listed(tmp_path: Path) -> None:
    """A root that is announced over MQTT is in /api/roots, in upstream's form with its head."""
    with run_daemon("cat2bro", *OPTIONS, cwd=tmp_path) as broker:
        publish(mqtt_port(broker), "caterva2/root/foo", announcement(time=7.5), tmp_path)
        found = wait_until(lambda: roots(broker))

    expected = {
        "name": "foo",
        "http": "http://localhost:8001",
        "subscribed": None,
        "status": "online",
        "epoch": "e1",
        "seq": 5,
        "instance": "i1",
        "time": 7.5,
    }
    assert {"foo": expected} == found


@pytest.mark.parametrize("end", [Process.stop, Process.kill])
def test_registry_survives_a_restart(tmp_path: Path, end: Any) -> None:
    """After a restart, kill -9 too, roots are known and retained as before, but offline until heard of."""
    file = tmp_path / "_caterva2/bro/registry.json"
    with run_daemon("cat2bro", *OPTIONS, cwd=tmp_path) as broker:
        for name in ("foo", "bar"):
            publish(mqtt_port(broker), f"caterva2/root/{name}", announcement(name=name), tmp_path)
        wait_until(lambda: {"foo", "bar"} == {root["name"] for root in json.loads(file.read_text())["roots"]})
        end(broker)
        broker.start()

        assert {"foo": "offline", "bar": "offline"} == {name: root["status"] for name, root in roots(broker).items()}
        seen = retained(mqtt_port(broker), tmp_path)
        assert {"caterva2/root/foo": ("offline", 5), "caterva2/root/bar": ("offline", 5)} == {
            topic: (message["status"], message["seq"]) for topic, message in seen.items()
        }
        publish(mqtt_port(broker), "caterva2/root/foo", announcement(birth=2, seq=6), tmp_path)
        wait_until(lambda: (roots(broker)["foo"]["status"], roots(broker)["foo"]["seq"]) == ("online", 6))


def test_cleared_announcement_removes_the_root(tmp_path: Path) -> None:
    """An empty retained message takes a root back, for good."""
    with run_daemon("cat2bro", *OPTIONS, cwd=tmp_path) as broker:
        publish(mqtt_port(broker), "caterva2/root/foo", announcement(), tmp_path)
        wait_until(lambda: roots(broker))
        publish(mqtt_port(broker), "caterva2/root/foo", "", tmp_path)
        wait_until(lambda: not roots(broker))
        broker.stop()
        broker.start()

        assert {} == roots(broker)


def test_garbage_is_dropped(tmp_path: Path) -> None:
    """Messages that are none of ours are logged and dropped, and harm nothing."""
    topics = {
        "caterva2/root/bad": "garbage",
        "caterva2/root/foo": announcement(name="bar"),
        "caterva2/root/foo2": announcement(name="foo2", seq=-1),
        "caterva2/service/publisher/x": "[]",
    }
    with run_daemon("cat2bro", *OPTIONS, cwd=tmp_path) as broker:
        for topic, payload in topics.items():
            publish(mqtt_port(broker), topic, payload, tmp_path)
        publish(mqtt_port(broker), "caterva2/root/good", announcement(name="good"), tmp_path)
        wait_until(lambda: roots(broker))

        assert ["good"] == list(roots(broker))
        assert broker.output.count("dropped") == len(topics)
        assert "Traceback" not in broker.output


def test_silent_root_goes_offline(tmp_path: Path) -> None:
    """A root that misses three heartbeats is shown offline."""
    with run_daemon("cat2bro", *OPTIONS, cwd=tmp_path) as broker:
        publish(mqtt_port(broker), "caterva2/root/foo", announcement(heartbeat=0.2), tmp_path)
        wait_until(lambda: roots(broker)["foo"]["status"] == "offline")

        assert "root foo is offline: not heard of for 0.6 s" in broker.output


def test_last_will_takes_a_root_offline(tmp_path: Path) -> None:
    """A publisher that is killed leaves a last will, which takes its root offline at once."""
    with run_daemon("cat2bro", *OPTIONS, cwd=tmp_path) as broker:
        publisher = [
            *(require_program("stdbuf"), "-oL"),
            *(require_program("mosquitto_sub"), "-p", mqtt_port(broker), "-t", "caterva2/root/foo", "--will-retain"),
            *("--will-topic", "caterva2/root/foo", "--will-payload", announcement(status="offline")),
        ]
        publish(mqtt_port(broker), "caterva2/root/foo", announcement(), tmp_path)
        with Process([*publisher, "-d"], tmp_path) as process:
            process.wait_for("SUBACK|Subscribed")
            wait_until(lambda: roots(broker)["foo"]["status"] == "online")
            process.kill()
            wait_until(lambda: roots(broker)["foo"]["status"] == "offline")


def test_two_publishers_of_one_name(tmp_path: Path) -> None:
    """The first live publisher of a name stays, and the second one is told in the log, once."""
    with run_daemon("cat2bro", *OPTIONS, cwd=tmp_path) as broker:
        port = mqtt_port(broker)
        publish(port, "caterva2/root/foo", announcement(), tmp_path)
        for _ in range(2):
            publish(port, "caterva2/root/foo", announcement(instance="i2", http="http://other:1"), tmp_path)
        publish(port, "caterva2/root/last", announcement(name="last"), tmp_path)
        wait_until(lambda: "last" in roots(broker))

        assert roots(broker)["foo"]["instance"] == "i1"
        assert broker.output.count("two publishers of root foo: http://localhost:8001 stays") == 1


def test_own_status(tmp_path: Path) -> None:
    """The broker tells its own status on the bus, retained."""
    with run_daemon("cat2bro", *OPTIONS, cwd=tmp_path) as broker:
        wait_until(lambda: httpx.get(f"{broker.url}/health").json()["bus"] == "connected")
        command = [require_program("mosquitto_sub"), "-p", mqtt_port(broker), "-t", "caterva2/service/broker/+"]
        message = json.loads(run([*command, "-C", "1", "-W", "5"], tmp_path).stdout)

        assert ("broker", "online", broker.url) == (message["kind"], message["status"], message["http"])


def test_external_broker(tmp_path: Path) -> None:
    """With [bus] url, cat2bro joins that broker, hands its URL on, and has no /mqtt of its own."""
    with Mosquitto(tmp_path) as mosquitto:
        environ = {"CATERVA2_BUS_URL": mosquitto.url}
        with run_daemon("cat2bro", "--http", "localhost:0", cwd=tmp_path, env=environ) as broker:
            publish(mosquitto.port, "caterva2/root/foo", announcement(), tmp_path)
            wait_until(lambda: roots(broker))

            told = httpx.get(f"{broker.url}/api/bus").json()
            assert ([mosquitto.url], "caterva2", 1) == (told["urls"], told["prefix"], len(told["keys"]))
            assert httpx.get(f"{broker.url}/mqtt").status_code == 404
            assert broker.stop() == 0
            command = [require_program("mosquitto_sub"), "-p", str(mosquitto.port), "-t", "caterva2/service/broker/+"]
            message = json.loads(run([*command, "-C", "1", "-W", "5"], tmp_path).stdout)

    assert message["status"] == "offline"


def test_external_broker_away(tmp_path: Path) -> None:
    """While the external broker is away, cat2bro serves what it knows, and joins when it comes."""
    with Mosquitto(tmp_path) as mosquitto:
        environ = {"CATERVA2_BUS_URL": mosquitto.url}
        mosquitto.stop()
        with run_daemon("cat2bro", "--http", "localhost:0", cwd=tmp_path, env=environ) as broker:
            assert httpx.get(f"{broker.url}/health").json()["bus"] == "disconnected"
            assert {} == roots(broker)
            mosquitto.start()
            wait_until(lambda: httpx.get(f"{broker.url}/health").json()["bus"] == "connected")
