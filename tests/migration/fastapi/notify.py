"""The application's background task that notifies users over HTTP.  notify.py http://host:8000/notify TEXT"""

import sys
import uuid

import httpx


def notify(url, text):
    # Changed: was `json={"type": "alert", "text": text}`.
    alert = {"event": "new_trending", "region": "EU", "video_id": str(uuid.uuid4()), "title": text, "thumbnail": ""}
    response = httpx.post(url, json=alert, timeout=3)
    response.raise_for_status()


notify(*sys.argv[1:3])
