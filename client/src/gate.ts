// What one tab has received: lets each alert of its regions through once and in order, and keeps positions. Does no
// I/O.

import { EVERYONE_MAX } from "./limits.js";
import { ALL, BEGINNING, covers } from "./log.js";
import type { News, Positions } from "./news.js";
import type { EventMap, Position } from "./types.js";

/** Hands an event to the application. */
export type Emit = <Type extends keyof EventMap>(type: Type, detail: EventMap[Type]["detail"]) => unknown;

/**
 * Creates the gate of a tab. `positions` are those of an earlier visit; the gate updates them in place. It calls `ask`
 * with regions that the leader should deliver from their positions on.
 */
export function createGate(positions: Positions, emit: Emit, ask: (regions: string[]) => void) {
  const watched = new Set<string>();
  /** Regions whose `subscribed` event is still to come, except those that the service refused. */
  const pending = new Set<string>();
  /** Alerts of unwatched regions that reached everyone, and removals of such. */
  const seen = new Set<string>();

  const isWatched = (region: string): boolean => watched.has(region) || watched.has(ALL);
  /** Where a region begins that was created after this tab began to follow ALL. */
  const birth = (): Position | undefined => (watched.has(ALL) ? positions[ALL] : undefined);
  const positionOf = (region: string): Position | undefined => positions[region] ?? birth();

  const positionsOf = (regions: string[]): Positions =>
    Object.fromEntries(
      Object.entries(positions).filter(([region]) => isWatched(region) && covers(regions, region)),
    );

  return {
    /** The regions of this tab. */
    watched,
    pending,
    /** Returns the positions of the watched ones of `regions`; for `ALL`, all positions and its own mark. */
    positions: positionsOf,

    watch(region: string): void {
      if (watched.has(region)) return;
      // The region goes on where ALL stands, even if ALL is unwatched before the region is known.
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

    /** Takes news of the leader. */
    receive({ alert, lost, ready }: News): void {
      for (const region of ready?.refused ?? []) pending.delete(region);
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
        // Another tab's loss does not concern a tab that has the alerts, or that never followed the region.
        if (at && (!at.epoch || at.epoch === from.epoch) && (!same || at.seq < to.seq)) {
          positions[region] = to;
          // Epoch 0 is before any log: nothing can be lost.
          if (from.epoch) emit("gap", { region, from: at.seq + 1, to: same ? to.seq : null });
        }
      }
      if (!alert) return;
      const { region, epoch, seq, everyone } = alert;
      const isRemoved = alert.type === "alert_removed";
      if ((everyone || isRemoved) && !(isWatched(region) && positionOf(region))) {
        // Without a position there is no order, but an alert may repeat, or arrive after its removal.
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
        // Not acknowledged yet: the region has no beginning.
        if (!at || epoch < at.epoch || (epoch === at.epoch && seq <= at.seq)) {
          if (!isRemoved) return;
        } else {
          // In a new epoch the numbers start again at 1.
          if (seq !== (epoch === at.epoch ? at.seq : 0) + 1) return ask([region]);
          positions[region] = { epoch, seq };
        }
      }
      if (isRemoved) emit("removed", alert);
      else emit("alert", alert);
    },
  };
}
