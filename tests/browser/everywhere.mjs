// What the client and the demo page have to do in every browser.

import assert from "node:assert/strict";
import { test } from "node:test";
import { publish } from "../local.mjs";
import { startProxy } from "./proxy.mjs";
import { Site, hasTold, isOpen, leaksNothing, sendsItsToken, tellsOfCors } from "./site.mjs";

/** Connections that are cut in a row. */
const CUTS = 10;

/** What a page that loads has to keep of what its Content-Security-Policy forbids. */
const VIOLATIONS = `
  window.violations = [];
  addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI, sample }) =>
    violations.push([violatedDirective, blockedURI, sample]));`;

/** Cuts connections while alerts are published, and waits for each to be told once. */
export async function losesNothing(t, browser) {
  const site = await Site.on(t, browser);
  const proxy = await startProxy(t, site.local);
  const tab = await site.open({ url: proxy.url, reconnectWithinMs: 50 });
  for (let cut = 1; cut <= CUTS; cut++) {
    await site.publish();
    proxy.cut();
    await site.publish();
    await tab.until(`sockets.length > ${cut} && states.at(-1) === "open"`, "[sockets.length, states]");
  }
  await hasTold(tab, 1, 2 * CUTS);
}

/** Registers the tests. `browser` returns the browser, which is launched before them. */
export function testIn(browser) {
  test("two tabs share a connection; when the leading one closes the other takes over", async (t) => {
    const site = await Site.on(t, browser());
    const first = await site.open();
    const second = await site.open();
    await site.publish(2);
    await hasTold(first, 1, 2);
    await hasTold(second, 1, 2);
    assert.deepEqual([await first.evaluate("sockets.length"), await second.evaluate("sockets.length")], [1, 0]);
    await first.close();
    await site.publish(3);
    await second.until(`told.length === 5 && states.at(-1) === "open"`, "[told, states]");
    await site.publish();
    await hasTold(second, 1, 6);
    assert.equal(await second.evaluate("sockets.length"), 1);
  });

  test("a page that is hidden gives up its connection, and goes on from its position when it is shown", async (t) => {
    const site = await Site.on(t, browser());
    const { tab, show } = await site.openBehind({ hiddenMs: 1_500 });
    await tab.until("subscribed.length === 1", "[states, errors]");
    await site.publish();
    await tab.until(`document.hidden && states.at(-1) === "paused"`, "[document.hidden, states]");
    await site.publish(3);
    assert.deepEqual(await tab.evaluate("[told, sockets.length]"), [["PL 1"], 1]);
    await show();
    await isOpen(tab);
    await hasTold(tab, 1, 4);
    assert.equal(await tab.evaluate("sockets.length"), 2);
  });

  test("while connections are cut no alert is lost or repeated", (t) => losesNothing(t, browser()));

  test("a client that is closed in the tick that made it leaves no connection", async (t) => {
    await leaksNothing(await Site.on(t, browser()));
  });

  test("a token goes beside the subprotocol, which is answered", (t) => sendsItsToken(t, browser()));

  test("a page that may not read is told which parameter names its origin", (t) => tellsOfCors(t, browser()));

  test("the demo page shows alerts and toasts, and its policy with Trusted Types forbids nothing of it", async (t) => {
    const site = await Site.on(t, browser());
    const { address } = site.local;
    const tab = await site.openBare(VIOLATIONS, `${address}?watch=AE`);
    await tab.until(`document.querySelector("#state").dataset.state === "open"`);
    const { region, seq } = await publish(address, "AE", { title: "أغنية جديدة", url: "https://video.example/1" });
    await publish(address, "AE", { title: "<b>bold</b>" });
    const toasts = `[...document.querySelector("#toasts").shadowRoot.querySelectorAll(".toast")]`;
    await tab.until(`${toasts}.length === 2`, `document.body.textContent`);
    const [shown] = await tab.evaluate(`${toasts}.map((toast) => {
      const link = toast.querySelector(".title a");
      return {
        title: link?.textContent,
        href: link?.href,
        isRightToLeft: getComputedStyle(toast.querySelector(".title")).direction === "rtl",
        headline: toast.querySelector(".what").textContent,
        colour: getComputedStyle(toast.querySelector(".what")).color,
        isInCorner: innerWidth - toast.getBoundingClientRect().right < 40 && toast.getBoundingClientRect().top > 0,
      };
    })`);
    assert.deepEqual(shown, {
      title: "أغنية جديدة",
      href: "https://video.example/1",
      isRightToLeft: true,
      headline: "Viral in AE!",
      colour: "rgb(200, 30, 58)",
      isInCorner: true,
    });
    const titles = `[...document.querySelectorAll("#alerts .title")].map(({ textContent }) => textContent)`;
    assert.deepEqual(await tab.evaluate(titles), ["<b>bold</b>", "أغنية جديدة"]);
    await fetch(`${address}alerts/${region}/${seq}`, { method: "DELETE" });
    await tab.until(`${toasts}.length === 1 && ${titles}.length === 1`);
    await tab.evaluate(`${toasts}[0].querySelector("button").click()`);
    assert.equal(await tab.evaluate(`${toasts}.length`), 0);
    assert.deepEqual(await tab.evaluate("violations"), []);
    // What it would forbid. A remote script may do anything until it returns.
    await tab.evaluate(`void setTimeout(() => {
      try {
        document.body.insertAdjacentHTML("beforeend", "<b>bold</b>");
      } catch ({ name }) {
        window.refused = name;
      }
    })`);
    await tab.until(`window.refused === "TypeError" && violations.length === 1`, `[typeof trustedTypes, violations]`);
  });
}
