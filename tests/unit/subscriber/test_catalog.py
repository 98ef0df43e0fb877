"""caterva2.subscriber.catalog: what messages and answers do to what is known, and what is to be done then."""

from collections.abc import Sequence
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.messages import Change, Changes, RootAnnouncement
from caterva2.errors import NotFoundError
from caterva2.models import CatalogHead, ChangeEntry, DatasetEntry
from caterva2.paths import DatasetPath, RootName
from caterva2.subscriber.catalog import (
    Catalog,
    CatchUp,
    DatasetChange,
    DropMirror,
    Effect,
    Root,
    SaveDatasets,
    SaveRoot,
    TellChanges,
    TellRoot,
)

FOO = RootName("foo")
NOW = 1000.0
Type = Literal["created", "modified", "deleted"]


def announcement(seq: int = 0, **more: Any) -> RootAnnouncement:
    """Announce the root foo."""
    values = {
        "name": "foo", "http": "http://localhost:1", "status": "online", "epoch": "E", "instance": "i", "birth": 1,
        "heartbeat": 30.0, "kind": "directory", "time": 0.0, "version": "1",
    }  # fmt: skip
    return RootAnnouncement.model_validate(values | {"seq": seq} | more)


def change(seq: int, path: str = "a", kind: Type = "modified", epoch: str = "E") -> Change:
    """Change a dataset; its version is the change's number."""
    etag = None if kind == "deleted" else str(seq)
    return Change(root="foo", epoch=epoch, seq=seq, type=kind, path=path, etag=etag, nbytes=seq, kind="file",
                  mtime=float(seq), time=0.0)  # fmt: skip


def changes(*each: Change) -> Changes:
    """Put changes into one message."""
    return Changes(root="foo", changes=each)


def entry(path: str, etag: str = "0") -> DatasetEntry:
    """A dataset whose version is a number."""
    return DatasetEntry(path=path, kind="file", etag=etag, nbytes=int(etag), mtime=float(etag))


def listed(catalog: Catalog, seq: int, entries: Sequence[DatasetEntry], epoch: str = "E") -> list[Effect]:
    """Answer a question asked right now with the whole catalog."""
    asked = catalog.root("foo")
    return catalog.listed(asked, CatalogHead(epoch=epoch, seq=seq), catalog.compare(FOO, entries))


def kept(effects: Sequence[Effect]) -> list[Effect]:
    """The effects without those that only tell clients."""
    return [effect for effect in effects if not isinstance(effect, TellChanges | TellRoot)]


def said(effects: Sequence[Effect]) -> list[tuple[str, str, str]]:
    """What clients are told: type, path and version of each change, or the status of a root."""
    changes = [change for effect in effects if isinstance(effect, TellChanges) for change in effect.changes]
    return [(change.type, change.entry.path, change.entry.etag) for change in changes]


def following(seq: int = 5, *paths: str) -> Catalog:
    """A catalog in step with the root foo, which has datasets at version 0."""
    catalog = Catalog()
    catalog.apply(announcement(seq), NOW)
    catalog.subscribe("foo")
    listed(catalog, seq, [entry(path) for path in paths or ("a", "b")])
    assert catalog.root("foo").live(NOW)
    return catalog


def known(catalog: Catalog) -> dict[str, str]:
    """The versions of the datasets of foo."""
    return {path: each.etag for path, each in catalog.datasets("foo").items()}


# -- announcements ----------------------------------------------------------------------------------------


def test_a_new_root_is_kept_and_not_followed() -> None:
    """The first announcement makes a root known; nobody asked for its datasets yet."""
    catalog = Catalog()

    assert [SaveRoot(FOO), TellRoot(FOO, online=True)] == catalog.apply(announcement(5), NOW)
    assert (True, False, False) == ((root := catalog.root("foo")).online, root.subscribed, root.live(NOW))


def test_following_a_root_asks_for_its_datasets_once() -> None:
    """Following is saved and catches up; following again does nothing."""
    catalog = Catalog()
    catalog.apply(announcement(5), NOW)

    assert [SaveRoot(FOO), CatchUp(FOO)] == catalog.subscribe("foo")
    assert [] == catalog.subscribe("foo")


def test_the_first_listing_puts_a_root_in_step() -> None:
    """With the datasets of the announced head, a root is live."""
    catalog = Catalog()
    catalog.apply(announcement(5), NOW)
    catalog.subscribe("foo")

    assert [SaveDatasets(FOO, (entry("a"),), ()), SaveRoot(FOO)] == listed(catalog, 5, [entry("a")])
    assert catalog.root("foo").live(NOW)


def test_a_listing_ahead_of_the_announcement_is_as_good() -> None:
    """The publisher's own word counts as its announcement, which is on its way."""
    catalog = Catalog()
    catalog.apply(announcement(5), NOW)
    catalog.subscribe("foo")

    assert [SaveRoot(FOO)] == listed(catalog, 7, [])
    assert catalog.root("foo").live(NOW)
    assert [CatchUp(FOO)] == catalog.apply(announcement(6), NOW)


def test_a_listing_behind_the_announcement_asks_again() -> None:
    """An answer made before the announced head is not enough."""
    catalog = Catalog()
    catalog.apply(announcement(5), NOW)
    catalog.subscribe("foo")

    assert [SaveRoot(FOO), CatchUp(FOO)] == listed(catalog, 4, [])
    assert not catalog.root("foo").live(NOW)


@pytest.mark.parametrize(
    ("message", "effects", "live"),
    [
        (announcement(5), [], True),
        (announcement(6), [CatchUp(FOO)], False),
        (announcement(4), [CatchUp(FOO)], False),
        (announcement(5, epoch="F"), [CatchUp(FOO)], False),
        (announcement(5, birth=2), [], True),
        (announcement(9, birth=0), [], True),
        (announcement(5, birth=0, status="offline"), [], True),
        (announcement(5, status="offline"), [SaveRoot(FOO), TellRoot(FOO, online=False)], False),
        (announcement(5, birth=2, status="offline"), [SaveRoot(FOO), TellRoot(FOO, online=False)], False),
        (announcement(5, instance="j", status="offline", http="http://localhost:9"), [], True),
        (announcement(5, instance="j", birth=0), [SaveRoot(FOO)], True),
        (announcement(6, instance="j", epoch="F"), [SaveRoot(FOO), CatchUp(FOO)], False),
        (announcement(5, http="http://localhost:9"), [SaveRoot(FOO)], True),
    ],
    ids=["same", "ahead", "back", "other-epoch", "reborn", "old-birth", "old-will", "will", "later-will",
         "foreign-will", "other-instance", "other-publisher", "moved"],
)  # fmt: skip
def test_announcements_to_a_root_in_step(message: RootAnnouncement, effects: list[Effect], live: bool) -> None:  # noqa: FBT001
    """Each announcement has its effects, and leaves the root live only if it continues what is known."""
    catalog = following(5)

    assert (effects, live) == (catalog.apply(message, NOW), catalog.root("foo").live(NOW))
    assert {"a": "0", "b": "0"} == known(catalog)


def test_a_root_that_moved_is_asked_where_it_is() -> None:
    """Another address, instance and birth replace those before, also smaller ones."""
    catalog = following(5)
    catalog.apply(announcement(5, http="http://localhost:9", instance="j", birth=0), NOW)
    root = catalog.root("foo")

    assert ("http://localhost:9", "j", 0) == (root.http, root.instance, root.birth)


def test_a_publisher_that_comes_back_is_live_again() -> None:
    """After its last will, the next announcement of the same head needs no question."""
    catalog = following(5)
    catalog.apply(announcement(5, status="offline"), NOW)

    assert [SaveRoot(FOO), TellRoot(FOO, online=True)] == catalog.apply(announcement(5, birth=2), NOW)
    assert catalog.root("foo").live(NOW)


def test_a_late_announcement_of_what_was_before_does_not_hide_what_was_missed() -> None:
    """Ahead, then back to the known head: the root is not live before the publisher has answered."""
    catalog = following(5)
    catalog.apply(announcement(7), NOW)

    assert [CatchUp(FOO)] == catalog.apply(announcement(5), NOW)
    assert not catalog.root("foo").live(NOW)
    listed(catalog, 7, [entry("a", "7")])
    assert catalog.root("foo").live(NOW)


def test_a_late_announcement_of_the_epoch_before_does_not_hide_the_new_one() -> None:
    """A new epoch, then the old one again: only the publisher can tell which is true."""
    catalog = following(5)
    catalog.apply(announcement(2, epoch="F", instance="j"), NOW)
    effects = catalog.apply(announcement(5), NOW)

    assert CatchUp(FOO) in effects
    assert not catalog.root("foo").live(NOW)


def test_an_unfollowed_root_is_never_caught_up_with() -> None:
    """Announcements and changes of a root that nobody follows cost no request."""
    catalog = Catalog()
    catalog.apply(announcement(5), NOW)

    assert ([], [], []) == (
        catalog.apply(announcement(9), NOW),
        catalog.apply(changes(change(10)), NOW),
        catalog.connected(),
    )


def test_what_is_heard_while_the_bus_is_away_vouches_for_nothing_later() -> None:
    """An answer of the publisher is true when it is given; without the bus nobody tells when it ends."""
    catalog = following(5, "a")
    catalog.disconnected(NOW)
    effects = catalog.caught_up(catalog.root("foo"), CatalogHead(epoch="E", seq=6), told(change(6)))

    assert ({"a": "6"}, False) == (known(catalog), catalog.root("foo").live(NOW))
    # Asking again at once would find nothing else.
    assert CatchUp(FOO) not in effects
    assert [CatchUp(FOO)] == catalog.connected()
    catalog.caught_up(catalog.root("foo"), CatalogHead(epoch="E", seq=6), [])
    assert catalog.root("foo").live(NOW)


# -- heartbeats -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("silence", "live"), [(0, True), (89.9, True), (90, True), (90.1, False), (1e9, False)])
def test_silence_of_three_heartbeats_is_an_absence(silence: float, live: bool) -> None:  # noqa: FBT001
    """A root is live for three heartbeats after it was last heard of."""
    assert live is following(5).root("foo").live(NOW + silence)


def test_a_change_is_a_sign_of_life() -> None:
    """Changes count as heartbeats; repeated ones and last wills do not."""
    catalog = following(5)
    catalog.apply(changes(change(6)), NOW + 80)

    assert catalog.root("foo").live(NOW + 160)
    catalog.apply(changes(change(6)), NOW + 160)
    assert not catalog.root("foo").live(NOW + 180)


# -- changes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("each", "versions"),
    [
        ([change(6)], {"a": "6", "b": "0"}),
        ([change(6, "c", "created")], {"a": "0", "b": "0", "c": "6"}),
        ([change(6, "a", "deleted")], {"b": "0"}),
        ([change(6), change(7)], {"a": "7", "b": "0"}),
        ([change(6), change(7, "a", "deleted"), change(8, "a", "created")], {"a": "8", "b": "0"}),
        ([change(6, "a", "deleted"), change(7, "c", "created")], {"b": "0", "c": "7"}),
        ([change(4), change(5), change(6, "b")], {"a": "0", "b": "6"}),
        ([change(6, "nosuch", "deleted")], {"a": "0", "b": "0"}),
    ],
    ids=["modified", "created", "deleted", "twice", "again", "renamed", "overlap", "unknown"],
)
def test_the_next_changes_are_applied(each: list[Change], versions: dict[str, str]) -> None:
    """Changes that continue the known head leave the root live and its datasets as they say."""
    catalog = following(5)
    catalog.apply(changes(*each), NOW)

    assert (versions, True) == (known(catalog), catalog.root("foo").live(NOW))
    assert ("E", each[-1].seq) == catalog.root("foo").head


def test_a_change_is_saved_and_a_deletion_gives_its_space_back() -> None:
    """The effects name what is there now, what is not any more, and whose mirror goes."""
    catalog = following(5)

    assert [
        SaveDatasets(FOO, (entry("c", "7"),), ("a",)),
        DropMirror(DatasetPath(FOO, "a")),
        SaveRoot(FOO),
    ] == kept(catalog.apply(changes(change(6, "a", "deleted"), change(7, "c", "created")), NOW))


@pytest.mark.parametrize(
    "each",
    [[change(7)], [change(6), change(8)], [change(7), change(6)], [change(6, epoch="F")], [change(1, epoch="D")],
     [change(6), change(7, epoch="F")], [change(2**62)]],
    ids=["gap", "hole", "reordered", "epoch", "old-epoch", "mixed", "huge"],
)  # fmt: skip
def test_changes_that_do_not_continue_are_not_applied(each: list[Change]) -> None:
    """A gap, another order or another epoch means that something was missed: ask, and do not vouch."""
    catalog = following(5)

    assert [CatchUp(FOO)] == catalog.apply(changes(*each), NOW)
    assert ({"a": "0", "b": "0"}, False) == (known(catalog), catalog.root("foo").live(NOW))


@pytest.mark.parametrize("each", [[change(5)], [change(1), change(2)], [change(3, "a", "deleted")]])
def test_what_is_known_already_is_ignored(each: list[Change]) -> None:
    """A repeated message has no effect."""
    catalog = following(5)

    assert [] == catalog.apply(changes(*each), NOW)
    assert ({"a": "0", "b": "0"}, True) == (known(catalog), catalog.root("foo").live(NOW))


def test_a_change_before_the_first_listing_waits_for_it() -> None:
    """Without a head there is nothing that a change could continue; a listing asked for before it does not count."""
    catalog = Catalog()
    catalog.apply(announcement(5), NOW)
    catalog.subscribe("foo")
    asked = catalog.root("foo")

    assert ([], {}) == (catalog.apply(changes(change(6)), NOW), known(catalog))
    assert CatchUp(FOO) in catalog.listed(asked, CatalogHead(epoch="E", seq=5), catalog.compare(FOO, []))
    assert not catalog.root("foo").live(NOW)


def test_a_change_of_an_unknown_root_is_ignored() -> None:
    """A message of a root that never announced itself does nothing."""
    catalog = Catalog()

    assert ([], []) == (catalog.apply(changes(change(1)), NOW), catalog.roots())


# -- catching up ------------------------------------------------------------------------------------------


def told(*each: Change) -> list[ChangeEntry]:
    """The same changes as an answer over HTTP has them."""
    return [ChangeEntry(**one.model_dump(include=set(ChangeEntry.model_fields))) for one in each]


def test_an_answer_closes_the_gap() -> None:
    """What was missed is applied, saved, and the root is live."""
    catalog = following(5)
    catalog.apply(changes(change(7)), NOW)
    effects = catalog.caught_up(catalog.root("foo"), CatalogHead(epoch="E", seq=7), told(change(6, "b"), change(7)))

    assert [SaveDatasets(FOO, (entry("b", "6"), entry("a", "7")), ()), SaveRoot(FOO)] == kept(effects)
    assert ({"a": "7", "b": "6"}, True) == (known(catalog), catalog.root("foo").live(NOW))


def test_an_answer_that_was_asked_for_before_the_gap_does_not_close_it() -> None:
    """A gap noticed while the question was under way needs another question."""
    catalog = following(5)
    asked = catalog.root("foo")
    catalog.apply(changes(change(8)), NOW)

    assert [SaveRoot(FOO), CatchUp(FOO)] == catalog.caught_up(asked, CatalogHead(epoch="E", seq=5), [])
    assert not catalog.root("foo").live(NOW)


def test_an_answer_that_was_asked_for_before_the_bus_was_lost_does_not_count() -> None:
    """What happened while the bus was away is in no answer from before."""
    catalog = following(5)
    asked = catalog.root("foo")
    catalog.disconnected()
    catalog.connected()

    assert CatchUp(FOO) in catalog.caught_up(asked, CatalogHead(epoch="E", seq=5), [])
    assert not catalog.root("foo").live(NOW)


def test_an_answer_of_the_epoch_before_does_not_count() -> None:
    """A listing that was made before the announced epoch began needs another question."""
    catalog = following(5)
    asked = catalog.root("foo")
    catalog.apply(announcement(1, epoch="F", instance="j"), NOW)
    effects = catalog.listed(asked, CatalogHead(epoch="E", seq=6), catalog.compare(FOO, [entry("a", "6")]))

    assert CatchUp(FOO) in effects
    assert not catalog.root("foo").live(NOW)


def test_a_new_epoch_is_listed_afresh() -> None:
    """The listing of a new journal replaces everything; what is gone is dropped."""
    catalog = following(5)
    catalog.apply(announcement(1, epoch="F", instance="j"), NOW)

    assert [
        SaveDatasets(FOO, (entry("c", "1"),), ("a",)),
        DropMirror(DatasetPath(FOO, "a")),
        SaveRoot(FOO),
    ] == kept(listed(catalog, 1, [entry("b"), entry("c", "1")], epoch="F"))
    assert ({"b": "0", "c": "1"}, True) == (known(catalog), catalog.root("foo").live(NOW))


def test_a_restored_journal_is_believed_when_the_publisher_says_so() -> None:
    """A `seq` that went back for good is the truth once the whole catalog says so."""
    catalog = following(9)
    catalog.apply(announcement(5), NOW)
    listed(catalog, 5, [entry("a", "3")])

    assert (("E", 5), {"a": "3"}, True) == (
        catalog.root("foo").head,
        known(catalog),
        catalog.root("foo").live(NOW),
    )


def test_an_unchanged_listing_saves_no_dataset() -> None:
    """Only the head is saved when nothing differs."""
    assert [SaveRoot(FOO)] == listed(following(5), 6, [entry("a"), entry("b")])


# -- the bus ----------------------------------------------------------------------------------------------


def test_without_the_bus_nothing_is_live() -> None:
    """From the moment the bus is gone every root must be revalidated; messages do not change that."""
    catalog = following(5)
    catalog.disconnected()

    assert not catalog.root("foo").live(NOW)
    catalog.apply(announcement(5), NOW)
    assert not catalog.root("foo").live(NOW)


def test_a_reconnection_catches_up_with_followed_roots() -> None:
    """What the bus lost meanwhile is asked for; afterwards the root is live."""
    catalog = following(5)
    catalog.apply(announcement(0, name="bar"), NOW)
    catalog.disconnected()

    assert [CatchUp(FOO)] == catalog.connected()
    assert [SaveRoot(FOO)] == catalog.caught_up(catalog.root("foo"), CatalogHead(epoch="E", seq=5), [])
    assert catalog.root("foo").live(NOW)


def test_what_an_earlier_run_knew_counts_as_unchecked() -> None:
    """A restored root has its datasets, and is not live before the publisher has answered."""
    catalog = Catalog()
    catalog.restore(Root(FOO, "http://x", head=("E", 5), subscribed=True, checked=True, heard=NOW), [entry("a")])

    assert ({"a": "0"}, False) == (known(catalog), catalog.root("foo").live(NOW))
    assert [SaveRoot(FOO), CatchUp(FOO)] == kept(catalog.apply(announcement(5), NOW))
    assert not catalog.root("foo").live(NOW)
    catalog.caught_up(catalog.root("foo"), CatalogHead(epoch="E", seq=5), [])
    assert catalog.root("foo").live(NOW)


# -- single datasets --------------------------------------------------------------------------------------


def test_what_a_publisher_says_of_one_dataset_is_taken_in() -> None:
    """A newer version and a deletion are saved; what is known already, or not told by the journal yet, is not."""
    catalog, a, c = following(5), DatasetPath(FOO, "a"), DatasetPath(FOO, "c")

    assert [] == catalog.observe(a, entry("a"))
    assert [SaveDatasets(FOO, (entry("a", "9"),), ())] == kept(catalog.observe(a, entry("a", "9")))
    assert [SaveDatasets(FOO, (), ("a",)), DropMirror(a)] == kept(catalog.observe(a, None))
    assert [] == catalog.observe(a, None)
    assert [] == catalog.observe(c, entry("c", "9"))
    assert {"b": "0"} == known(catalog)


def test_a_suspected_version_is_no_version() -> None:
    """What a publisher disowned matches no version; an unknown dataset cannot be suspected."""
    catalog = following(5)
    catalog.suspect(DatasetPath(FOO, "a"))
    catalog.suspect(DatasetPath(FOO, "nosuch"))

    assert {"a": "", "b": "0"} == known(catalog)


@pytest.mark.parametrize(
    ("path", "names"),
    [("foo", ["a", "dir/b", "dir/deep/c", "dirt"]), ("foo/dir", ["b", "deep/c"]), ("foo/dir/deep", ["c"]),
     ("foo/a", ["a"]), ("foo/dir/b", ["b"])],
)  # fmt: skip
def test_names_are_listed_below_a_directory(path: str, names: list[str]) -> None:
    """A directory gives the names below it, a dataset its own."""
    catalog = following(5, "dirt", "dir/deep/c", "a", "dir/b")

    assert names == catalog.names(DatasetPath.parse(path))


@pytest.mark.parametrize("path", ["foo/nosuch", "foo/di", "foo/a/b", "foo/dir/deep/c/d"])
def test_a_name_that_is_nothing_is_not_found(path: str) -> None:
    """What is neither a directory nor a dataset is NotFoundError."""
    with pytest.raises(NotFoundError, match=path):
        following(5, "dir/deep/c", "a").names(DatasetPath.parse(path))


def test_an_empty_root_lists_nothing() -> None:
    """A root without datasets is no error; an unknown one is."""
    catalog = Catalog()
    catalog.apply(announcement(0), NOW)

    assert [] == catalog.names(DatasetPath.parse("foo"))
    with pytest.raises(NotFoundError, match="bar not known"):
        catalog.root("bar")


def test_a_forgotten_root_is_gone() -> None:
    """Nothing is left of a root that is no more."""
    catalog = following(5)
    catalog.forget("foo")
    catalog.forget("foo")

    assert ([], {}) == (catalog.roots(), catalog.datasets("foo"))


# -- any order of anything --------------------------------------------------------------------------------


class Publisher:
    """The truth: datasets, a journal, and what it publishes."""

    def __init__(self) -> None:
        self.epoch, self.seq, self.datasets = 0, 0, dict[str, str]()
        self.journal: list[Change] = []
        self.versions = 0

    @property
    def head(self) -> CatalogHead:
        """Of the journal."""
        return CatalogHead(epoch=f"E{self.epoch:02}", seq=self.seq)

    def change(self, path: str, *, delete: bool) -> Changes | None:
        """Change a dataset."""
        if delete and path not in self.datasets:
            return None
        kind: Type = "deleted" if delete else "modified" if path in self.datasets else "created"
        self.seq += 1
        self.versions += 1
        if delete:
            del self.datasets[path]
        else:
            self.datasets[path] = str(self.versions)
        etag = None if delete else str(self.versions)
        one = change(self.seq, path, kind, f"E{self.epoch:02}").model_copy(
            update={"etag": etag, "nbytes": self.versions, "mtime": float(self.versions)}
        )
        self.journal.append(one)
        return changes(one)

    def restart(self, path: str) -> None:
        """Lose the journal: a new epoch, a new instance, and a change that no journal tells."""
        self.epoch += 1
        self.seq, self.journal = 0, []
        self.versions += 1
        self.datasets[path] = str(self.versions)

    def announce(self) -> RootAnnouncement:
        """Announce the head."""
        return announcement(self.seq, epoch=f"E{self.epoch:02}", instance=f"i{self.epoch}")

    def answer(self, asked: Root) -> Any:
        """Answer a question asked by a root as it was; the answer arrives later."""
        if asked.head is not None and asked.head[0] == f"E{self.epoch:02}" and asked.head[1] <= self.seq:
            return asked, self.head, told(*(one for one in self.journal if one.seq > asked.head[1])), None
        return asked, self.head, None, [entry(path, etag) for path, etag in self.datasets.items()]


STEPS = st.lists(
    st.tuples(st.just("change"), st.sampled_from("abc"), st.booleans())
    | st.tuples(st.sampled_from(["announce", "restart", "ask", "answer", "lose-bus"]), st.just("a"), st.just(False))
    | st.tuples(st.sampled_from(["deliver", "lose", "repeat"]), st.integers(0, 5), st.just(False)),
    max_size=40,
)


@settings(max_examples=400)
@given(STEPS)
def test_any_loss_repetition_and_order_ends_with_the_truth(steps: list[tuple[str, Any, bool]]) -> None:
    """Never live with other datasets than the truth at the head that was heard of last; right once caught up."""
    publisher, catalog = Publisher(), Catalog()
    on_the_way: list[RootAnnouncement | Changes] = []
    asked: list[Root] = []
    answers: list[Any] = []
    truths = {("E00", 0): dict[str, str]()}
    heard = ("E00", 0)
    catalog.apply(publisher.announce(), NOW)
    catalog.subscribe("foo")

    def take(answer: Any) -> None:
        root, head, entries, listing = answer
        if listing is None:
            catalog.caught_up(root, head, entries)
        else:
            catalog.listed(root, head, catalog.compare(FOO, listing))

    for step, what, flag in steps:
        match step:
            case "change":
                if (message := publisher.change(what, delete=flag)) is not None:
                    on_the_way.append(message)
            case "restart":
                publisher.restart(what)
            case "announce":
                on_the_way.append(publisher.announce())
            case "ask" if not asked:
                asked.append(catalog.root("foo"))
                answers.append(publisher.answer(asked[-1]))
            case "answer" if answers:
                asked.pop()
                take(answers.pop())
            case "lose-bus":
                on_the_way.clear()
                catalog.disconnected()
                catalog.connected()
            case "deliver" | "lose" | "repeat" if on_the_way:
                at = what % len(on_the_way)
                message = on_the_way[at]
                if step != "repeat":
                    del on_the_way[at]
                if step != "lose":
                    catalog.apply(message, NOW)
                    one = message.changes[-1] if isinstance(message, Changes) else message
                    heard = max(heard, (one.epoch, one.seq))
        truths[f"E{publisher.epoch:02}", publisher.seq] = dict(publisher.datasets)
        root = catalog.root("foo")
        if root.live(NOW):
            assert root.head is not None
            assert root.head >= heard
            assert truths[root.head] == known(catalog)

    for answer in answers:
        take(answer)
    effects = catalog.apply(publisher.announce(), NOW)
    while not catalog.root("foo").live(NOW):
        assert CatchUp(FOO) in effects
        root, head, entries, listing = publisher.answer(catalog.root("foo"))
        effects = (
            catalog.caught_up(root, head, entries)
            if listing is None
            else catalog.listed(root, head, catalog.compare(FOO, listing))
        )
    assert publisher.datasets == known(catalog)


# -- what clients are told --------------------------------------------------------------------------------


def test_clients_are_told_what_is_another_version() -> None:
    """Changes that come over the bus are told once for each path, as they look after all of them."""
    catalog = following(5)
    each = (change(6, "a"), change(7, "c", "created"), change(8, "b", "deleted"), change(9, "a"))

    assert [("modified", "a", "9"), ("created", "c", "7"), ("deleted", "b", "0")] == said(
        catalog.apply(changes(*each), NOW)
    )
    assert [] == said(catalog.apply(changes(*each), NOW))


def test_clients_are_told_what_was_missed() -> None:
    """An answer over HTTP and a listing afresh are told as what they change; what is the same is not told."""
    catalog = following(5)
    catalog.apply(changes(change(7)), NOW)
    root = catalog.root("foo")

    assert [("modified", "b", "6"), ("modified", "a", "7")] == said(
        catalog.caught_up(root, CatalogHead(epoch="E", seq=7), told(change(6, "b"), change(7)))
    )
    assert [] == said(catalog.caught_up(root, CatalogHead(epoch="E", seq=7), told(change(6, "b"), change(7))))
    assert [("created", "c", "3"), ("deleted", "b", "6")] == said(
        listed(catalog, 1, [entry("a", "7"), entry("c", "3")], epoch="F")
    )


def test_the_first_listing_is_no_change() -> None:
    """Datasets that are listed because someone begins to follow the root were there before."""
    catalog = Catalog()
    catalog.apply(announcement(5), NOW)
    catalog.subscribe("foo")

    assert [] == said(listed(catalog, 5, [entry("a")]))


def test_clients_are_told_what_a_publisher_says_of_one_dataset() -> None:
    """A version that a read found is told as any other change."""
    catalog, a = following(5), DatasetPath(FOO, "a")

    assert [("modified", "a", "9")] == said(catalog.observe(a, entry("a", "9")))
    assert TellChanges(FOO, (DatasetChange("modified", entry("a", "10")),)) in catalog.observe(a, entry("a", "10"))
    assert [("deleted", "a", "10")] == said(catalog.observe(a, None))


# -- how current it is ------------------------------------------------------------------------------------


def test_it_is_known_when_a_root_was_last_current() -> None:
    """Announcements and changes in step, the end of the bus and last wills say until when the datasets were right."""
    catalog = Catalog()
    catalog.apply(announcement(5), NOW)
    catalog.subscribe("foo")
    assert catalog.root("foo").current is None
    asked = catalog.root("foo")
    catalog.listed(asked, CatalogHead(epoch="E", seq=5), catalog.compare(FOO, []), NOW + 1)
    seen = [catalog.root("foo").current]
    for step, message in enumerate((announcement(5), changes(change(6)), announcement(8), announcement(9)), 2):
        catalog.apply(message, NOW + step)
        seen.append(catalog.root("foo").current)
    catalog.disconnected(NOW + 8)

    assert [NOW + 1, NOW + 2, NOW + 3, NOW + 3, NOW + 3] == seen
    assert NOW + 3 == catalog.root("foo").current


@pytest.mark.parametrize("end", ["will", "bus"])
def test_a_root_is_current_until_its_end_is_heard(end: str) -> None:
    """What was live was right until the last will came, or the bus was lost."""
    catalog = following(5)

    if end == "will":
        catalog.apply(announcement(5, status="offline"), NOW + 7)
    else:
        catalog.disconnected(NOW + 7)

    assert NOW + 7 == catalog.root("foo").current
    assert not catalog.root("foo").live(NOW + 7)
