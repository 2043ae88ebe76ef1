import type { EventMap, ViralAlerts } from "./viral-alerts.js";

const TYPES: (keyof EventMap)[] = ["state", "subscribed", "alert", "removed", "gap", "error"];

/**
 * Prints every event of a client, with the seconds since this call. Returns a function that ends it.
 *
 * @param print Called with a line and the event's detail. Default: `console.debug`.
 * @example
 * if (location.hash === "#debug") debug(alerts);
 */
export function debug(
  alerts: ViralAlerts,
  print: (line: string, detail: unknown) => void = (line, detail) => console.debug(line, detail),
): () => void {
  const started = performance.now();
  const left = new AbortController();
  for (const type of TYPES) {
    const listener = ({ detail }: EventMap[typeof type]): void => {
      const { region = "", seq = "", state = "", code = "" } = detail as unknown as Record<string, unknown>;
      const seconds = ((performance.now() - started) / 1_000).toFixed(3);
      print(["viral-alerts", seconds, type, region, seq, state, code].filter(String).join(" "), detail);
    };
    alerts.addEventListener(type, listener, left);
  }
  return () => left.abort();
}
