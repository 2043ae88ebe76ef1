"""The fixture `apigw_local`, which pytest finds by itself once this package is installed."""

import shlex

import pytest

from apigw_local import running, start


def pytest_addoption(parser):
    parser.addini("apigw_local_template", "template that apigw-local runs, from the root directory", default=".")
    parser.addini("apigw_local_args", "further flags of apigw-local, as in a shell", default="")


@pytest.fixture(scope="session")
def apigw_local_session(pytestconfig):
    """The emulator of all tests: the one that `apigw-local exec` has started, or one of its own on free ports."""
    if (emulator := running()) is not None:
        yield emulator
        return
    template = pytestconfig.rootpath / pytestconfig.getini("apigw_local_template")
    with start(template, shlex.split(pytestconfig.getini("apigw_local_args"))) as emulator:
        yield emulator


@pytest.fixture
def apigw_local(apigw_local_session, monkeypatch):
    """The emulator with empty tables and queues and without connections, its variables in `os.environ`."""
    # Before the test and not after it, so that a test finds nothing of others that did not use this fixture.
    apigw_local_session.reset()
    for name, value in apigw_local_session.env.items():
        monkeypatch.setenv(name, value)
    return apigw_local_session
