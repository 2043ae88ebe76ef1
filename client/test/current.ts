// The service that a test runs against, on the leg that it runs on.

import { beforeEach, vi } from "vitest";
import { AppSync } from "./appsync.js";
import { leg } from "./legs.js";
import { Service } from "./service.js";

/** A new one for every test of a file that imports it. */
export let service: Service;
/** Its Event API, if that is the leg. */
export let appSync: AppSync;

/** Puts a new service in the place of the one before. `fetch` reaches it. */
export function startService(): Service {
  service = new Service();
  if (leg === "events") appSync = new AppSync(service);
  vi.stubGlobal("fetch", vi.fn(service.fetch));
  return service;
}

beforeEach(() => void startService());

/** Changes the answers to subscriptions, when they have been made and before they are sent. */
export function changeAnswers(change: (answer: object) => object): void {
  const { answer, history } = service;
  if (leg === "gateway") service.answer = (...given) => change(answer.apply(service, given));
  else {
    service.history = (url) => {
      const page = history.call(service, url);
      // Before there is a channel, a client asks whether there is an Event API.
      const answers = page && [...appSync.sockets].some(({ channels }) => channels.size);
      return answers ? (change(page) as typeof page) : page;
    };
  }
}

/** Calls `then` whenever the answer to a subscription has been made and not been sent. */
export const whenAnswered = (then: () => void): void => changeAnswers((answer) => (then(), answer));

/** The next subscription is refused for now. */
export function refuseOnce(): void {
  if (leg === "events") appSync.nextError = "SubscriptionProcessingError";
  else service.nextAnswer = { type: "error", code: "unavailable", message: "not now", retryable: true };
}
