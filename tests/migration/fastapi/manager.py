"""The application's Redis manager, as far as it publishes.  manager.py notifications TEXT"""

import json
import os
import sys
import uuid

import redis


class RedisManager:
    def __init__(self, url):
        self.redis = redis.from_url(url)

    def publish(self, channel, message):
        self.redis.publish(channel, json.dumps(message))


channel, text = sys.argv[1:3]
manager = RedisManager(os.environ.get("REDIS_URL", "redis://localhost:6379"))
# Changed: was `{"type": "alert", "text": text}`.
video = {"video_id": str(uuid.uuid4()), "title": text, "thumbnail": ""}
manager.publish(channel, {"event": "new_trending", "region": "EU", **video})
