import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    // A function starts a process when it is first invoked, which takes a while on a machine that does much else.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // A reset is for all who use the emulator.
    fileParallelism: false,
  },
});
