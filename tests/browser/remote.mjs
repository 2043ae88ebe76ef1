// What the remote protocols of browsers have in common: commands with their results, events, and tabs that are asked
// until something holds.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { until } from "./browser.mjs";

/** A browser with a profile of its own. A subclass starts the process, and writes and receives messages. */
export class RemoteBrowser {
  directory = mkdtempSync(join(tmpdir(), "browser-"));
  /** The process. */
  child;
  /** Writes a message, which is an object. */
  write;
  /** The command that ends the browser. */
  #closing;
  #pending = new Map();
  #listeners = new Set();
  #calls = 0;

  constructor(closing) {
    this.#closing = closing;
  }

  /** Calls a command and resolves with its result. `sessionId` names a tab of Chromium. */
  send(method, params = {}, sessionId = undefined) {
    const id = ++this.#calls;
    this.write({ id, method, params, sessionId });
    return new Promise((resolve, reject) => this.#pending.set(id, { resolve, reject, method }));
  }

  /** Calls `listener` with every event. */
  listen(listener) {
    this.#listeners.add(listener);
  }

  /** Takes a message of the browser. */
  receive(message) {
    if (!message.id) return this.#listeners.forEach((listener) => listener(message));
    const { resolve, reject, method } = this.#pending.get(message.id);
    this.#pending.delete(message.id);
    // BiDi describes an error in the message itself, DevTools in a field.
    const error = message.type === "error" ? message : message.error;
    if (error) reject(new Error(`${method}: ${error.message}`));
    else resolve(message.result);
  }

  async close() {
    const ended = new Promise((resolve) => this.child.once("exit", resolve));
    this.send(this.#closing).catch(() => {});
    await ended;
    rmSync(this.directory, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** A tab. A subclass has `evaluate`, which resolves with the value of an expression, or of the promise that it is. */
export class RemoteTab {
  /** Exceptions that no script caught. */
  exceptions = [];

  /** Waits until an expression is true. If it never is, the error has the value of `otherwise`. */
  until(expression, otherwise = "undefined") {
    return until(
      // While a page loads there may be nothing to ask.
      () => this.evaluate(expression).catch(() => false),
      async () => {
        const found = await this.evaluate(otherwise).catch(String);
        return `never true: ${expression}; ${otherwise}: ${JSON.stringify(found)}`;
      },
    );
  }
}
