// What all browsers have in common: bounded waits, and where their screenshots go; and Chromium.

import { mkdirSync } from "node:fs";
import { chromium } from "playwright-core";
import { ROOT } from "../local.mjs";

export const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
export const ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"];

export const SCREENSHOTS = `${ROOT}/target/screenshots`;

/** Bound of every wait, in milliseconds. */
const WAIT_MAX = 20_000;
/** Pause between two looks at a condition, in milliseconds. */
const LOOK_EVERY = 25;

/** Waits until `condition` holds, and says what else `otherwise` finds if it never does. */
export async function until(condition, otherwise) {
  for (const end = Date.now() + WAIT_MAX; Date.now() < end; ) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY));
  }
  throw new Error(`waited ${WAIT_MAX} ms in vain: ${await otherwise()}`);
}

export function launchBrowser() {
  mkdirSync(SCREENSHOTS, { recursive: true });
  return chromium.launch({ executablePath: CHROMIUM, args: ARGUMENTS });
}
