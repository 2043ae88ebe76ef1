// The demo page in a real Chromium, against the local mode as a person starts it.
//
// Screenshots are kept in target/screenshots.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { after, before, test } from "node:test";
import { ROOT, startLocal, stopLocal } from "../local.mjs";
import { SCREENSHOTS, launchBrowser } from "./browser.mjs";

const PICTURE = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 9'%3E%3Crect width='16' height='9' fill='%23348'/%3E%3C/svg%3E";

let browser;
let local;
let address;
let webSocketAddress;

before(async () => {
  local = await startLocal();
  ({ address, webSocketAddress } = local);
  browser = await launchBrowser();
});

after(async () => {
  await browser?.close();
  if (local) await stopLocal(local);
});

/** Opens the page on its own, fails on any error of a script, and waits until its subscriptions stand. */
async function open(t, { query = "?watch=PL", ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1200, height: 850 }, ...options });
  const page = await context.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(error.message));
  t.after(async () => {
    await context.close();
    assert.deepEqual(errors, [], "a script of the page failed");
  });
  await page.goto(address + query);
  await page.waitForSelector("#state[data-state=open]");
  return page;
}

async function publish(region, title, more = {}) {
  const body = JSON.stringify({ region, video: { id: "v1", title, thumbnail: PICTURE, score: 97, ...more } });
  const response = await fetch(address, { method: "POST", body });
  const answer = await response.json();
  assert.equal(answer.published, true, JSON.stringify(answer));
}

test("an alert published by HTTP becomes a toast and an entry of the list", async (t) => {
  const page = await open(t);
  await publish("PL", "Zażółć gęślą jaźń");
  await page.waitForSelector(".toast");
  assert.equal(await page.textContent(".toast .what"), "Viral in PL!");
  assert.equal(await page.textContent(".toast .title"), "Zażółć gęślą jaźń");
  assert.equal(await page.getAttribute("#toasts", "aria-live"), "polite");
  assert.equal(await page.getAttribute("#toasts", "role"), "region");
  await page.waitForFunction(() => document.querySelector("#toasts").shadowRoot.querySelector(".toast img")?.naturalWidth > 0);
  const colour = (selector) => page.locator(selector).evaluate((found) => getComputedStyle(found).color);
  assert.equal(await colour(".toast .what"), "rgb(200, 30, 58)");
  assert.match(await page.textContent("#alerts li .what"), /^Poland · score 97 · /);
  await page.screenshot({ path: `${SCREENSHOTS}/toast.png` });
  await page.click(".toast button");
  assert.equal(await page.locator(".toast").count(), 0);
});

test("a toast stays while it has the focus, and goes with Escape", async (t) => {
  const page = await open(t);
  await page.evaluate(() => document.querySelector("#toasts").setAttribute("duration", "300"));
  await publish("PL", "Pierwszy");
  await page.focus(".toast button");
  await publish("PL", "Drugi");
  await page.waitForSelector(".toast >> text=Drugi");
  await page.waitForSelector(".toast >> text=Drugi", { state: "detached" });
  assert.deepEqual(await page.locator(".toast .title").allTextContents(), ["Pierwszy"]);
  await page.keyboard.press("Escape");
  assert.equal(await page.locator(".toast").count(), 0);
});

test("on a page from right to left the toast stands on the left", async (t) => {
  const page = await open(t, { query: "?watch=AE" });
  await page.evaluate(() => (document.documentElement.dir = "rtl"));
  await publish("AE", "أهلا بالعالم");
  await page.waitForSelector(".toast");
  assert.equal(await page.getAttribute(".toast .title", "dir"), "rtl");
  assert.ok((await page.locator(".toast").boundingBox()).x < 50);
  await page.screenshot({ path: `${SCREENSHOTS}/toast-rtl.png` });
});

test("a title with markup is shown as text and runs nothing", async (t) => {
  const page = await open(t);
  const title = `<img src=x onerror="window.hacked = true"><b>bold</b>`;
  await publish("PL", title);
  await page.waitForSelector(".toast");
  assert.equal(await page.textContent(".toast .title"), title);
  assert.equal(await page.textContent("#alerts li .title"), title);
  assert.equal(await page.locator(".title *").count(), 0);
  assert.equal(await page.evaluate(() => window.hacked), undefined);
});

test("direction is set per title and a thumbnail that does not load has a fallback", async (t) => {
  const page = await open(t, { query: "?watch=DE&watch=AE" });
  await publish("DE", "שיר חדש", { thumbnail: `${address}nothing.jpg` });
  await page.waitForFunction(() => document.querySelector("#alerts li div.picture"));
  assert.equal(await page.getAttribute("#alerts li .title", "dir"), "rtl");
  await publish("AE", "Latin letters", { thumbnail: "javascript:alert(1)" });
  await page.waitForFunction(() => document.querySelectorAll("#alerts li").length === 2);
  assert.equal(await page.getAttribute("#alerts li:first-child .title", "dir"), "ltr");
  assert.equal(await page.locator("#alerts li:first-child div.picture").count(), 1);
});

test("the form publishes, regions are chosen by keyboard, and what is connected is shown", async (t) => {
  const page = await open(t);
  await page.waitForFunction(() => document.querySelector("#connections td:nth-child(2)")?.textContent === "PL");
  await page.focus('#regions input[value="SE"]');
  await page.keyboard.press("Space");
  await page.waitForFunction(() => [...document.querySelectorAll("#connections td:nth-child(2)")].some((cell) => cell.textContent === "PL, SE"));
  await page.fill("#region", "SE");
  await page.fill("#title", "Från formuläret");
  await page.press("#title", "Enter");
  await page.waitForSelector(".toast");
  assert.equal(await page.textContent(".toast .title"), "Från formuläret");
  await page.waitForFunction(() => document.querySelector("#published").textContent === "Published as number 1 of SE");
  await page.fill("#region", "../x");
  await page.press("#title", "Enter");
  await page.waitForFunction(() => document.querySelector("#published").textContent.startsWith("a region has"));
});

test("an alert for a region that is not watched shows nothing", async (t) => {
  const page = await open(t);
  const other = await open(t, { query: "?watch=FR" });
  await publish("FR", "Pas pour la Pologne");
  await other.waitForSelector(".toast");
  await publish("PL", "Dla Polski");
  await page.waitForSelector(".toast");
  assert.deepEqual(await page.locator("#alerts .title").allTextContents(), ["Dla Polski"]);
});

test("an alert for a region that nobody watches is shown on every page, and says so", async (t) => {
  const pages = [await open(t), await open(t, { query: "?watch=FR" })];
  await publish("BR", "Para todos");
  for (const page of pages) {
    await page.waitForSelector(".toast");
    assert.deepEqual(await page.locator(".toast .title").allTextContents(), ["Para todos"]);
    assert.match(await page.textContent("#alerts li .what"), /^Brazil · score 97 · .* · to everyone, as nobody watches it$/);
  }
});

test("on a phone, in the dark, nothing is wider than the screen", async (t) => {
  const page = await open(t, { viewport: { width: 360, height: 740 }, colorScheme: "dark", hasTouch: true });
  await publish("PL", "OneVeryLongWordWithoutAnySpaces".repeat(6));
  await page.waitForSelector(".toast");
  const { width, background } = await page.evaluate(() => ({
    width: document.documentElement.scrollWidth,
    background: getComputedStyle(document.body).backgroundColor,
  }));
  assert.equal(width, 360);
  assert.equal(background, "rgb(20, 20, 22)");
  await page.screenshot({ path: `${SCREENSHOTS}/phone-dark.png`, fullPage: true });
});

/** What the command prints, as JSON. */
function costOf(...flags) {
  return JSON.parse(execFileSync(`${ROOT}/target/debug/cost`, [...flags, "--json"], { encoding: "utf8" }));
}

/** Waits until the chart says the total of `bills`, and returns everything that the section shows. */
async function shownCost(page, bills) {
  const dollars = (usd) => new Intl.NumberFormat("en-US", { style: "currency", currency: "USD" }).format(usd);
  const totals = bills.map(({ total }) => dollars(total));
  await page.waitForFunction((total) => document.querySelector("#cost-chart .total")?.textContent === total, totals[0]);
  const shown = await page.evaluate(() => {
    const texts = (selector, within = document) => [...within.querySelectorAll(selector)].map(({ textContent }) => textContent);
    const widths = (elements) => [...elements].map((found) => found.getBoundingClientRect().width);
    return {
      services: texts("#cost-chart .service"),
      totals: texts("#cost-chart .total"),
      bars: widths(document.querySelectorAll("#cost-chart .bar")),
      parts: [...document.querySelectorAll("#cost-chart .bar")].map((bar) => [...bar.children].map(({ dataset }) => dataset.part)),
      segments: [...document.querySelectorAll("#cost-chart .bar")].map((bar) => widths(bar.children)),
      label: document.querySelector("#cost-chart").ariaLabel,
      table: [...document.querySelectorAll("#cost-lines tbody")].map((body) => [...body.rows].map((row) => texts("th, td", row))),
    };
  });
  const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
  assert.deepEqual(shown.services, bills.map(({ service }) => service));
  assert.deepEqual(shown.totals, totals);
  assert.equal(shown.label, `A month costs: ${bills.map(({ service }, index) => `${service} ${totals[index]}`).join(", ")}`);
  assert.deepEqual(
    shown.table,
    bills.map(({ service, total, lines }) => [[service, dollars(total)], ...lines.map(({ what, quantity, usd }) => [what, whole.format(quantity), dollars(usd)])]),
  );
  assert.deepEqual(shown.parts, bills.map(({ lines }) => lines.map(({ part }) => part)));
  // The bars are to each other as the totals, and their segments as the lines, to a pixel.
  const most = bills.reduce((most, { total }) => Math.max(most, total), 0);
  const longest = Math.max(...shown.bars);
  bills.forEach(({ service, total, lines }, bill) => {
    assert.ok(Math.abs(shown.bars[bill] - (longest * total) / most) < 1, `${service}: ${shown.bars[bill]} px`);
    lines.forEach(({ what, usd }, line) => {
      const width = shown.segments[bill][line];
      assert.ok(Math.abs(width - (shown.bars[bill] * usd) / total) < 1, `${service}, ${what}: ${width} px`);
    });
  });
}

test("what a month costs follows the inputs, with the figures of the command", async (t) => {
  const page = await open(t);
  const byDefault = costOf();
  await shownCost(page, byDefault.bills);
  for (const [name, value] of Object.entries(byDefault.usage)) assert.equal(await page.inputValue(`#cost-form [name=${name}]`), String(value));
  assert.deepEqual(await page.locator("#cost-region option").allTextContents(), byDefault.regions);
  const sources = new Set(Object.values(byDefault.prices).map(({ source }) => source));
  assert.deepEqual(await page.locator("#cost-sources a").evaluateAll((links) => links.map((link) => link.getAttribute("href"))), [...sources]);
  assert.match(await page.textContent("#cost-prices"), /^us-east-1, read \d{4}-\d{2} to \d{4}-\d{2},$/);
  assert.equal(await page.textContent("#cost-status"), "");

  await page.getByLabel("Clients").fill("250000");
  await page.getByLabel("Minutes a day").fill("1440");
  await page.getByLabel("Alerts a day to each").fill("3");
  await page.getByLabel("Published a day").fill("60");
  const flags = ["--clients", "250000", "--minutes", "1440", "--alerts", "3", "--published", "60"];
  await shownCost(page, costOf(...flags).bills);
  assert.equal(await page.textContent("#cost-command"), `cargo run -p cost -- ${flags.join(" ")} --region us-east-1`);
  assert.equal(await page.textContent("#cost-status"), await page.locator("#cost-chart").evaluate(({ ariaLabel }) => ariaLabel));

  await page.focus("#cost summary");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#cost-lines", { state: "visible" });
  await page.locator("#cost").screenshot({ path: `${SCREENSHOTS}/cost.png` });
});

test("what cannot be reckoned is said, and the figures of before are faint until it can", async (t) => {
  const page = await open(t);
  await shownCost(page, costOf().bills);
  await page.fill("#cost-minutes", "2000");
  await page.waitForSelector("#cost-problem", { state: "visible" });
  assert.equal(await page.textContent("#cost-problem"), 'minutes is a whole number from 1 to 1440, not "2000"');
  assert.equal(await page.locator("#cost-figure.stale").count(), 1);
  await page.fill("#cost-minutes", "60");
  await page.waitForSelector("#cost-problem", { state: "hidden" });
  await shownCost(page, costOf("--minutes", "60").bills);
  assert.equal(await page.locator("#cost-figure.stale").count(), 0);
});

test("on a phone, in the dark, the cost is no wider than the screen", async (t) => {
  const page = await open(t, { viewport: { width: 360, height: 740 }, colorScheme: "dark", hasTouch: true });
  await shownCost(page, costOf().bills);
  await page.click("#cost summary");
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360);
  await page.locator("#cost").screenshot({ path: `${SCREENSHOTS}/cost-phone-dark.png` });
});

test("after the gateway was gone, the page comes back and watches again", async (t) => {
  const page = await open(t);
  const addresses = [webSocketAddress, address].map((url) => new URL(url).host);
  await stopLocal(local);
  await page.waitForSelector("#state:not([data-state=open])");
  local = await startLocal(["--ws-addr", addresses[0], "--http-addr", addresses[1]]);
  await page.waitForSelector("#state[data-state=open]");
  await page.waitForFunction(() => document.querySelector("#connections td:nth-child(2)")?.textContent === "PL");
  await publish("PL", "Po przerwie");
  await page.waitForSelector(".toast");
  assert.equal(await page.textContent(".toast .title"), "Po przerwie");
});
