"""Deletes what the tables of a stack have of one user: python infra/forget.py STACK

The environment variable FORGET_USER has the `sub` of the user's tokens. docs/privacy.md lists what is stored of a
person. In the tables, two keys are made of a `sub`: that of the seats which the user's connections hold, and that of
the rate limit of a user who publishes. A seat leads to a connection and so to everything else; it goes last, so a run
that ends early is finished by the next one.

The stack `local` is the local mode, if the variables are set that its `GET /inspector/env` prints.

Exit codes: 0, nothing is left; 1, something is left or cannot be found; 2, an argument is wrong; 130, Ctrl-C.
"""

import hashlib
import json
import os
import sys
import time
from dataclasses import dataclass

import boto3
from boto3.dynamodb.conditions import Attr, Key
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

# How often the seats are read again: clients with a token come back when their connection is closed.
ROUNDS_MAX = 5
# How long $disconnect may take to remove what a connection leaves, and the pause between two looks, in seconds.
DISCONNECT_SECS_MAX = 20
PAUSE_SECS = 0.1
# How long the mark of a closed connection stays: CLOSED_MARK_TTL in shared/src/limits.rs.
MARK_SECS = 600
# Characters of a `sub` that are printed.
PRINTED_MAX = 60

LOCAL = "local"
# Variables of the local mode, in the order of the fields of Service. AWS clients know the one for @connections.
SUBSCRIPTIONS = "SUBSCRIPTIONS_TABLE"
MANAGEMENT = "AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI"
VARIABLES = [SUBSCRIPTIONS, "ALERTS_TABLE", MANAGEMENT, "AUTHORIZATION", "CONNECTIONS_PER_USER"]


class Invalid(Exception):
    """An argument is wrong. The message says which one and what to do."""


@dataclass(frozen=True)
class Service:
    """Where the tables and connections are, and the parameters that say what the tables have of a user."""

    place: str
    subscriptions: str
    alerts: str
    # Address of @connections.
    management: str
    authorization: str
    connections_per_user: str
    log_days: str
    has_events: bool

    def has_seats(self):
        """Returns whether each connection of a user holds a seat."""
        return self.authorization != "off" and float(self.connections_per_user) != 0


def of_local_mode(environ):
    """Returns the local mode whose variables are set."""
    if missing := [name for name in VARIABLES if name not in environ]:
        raise Invalid(f"{', '.join(missing)} not set: take all variables that `GET /inspector/env` prints")
    return Service("the local mode", *(environ[name] for name in VARIABLES), "", bool(environ.get("EVENTS_URL")))


def of_stack(session, stack, environ):
    """Returns what CloudFormation knows of a stack."""
    cloudformation = session.client("cloudformation")
    (description,) = cloudformation.describe_stacks(StackName=stack)["Stacks"]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in description.get("Outputs", [])}
    if "WebSocketUrl" not in outputs:
        raise Invalid(f"the stack {stack} has no output WebSocketUrl: name a stack of this template in STACK")
    given = {each["ParameterKey"]: each["ParameterValue"] for each in description.get("Parameters", [])}

    def table(name):
        resource = cloudformation.describe_stack_resource(StackName=stack, LogicalResourceId=name)
        return resource["StackResourceDetail"]["PhysicalResourceId"]

    return Service(
        f"the stack {stack} in {session.region_name}",
        table("SubscriptionsTable"),
        table("AlertsTable"),
        environ.get(MANAGEMENT, "https" + outputs["WebSocketUrl"].removeprefix("wss")),
        given["Authorization"],
        given["ConnectionsPerUser"],
        given["LogRetentionDays"],
        given.get("Delivery") == "both",
    )


def half_digest(text):
    """Returns half of the SHA-256 of a text, as `short_digest` in shared/src/model/audience.rs."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def seats_of(sub):
    """Returns the partition of the seats of a user."""
    return f"@user#{half_digest(sub)}"


def rate_limit_of(sub):
    """Returns the partition of the rate limit of a user who publishes over a socket."""
    return f"@publisher#{half_digest(f'user:{sub}')}"


def slot_of(connection):
    """Returns the sort key of a connection in each of its audiences, as `Slot` in shared/src/model/connection.rs."""
    return hashlib.sha256(connection.encode()).hexdigest()[:8] + connection


def state_key(connection):
    return {"audience": f"@connection#{connection}", "slot": "state"}


def noted(connection, state):
    """Returns the keys of the items that the state of a connection notes. A seat is four digits and its partition."""
    audiences = {(audience, slot_of(connection)) for audience in state.get("audiences", ())}
    return audiences | {(seat[4:], f"seat#{seat[:4]}") for seat in state.get("seats", ())}


class User:
    """What a service has of one user, and how it goes."""

    def __init__(self, session, service, sub):
        config = Config(connect_timeout=5, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 5})
        tables = session.resource("dynamodb", config=config)
        self.subscriptions, self.alerts = tables.Table(service.subscriptions), tables.Table(service.alerts)
        management = {"endpoint_url": service.management, "config": config}
        self.management = session.client("apigatewaymanagementapi", **management)
        self.seats_key, self.rate_limit_key = seats_of(sub), {"region": rate_limit_of(sub), "seq": 0}
        # What was found, for the report.
        self.connections, self.late, self.items, self.rate_limits = set(), set(), set(), 0

    def forget(self):
        """Closes the connections and deletes the items, until a look finds nothing. Returns whether one did."""
        for number in range(ROUNDS_MAX):
            seats = self.seats()
            if not seats and not self.has_rate_limit():
                return True
            self.round(seats, is_first=number == 0)
        return not self.seats() and not self.has_rate_limit()

    def round(self, seats, is_first):
        """Closes the connections that hold seats, and deletes what they leave."""
        found = {}
        for connection in sorted({seat["connection_id"] for seat in seats}):
            found[connection] = self.unnamed(connection)
            self.connections.add(connection)
            if not is_first:
                self.late.add(connection)
        for connection in found:
            self.close(connection)
        self.wait(set(found))
        for connection, keys in found.items():
            self.sweep(connection, keys)
        for seat in seats:
            self.leave((seat["audience"], seat["slot"]), seat["connection_id"])
        deleted = self.alerts.delete_item(Key=self.rate_limit_key, ReturnValues="ALL_OLD")
        self.rate_limits += "Attributes" in deleted

    # --- What there is ------------------------------------------------------------------------------------------------

    def seats(self):
        """Returns the items of the user's seats."""
        return self.query(KeyConditionExpression=Key("audience").eq(self.seats_key), ConsistentRead=True)

    def has_rate_limit(self):
        return "Item" in self.alerts.get_item(Key=self.rate_limit_key, ConsistentRead=True)

    def indexed(self, connection):
        """Returns the keys of all items of a connection except its state. An index is read late, but soon."""
        condition = Key("connection_id").eq(connection)
        items = self.query(IndexName="by_connection", KeyConditionExpression=condition)
        return {(item["audience"], item["slot"]) for item in items}

    def state(self, connection):
        """Returns the state of a connection, or nothing."""
        return self.subscriptions.get_item(Key=state_key(connection), ConsistentRead=True).get("Item")

    def query(self, **options):
        items = []
        while True:
            page = self.subscriptions.query(**options)
            items += page["Items"]
            if "LastEvaluatedKey" not in page:
                return items
            options["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    # --- How it goes --------------------------------------------------------------------------------------------------

    def unnamed(self, connection):
        """Takes the seats out of the state of a connection, which keeps them as a mark when the connection has closed.
        Returns the keys of all other items."""
        keys = noted(connection, self.update(connection, "REMOVE seats")) | self.indexed(connection)
        self.items |= keys
        return keys

    def close(self, connection):
        """Closes a connection, after which $disconnect runs."""
        try:
            self.management.delete_connection(ConnectionId=connection)
        except self.management.exceptions.GoneException:
            pass

    def wait(self, connections):
        """Waits until $disconnect has removed what connections leave."""
        end = time.monotonic() + DISCONNECT_SECS_MAX
        while connections := {connection for connection in connections if not self.is_removed(connection)}:
            if time.monotonic() > end:
                return
            time.sleep(PAUSE_SECS)

    def is_removed(self, connection):
        """Returns whether a connection has closed and left nothing but a mark."""
        state = self.state(connection)
        return (state is None or "closed" in state) and not self.indexed(connection)

    def sweep(self, connection, keys):
        """Deletes what $disconnect has left, as it does itself: first the mark, then the items."""
        if self.is_removed(connection):
            # $disconnect finds other seats in the index, which it may have read too soon.
            keys = {(audience, slot) for audience, slot in keys if slot.startswith("seat#")}
        else:
            now = int(time.time())
            unused = "new_trending, first_room, messages_until, changes_until"
            values = {":now": now * 1000, ":expires": now + MARK_SECS}
            old = self.update(connection, f"SET closed = :now, expires_at = :expires REMOVE {unused}", values)
            keys = keys | {("@everyone", slot_of(connection))} | noted(connection, old) | self.indexed(connection)
        # The user's seats go last.
        for key in keys:
            if key[0] != self.seats_key:
                self.leave(key, connection)
        # The mark stays without what the connection was in. It keeps late messages from writing anything.
        self.update(connection, "REMOVE audiences, seats")

    def leave(self, key, connection):
        """Deletes an item of a connection, unless another connection has taken the seat."""
        audience, slot = key
        try:
            self.subscriptions.delete_item(
                Key={"audience": audience, "slot": slot}, ConditionExpression=Attr("connection_id").eq(connection)
            )
        except self.subscriptions.meta.client.exceptions.ConditionalCheckFailedException:
            pass

    def update(self, connection, expression, values=None):
        """Changes the state of a connection. Returns what it was, and nothing where there is none."""
        values = {"ExpressionAttributeValues": values} if values else {}
        try:
            updated = self.subscriptions.update_item(
                Key=state_key(connection),
                UpdateExpression=expression,
                ConditionExpression="attribute_exists(audience)",
                ReturnValues="ALL_OLD",
                **values,
            )
        except self.subscriptions.meta.client.exceptions.ConditionalCheckFailedException:
            return {}
        return updated["Attributes"]


# --- The report -------------------------------------------------------------------------------------------------------


def printed(sub):
    """Returns a `sub` for a terminal, which it can neither fill nor control."""
    text = json.dumps(sub)
    return text if len(text) <= PRINTED_MAX else f"{text[:PRINTED_MAX]}…"


def report(service, user, is_gone):
    """Yields the lines that say what was deleted and what cannot be found."""
    yield f"closed connections: {len(user.connections)}, deleted items of theirs: {len(user.items)}"
    yield f"deleted rate limits of the user as a publisher: {user.rate_limits}"
    if user.late:
        yield f"{len(user.late)} of the connections were opened meanwhile: the user has a token that is still valid"
    if user.connections:
        yield f"left for {MARK_SECS // 60} minutes: a mark for each connection, with its id and nothing of the user"
    yield ""
    yield "Not deleted, because no key leads from the user there (docs/privacy.md):"
    yield "- alerts whose text names a person: for 24 hours; take them back, one at a time"
    yield "- events, alerts and room messages in the two dead-letter queues: for 14 days"
    days = f"for {service.log_days} days" if service.log_days else "in the output of the local mode"
    yield f"- ids of connections, and who took an alert back, in the logs: {days}"
    yield "- connections without a token, or from a time when ConnectionsPerUser was 0: for two hours at most"
    if service.has_events:
        yield "- connections to the Event API, which nobody can close: for 24 hours at most"
    yield "- marks of connections that closed before: for ten minutes, and until DynamoDB removes them"
    yield "- the rate limit of a role or an event source that publishes: for an hour after its last publication"
    yield "- what the user's browser keeps, and copies of the tables that you made"
    yield ""
    if not is_gone:
        yield f"NOT everything is gone after {ROUNDS_MAX} rounds: the user connects or publishes again."
        yield "Stop issuing tokens to this user, wait until the last one has expired, and run this again."
    elif not service.has_seats():
        cause = "ConnectionsPerUser is 0" if service.authorization != "off" else "Authorization is off"
        yield f"NOT known whether everything is gone: {cause}, so no item says which connections are the user's."
        yield "What is stored of them goes when they close, which is after two hours at most."
    else:
        yield "Nothing in the tables names this user. That lasts if you have stopped issuing tokens to the user:"
        yield "a client with a valid token connects again."


def main(arguments, environ=os.environ, session=None):
    try:
        if len(arguments) != 1 or not arguments[0]:
            raise Invalid("expected the name of a stack: python infra/forget.py STACK")
        (stack,), sub = arguments, environ.get("FORGET_USER", "")
        if not sub:
            raise Invalid("no user: make forget USER=SUB, with the `sub` of the user's tokens")
        try:
            sub.encode()
        except UnicodeEncodeError:
            raise Invalid("invalid USER: expected UTF-8, as the `sub` of a token is") from None
        if SUBSCRIPTIONS in environ and stack != LOCAL:
            raise Invalid(f"the variables of a local mode are set: unset {SUBSCRIPTIONS}, or pass STACK={LOCAL}")
        session = session or boto3.Session()
        service = of_local_mode(environ) if SUBSCRIPTIONS in environ else of_stack(session, stack, environ)
        print(f"forgetting the user {printed(sub)} in {service.place}", flush=True)
        user = User(session, service, sub)
        is_gone = user.forget()
    except Invalid as invalid:
        print(f"cannot forget: {invalid}", file=sys.stderr)
        return 2
    except (BotoCoreError, ClientError) as error:
        print(f"stopped: {error}. Run it again: it finishes what has begun", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped. Run it again: it finishes what has begun", file=sys.stderr)
        return 130
    for line in report(service, user, is_gone):
        print(line)
    return 0 if is_gone and service.has_seats() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
