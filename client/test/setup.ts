// Every test runs in fake time, with random numbers that can be repeated: SEED=1234 npm test

import { afterEach, beforeEach, vi } from "vitest";
import { leg } from "./legs.js";
import { reasonAgainst } from "./one-leg.js";
import { randomOf } from "./seeded.js";

declare const process: { env: Record<string, string | undefined> };

const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
console.log(`SEED=${seed}`);
beforeEach(({ skip, task }) => {
  const reason = reasonAgainst(leg, task.name);
  if (reason) skip(reason);
  vi.useFakeTimers();
  vi.spyOn(Math, "random").mockImplementation(randomOf(seed));
});
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
});
