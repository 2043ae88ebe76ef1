// The demo page in a real Chromium, against the local mode as a person starts it.
//
// Screenshots are kept in target/screenshots.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startLocal, stopLocal } from "../local.mjs";
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
