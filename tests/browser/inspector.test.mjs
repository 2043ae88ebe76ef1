// The inspector in a real Chromium, with clients of its own.
//
// Screenshots are kept in target/screenshots.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startLocal, stopLocal } from "../local.mjs";
import { SCREENSHOTS, launchBrowser } from "./browser.mjs";

let browser;
let local;

before(async () => {
  browser = await launchBrowser();
});

after(async () => {
  await browser?.close();
});

/** Starts a local mode where nothing has happened yet, and opens the inspector on it. Fails on any error of a script. */
async function open(t, options = {}) {
  local = await startLocal();
  const context = await browser.newContext({ viewport: { width: 1440, height: 850 }, ...options });
  const page = await context.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(error.message));
  page.on("console", (message) => message.text().includes("Content Security Policy") && errors.push(message.text()));
  t.after(async () => {
    await context.close();
    await stopLocal(local);
    assert.deepEqual(errors, [], "a script of the page failed");
  });
  await page.goto(`${local.address}inspector`);
  await page.waitForSelector("#state[data-state=live]");
  return page;
}

/** A client on a page of its own: it sends, and keeps what it receives and how it ended. */
async function connect(t) {
  const context = await browser.newContext();
  t.after(() => context.close());
  const page = await context.newPage();
  await page.goto(`${local.address}health`);
  await page.evaluate((address) => {
    window.socket = new WebSocket(address);
    window.received = [];
    socket.onmessage = ({ data }) => received.push(data);
    socket.onclose = ({ code }) => (window.closeCode = code);
    return new Promise((resolve, reject) => Object.assign(socket, { onopen: resolve, onerror: reject }));
  }, local.webSocketAddress);
  return {
    send: (text) => page.evaluate((text) => socket.send(text), text),
    receives: (text) => page.waitForFunction((text) => received.some((data) => data.includes(text)), text),
    closed: () => page.waitForFunction(() => window.closeCode).then((code) => code.jsonValue()),
  };
}

const row = (page, kind, text) => page.locator(`#rows .row[data-kind=${kind}]`, { hasText: text });

test("what a client does is shown as it happens, in detail, and by connection", async (t) => {
  const page = await open(t);
  assert.match(await page.textContent("#snippets"), new RegExp(`wscat -c ${local.webSocketAddress}`));
  await page.screenshot({ path: `${SCREENSHOTS}/inspector-empty.png` });

  const client = await connect(t);
  const markup = `{"type":"subscribe_region","region":"PL","<img src=x onerror=hacked=1>":12345678901234567890}`;
  await client.send(markup);
  await client.receives("subscribed");
  await row(page, "sent", "subscribed").waitFor();
  assert.equal(await page.locator("#empty").isVisible(), false);

  await row(page, "received", "subscribe_region").click();
  const shown = await page.textContent("#payloads pre");
  assert.ok(shown.includes(`"<img src=x onerror=hacked=1>": 12345678901234567890`), shown);
  assert.equal(await page.locator("#detail img, #rows img").count(), 0);
  assert.equal(await page.evaluate(() => window.hacked), undefined);

  await row(page, "invoked", "SubscribeFunction · $default").click();
  assert.match(await page.textContent("#facts"), /Request id.{36}Route\$defaultTook\d+/);
  assert.deepEqual(await page.locator("#payloads h3 > span").allTextContents(), ["Answer", "Body of the answer", "Body of the event", "Event"]);
  await page.screenshot({ path: `${SCREENSHOTS}/inspector.png` });

  await (await connect(t)).send("from another one");
  await row(page, "received", "from another one").waitFor();
  await page.waitForFunction(() => document.querySelectorAll("#connections button").length === 2);
  assert.match(await page.locator("#connections button").last().textContent(), /1 in · 1 out.*PL/);
  await page.locator("#connections button").last().click();
  assert.equal(await row(page, "received", "").count(), 1);
  await page.click("#only");
  assert.equal(await row(page, "received", "").count(), 2);

  await page.keyboard.press("/");
  await page.keyboard.type("FROM ANOTHER");
  await page.waitForFunction(() => document.querySelectorAll("#rows .row").length === 2);
  await page.uncheck("input[value=invocation]");
  assert.deepEqual(await page.locator("#rows .row").evaluateAll((rows) => rows.map((row) => row.dataset.kind)), ["received"]);
  await page.uncheck("input[value=frame]");
  await page.click("#show-all");
  await row(page, "sent", "subscribed").waitFor();
});

test("a message is sent as the client, pushed to it, and the connection is closed", async (t) => {
  const page = await open(t);
  const client = await connect(t);
  await client.send(`{"type":"ping","n":1}`);
  await row(page, "received", "ping").click();
  await page.click("text=Send again");
  await page.waitForFunction(() => document.querySelectorAll("#rows .row[data-kind=received]").length === 2);
  assert.match(await row(page, "received", "ping").last().textContent(), /↻ IN/);

  await page.click("text=Edit and send…");
  assert.equal(await page.inputValue("#message"), `{"type":"ping","n":1}`);
  await page.fill("#message", `{"type":"subscribe_region","region":"SE"}`);
  await page.press("#message", "Control+Enter");
  await client.receives(`"region":"SE"`);
  await page.waitForFunction(() => document.querySelector("#outcome").textContent.startsWith("Handled as the client's at"));

  await page.fill("#message", "hello from the inspector");
  await page.click("#push");
  await client.receives("hello from the inspector");
  await row(page, "sent", "hello from the inspector").waitFor();

  await page.click("#close");
  assert.equal(await client.closed(), 1000);
  await row(page, "closed", "Connection Closed Normally").waitFor();
  await row(page, "invoked", "DisconnectFunction").waitFor();
  await page.waitForFunction(() => document.querySelector("#connections .nobody"));
  await page.click("#push");
  await page.waitForFunction(() => document.querySelector("#outcome[data-failed]")?.textContent === "The connection is not open");
});

test("pausing keeps what happens meanwhile for later, and clearing takes away what was shown", async (t) => {
  const page = await open(t);
  const client = await connect(t);
  await client.send("before");
  await row(page, "received", "before").waitFor();
  await page.click("#pause");
  await page.waitForSelector("#state[data-state=paused]");
  await client.send("meanwhile");
  await client.receives("bad_json");
  await page.click("#clear");
  assert.equal(await page.locator("#rows .row").count(), 0);
  await page.click("#pause");
  await row(page, "received", "meanwhile").waitFor();
  assert.equal(await row(page, "received", "before").count(), 0);
});

test("rows are chosen by keyboard, and the details are left with Escape", async (t) => {
  const page = await open(t);
  const client = await connect(t);
  await client.send(`{"type":"ping"}`);
  await row(page, "sent", "pong").waitFor();
  await page.focus("#rows");
  await page.keyboard.press("Home");
  assert.equal(await page.textContent("#detail-title"), "Invocation of ConnectFunction");
  await page.keyboard.press("ArrowDown");
  assert.equal(await page.textContent("#detail-title"), "Handshake: 101");
  const active = await page.getAttribute("#rows", "aria-activedescendant");
  assert.equal(await page.getAttribute(`#${active}`, "aria-selected"), "true");
  await page.keyboard.press("Escape");
  assert.equal(await page.locator("#detail").isVisible(), false);
  assert.equal(await page.evaluate(() => document.activeElement.id), "rows");
});

test("of very many records the newest are shown, and how many are not", async (t) => {
  const page = await open(t);
  const client = await connect(t);
  for (let sent = 0; sent < 12; sent++) {
    for (let batch = 0; batch < 50; batch++) await client.send(`{"type":"ping","n":${sent * 50 + batch}}`);
  }
  await row(page, "received", `"n":599}`).waitFor();
  await page.waitForFunction(() => document.querySelectorAll("#rows .row").length === 500);
  await page.waitForFunction(() => /^\d+ earlier records match and are not shown/.test(document.querySelector("#not-shown").textContent));
});

test("when the local mode starts anew, the page starts anew with it", async (t) => {
  const page = await open(t);
  await (await connect(t)).send("before");
  await row(page, "received", "before").waitFor();
  const addresses = [local.webSocketAddress, local.address].map((url) => new URL(url).host);
  await stopLocal(local);
  await page.waitForSelector("#state[data-state=waiting]");
  local = await startLocal(["--ws-addr", addresses[0], "--http-addr", addresses[1]]);
  await page.waitForSelector("#state[data-state=live]");
  await (await connect(t)).send("after");
  await row(page, "received", "after").waitFor();
  assert.equal(await row(page, "received", "before").count(), 0);
});

test("on a phone, in the dark, nothing is wider than the screen", async (t) => {
  const page = await open(t, { viewport: { width: 360, height: 740 }, colorScheme: "dark", hasTouch: true });
  const client = await connect(t);
  await client.send(JSON.stringify({ type: "OneVeryLongWordWithoutAnySpaces".repeat(20) }));
  await page.waitForSelector("#connections button");
  await page.locator("#connections button").click();
  const width = () => page.evaluate(() => document.documentElement.scrollWidth);
  await row(page, "sent", "error").waitFor();
  assert.equal(await width(), 360);
  await page.screenshot({ path: `${SCREENSHOTS}/inspector-phone-dark.png`, fullPage: true });
  await row(page, "received", "").click();
  assert.equal(await width(), 360);
  await page.screenshot({ path: `${SCREENSHOTS}/inspector-phone-dark-detail.png` });
});
