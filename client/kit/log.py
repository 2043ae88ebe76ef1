"""The logs of regions, as docs/protocol.md says that they are read: by positions, and by cursors over HTTP."""

import json
import re

# Bounds of the protocol: an answer to a subscription, a page over HTTP, positions in a message, the longest cursor.
ANSWER_BYTES_MAX = 32 * 1024
PAGE_BYTES_MAX = 64 * 1024
ALERTS_MAX = 100
REGIONS_MAX = 25
POSITIONS_MAX = 300
CURSOR_MAX = 4_096

ALL = "ALL"
BEGINNING = {"epoch": 0, "seq": 0}
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


class Log:
    """The log of a region. `entries` are alerts, and removals in the places of those that were taken back."""

    def __init__(self, epoch):
        self.epoch = epoch
        self.entries = []
        # Alerts up to this number have expired.
        self.forgotten = 0

    def head(self):
        return {"epoch": self.epoch, "seq": len(self.entries)}

    def after(self, position):
        """What follows a position, or None if this log cannot tell."""
        if position["epoch"] not in (0, self.epoch) or position["seq"] < self.forgotten:
            return None
        return self.entries[position["seq"] :]


class Logs:
    """The logs of all regions."""

    def __init__(self):
        self.epoch = 1_795_000_000_000
        self.by_region = {}
        # Every alert that was ever published, by region, epoch and number: a new log does not take it away.
        self.published = {}

    def publish(self, region, video, fields):
        """Appends an alert with these fields beside the usual ones, and returns it."""
        log = self.by_region.setdefault(region, Log(self.epoch))
        seq = len(log.entries) + 1
        usual = {"id": f"v{seq}", "title": f"{region} {seq} · Zażółć 🎉", "thumbnail": None, "score": 97}
        alert = {
            "type": "viral_alert",
            "region": region,
            "seq": seq,
            "epoch": log.epoch,
            "id": f"{region}-{log.epoch}-{seq}",
            "dir": "ltr",
            "video": usual | video,
            "timestamp": "2026-11-18T11:06:40.000Z",
        } | fields
        log.entries.append(alert)
        self.published[region, log.epoch, seq] = alert
        return alert

    def remove(self, region, seq):
        """Takes an alert back, and returns the frame that says so."""
        entries = self.by_region[region].entries
        kept = {name: entries[seq - 1][name] for name in ("region", "seq", "epoch", "id")}
        entries[seq - 1] = {"type": "alert_removed", **kept}
        return entries[seq - 1]

    def reset(self, region):
        """Ends the log of a region. The next alert begins another."""
        del self.by_region[region]
        self.epoch += 1_000

    def head(self, region):
        return self.by_region[region].head() if region in self.by_region else dict(BEGINNING)

    def after(self, region, position):
        if region not in self.by_region:
            return None if position["epoch"] else []
        return self.by_region[region].after(position)

    def meant(self, regions, since):
        """The regions that a message or request is about, by name: under `ALL` those with a log and those named."""
        if ALL not in regions:
            return list(dict.fromkeys(regions))
        return sorted({*since, *self.by_region} - {ALL})[:POSITIONS_MAX]

    def answer(self, regions, since, alerts_max):
        """The part of `subscribed` that says where logs end, and what follows `since` as far as it fits."""
        names = self.meant(regions, since or {})
        answer = {"positions": {name: self.head(name) for name in names}}
        if since is None:
            return answer
        missed = {}
        for name in names:
            position = since.get(name, BEGINNING if ALL in regions else None)
            if position is not None:
                missed[name] = self.after(name, position)
        recovered, known = {}, [name for name in missed if missed[name] is not None]
        for name in sorted(known, key=lambda name: len(missed[name])):
            more = [*sum(recovered.values(), []), *missed[name]]
            size = len(json.dumps(more, ensure_ascii=False).encode())
            regions_sent = {entry["region"] for entry in more}
            if len(more) <= alerts_max and size <= ANSWER_BYTES_MAX - 1_024 and len(regions_sent) <= REGIONS_MAX:
                recovered[name] = missed[name]
        not_recovered = [name for name in missed if name not in recovered]
        sent = [entry for name in missed if name in recovered for entry in missed[name]]
        answer |= parts(sent) | {"recovered": not not_recovered}
        return answer | ({"not_recovered": not_recovered} if not_recovered else {})

    def behind(self, regions, since):
        """Regions whose log does not end at the client's position."""
        found = []
        for name in self.meant(regions, since):
            position = since.get(name, BEGINNING if ALL in regions else None)
            if position is not None and position != self.head(name):
                found.append(name)
        return found

    def page(self, regions, after, limit):
        """A page of `GET /alerts`. `after` are positions, or None for the newest alerts."""
        names = self.meant(regions, after or {})
        page = {"positions": {name: self.head(name) for name in names}, "more": False}
        sent, size, not_recovered = [], 0, []
        for name in names:
            entries = self.by_region[name].entries if name in self.by_region else []
            if after is None:
                share = -(-limit // len(names))
                sent += entries[-share:]
                continue
            position = after.get(name, BEGINNING if ALL in regions else self.head(name))
            missed = self.after(name, position)
            if missed is None:
                not_recovered.append(name)
                continue
            taken = 0
            for entry in missed:
                size += len(json.dumps(entry, ensure_ascii=False).encode())
                if len(sent) == limit or size > PAGE_BYTES_MAX:
                    page["more"] = True
                    page["positions"][name] = {"epoch": self.head(name)["epoch"], "seq": position["seq"] + taken}
                    break
                sent.append(entry)
                taken += 1
        page |= parts(sent) | {"recovered": not not_recovered, "after": cursor(page["positions"])}
        return page | ({"not_recovered": not_recovered} if not_recovered else {})


def parts(entries):
    """Separates alerts from removals."""
    alerts = [entry for entry in entries if entry["type"] == "viral_alert"]
    removed = [entry for entry in entries if entry["type"] == "alert_removed"]
    return {"alerts": alerts} | ({"removed": removed} if removed else {})


def base36(number):
    text = ""
    while number or not text:
        number, digit = divmod(number, 36)
        text = DIGITS[digit] + text
    return text


def cursor(positions):
    parts = [f"{name}.{base36(at['epoch'])}.{base36(at['seq'])}" for name, at in sorted(positions.items())]
    return "_".join(parts) or "_"


def positions_of(text):
    """The positions of a cursor. Raises ValueError for what is no cursor."""
    found = {}
    for part in filter(None, text.split("_")):
        if not re.fullmatch(r"[A-Z][A-Z0-9-]{1,15}\.[0-9a-z]+\.[0-9a-z]+(\..*)?", part):
            raise ValueError(f"invalid cursor {text!r}")
        name, epoch, seq = part.split(".")[:3]
        found[name] = {"epoch": int(epoch, 36), "seq": int(seq, 36)}
    if len(text) > CURSOR_MAX or len(found) > POSITIONS_MAX:
        raise ValueError("cursor of more than 300 regions or 4,096 bytes")
    return found
