"""Publishes an alert by a signed webhook, with nothing but the standard library.

    WEBHOOK_URL=https://…/webhook WEBHOOK_SECRET=whsec_… python3 publish.py PL v1 "A title"
"""

import base64
import hashlib
import hmac
import http.client
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


class NotPublished(Exception):
    """The service refused an alert, or did not answer. `may_pass` says whether it may take the same alert later."""

    def __init__(self, reason, may_pass):
        super().__init__(reason)
        self.may_pass = may_pass


def signed(body, message_id, secret):
    """The headers of a request, as https://www.standardwebhooks.com says."""
    at = int(time.time())
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = hmac.new(key, f"{message_id}.{at}.{body}".encode(), hashlib.sha256).digest()
    signature = f"v1,{base64.b64encode(mac).decode()}"
    return {"webhook-id": message_id, "webhook-timestamp": str(at), "webhook-signature": signature}


def publish(alert, message_id=None):
    """Publishes an alert and returns the answer. With the same id it is published once, however often this runs."""
    url, secret = os.environ["WEBHOOK_URL"], os.environ["WEBHOOK_SECRET"]
    body = json.dumps(alert)
    # The same for all attempts: it is published once, whatever gets lost.
    message_id = message_id or f"msg_{uuid.uuid4().hex}"
    for left in reversed(range(ATTEMPTS)):
        request = urllib.request.Request(url, body.encode(), signed(body, message_id, secret))
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_MAX) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            may_pass = error.code == 429 or error.code >= 500
            failure = NotPublished(f"not published ({error.code}): {error.read().decode()}", may_pass)
        # An answer that breaks off or is no JSON leaves open whether the alert was published.
        except (OSError, http.client.HTTPException, ValueError) as error:
            failure = NotPublished(f"no answer from {url}: {error}", True)
        if left == 0 or not failure.may_pass:
            raise failure
        time.sleep(PAUSE)


def main():
    if len(sys.argv) != 4 or not {"WEBHOOK_URL", "WEBHOOK_SECRET"} <= os.environ.keys():
        sys.exit(__doc__)
    _, region, video, title = sys.argv
    try:
        answer = publish({"region": region, "video": {"id": video, "title": title, "thumbnail": "", "score": 97}})
    except NotPublished as failure:
        sys.exit(str(failure))
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
