// Every test runs in fake time, with random numbers that can be repeated: SEED=1234 npm test

import { afterEach, beforeEach, vi } from "vitest";
import { randomOf } from "./seeded.js";

declare const process: { env: Record<string, string | undefined> };

const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
console.log(`SEED=${seed}`);
beforeEach(() => {
  vi.useFakeTimers();
  vi.spyOn(Math, "random").mockImplementation(randomOf(seed));
});
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
});
