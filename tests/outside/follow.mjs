// Prints the events of our client, one JSON text per line. The argument is a JSON text with its options.

import { createRequire } from "node:module";
import { ViralAlerts } from "../../client/viral-alerts.js";
import { eventsSocket } from "../../client/viral-alerts-events.js";

const require = createRequire(new URL("../../client/package.json", import.meta.url));

/** The names of ministack's hosts are in no DNS. */
class WebSocket extends require("ws") {
  constructor(url, protocols) {
    const address = { address: "127.0.0.1", family: 4 };
    super(url, protocols, { lookup: (_, { all }, found) => found(null, ...(all ? [[address]] : ["127.0.0.1", 4])) });
  }
}

const options = { ...JSON.parse(process.argv[2]), WebSocket };
const alerts = new ViralAlerts({ ...options, WebSocket: eventsSocket(options) });
for (const type of ["state", "subscribed", "alert", "removed", "gap", "error"]) {
  alerts.addEventListener(type, ({ detail }) => console.log(JSON.stringify({ ...detail, event: type })));
}
