"""Publishes an alert by a signed webhook, with nothing but the standard library.

    WEBHOOK_URL=https://…/webhook WEBHOOK_SECRET=whsec_… python3 publish.py PL v1 "A title"
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid

ATTEMPTS = 3
# Seconds that an attempt may take, and between two.
ANSWER_MAX = 10
PAUSE = 1


def signed(body, message_id, secret):
    """The headers of a request, as https://www.standardwebhooks.com says."""
    at = int(time.time())
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = hmac.new(key, f"{message_id}.{at}.{body}".encode(), hashlib.sha256).digest()
    signature = f"v1,{base64.b64encode(mac).decode()}"
    return {"webhook-id": message_id, "webhook-timestamp": str(at), "webhook-signature": signature}


def publish(url, secret, alert):
    """Returns the answer, once there is one that a further attempt would not change."""
    body = json.dumps(alert)
    # The same for all attempts: it is published once, whatever gets lost.
    message_id = f"msg_{uuid.uuid4().hex}"
    for left in reversed(range(ATTEMPTS)):
        request = urllib.request.Request(url, body.encode(), signed(body, message_id, secret))
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_MAX) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            if left == 0 or (error.code != 429 and error.code < 500):
                sys.exit(f"not published ({error.code}): {error.read().decode()}")
        except OSError as error:
            if left == 0:
                sys.exit(f"no answer from {url}: {error}")
        time.sleep(PAUSE)


region, video, title = sys.argv[1:]
answer = publish(
    os.environ["WEBHOOK_URL"],
    os.environ["WEBHOOK_SECRET"],
    {"region": region, "video": {"id": video, "title": title, "thumbnail": "", "score": 97}},
)
print(json.dumps(answer))
