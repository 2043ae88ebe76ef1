// The inspector: what the local gateway does, as it happens, and what a person does to its connections.

/** Records that the page keeps, and characters of their payloads; the oldest go first. */
const RECORDS_MAX = 5_000;
const CHARACTERS_MAX = 32_000_000;
/** Rows in the document. More would make every change slow. */
const ROWS_MAX = 500;
/** Bytes that the emulator keeps of one payload. */
const PAYLOAD_BYTES_MAX = 128 * 1024;
/** Characters of JSON that are coloured; more is shown plain. */
const COLOURED_CHARACTERS_MAX = 60_000;
const PREVIEW_CHARACTERS = 300;
/** Characters of a payload that is read for what a row says of it. Errors are short. */
const READ_CHARACTERS_MAX = 16_384;
const PAUSE_BETWEEN_BATCHES_MS = 100;
const PAUSE_WHILE_HIDDEN_MS = 1_000;
const RETRY_MS = 1_000;
const CONNECTIONS_EVERY_MS = 1_000;
const TYPING_PAUSE_MS = 150;
/** Pixels by which an arrow key moves the border between two panes, and that a pane has at least. */
const RESIZE_STEP_PX = 16;
const PANE_PX_MIN = 120;
/** Share of the window that a pane may take. */
const PANE_SHARE_MAX = 0.7;
/** Where the browser keeps the sizes of the panes. */
const SIZES_KEY = "inspector sizes";
/** Distance from the end of the list within which it follows what arrives. */
const AT_END_PX = 30;

const GROUPS = { handshake: "handshake", closed: "handshake", received: "frame", sent: "frame", invoked: "invocation", answered: "invocation", management: "management" };
/** Members that say what a message is, in the order in which they are looked for. */
const TYPE_MEMBERS = ["type", "event", "action"];
const TYPE_FIRST = /^\s*\{\s*"(type|event|action)"\s*:\s*("(?:[^"\\]|\\.)*")\s*,?\s*/;
const CLOSE_CODES = { 1000: "normal", 1001: "going away", 1002: "protocol error", 1003: "unsupported data", 1005: "no status given", 1006: "lost without a close frame", 1007: "not UTF-8", 1009: "too big" };

const $ = (id) => document.getElementById(id);

/** Builds an element. Text is always set as text, so no payload becomes markup. */
function element(tag, { text, ...properties } = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  if (text !== undefined) made.textContent = text;
  made.append(...children);
  return made;
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const count = (number) => number.toLocaleString("en");

const digits = (value, length = 2) => String(value).padStart(length, "0");

/** The time of day, without milliseconds. */
function clock(date) {
  return `${digits(date.getHours())}:${digits(date.getMinutes())}:${digits(date.getSeconds())}`;
}

function time(at) {
  const date = new Date(at);
  return `${clock(date)}.${digits(date.getMilliseconds(), 3)}`;
}

function day(date) {
  return `${date.getFullYear()}-${digits(date.getMonth() + 1)}-${digits(date.getDate())}`;
}

function duration(ms) {
  if (ms < 1) return `${Math.round(ms * 1_000)} µs`;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(2)} s`;
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)} m ${Math.floor((ms % 60_000) / 1_000)} s`;
  return `${Math.floor(ms / 3_600_000)} h ${Math.floor((ms % 3_600_000) / 60_000)} m`;
}

function size(bytes) {
  return bytes < 1_024 ? `${bytes} B` : `${(bytes / 1_024).toFixed(1)} KB`;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** A mark of the connection's own colour: ids that are close in time look alike. */
function dot(connectionId) {
  const mark = element("span", { className: "dot" });
  let hash = 0;
  for (const character of connectionId) hash = (hash * 31 + character.codePointAt(0)) >>> 0;
  mark.style.setProperty("--hue", (hash * 137) % 360);
  return mark;
}

// ---- records

const state = {
  run: "",
  last: 0,
  paused: false,
  records: [],
  byNumber: new Map(),
  characters: 0,
  /** Records of this run that were never here, because more came than can be handed out. */
  missed: 0,
  /** Records that match the filter, shown or not. */
  matching: 0,
  selected: undefined,
  connection: undefined,
  everConnected: false,
};

/** What the record of an invocation says of it, from its event. */
function readEvent(record) {
  const context = parsed(record.payload)?.requestContext;
  if (typeof context?.connectionId === "string") record.connectionId = context.connectionId;
  if (typeof context?.routeKey === "string") record.route = context.routeKey;
}

/** Takes in a record. An answer becomes a part of its invocation, which is returned as changed. */
function keep(record) {
  if (record.kind === "answered") {
    const invoked = state.byNumber.get(record.invoked);
    if (invoked) {
      invoked.answer = record;
      state.characters += record.payload.length;
      return { changed: invoked };
    }
  }
  if (record.kind === "invoked") readEvent(record);
  state.records.push(record);
  state.byNumber.set(record.number, record);
  state.characters += record.payload.length;
  return { added: record };
}

function forgetOldest() {
  let forgotten = 0;
  while (state.records.length - forgotten > RECORDS_MAX || (state.characters > CHARACTERS_MAX && forgotten < state.records.length - 1)) {
    const record = state.records[forgotten++];
    state.byNumber.delete(record.number);
    state.characters -= record.payload.length + (record.answer?.payload.length ?? 0);
    if (record.matches) state.matching -= 1;
    rows.get(record.number)?.remove();
    rows.delete(record.number);
  }
  state.records.splice(0, forgotten);
}

function clear() {
  state.records = [];
  state.byNumber.clear();
  state.characters = 0;
  state.missed = 0;
  select(undefined);
  renderAll();
}

// ---- the filter

const filter = { text: "", groups: new Set(Object.values(GROUPS)) };

function matches(record) {
  if (!filter.groups.has(GROUPS[record.kind])) return false;
  if (state.connection && record.connectionId !== state.connection) return false;
  if (!filter.text) return true;
  const { tag, type, what, status } = summary(record);
  const texts = [type, what, record.payload, record.answer?.payload, record.connectionId, record.requestId, tag, status];
  return texts.some((text) => text?.toLowerCase().includes(filter.text));
}

/** Saves the records that match the filter, one JSON document in each line, an answer with its invocation. */
function save() {
  const records = state.records.filter(({ matches }) => matches);
  const lines = records.map(({ matches, unanswered, ...record }) => `${JSON.stringify(record)}\n`);
  const now = new Date();
  const href = URL.createObjectURL(new Blob(lines, { type: "application/x-ndjson" }));
  element("a", { href, download: `inspector-${day(now)}T${clock(now).replaceAll(":", "-")}.jsonl` }).click();
  // The browser has begun to read it by then.
  setTimeout(() => URL.revokeObjectURL(href), RETRY_MS);
}

function setConnection(connectionId) {
  state.connection = connectionId;
  $("only").hidden = !connectionId;
  $("only").textContent = `Only ${connectionId} ×`;
  $("composer").hidden = !connectionId;
  $("composer-connection").textContent = connectionId ?? "";
  $("outcome").textContent = "";
  for (const button of $("connections").querySelectorAll("button")) button.setAttribute("aria-pressed", button.dataset.id === connectionId);
  renderAll();
}

function showAll() {
  filter.text = $("filter").value = "";
  for (const box of document.querySelectorAll(".kinds input")) box.checked = true;
  filter.groups = new Set(Object.values(GROUPS));
  setConnection(undefined);
}

// ---- rows

const rows = new Map();

/** What was read of payloads, by their record. */
const readings = new WeakMap();

/** Reads what a message says it is, the rest of it, and whether it is an error: by convention, or of the gateway itself. */
function read(record) {
  const known = readings.get(record);
  if (known) return known;
  const { payload } = record;
  const message = payload.length <= READ_CHARACTERS_MAX ? parsed(payload) : undefined;
  const first = TYPE_FIRST.exec(payload);
  const name = TYPE_MEMBERS.find((member) => typeof message?.[member] === "string");
  // What is cut or too long to be read begins with its type all the same, mostly.
  const type = name === undefined && message === undefined && first ? parsed(first[2]) : message?.[name];
  const rest = first && parsed(first[2]) === type ? `{${payload.slice(first[0].length)}` : payload;
  const isOfGateway = ["message", "connectionId", "requestId"].every((member) => typeof message?.[member] === "string");
  const reading = { type, rest: rest.slice(0, PREVIEW_CHARACTERS), isError: type === "error" || isOfGateway };
  readings.set(record, reading);
  return reading;
}

/** The status of an answer that is one of HTTP, as those of most functions are. */
function statusOf({ payload }) {
  const status = payload.length <= READ_CHARACTERS_MAX ? parsed(payload)?.statusCode : undefined;
  return Number.isInteger(status) ? status : undefined;
}

/** What a row says of a record, in words. `type` is what a message says it is, and then `what` is the rest. */
function summary(record) {
  switch (record.kind) {
    case "handshake":
      return { tag: "CONNECT", what: [record.uri, record.message].filter(Boolean).join(" · "), status: String(record.status), ms: record.ms, failed: record.status >= 400 };
    case "received": {
      const tag = { text: "→ IN", binary: "→ BINARY", ping: "→ PING", pong: "→ PONG" }[record.frame];
      const { type, rest } = read(record);
      return { tag: record.resent ? "↻ IN" : tag, type, what: rest, bytes: record.bytes };
    }
    case "sent": {
      const { type, rest, isError } = read(record);
      return { tag: "← OUT", type, what: rest, status: isError ? "error" : undefined, bytes: record.bytes, failed: isError };
    }
    case "invoked":
    case "answered": {
      const answer = record.kind === "answered" ? record : record.answer;
      const code = answer && !answer.error ? statusOf(answer) : undefined;
      const failed = Boolean(answer?.error) || code >= 400;
      const ended = code >= 400 ? String(code) : answer?.error ? "error" : "ok";
      const status = answer ? ended : record.unanswered ? "?" : "running";
      const what = [record.function, record.route, answer?.error].filter(Boolean).join(" · ");
      return { tag: "INVOKE", what, status, ms: answer?.ms, bytes: record.bytes, failed, running: status === "running" };
    }
    case "management":
      return { tag: record.method, what: [`@connections/${record.connectionId}`, record.error].filter(Boolean).join(" · "), status: String(record.status), ms: record.ms, failed: record.status >= 400 };
    case "closed":
      return { tag: "CLOSE", what: record.reason || CLOSE_CODES[record.code] || "", status: String(record.code), ms: record.ms, failed: ![1000, 1001, 1005].includes(record.code) };
  }
}

function fillRow(row, record) {
  const { tag, type, what, status, ms, bytes, failed, running } = summary(record);
  row.className = `row${failed ? " failed" : ""}${running ? " running" : ""}`;
  const connection = element("span", { className: "connection" });
  if (record.connectionId) connection.append(dot(record.connectionId), record.connectionId);
  const mark = element("span", { text: failed ? "⚠ " : "" });
  mark.ariaHidden = "true";
  const says = type === undefined ? [what] : [element("b", { text: type }), " ", element("span", { className: "rest", text: what === "{}" ? "" : what })];
  row.replaceChildren(
    element("span", { className: "time", text: time(record.at) }),
    element("span", { className: "tag" }, mark, tag),
    connection,
    element("span", { className: "what" }, ...says),
    element("span", { className: "status", text: status ?? "" }),
    element("span", { className: "took", text: ms === undefined ? "" : duration(ms) }),
    element("span", { className: "size", text: bytes === undefined ? "" : size(bytes) }),
  );
}

function makeRow(record) {
  const row = element("div", { id: `record-${record.number}` });
  row.setAttribute("role", "option");
  row.setAttribute("aria-selected", record === state.selected);
  row.dataset.number = record.number;
  row.dataset.kind = record.kind === "answered" ? "invoked" : record.kind;
  fillRow(row, record);
  rows.set(record.number, row);
  return row;
}

const atEnd = () => $("log").scrollHeight - $("log").scrollTop - $("log").clientHeight <= AT_END_PX;

function scrollToEnd() {
  $("log").scrollTop = $("log").scrollHeight;
  $("newest").hidden = true;
}

/** Appends rows, and takes away the first ones beyond the bound. */
function append(records) {
  const following = atEnd();
  $("rows").append(...records.slice(-ROWS_MAX).map(makeRow));
  while ($("rows").children.length > ROWS_MAX) {
    const first = $("rows").firstElementChild;
    rows.delete(Number(first.dataset.number));
    first.remove();
  }
  renderNotes();
  if (following) scrollToEnd();
  else if (records.length) $("newest").hidden = false;
}

function renderAll({ toEnd = true } = {}) {
  rows.clear();
  $("rows").replaceChildren();
  for (const record of state.records) record.matches = matches(record);
  const matching = state.records.filter((record) => record.matches);
  state.matching = matching.length;
  append(matching);
  if (toEnd) scrollToEnd();
  if (state.selected) rows.get(state.selected.number)?.scrollIntoView({ block: "nearest" });
}

function renderNotes() {
  const hidden = state.matching - rows.size;
  const notes = [
    hidden > 0 && `${count(hidden)} earlier ${hidden === 1 ? "record matches and is" : "records match and are"} not shown: narrow the filter to see them.`,
    state.missed > 0 && `${count(state.missed)} ${state.missed === 1 ? "record is" : "records are"} missing: more happened than the page could be told.`,
  ].filter(Boolean);
  $("not-shown").textContent = notes.join(" ");
  $("not-shown").hidden = !notes.length;
  $("save").disabled = state.matching === 0;
  $("empty").hidden = state.records.length > 0;
  $("empty").querySelector("h2").textContent = state.everConnected ? "Nothing since then" : "Nothing has happened yet";
  $("none-match").hidden = !state.records.length || state.matching > 0;
}

function take(batch) {
  if (state.run !== "" && batch.run !== state.run) clear();
  // What happened before the page was opened and is forgotten was not missed by anybody.
  if (state.last > 0 && batch.run === state.run) state.missed += batch.missed;
  state.run = batch.run;
  state.last = batch.last;
  if (batch.missed > 0) {
    for (const record of state.records) if (record.kind === "invoked" && !record.answer) record.unanswered = true;
  }
  const added = [];
  let found = false;
  for (const record of batch.records) {
    const { added: own, changed } = keep(record);
    if (own) added.push(own);
    if (!changed) continue;
    if (rows.has(changed.number)) fillRow(rows.get(changed.number), changed);
    if (changed === state.selected) showDetail(changed);
    // What is looked for may stand in the answer alone.
    found ||= changed.matches === false && matches(changed);
  }
  if (batch.records.length) state.everConnected = true;
  forgetOldest();
  if (found) {
    renderAll({ toEnd: atEnd() });
    return;
  }
  for (const record of added) record.matches = matches(record);
  const matching = added.filter((record) => record.matches && state.byNumber.has(record.number));
  state.matching += matching.length;
  append(matching);
}

// ---- following the emulator

let request = new AbortController();
let resume = () => {};

function showState(name, text) {
  $("state").dataset.state = name;
  $("state").textContent = text;
}

async function failure(response) {
  return parsed(await response.text())?.message ?? `The emulator answered ${response.status}`;
}

async function follow() {
  for (;;) {
    if (state.paused) {
      showState("paused", "Paused");
      await new Promise((resolve) => (resume = resolve));
    }
    request = new AbortController();
    try {
      const response = await fetch(`/inspector/records?run=${state.run}&after=${state.last}`, { signal: request.signal });
      if (!response.ok) throw new Error(await failure(response));
      const batch = await response.json();
      if (state.paused) continue;
      const again = $("state").dataset.state !== "live";
      showState("live", "Live");
      take(batch);
      if (again || batch.records.length) refreshConnections();
      await sleep(document.hidden ? PAUSE_WHILE_HIDDEN_MS : PAUSE_BETWEEN_BATCHES_MS);
    } catch (error) {
      if (state.paused) continue;
      showState("waiting", error instanceof TypeError ? "The emulator does not answer; retrying" : error.message);
      await sleep(RETRY_MS);
    }
  }
}

function togglePause() {
  state.paused = !state.paused;
  $("pause").setAttribute("aria-pressed", state.paused);
  $("pause").textContent = state.paused ? "Resume" : "Pause";
  if (state.paused) request.abort();
  else {
    showState("waiting", "Connecting");
    resume();
  }
}

// ---- connections

const items = new Map();
let refreshing;
let refreshedAt = -Infinity;

/** Asks what is connected, soon but not more often than once a second. */
function refreshConnections() {
  refreshing ??= setTimeout(async () => {
    refreshing = undefined;
    refreshedAt = performance.now();
    try {
      const response = await fetch(`/inspector/connections?search=${encodeURIComponent($("search").value.trim())}`);
      if (response.ok) showConnections(await response.json());
    } catch {
      // The state of the page says already that the emulator is away.
    }
  }, Math.max(0, refreshedAt + CONNECTIONS_EVERY_MS - performance.now()));
}

function item(connection) {
  const known = items.get(connection.connectionId);
  if (known) return known;
  const parts = Object.fromEntries(["id", "counts", "since", "ip", "labels", "agent"].map((name) => [name, element("span", { className: name })]));
  parts.counts.classList.add("end");
  parts.ip.classList.add("end");
  parts.id.classList.add("mono");
  parts.id.append(dot(connection.connectionId), connection.connectionId);
  parts.agent.classList.add("quiet");
  const button = element("button", { type: "button" }, ...Object.values(parts));
  button.dataset.id = connection.connectionId;
  button.setAttribute("aria-pressed", connection.connectionId === state.connection);
  const made = { node: element("li", {}, button), parts };
  items.set(connection.connectionId, made);
  return made;
}

function showConnections({ webSocketUrl, connected, found, connections }) {
  showAddress(webSocketUrl);
  if (connected > 0) state.everConnected = true;
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
    // Only what is out of place moves, so that the focus stays where it is.
    if ($("connections").children[index] !== node) $("connections").insertBefore(node, $("connections").children[index] ?? null);
  });
  if (!connections.length) {
    $("connections").append(element("li", { className: "nobody quiet", text: connected ? "No matching connections" : "No connections" }));
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

/** Does something to a connection, and says below how that went. */
async function act(output, done, method, connectionId, action, text) {
  delete output.dataset.failed;
  output.textContent = "…";
  try {
    const response = await fetch(`/inspector/connections/${encodeURIComponent(connectionId)}${action}`, { method, body: text });
    if (!response.ok) throw new Error(await failure(response));
    output.textContent = `${done} at ${time(Date.now())}`;
  } catch (error) {
    output.dataset.failed = "";
    output.textContent = error instanceof TypeError ? "The emulator does not answer" : error.message;
  }
}

const receive = (output, connectionId, text) => act(output, "Handled as the client's", "POST", connectionId, "/received", text);
const push = (output, connectionId, text) => act(output, "Pushed", "POST", connectionId, "/sent", text);
const close = (output, connectionId) => act(output, "Closed", "DELETE", connectionId, "");

// ---- details

/** JSON laid out with its own spelling of numbers and strings, or `undefined` where the text is none. */
function laidOut(text) {
  if (parsed(text) === undefined) return undefined;
  const tokens = text.match(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s"{}[\],:]+/g);
  const parts = [];
  let depth = 0;
  const line = () => parts.push(["", `\n${"  ".repeat(depth)}`]);
  tokens.forEach((token, index) => {
    if ("{[".includes(token)) {
      parts.push(["", token]);
      depth += 1;
      if (!"}]".includes(tokens[index + 1])) line();
    } else if ("}]".includes(token)) {
      depth -= 1;
      if (!"{[".includes(tokens[index - 1])) line();
      parts.push(["", token]);
    } else if (token === ",") {
      parts.push(["", token]);
      line();
    } else if (token === ":") {
      parts.push(["", ": "]);
    } else if (token.startsWith('"')) {
      parts.push([tokens[index + 1] === ":" ? "key" : "text", token]);
    } else {
      parts.push([/^[tfn]/.test(token) ? "word" : "number", token]);
    }
  });
  return parts;
}

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
  // There is no clipboard where the page is not trusted: over HTTP from another machine.
  if (navigator.clipboard) section.firstElementChild.append(copy);
  return section;
}

/** A text inside of JSON that is JSON itself, as the body of an event mostly is. */
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
        title: { text: "Message from the client", binary: "Binary message from the client", ping: "Ping from the client", pong: "Pong from the client" }[record.frame],
        facts: [at, bytes, ...(record.resent ? [["Origin", "sent from the inspector"]] : [])],
        payloads: record.bytes ? [payload("Message", record.payload, record.bytes)] : [],
      };
    case "sent":
      return { title: "Message to the client", facts: [at, bytes], payloads: [payload("Message", record.payload, record.bytes)] };
    case "invoked":
    case "answered":
      return {
        title: `Invocation of ${record.function}`,
        facts: [
          at,
          ["Request id", record.requestId],
          ...(record.route ? [["Route", record.route]] : []),
          ["Took", answer ? duration(answer.ms) : record.unanswered ? "not known: the answer was missed" : "still running"],
          ...(answer?.error ? [["Error", answer.error]] : []),
        ],
        payloads: [
          ...(answer ? [payload(answer.error ? "Error" : "Answer", answer.payload, answer.bytes), ...inner("Body of the answer", answer.payload)] : []),
          ...(record.kind === "invoked" ? [...inner("Body of the event", record.payload), payload("Event", record.payload, record.bytes)] : []),
        ],
      };
    case "management":
      return {
        title: `${record.method} @connections: ${record.status}`,
        facts: [at, ["Took", duration(record.ms)], ...(record.error ? [["Error", record.error]] : [])],
        payloads: [],
      };
    case "closed":
      return {
        title: `Closed: ${record.code}`,
        facts: [at, ["Code", `${record.code}${CLOSE_CODES[record.code] ? `, ${CLOSE_CODES[record.code]}` : ""}`], ["Reason", record.reason || "none"], ["Open for", duration(record.ms)]],
        payloads: [],
      };
  }
}

/** Writes a message again, for sending it once more as it is or changed. */
function edit(record) {
  if (state.connection !== record.connectionId) setConnection(record.connectionId);
  $("message").value = record.payload;
  $("message").focus();
}

function actions(record) {
  const whole = record.bytes <= PAYLOAD_BYTES_MAX && (record.kind === "sent" || record.frame === "text");
  if (!whole) return [];
  const again = element("button", { type: "button", className: "primary", text: record.kind === "sent" ? "Push again" : "Send again" });
  const change = element("button", { type: "button", text: "Edit and send…" });
  const output = element("output", {});
  again.addEventListener("click", () => (record.kind === "sent" ? push : receive)(output, record.connectionId, record.payload));
  change.addEventListener("click", () => edit(record));
  return [again, change, output];
}

function showDetail(record) {
  const { title, facts, payloads } = describe(record);
  $("detail-title").textContent = title;
  $("facts").replaceChildren(...facts.flatMap(([name, value]) => [element("dt", { text: name }), element("dd", { text: value })]));
  if (record.connectionId) {
    const only = element("button", { type: "button", className: "mono", title: "Show only this connection" }, dot(record.connectionId), record.connectionId);
    only.addEventListener("click", () => setConnection(record.connectionId));
    $("facts").append(element("dt", { text: "Connection" }), element("dd", {}, only));
  }
  $("detail-buttons").replaceChildren(...actions(record));
  $("payloads").replaceChildren(...payloads);
  $("detail").hidden = false;
}

function select(record) {
  if (state.selected) rows.get(state.selected.number)?.setAttribute("aria-selected", false);
  state.selected = record;
  if (!record) {
    $("detail").hidden = true;
    $("rows").removeAttribute("aria-activedescendant");
    return;
  }
  const row = rows.get(record.number);
  row?.setAttribute("aria-selected", true);
  $("rows").setAttribute("aria-activedescendant", `record-${record.number}`);
  showDetail(record);
  $("detail-content").scrollTop = 0;
  row?.scrollIntoView({ block: "nearest" });
}

/** Moves the selection by rows, as the keys say. */
function move(event) {
  const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 15, PageUp: -15, Home: -Infinity, End: Infinity };
  const step = steps[event.key];
  const last = $("rows").children.length - 1;
  if (step === undefined || last < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  const row = rows.get(state.selected?.number);
  const from = row ? [...$("rows").children].indexOf(row) : last + 1;
  const to = Math.min(Math.max(from + step, 0), last);
  select(state.byNumber.get(Number($("rows").children[to].dataset.number)));
}

// ---- sizes of the panes

/** Sizes that a person gave, by the name of their custom property. */
let sizes = {};

/** How a separator is moved: the custom property of the pane, along which axis, and to which side the pane grows. */
function sizing(separator) {
  const isDetail = separator.id === "detail-size";
  const isRow = getComputedStyle(separator).cursor === "row-resize";
  const isReversed = getComputedStyle(document.body).direction === "rtl";
  return { property: isRow ? "--detail-height" : `--${separator.id}`, isRow, growsBack: isRow || isDetail !== isReversed };
}

/** Gives a pane a size in pixels, within bounds; without one, tells the size that it has. */
function resize(separator, px) {
  const { property, isRow } = sizing(separator);
  const pane = $(separator.getAttribute("aria-controls"));
  const max = Math.round((isRow ? innerHeight : innerWidth) * PANE_SHARE_MAX);
  if (px !== undefined) {
    sizes[property] = Math.round(Math.min(Math.max(px, PANE_PX_MIN), max));
    document.body.style.setProperty(property, `${sizes[property]}px`);
    keepSizes();
  }
  const { width, height } = pane.getBoundingClientRect();
  const values = { orientation: isRow ? "horizontal" : "vertical", valuemin: PANE_PX_MIN, valuemax: max, valuenow: Math.round(isRow ? height : width) };
  for (const [name, value] of Object.entries(values)) separator.setAttribute(`aria-${name}`, value);
}

function keepSizes() {
  try {
    localStorage.setItem(SIZES_KEY, JSON.stringify(sizes));
  } catch {
    // A browser that keeps nothing begins with the usual sizes.
  }
}

function restoreSizes() {
  try {
    sizes = JSON.parse(localStorage.getItem(SIZES_KEY)) ?? {};
  } catch {
    return;
  }
  for (const [property, px] of Object.entries(sizes)) document.body.style.setProperty(property, `${px}px`);
}

/** Lets a pointer and the arrow keys move a separator. */
function listenToSeparator(separator) {
  separator.addEventListener("focus", () => resize(separator));
  separator.addEventListener("keydown", (event) => {
    const { isRow, growsBack } = sizing(separator);
    const forward = isRow ? "ArrowDown" : "ArrowRight";
    const back = isRow ? "ArrowUp" : "ArrowLeft";
    const now = Number(separator.ariaValueNow);
    const step = growsBack ? -RESIZE_STEP_PX : RESIZE_STEP_PX;
    const px = { [forward]: now + step, [back]: now - step, Home: 0, End: Infinity }[event.key];
    if (px === undefined) return;
    event.preventDefault();
    resize(separator, px);
  });
  separator.addEventListener("pointerdown", (event) => {
    const { isRow, growsBack } = sizing(separator);
    const { width, height } = $(separator.getAttribute("aria-controls")).getBoundingClientRect();
    const place = ({ clientX, clientY }) => (isRow ? clientY : clientX) * (growsBack ? -1 : 1);
    const from = place(event);
    const drag = (moved) => resize(separator, (isRow ? height : width) + place(moved) - from);
    separator.setPointerCapture(event.pointerId);
    separator.classList.add("dragged");
    separator.addEventListener("pointermove", drag);
    separator.addEventListener("lostpointercapture", () => {
      separator.classList.remove("dragged");
      separator.removeEventListener("pointermove", drag);
    }, { once: true });
  });
  resize(separator);
}

// ---- start

/** Calls back when typing pauses. */
function onTyped(input, callback) {
  let timer;
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(callback, TYPING_PAUSE_MS);
  });
}

function listen() {
  $("rows").addEventListener("click", (event) => {
    const row = event.target.closest(".row");
    if (row) select(state.byNumber.get(Number(row.dataset.number)));
  });
  $("rows").addEventListener("keydown", move);
  $("log").addEventListener("scroll", () => atEnd() && ($("newest").hidden = true), { passive: true });
  $("newest").addEventListener("click", scrollToEnd);
  $("detail-close").addEventListener("click", () => {
    select(undefined);
    $("rows").focus();
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea");
    if (event.key === "/" && !typing) {
      event.preventDefault();
      $("filter").focus();
    } else if (event.key === "Escape" && !typing && state.selected) {
      $("detail-close").click();
    }
  });
  $("connections").addEventListener("click", (event) => {
    const id = event.target.closest("button")?.dataset.id;
    if (id) setConnection(id === state.connection ? undefined : id);
  });
  $("only").addEventListener("click", () => setConnection(undefined));
  $("show-all").addEventListener("click", showAll);
  $("clear").addEventListener("click", clear);
  $("save").addEventListener("click", save);
  $("pause").addEventListener("click", togglePause);
  for (const separator of document.querySelectorAll(".separator")) listenToSeparator(separator);
  onTyped($("search"), refreshConnections);
  onTyped($("filter"), () => {
    filter.text = $("filter").value.trim().toLowerCase();
    renderAll();
  });
  for (const box of document.querySelectorAll(".kinds input")) {
    box.addEventListener("change", () => {
      filter.groups[box.checked ? "add" : "delete"](box.value);
      renderAll();
    });
  }
  $("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    receive($("outcome"), state.connection, $("message").value);
  });
  $("push").addEventListener("click", () => push($("outcome"), state.connection, $("message").value));
  $("close").addEventListener("click", () => close($("outcome"), state.connection));
  $("message").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("composer").requestSubmit();
  });
}

restoreSizes();
listen();
renderAll();
refreshConnections();
follow();
