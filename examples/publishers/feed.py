"""Publishes what is new in a feed (RSS, Atom or JSON Feed), with nothing but the standard library. Made for cron:

    WEBHOOK_URL=https://…/webhook WEBHOOK_SECRET=whsec_… python3 feed.py https://example.com/feed.xml PL seen.json

The last file keeps what has been seen. The first run publishes nothing: everything is new then.
"""

import codecs
import hashlib
import json
import os
import pathlib
import signal
import sys
import urllib.request
import xml.etree.ElementTree

from publish import NotPublished, publish

# Bounds of a feed: bytes, and entries from the newest on.
FEED_BYTES_MAX = 5_000_000
ENTRIES_MAX = 1_000
# Seconds that a run may take. What is left is for the next run.
RUN_MAX = 120
# How many entries the file keeps: those of several feeds, as an entry may disappear and come back.
SEEN_MAX = 10 * ENTRIES_MAX
# As long as the service takes a title, in characters.
TITLE_MAX = 300
# Feeds have no scores: above the template's ScoreThreshold, so that every entry is published.
SCORE = 97

MEDIA = "{http://search.yahoo.com/mrss/}"


def read(url):
    # Some servers refuse the name that Python gives itself.
    request = urllib.request.Request(url, headers={"user-agent": "feed.py", "accept-encoding": "identity"})
    with urllib.request.urlopen(request, timeout=RUN_MAX) as response:
        feed = response.read(FEED_BYTES_MAX + 1)
    if len(feed) > FEED_BYTES_MAX:
        raise ValueError(f"over {FEED_BYTES_MAX} bytes")
    return feed


def entries(feed):
    """Returns id, title, address and picture of each entry, the oldest first. What an entry lacks is empty."""
    if feed.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"{"):
        items = json.loads(feed)["items"]
        found = [[str(entry.get(key) or "") for key in ("id", "title", "url", "image")] for entry in items]
    else:
        root = xml.etree.ElementTree.fromstring(feed)
        found = [of_xml(element) for element in root.iter() if element.tag.rpartition("}")[2] in ("item", "entry")]
    # Feeds begin with the newest. An entry without an id has an address.
    newest = found[:ENTRIES_MAX]
    return [(key or url, title, url, picture) for key, title, url, picture in reversed(newest) if key or url]


def of_xml(entry):
    # Names of the feed itself: media:title is another one.
    own = entry.tag[: entry.tag.rindex("}") + 1] if "}" in entry.tag else ""

    def text(name):
        return (entry.findtext(own + name) or "").strip()

    # In Atom a link is an attribute, and there are several.
    links = [link for link in entry.findall(f"{own}link") if link.get("rel", "alternate") == "alternate"]
    picture = entry.find(f".//{MEDIA}thumbnail")
    return (
        text("guid") or text("id"),
        text("title"),
        text("link") or "".join(link.get("href", "") for link in links[:1]),
        "" if picture is None else picture.get("url", ""),
    )


def alert(region, key, title, url, picture):
    video = {"id": key, "title": title[:TITLE_MAX], "thumbnail": picture, "score": SCORE}
    if url.startswith("https://"):
        video["url"] = url
    return {"region": region, "video": video}


def save(file, seen):
    """Replaces the file as a whole: a run that is cut off leaves the one from before."""
    new = file.with_name(f"{file.name}.new")
    new.write_text(json.dumps(list(seen)[-SEEN_MAX:]))
    os.replace(new, file)


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    _, url, region, file = sys.argv
    file = pathlib.Path(file)
    signal.alarm(RUN_MAX)
    try:
        found = entries(read(url))
    except Exception as error:  # Anything may be wrong with what others write.
        sys.exit(f"cannot read {url}: {error}")
    if not file.exists():
        save(file, [key for key, *_ in found])
        print(f"{len(found)} entries were there before: new ones are published from now on")
        return
    # In the order in which they came.
    seen = dict.fromkeys(json.loads(file.read_text()))
    failures = []
    for entry in found:
        key = entry[0]
        if key in seen:
            continue
        # The same in every run, also in one that was cut off before it could save.
        message_id = f"feed_{hashlib.sha256(key.encode()).hexdigest()}"
        try:
            print(json.dumps(publish(alert(region, *entry), message_id)))
        except NotPublished as failure:
            failures.append(f"{key}: {failure}")
            if failure.may_pass:
                break
        seen[key] = None
        save(file, seen)
    sys.exit("\n".join(failures) or None)


if __name__ == "__main__":
    main()
