// What one tab has had: lets each alert of its regions through once and in order, and keeps the positions. Does no I/O.

import { EVERYONE_MAX } from "./limits.js";
import { ALL, BEGINNING, covers } from "./log.js";
import type { News, Positions } from "./news.js";
import type { EventMap, Position } from "./types.js";

/** Hands an event to the application. */
export type Emit = <Type extends keyof EventMap>(type: Type, detail: EventMap[Type]["detail"]) => unknown;

/**
 * `positions` are those of an earlier visit, and are kept up to date. `ask` is called with regions that the leader should
 * deliver from their position on.
 */
export function createGate(positions: Positions, emit: Emit, ask: (regions: string[]) => void) {
  const watched = new Set<string>();
  /** Regions of which the application has not been told that they are subscribed. */
  const pending = new Set<string>();
  /** Alerts of other regions that came because they reach everyone. */
  const seen = new Set<string>();

  const isWatched = (region: string): boolean => covers([...watched], region);
  /** Where a region begins that came into being since this tab has followed ALL. */
  const birth = (): Position | undefined => (watched.has(ALL) ? positions[ALL] : undefined);
  const positionOf = (region: string): Position | undefined => positions[region] ?? birth();

  const positionsOf = (regions: string[]): Positions => {
    const found = Object.entries(positions).filter(([region]) => isWatched(region) && covers(regions, region));
    return Object.fromEntries(found);
  };

  return {
    /** Regions of this tab. */
    watched,
    /** Positions of `regions` as far as they are watched; for `ALL` all of them, and the mark that it is followed. */
    positions: positionsOf,

    watch(region: string): void {
      if (watched.has(region)) return;
      // It goes on from where ALL stands, though ALL may be left before anything is known of it.
      if (birth()) positions[region] ??= BEGINNING;
      watched.add(region);
      pending.add(region);
      ask([region]);
    },

    unwatch(region: string): void {
      watched.delete(region);
      pending.delete(region);
      for (const key in positions) if (!isWatched(key)) delete positions[key];
      ask([]);
    },

    /** Takes what the leader tells. */
    receive({ alert, lost, ready }: News): void {
      for (const region of ready?.regions ?? []) {
        if (!watched.has(region)) continue;
        const heads: Positions = { [region]: BEGINNING, ...ready!.positions };
        const known = birth();
        for (const key in heads) if (key === region || region === ALL) positions[key] ??= known ?? heads[key]!;
        if (pending.delete(region)) emit("subscribed", { region, positions: positionsOf([region]) });
      }
      if (lost && isWatched(lost.region)) {
        const { region, from, to } = lost;
        const at = positionOf(region);
        const same = to.epoch === from.epoch;
        // What another tab has lost does not concern one that had it, or that never followed the region.
        if (at && (!at.epoch || at.epoch === from.epoch) && (!same || at.seq < to.seq)) {
          positions[region] = to;
          emit("gap", { region, from: at.seq + 1, to: same ? to.seq : null });
        }
      }
      if (!alert) return;
      const { region, epoch, seq, everyone } = alert;
      const isRemoved = alert.type === "alert_removed";
      if ((everyone || isRemoved) && !(isWatched(region) && positionOf(region))) {
        // Without a position there is no order to keep, but the same alert may come again, or after it was taken back.
        const key = `${[region, epoch, seq]}`;
        const gone = `${key} removed`;
        const wasTold = seen.delete(key);
        if (!isRemoved && seen.has(gone)) return;
        if (seen.size >= EVERYONE_MAX) seen.delete([...seen][0]!);
        seen.add(isRemoved ? gone : key);
        if (wasTold !== isRemoved) return;
      } else if (!isWatched(region)) return;
      else if (seq && epoch) {
        const at = positionOf(region);
        // Before its acknowledgement a region has no beginning.
        if (!at || epoch < at.epoch || (epoch === at.epoch && seq <= at.seq)) {
          if (!isRemoved) return;
        } else {
          // The first alert of another epoch is the first one of a new log.
          if (seq !== (epoch === at.epoch ? at.seq : 0) + 1) return ask([region]);
          positions[region] = { epoch, seq };
        }
      }
      if (isRemoved) emit("removed", alert);
      else emit("alert", alert);
    },
  };
}
