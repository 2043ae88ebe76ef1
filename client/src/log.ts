// The client's view of each region's log: puts alerts in order, drops repeats, and finds what is missing. Does no I/O.

import { EARLY_MAX, HEAL_MS, HEAL_TRIES_MAX } from "./limits.js";
import type { Answer, Logged, News, Positions } from "./news.js";
import type { Position } from "./types.js";

/** Stands for every region. As a key of positions it means: follow new regions from their beginning. */
export const ALL = "ALL";
/** Whether `regions` contain the region or `ALL`. */
export const covers = (regions: string[], region: string): boolean => regions.includes(region) || regions.includes(ALL);
/** The position before any log. */
export const BEGINNING: Readonly<Position> = { epoch: 0, seq: 0 };

interface Entry {
  /** Position of the last emitted alert. Undefined before the first acknowledgement. */
  at?: Position;
  /** Highest sequence number known to exist in this epoch. */
  head: number;
  /** Recoveries without progress. */
  tries: number;
  /** Alerts that came too early, by sequence number. */
  early: Map<number, Logged>;
}

export type Log = ReturnType<typeof createLog>;

/**
 * Creates the log. It calls `behind` with a region that misses alerts and how long to wait for them in milliseconds,
 * and `started` when an answer has set where regions begin, before their first alert.
 */
export function createLog(
  emit: (news: News) => void,
  behind: (region: string, waitMs: number) => void,
  started: () => void,
) {
  /** By region. */
  const entries: Record<string, Entry> = Object.create(null);

  const entryOf = (region: string): Entry =>
    (entries[region] ??= { head: 0, tries: 0, early: new Map() });

  /** Whether the region has a position to follow it from. */
  const has = (region: string): boolean => !!entries[region]?.at;

  /** Whether alerts of the region are missing. Without a position they are not: `undefined` compares as false. */
  const isBehind = (region: string): boolean => entries[region]?.head! > entries[region]?.at?.seq!;

  /** Follows the region from a position, unless it has one. Throws if that is not a position. */
  const begin = (region: string, { epoch, seq } = BEGINNING): void => {
    if (!(epoch >= 0 && seq >= 0)) throw TypeError();
    entryOf(region).at ??= { epoch, seq };
  };

  const move = (region: string, to: Position): void => {
    const entry = entryOf(region);
    if (entry.at?.epoch !== to.epoch) entry.head = 0;
    entry.at = { ...to };
    const { early } = entry;
    entry.early = new Map();
    early.forEach(take);
  };

  /** Moves to a position and reports the alerts before it as lost. */
  const skip = (region: string, epoch: number, seq: number): void => {
    const to = { epoch, seq };
    emit({ lost: { region, from: entryOf(region).at!, to } });
    move(region, to);
  };

  /** Gives up the missing alerts of the region, and emits those that came early. */
  const giveUp = (region: string): void => {
    while (isBehind(region)) {
      const { at, head, early } = entryOf(region);
      skip(region, at!.epoch, Math.min(...early.keys(), head + 1) - 1);
    }
  };

  /** Counts a recovery without progress. After some, the missing alerts are given up. */
  const fail = (region: string): void => {
    if (++entryOf(region).tries >= HEAL_TRIES_MAX) giveUp(region);
  };

  const take = (alert: Logged): void => {
    const { region, epoch, seq, everyone } = alert;
    // An alert of a region that is not followed has no order to keep.
    if (!seq || !epoch || (everyone && !has(region) && !has(ALL))) return emit({ alert });
    const entry = entryOf(region);
    if (has(ALL)) begin(region);
    if (entry.at && entry.at.epoch < epoch) skip(region, epoch, 0);
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
      entry.early.delete(++entry.at!.seq);
      entry.tries = 0;
      emit({ alert: next });
    }
  };

  /** Reports whether alerts of the region are missing. */
  const look = (region: string): void => {
    if (isBehind(region)) behind(region, HEAL_MS * 2 ** entryOf(region).tries);
  };

  return {
    has,
    isBehind,
    begin,
    fail,
    giveUp,

    /** Takes an alert, in any order and any number of times. A removal takes the place of its alert. */
    admit(alert: Logged): void {
      take(alert);
      look(alert.region);
    },

    /** Returns the known positions of `regions`; of every region for `ALL`. */
    positions(regions: string[]): Positions {
      const found: Positions = {};
      for (const region in entries) {
        if (has(region) && region !== ALL && covers(regions, region)) found[region] = { ...entries[region]!.at! };
      }
      return found;
    },

    /** Forgets all regions except `wanted`. */
    keep(wanted: string[]): void {
      for (const region in entries) if (!covers(wanted, region)) delete entries[region];
    },

    /** Follows the region from `to` or earlier. Returns whether that is a step back. */
    rewind(region: string, to: Position): boolean {
      const { at } = entryOf(region);
      if (at && (region === ALL || (at.epoch === to.epoch && at.seq <= to.seq))) return false;
      move(region, to);
      return !!at;
    },

    /**
     * Takes the answer to a request for `asked`. Returns the regions that it did not recover. Without an `elsewhere` to
     * recover them from, their missing alerts are given up. Throws if the answer is not as promised.
     */
    apply(
      { positions, alerts = [], removed = [], not_recovered = [] }: Answer,
      asked: string[],
      elsewhere?: boolean,
    ): string[] {
      const heads = Object.entries(positions);
      // Under ALL, an unknown region is a new one.
      // At its first acknowledgement a region starts at its head: earlier alerts are not for this client.
      for (const [region, head] of heads) begin(region, has(ALL) ? BEGINNING : head);
      if (asked.includes(ALL)) for (const region in { ALL, ...entries }) begin(region);
      started();
      for (const region in entries) if (has(region)) move(region, entries[region]!.at!);
      [...removed, ...alerts].forEach(take);
      const open: string[] = [];
      for (const [region, { epoch, seq }] of heads) {
        const entry = entryOf(region);
        let refused: boolean | undefined = not_recovered.includes(region);
        if (entry.at && entry.at.epoch !== epoch && (refused || entry.at.epoch < epoch)) {
          skip(region, epoch, 0);
          // The new log is followed from its beginning, so its alerts are recovered, not lost.
          refused &&= elsewhere;
        }
        if (entry.at?.epoch !== epoch) continue;
        entry.head = Math.max(entry.head, seq);
        if (!isBehind(region)) continue;
        if (refused && elsewhere) open.push(region);
        else if (refused) giveUp(region);
        else if (asked.includes(region)) fail(region);
      }
      // Only now is it known how often each was asked for.
      for (const region in entries) if (!open.includes(region)) look(region);
      return open;
    },
  };
}
