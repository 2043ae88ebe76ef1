// Bounded waits, screenshots, and pages of Chromium.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";
import { ROOT } from "../local.mjs";

export const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
export const ARGUMENTS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--no-first-run",
];

export const SCREENSHOTS = `${ROOT}/target/screenshots`;

/** Bound of every wait, in milliseconds: an attempt to connect that hangs, and the pause before the next one. */
const WAIT_MAX = 60_000;
/** Interval at which a condition is checked, in milliseconds. */
const LOOK_EVERY = 25;

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Waits until `condition` holds. If it never does, the error has what `otherwise` returns. */
export async function until(condition, otherwise) {
  for (const end = Date.now() + WAIT_MAX; Date.now() < end;) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY));
  }
  throw new Error(`waited ${WAIT_MAX} ms in vain: ${await otherwise()}`);
}

export function launchBrowser(...more) {
  mkdirSync(SCREENSHOTS, { recursive: true });
  return chromium.launch({ executablePath: CHROMIUM, args: [...ARGUMENTS, ...more] });
}

/**
 * Opens a page in a profile of its own. The test fails on any error of a script, and on anything that the page's
 * Content-Security-Policy forbids.
 */
export async function openPage(t, browser, options) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  const errors = [];
  page.on("pageerror", ({ message }) => errors.push(message));
  page.on("console", (message) => {
    if (/Content Security Policy|Trusted/.test(message.text())) errors.push(message.text());
  });
  t.after(async () => {
    await context.close();
    assert.deepEqual(errors, [], "a script of the page failed");
  });
  return page;
}

/** Waits until so many toasts are there and none moves any more, and returns what they cover. */
export async function toastBoxes(page, count) {
  await page.waitForFunction((count) => {
    const toasts = [...document.querySelector("#toasts").shadowRoot.querySelectorAll(".toast")];
    return toasts.length === count && toasts.every((toast) => !toast.getAnimations().length);
  }, count);
  return page.locator(".toast").evaluateAll((toasts) => toasts.map((toast) => toast.getBoundingClientRect().toJSON()));
}

/** Returns what axe finds wrong, and where. */
export async function violations(page) {
  if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(AXE);
  const found = await page.evaluate(() => axe.run({ resultTypes: ["violations"] }));
  return found.violations.map(({ id, nodes }) => {
    const places = nodes.map(({ target, failureSummary }) => `${target.join(" ")} ${failureSummary}`);
    return `${id}: ${places}`;
  });
}
