// Starts serverless-offline on free ports, and says when it takes connections.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";

const directory = fileURLToPath(new URL(".", import.meta.url));

async function freePorts(count) {
  const servers = Array.from({ length: count }, () => createServer().listen(0, "127.0.0.1"));
  await Promise.all(servers.map((server) => once(server, "listening")));
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => once(server.close(), "close")));
  return ports;
}

const [http, websocket, lambda] = await freePorts(3);
const ports = ["--httpPort", http, "--websocketPort", websocket, "--lambdaPort", lambda].map(String);
const offline = spawn(`${directory}node_modules/.bin/serverless`, ["offline", "start", ...ports], {
  cwd: directory,
  env: {
    ...process.env,
    MANAGEMENT_ENDPOINT: `http://127.0.0.1:${websocket}`,
    SLS_TELEMETRY_DISABLED: "1",
    SLS_NOTIFICATIONS_MODE: "off",
  },
  stdio: ["ignore", "pipe", "pipe"],
});
let said = "";
for (const output of [offline.stdout, offline.stderr]) {
  output.setEncoding("utf8").on("data", (text) => {
    // All of it is there only until it is ready: afterwards it is a line for each call.
    if (said === undefined) return;
    said += text;
    if (said.includes("Server ready")) {
      said = undefined;
      console.log(`ready ws://127.0.0.1:${websocket}/ http://127.0.0.1:${http}/`);
    }
  });
}
process.on("SIGINT", () => offline.kill("SIGINT"));
const [code] = await once(offline, "exit");
if (said) process.stderr.write(said);
process.exit(code ?? 0);
