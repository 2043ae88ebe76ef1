"""The gateway of faults with an Event API beside it: AppSync Events, as docs/protocol.md says that clients use it."""

import base64
import json

from gateway import Gateway, error, respond
from websockets.exceptions import ConnectionClosed

PROTOCOL = "aws-appsync-event-ws"
PATH = "/event/realtime"
# AppSync refuses an empty token.
ANONYMOUS = "anonymous"
# What AppSync answers to the subscription of a region that a case forbids, by the code that the service has for it.
ERRORS = {"forbidden": "UnauthorizedException", "limit_reached": "MaxSubscriptionsReachedError"}


class EventGateway(Gateway):
    """Tells each client to use the Event API. Clients that cannot reach it find the WebSocket API."""

    def _choose(self, _, offered):
        return PROTOCOL if PROTOCOL in offered else super()._choose(_, offered)

    def _refuses(self, address, token):
        # AppSync accepts each handshake, and says afterwards what is wrong with it.
        return address.path != PATH and super()._refuses(address, token)

    # --- HTTP ---------------------------------------------------------------------------------------------------------

    async def _history(self, query, headers):
        if not self.opened:
            # The request that asks whether there is an Event API. What goes wrong is for those that read the log.
            history, self.history = self.history, []
            response = await super()._history(query, headers)
            self.history = history
            return response
        return await super()._history(query, headers)

    async def _page(self, regions, after, limit):
        if refused := next((self.forbidden[region] for region in regions if region in self.forbidden), None):
            if refused == "forbidden":
                return respond(403, {"error": error(refused, "region")})
        if self.opened and after is not None:
            self.opened[-1].messages.append({"regions": regions, "since": after})
        page = self.logs.page(regions, after, limit)
        page["events"] = {"url": f"ws://{self.address}{PATH}", "host": self.address, "share": 100}
        await self._moment("page")
        if any(connection.channels for connection in self.connections):
            # It is what answers a subscription.
            await self._moment("answering")
        return respond(200, page)

    # --- Messages -----------------------------------------------------------------------------------------------------

    async def send(self, connection, frame):
        """Sends a frame of the service, as an event of a channel."""
        if connection.socket.subprotocol != PROTOCOL:
            return await super().send(connection, frame)
        text = frame if isinstance(frame, str) else json.dumps(frame, ensure_ascii=False)
        subscribed = [id for id, region in connection.channels.items() if region in connection.regions]
        if subscribed:
            await self._post(connection, "data", id=subscribed[0], event=text)

    async def _post(self, connection, kind, **fields):
        try:
            await connection.socket.send(json.dumps({"type": kind} | fields, ensure_ascii=False))
        except ConnectionClosed:
            pass

    async def _receive(self, connection, text):
        if connection.socket.subprotocol != PROTOCOL:
            return await super()._receive(connection, text)
        try:
            message = json.loads(text)
            kind = message["type"]
            if kind == "connection_init":
                await self._begin(connection)
            elif kind == "subscribe":
                await self._subscribe(connection, message["id"], message["channel"], message["authorization"])
            elif kind == "unsubscribe":
                await self._unsubscribe(connection, message["id"])
            else:
                raise ValueError
        except (KeyError, TypeError, ValueError):
            self._note(f"sent what AppSync does not know: {text[:80]!r}")
        self.changes.happened()

    async def _begin(self, connection):
        offered = connection.socket.request.headers["Sec-WebSocket-Protocol"].split(",")
        header = next(part.strip().removeprefix("header-") for part in offered if "header-" in part)
        if self._allows(json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))):
            return await self._post(connection, "connection_ack", connectionTimeoutMs=300_000)
        await self._post(connection, "connection_error", errors=[{"errorType": "UnauthorizedException"}])
        await connection.socket.close()

    def _allows(self, authorization):
        token = authorization["Authorization"]
        if authorization["host"] != self.address or not token:
            self._note(f"sent the authorization {authorization}: expected the host {self.address} and a token")
        accepted = self.accepted_tokens
        return accepted is None or (token != ANONYMOUS and token in accepted)

    async def _subscribe(self, connection, id, channel, authorization):
        region = channel.removeprefix("/alerts/").replace("*", "ALL")
        # One more takes the place of another for a moment.
        if list(connection.channels.values()).count(region) > 1:
            self._note(f"subscribed to {channel} three times: AppSync sends and bills each alert for each")
        await self._moment("subscribing")
        answer = self.answers.pop(0) if self.answers else None
        if answer == "nothing":
            return
        refused = "SubscriptionProcessingError" if answer else ERRORS.get(self.forbidden.get(region))
        if not self._allows(authorization):
            refused = "UnauthorizedException"
        if refused:
            return await self._post(connection, "subscribe_error", id=id, errors=[{"errorType": refused}])
        connection.channels[id] = region
        connection.regions.add(region)
        await self._moment("subscribed")
        await self._post(connection, "subscribe_success", id=id)

    async def _unsubscribe(self, connection, id):
        if id not in connection.channels:
            errors = [{"errorType": "UnknownOperationError"}]
            return await self._post(connection, "unsubscribe_error", id=id, errors=errors)
        region = connection.channels.pop(id)
        if region not in connection.channels.values():
            connection.regions.discard(region)
        await self._post(connection, "unsubscribe_success", id=id)
