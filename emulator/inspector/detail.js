// The details of a record: facts, payloads, and buttons that send its message again.

import { compose, showOnly } from "./connections.js";
import { $, dot, element } from "./dom.js";
import { laidOut } from "./json.js";
import { PAYLOAD_BYTES_MAX } from "./records.js";
import { push, receive } from "./requests.js";
import { CLOSE_CODES } from "./summary.js";
import { day, duration, parsed, size, time } from "./text.js";

/** Characters of JSON that are coloured. Longer JSON is shown plain. */
const COLOURED_CHARACTERS_MAX = 60_000;

function payload(title, text, bytes) {
  const parts = laidOut(text);
  const plain = parts ? parts.map(([, part]) => part).join("") : text;
  const box = element("pre", { tabIndex: 0 });
  if (parts && plain.length <= COLOURED_CHARACTERS_MAX) {
    box.append(...parts.map(([className, part]) => (className ? element("span", { className, text: part }) : part)));
  } else {
    box.textContent = plain;
  }
  const copy = element("button", { type: "button", text: "Copy" });
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(plain);
    copy.textContent = "Copied";
  });
  const cut = bytes > PAYLOAD_BYTES_MAX ? ` (the first ${size(PAYLOAD_BYTES_MAX)} of ${size(bytes)})` : "";
  const section = element("section", {}, element("h3", {}, element("span", { text: title + cut })), box);
  // Over HTTP from another machine, a browser gives the page no clipboard.
  if (navigator.clipboard) section.firstElementChild.append(copy);
  return section;
}

/** Returns the payload inside of an event or answer: its body, if it has one. */
function inner(title, text) {
  const body = parsed(text)?.body;
  return typeof body === "string" && body !== "" ? [payload(title, body, 0)] : [];
}

function describe(record) {
  const answer = record.kind === "answered" ? record : record.answer;
  const at = ["At", `${day(new Date(record.at))} ${time(record.at)}`];
  const bytes = ["Size", `${size(record.bytes)}`];
  switch (record.kind) {
    case "handshake": {
      const headers = (parsed(record.payload) ?? []).map(([name, value]) => `${name}: ${value}`).join("\n");
      return {
        title: `Handshake: ${record.status}${record.message ? ` ${record.message}` : ""}`,
        facts: [at, ["Address", record.uri], ["Source IP", record.sourceIp], ["Took", duration(record.ms)]],
        payloads: headers ? [payload("Headers", headers, record.bytes)] : [],
      };
    }
    case "received":
      return {
        title: {
          text: "Message from the client",
          binary: "Binary message from the client",
          ping: "Ping from the client",
          pong: "Pong from the client",
        }[record.frame],
        facts: [at, bytes, ...(record.resent ? [["Origin", "sent from the inspector"]] : [])],
        payloads: record.bytes ? [payload("Message", record.payload, record.bytes)] : [],
      };
    case "sent":
      return {
        title: "Message to the client",
        facts: [at, bytes],
        payloads: [payload("Message", record.payload, record.bytes)],
      };
    case "invoked":
    case "answered":
      return {
        title: `Invocation of ${record.function}`,
        facts: [
          at,
          ["Request id", record.requestId],
          ...(record.route ? [["Route", record.route]] : []),
          [
            "Took",
            answer ? duration(answer.ms) : record.unanswered ? "unknown: the answer was dropped" : "still running",
          ],
          ...(answer?.error ? [["Error", answer.error]] : []),
        ],
        payloads: [
          ...(answer
            ? [
                payload(answer.error ? "Error" : "Answer", answer.payload, answer.bytes),
                ...inner("Body of the answer", answer.payload),
              ]
            : []),
          ...(record.kind === "invoked"
            ? [...inner("Body of the event", record.payload), payload("Event", record.payload, record.bytes)]
            : []),
        ],
      };
    case "management":
      return {
        title: `${record.method} @connections: ${record.status}`,
        facts: [at, ["Took", duration(record.ms)], ...(record.error ? [["Error", record.error]] : [])],
        payloads: [],
      };
    case "published":
      return {
        title: `Publish to ${record.api}: ${record.status}`,
        facts: [
          at,
          bytes,
          ["Delivered", `${record.delivered}`],
          ["Took", duration(record.ms)],
          ...(record.error ? [["Error", record.error]] : []),
        ],
        payloads: record.bytes ? [payload("Body", record.payload, record.bytes)] : [],
      };
    case "closed":
      return {
        title: `Closed: ${record.code}`,
        facts: [
          at,
          ["Code", `${record.code}${CLOSE_CODES[record.code] ? `, ${CLOSE_CODES[record.code]}` : ""}`],
          ["Reason", record.reason || "none"],
          ["Open for", duration(record.ms)],
        ],
        payloads: [],
      };
  }
}

function actions(record) {
  const whole = record.bytes <= PAYLOAD_BYTES_MAX && (record.kind === "sent" || record.frame === "text");
  if (!whole) return [];
  const again = element("button", {
    type: "button",
    className: "primary",
    text: record.kind === "sent" ? "Push again" : "Send again",
  });
  const change = element("button", { type: "button", text: "Edit and send…" });
  const output = element("output", {});
  again.addEventListener("click", () =>
    (record.kind === "sent" ? push : receive)(output, record.connectionId, record.payload),
  );
  change.addEventListener("click", () => compose(record));
  return [again, change, output];
}

export function showDetail(record) {
  const { title, facts, payloads } = describe(record);
  $("detail-title").textContent = title;
  $("facts").replaceChildren(
    ...facts.flatMap(([name, value]) => [element("dt", { text: name }), element("dd", { text: value })]),
  );
  if (record.connectionId) {
    const only = element(
      "button",
      { type: "button", className: "mono", title: "Show only this connection" },
      dot(record.connectionId),
      record.connectionId,
    );
    only.addEventListener("click", () => showOnly(record.connectionId));
    $("facts").append(element("dt", { text: "Connection" }), element("dd", {}, only));
  }
  $("detail-buttons").replaceChildren(...actions(record));
  $("payloads").replaceChildren(...payloads);
  $("detail").hidden = false;
}
