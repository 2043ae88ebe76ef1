// The parts of a browser that the client uses, for tests in Node.js.

import { vi } from "vitest";

/** The globals of a page. */
class Page {
  readonly page = new EventTarget();
  readonly document = Object.assign(new EventTarget(), { hidden: false });

  constructor() {
    const { page } = this;
    vi.stubGlobal("document", this.document);
    vi.stubGlobal("addEventListener", page.addEventListener.bind(page));
  }

  /** Dispatches an event on the page. */
  happens(type: string): void {
    this.page.dispatchEvent(new Event(type));
  }

  show(): void {
    this.document.hidden = false;
    this.document.dispatchEvent(new Event("visibilitychange"));
  }

  hide(): void {
    this.document.hidden = true;
    this.document.dispatchEvent(new Event("visibilitychange"));
  }
}

/** A browser with its first page. New clients belong to the page that was opened last. */
export class Browser extends Page {
  readonly #channels = new Set<FakeChannel>();
  readonly #locks = new Map<string, (() => Promise<void>)[]>();

  constructor() {
    super();
    const channels = this.#channels;
    const browser = this;
    vi.stubGlobal("navigator", { locks: { request: this.#request } });
    vi.stubGlobal(
      "BroadcastChannel",
      class extends FakeChannel {
        constructor(name: string) {
          super(name, channels, browser);
        }
      },
    );
  }

  /** Locks are refused, as in a page without permission to store. */
  refusesLocks = false;
  /** A lock is granted although its request was aborted, as in Chromium. */
  grantsLate = false;
  /** Milliseconds before a lock is asked for. */
  lockDelay = 0;
  get locksHeld(): number {
    return [...this.#locks.values()].filter(({ length }) => length).length;
  }
  /** Messages between tabs are lost. */
  deaf = false;

  /** Opens another page, to which new clients belong. */
  open(): Page {
    return new Page();
  }

  /** Web Locks: exclusive, in the order of the requests. */
  readonly #request = async (
    name: string,
    { signal }: { signal?: AbortSignal },
    then: () => unknown,
  ): Promise<void> => {
    const delay = this.lockDelay;
    this.lockDelay = 0;
    if (delay) await new Promise((resolve) => setTimeout(resolve, delay));
    return this.#enqueue(name, signal, then);
  };

  readonly #enqueue = (name: string, signal: AbortSignal | undefined, then: () => unknown): Promise<void> =>
    new Promise((resolve, reject) => {
      if (this.refusesLocks) return reject(new DOMException("denied", "SecurityError"));
      if (signal?.aborted) return reject(signal.reason as Error);
      const queue = this.#locks.get(name) ?? [];
      this.#locks.set(name, queue);
      const run = async (): Promise<void> => {
        // A lock that is granted to an aborted request is free again.
        if (!signal?.aborted || this.grantsLate) await then();
        queue.shift();
        void queue[0]?.();
        resolve();
      };
      queue.push(run);
      if (queue.length === 1) return void queueMicrotask(() => void run());
      signal?.addEventListener("abort", () => {
        const index = queue.indexOf(run);
        if (index <= 0) return;
        queue.splice(index, 1);
        reject(signal.reason as Error);
      });
    });
}

class FakeChannel {
  onmessage: ((event: { data: unknown }) => void) | null = null;
  readonly #name: string;
  readonly #channels: Set<FakeChannel>;
  readonly #browser: Browser;

  constructor(name: string, channels: Set<FakeChannel>, browser: Browser) {
    this.#browser = browser;
    this.#name = name;
    this.#channels = channels;
    channels.add(this);
  }

  postMessage(data: unknown): void {
    if (!this.#channels.has(this)) throw new DOMException("closed", "InvalidStateError");
    if (this.#browser.deaf) return;
    const copy = structuredClone(data);
    for (const channel of this.#channels) {
      if (channel === this || channel.#name !== this.#name) continue;
      setTimeout(() => this.#channels.has(channel) && channel.onmessage?.({ data: copy }), 1);
    }
  }

  close(): void {
    this.#channels.delete(this);
  }
}
