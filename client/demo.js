// The demo page: what a site would build around `ViralAlerts`, and a look at what is connected.

import { ViralAlerts } from "./viral-alerts.js";
import { defineViralToast } from "./viral-toast.js";

const REGIONS = ["PL", "NL", "SE", "NO", "AT", "GB", "DE", "CZ", "DK", "FI", "FR", "AE", "IL", "SA", "JP", "KR", "TW", "IN", "US", "ALL"];
const ALERTS_MAX = 100;
const CONNECTIONS_EVERY_MS = 2_000;

const $ = (id) => document.getElementById(id);
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

function list({ region, dir, timestamp, video: { title, thumbnail, score } }) {
  const at = new Date(timestamp).toLocaleTimeString();
  const what = [nameOf(region), score === undefined ? null : `score ${score}`, at].filter(Boolean).join(" · ");
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
}

start().catch((error) => {
  showProblem(`This page could not start: ${error.message}. Is the local mode running?`);
  throw error;
});
