import inspect

import pytest

from bus import errors
from bus.errors import BusError, BusUnavailableError, BusUrlError, DecodeError, TopicError


def _all_errors() -> list[type[BusError]]:
    return [each for _, each in inspect.getmembers(errors, inspect.isclass)]


@pytest.mark.parametrize("error", _all_errors())
def test_every_error_is_in_the_tree_of_the_docstring(error: type[BusError]) -> None:
    """Who reads the docstring of the module knows all errors."""
    assert issubclass(error, BusError)
    assert error.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize(
    ("error", "data"),
    [
        (BusUrlError("x", "y"), {"url": "x", "remedy": "y"}),
        (TopicError("x", "y"), {"text": "x", "reason": "y"}),
        (DecodeError("x", "y"), {"topic": "x", "reason": "y"}),
        (BusUnavailableError("x", "y"), {"reason": "x", "url": "y", "cause": None}),
    ],
)
def test_errors_carry_their_data_as_attributes(error: BusError, data: dict[str, str | None]) -> None:
    """Nobody has to take a message apart."""
    assert data == vars(error)
    assert all(value in str(error) for value in data.values() if value is not None)


def test_an_unavailable_bus_need_not_have_an_address() -> None:
    """Without an address the message says only the reason."""
    assert "bus unavailable: not connected" == str(BusUnavailableError("not connected"))
