import type { Options, ViralAlert } from "./types.js";

/** Returns whether the application accepts an alert. If its function throws, it does, and the error is reported. */
export function accepts(accept: Options["accept"], alert: ViralAlert): boolean {
  try {
    return !accept || accept(alert);
  } catch (error) {
    reportError(error);
    return true;
  }
}
