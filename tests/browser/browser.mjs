// Chromium, and where its screenshots go.

import { mkdirSync } from "node:fs";
import { chromium } from "playwright-core";
import { ROOT } from "../local.mjs";

export const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
export const ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"];

export const SCREENSHOTS = `${ROOT}/target/screenshots`;

export function launchBrowser() {
  mkdirSync(SCREENSHOTS, { recursive: true });
  return chromium.launch({ executablePath: CHROMIUM, args: ARGUMENTS });
}
