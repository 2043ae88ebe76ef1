import { defineConfig } from "vitest/config";
import { FILES, LEGS, type Leg } from "./test/one-leg.js";

const pathOf = (file: string): string => `test/${file}.test.ts`;

/** The suite on one leg. */
const suiteOn = (leg: Leg) => ({
  test: {
    name: leg,
    provide: { leg },
    include: [pathOf("*")],
    exclude: LEGS.filter((other) => other !== leg).flatMap((other) => Object.values(FILES[other]).flat().map(pathOf)),
    setupFiles: ["test/setup.ts"],
    // Time is virtual, so this only ends what hangs on a busy machine.
    testTimeout: 60_000,
  },
});

export default defineConfig({ test: { projects: LEGS.map(suiteOn) } });
