// The demo page: what a site would build around `ViralAlerts`, and a look at what is connected.

import { ViralAlerts } from "./viral-alerts.js";

const REGIONS = ["PL", "NL", "SE", "NO", "AT", "GB", "DE", "CZ", "DK", "FI", "FR", "AE", "IL", "SA", "JP", "KR", "TW", "IN", "US", "ALL"];
const TOAST_MS = 6_000;
const TOASTS_MAX = 4;
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

/** What both wire forms have in common. */
function content(alert) {
  const { id, title, thumbnail, score } = alert.video ?? { id: alert.video_id, ...alert };
  const dir = alert.dir ?? (alert.rtl ? "rtl" : "ltr");
  const at = new Date(alert.timestamp ?? alert.ts * 1_000);
  return { id, title, thumbnail, score, dir, at, region: alert.region };
}

function toast(alert) {
  const { region, title, thumbnail, dir } = content(alert);
  const close = element("button", { type: "button", text: "×", ariaLabel: "Dismiss" });
  const box = element(
    "article",
    { className: "toast" },
    picture(thumbnail),
    element("p", { className: "what", text: `Viral in ${region}!` }),
    close,
    element("p", { className: "title", text: title, dir }),
  );
  let timer;
  const leave = () => (timer = setTimeout(() => box.remove(), TOAST_MS));
  const stay = () => clearTimeout(timer);
  close.addEventListener("click", () => box.remove());
  box.addEventListener("pointerenter", stay);
  box.addEventListener("pointerleave", leave);
  box.addEventListener("focusin", stay);
  box.addEventListener("focusout", leave);
  leave();
  $("toasts").append(box);
  while ($("toasts").children.length > TOASTS_MAX) $("toasts").firstElementChild.remove();
}

function list(alert) {
  const { region, title, thumbnail, score, dir, at } = content(alert);
  const what = [nameOf(region), score === undefined ? null : `score ${score}`, at.toLocaleTimeString()].filter(Boolean).join(" · ");
  const item = element(
    "li",
    { className: "alert" },
    picture(thumbnail),
    element("p", { className: "what", text: what }),
    element("p", { className: "title", text: title, dir }),
  );
  $("alerts").prepend(item);
  while ($("alerts").children.length > ALERTS_MAX) $("alerts").lastElementChild.remove();
  $("no-alerts").hidden = true;
  $("curl").hidden = true;
}

function showState({ state, retryInMs }) {
  const text = {
    connecting: "Connecting",
    open: "Connected",
    waiting: `Connection lost, trying again in ${Math.ceil((retryInMs ?? 0) / 1_000)} s`,
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
    box.checked ? alerts.watch(region) : alerts.unwatch(region);
  });
  $("regions").append(element("label", { title: nameOf(region) }, box, element("span", { text: region })));
  return box;
}

function watchRegions(alerts) {
  for (const region of REGIONS) chip(alerts, region);
  const wanted = new URLSearchParams(location.search).getAll("watch");
  for (const region of wanted.length ? wanted : ["PL"]) {
    chip(alerts, region.toUpperCase()).checked = true;
    alerts.watch(region);
  }
  $("add-region").addEventListener("submit", (event) => {
    event.preventDefault();
    const region = $("other-region").value.trim().toUpperCase();
    chip(alerts, region).checked = true;
    alerts.watch(region);
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
  const alerts = new ViralAlerts(local.webSocketUrl);
  alerts.addEventListener("state", ({ detail }) => showState(detail));
  alerts.addEventListener("alert", ({ detail }) => {
    toast(detail);
    list(detail);
  });
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
