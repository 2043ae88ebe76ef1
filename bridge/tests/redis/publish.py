"""Publishes what it is told on standard input, one JSON document a line, as a publisher in Python does.

{"channel": …, "message": …} is published, {"stream": …, "message": …} is added. The argument is the socket of Redis.
"""

import json
import sys

import redis

client = redis.Redis(unix_socket_path=sys.argv[1])
for line in sys.stdin:
    order = json.loads(line)
    message = order["message"]
    # A text is sent as it is: not every publisher sends JSON.
    text = message if isinstance(message, str) else json.dumps(message, ensure_ascii=order.get("ascii", False))
    if "stream" in order:
        client.xadd(order["stream"], {order.get("field", "data"): text})
    elif client.publish(order["channel"], text) == 0:
        sys.exit(f"nobody subscribes to {order['channel']}")
