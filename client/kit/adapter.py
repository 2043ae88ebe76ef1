"""The adapter of the client in Python."""

import asyncio
import dataclasses
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "python"))

from viral_alerts import Alert, Event, Failure, Gap, Removed, Subscribed, ViralAlerts, ViralAlertsError  # noqa: E402


def line_of(event: Event | ViralAlertsError) -> dict[str, object]:
    match event:
        case Alert():
            return {"alert": event.frame}
        case Removed():
            return {"removed": dataclasses.asdict(event)}
        case Gap():
            return {"gap": {"region": event.region, "from": event.first, "to": event.last}}
        case Subscribed():
            return {"ready": event.region}
        case Failure() | ViralAlertsError():
            return {"error": {"code": event.code}}


def tell(line: dict[str, object]) -> None:
    print(json.dumps(line), flush=True)


async def main() -> None:
    settings = json.loads(sys.argv[-1])
    token = settings.get("token", "")
    client = ViralAlerts(
        settings["url"],
        settings["regions"],
        http_url=settings.get("httpUrl"),
        token=lambda: token,
        positions=settings.get("state"),
        **({"keepalive": settings["keepaliveMs"] / 1_000} if "keepaliveMs" in settings else {}),
        **({"reconnect_within": settings["reconnectWithinMs"] / 1_000} if "reconnectWithinMs" in settings else {}),
    )

    async def listen() -> None:
        try:
            async for event in client:
                tell(line_of(event))
        except ViralAlertsError as error:
            tell(line_of(error))

    listening = asyncio.create_task(listen())
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async for line in lines:
        command = json.loads(line)
        for region in command.get("watch", []):
            client.watch(region)
        for region in command.get("unwatch", []):
            client.unwatch(region)
        token = command.get("token", token)
    await client.close()
    await listening
    tell({"stopped": client.positions})


asyncio.run(main())
