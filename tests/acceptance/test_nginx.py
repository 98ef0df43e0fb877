"""The reverse proxy of deploy/nginx, run by Debian's nginx in front of real daemons."""

import re
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
from playwright.sync_api import expect, sync_playwright

from caterva2.example import write_example
from tests.support.conf import write_conf
from tests.support.processes import Process, run, run_daemon
from tests.support.programs import command, free_port, python, require_program
from tests.support.waiting import wait_until
from tests.web.pages import launch

CONF = Path(__file__).parents[2] / "deploy/nginx/caterva2.conf"
ODD_NAME = "a b/100% #1 ü+?.txt"


@dataclass(frozen=True)
class Proxy:
    """The URLs that nginx serves, with TLS."""

    subscriber: str
    prefixed: str
    broker: str
    certificate: Path
    directory: Path

    @property
    def tls(self) -> ssl.SSLContext:
        """What trusts the certificate."""
        return ssl.create_default_context(cafile=self.certificate)

    @property
    def env(self) -> dict[str, str]:
        """What makes a process trust it."""
        return {"SSL_CERT_FILE": str(self.certificate)}


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Nginx before a broker and a subscriber, and a publisher that finds the bus through it."""
    directory = tmp_path_factory.mktemp("nginx")
    ports = {old: str(free_port()) for old in ("3126", "443", "3104", "8002", "8000")}
    made = Proxy(
        f"https://localhost:{ports['3126']}",
        f"https://localhost:{ports['443']}/caterva2",
        f"https://localhost:{ports['3104']}",
        _certificate(directory),
        directory,
    )
    root = directory / "root"
    write_example(root)
    (root / ODD_NAME).parent.mkdir()
    (root / ODD_NAME).write_text("An odd name.\n")
    write_conf(
        directory,
        {
            "broker": {
                "http": f"localhost:{ports['8000']}",
                "urlbase": made.broker,
                "mqtt": "",
                "anonymous": True,
            },
            "subscriber": {
                "http": f"localhost:{ports['8002']}",
                "urlbase": made.prefixed,
                "secret": "x" * 32,
                "register": True,
            },
            "publisher": {"name": "foo", "root": str(root), "http": "localhost:0"},
        },
    )
    with ExitStack() as stack:
        stack.enter_context(Process(_nginx(directory, made.certificate, ports), cwd=directory))
        for name in ("cat2bro", "cat2pub", "cat2sub"):
            stack.enter_context(run_daemon(name, cwd=directory, env=made.env))
        wait_until(lambda: "foo" in _get(made, f"{made.subscriber}/api/roots").json(), "the root at the subscriber")
        yield made


def _certificate(directory: Path) -> Path:
    file = directory / "cert.pem"
    done = run(
        [
            *(require_program("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *(
                "-addext",
                "basicConstraints=critical,CA:TRUE",
                "-addext",
                "keyUsage=critical,keyCertSign,digitalSignature",
            ),
            *("-keyout", str(directory / "key.pem"), "-out", str(file)),
        ],
        cwd=directory,
    )
    assert 0 == done.returncode, done.stderr
    return file


def _nginx(directory: Path, certificate: Path, ports: dict[str, str]) -> list[str]:
    """The command of an nginx with our file, its ports and certificates replaced."""
    program = require_program("nginx")
    text = CONF.read_text()
    text = re.sub(r"\blisten (\d+) ssl", lambda found: f"listen 127.0.0.1:{ports[found[1]]} ssl", text)
    text = re.sub(r"\b127\.0\.0\.1:(800[02]);", lambda found: f"127.0.0.1:{ports[found[1]]};", text)
    text = re.sub(r"/etc/ssl/certs/\S+;", f"{certificate};", text)
    text = re.sub(r"/etc/ssl/private/\S+;", f"{directory}/key.pem;", text)
    # The servers of the file have names of their own, and a port each: any name reaches them here.
    (directory / "site.conf").write_text(text)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "\n".join(f"{kind}_temp_path {directory}/{kind};" for kind in kinds)
    conf = directory / "nginx.conf"
    conf.write_text(
        f"daemon off;\nmaster_process off;\npid {directory}/nginx.pid;\nerror_log stderr info;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{temporary}\ninclude {directory}/site.conf;\n}}\n"
    )
    done = run([program, "-t", "-p", str(directory), "-c", str(conf)], cwd=directory)
    assert 0 == done.returncode, done.stderr
    return [program, "-p", str(directory), "-c", str(conf)]


def _get(proxy: Proxy, url: str, **options: object) -> httpx.Response:
    with httpx.Client(verify=proxy.tls) as client:
        return client.get(url, **options).raise_for_status()  # type: ignore[arg-type]


def test_both_forms(proxy: Proxy) -> None:
    """The subscriber answers the same at its own port and below the path."""
    for path in ("/api/list/foo", "/api/info/foo/dir1/ds-3d.b2nd", "/api/download/foo/README.md"):
        direct, prefixed = _get(proxy, proxy.subscriber + path), _get(proxy, proxy.prefixed + path)

        assert direct.content == prefixed.content
        assert direct.headers.get("etag") == prefixed.headers.get("etag")


def test_python_client(proxy: Proxy) -> None:
    """The Python client reads through TLS and the path prefix."""
    code = f"""
import caterva2
root = caterva2.Root("foo", urlbase="{proxy.prefixed}")
print(root["ds-1d.b2nd"][10:13].tolist(), root["README.md"][:8], {ODD_NAME!r} in root.file_list, root[{ODD_NAME!r}][:])
"""

    done = run([python(), "-c", code], cwd=proxy.directory, env=proxy.env)

    assert (0, "[10, 11, 12] b'# Header' True b'An odd name.\\n'\n") == (done.returncode, done.stdout), done.stderr


def test_command_line(proxy: Proxy) -> None:
    """`cat2cli` takes the proxy's address from `urlbase` in the subscriber's section."""
    done = run([*command("cat2cli"), "show", "foo/dir1/ds-2d.b2nd[0, 4:8]"], cwd=proxy.directory, env=proxy.env)

    assert (0, "[4 5 6 7]\n") == (done.returncode, done.stdout), done.stderr


def test_web_client_in_a_browser(proxy: Proxy) -> None:
    """The web client works below the path, deep links and the login included."""
    with sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_context(ignore_https_errors=True).new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{proxy.prefixed}/register?next=view/foo/dir1/ds-2d.b2nd")
        page.get_by_label("E-mail address").fill("browser@example.com")
        page.get_by_label("Password").fill("foobar11")
        page.get_by_role("button", name="Register").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("ds-2d.b2nd")
        expect(page.get_by_role("button", name="Log out")).to_be_visible()
        page.reload()
        expect(page.get_by_role("heading", level=1)).to_have_text("ds-2d.b2nd")
        expect(page.get_by_role("main")).to_contain_text("99.5")  # the mean of 0 to 199
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_role("link", name="Log in").first).to_be_visible()
        browser.close()

    assert f"{proxy.prefixed}/view/foo/dir1/ds-2d.b2nd" in asked
    assert [] == [url for url in asked if not url.startswith((f"{proxy.prefixed}/", "blob:", "data:"))]


def test_conditions_and_ranges(proxy: Proxy) -> None:
    """ETags, conditional requests and ranges pass through unharmed."""
    url = f"{proxy.prefixed}/api/fetch/foo/ds-1d.b2nd"
    whole = _get(proxy, url)
    with httpx.Client(verify=proxy.tls) as client:
        ranged = client.get(url, headers={"Range": "bytes=10-19"})
        unchanged = client.get(url, headers={"If-None-Match": whole.headers["etag"]})

    assert (206, whole.content[10:20]) == (ranged.status_code, ranged.content)
    assert (304, b"") == (unchanged.status_code, unchanged.content)


def test_bus(proxy: Proxy) -> None:
    """The broker tells members of the bus its address at the proxy, and they are connected through it."""
    answer = _get(proxy, f"{proxy.broker}/api/bus").json()
    health = wait_until(
        lambda: (found := _get(proxy, f"{proxy.subscriber}/health").json())["bus"] == "connected" and found,
        "the subscriber on the bus",
    )

    assert [proxy.broker.replace("https:", "wss:") + "/mqtt"] == answer["urls"]
    assert "subscriber" == health["kind"]


def test_change(proxy: Proxy) -> None:
    """A change that was told through the proxy is read through it."""
    file = proxy.directory / "root/new.bin"
    content = np.random.default_rng(1).bytes(100_000)

    file.write_bytes(content)

    wait_until(lambda: content == _get(proxy, f"{proxy.prefixed}/api/download/foo/new.bin").content, "the new file")


def test_watch(proxy: Proxy) -> None:
    """Changes are told through TLS and the path prefix as they happen, and a watch is ended from another thread."""
    code = f"""
import pathlib, threading
import caterva2
with caterva2.Root("foo", urlbase="{proxy.prefixed}").watch(timeout=20) as changes:
    pathlib.Path("root/watched.txt").write_text("x")
    print(next(change for change in changes if change.path == "watched.txt").type)
    threading.Timer(0.2, changes.close).start()
    print(list(changes))
"""

    done = run([python(), "-c", code], cwd=proxy.directory, env=proxy.env)

    assert (0, "created\n[]\n") == (done.returncode, done.stdout), done.stderr


def test_web_client(proxy: Proxy) -> None:
    """The page finds its files and the API below the path prefix, and a login there holds."""
    login = {"email": "web@example.com", "password": "foobar11"}
    with httpx.Client(verify=proxy.tls) as client:
        url = f"{proxy.prefixed}/view/foo/dir1/ds-3d.b2nd"
        page = client.get(url).raise_for_status()
        base = httpx.URL(url).join(re.findall(r'<base href="(.*?)">', page.text)[0])
        script = client.get(base.join(re.findall(r'src="(.*?/main.js)"', page.text)[0]))
        client.post(base.join("auth/register"), json=login).raise_for_status()
        client.post(
            base.join("auth/jwt/login"), data={"username": login["email"], "password": login["password"]}
        ).raise_for_status()

        assert f"{proxy.prefixed}/" == str(base)
        assert 200 == script.status_code
        assert "web@example.com" == client.get(base.join("auth/me")).json()["user"]["email"]
