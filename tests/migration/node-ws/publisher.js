// The shop's back end: notifies everybody.  publisher.js http://host:8080/notify TEXT

import { createHmac, randomUUID } from "node:crypto";

const [url, text] = process.argv.slice(2);
// Changed: was `{ type: "alert", text }`.
const body = JSON.stringify({
  event: "new_trending",
  region: "EU",
  video_id: randomUUID(),
  title: text,
  thumbnail: "",
});
const headers = { "Content-Type": "application/json" };
// Changed: in an account who publishes is asked for a signature.
if (process.env.WEBHOOK_SECRET) Object.assign(headers, signature(body, process.env.WEBHOOK_SECRET));
const response = await fetch(url, { method: "POST", headers, body });
if (!response.ok) {
  console.log(`not notified: ${response.status}`);
  process.exitCode = 1;
}

// Changed: this function is new. https://www.standardwebhooks.com
function signature(body, secret) {
  const [id, now] = [randomUUID(), Math.floor(Date.now() / 1000)];
  const key = Buffer.from(secret.replace("whsec_", ""), "base64");
  const signed = createHmac("sha256", key).update(`${id}.${now}.${body}`).digest("base64");
  return { "webhook-id": id, "webhook-timestamp": String(now), "webhook-signature": `v1,${signed}` };
}
