"""The scorer: posts viral videos to the webhook of the alert server.  publisher.py http://host:8766 < videos.jsonl"""

import base64
import hashlib
import hmac
import json
import os
import sys
import time
import urllib.request
import uuid

WEBHOOK_URL = sys.argv[1]
THRESHOLD = 85.0
TIMEOUT_SECONDS = 3


def notify(region, video):
    body = json.dumps({"region": region, "video": video}).encode()
    request = urllib.request.Request(WEBHOOK_URL, data=body, headers={"Content-Type": "application/json"})
    # Changed: in an account who publishes is asked for a signature.
    if secret := os.environ.get("WEBHOOK_SECRET"):
        sign(request, secret)
    try:
        urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS).close()
    except OSError as error:
        print(f"webhook failed: {error}")


# Changed: this function is new. https://www.standardwebhooks.com
def sign(request, secret):
    message_id, now = str(uuid.uuid4()), str(int(time.time()))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signature = hmac.digest(key, f"{message_id}.{now}.".encode() + request.data, hashlib.sha256)
    request.add_header("webhook-id", message_id)
    request.add_header("webhook-timestamp", now)
    request.add_header("webhook-signature", "v1," + base64.b64encode(signature).decode())


for line in sys.stdin:
    scored = json.loads(line)
    if scored["video"]["score"] >= THRESHOLD:
        notify(scored["region"], scored["video"])
