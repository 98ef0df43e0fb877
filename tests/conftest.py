"""Set-up of every test: Hypothesis profiles and a clean environment."""

import os
import signal
import threading

import pytest
from hypothesis import HealthCheck, settings

# A shared machine has slow moments; they say nothing of the code, so no profile has a deadline.
settings.register_profile("ci", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))

# Options of the test run itself; docs/howto/develop.md tells what they do.
_FOR_TESTS = frozenset({"CATERVA2_TEST_BIN", "CATERVA2_TEST_BUS", "CATERVA2_UPSTREAM_PYTHON"})

# Where single tests take half a minute and more.
_LONG = ("tests/fuzz/", "tests/coherence/", "tests/acceptance/", "tests/integration/chain/")


def pytest_configure(config: pytest.Config) -> None:
    """Allow daemons that run beside a property test to use `random`: Hypothesis takes it for the test's own use."""
    config.addinivalue_line("filterwarnings", "ignore:Do not use the `random` module inside strategies")
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell starts what runs in its background so, and the programs under test would be deaf to Ctrl-C.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, or the other workers would wait for it at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith(_LONG))


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the settings of whoever runs the tests out of them."""
    for name in [name for name in os.environ if name.startswith("CATERVA2_") and name not in _FOR_TESTS]:
        monkeypatch.delenv(name)
