// One hub for all tabs of a browser: the tab that holds a Web Lock leads and tells the others its news.

import type { Hub } from "./hub.js";
import type { News, Want } from "./news.js";

/**
 * A message of the channel: `news` of the leader, or from a tab its `want`, or only `from` to wake the leader. A new
 * leader sends an empty message.
 */
interface Message {
  news?: News;
  from?: string;
  want?: Want;
}

export interface Tabs {
  /** Tells the leader what this tab wants. */
  ask(want: Want): void;
  /** The network may be back, or the page is shown. */
  wake(): void;
  offline(): void;
  /** Lets another tab lead. */
  leave(): void;
}

/**
 * Joins the tabs with the same `name`; a tab without a name is alone. Calls `greet` when there is a leader that does
 * not know this tab yet, but never before this function has returned.
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
    // A page without permission to store does not share.
  }
  const post = (message: Message): void => channel?.postMessage(message);
  let hub: Hub | undefined;
  /** Whether this tab holds its own lock. Without it, the leader would take the tab for closed. */
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

  /**
   * Requests a lock and keeps it until this tab leaves, or releases it at once if `then` returns a value. If the
   * browser refuses locks, each tab leads.
   */
  const hold = (lock: string, then: () => unknown): void => {
    // Chromium may grant a lock although the request was aborted.
    const held = (): unknown =>
      signal.aborted || (then() ?? new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve())));
    // An aborted request rejects too.
    navigator.locks.request(lock, { signal }, held).catch(() => signal.aborted || hub || then());
  };

  if (channel) {
    channel.onmessage = ({ data: { news, want, from } }: MessageEvent<Message>) => {
      if (!hub) {
        if (news) hear(news);
        else if (!from) greet();
      } else if (!want) hub.wake();
      // A tab holds its own lock while it lives: getting that lock means that the tab is gone.
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
