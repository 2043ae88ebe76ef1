// The service that a test runs against.

import { beforeEach, vi } from "vitest";
import { Service } from "./service.js";

/** A new one for every test of a file that imports it. */
export let service: Service;

/** Puts a new service in the place of the one before. `fetch` reaches it. */
export function startService(): Service {
  service = new Service();
  vi.stubGlobal("fetch", vi.fn(service.fetch));
  return service;
}

beforeEach(() => void startService());
