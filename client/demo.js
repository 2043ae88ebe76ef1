// The demo page: what a site would build around `ViralAlerts`, the open connections, and the cost of a month.

import { ViralAlerts } from "./viral-alerts.js";
import { startRecent } from "./viral-alerts-recent.js";
import { defineViralToast, videoUrl } from "./viral-toast.js";

/** Alerts in the list. More would make every change slow. */
const ALERTS_MAX = 100;
const CONNECTIONS_EVERY_MS = 2_000;
const COUNTDOWN_EVERY_MS = 1_000;

/** Names for the parts of a bill. */
const PARTS = {
  connections: "open connections",
  keepalives: "keepalives",
  messages: "messages",
  functions: "functions",
  tables: "tables",
  operation: "logs, metrics and alarms",
  transfer: "traffic",
  package: "package",
};

const $ = (id) => document.getElementById(id);
const dollars = new Intl.NumberFormat("en-US", { style: "currency", currency: "USD" });
const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const names = new Intl.DisplayNames(["en"], { type: "region" });
const listed = new Intl.ListFormat("en");

/** Returns the English name of a region that is a country, or the region itself. */
function nameOf(region) {
  if (region === "ALL") return "every region";
  try {
    return names.of(region);
  } catch {
    return region;
  }
}

/** Builds an element. Text is set as text, so a publisher's text never becomes markup. */
function element(tag, { text, ...properties } = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  if (text !== undefined) made.textContent = text;
  made.append(...children);
  return made;
}

/** Returns the thumbnail, or a neutral picture if there is none or it fails to load. */
function picture(address) {
  const fallback = () => {
    const box = element("div", { className: "picture", text: "▶" });
    box.setAttribute("aria-hidden", "true");
    return box;
  };
  if (!/^(https?:|data:image\/)/i.test(address ?? "")) return fallback();
  const image = element("img", { className: "picture", alt: "", src: address, referrerPolicy: "no-referrer" });
  image.addEventListener("error", () => image.replaceWith(fallback()), { once: true });
  return image;
}

// ---- the list

/**
 * The alerts and gaps of the list, newest first: the time and the list item, and for an alert its `key`, the `alert`,
 * and whether it is `older` than the visit.
 */
const entries = [];
/** The last sequence number in each log that the list follows. */
const published = new Map();
/** Keys of removed alerts. */
const gone = new Set();

const logOf = ({ region, epoch }) => `${region} ${epoch}`;
const keyOf = (alert) => `${logOf(alert)} ${alert.seq}`;

/** Returns the time of day, with the date if it is not today. */
function timeOf(date) {
  const isToday = date.toDateString() === new Date().toDateString();
  return isToday ? date.toLocaleTimeString() : date.toLocaleString([], { dateStyle: "medium", timeStyle: "medium" });
}

function itemOf(alert, older) {
  const { region, dir, everyone, timestamp, video } = alert;
  const what = [
    nameOf(region),
    video.score !== undefined && `score ${video.score}`,
    timeOf(new Date(timestamp)),
    older && "earlier",
    everyone && "sent to everyone: no subscribers",
  ];
  const url = videoUrl(alert);
  const title = url
    ? element("a", { href: url, target: "_blank", rel: "noopener", text: video.title || url })
    : video.title;
  return element(
    "li",
    { className: "alert" },
    picture(video.thumbnail),
    element("p", { className: "what", text: what.filter(Boolean).join(" · ") }),
    element("p", { className: "title", dir: dir ?? "auto" }, title),
  );
}

/** Lists an alert at its time, once. An alert that is listed as older becomes a new one if the client delivers it. */
function list(alert, older = false) {
  const { seq, everyone, timestamp } = alert;
  const key = keyOf(alert);
  if (gone.has(key)) return;
  // A region that is not watched contributes only this alert to the count.
  if (!everyone || published.has(logOf(alert))) know(logOf(alert), seq);
  const known = entries.findIndex((entry) => entry.key === key);
  if (known >= 0) {
    if (older || !entries[known].older) return;
    entries.splice(known, 1)[0].item.remove();
  }
  add({ key, alert, older, at: Date.parse(timestamp), item: itemOf(alert, older) });
}

/** Removes an alert from the list and keeps it out. */
function unlist(removed) {
  gone.add(keyOf(removed));
  know(logOf(removed), removed.seq);
  const index = entries.findIndex(({ key }) => gone.has(key));
  if (index >= 0) entries.splice(index, 1)[0].item.remove();
  showCount();
}

function know(log, seq) {
  published.set(log, Math.max(published.get(log) ?? 0, seq));
}

function add(entry) {
  const before = entries.findIndex(({ at }) => at <= entry.at);
  const index = before < 0 ? entries.length : before;
  $("alerts").insertBefore(entry.item, entries[index]?.item ?? null);
  entries.splice(index, 0, entry);
  for (const { item } of entries.splice(ALERTS_MAX)) item.remove();
  showCount();
}

function showCount() {
  const shown = entries.filter(({ alert }) => alert);
  const others = shown.filter(({ alert }) => !published.has(logOf(alert)));
  const all = [...published.values()].reduce((sum, seq) => sum + seq, others.length) - gone.size;
  // Fewer are all that the logs still have.
  const isPart = shown.length >= ALERTS_MAX && shown.length < all;
  $("alerts-count").textContent = isPart
    ? `newest ${whole.format(shown.length)} of ${whole.format(all)}`
    : shown.length || "";
  showWhyNone();
}

function showGap({ region, from, to }) {
  const gone = "no longer available";
  const lost = {
    log:
      from > 1
        ? `the log was restarted; alerts after #${from - 1} are ${gone}`
        : `the log was restarted; its earlier alerts are ${gone}`,
    one: `alert #${from} is ${gone}`,
    several: `alerts #${from} to #${to} are ${gone}`,
  }[to === null ? "log" : from === to ? "one" : "several"];
  const item = element(
    "li",
    { className: "alert gap" },
    element("p", { className: "what", text: `${nameOf(region)}: ${lost}` }),
  );
  add({ at: Math.max(Date.now(), entries[0]?.at ?? 0), item });
}

// ---- the log

/** Regions whose log has been read, and those whose log is being read. */
const read = new Set();
const reading = new Set();
/** Regions whose log could not be read. */
const failed = new Set();

/** Has the client dispatch the newest alerts in the logs of the watched regions, as older than this visit. */
async function readLogs() {
  const regions = client.watched.filter((region) => !read.has(region) && !reading.has(region));
  for (const region of regions) reading.add(region);
  showWhyNone();
  const readOne = async (region) => {
    try {
      await recent(region, ALERTS_MAX);
      read.add(region);
      failed.delete(region);
    } catch {
      // Read again after reconnecting.
      failed.add(region);
    }
    reading.delete(region);
    showCount();
  };
  await Promise.all(regions.map(readOne));
}

/** The client, once there is one, and what dispatches alerts from before. */
let client;
let recent;

/** Says why the list is empty, if it is. */
function showWhyNone() {
  const watched = client?.watched ?? [];
  const isRead = watched.every((region) => read.has(region) || read.has("ALL"));
  const where = watched.includes("ALL") ? "any region" : listed.format(watched.map(nameOf));
  const isEmpty = client && watched.length > 0 && isRead;
  $("no-alerts").hidden = entries.length > 0;
  $("curl").hidden = !isEmpty;
  if (!client) return;
  if (!watched.length) $("why-none").textContent = "Choose a region to see its alerts.";
  else if (isEmpty)
    $("why-none").textContent = `Nothing yet in ${where}. Publish an alert with the form, or from a terminal:`;
  else
    $("why-none").textContent = watched.some((region) => failed.has(region))
      ? "Could not read the log. The page retries after it reconnects."
      : "Reading the log";
}

// ---- the state of the connection

let countdown;

function showCountdown(retryAt) {
  clearTimeout(countdown);
  const left = Math.ceil((retryAt - performance.now()) / 1_000);
  $("countdown").textContent = left > 0 ? `, retry in ${left} s` : "";
  if (left > 0) countdown = setTimeout(showCountdown, COUNTDOWN_EVERY_MS, retryAt);
}

function showState({ state, retryInMs = 0, transport }) {
  // An attempt after a failure is part of reconnecting: text and button stay.
  const isRetry = state === "connecting" && !$("reconnect").hidden;
  $("state").dataset.state = state;
  $("state-text").textContent = {
    connecting: isRetry ? "Reconnecting" : "Connecting",
    open: transport === "websocket" ? "Connected" : "Connected by polling",
    waiting: "Disconnected",
    offline: "No network",
    paused: "Paused (tab hidden)",
    closed: "Closed",
  }[state];
  showCountdown(performance.now() + retryInMs);
  const hadFocus = document.activeElement === $("reconnect");
  $("reconnect").hidden = !isRetry && state !== "waiting" && state !== "offline";
  if (hadFocus && $("reconnect").hidden) $("alerts").focus({ preventScroll: true });
  if (state !== "open") return;
  // Messages about the missing service are out of date.
  for (const id of ["published", "problem"]) if ($(id).dataset.away) say(id);
  readLogs();
}

/** Shows a text. With `away` it is about the missing service, and goes when the connection is back. */
function say(id, text = "", { away = false } = {}) {
  $(id).textContent = text;
  $(id).dataset.away = away ? "yes" : "";
}

const showProblem = (text, options) => say("problem", text, options);

/** Adds the chip of a region if there is none, and returns its checkbox. */
function chip(region) {
  const known = document.querySelector(`#regions input[value="${CSS.escape(region)}"]`);
  if (known) return known;
  const box = element("input", { type: "checkbox", value: region });
  $("regions").append(element("label", {}, box, element("span", { text: region })));
  return box;
}

/** Watches a region. Shows an error if its name is invalid. */
function watch(region) {
  try {
    client.watch(region);
    readLogs();
  } catch (error) {
    showProblem(error.message);
  }
}

function watchRegions() {
  $("regions").addEventListener("change", ({ target }) => {
    showProblem();
    if (target.checked) watch(target.value);
    else client.unwatch(target.value);
    showWhyNone();
  });
  const wanted = new URLSearchParams(location.search).getAll("watch");
  for (const region of wanted.length ? wanted : ["PL"]) {
    chip(region.toUpperCase()).checked = true;
    watch(region);
  }
  for (const box of document.querySelectorAll("#regions input")) box.parentElement.title = nameOf(box.value);
  $("add-region").addEventListener("submit", (event) => {
    event.preventDefault();
    const region = $("other-region").value.trim().toUpperCase();
    const box = chip(region);
    box.checked = true;
    box.parentElement.title = nameOf(region);
    watch(region);
    event.target.reset();
  });
}

// ---- publishing

/** The lowest score that is published, or `null` if the template sets none. */
let scoreThreshold;
/** Seconds within which the same video is published once in a region, unless its score rises. */
const REPEAT_WINDOW = 3_600;
/** The last answer of publish. */
let answered;

/** Says where the last alert went: to the subscribers of its region, or to everyone. */
function showPublished() {
  if (!answered?.published) return;
  const { id, region, seq } = answered;
  const wentToEveryone = entries.some(({ alert }) => alert?.id === id && alert.everyone);
  say(
    "published",
    `Published as #${seq} of ${nameOf(region)}.` +
      (wentToEveryone ? ` ${region} has no subscribers, so it went to everyone.` : ""),
  );
}

async function publish(event) {
  event.preventDefault();
  const { region, score, title, url, thumbnail } = Object.fromEntries(new FormData(event.target));
  const video = {
    // Whoever publishes the same again means the same video.
    id: url || title,
    title,
    thumbnail,
    score: Number(score),
    ...(url && { url }),
  };
  answered = undefined;
  try {
    const response = await fetch("/publish", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ region, video, repeat_window: REPEAT_WINDOW }),
    });
    answered = await response.json();
    if (answered.error) say("published", answered.error.message);
    else if (answered.published) showPublished();
    else if (answered.reason === "recently_alerted")
      say(
        "published",
        `Not published: #${answered.seq} of ${nameOf(answered.region)} is about this video and less than an hour old.`,
      );
    else
      say(
        "published",
        `Not published: the score ${score} is below the threshold` +
          (scoreThreshold === null ? "." : ` of ${scoreThreshold}.`),
      );
  } catch {
    say("published", "The service did not answer.", { away: true });
  }
}

function showConnections({ connected, connections }) {
  $("connected-count").textContent =
    connected > connections.length ? `${connected}, the first ${connections.length} shown` : connected;
  const row = ({ connectionId, audiences, connectedAt, messagesReceived, messagesSent }) =>
    element(
      "tr",
      {},
      element("td", { text: connectionId }),
      element("td", { text: audiences.join(", ") || "–" }),
      element("td", { text: new Date(connectedAt).toLocaleTimeString() }),
      element("td", { text: `${messagesReceived} / ${messagesSent}` }),
    );
  $("connections").replaceChildren(...connections.map(row));
}

/** Fetches the open connections while the page is visible. */
async function pollConnections() {
  if (!document.hidden) {
    try {
      const response = await fetch("/local.json");
      if (response.ok) showConnections(await response.json());
    } catch {
      // The state of the connection already says that the service is away.
    }
  }
  setTimeout(pollConnections, CONNECTIONS_EVERY_MS);
}

/** Returns the coloured box of a part, for a bar or the legend. */
function swatch(part) {
  const made = element("i");
  made.dataset.part = part;
  return made;
}

function drawBars(bills) {
  const most = Math.max(...bills.map(({ total }) => total));
  const rows = bills.map(({ service, total, lines }) => {
    const bar = element("div", { className: "bar" });
    bar.style.setProperty("--share", total / most);
    for (const { part, what, usd } of lines) {
      const line = swatch(part);
      line.title = `${what}: ${dollars.format(usd)}`;
      line.style.width = `${(100 * usd) / total}%`;
      bar.append(line);
    }
    const measure = element(
      "div",
      { className: "measure" },
      bar,
      element("span", { className: "total", text: dollars.format(total) }),
    );
    return [element("span", { className: "service", text: service }), measure];
  });
  $("cost-chart").replaceChildren(...rows.flat());
  const used = new Set(bills.flatMap(({ lines }) => lines.map(({ part }) => part)));
  const legend = Object.keys(PARTS).filter((part) => used.has(part));
  $("cost-parts").replaceChildren(...legend.map((part) => element("li", {}, swatch(part), PARTS[part])));
}

function listLines(bills) {
  const row = ({ what, quantity, usd }) =>
    element(
      "tr",
      {},
      element("td", { text: what }),
      element("td", { text: whole.format(quantity) }),
      element("td", { text: dollars.format(usd) }),
    );
  const bodies = bills.map(({ service, total, lines }) => {
    const head = element(
      "tr",
      {},
      element("th", { scope: "rowgroup", colSpan: 2, text: service }),
      element("th", { text: dollars.format(total) }),
    );
    return element("tbody", {}, head, ...lines.map(row));
  });
  for (const body of $("cost-lines").querySelectorAll("tbody")) body.remove();
  $("cost-lines").append(...bodies);
}

/** Lists the sources of the prices, and returns the months in which they were read. */
function listSources(prices) {
  const read = new Map(Object.values(prices).map(({ source, read }) => [source, read]));
  const item = ([source, read]) =>
    element("li", {}, element("a", { href: source, rel: "noreferrer", text: source }), `, read ${read}`);
  $("cost-sources").replaceChildren(...[...read].map(item));
  const months = [...read.values()].sort();
  return months[0] === months.at(-1) ? months[0] : `${months[0]} to ${months.at(-1)}`;
}

function showEstimate({ region, usage, bills, prices }) {
  drawBars(bills);
  listLines(bills);
  $("cost-prices").textContent = `${region}, read ${listSources(prices)},`;
  const flags = Object.entries({ ...usage, region }).map(([name, value]) => `--${name} ${value}`);
  $("cost-command").textContent = `cargo run -p cost -- ${flags.join(" ")}`;
  const totals = bills.map(({ service, total }) => `${service} ${dollars.format(total)}`);
  $("cost-chart").ariaLabel = `A month costs: ${totals.join(", ")}`;
}

function showCostProblem(text = "") {
  $("cost-problem").textContent = text;
  $("cost-figure").classList.toggle("stale", Boolean(text));
}

let newestCost = 0;

/** Fetches the cost of a month. Only the answer to the newest request is used. */
async function askCost(query, use) {
  const question = ++newestCost;
  let estimate;
  let problem;
  try {
    const response = await fetch(`/cost?${query}`);
    estimate = await response.json();
    if (!response.ok) problem = estimate.message;
  } catch {
    problem = "The service does not answer";
  }
  if (question !== newestCost) return;
  showCostProblem(problem);
  if (!problem) use(estimate);
}

/** Shows the cost of a month, first for the default use, then for what is typed. */
function startCost() {
  const form = $("cost-form");
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () =>
    askCost(new URLSearchParams(new FormData(form)), (estimate) => {
      showEstimate(estimate);
      $("cost-status").textContent = $("cost-chart").ariaLabel;
    }),
  );
  askCost("", (estimate) => {
    form.elements.region.replaceChildren(...estimate.regions.map((region) => element("option", { text: region })));
    for (const [name, value] of Object.entries({ ...estimate.usage, region: estimate.region }))
      form.elements[name].value = value;
    showEstimate(estimate);
  });
}

async function start() {
  $("curl").textContent = `curl -d '{"region":"PL","video":{"id":"v1","title":"Hello","score":97}}' ${location.origin}`;
  startCost();
  const local = await (await fetch("/local.json")).json();
  scoreThreshold = local.scoreThreshold;
  if (scoreThreshold !== null) $("threshold").textContent = `(${scoreThreshold} or more)`;
  defineViralToast();
  const options = { url: local.webSocketUrl, httpUrl: location.origin };
  client = new ViralAlerts(options);
  recent = startRecent(client, options);
  client.addEventListener("state", ({ detail }) => showState(detail));
  client.addEventListener("subscribed", ({ detail }) => {
    for (const [region, { epoch, seq }] of Object.entries(detail.positions)) {
      if (seq) know(logOf({ region, epoch }), seq);
    }
  });
  client.addEventListener("alert", ({ detail }) => {
    if (!detail.recent) $("toasts").show(detail);
    list(detail, detail.recent);
    if (detail.id === answered?.id) showPublished();
  });
  client.addEventListener("removed", ({ detail }) => {
    $("toasts").drop(detail);
    unlist(detail);
  });
  client.addEventListener("gap", ({ detail }) => showGap(detail));
  // Errors with these codes end when the connection is open.
  client.addEventListener("error", ({ detail }) =>
    showProblem(detail.message, { away: ["connect", "http"].includes(detail.code) }),
  );
  $("reconnect").addEventListener("click", () => client.reconnect());
  watchRegions();
  $("publish").addEventListener("submit", publish);
  showConnections(local);
  pollConnections();
}

start().catch((error) => {
  showProblem(`This page could not start: ${error.message}. Is the service running?`);
  throw error;
});
