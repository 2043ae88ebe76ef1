// The inspector in a real Chromium, with clients of its own.
//
// Screenshots are kept in target/screenshots.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { startLocal, stopLocal } from "../local.mjs";
import { SCREENSHOTS, launchBrowser, openPage, violations } from "./browser.mjs";

let browser;
let local;

before(async () => {
  browser = await launchBrowser();
});

after(async () => {
  await browser?.close();
});

/** Starts a local mode where nothing has happened yet, and opens the inspector on it. */
async function open(t, options = {}) {
  local = await startLocal();
  const page = await openPage(t, browser, { viewport: { width: 1440, height: 850 }, ...options });
  // A test may start it again.
  t.after(() => stopLocal(local));
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
  assert.equal(await page.getByRole("link", { name: "Start page" }).isVisible(), true);
  await page.screenshot({ path: `${SCREENSHOTS}/inspector-empty.png` });

  const client = await connect(t);
  const markup = `{"type":"subscribe_region","region":"PL","<img src=x onerror=hacked=1>":12345678901234567890}`;
  await client.send(markup);
  await client.receives("subscribed");
  await row(page, "sent", "subscribed").waitFor();
  assert.equal(await page.locator("#empty").isVisible(), false);

  assert.equal(await row(page, "received", "subscribe_region").locator(".what b").textContent(), "subscribe_region");
  await row(page, "received", "subscribe_region").click();
  const shown = await page.textContent("#payloads pre");
  assert.ok(shown.includes(`"<img src=x onerror=hacked=1>": 12345678901234567890`), shown);
  assert.equal(await page.locator("#detail img, #rows img").count(), 0);
  assert.equal(await page.evaluate(() => window.hacked), undefined);

  await row(page, "invoked", "SubscribeFunction · $default").click();
  assert.match(await page.textContent("#facts"), /Request id.{36}Route\$defaultTook\d+/);
  assert.deepEqual(await page.locator("#payloads h3 > span").allTextContents(), [
    "Answer",
    "Body of the answer",
    "Body of the event",
    "Event",
  ]);
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
  assert.deepEqual(await page.locator("#rows .row").evaluateAll((rows) => rows.map((row) => row.dataset.kind)), [
    "received",
  ]);
  await page.uncheck("input[value=frame]");
  await page.click("#show-all");
  await row(page, "sent", "subscribed").waitFor();
});

/**
 * What a person sees of the rows of this kind: the type in bold, the rest, the status, the sign before the kind, and
 * whether it is set apart.
 */
const seen = (page, kind) =>
  page.locator(`#rows .row[data-kind=${kind}]`).evaluateAll((rows) =>
    rows.map((row) => {
      const text = (selector) => row.querySelector(selector)?.textContent;
      const bar = getComputedStyle(row).boxShadow !== "none";
      return {
        type: text(".what b"),
        what: text(".rest") ?? text(".what"),
        status: text(".status"),
        sign: text(".tag span"),
        bar,
      };
    }),
  );

test("an error looks like one, not by colour alone, and a message begins with its type", async (t) => {
  const page = await open(t);
  const client = await connect(t);
  await client.send(`{"type":"ping"}`);
  await client.receives("pong");
  await client.send("not json");
  await client.receives("bad_json");
  await page.waitForSelector("#connections button");
  await page.locator("#connections button").click();
  const pushed = [
    `{"region":"PL","type":"news"}`,
    `{"message":"Internal server error","connectionId":"a=","requestId":"b="}`,
    `{"message":"no error","id":7}`,
    "",
    `{"type":7}`,
  ];
  for (const text of pushed.filter(Boolean)) {
    await page.fill("#message", text);
    await page.click("#push");
    await page.waitForFunction(
      (count) => document.querySelectorAll("#rows .row[data-kind=sent]").length === count,
      3 + pushed.filter(Boolean).indexOf(text),
    );
  }
  const fine = { status: "", sign: "", bar: false };
  const bad = { status: "error", sign: "⚠ ", bar: true };
  const [pong, error, ...own] = await seen(page, "sent");
  assert.deepEqual(pong, { type: "pong", what: "", ...fine });
  assert.equal(error.type, "error");
  assert.match(error.what, /^\{"code":"bad_json",/);
  assert.deepEqual({ ...error, ...bad }, error);
  assert.deepEqual(own, [
    { type: "news", what: pushed[0], ...fine },
    { what: pushed[1], type: undefined, ...bad },
    { what: pushed[2], type: undefined, ...fine },
    { what: pushed[4], type: undefined, ...fine },
  ]);
  assert.deepEqual(await seen(page, "received"), [
    { type: "ping", what: "", ...fine },
    { what: "not json", type: undefined, ...fine },
  ]);

  // An answer with a status of 400, and an invocation that fails.
  await page.click("#only");
  assert.equal((await fetch(local.address, { method: "POST", body: "{}" })).status, 400);
  const address = `${local.variables.AWS_ENDPOINT_URL_LAMBDA}/2015-03-31/functions/DeliverFunction/invocations`;
  assert.equal((await fetch(address, { method: "POST", body: "{}" })).headers.get("x-amz-function-error"), "Unhandled");
  await page.waitForFunction(
    () =>
      [...document.querySelectorAll("#rows .failed .status")].filter(({ textContent }) => /400|error/.test(textContent))
        .length === 4,
  );
  const failed = (await seen(page, "invoked")).filter(({ bar }) => bar);
  assert.deepEqual(
    failed.map(({ status, sign }) => [status, sign]),
    [
      ["400", "⚠ "],
      ["error", "⚠ "],
    ],
  );
  assert.equal(failed[0].what, "PublishFunction · POST /");
  assert.match(failed[1].what, /^DeliverFunction · ./);
});

test("with the details open the text of a row is read, and what matches the filter is saved", async (t) => {
  const page = await open(t, { viewport: { width: 1280, height: 800 } });
  const client = await connect(t);
  for (let number = 1; number <= 3; number++) await client.send(`{"type":"ping","number":${number},"text":"żółć\\n"}`);
  await client.send(`{"type":"subscribe_region","region":"PL"}`);
  await row(page, "sent", "subscribed").waitFor();
  await row(page, "sent", "subscribed").click();
  const what = await row(page, "sent", "subscribed").locator(".what").boundingBox();
  assert.ok(what.width > 400, `${what.width} px`);
  const toolbar = await page.locator("#toolbar").boundingBox();
  assert.ok(toolbar.height < 80, `${toolbar.height} px`);

  await page.fill("#filter", "ping");
  await page.uncheck("input[value=invocation]");
  await page.waitForFunction(() => document.querySelectorAll("#rows .row").length === 3);
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("#save")]);
  assert.match(download.suggestedFilename(), /^inspector-\d{4}-\d{2}-\d{2}T\d{2}-\d{2}-\d{2}\.jsonl$/);
  const saved = readFileSync(await download.path(), "utf8");
  assert.ok(saved.endsWith("}\n"));
  const records = saved
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  assert.deepEqual(
    records.map(({ kind, payload }) => [kind, JSON.parse(payload).number]),
    [1, 2, 3].map((number) => ["received", number]),
  );
  assert.deepEqual(Object.keys(records[0]).sort(), [
    "at",
    "bytes",
    "connectionId",
    "frame",
    "kind",
    "number",
    "payload",
    "resent",
  ]);

  await page.check("input[value=invocation]");
  await page.fill("#filter", "SubscribeFunction");
  await row(page, "invoked", "SubscribeFunction").waitFor();
  await page.waitForFunction(() => document.querySelectorAll("#rows .row").length === 1);
  const [another] = await Promise.all([page.waitForEvent("download"), page.click("#save")]);
  const [invoked, ...more] = readFileSync(await another.path(), "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  assert.deepEqual([invoked.function, invoked.answer.kind, more.length], ["SubscribeFunction", "answered", 0]);
  await page.fill("#filter", "nothing of the kind");
  await page.waitForSelector("#save:disabled");
  assert.equal(await page.textContent("#none-match p"), "No matching records");
});

test("panes are resized by keyboard and by pointer, and keep their size", async (t) => {
  const page = await open(t, { viewport: { width: 1280, height: 800 } });
  const client = await connect(t);
  await client.send(`{"type":"ping"}`);
  await row(page, "sent", "pong").click();
  const size = (selector) => page.locator(selector).evaluate((pane) => pane.getBoundingClientRect().toJSON());
  const connections = page.getByRole("separator", { name: "Width of the connections" });
  const details = page.getByRole("separator", { name: "Size of the details" });
  const values = (separator) =>
    separator.evaluate((found) =>
      [found.ariaOrientation, found.ariaValueMin, found.ariaValueMax, found.ariaValueNow].join(" "),
    );

  await connections.focus();
  assert.equal(await values(connections), "vertical 120 896 304");
  await page.keyboard.press("ArrowRight");
  assert.equal((await size("#connections-pane")).width, 320);
  assert.equal(await values(connections), "vertical 120 896 320");
  await page.keyboard.press("Home");
  assert.equal((await size("#connections-pane")).width, 120);

  await details.focus();
  const before = (await size("#detail")).width;
  await page.keyboard.press("ArrowLeft");
  assert.equal((await size("#detail")).width, Math.round(before) + 16);
  const { left, top } = await size("#detail");
  await page.mouse.move(left, top + 200);
  await page.mouse.down();
  await page.mouse.move(left + 60, top + 220, { steps: 3 });
  await page.mouse.up();
  await page.mouse.move(left - 200, top + 220);
  assert.equal((await size("#detail")).width, Math.round(before) + 16 - 60);

  await page.reload();
  await row(page, "sent", "pong").click();
  assert.equal((await size("#connections-pane")).width, 120);
  assert.equal((await size("#detail")).width, Math.round(before) + 16 - 60);

  // Below the records it grows upwards.
  await page.setViewportSize({ width: 1000, height: 800 });
  await details.focus();
  assert.equal(await values(details), "horizontal 120 560 360");
  await page.keyboard.press("ArrowUp");
  assert.equal((await size("#detail")).height, 376);
  await page.click("#detail-close");
  assert.equal(await details.isVisible(), false);
});

test("axe finds nothing wrong, with errors and the details open", async (t) => {
  for (const colorScheme of ["light", "dark"]) {
    const page = await open(t, { colorScheme });
    const client = await connect(t);
    await client.send("not json");
    await row(page, "sent", "bad_json").click();
    await page.waitForSelector("#connections button");
    assert.deepEqual(await violations(page), []);
    await stopLocal(local);
  }
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
  await page.waitForFunction(() => document.querySelector("#outcome").textContent.startsWith("Sent as the client at"));

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
  await page.waitForFunction(
    () => document.querySelector("#outcome[data-failed]")?.textContent === "The connection is not open",
  );
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
  await page.waitForFunction(() =>
    /^\d+ earlier records match and are not shown/.test(document.querySelector("#not-shown").textContent),
  );
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

test("on a phone more than half of the height is for the records, and the details leave some in view", async (t) => {
  const page = await open(t, { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true });
  for (let number = 0; number < 3; number++) await (await connect(t)).send(`{"type":"ping"}`);
  await page.waitForFunction(() => document.querySelectorAll("#connections button").length === 3);
  const box = async (selector) => page.locator(selector).boundingBox();
  const log = await box("#log");
  assert.ok(log.height > 422 && log.y + log.height <= 844, JSON.stringify(log));
  await row(page, "sent", "pong").last().tap();
  const detail = await box("#detail");
  assert.ok(detail.y > log.y + 50 && detail.y + detail.height <= 844, JSON.stringify(detail));
  const handle = await box("#detail-size");
  assert.ok(handle.height >= 24, JSON.stringify(handle));
  await page.tap("#detail-close");
  // Also with the form for messages, nothing is out of reach.
  await page.locator("#connections button").first().tap();
  assert.ok((await box("#log")).height > 350, JSON.stringify(await box("#log")));
  for (const name of ["message", "close", "clear", "save"]) {
    const { x, width } = await box(`#${name}`);
    assert.ok(x >= 12 && x + width <= 378, name);
  }
});
