import { QUEUE_MAX } from "./limits.js";
import { ViralAlertsError, type EventMap, type ViralAlert, type ViralAlerts } from "./viral-alerts.js";

/**
 * Yields alerts from now on, except those that are removed before the loop reaches them. Ends when the client is
 * closed.
 *
 * @throws ViralAlertsError if an error closes the client, or if the loop is 10,000 alerts behind (`slow_consumer`).
 * @example
 * for await (const { region, video } of iterate(alerts)) console.log(region, video.title);
 */
export function iterate(client: ViralAlerts): AsyncGenerator<ViralAlert, void, void> {
  const queue: ViralAlert[] = [];
  const left = new AbortController();
  let error: ViralAlertsError | undefined;
  let wake = (): void => {};
  const on = <Type extends keyof EventMap>(type: Type, listener: (event: EventMap[Type]) => void): void =>
    client.addEventListener(type, listener, left);
  on("alert", ({ detail }) => {
    if (!error && queue.length < QUEUE_MAX) queue.push(detail);
    else error = new ViralAlertsError({ code: "slow_consumer" });
    wake();
  });
  on("removed", ({ detail: { region, epoch, seq } }) => {
    const at = queue.findIndex((alert) => alert.region === region && alert.epoch === epoch && alert.seq === seq);
    if (at >= 0) queue.splice(at, 1);
  });
  on("state", () => wake());
  const alerts = (async function* (): AsyncGenerator<ViralAlert, void, void> {
    try {
      while (!left.signal.aborted) {
        const alert = queue.shift();
        if (alert) yield alert;
        else if (error) throw error;
        else if (client.state.state === "closed") {
          await client.ready().catch((reason: ViralAlertsError) => {
            if (reason.terminal) throw reason;
          });
          return;
        } else await new Promise<void>((resolve) => (wake = resolve));
      }
    } finally {
      left.abort();
    }
  })();
  // Without this, a generator that waits would end only at the next alert.
  const end = alerts.return;
  alerts.return = (value) => {
    left.abort();
    wake();
    return end.call(alerts, value);
  };
  return alerts;
}
