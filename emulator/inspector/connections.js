// The pane of connections: the list, the connection that is singled out, and the message to it.

import { $, dot, element, onTyped } from "./dom.js";
import { noteConnection, renderAll } from "./list.js";
import { close, push, receive } from "./requests.js";
import { clock, count } from "./text.js";
import { resetFilter, view } from "./view.js";

const CONNECTIONS_EVERY_MS = 1_000;

const items = new Map();
let refreshing;
let refreshedAt = -Infinity;

/** Fetches the connections soon, but at most once a second. */
export function refreshConnections() {
  refreshing ??= setTimeout(
    async () => {
      refreshing = undefined;
      refreshedAt = performance.now();
      try {
        const response = await fetch(`/inspector/connections?search=${encodeURIComponent($("search").value.trim())}`);
        if (response.ok) showConnections(await response.json());
      } catch {
        // The state of the page already says that the emulator is away.
      }
    },
    Math.max(0, refreshedAt + CONNECTIONS_EVERY_MS - performance.now()),
  );
}

/** Returns the item of a connection, which stays the same while it is listed. */
function item(connection) {
  const known = items.get(connection.connectionId);
  if (known) return known;
  const parts = Object.fromEntries(
    ["id", "counts", "since", "ip", "labels", "agent"].map((name) => [name, element("span", { className: name })]),
  );
  parts.counts.classList.add("end");
  parts.ip.classList.add("end");
  parts.id.classList.add("mono");
  parts.id.append(dot(connection.connectionId), connection.connectionId);
  parts.agent.classList.add("quiet");
  const button = element("button", { type: "button" }, ...Object.values(parts));
  button.dataset.id = connection.connectionId;
  button.setAttribute("aria-pressed", connection.connectionId === view.connection);
  const made = { node: element("li", {}, button), parts };
  items.set(connection.connectionId, made);
  return made;
}

function showConnections({ webSocketUrl, hasPages, connected, found, connections }) {
  $("home").hidden = !hasPages;
  showAddress(webSocketUrl);
  if (connected > 0) noteConnection();
  $("connected").textContent = count(connected);
  const ids = new Set(connections.map(({ connectionId }) => connectionId));
  for (const [id, { node }] of items) {
    if (ids.has(id)) continue;
    node.remove();
    items.delete(id);
  }
  $("connections").querySelector(".nobody")?.remove();
  connections.forEach((connection, index) => {
    const { node, parts } = item(connection);
    parts.counts.textContent = `${count(connection.messagesReceived)} in · ${count(connection.messagesSent)} out`;
    parts.since.textContent = `since ${clock(new Date(connection.connectedAt))}`;
    parts.ip.textContent = connection.sourceIp;
    parts.labels.textContent = connection.labels.join(", ");
    parts.labels.hidden = !connection.labels.length;
    parts.agent.textContent = connection.userAgent ?? "no user agent";
    parts.agent.title = connection.userAgent ?? "";
    // Only an item out of place moves, so the focus stays.
    if ($("connections").children[index] !== node)
      $("connections").insertBefore(node, $("connections").children[index] ?? null);
  });
  if (!connections.length) {
    $("connections").append(
      element("li", { className: "nobody quiet", text: connected ? "No matching connections" : "No connections" }),
    );
  }
  const more = found - connections.length;
  $("connections-more").hidden = more <= 0;
  $("connections-more").textContent = `${count(more)} older not shown: search to find ${more === 1 ? "it" : "them"}.`;
}

function showAddress(url) {
  if ($("address").textContent === url) return;
  $("address").textContent = url;
  $("snippets").textContent = [
    `npx wscat -c ${url}`,
    `websocat ${url}`,
    "",
    "// in the console of any page",
    `new WebSocket("${url}").onmessage = ({ data }) => console.log(data);`,
  ].join("\n");
}

/** Shows only the records of one connection, and the form for messages to it. */
export function showOnly(connectionId) {
  view.connection = connectionId;
  $("only").hidden = !connectionId;
  $("only").textContent = `Only ${connectionId} ×`;
  $("composer").hidden = !connectionId;
  $("composer-connection").textContent = connectionId ?? "";
  $("outcome").textContent = "";
  for (const button of $("connections").querySelectorAll("button"))
    button.setAttribute("aria-pressed", button.dataset.id === connectionId);
  renderAll();
}

/** Removes every filter. */
function showAll() {
  resetFilter();
  $("filter").value = "";
  for (const box of document.querySelectorAll(".kinds input")) box.checked = true;
  showOnly(undefined);
}

/** Puts the message of a record into the form, to be sent again as it is or changed. */
export function compose(record) {
  if (view.connection !== record.connectionId) showOnly(record.connectionId);
  $("message").value = record.payload;
  $("message").focus();
}

export function listenToConnections() {
  $("connections").addEventListener("click", (event) => {
    const id = event.target.closest("button")?.dataset.id;
    if (id) showOnly(id === view.connection ? undefined : id);
  });
  $("only").addEventListener("click", () => showOnly(undefined));
  $("show-all").addEventListener("click", showAll);
  onTyped($("search"), refreshConnections);
  $("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    receive($("outcome"), view.connection, $("message").value);
  });
  $("push").addEventListener("click", () => push($("outcome"), view.connection, $("message").value));
  $("close").addEventListener("click", () => close($("outcome"), view.connection));
  $("message").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("composer").requestSubmit();
  });
}
