// The two legs on which alerts reach a client. The suite runs once on each: `leg` says on which it runs now.

import { inject } from "vitest";
import type { Leg } from "./one-leg.js";

declare module "vitest" {
  interface ProvidedContext {
    leg: Leg;
  }
}

export const leg: Leg = inject("leg");

/** Returns the value for the leg that the suite runs on. */
export const on = <Value>(values: Record<Leg, Value>): Value => values[leg];
