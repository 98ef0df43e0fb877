"""Folders of the own roots: archives, uploads of directories, empty folders; and whose quota they take."""

import io
import json
import os
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import blosc2
import numpy as np
import pytest

from caterva2.cli.main import main
from caterva2.client import Client
from caterva2.errors import BadRequestError, ConflictError, FrameError, TooLargeError
from tests.integration.chain.daemons import PASSWORD, ROOT, Chain, add_users, running_chain

ANN, BOB = "ann@example.com", "bob@example.com"
MB = 1 << 20


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """A chain with users, each of whom may write 4 MB."""
    directory = tmp_path_factory.mktemp("folders")
    (directory / ROOT).mkdir()
    with running_chain(directory, secret="a secret of the tests", user_quota=4 * MB) as chain:
        add_users(chain, ANN, BOB)
        yield chain


@pytest.fixture
def ann(chain: Chain) -> Iterator[Client]:
    """A user; all roots are empty."""
    with Client(chain.subscriber.url, (ANN, PASSWORD)) as client:
        for root in ("@public", "@shared", "@personal"):
            for name in {name.partition("/")[0] for name in _all(client, root)}:
                client.remove(f"{root}/{name}")
        assert 0 == client.get_quota()["used"]
        yield client


@pytest.fixture
def bob(chain: Chain, ann: Client) -> Iterator[Client]:
    """Another one."""
    with Client(chain.subscriber.url, (BOB, PASSWORD)) as client:
        yield client


def _all(client: Client, root: str) -> list[str]:
    """Also the empty folders."""
    answer = client.session.get("api/list", root, params={"folders": "true"}).json()
    assert isinstance(answer, list)
    return answer


def zipped(**files: bytes) -> bytes:
    """A zip file."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), content)
    return out.getvalue()


def frame(values: object) -> bytes:
    """An array as a file."""
    data: bytes = blosc2.asarray(np.asarray(values)).to_cframe()
    return data


# -- archives ---------------------------------------------------------------------------------------------


def test_an_archive_is_unpacked(ann: Client) -> None:
    """What is in it is there as if each file had been uploaded, and in the events and the quota too."""
    data = zipped(a_txt=b"hello", dir__b_b2nd=frame(np.arange(10)))
    assert "@personal/all/in" == str(ann.upload(data, "@personal/all/in", unpack=True))

    assert ["all/in/a.txt", "all/in/dir/b.b2nd"] == ann.get_list("@personal")
    assert b"hello" == ann.fetch("@personal/all/in/a.txt")
    assert list(range(10)) == list(ann.fetch("@personal/all/in/dir/b.b2nd"))
    assert 0 < (ann.get_quota()["used"] or 0) < 4000
    ann.remove("@personal/all")
    assert 0 == ann.get_quota()["used"]


REFUSED: list[tuple[str, dict[str, bytes], type[Exception]]] = [
    ("/../evil", {"../evil.txt": b"x"}, BadRequestError),
    ("a segment is ''", {"/etc/evil": b"x"}, BadRequestError),
    ("a segment is ''", {"a//b": b"x"}, BadRequestError),
    ("is hidden", {"dir/.ssh/key": b"x"}, BadRequestError),
    ("is there twice", {"a": b"x", "a ": b"y", "A": b"z", "b/c": b"x", "b": b"y"}, BadRequestError),
    ("is in what is a file", {"b": b"y", "b/c": b"x"}, BadRequestError),
    ("frame", {"x.b2nd": b"no frame at all"}, FrameError),
]


@pytest.mark.parametrize(("words", "files", "error"), REFUSED, ids=[str(list(each[1])) for each in REFUSED])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_is_refused_as_a_whole(
    chain: Chain, ann: Client, kind: str, words: str, files: dict[str, bytes], error: type[Exception]
) -> None:
    """One member that is not kept refuses all, before anything of it can be seen; nothing is left of it."""
    out = io.BytesIO()
    everything = {"good.txt": b"good", **files}
    if kind == "zip":
        with zipfile.ZipFile(out, "w") as archive:
            for name, content in everything.items():
                archive.writestr(name, content)
    else:
        with tarfile.open(fileobj=out, mode="w") as packed:
            for name, content in everything.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                packed.addfile(info, io.BytesIO(content))
    with pytest.raises(error, match=words):
        ann.upload(out.getvalue(), "@personal/all", unpack=True)

    assert [] == _all(ann, "@personal")
    assert 0 == ann.get_quota()["used"]
    state = chain.subscriber.settings.statedir
    assert [] == list((state / "incoming").iterdir())
    assert not [file for file in chain.directory.rglob("*") if "evil" in file.name]


def test_an_archive_takes_no_name(ann: Client) -> None:
    """It becomes a new folder, and nothing else."""
    ann.upload(b"x", "@personal/taken/x")
    for path in ("@personal/taken", "@personal/taken/x"):
        with pytest.raises(ConflictError, match="exists"):
            ann.upload(zipped(a=b"x"), path, unpack=True)
    with pytest.raises(ConflictError, match="is a file"):
        ann.upload(zipped(a=b"x"), "@personal/taken/x/y", unpack=True)
    with pytest.raises(BadRequestError, match="is a root"):
        ann.upload(zipped(a=b"x"), "@personal", unpack=True)


def test_an_archive_keeps_within_the_quota(ann: Client) -> None:
    """What does not fit is refused while it is unpacked, and so is an archive that does not fit itself."""
    with pytest.raises(TooLargeError, match="may keep 4194304 bytes"):
        ann.upload(zipped(a=os.urandom(3 * MB), b=os.urandom(3 * MB)), "@personal/all", unpack=True)
    ann.upload(zipped(a=os.urandom(MB)), "@personal/fits", unpack=True)

    assert ["fits/a"] == ann.get_list("@personal")


# -- folders ----------------------------------------------------------------------------------------------


def test_empty_folders(chain: Chain, ann: Client) -> None:
    """One can be made, is listed where that is asked for, and takes datasets; it replaces nothing."""
    assert "@personal/a/b" == str(ann.make_folder("@personal/a/b"))
    with pytest.raises(ConflictError):
        ann.make_folder("@personal/a/b")
    ann.upload(b"x", "@personal/a/x")

    assert ["a/", "a/b/", "a/x"] == _all(ann, "@personal")
    assert ["a/x"] == ann.get_list("@personal")
    ann.move("@personal/a/b", "@shared/moved")
    assert ["moved/"] == _all(ann, "@shared")
    assert 400 == chain.http.get(f"/api/list/{ROOT}?folders=perhaps").status_code


def test_commands(
    chain: Chain,
    ann: Client,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`cat2cli upload` takes directories and archives, `mkdir` makes folders, `quota` tells the figures."""
    monkeypatch.setattr("caterva2.cli.context.Context.client", ann)
    monkeypatch.chdir(tmp_path)
    for name in ("dir/a.txt", "dir/sub/b.txt", "dir/.hidden"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(name)
    Path("all.zip").write_bytes(zipped(a_txt=b"hello"))
    assert 0 == main(["upload", "dir", "@personal/dir"])
    assert 0 == main(["upload", "--unpack", "all.zip", "@personal/all"])
    assert 0 == main(["mkdir", "@personal/empty"])
    printed = capsys.readouterr().out.splitlines()
    assert 0 == main(["--json", "quota"])
    figures = json.loads(capsys.readouterr().out)

    assert ["@personal/dir/a.txt", "@personal/dir/sub/b.txt", "@personal/all", "@personal/empty"] == printed
    assert (4 * MB, None) == (figures["limit"], figures["total_limit"])
    assert ["all/a.txt", "dir/a.txt", "dir/sub/b.txt"] == ann.get_list("@personal")


# -- whose it is ------------------------------------------------------------------------------------------


def test_a_quota_counts_what_one_has_written(chain: Chain, ann: Client, bob: Client) -> None:
    """In all roots, for who wrote, replaced, moved or copied it last; also after a restart."""
    ann.upload(os.urandom(3 * MB), "@shared/large")
    assert (3 * MB, 0) == (_used(ann), _used(bob))
    with pytest.raises(TooLargeError, match="may keep 4194304 bytes"):
        ann.upload(os.urandom(2 * MB), "@public/more")
    bob.upload(os.urandom(2 * MB), "@public/other")
    assert (3 * MB, 2 * MB) == (_used(ann), _used(bob))
    bob.upload(os.urandom(MB), "@shared/large")  # ann's has gone
    assert (0, 3 * MB) == (_used(ann), _used(bob))
    ann.move("@shared/large", "@shared/moved")
    assert (MB, 2 * MB) == (_used(ann), _used(bob))
    ann.copy("@public/other", "@personal/other")
    assert (3 * MB, 2 * MB) == (_used(ann), _used(bob))
    with pytest.raises(TooLargeError):
        ann.move("@public/other", "@personal/moved")
    chain.subscriber.restart()
    assert (3 * MB, 2 * MB) == (_used(ann), _used(bob))
    bob.remove("@shared/moved")
    assert (2 * MB, 2 * MB) == (_used(ann), _used(bob))
    bob.remove("@public/other")
    assert (2 * MB, 0) == (_used(ann), _used(bob))


def _used(client: Client) -> int:
    """What a user has written, in whole MB; a frame has a little more than its data."""
    used = client.get_quota()["used"]
    assert used is not None
    return used // MB * MB
