// What is known of the log of each region: its alerts in order and once, and what is missing. Does no I/O.

import { EARLY_MAX, HEAL_TRIES_MAX } from "./limits.js";
import type { Answer, Logged, News, Positions } from "./news.js";
import type { Position } from "./types.js";

/** Stands for every region. As a key of positions: regions that come into being are followed from their beginning. */
export const ALL = "ALL";
/** Whether `regions` name the region, or all. */
export const covers = (regions: string[], region: string): boolean => regions.includes(region) || regions.includes(ALL);
/** Before any log. */
export const BEGINNING: Readonly<Position> = { epoch: 0, seq: 0 };

interface Entry {
  region: string;
  /** Position of the last alert that was handed on; none before the first acknowledgement. */
  at?: Position;
  /** Highest number that is known to exist in this epoch. */
  head: number;
  /** Highest number that was handed on in this epoch; above `at` after a step back. */
  top: number;
  /** Recoveries without progress. */
  tries: number;
  /** Alerts that came before their turn, by number. */
  early: Map<number, Logged>;
}

export type Log = ReturnType<typeof createLog>;

/**
 * `behind` is called with a region of which something is missing, and how often it was recovered in vain; `started` when an
 * answer has said where regions begin, before their first alert.
 */
export function createLog(emit: (news: News) => void, behind: (region: string, tries: number) => void, started: () => void) {
  const entries = new Map<string, Entry>();

  const entryOf = (region: string): Entry => {
    let entry = entries.get(region);
    if (!entry) entries.set(region, (entry = { region, head: 0, top: 0, tries: 0, early: new Map() }));
    return entry;
  };

  /** Whether the region is followed from a position, not from now on. */
  const has = (region: string): boolean => !!entries.get(region)?.at;

  /** Whether something of the region is missing. */
  const isBehind = (region: string): boolean => {
    const entry = entries.get(region);
    return !!entry?.at && entry.head > entry.at.seq;
  };

  const move = (entry: Entry, to: Position): void => {
    if (entry.at?.epoch !== to.epoch) entry.head = entry.top = 0;
    entry.at = { ...to };
    const held = [...entry.early.values()];
    entry.early.clear();
    held.forEach(accept);
  };

  /** Goes on from `to`, although not everything before has come. */
  const skip = (entry: Entry, epoch: number, seq: number): void => {
    const { region, at } = entry;
    const to = { epoch, seq };
    // Epoch 0 is before any log: there was nothing to lose.
    if (at?.epoch) emit({ lost: { region, from: { ...at }, to } });
    move(entry, to);
  };

  /** What is missing will not come. Alerts that are there already are not lost. */
  const lose = (entry: Entry): void => {
    for (let { at } = entry; at && entry.head > at.seq; { at } = entry) {
      const last = entry.top > at.seq ? entry.top : entry.head;
      skip(entry, at.epoch, Math.min(...entry.early.keys(), last + 1) - 1);
    }
  };

  /** What is missing of the region is lost. */
  const giveUp = (region: string): void => lose(entryOf(region));

  /** Takes what arrived, in any order and any number of times. That an alert was taken back takes its place. */
  const accept = (alert: Logged): void => {
    const { region, epoch, seq, everyone } = alert;
    // What reaches those who do not follow its region has no place in an order.
    if (!seq || !epoch || (everyone && !has(region) && !has(ALL))) return emit({ alert });
    const entry = entryOf(region);
    if (has(ALL)) entry.at ??= { ...BEGINNING };
    if (entry.at && entry.at.epoch < epoch) skip(entry, epoch, 0);
    const { at, early } = entry;
    const isPast = at && (at.epoch > epoch || at.seq >= seq);
    const isRemoved = alert.type === "alert_removed";
    // It was handed on before, or reached everyone.
    if (isRemoved && (isPast || !at)) emit({ alert });
    if (isPast) return;
    if (early.has(seq) ? isRemoved : early.size < EARLY_MAX || seq - 1 === at?.seq) early.set(seq, alert);
    if (!at) return;
    entry.head = Math.max(entry.head, seq);
    // An application that is told of an alert may ask for something else: the position is read anew each time.
    for (let next; (next = entry.early.get(entry.at!.seq + 1)); ) {
      const now = ++entry.at!.seq;
      entry.early.delete(now);
      entry.top = Math.max(entry.top, now);
      entry.tries = 0;
      emit({ alert: next });
    }
    if (isBehind(region)) behind(region, entry.tries);
  };

  return {
    has,
    isBehind,
    accept,
    giveUp,

    /** Positions of `regions`, as far as known; of every region for `ALL`. */
    positions(regions: string[]): Positions {
      const found: Positions = {};
      for (const [region, { at }] of entries) {
        if (at && region !== ALL && covers(regions, region)) found[region] = { ...at };
      }
      return found;
    },

    /** Forgets regions that are not among `wanted`. */
    keep(wanted: string[]): void {
      for (const region of entries.keys()) {
        if (!covers(wanted, region)) entries.delete(region);
      }
    },

    /** Follows the region from `to` at the latest. Returns whether that is a step back. */
    rewind(region: string, to: Position): boolean {
      const entry = entryOf(region);
      const { at } = entry;
      if (at && (region === ALL || (at.epoch === to.epoch && at.seq <= to.seq))) return false;
      move(entry, to);
      return !!at;
    },

    /**
     * Takes the answer to a question about `asked`. Returns the regions that it did not recover and that may be had
     * `elsewhere`; if there is no elsewhere, what they miss is lost.
     */
    apply({ positions, alerts = [], removed = [], not_recovered = [] }: Answer, asked: string[], elsewhere: boolean): string[] {
      const heads = Object.entries(positions);
      // Under ALL, a region that is not known yet came into being since.
      const all = has(ALL);
      // The first acknowledgement of a region: what it had until then is not for this client.
      for (const [region, head] of heads) entryOf(region).at ??= { ...(all ? BEGINNING : head) };
      if (asked.includes(ALL)) {
        entryOf(ALL);
        for (const entry of entries.values()) entry.at ??= { ...BEGINNING };
      }
      started();
      for (const entry of entries.values()) if (entry.at) move(entry, entry.at);
      [...removed, ...alerts].forEach(accept);
      const open: string[] = [];
      for (const [region, { epoch, seq }] of heads) {
        const entry = entryOf(region);
        let refused = not_recovered.includes(region);
        if (entry.at && entry.at.epoch !== epoch && (refused || entry.at.epoch < epoch)) {
          skip(entry, epoch, 0);
          // Nobody has asked for the new log from its beginning, so it is not lost.
          refused &&= elsewhere;
        }
        if (entry.at?.epoch !== epoch) continue;
        entry.head = Math.max(entry.head, seq);
        if (!isBehind(region)) continue;
        if (refused || asked.includes(region)) entry.tries++;
        if ((refused && !elsewhere) || entry.tries > HEAL_TRIES_MAX) lose(entry);
        else if (refused) open.push(region);
        else behind(region, entry.tries);
      }
      return open;
    },
  };
}
