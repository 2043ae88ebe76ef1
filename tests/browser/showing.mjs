// What every example of a page has to do.

import assert from "node:assert/strict";
import { publish } from "../local.mjs";
import { openPage } from "./browser.mjs";
import { hasConnections } from "./site.mjs";

/** Publishes an alert and waits until it is the newest one of the list, and a toast. Returns the answer. */
async function isShown(page, { address }, region, title) {
  const url = `https://example.com/${region}`;
  const answer = await publish(address, region, { title, url });
  await page.waitForFunction((title) => document.querySelector("li")?.textContent === title, title);
  await page.waitForFunction(
    (title) => document.querySelector("viral-toast").shadowRoot?.textContent.includes(title),
    title,
  );
  assert.equal(await page.locator("li a").first().getAttribute("href"), url);
  return answer;
}

/**
 * The page at `address` shows a region, then another one, takes back what the publisher takes back, and returns to the
 * first region, all over one connection.
 */
export async function showsAlerts(t, browser, local, address) {
  const page = await openPage(t, browser);
  let sockets = 0;
  page.on("websocket", () => sockets++);
  await page.goto(address);
  await page.waitForFunction(() => document.querySelector("[role=status]")?.textContent === "open");
  await hasConnections({ local }, "PL");
  await isShown(page, local, "PL", "Zażółć");
  await page.selectOption("select", "DE");
  await hasConnections({ local }, "DE");
  const { region, seq } = await isShown(page, local, "DE", "Grüße");
  await fetch(`${local.address}alerts/${region}/${seq}`, { method: "DELETE" });
  await page.waitForFunction(() => [...document.querySelectorAll("li")].every((li) => li.textContent !== "Grüße"));
  await page.waitForFunction(() => !document.querySelector("viral-toast").shadowRoot.textContent.includes("Grüße"));
  await page.selectOption("select", "PL");
  await hasConnections({ local }, "PL");
  await isShown(page, local, "PL", "Żółw");
  assert.deepEqual((await page.locator("li").allTextContents()).slice(0, 2), ["Żółw", "Zażółć"]);
  // Neither another region nor React's strict mode makes another connection.
  assert.equal(sockets, 1);
}
