"""The fixture `apigw_local` comes with the package apigw-local: it runs template.yaml, and resets it for each test."""

import json
import os

import boto3
import pytest
from websockets.sync.client import connect

# Bound of every wait, in seconds.
WAIT_MAX = 20


@pytest.fixture
def connections(apigw_local):
    return boto3.resource("dynamodb").Table(os.environ["CONNECTIONS_TABLE"])


def test_a_message_reaches_everyone_who_is_connected(apigw_local, connections):
    with connect(apigw_local.ws_url) as ada, connect(apigw_local.ws_url) as ben:
        ada.send(json.dumps({"action": "send", "text": "hello"}))
        assert [ada.recv(WAIT_MAX), ben.recv(WAIT_MAX)] == ["hello", "hello"]
        assert connections.scan()["Count"] == 2


def test_nobody_of_the_test_before_is_there_any_more(apigw_local, connections):
    assert connections.scan()["Count"] == 0
    with connect(apigw_local.ws_url):
        assert connections.scan()["Count"] == 1
