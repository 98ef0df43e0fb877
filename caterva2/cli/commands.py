"""The commands of cat2cli: for each a function that describes its arguments, and one that runs it."""

from __future__ import annotations

import argparse
import inspect
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caterva2.cli.context import Context
from caterva2.cli.progress import ProgressBar
from caterva2.cli.target import Target
from caterva2.errors import BadRequestError, NotFoundError

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[Any]

_Run = Callable[[Context, argparse.Namespace], None]


def _add(
    subparsers: Subparsers, common: argparse.ArgumentParser, name: str, run: _Run, *aliases: str
) -> argparse.ArgumentParser:
    """Add a command whose help is the docstring of the function that runs it."""
    text = inspect.cleandoc(run.__doc__ or "")
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name,
        aliases=aliases,
        parents=[common],
        help=text.splitlines()[0].rstrip("."),
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    return parser


def add_roots(subparsers: Subparsers, common: argparse.ArgumentParser) -> None:
    """Describe `cat2cli roots`."""
    _add(subparsers, common, "roots", roots)


def roots(context: Context, args: argparse.Namespace) -> None:
    """List the roots that the subscriber knows.

    In a pipe: name, address, subscribed (yes or no), status, freshness and age, separated by tabs; "-" is none.
    Freshness is how it is known that reads are current: "live", changes are told as they happen; "revalidated", the
    publisher is asked; "stale", it gives no answer, and what is cached is served. Age is how many seconds ago the
    files were last known to be the current ones.
    """
    context.output.check()
    found = context.client.get_roots()
    if args.json:
        context.output.data(found)
        return
    rows = [
        (
            name,
            str(root.get("http") or "-"),
            "yes" if root.get("subscribed") else "no",
            str(root.get("status", "-")),
            str(root.get("freshness") or "-"),
            "-" if root.get("age") is None else str(root["age"]),
        )
        for name, root in found.items()
    ]
    context.output.table(("root", "address", "subscribed", "status", "freshness", "age"), rows)


def add_subscribe(subparsers: Subparsers, common: argparse.ArgumentParser) -> None:
    """Describe `cat2cli subscribe`."""
    parser = _add(subparsers, common, "subscribe", subscribe)
    parser.add_argument("root", metavar="ROOT", help="the root's name, as `cat2cli roots` shows it")


def subscribe(context: Context, args: argparse.Namespace) -> None:
    """Make the subscriber follow a root."""
    answer = context.client.subscribe(args.root)
    if args.json:
        context.output.data(answer)
    else:
        context.output.lines([f"subscribed to {args.root}"])


def add_list(subparsers: Subparsers, common: argparse.ArgumentParser) -> None:
    """Describe `cat2cli list`."""
    parser = _add(subparsers, common, "list", list_files, "ls")
    parser.add_argument("path", metavar="ROOT[/DIR]", help="a root, or a directory in one")


def list_files(context: Context, args: argparse.Namespace) -> None:
    """List the files of a root or directory, one a line."""
    names = context.client.get_list(args.path)
    if args.json:
        context.output.data(names)
    else:
        context.output.lines(names)


def add_info(subparsers: Subparsers, common: argparse.ArgumentParser) -> None:
    """Describe `cat2cli info`."""
    parser = _add(subparsers, common, "info", info)
    parser.add_argument("path", metavar="PATH", help="a file, root/dir/name")


def info(context: Context, args: argparse.Namespace) -> None:
    """Tell the shape, type, sizes and attributes of a file."""
    context.output.check()
    found = context.client.get_info(args.path)
    if args.json:
        context.output.data(found)
    else:
        context.output.pairs(dict(_flat(found)))


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, dict) and name in {"schunk", "vlmeta"}:
            yield from _flat(value, f"{prefix}{name}.")
        elif value is not None:
            yield prefix + name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def add_show(subparsers: Subparsers, common: argparse.ArgumentParser) -> None:
    """Describe `cat2cli show`."""
    parser = _add(subparsers, common, "show", show)
    _add_part(parser)


def _add_part(parser: argparse.ArgumentParser) -> None:
    """Describe what says which part of a file is meant."""
    parser.add_argument("path", metavar="PATH[SLICE]", help="a file, and what of it, in quotes: 'foo/ds.b2nd[0:10, 3]'")
    parser.add_argument("--slice", metavar="TEXT", help="the slice, for names with brackets: --slice=-3:")
    parser.add_argument("--field", metavar="NAME", help="one field of a structured array")
    parser.add_argument("--filter", metavar="CONDITION", help="only the rows of a structured array where it holds")
    parser.add_argument("--sortby", metavar="NAME", help="the field by which the rows are sorted")


def _part(args: argparse.Namespace) -> Target:
    return Target.parse(args.path, args.slice, args.field, args.filter, args.sortby)


def show(context: Context, args: argparse.Namespace) -> None:
    """Show the values of an array, or the text or bytes of another file.

    A slice is written as in NumPy: 'foo/ds.b2nd[10:20, ::2]'. On a terminal a long array is shortened. With a condition
    such as --filter '(a < 5) & (b > 0.1)' the slice is one of the rows where it holds.
    """
    from caterva2.cli.values import show_target

    show_target(context, _part(args))


def add_url(subparsers: Subparsers, common: argparse.ArgumentParser) -> None:
    """Describe `cat2cli url`."""
    parser = _add(subparsers, common, "url", url)
    parser.add_argument("path", metavar="PATH", help="a file, root/dir/name")


def url(context: Context, args: argparse.Namespace) -> None:
    """Print the URL that a file can be downloaded from."""
    found = context.client.get_download_url(args.path)
    if args.json:
        context.output.data(found)
    else:
        context.output.lines([found])


def add_download(subparsers: Subparsers, common: argparse.ArgumentParser) -> None:
    """Describe `cat2cli download`."""
    parser = _add(subparsers, common, "download", download)
    _add_part(parser)
    parser.add_argument(
        "localpath", metavar="LOCAL", nargs="?", help="the file or directory to write (./root/dir/name)"
    )
    parser.add_argument("--format", choices=["b2nd", "npy", "csv"], help="what an array becomes: Blosc2, NumPy or text")


def download(context: Context, args: argparse.Namespace) -> None:
    """Download a file, and print where it was written.

    An array, or a slice of it, can become a NumPy file or text: --format npy, --format csv.
    """
    target = _part(args)
    wanted = {name: getattr(args, name) for name in ("format", "field", "filter", "sortby")}
    wanted["slice_"] = None if target.cut is None else str(target.cut)
    with ProgressBar(args.path) as progress:
        # As it was typed: a slash at the end says that it is a directory.
        file: Path = context.client.download(str(target.path), args.localpath, **wanted, progress=progress)
    if args.json:
        context.output.data(str(file))
    else:
        context.output.lines([str(file)])


def add_watch(subparsers: Subparsers, common: argparse.ArgumentParser) -> None:
    """Describe `cat2cli watch`."""
    parser = _add(subparsers, common, "watch", watch)
    parser.add_argument("path", metavar="ROOT[/PATH]", help="a root, or a directory or file in one")
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=_seconds, help="end when nothing changes for so long (never)"
    )


def watch(context: Context, args: argparse.Namespace) -> None:
    """Show changes as they happen, one a line, until interrupted.

    A line has the time, what happened (created, modified, deleted), the path and the size in bytes, separated by
    tabs; with --json it is a JSON document. "reset" is a gap: what happened before it is not known, so look afresh.
    """
    with context.client.watch(args.path, args.timeout) as changes:
        for change in changes:
            if args.json:
                context.output.data(asdict(change))
            else:
                when = datetime.fromtimestamp(change.time, UTC).isoformat(timespec="milliseconds")
                path = f"{change.root}/{change.path}" if change.path else change.root
                cells = (when.replace("+00:00", "Z"), change.type, path, str(change.nbytes))
                context.output.lines(["\t".join(cells)])
            context.output.flush()


def _seconds(text: str) -> float:
    """Seconds, as argparse wants them."""
    seconds = float(text)
    if not 0 <= seconds <= threading.TIMEOUT_MAX:
        raise ValueError
    return seconds


def add_verify(subparsers: Subparsers, common: argparse.ArgumentParser) -> None:
    """Describe `cat2cli verify`."""
    parser = _add(subparsers, common, "verify", verify)
    parser.add_argument("path", metavar="PATH", nargs="?", help="a root, directory or file; all roots when left out")


def verify(context: Context, args: argparse.Namespace) -> None:
    """Check what the subscriber keeps of remote files, and fetch again what is damaged.

    In a pipe: path, chunks checked, wrong and fetched again, separated by tabs.
    """
    context.output.check()
    followed = (
        name for name, root in context.client.get_roots().items() if root.get("subscribed") and root.get("http")
    )
    paths = [args.path] if args.path else list(followed)
    found = {path: context.client.verify(path) for path in paths}
    if args.json:
        context.output.data(found)
        return
    columns = ("checked", "wrong", "refetched")
    rows = [(path, *(str(counts.get(column, 0)) for column in columns)) for path, counts in found.items()]
    context.output.table(("path", *columns), rows)


def add_upload(subparsers: Subparsers, common: argparse.ArgumentParser) -> None:
    """Describe `cat2cli upload`."""
    parser = _add(subparsers, common, "upload", upload)
    parser.add_argument("localpath", metavar="LOCAL", help="the file to send, or a directory with all that is in it")
    parser.add_argument("path", metavar="PATH", help="its name there, @public/..., @shared/... or @personal/...")
    parser.add_argument("--new", action="store_true", help="replace nothing: fail if the name exists")
    parser.add_argument("--if-match", metavar="ETAG", help="replace this version only")
    parser.add_argument("--unpack", action="store_true", help="LOCAL is a zip or tar file; PATH is a new folder for it")


def upload(context: Context, args: argparse.Namespace) -> None:
    """Send a file into one of the subscriber's own roots, and print its path there.

    .b2nd and .b2frame are Blosc2 files; a NumPy file (.npy) becomes an array where PATH ends in .b2nd; anything else
    is kept as it is, compressed. PATH with a slash at its end is a folder, which the file goes into.
    """
    path = args.path + Path(args.localpath).name if args.path.endswith("/") else args.path
    if args.unpack and (args.new or args.if_match):
        raise BadRequestError("--new and --if-match do not go with --unpack: its folder must be new anyway")
    if args.unpack:
        _tell(context, args, str(context.client.upload(args.localpath, path, unpack=True)))
        return
    local = Path(args.localpath)
    files = {local: path} if not local.is_dir() else {file: f"{path}/{name}" for file, name in _files_below(local)}
    sent = []
    for file, target in files.items():
        content = _content(str(file), target)
        sent.append(str(context.client.upload(content, target, if_match=args.if_match, create=args.new)))
        if not args.json:
            context.output.lines([sent[-1]])
    if args.json:
        context.output.data(sent if local.is_dir() else sent[0])


def _files_below(directory: Path) -> list[tuple[Path, str]]:
    """The files in a directory and below, with their names there; hidden ones are left out."""
    found = [(file, file.relative_to(directory)) for file in sorted(directory.rglob("*")) if file.is_file()]
    return [(file, name.as_posix()) for file, name in found if not any(part.startswith(".") for part in name.parts)]


def add_quota(subparsers: Subparsers, common: argparse.ArgumentParser) -> None:
    """Describe `cat2cli quota`."""
    _add(subparsers, common, "quota", quota)


def quota(context: Context, args: argparse.Namespace) -> None:
    """Tell how many bytes you, and all users, have written of what you may; a line that is missing has no limit."""
    found = context.client.get_quota()
    if args.json:
        context.output.data(found)
        return
    shown = {name.replace("_", " "): f"{value:,}" for name, value in found.items() if value is not None}
    context.output.pairs(shown or {"limit": "none"})


def add_mkdir(subparsers: Subparsers, common: argparse.ArgumentParser) -> None:
    """Describe `cat2cli mkdir`."""
    parser = _add(subparsers, common, "mkdir", mkdir)
    parser.add_argument("path", metavar="PATH", help="the new folder")


def mkdir(context: Context, args: argparse.Namespace) -> None:
    """Make an empty folder in one of the subscriber's own roots, and print its path."""
    _tell(context, args, str(context.client.make_folder(args.path)))


def add_append(subparsers: Subparsers, common: argparse.ArgumentParser) -> None:
    """Describe `cat2cli append`."""
    parser = _add(subparsers, common, "append", append)
    parser.add_argument("localpath", metavar="LOCAL", help="a .b2nd or .npy file with the rows")
    parser.add_argument("path", metavar="PATH", help="the array (.b2nd) in one of the subscriber's own roots")


def append(context: Context, args: argparse.Namespace) -> None:
    """Append the rows of an array to one in the subscriber's own roots, and print the new shape."""
    shape = context.client.append(args.path, _content(args.localpath, args.path))
    if args.json:
        context.output.data(list(shape))
    else:
        context.output.lines([", ".join(map(str, shape))])


def add_move(subparsers: Subparsers, common: argparse.ArgumentParser) -> None:
    """Describe `cat2cli move`."""
    _add_transfer(_add(subparsers, common, "move", move, "mv"))


def move(context: Context, args: argparse.Namespace) -> None:
    """Give a file or folder of the subscriber's own roots another name, and print it."""
    _tell(context, args, str(context.client.move(args.source, args.target)))


def add_copy(subparsers: Subparsers, common: argparse.ArgumentParser) -> None:
    """Describe `cat2cli copy`."""
    _add_transfer(_add(subparsers, common, "copy", copy, "cp"))


def copy(context: Context, args: argparse.Namespace) -> None:
    """Copy a file or folder of any root into one of the subscriber's own roots, and print its path there."""
    _tell(context, args, str(context.client.copy(args.source, args.target)))


def add_remove(subparsers: Subparsers, common: argparse.ArgumentParser) -> None:
    """Describe `cat2cli remove`."""
    parser = _add(subparsers, common, "remove", remove, "rm")
    parser.add_argument("path", metavar="PATH", help="a file, or a folder with all that is in it")


def remove(context: Context, args: argparse.Namespace) -> None:
    """Remove a file, or a folder with all that is in it, from the subscriber's own roots, and print its path."""
    _tell(context, args, str(context.client.remove(args.path)))


def add_lazyexpr(subparsers: Subparsers, common: argparse.ArgumentParser) -> None:
    """Describe `cat2cli lazyexpr`."""
    parser = _add(subparsers, common, "lazyexpr", lazyexpr)
    parser.add_argument("name", metavar="NAME", help="of the new array; in @personal, or @shared/NAME, @public/NAME")
    parser.add_argument("expression", metavar="EXPRESSION", help="what is computed, in quotes: '(a - mean(a)) / b'")
    parser.add_argument("operands", metavar="OPERAND=PATH", nargs="+", help="what a name stands for: a=foo/ds.b2nd")
    parser.add_argument("--compute", action="store_true", help="compute the values now, and keep them")


def lazyexpr(context: Context, args: argparse.Namespace) -> None:
    """Make an array that is computed from others whenever it is read, and print its path.

    An array of this name is replaced. What expressions can say is told in docs/reference/expressions.md.
    """
    pairs = [text.partition("=") for text in args.operands]
    for text, (name, equals, path) in zip(args.operands, pairs, strict=True):
        if not (name and equals and path):
            raise BadRequestError(f"{text!r} is no operand: write NAME=PATH, such as a=foo/ds.b2nd")
    operands = {name.strip(): path.strip() for name, _, path in pairs}
    _tell(context, args, str(context.client.lazyexpr(args.name, args.expression, operands, args.compute)))


def add_concatenate(subparsers: Subparsers, common: argparse.ArgumentParser) -> None:
    """Describe `cat2cli concatenate`."""
    _add_join(_add(subparsers, common, "concatenate", concatenate), "an axis that they have; all others are alike")


def concatenate(context: Context, args: argparse.Namespace) -> None:
    """Make an array of others, one after the other along an axis, and print its path.

    An array of this name is replaced.
    """
    _tell(context, args, str(context.client.concatenate(args.sources, args.target, args.axis)))


def add_stack(subparsers: Subparsers, common: argparse.ArgumentParser) -> None:
    """Describe `cat2cli stack`."""
    _add_join(_add(subparsers, common, "stack", stack), "where the new axis is")


def stack(context: Context, args: argparse.Namespace) -> None:
    """Make an array of others of one shape, side by side along a new axis, and print its path.

    An array of this name is replaced.
    """
    _tell(context, args, str(context.client.stack(args.sources, args.target, args.axis)))


def _add_join(parser: argparse.ArgumentParser, axis: str) -> None:
    parser.add_argument("sources", metavar="SOURCE", nargs="+", help="arrays of any root, in their order")
    parser.add_argument("target", metavar="TARGET", help="the new array, such as @personal/all.b2nd")
    parser.add_argument("--axis", metavar="N", type=int, default=0, help=f"{axis} (0)")


def _add_transfer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="a file or folder")
    parser.add_argument("target", metavar="TARGET", help="its new name, or a folder that it goes into")


def _content(localpath: str, path: str) -> Any:
    """What is sent for a local file."""
    if not (localpath.endswith(".npy") and path.endswith(".b2nd")):
        return localpath
    import numpy as np

    try:
        return np.load(localpath, allow_pickle=False)
    except ValueError as error:
        raise BadRequestError(f"{localpath}: is no NumPy file that can be read: {error}") from error


def add_login(subparsers: Subparsers, common: argparse.ArgumentParser) -> None:
    """Describe `cat2cli login`."""
    _add(subparsers, common, "login", login)


def login(context: Context, args: argparse.Namespace) -> None:
    """Log in as --username, and keep that for further commands.

    The login, not the password, is kept for this subscriber in the config directory, readable by you alone, and holds
    for a day. Where --username and --password are given as well, they count.
    """
    context.log_in()
    _tell(context, args, f"logged in at {context.settings.urlbase} as {context.settings.username}")


def add_logout(subparsers: Subparsers, common: argparse.ArgumentParser) -> None:
    """Describe `cat2cli logout`."""
    _add(subparsers, common, "logout", logout)


def logout(context: Context, args: argparse.Namespace) -> None:
    """End the login that `cat2cli login` has kept."""
    context.log_out()
    _tell(context, args, f"logged out at {context.settings.urlbase}")


def add_passwd(subparsers: Subparsers, common: argparse.ArgumentParser) -> None:
    """Describe `cat2cli passwd`."""
    parser = _add(subparsers, common, "passwd", passwd)
    parser.add_argument("link", metavar="LINK", nargs="?", help="the link that a superuser, or a mail, gave you")


def passwd(context: Context, args: argparse.Namespace) -> None:
    """Set another password, with the one that counts now or with a link; all logins and access tokens end.

    The new one is asked for.
    """
    if args.link:
        context.client.reset_password(args.link, context.ask("New password"))
    else:
        context.client.change_password(context.ask("Password that counts now"), context.ask("New password"))
    _tell(context, args, "the password is changed")


def add_resetlink(subparsers: Subparsers, common: argparse.ArgumentParser) -> None:
    """Describe `cat2cli resetlink`."""
    parser = _add(subparsers, common, "resetlink", resetlink)
    parser.add_argument("email", metavar="EMAIL", help="the user's address")


def resetlink(context: Context, args: argparse.Namespace) -> None:
    """Print a link with which a user can set another password, once, within a day; for superusers."""
    _tell(context, args, context.client.make_reset_link(args.email))


def add_token(subparsers: Subparsers, common: argparse.ArgumentParser) -> None:
    """Describe `cat2cli token`."""
    parser = _add(subparsers, common, "token", token)
    parser.add_argument("action", choices=("add", "list", "remove"))
    parser.add_argument("name", metavar="NAME", nargs="?", help="of the token: what it is for")
    parser.add_argument("--days", metavar="N", type=int, default=90, help="for how long it holds; 90, at most 366")


def token(context: Context, args: argparse.Namespace) -> None:
    """Make, list or revoke access tokens, for scripts and notebooks.

    They go into CATERVA2_CLIENT_TOKEN, or caterva2.Client(url, token). A token is printed once, when it is made. It
    reads and writes data as you, and cannot manage accounts.
    """
    client = context.client
    if args.action == "list":
        found = client.list_tokens()
        columns = ("name", "created", "expires", "used")
        rows = [tuple(str(each[key] or "never") for key in columns) for each in found]
        if args.json:
            context.output.data(found)
        else:
            context.output.table(columns, rows)
        return
    if not args.name:
        raise BadRequestError(f"cat2cli token {args.action} needs the token's name")
    if args.action == "add":
        _tell(context, args, client.add_token(args.name, args.days))
        return
    known = {each["name"]: each["id"] for each in client.list_tokens()}
    if args.name not in known:
        raise NotFoundError(f"there is no token {args.name!r}: cat2cli token list shows them")
    client.remove_token(known[args.name])
    _tell(context, args, f"token {args.name} is revoked")


def add_adduser(subparsers: Subparsers, common: argparse.ArgumentParser) -> None:
    """Describe `cat2cli adduser`."""
    parser = _add(subparsers, common, "adduser", adduser)
    parser.add_argument("email", metavar="EMAIL", help="the address that the user logs in with")
    parser.add_argument("--newpassword", metavar="PASSWORD", help="the user's password; one is made when left out")
    parser.add_argument("--superuser", action="store_true", help="let the user manage the others")


def adduser(context: Context, args: argparse.Namespace) -> None:
    """Add a user to the subscriber, as a superuser.

    What was done is printed, with the password if none was given.
    """
    _tell(context, args, context.client.adduser(args.email, args.newpassword, args.superuser))


def add_deluser(subparsers: Subparsers, common: argparse.ArgumentParser) -> None:
    """Describe `cat2cli deluser`."""
    parser = _add(subparsers, common, "deluser", deluser)
    parser.add_argument("email", metavar="EMAIL", help="the user's address")


def deluser(context: Context, args: argparse.Namespace) -> None:
    """Remove a user of the subscriber, and end its sessions, as a superuser."""
    _tell(context, args, context.client.deluser(args.email))


def _tell(context: Context, args: argparse.Namespace, text: str) -> None:
    if args.json:
        context.output.data(text)
    else:
        context.output.lines([text])


def add_listusers(subparsers: Subparsers, common: argparse.ArgumentParser) -> None:
    """Describe `cat2cli listusers`."""
    parser = _add(subparsers, common, "listusers", listusers)
    parser.add_argument("email", metavar="EMAIL", nargs="?", help="one user's address; all users when left out")


def listusers(context: Context, args: argparse.Namespace) -> None:
    """List the users of the subscriber, as a superuser.

    In a pipe: address, ID, superuser and active (yes or no), separated by tabs.
    """
    context.output.check()
    found = context.client.listusers(args.email)
    if args.json:
        context.output.data(found)
        return
    rows = [
        (
            str(user.get("email", "-")),
            str(user.get("id", "-")),
            "yes" if user.get("is_superuser") else "no",
            "yes" if user.get("is_active") else "no",
        )
        for user in found
    ]
    context.output.table(("email", "id", "superuser", "active"), rows)


def add_status(subparsers: Subparsers, common: argparse.ArgumentParser) -> None:
    """Describe `cat2cli status`."""
    _add(subparsers, common, "status", status)


def status(context: Context, args: argparse.Namespace) -> None:
    """Show how the subscriber is: roots and publishers, events, cache; for superusers.

    Of a subscriber without users, whoever is on its machine may ask. In a pipe: lines with "root", its name, publisher,
    status, freshness, age, number of files, seconds since it was heard of, changes; then lines with the name of a
    figure and the figure; separated by tabs, "-" is none.
    """
    from caterva2.cli.statusview import show_status

    context.output.check()
    report = context.client.status()
    if args.json:
        context.output.data(report)
    else:
        show_status(context.output, report)


def add_bus(subparsers: Subparsers, common: argparse.ArgumentParser) -> None:
    """Describe `cat2cli bus`."""
    parser = _add(subparsers, common, "bus", bus)
    parser.add_argument("--broker", metavar="URL", help="the broker's address (CATERVA2_CLIENT_BROKER)")
    parser.add_argument(
        "--release", metavar="ROOT", help="let this root belong to nobody, so that another user gets it"
    )


def bus(context: Context, args: argparse.Namespace) -> None:
    """Show the clients of the message bus, and whom the roots belong to; for operators.

    It asks the broker (cat2bro) as the admin of --username, or on the broker's own machine without one. In a pipe:
    lines with "client", its ID, user, role, address, when it came, subscriptions, messages a second published and
    sent, messages published and sent so far, and bytes that wait for it; then lines with "root", its name, owner,
    status and address; separated by tabs, "-" is none.
    """
    from caterva2.cli.busview import show_report

    context.output.check()
    if args.release is not None:
        context.broker.release(args.release)
        if args.json:
            context.output.data({"name": args.release, "owner": None})
        else:
            context.output.lines([f"root {args.release} belongs to nobody now: the next user who announces it gets it"])
        return
    report = context.broker.report()
    if args.json:
        context.output.data(report)
    else:
        show_report(context.output, report)


COMMANDS = (
    add_roots,
    add_subscribe,
    add_list,
    add_info,
    add_show,
    add_url,
    add_download,
    add_watch,
    add_upload,
    add_mkdir,
    add_quota,
    add_append,
    add_move,
    add_copy,
    add_remove,
    add_lazyexpr,
    add_concatenate,
    add_stack,
    add_verify,
    add_login,
    add_logout,
    add_passwd,
    add_resetlink,
    add_token,
    add_adduser,
    add_deluser,
    add_listusers,
    add_status,
    add_bus,
)
"""What describes the commands, in the order of the help."""
