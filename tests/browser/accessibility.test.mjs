// The demo page and its toasts for everybody: axe in every state, by keyboard, enlarged, without motion, and from right
// to left. Sources: WCAG 2.2, by the numbers in brackets.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { publish as publishTo, startLocal, stopLocal } from "../local.mjs";
import { SCREENSHOTS, launchBrowser, openPage, toastBoxes, violations } from "./browser.mjs";

const WIDE = { width: 1280, height: 850 };
/** As the narrowest phones, and as 1280 px at 400 % [1.4.10]. */
const NARROW = { width: 320, height: 640 };
/** As 1280 px at 200 % [1.4.4]. */
const TWICE = { width: 640, height: 425 };

let browser;
let local;

before(async () => {
  local = await startLocal();
  browser = await launchBrowser();
});
after(async () => {
  await browser?.close();
  if (local) await stopLocal(local);
});

const publish = (region, title, more = {}) => publishTo(local.address, region, { title, ...more });

/** Opens the page after `prepare`. Its toasts stay. */
async function open(t, { query = "?watch=TW", prepare = () => {}, within = browser, ...options } = {}) {
  const page = await openPage(t, within, { viewport: WIDE, reducedMotion: "reduce", ...options });
  await prepare(page);
  await page.goto(local.address + query);
  await page.locator("#toasts").evaluate((toasts) => toasts.setAttribute("duration", "Infinity"));
  return page;
}

const isOpen = (page) => page.waitForSelector("#state[data-state=open]");

/** Waits until the element has a text. */
const says = (page, id, text) =>
  page.waitForFunction(([id, text]) => document.getElementById(id).textContent.includes(text), [id, text]);

/** A toast with a link, one without, and one for several alerts. */
async function showToasts(page) {
  await page.locator("#toasts").evaluate((toasts) => toasts.setAttribute("per-minute", "2"));
  await publish("NO", "Med lenke", { url: "https://video.example/1" });
  for (const title of ["Uten lenke", "Den nest siste", "Den siste"]) await publish("NO", title);
  const isSmall = await page.evaluate(() => matchMedia("(max-width: 30rem), (max-height: 30rem)").matches);
  await toastBoxes(page, isSmall ? 2 : 3);
}

/** Has the client believe that it is in the middle of a log that is gone, and that WebSockets fail. */
async function remember(page) {
  const key = `viral-alerts ${local.webSocketAddress} true`;
  await page.addInitScript((key) => {
    sessionStorage.setItem(key, JSON.stringify({ SE: { epoch: 1, seq: 8 } }));
    sessionStorage.setItem(`${key} http`, "1");
  }, key);
}

/** Answers requests whose address matches with a status. */
const answer = (address, status, json = {}) => ({
  prepare: (page) => page.route(address, (route) => route.fulfill({ status, json })),
});

/** What the page may show: how it is opened, and what happens then. */
const STATES = {
  "while it loads": [{ prepare: (page) => page.route("**/local.json", () => {}) }, () => {}],
  "that could not start": [
    {
      prepare: async (page) => {
        await answer("**/local.json", 500).prepare(page);
        // The page throws it again, for the console.
        await page.addInitScript(() => addEventListener("unhandledrejection", (event) => event.preventDefault()));
      },
    },
    (page) => says(page, "problem", "could not start"),
  ],
  "without alerts, at the link that skips to them": [
    {},
    async (page) => {
      await page.waitForSelector("#curl", { state: "visible" });
      await page.keyboard.press("Tab");
      assert.equal(await page.evaluate(() => document.activeElement.className), "skip");
    },
  ],
  "whose log cannot be read": [answer("**/alerts?*", 500), (page) => says(page, "why-none", "Could not read")],
  "with alerts, and toasts with the focus in one": [
    { query: "?watch=NO" },
    async (page) => {
      await isOpen(page);
      await showToasts(page);
      await page.keyboard.press("F8");
      await page.hover("#alerts li");
    },
  ],
  "with a loss": [{ query: "?watch=SE", prepare: remember }, (page) => page.waitForSelector(".gap")],
  "that refuses what is typed": [
    { query: "?watch=1" },
    async (page) => {
      await says(page, "problem", "invalid region");
      await page.fill("#region", "../x");
      await page.click("#publish .primary");
      await says(page, "published", "a region has");
      await page.waitForSelector("#cost-lines tbody", { state: "attached" });
      await page.click("#cost summary");
      await page.fill("#cost-minutes", "0");
      await page.waitForSelector("#cost-figure.stale");
    },
  ],
  "without a region and a network": [
    {},
    async (page) => {
      await isOpen(page);
      await page.uncheck("#regions input[value=TW]");
      await says(page, "why-none", "Choose a region");
      await page.context().setOffline(true);
      await page.waitForSelector("#reconnect", { state: "visible" });
    },
  ],
  "whose token is refused": [
    {
      prepare: async (page) => {
        await remember(page);
        await page.routeWebSocket(local.webSocketAddress, () => {});
        await answer("**/alerts?*", 401, { error: { code: "unauthorized" } }).prepare(page);
      },
    },
    (page) => says(page, "state-text", "Closed"),
  ],
};

for (const [state, [options, reach]] of Object.entries(STATES))
  test(`axe finds nothing wrong with a page ${state}, in light and in the dark`, async (t) => {
    if (options.query === "?watch=SE") await publish("SE", "Ny logg");
    const page = await open(t, options);
    await reach(page);
    assert.deepEqual(await violations(page), []);
    await page.emulateMedia({ colorScheme: "dark" });
    await page.setViewportSize(NARROW);
    assert.deepEqual(await violations(page), []);
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), NARROW.width);
  });

test("by keyboard everything is reached in its order, in view, and shows that it has the focus", async (t) => {
  await publish("DK", "Tidligere");
  for (const viewport of [WIDE, NARROW]) {
    const page = await open(t, { query: "?watch=DK", viewport });
    await page.waitForSelector("#alerts li");
    await page.waitForSelector("#cost-lines tbody", { state: "attached" });
    // A click would be where Tab begins.
    await page.locator("#cost details").evaluate((details) => (details.open = true));
    await page.locator("#toasts").evaluate((toasts) => {
      const video = { id: "v", title: "Med lenke", url: "https://video.example/1" };
      toasts.show({ type: "viral_alert", region: "NO", timestamp: "", video });
    });
    await page.evaluate(() => {
      const inner = (node) => (node.shadowRoot ? [...node.shadowRoot.querySelectorAll("*")] : [node]);
      const stops = "a[href], button, input, select, summary, [tabindex='0']";
      window.expected = [...document.querySelectorAll("*")]
        .flatMap(inner)
        .filter((node) => node.matches(stops) && node.checkVisibility());
      window.reached = [];
      window.problems = [];
    });
    const length = await page.evaluate(() => expected.length);
    for (let stop = 0; stop < length; stop++) {
      await page.keyboard.press("Tab");
      await page.evaluate(() => {
        const node = document.activeElement.shadowRoot?.activeElement ?? document.activeElement;
        reached.push(node);
        const name = node.id || node.className || node.value || node.textContent.trim();
        const { top, bottom, left, right } = node.getBoundingClientRect();
        if (left < 0 || right > innerWidth + 1) problems.push(`${name} is beside the screen`);
        // The header lies over the top, and toasts over the end.
        const root = node.getRootNode();
        const within = [0.05, 0.5, 0.95];
        const shows = (across, down) => {
          const found = root.elementFromPoint(left + (right - left) * across, top + (bottom - top) * down);
          return found && (node.contains(found) || found.contains(node));
        };
        if (!within.some((across) => within.some((down) => shows(across, down)))) problems.push(`${name} is hidden`);
        // A chip's frame is around its label, and a toast's around the whole toast.
        const framed = [node, node.nextElementSibling, node.closest(".toast")].filter(Boolean);
        const isFrame = ({ outlineWidth, outlineStyle }) => parseFloat(outlineWidth) >= 2 && outlineStyle !== "none";
        if (!framed.some((one) => isFrame(getComputedStyle(one)))) problems.push(`${name} has no frame`);
      });
    }
    assert.deepEqual(await page.evaluate(() => problems), [], `${viewport.width} px`);
    const inOrder = () => reached.map((node) => expected.indexOf(node));
    assert.deepEqual(await page.evaluate(inOrder), Array.from({ length }, (_, index) => index));
  }
});

test("enlarged, the page is no wider than the screen, cuts off no text, and shows whole toasts", async (t) => {
  const large = await launchBrowser("--blink-settings=defaultFontSize=32");
  t.after(() => large.close());
  for (const options of [{ viewport: TWICE }, { viewport: NARROW }, { viewport: WIDE, within: large }]) {
    const page = await open(t, { query: "?watch=NO", ...options });
    await isOpen(page);
    await page.waitForSelector("#cost-lines tbody", { state: "attached" });
    await page.locator("#cost details").evaluate((details) => (details.open = true));
    await showToasts(page);
    const { width, height } = page.viewportSize();
    const cutOff = await page.evaluate(() => {
      const { shadowRoot } = document.querySelector("#toasts");
      return [...document.querySelectorAll("body *:not(.unseen)"), ...shadowRoot.querySelectorAll("*")]
        .filter((node) => getComputedStyle(node).overflowX === "hidden" && node.scrollWidth > node.clientWidth + 1)
        .map((node) => node.id || node.className);
    });
    assert.deepEqual(cutOff, []);
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), width);
    const size = await page.locator(".toast .title").first().evaluate((title) => getComputedStyle(title).fontSize);
    assert.equal(size, options.within ? "32px" : "16px");
    const box = await page.locator(".toast").last().evaluate((toast) => toast.getBoundingClientRect().toJSON());
    assert.ok(box.left >= 0 && box.right <= width && box.top >= 0 && box.bottom <= height, JSON.stringify(box));
  }
});

test("the longest states of the connection are no wider than the narrowest screen", async (t) => {
  const page = await open(t, { viewport: NARROW });
  await isOpen(page);
  const longest = { Disconnected: true, Reconnecting: true, "Connected by polling": false };
  for (const [state, hasButton] of Object.entries(longest)) {
    const show = ([state, hasButton]) => {
      document.getElementById("state-text").textContent = state;
      document.getElementById("countdown").textContent = ", retry in 300 s";
      document.getElementById("reconnect").hidden = !hasButton;
    };
    await page.evaluate(show, [state, hasButton]);
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), NARROW.width, state);
  }
});

test("a toast moves in only where motion is welcome, and nothing else moves", async (t) => {
  const page = await open(t, { query: "?watch=NO" });
  await isOpen(page);
  for (const [reducedMotion, expected] of [
    ["no-preference", ["arrive"]],
    ["reduce", []],
  ]) {
    await page.emulateMedia({ reducedMotion });
    const moving = await page.evaluate(() => {
      const toasts = document.querySelector("#toasts");
      toasts.show({ type: "viral_alert", region: "NO", timestamp: "", video: { id: "v", title: "Nå" } });
      return [document, toasts.shadowRoot].flatMap((root) => root.getAnimations().map((one) => one.animationName));
    });
    assert.deepEqual(moving, expected);
  }
});

/** The boxes of all elements that are shown and of what is in them. Runs in the page. */
function boxes() {
  const { shadowRoot } = document.querySelector("#toasts");
  return [...document.querySelectorAll("body *"), ...shadowRoot.querySelectorAll("*")]
    .filter((node) => !node.closest("svg *, option, .skip, .unseen") && node.checkVisibility())
    .filter((node) => !["inline", "contents"].includes(getComputedStyle(node).display))
    .flatMap((node) => {
      const content = document.createRange();
      content.selectNodeContents(node);
      const name = `${node.tagName} ${node.id || node.className || node.textContent}`;
      // What has a direction of its own, as a title has, keeps it.
      const measured = node.closest("[dir]:not(html)") ? [node] : [node, content];
      return measured.map((one) => ({ name, ...one.getBoundingClientRect().toJSON() }));
    })
    .filter(({ height }) => height);
}

test("a page in Arabic or Hebrew is the mirror image of one in English, with its toasts", async (t) => {
  const page = await open(t, { query: "?watch=AE&watch=IL" });
  await isOpen(page);
  await page.waitForSelector("#cost-lines tbody", { state: "attached" });
  await page.locator("#cost details").evaluate((details) => (details.open = true));
  await page.locator("#toasts").evaluate((toasts) => toasts.setAttribute("per-minute", "2"));
  await publish("AE", "أغنية جديدة", { url: "https://video.example/1" });
  for (const title of ["שיר חדש", "סרטון היום", "חדשות"]) await publish("IL", title);
  await toastBoxes(page, 3);
  // Connections and their counts of messages would change what is measured. The page asks for them one after another,
  // so none is on its way once one has failed.
  const isOut = page.waitForEvent("requestfailed", (request) => request.url().endsWith("/local.json"));
  await page.route("**/local.json", (route) => route.abort());
  await isOut;
  const usual = await page.evaluate(boxes);
  const { width } = page.viewportSize();
  for (const lang of ["ar", "he"]) {
    await page.evaluate((lang) => Object.assign(document.documentElement, { dir: "rtl", lang }), lang);
    const mirrored = await page.evaluate(boxes);
    assert.equal(mirrored.length, usual.length);
    const wrong = usual.filter(({ left, right, top, bottom }, index) => {
      const other = mirrored[index];
      const across = [left + other.right - width, right + other.left - width];
      return [...across, top - other.top, bottom - other.bottom].some((distance) => Math.abs(distance) > 1);
    });
    assert.deepEqual(wrong, []);
    await page.screenshot({ path: `${SCREENSHOTS}/page-${lang}.png` });
  }
  assert.deepEqual(await violations(page), []);
});
