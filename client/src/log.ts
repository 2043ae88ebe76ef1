// The client's view of each region's log: puts alerts in order, drops repeats, and finds what is missing. Does no I/O.

import { EARLY_MAX, HEAL_TRIES_MAX } from "./limits.js";
import type { Answer, Logged, News, Positions } from "./news.js";
import type { Position } from "./types.js";

/** Stands for every region. As a key of positions it means: follow new regions from their beginning. */
export const ALL = "ALL";
/** Whether `regions` contain the region or `ALL`. */
export const covers = (regions: string[], region: string): boolean => regions.includes(region) || regions.includes(ALL);
/** The position before any log. */
export const BEGINNING: Readonly<Position> = { epoch: 0, seq: 0 };

interface Entry {
  region: string;
  /** Position of the last emitted alert. Undefined before the first acknowledgement. */
  at?: Position;
  /** Highest sequence number known to exist in this epoch. */
  head: number;
  /** Highest sequence number emitted in this epoch. It is above `at` after a step back. */
  top: number;
  /** Recoveries without progress. */
  tries: number;
  /** Alerts that came too early, by sequence number. */
  early: Map<number, Logged>;
}

export type Log = ReturnType<typeof createLog>;

/**
 * Creates the log. It calls `behind` with a region that misses alerts and the number of recoveries without progress,
 * and `started` when an answer has set where regions begin, before their first alert.
 */
export function createLog(
  emit: (news: News) => void,
  behind: (region: string, tries: number) => void,
  started: () => void,
) {
  const entries = new Map<string, Entry>();

  const entryOf = (region: string): Entry => {
    let entry = entries.get(region);
    if (!entry) entries.set(region, (entry = { region, head: 0, top: 0, tries: 0, early: new Map() }));
    return entry;
  };

  /** Whether the region has a position to follow it from. */
  const has = (region: string): boolean => !!entries.get(region)?.at;

  /** Whether alerts of the region are missing. */
  const isBehind = (region: string): boolean => {
    const entry = entries.get(region);
    return !!entry?.at && entry.head > entry.at.seq;
  };

  /** Follows the region from its beginning, unless it has a position. */
  const begin = (region: string): void => {
    entryOf(region).at ??= { ...BEGINNING };
  };

  const move = (entry: Entry, to: Position): void => {
    if (entry.at?.epoch !== to.epoch) entry.head = entry.top = 0;
    entry.at = { ...to };
    const held = [...entry.early.values()];
    entry.early.clear();
    held.forEach(take);
  };

  /** Moves to a position and reports the alerts before it as lost. */
  const skip = (entry: Entry, epoch: number, seq: number): void => {
    const { region, at: from } = entry;
    const to = { epoch, seq };
    if (from) emit({ lost: { region, from, to } });
    move(entry, to);
  };

  /** Gives up the missing alerts of an entry, and emits those that came early. */
  const lose = (entry: Entry): void => {
    for (let { at } = entry; at && entry.head > at.seq; { at } = entry) {
      const last = entry.top > at.seq ? entry.top : entry.head;
      skip(entry, at.epoch, Math.min(...entry.early.keys(), last + 1) - 1);
    }
  };

  const take = (alert: Logged): void => {
    const { region, epoch, seq, everyone } = alert;
    // An alert of a region that is not followed has no order to keep.
    if (!seq || !epoch || (everyone && !has(region) && !has(ALL))) return emit({ alert });
    const entry = entryOf(region);
    if (has(ALL)) begin(region);
    if (entry.at && entry.at.epoch < epoch) skip(entry, epoch, 0);
    const { at, early } = entry;
    const isPast = at && (at.epoch > epoch || at.seq >= seq);
    const isRemoved = alert.type === "alert_removed";
    // The alert was emitted before, or reached everyone.
    if (isRemoved && (isPast || !at)) emit({ alert });
    if (isPast) return;
    // Before the first acknowledgement, alerts of several logs may come. Only those of the latest are held.
    for (const [key, held] of early) {
      if (held.epoch! > epoch) return;
      if (held.epoch! < epoch) early.delete(key);
    }
    if (early.has(seq) ? isRemoved : early.size < EARLY_MAX || seq - 1 === at?.seq) early.set(seq, alert);
    if (!at) return;
    entry.head = Math.max(entry.head, seq);
    // A listener may change what is followed, so the position is read anew each time.
    for (let next; (next = entry.early.get(entry.at!.seq + 1));) {
      const now = ++entry.at!.seq;
      entry.early.delete(now);
      entry.top = Math.max(entry.top, now);
      entry.tries = 0;
      emit({ alert: next });
    }
  };

  /** Reports whether alerts of the region are missing. */
  const look = (region: string): void => {
    if (isBehind(region)) behind(region, entryOf(region).tries);
  };

  return {
    has,
    isBehind,
    begin,

    /** Gives up the missing alerts of the region. */
    giveUp: (region: string): void => lose(entryOf(region)),

    /** Takes an alert, in any order and any number of times. A removal takes the place of its alert. */
    accept(alert: Logged): void {
      take(alert);
      look(alert.region);
    },


    /** Returns the known positions of `regions`; of every region for `ALL`. */
    positions(regions: string[]): Positions {
      const found: Positions = {};
      for (const [region, { at }] of entries) {
        if (at && region !== ALL && covers(regions, region)) found[region] = { ...at };
      }
      return found;
    },

    /** Forgets all regions except `wanted`. */
    keep(wanted: string[]): void {
      for (const region of entries.keys()) {
        if (!covers(wanted, region)) entries.delete(region);
      }
    },

    /** Follows the region from `to` or earlier. Returns whether that is a step back. */
    rewind(region: string, to: Position): boolean {
      const entry = entryOf(region);
      const { at } = entry;
      if (at && (region === ALL || (at.epoch === to.epoch && at.seq <= to.seq))) return false;
      move(entry, to);
      return !!at;
    },

    /**
     * Takes the answer to a request for `asked`. Returns the regions that it did not recover. Without an `elsewhere` to
     * recover them from, their missing alerts are given up.
     */
    apply(
      { positions, alerts = [], removed = [], not_recovered = [] }: Answer,
      asked: string[],
      elsewhere: boolean,
    ): string[] {
      const heads = Object.entries(positions);
      // Under ALL, an unknown region is a new one.
      const all = has(ALL);
      // At its first acknowledgement a region starts at its head: earlier alerts are not for this client.
      for (const [region, head] of heads) entryOf(region).at ??= { ...(all ? BEGINNING : head) };
      if (asked.includes(ALL)) {
        begin(ALL);
        for (const region of entries.keys()) begin(region);
      }
      started();
      for (const entry of entries.values()) if (entry.at) move(entry, entry.at);
      [...removed, ...alerts].forEach(take);
      const open: string[] = [];
      for (const [region, { epoch, seq }] of heads) {
        const entry = entryOf(region);
        let refused = not_recovered.includes(region);
        if (entry.at && entry.at.epoch !== epoch && (refused || entry.at.epoch < epoch)) {
          skip(entry, epoch, 0);
          // The new log is followed from its beginning, so its alerts are recovered, not lost.
          refused &&= elsewhere;
        }
        if (entry.at?.epoch !== epoch) continue;
        entry.head = Math.max(entry.head, seq);
        if (!isBehind(region)) continue;
        if (refused || asked.includes(region)) entry.tries++;
        if ((refused && !elsewhere) || entry.tries >= HEAL_TRIES_MAX) lose(entry);
        else if (refused) open.push(region);
      }
      // Only now is it known how often each was asked for.
      for (const region of entries.keys()) if (!open.includes(region)) look(region);
      return open;
    },
  };
}
