// One hub for all tabs of a browser: the tab that holds a lock leads, the others hear what it tells.

import type { Hub } from "./hub.js";
import type { News, Want } from "./news.js";

/** What goes through the channel: news of the leader, the want of a tab or its wish that the leader wakes, or nothing, when there is a new leader. */
interface Message {
  news?: News;
  from?: string;
  want?: Want;
}

export interface Tabs {
  /** Tells the leader what this tab wants. */
  ask(want: Want): void;
  /** The network may be back, or somebody looks. */
  wake(): void;
  offline(): void;
  /** Lets another tab lead. */
  leave(): void;
}

/**
 * Tabs with the same `name` share; without a name there is no sharing. `greet` is called when there is a leader that knows
 * nothing of this tab, and never before this function has returned.
 */
export function joinTabs(
  name: string | undefined,
  lead: (emit: (news: News) => void) => Hub,
  hear: (news: News) => void,
  greet: () => void,
): Tabs {
  const tab = `${Math.random()}`;
  const left = new AbortController();
  const { signal } = left;
  let channel: BroadcastChannel | undefined;
  try {
    if (name) channel = new BroadcastChannel(name);
  } catch {
    // A page without permission to store does without the other tabs.
  }
  const post = (message: Message): void => channel?.postMessage(message);
  let hub: Hub | undefined;
  /** Whether this tab holds its own lock. Before it does, the leader would take it for one that is gone. */
  let present = false;

  const begin = (): void => {
    hub = lead((news) => {
      if (signal.aborted) return;
      post({ news });
      hear(news);
    });
    post({});
    queueMicrotask(greet);
  };

  /** Keeps a lock, once it is had, until this tab leaves, unless `then` is done with it. Where there are no locks to be had each tab leads. */
  const hold = (lock: string, then: () => unknown): void => {
    // Chromium grants a lock although the request was given up meanwhile.
    const held = (): unknown =>
      signal.aborted || (then() ?? new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve())));
    // A request that is given up rejects too.
    navigator.locks.request(lock, { signal }, held).catch(() => signal.aborted || hub || then());
  };

  if (channel) {
    channel.onmessage = ({ data: { news, want, from } }: MessageEvent<Message>) => {
      if (!hub) {
        if (news) hear(news);
        else if (!from) greet();
      } else if (!want) hub.wake();
      // A tab holds a lock of its own as long as it is there.
      else if (hub.serve(from!, want)) hold(name! + from!, () => hub?.forget(from!) ?? true);
    };
    hold(name + tab, () => {
      present = true;
      greet();
    });
    hold(name!, begin);
  } else begin();

  return {
    ask(want) {
      if (hub) hub.serve(tab, want);
      else if (present) post({ from: tab, want });
    },
    wake() {
      if (hub) hub.wake();
      else post({ from: tab });
    },
    offline: () => hub?.offline(),
    leave() {
      left.abort();
      hub?.stop();
      channel?.close();
    },
  };
}
