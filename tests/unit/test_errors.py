"""The tree of errors: one class for each HTTP status, there and back."""

import pickle
import re

import pytest

from caterva2 import errors
from caterva2.errors import BadRequestError, Caterva2Error, error_for_status, reason_of

CLASSES = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Caterva2Error)]


@pytest.mark.parametrize("kind", CLASSES)
def test_status_and_class_are_two_names_of_one_thing(kind: type[Caterva2Error]) -> None:
    """The error made of a class's status is that class, or the one that it refines."""
    assert issubclass(kind, type(error_for_status(kind.status, "x")))


@pytest.mark.parametrize("kind", CLASSES)
def test_text_is_the_detail(kind: type[Caterva2Error]) -> None:
    """An error's text is its detail, nothing added."""
    assert str(kind("one line")) == kind("one line").detail == "one line"


@pytest.mark.parametrize("kind", CLASSES)
def test_errors_can_be_pickled(kind: type[Caterva2Error]) -> None:
    """An error crosses to another process and back (pytest and multiprocessing do so)."""
    error = pickle.loads(pickle.dumps(kind("x")))  # noqa: S301 - made here

    assert (kind, "x") == (type(error), str(error))


def test_the_reason_is_what_the_system_said() -> None:
    """However often a library has wrapped it, the system's own word for a failure is found."""
    refused = ConnectionRefusedError(111, "Connect call failed")
    group = ExceptionGroup("all failed", [refused])
    wrapped = RuntimeError("All connection attempts failed")
    wrapped.__cause__ = group

    assert "Connection refused" == reason_of(wrapped)
    assert "plain" == reason_of(ValueError("plain"))


def test_unknown_statuses() -> None:
    """A status without a class of its own is a bad request below 500, and a failure from there on."""
    assert type(error_for_status(418, "teapot")) is BadRequestError
    assert type(error_for_status(599, "x")) is Caterva2Error


def test_tree_in_the_docstring_is_complete() -> None:
    """Each class stands in the tree of the module's docstring, with its status or below one that has it."""
    shown = set(re.findall(r"\b(\w+Error)\b", errors.__doc__ or ""))

    assert {kind.__name__ for kind in CLASSES} <= shown


@pytest.mark.parametrize("kind", CLASSES)
def test_builtin_bases(kind: type[Caterva2Error]) -> None:
    """A bad request is a ValueError and a missing thing a LookupError, so plain Python code catches them."""
    assert (kind.status == 400) == issubclass(kind, ValueError)
    assert (kind.status == 404) <= issubclass(kind, LookupError)
