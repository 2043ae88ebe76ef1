// The demo page in a real Chromium, against the local mode as a person starts it.
//
// Screenshots are kept in target/screenshots.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { after, before, test } from "node:test";
import { ROOT, publish as publishTo, startLocal, stopLocal } from "../local.mjs";
import { SCREENSHOTS, launchBrowser, openPage, toastBoxes } from "./browser.mjs";

const PICTURE =
  "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 9'%3E" +
  "%3Crect width='16' height='9' fill='%23348'/%3E%3C/svg%3E";

/** As long as titles may be on the large video sites. */
const LONG_TITLE =
  "Zażółć gęślą jaźń: the clip that everybody shares today, from Gdańsk to Zakopane, " +
  `and nobody knows who made it or why it is so good. ${"!".repeat(7)}`;

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

/** Opens the page after `prepare`, and waits until it is subscribed. */
async function open(t, { query = "?watch=PL", prepare = () => {}, ...options } = {}) {
  const page = await openPage(t, browser, { viewport: { width: 1200, height: 850 }, ...options });
  await prepare(page);
  await page.goto(address + query);
  await page.waitForSelector("#state[data-state=open]");
  return page;
}

async function publish(region, title, more = {}) {
  const answer = await publishTo(address, region, { title, thumbnail: PICTURE, ...more });
  assert.equal(answer.published, true, JSON.stringify(answer));
  return answer;
}

/** Clicks the middle of an element, or what lies over it there. */
async function clickAt(page, selector) {
  const { x, y, width, height } = await page.locator(selector).boundingBox();
  await page.mouse.click(x + width / 2, y + height / 2);
}

test("an alert that is taken back leaves the corner of the page and the list, and others stay", async (t) => {
  const page = await open(t, { query: "?watch=FI" });
  const answers = [];
  for (const title of ["Right", "Wrong headline", "Right too"]) answers.push(await publish("FI", title));
  await page.waitForFunction(() => document.querySelectorAll("#alerts .alert").length === 3);
  await toastBoxes(page, 3);
  const { region, seq } = answers[1];
  const removed = await fetch(`${address}alerts/${region}/${seq}`, { method: "DELETE" });
  assert.equal((await removed.json()).removed, true);
  const titles = (found) => found.map(({ textContent }) => textContent).sort();
  await page.waitForFunction(() => document.querySelectorAll("#alerts .alert").length === 2);
  assert.deepEqual(await page.locator("#alerts .title").evaluateAll(titles), ["Right", "Right too"]);
  assert.equal(await page.textContent("#alerts-count"), "2");
  await toastBoxes(page, 2);
  assert.deepEqual(await page.locator(".toast .title").evaluateAll(titles), ["Right", "Right too"]);
  await page.screenshot({ path: `${SCREENSHOTS}/taken-back.png` });
  await page.reload();
  await page.waitForFunction(() => document.querySelectorAll("#alerts .alert").length === 2);
  assert.equal(await page.textContent("#alerts-count"), "2");
});

test("an alert published by HTTP becomes a toast and an entry of the list", async (t) => {
  const page = await open(t);
  await publish("PL", "Zażółć gęślą jaźń");
  await page.waitForSelector(".toast");
  assert.equal(await page.textContent(".toast .what"), "Viral in PL!");
  assert.equal(await page.textContent(".toast .title"), "Zażółć gęślą jaźń");
  assert.equal(await page.getAttribute("#toasts", "aria-live"), "polite");
  assert.equal(await page.getAttribute("#toasts", "role"), "region");
  await page.waitForFunction(
    () => document.querySelector("#toasts").shadowRoot.querySelector(".toast img")?.naturalWidth > 0,
  );
  const colour = (selector) => page.locator(selector).evaluate((found) => getComputedStyle(found).color);
  assert.equal(await colour(".toast .what"), "rgb(200, 30, 58)");
  assert.match(await page.textContent("#alerts li .what"), /^Poland · score 97 · [\d:]+ [AP]M$/);
  await page.screenshot({ path: `${SCREENSHOTS}/toast.png` });
  await page.click(".toast button");
  assert.equal(await page.locator(".toast").count(), 0);
});

test("no toast closes by itself while the focus is on one, and Escape closes it", async (t) => {
  const page = await open(t);
  await page.evaluate(() => document.querySelector("#toasts").setAttribute("duration", "300"));
  await publish("PL", "Pierwszy");
  await page.focus(".toast button");
  await publish("PL", "Drugi");
  await page.waitForSelector(".toast >> text=Drugi");
  // Longer than both would last.
  await page.evaluate(() => new Promise((resolve) => setTimeout(resolve, 900)));
  assert.deepEqual(await page.locator(".toast .title").allTextContents(), ["Pierwszy", "Drugi"]);
  await page.keyboard.press("Escape");
  assert.deepEqual(await page.locator(".toast .title").allTextContents(), ["Drugi"]);
  await page.evaluate(() => document.activeElement.shadowRoot.activeElement.blur());
  await page.waitForSelector(".toast", { state: "detached" });
});

test("F8 moves focus to the newest toast from wherever it is, and Escape back to there", async (t) => {
  const page = await open(t);
  await publish("PL", "Pierwszy");
  await publish("PL", "Drugi", { url: "https://video.example/2" });
  await toastBoxes(page, 2);
  assert.equal(await page.getAttribute("#toasts", "aria-keyshortcuts"), "F8");
  await page.focus("#title");
  await page.keyboard.press("F8");
  const focused = () =>
    page.evaluate(() => document.activeElement.shadowRoot?.activeElement.textContent ?? document.activeElement.id);
  assert.equal(await focused(), "Drugi");
  await page.keyboard.press("Tab");
  assert.equal(await focused(), "×");
  await page.keyboard.press("Escape");
  assert.deepEqual(await page.locator(".toast .title").allTextContents(), ["Pierwszy"]);
  await page.keyboard.press("Escape");
  assert.equal(await focused(), "title");
});

test("a toast and its entry of the list open the video in a new tab, and nothing but https is a link", async (t) => {
  const page = await open(t, { query: "?watch=AT" });
  await page.context().route("https://video.example/**", (route) => route.fulfill({ body: "the video" }));
  await publish("AT", "Ein Film", { url: "https://video.example/watch?v=1" });
  const link = page.getByRole("region", { name: "New alerts" }).getByRole("link", { name: "Ein Film", exact: true });
  assert.equal(await link.getAttribute("rel"), "noopener");
  // The whole toast is the link.
  const [opened] = await Promise.all([page.context().waitForEvent("page"), clickAt(page, ".toast .picture")]);
  await opened.waitForURL("https://video.example/watch?v=1");
  assert.equal(await opened.evaluate(() => window.opener), null);
  await opened.close();
  await page.waitForSelector(".toast", { state: "detached" });
  const [again] = await Promise.all([page.context().waitForEvent("page"), clickAt(page, "#alerts .what")]);
  await again.waitForURL("https://video.example/watch?v=1");
  await again.close();

  await page.evaluate(() => {
    window.told = [];
    document.querySelector("#toasts").addEventListener("activate", (event) => {
      event.preventDefault();
      told.push(event.detail.video.url);
    });
  });
  await publish("AT", "Noch einer", { url: "https://video.example/2" });
  await page.click(".toast .title");
  await page.waitForSelector(".toast", { state: "detached" });
  assert.deepEqual(await page.evaluate(() => told), ["https://video.example/2"]);
  assert.equal(page.context().pages().length, 1);

  for (const url of ["javascript:alert(1)", "data:text/html,x", "http://video.example/", "/logout"]) {
    await publish("AT", "Kein Film", { url }).catch((error) => assert.match(error.message, /video.url/));
  }
  await page.evaluate(() => {
    const alert = {
      type: "viral_alert",
      region: "AT",
      timestamp: "",
      video: { id: "v", title: "Kein Film", url: "javascript:alert(1)" },
    };
    document.querySelector("#toasts").show(alert);
  });
  await page.waitForSelector(".toast >> text=Kein Film");
  assert.equal(await page.locator(".toast a").count(), 0);
  assert.equal(await page.locator("#alerts li", { hasText: "Kein Film" }).locator("a").count(), 0);
});

test("four long titles leave the page in view, each within three lines, and every button on the screen", async (t) => {
  for (const [name, viewport, count, heightMax] of [
    ["desktop", { width: 1280, height: 800 }, 4, 560],
    ["phone", { width: 390, height: 844 }, 2, 300],
  ]) {
    const page = await open(t, {
      viewport,
      query: "?watch=GB",
      hasTouch: name === "phone",
      isMobile: name === "phone",
    });
    for (let number = 0; number < 4; number++) await publish("GB", LONG_TITLE);
    const boxes = await toastBoxes(page, count);
    assert.ok(boxes[0].top > 0 && boxes.at(-1).bottom < viewport.height, JSON.stringify(boxes));
    assert.ok(boxes.at(-1).bottom - boxes[0].top < heightMax, JSON.stringify(boxes));
    const lines = await page
      .locator(".toast .title")
      .evaluateAll((titles) =>
        titles.map((title) => title.clientHeight / parseFloat(getComputedStyle(title).lineHeight)),
      );
    assert.deepEqual(lines, Array(count).fill(3));
    await page.screenshot({ path: `${SCREENSHOTS}/long-titles-${name}.png` });
  }
});

test("toasts that are higher than the screen scroll, by wheel and by keyboard", async (t) => {
  const page = await open(t, { viewport: { width: 500, height: 220 }, query: "?watch=GB" });
  await page.evaluate(() => document.querySelector("#toasts").setAttribute("duration", "Infinity"));
  for (let number = 0; number < 2; number++) await publish("GB", LONG_TITLE);
  await toastBoxes(page, 2);
  /** Waits until the toasts of these indices, and no others, are within the screen. */
  const shows = (indices) =>
    page.waitForFunction((indices) => {
      const boxes = [...document.querySelector("#toasts").shadowRoot.querySelectorAll(".toast")].map((toast) =>
        toast.getBoundingClientRect(),
      );
      return (
        boxes.length === 2 &&
        boxes.every(({ top, bottom }, index) => (top >= 0 && bottom <= innerHeight) === indices.includes(index))
      );
    }, indices);
  await shows([1]);
  await page.mouse.move(300, 150);
  await page.mouse.wheel(0, -500);
  await shows([0]);
  assert.equal(await page.evaluate(() => scrollY), 0);
  await page.keyboard.press("F8");
  await shows([1]);
});

test("marks that are stacked on a letter cover neither the headline nor what is around the toast", async (t) => {
  const page = await open(t, { query: "?watch=DK", reducedMotion: "reduce" });
  const headlineAndAbove = async (title) => {
    await publish("DK", title);
    const [box] = await toastBoxes(page, 1);
    const what = await page.locator(".toast .what").boundingBox();
    const clip = { x: what.x, y: box.top - 200, width: what.width, height: what.y + what.height - box.top + 200 };
    await page.mouse.move(0, 0);
    const picture = await page.screenshot({ clip });
    await page.click(".toast button");
    return { height: box.height, picture: picture.toString("base64") };
  };
  // What the list shows of both has nothing to do with it.
  await page.evaluate(() => (document.querySelector("main").style.visibility = "hidden"));
  const plain = await headlineAndAbove("e");
  const stacked = await headlineAndAbove(`e${"\u0301\u0302\u0303\u0323".repeat(40)}`);
  assert.deepEqual(stacked, plain);
});

test("the button of a toast has 44 px for fingers, and the toasts keep clear of what a phone covers", async (t) => {
  const page = await open(t, {
    viewport: { width: 390, height: 844 },
    query: "?watch=FI",
    hasTouch: true,
    isMobile: true,
  });
  const session = await page.context().newCDPSession(page);
  await session.send("Emulation.setSafeAreaInsetsOverride", { insets: { bottom: 34, right: 20, left: 20 } });
  await publish("FI", "Yksi");
  const [box] = await toastBoxes(page, 1);
  assert.ok(Math.abs(box.bottom - (844 - 34)) < 1, `${box.bottom} px`);
  assert.deepEqual([box.left, box.right], [20, 370]);
  const button = await page.locator(".toast button").boundingBox();
  assert.ok(button.width >= 44 && button.height >= 44, JSON.stringify(button));
});

test("on a page from right to left the toast stands on the left", async (t) => {
  const page = await open(t, { query: "?watch=AE" });
  await page.evaluate(() => (document.documentElement.dir = "rtl"));
  await publish("AE", "أهلا بالعالم");
  await page.waitForSelector(".toast");
  assert.equal(await page.getAttribute(".toast .title", "dir"), "rtl");
  assert.ok((await page.locator(".toast").boundingBox()).x < 50);
  // Its headline, which is English here, is on the right and ends with its exclamation mark.
  const headline = await page.locator(".toast .what").evaluate((what) => {
    const place = (start, end) => {
      const range = document.createRange();
      range.setStart(what.firstChild, start);
      range.setEnd(what.firstChild, end);
      return range.getBoundingClientRect();
    };
    const all = place(0, what.firstChild.length);
    return { indent: what.getBoundingClientRect().right - all.right, mark: all.right - place(11, 12).right };
  });
  assert.deepEqual(headline, { indent: 0, mark: 0 });
  await page.screenshot({ path: `${SCREENSHOTS}/toast-rtl.png` });
});

test("a title with markup is shown as text and runs nothing", async (t) => {
  const page = await open(t);
  const title = `<img src=x onerror="window.hacked = true"><b>bold</b>`;
  await publish("PL", title);
  await page.waitForSelector(".toast");
  assert.equal(await page.textContent(".toast .title"), title);
  assert.equal(await page.textContent("#alerts li .title"), title);
  assert.equal(await page.locator(".toast .title *, #alerts li:first-child .title *").count(), 0);
  assert.equal(await page.evaluate(() => window.hacked), undefined);
});

test("direction is set per title and a thumbnail that does not load has a fallback", async (t) => {
  const page = await open(t, { query: "?watch=DE&watch=AE" });
  await publish("DE", "שיר חדש", { thumbnail: `${address}nothing.jpg` });
  await page.waitForFunction(() => document.querySelector("#alerts li div.picture"));
  assert.equal(await page.getAttribute("#alerts li .title", "dir"), "rtl");
  await publish("AE", "Latin letters", { thumbnail: "javascript:alert(1)" });
  await page.waitForFunction(
    () => document.querySelector("#alerts li:first-child .title").textContent === "Latin letters",
  );
  assert.equal(await page.getAttribute("#alerts li:first-child .title", "dir"), "ltr");
  assert.equal(await page.locator("#alerts li:first-child div.picture").count(), 1);
});

test("the form publishes, regions are chosen by keyboard, and what is connected is shown", async (t) => {
  const page = await open(t);
  await page.waitForFunction(() => document.querySelector("#connections td:nth-child(2)")?.textContent === "PL");
  await page.focus('#regions input[value="SE"]');
  await page.keyboard.press("Space");
  await page.waitForFunction(() =>
    [...document.querySelectorAll("#connections td:nth-child(2)")].some((cell) => cell.textContent === "PL, SE"),
  );
  await page.fill("#region", "SE");
  await page.fill("#title", "Från formuläret");
  await page.press("#title", "Enter");
  await page.waitForSelector(".toast");
  assert.equal(await page.textContent(".toast .title"), "Från formuläret");
  await page.waitForFunction(() => document.querySelector("#published").textContent === "Published as #1 of Sweden.");
  await page.press("#title", "Enter");
  await page.waitForFunction(
    () =>
      document.querySelector("#published").textContent ===
      "Not published: #1 of Sweden is about this video and less than an hour old.",
  );
  await page.fill("#score", "50");
  await page.press("#title", "Enter");
  await page.waitForFunction(
    () =>
      document.querySelector("#published").textContent === "Not published: the score 50 is below the threshold of 85.",
  );
  assert.equal(await page.textContent("#threshold"), "(85 or more)");
  await page.fill("#region", "../x");
  await page.press("#title", "Enter");
  await page.waitForFunction(() => document.querySelector("#published").textContent.startsWith("a region has"));
});

test("who publishes to a region that nobody watches is told that it went to everyone", async (t) => {
  const page = await open(t);
  await page.fill("#region", "CL");
  await page.click("#publish .primary");
  await page.waitForFunction(
    () =>
      document.querySelector("#published").textContent ===
      "Published as #1 of Chile. CL has no subscribers, so it went to everyone.",
  );
});

test("an alert for a region that is not watched shows nothing", async (t) => {
  const page = await open(t, { query: "?watch=NL" });
  const other = await open(t, { query: "?watch=FR" });
  await publish("FR", "Pas pour les Pays-Bas");
  await other.waitForSelector(".toast");
  await publish("NL", "Voor Nederland");
  await page.waitForSelector(".toast");
  assert.deepEqual(await page.locator("#alerts .title").allTextContents(), ["Voor Nederland"]);
});

test("an alert for a region that nobody watches is shown on every page, and says so", async (t) => {
  const pages = [await open(t), await open(t, { query: "?watch=FR" })];
  await publish("BR", "Para todos");
  for (const page of pages) {
    await page.waitForSelector(".toast");
    assert.deepEqual(await page.locator(".toast .title").allTextContents(), ["Para todos"]);
    assert.match(
      await page.textContent("#alerts li .what"),
      /^Brazil · score 97 · .* · sent to everyone: no subscribers$/,
    );
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
    const texts = (selector, within = document) =>
      [...within.querySelectorAll(selector)].map(({ textContent }) => textContent);
    const widths = (elements) => [...elements].map((found) => found.getBoundingClientRect().width);
    return {
      services: texts("#cost-chart .service"),
      totals: texts("#cost-chart .total"),
      bars: widths(document.querySelectorAll("#cost-chart .bar")),
      parts: [...document.querySelectorAll("#cost-chart .bar")].map((bar) =>
        [...bar.children].map(({ dataset }) => dataset.part),
      ),
      segments: [...document.querySelectorAll("#cost-chart .bar")].map((bar) => widths(bar.children)),
      label: document.querySelector("#cost-chart").ariaLabel,
      table: [...document.querySelectorAll("#cost-lines tbody")].map((body) =>
        [...body.rows].map((row) => texts("th, td", row)),
      ),
    };
  });
  const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
  assert.deepEqual(
    shown.services,
    bills.map(({ service }) => service),
  );
  assert.deepEqual(shown.totals, totals);
  assert.equal(
    shown.label,
    `A month costs: ${bills.map(({ service }, index) => `${service} ${totals[index]}`).join(", ")}`,
  );
  assert.deepEqual(
    shown.table,
    bills.map(({ service, total, lines }) => [
      [service, dollars(total)],
      ...lines.map(({ what, quantity, usd }) => [what, whole.format(quantity), dollars(usd)]),
    ]),
  );
  assert.deepEqual(
    shown.parts,
    bills.map(({ lines }) => lines.map(({ part }) => part)),
  );
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
  for (const [name, value] of Object.entries(byDefault.usage))
    assert.equal(await page.inputValue(`#cost-form [name=${name}]`), String(value));
  assert.deepEqual(await page.locator("#cost-region option").allTextContents(), byDefault.regions);
  const sources = new Set(Object.values(byDefault.prices).map(({ source }) => source));
  assert.deepEqual(
    await page.locator("#cost-sources a").evaluateAll((links) => links.map((link) => link.getAttribute("href"))),
    [...sources],
  );
  assert.match(await page.textContent("#cost-prices"), /^us-east-1, read \d{4}-\d{2} to \d{4}-\d{2},$/);
  assert.equal(await page.textContent("#cost-status"), "");

  await page.getByLabel("Clients").fill("250000");
  await page.getByLabel("Minutes a day").fill("1440");
  await page.getByLabel("Alerts a day to each").fill("3");
  await page.getByLabel("Published a day").fill("60");
  const flags = ["--clients", "250000", "--minutes", "1440", "--alerts", "3", "--published", "60"];
  await shownCost(page, costOf(...flags).bills);
  assert.equal(await page.textContent("#cost-command"), `cargo run -p cost -- ${flags.join(" ")} --region us-east-1`);
  assert.equal(
    await page.textContent("#cost-status"),
    await page.locator("#cost-chart").evaluate(({ ariaLabel }) => ariaLabel),
  );

  await page.focus("#cost summary");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#cost-lines", { state: "visible" });
  await page.locator("#cost").screenshot({ path: `${SCREENSHOTS}/cost.png` });
});

test("what cannot be reckoned is said, and the figures of before are faint until it can", async (t) => {
  const page = await open(t);
  await shownCost(page, costOf().bills);
  await page.fill("#cost-minutes", "2000");
  await page.waitForSelector("#cost-problem:not(:empty)");
  const problem = 'invalid minutes "2000": expected a whole number from 1 to 1440';
  assert.equal(await page.textContent("#cost-problem"), problem);
  assert.equal(await page.locator("#cost-figure.stale").count(), 1);
  await page.fill("#cost-minutes", "60");
  await page.waitForSelector("#cost-problem:empty", { state: "attached" });
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

test("a visitor sees the log as earlier alerts, without toasts, and the list says why it is empty", async (t) => {
  const page = await open(t, { query: "?watch=NO" });
  await page.waitForFunction(
    () =>
      document.querySelector("#why-none").textContent ===
      "Nothing yet in Norway. Publish an alert with the form, or from a terminal:",
  );
  assert.equal(await page.locator("#curl").isVisible(), true);
  assert.equal(await page.textContent("#alerts-count"), "");
  await publish("NO", "Første", { url: "https://video.example/1" });
  await publish("NO", "Andre");
  await page.waitForFunction(() => document.querySelectorAll("#alerts li").length === 2);
  assert.equal(await page.locator("#no-alerts").isVisible(), false);

  const visitor = await open(t, { query: "?watch=NO" });
  await visitor.waitForFunction(() => document.querySelectorAll("#alerts li").length === 2);
  assert.deepEqual(await visitor.locator("#alerts .title").allTextContents(), ["Andre", "Første"]);
  for (const what of await visitor.locator("#alerts .what").allTextContents())
    assert.match(what, /^Norway · score 97 · [\d:]+ [AP]M · earlier$/);
  assert.equal(await visitor.locator("#alerts a").getAttribute("href"), "https://video.example/1");
  assert.equal(await visitor.locator(".toast").count(), 0);
  assert.equal(await visitor.textContent("#alerts-count"), "2");
  await publish("NO", "Tredje");
  await visitor.waitForSelector(".toast");
  assert.deepEqual(await visitor.locator("#alerts .title").allTextContents(), ["Tredje", "Andre", "Første"]);

  // What was published while the page was away is in the log, and comes as a new alert too.
  await visitor.goto("about:blank");
  await publish("NO", "Fjerde");
  await visitor.goto(`${address}?watch=NO`);
  await visitor.waitForSelector(".toast >> text=Fjerde");
  await visitor.waitForFunction(() => document.querySelectorAll("#alerts li").length === 4);
  assert.doesNotMatch(await visitor.textContent("#alerts li:first-child .what"), /earlier/);
  await visitor.uncheck('#regions input[value="NO"]');
  await visitor.check('#regions input[value="KR"]');
  await visitor.waitForSelector("#connections td >> text=KR");
  assert.equal(await visitor.locator("#alerts li").count(), 4);
});

test("a log that cannot be read is not said to be empty", async (t) => {
  let isBroken = true;
  const prepare = (page) =>
    page.route("**/alerts?**", (route) => (isBroken ? route.fulfill({ status: 503, json: {} }) : route.continue()));
  const page = await open(t, { query: "?watch=TW", prepare });
  await page.waitForFunction(
    () =>
      document.querySelector("#why-none").textContent ===
      "Could not read the log. The page retries after it reconnects.",
  );
  assert.equal(await page.locator("#curl").isVisible(), false);
  isBroken = false;
  await page.check('#regions input[value="IL"]');
  await page.waitForFunction(() =>
    document.querySelector("#why-none").textContent.startsWith("Nothing yet in Israel and Taiwan."),
  );
  await page.uncheck('#regions input[value="IL"]');
  await page.uncheck('#regions input[value="TW"]');
  assert.equal(await page.textContent("#why-none"), "Choose a region to see its alerts.");
});

test("300 alerts with long titles fit, and how many of how many are shown", async (t) => {
  const own = await startLocal(["--parameter", "AlertsPerMinute=0"]);
  t.after(() => stopLocal(own));
  const video = { id: "v1", title: LONG_TITLE, score: 97 };
  for (let batch = 0; batch < 12; batch++) {
    const body = JSON.stringify({ publications: Array(25).fill({ region: "PL", video }) });
    assert.equal((await fetch(own.address, { method: "POST", body })).status, 200);
  }
  for (const [name, viewport] of [
    ["desktop", { width: 1280, height: 800 }],
    ["phone", { width: 390, height: 844 }],
  ]) {
    const page = await browser.newPage({ viewport });
    t.after(() => page.close());
    await page.goto(`${own.address}?watch=PL`);
    await page.waitForFunction(() => document.querySelectorAll("#alerts li").length === 100);
    await page.waitForSelector("#cost-chart .total");
    assert.equal(await page.textContent("#alerts-count"), "newest 100 of 300");
    const {
      page: pageHeight,
      width,
      list,
      content,
      cut,
    } = await page.evaluate(() => ({
      page: document.documentElement.scrollHeight,
      width: document.documentElement.scrollWidth,
      list: document.querySelector("#alerts").clientHeight,
      content: document.querySelector("#alerts").scrollHeight,
      cut: [...document.querySelectorAll("#alerts .title")].filter(
        ({ scrollHeight, clientHeight }) => scrollHeight > clientHeight,
      ).length,
    }));
    assert.ok(list > 250 && list < 700 && content > 5_000, `${list} of ${content} px`);
    assert.ok(pageHeight < 2_800, `${pageHeight} px`);
    assert.equal(width, viewport.width);
    assert.equal(cut, 0);
    // By keyboard too.
    await page.focus("#alerts");
    await page.keyboard.press("End");
    await page.waitForFunction(() => document.querySelector("#alerts").scrollTop > 5_000);
    await page.screenshot({ path: `${SCREENSHOTS}/300-alerts-${name}.png` });
  }
});

/** Keeps what shifts the layout, each with its value and what moved. */
const observeShifts = (page) =>
  page.addInitScript(() => {
    window.shifts = [];
    const note = ({ value, sources }) =>
      shifts.push({ value, sources: sources.map(({ node }) => node?.id || node?.className || String(node)) });
    new PerformanceObserver((list) => list.getEntries().forEach(note)).observe({
      type: "layout-shift",
      buffered: true,
    });
  });

/** Waits until what has changed is painted. */
const painted = (page) =>
  page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));

test("toasts that come and go do not shift the layout of the page", async (t) => {
  const page = await open(t, { query: "?watch=US", prepare: observeShifts });
  await page.waitForSelector("#cost-chart .total");
  await painted(page);
  // The list of the page moves when something is added to it.
  await page.evaluate(() => {
    document.querySelector("main").style.visibility = "hidden";
    document.querySelector("#toasts").setAttribute("duration", "Infinity");
    shifts.length = 0;
  });
  for (let count = 1; count <= 4; count++) {
    await publish("US", LONG_TITLE.slice(0, 30 * count));
    await toastBoxes(page, count);
    await painted(page);
  }
  for (const [index, left] of [
    [0, 3],
    [1, 2],
    [1, 1],
  ]) {
    await page
      .locator(".toast button")
      .nth(index)
      .evaluate((button) => button.click());
    await toastBoxes(page, left);
    // Chromium counts it as a shift if toasts above and below another one go in the same frame.
    await painted(page);
  }
  assert.deepEqual(
    await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 100, shifts)))),
    [],
  );
});

test("nothing moves while the page loads, nor the button while alerts are published", async (t) => {
  await publish("JP", "前から");
  for (const viewport of [
    { width: 1280, height: 800 },
    { width: 1280, height: 2_400 },
    { width: 390, height: 844 },
  ]) {
    const page = await open(t, { viewport, query: "?watch=JP&watch=CZ", prepare: observeShifts });
    await page.waitForSelector("#alerts li");
    await page.waitForSelector("#cost-chart .total");
    await page.waitForFunction(() => document.querySelector("#connections td")?.textContent);
    const shifts = await page.evaluate(() => shifts);
    const sum = shifts.reduce((sum, { value }) => sum + value, 0);
    assert.ok(sum < 0.02, `${viewport.width} x ${viewport.height}: ${sum}, ${JSON.stringify(shifts)}`);

    const places = () =>
      page.evaluate(() =>
        ["#publish .primary", ".connected", ".cost"].map((selector) =>
          Math.round(document.querySelector(selector).getBoundingClientRect().top + scrollY),
        ),
      );
    const before = await places();
    await page.fill("#region", "JP");
    for (let number = 1; number <= 12; number++) {
      const answer = await page.textContent("#published");
      await page.fill("#title", `The clip ${number} of ${viewport.width}`);
      await page.click("#publish .primary");
      await page.waitForFunction(
        (answer) => ![answer, ""].includes(document.querySelector("#published").textContent),
        answer,
      );
      assert.deepEqual(await places(), before);
    }
    await page.fill("#region", "../x");
    await page.click("#publish .primary");
    await page.waitForFunction(() => document.querySelector("#published").textContent.startsWith("a region has"));
    assert.deepEqual(await places(), before);
  }
});

/** Has the client believe that it has had alert 8 of a log of Poland. */
const rememberEight = (page, epoch) =>
  page.addInitScript(({ key, epoch }) => sessionStorage.setItem(key, JSON.stringify({ PL: { epoch, seq: 8 } })), {
    key: `viral-alerts ${webSocketAddress} true`,
    epoch,
  });

test("what is lost is named: after a restart of the log, and where the log does not reach back", async (t) => {
  await publish("PL", "Nowy dziennik");
  const restarted = await open(t, { prepare: (page) => rememberEight(page, 1) });
  await restarted.waitForSelector(".gap");
  assert.equal(
    await restarted.textContent(".gap .what"),
    "Poland: the log was restarted; alerts after #8 are no longer available",
  );

  for (const [seq, lost] of [
    [9, "alert #9 is"],
    [12, "alerts #9 to #12 are"],
  ]) {
    const answer = { positions: { PL: { epoch: 1, seq } }, not_recovered: ["PL"], alerts: [] };
    const prepare = async (page) => {
      await rememberEight(page, 1);
      await page.route("**/alerts?**", (route) =>
        route.fulfill({ json: { ...answer, after: `PL.1.${seq.toString(36)}`, more: false, recovered: false } }),
      );
      await page.routeWebSocket(webSocketAddress, (socket) =>
        socket.onMessage(() => socket.send(JSON.stringify({ type: "subscribed", regions: ["PL"], ...answer }))),
      );
    };
    const page = await open(t, { prepare });
    await page.waitForSelector(".gap");
    assert.equal(await page.textContent(".gap .what"), `Poland: ${lost} no longer available`);
  }
});

test("while the gateway is away the state stays in view, counts down and reconnects on request", async (t) => {
  // Pauses are as long as they may be, and those of more than 3 s never end, so that nothing but the button reconnects.
  const prepare = (page) =>
    page.addInitScript(() => {
      const later = setTimeout;
      Math.random = () => 0.999;
      window.setTimeout = (callback, ms, ...values) => later(callback, ms > 3_000 ? 1e9 : ms, ...values);
    });
  const page = await open(t, { prepare });
  const top = await page.evaluate(() => document.querySelector("main").getBoundingClientRect().top);
  const addresses = [webSocketAddress, address].map((url) => new URL(url).host);
  await stopLocal(local);
  await page.waitForSelector("#reconnect", { state: "visible" });
  await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
  /** Waits until as many seconds are left as `min` and `max` say, and returns how many. */
  const left = async (min, max) => {
    const found = await page.waitForFunction(
      ([min, max]) => {
        const seconds = Number(/^, retry in (\d+) s$/.exec(document.querySelector("#countdown").textContent)?.[1]);
        return seconds >= min && seconds <= max && seconds;
      },
      [min, max],
    );
    return found.jsonValue();
  };
  const first = await left(4, 30);
  await left(1, first - 2);
  assert.equal(await page.textContent("#state-text"), "Disconnected");
  const pill = await page.locator("#state").boundingBox();
  assert.ok(pill.y >= 0 && pill.y < 60, JSON.stringify(pill));
  await page.screenshot({ path: `${SCREENSHOTS}/disconnected.png` });
  // As wide as it gets.
  await page.evaluate(() => (document.querySelector("#countdown").textContent = ", retry in 30 s"));
  await page.setViewportSize({ width: 360, height: 740 });
  const right = await page.locator("#reconnect").evaluate((button) => button.getBoundingClientRect().right);
  assert.ok(right <= 360 - 16, `${right} px`);
  await page.setViewportSize({ width: 1200, height: 850 });
  await page.click("#publish .primary");
  await page.waitForFunction(() => document.querySelector("#published").textContent === "The service did not answer.");

  local = await startLocal(["--ws-addr", addresses[0], "--http-addr", addresses[1]]);
  await page.focus("#reconnect");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#state[data-state=open]");
  assert.equal(await page.textContent("#state-text"), "Connected");
  assert.equal(await page.textContent("#countdown"), "");
  assert.equal(await page.locator("#reconnect").isVisible(), false);
  assert.equal(await page.evaluate(() => document.activeElement.id), "alerts");
  await page.waitForFunction(() => document.querySelector("#published").textContent === "");
  await page.evaluate(() => scrollTo(0, 0));
  assert.equal(await page.evaluate(() => document.querySelector("main").getBoundingClientRect().top), top);
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
