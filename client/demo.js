// The demo page: what a site would build around `ViralAlerts`, a look at what is connected, and what a month costs.

import { ViralAlerts } from "./viral-alerts.js";
import { defineViralToast } from "./viral-toast.js";

const REGIONS = ["PL", "NL", "SE", "NO", "AT", "GB", "DE", "CZ", "DK", "FI", "FR", "AE", "IL", "SA", "JP", "KR", "TW", "IN", "US", "ALL"];
const ALERTS_MAX = 100;
const CONNECTIONS_EVERY_MS = 2_000;

/** What the lines of a bill are for: words for what the local mode calls them. */
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

/** The English name of a region, where it is a country. */
function nameOf(region) {
  if (region === "ALL") return "every region";
  try {
    return names.of(region);
  } catch {
    return region;
  }
}

/** Builds an element. Text is always set as text, so nothing that a publisher wrote becomes markup. */
function element(tag, { text, ...properties } = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  if (text !== undefined) made.textContent = text;
  made.append(...children);
  return made;
}

/** The thumbnail, or a neutral picture where there is none or it does not load. */
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

function list({ region, dir, everyone, timestamp, video: { title, thumbnail, score } }) {
  const at = new Date(timestamp).toLocaleTimeString();
  const what = [nameOf(region), score === undefined ? null : `score ${score}`, at, everyone && "to everyone, as nobody watches it"].filter(Boolean).join(" · ");
  const item = element(
    "li",
    { className: "alert" },
    picture(thumbnail),
    element("p", { className: "what", text: what }),
    element("p", { className: "title", text: title, dir }),
  );
  addItem(item);
}

function addItem(item) {
  $("alerts").prepend(item);
  while ($("alerts").children.length > ALERTS_MAX) $("alerts").lastElementChild.remove();
  $("no-alerts").hidden = true;
  $("curl").hidden = true;
}

function showGap({ region, from, to }) {
  const lost = to === null ? `from number ${from} on` : from === to ? `number ${from}` : `numbers ${from} to ${to}`;
  addItem(element("li", { className: "alert gap" }, element("p", { className: "what", text: `${nameOf(region)}: ${lost} cannot be had any more` })));
}

function showState({ state, retryInMs, transport }) {
  const text = {
    connecting: "Connecting",
    open: transport === "websocket" ? "Connected" : `Connected by ${transport === "polling" ? "polling" : "event stream"}`,
    waiting: `Connection lost, trying again in ${Math.ceil((retryInMs ?? 0) / 1_000)} s`,
    offline: "No network",
    paused: "Paused while nobody looks",
    closed: "Closed",
  }[state];
  $("state").textContent = text;
  $("state").dataset.state = state;
}

function showProblem(text) {
  $("problem").textContent = text ?? "";
  $("problem").hidden = !text;
}

/** Adds the chip of a region if there is none, and returns its checkbox. */
function chip(alerts, region) {
  const known = document.querySelector(`#regions input[value="${CSS.escape(region)}"]`);
  if (known) return known;
  const box = element("input", { type: "checkbox", value: region });
  box.addEventListener("change", () => {
    showProblem();
    box.checked ? watch(alerts, region) : alerts.unwatch(region);
  });
  $("regions").append(element("label", { title: nameOf(region) }, box, element("span", { text: region })));
  return box;
}

/** Watches a region that somebody typed. */
function watch(alerts, region) {
  try {
    alerts.watch(region);
  } catch (error) {
    showProblem(error.message);
  }
}

function watchRegions(alerts) {
  for (const region of REGIONS) chip(alerts, region);
  const wanted = new URLSearchParams(location.search).getAll("watch");
  for (const region of wanted.length ? wanted : ["PL"]) {
    chip(alerts, region.toUpperCase()).checked = true;
    watch(alerts, region);
  }
  $("add-region").addEventListener("submit", (event) => {
    event.preventDefault();
    const region = $("other-region").value.trim().toUpperCase();
    chip(alerts, region).checked = true;
    watch(alerts, region);
    event.target.reset();
  });
}

async function publish(event) {
  event.preventDefault();
  const { region, score, title, thumbnail } = Object.fromEntries(new FormData(event.target));
  const video = { id: crypto.randomUUID?.() ?? String(Date.now()), title, thumbnail, score: Number(score) };
  const output = $("published");
  try {
    const response = await fetch("/publish", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ region, video }),
    });
    const answer = await response.json();
    if (answer.error) output.textContent = answer.error.message;
    else if (answer.published) output.textContent = `Published as number ${answer.seq} of ${answer.region}`;
    else output.textContent = "Not published: the score is below the threshold";
  } catch {
    output.textContent = "The service did not answer";
  }
}

function showConnections({ connected, connections }) {
  $("connected").hidden = false;
  $("connected-count").textContent = connected > connections.length ? `${connected}, the first ${connections.length} shown` : connected;
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

/** Asks the local mode what is connected, while somebody looks at the page. */
async function pollConnections() {
  if (!document.hidden) {
    try {
      const response = await fetch("/local.json");
      if (response.ok) showConnections(await response.json());
    } catch {
      // The state of the connection says already that the service is away.
    }
  }
  setTimeout(pollConnections, CONNECTIONS_EVERY_MS);
}

/** The coloured place of a part, in a bar or in the legend. */
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
    const measure = element("div", { className: "measure" }, bar, element("span", { className: "total", text: dollars.format(total) }));
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
    const head = element("tr", {}, element("th", { scope: "rowgroup", colSpan: 2, text: service }), element("th", { text: dollars.format(total) }));
    return element("tbody", {}, head, ...lines.map(row));
  });
  for (const body of $("cost-lines").querySelectorAll("tbody")) body.remove();
  $("cost-lines").append(...bodies);
}

/** Where the prices were read, and when: each address once. */
function listSources(prices) {
  const read = new Map(Object.values(prices).map(({ source, read }) => [source, read]));
  const item = ([source, read]) => element("li", {}, element("a", { href: source, rel: "noreferrer", text: source }), `, read ${read}`);
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

function showCostProblem(text) {
  $("cost-problem").textContent = text ?? "";
  $("cost-problem").hidden = !text;
  $("cost-figure").classList.toggle("stale", Boolean(text));
}

let newestCost = 0;

/** Asks what a month costs. Only the answer to the newest question is used. */
async function askCost(query, use) {
  const question = ++newestCost;
  let estimate;
  let problem;
  try {
    const response = await fetch(`/cost?${query}`);
    estimate = await response.json();
    if (!response.ok) problem = estimate.message;
  } catch {
    problem = "The local mode does not answer";
  }
  if (question !== newestCost) return;
  showCostProblem(problem);
  if (!problem) use(estimate);
}

/** Shows what a month costs, first for the use that the local mode reckons with by itself, then for what is typed. */
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
    for (const [name, value] of Object.entries({ ...estimate.usage, region: estimate.region })) form.elements[name].value = value;
    showEstimate(estimate);
    $("cost").hidden = false;
  });
}

async function start() {
  $("curl").textContent = `curl -d '{"region":"PL","video":{"id":"v1","title":"Hello","thumbnail":"","score":97}}' ${location.origin}`;
  const local = await (await fetch("/local.json")).json();
  defineViralToast();
  const alerts = new ViralAlerts({ url: local.webSocketUrl, httpUrl: location.origin });
  alerts.addEventListener("state", ({ detail }) => showState(detail));
  alerts.addEventListener("alert", ({ detail }) => {
    $("toasts").show(detail);
    list(detail);
  });
  alerts.addEventListener("gap", ({ detail }) => showGap(detail));
  alerts.addEventListener("error", ({ detail }) => showProblem(detail.message));
  watchRegions(alerts);
  $("publish").addEventListener("submit", publish);
  showConnections(local);
  pollConnections();
  startCost();
}

start().catch((error) => {
  showProblem(`This page could not start: ${error.message}. Is the local mode running?`);
  throw error;
});
