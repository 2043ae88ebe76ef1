import { useEffect, useRef, useState } from "react";
import { useAlerts, useConnection } from "viral-alerts/react";
import { defineViralToast, videoUrl, type ViralToastElement } from "viral-alerts/toast";

/** As many alerts as the list has. */
const SHOWN_MAX = 20;

const REGIONS = { PL: "Poland", DE: "Germany", ALL: "everywhere" };

/** A list of what goes viral in a region, with a toast for each new alert. It renders on a server, too. */
export function Alerts({ url, httpUrl }: { url: string; httpUrl: string }) {
  const toast = useRef<ViralToastElement>(null);
  const [region, setRegion] = useState("PL");
  const connection = useConnection({ url, httpUrl, recent: SHOWN_MAX });
  const alerts = useAlerts(connection, region, SHOWN_MAX);
  const { client, state } = connection;

  useEffect(() => {
    defineViralToast();
    const left = new AbortController();
    client?.addEventListener("alert", ({ detail }) => !detail.recent && toast.current?.show(detail), left);
    // The publisher has taken it back.
    client?.addEventListener("removed", ({ detail }) => toast.current?.drop(detail), left);
    return () => left.abort();
  }, [client]);

  return (
    <main>
      <h1>What goes viral</h1>
      <label>
        Region{" "}
        <select value={region} onChange={({ target }) => setRegion(target.value)}>
          {Object.entries(REGIONS).map(([region, name]) => (
            <option key={region} value={region}>
              {name}
            </option>
          ))}
        </select>
      </label>
      <p role="status">{state.state}</p>
      <ol>
        {alerts.map((alert) => (
          <li key={alert.id}>
            <a dir={alert.dir ?? "auto"} href={videoUrl(alert)}>
              {alert.video.title}
            </a>
          </li>
        ))}
      </ol>
      <viral-toast ref={toast} />
    </main>
  );
}
