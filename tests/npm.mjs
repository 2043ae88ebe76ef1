// The browser client as npm installs it.

import { execFileSync } from "node:child_process";
import { symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "./local.mjs";

/** Bound of every program that is run, in milliseconds. */
const WAIT_MAX = 60_000;

/**
 * Packs the client, and installs the package in the empty directory of an application, without network. Needs the
 * packages of `client/`.
 */
export function installClient(application) {
  const pack = ["-B", "packaging/build.py", "client", "--out", application];
  const packed = execFileSync("python3", pack, { cwd: ROOT, encoding: "utf8", timeout: WAIT_MAX }).trim();
  writeFileSync(join(application, "package.json"), '{"type":"module"}');
  const options = ["--offline", "--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--silent"];
  execFileSync("npm", ["install", ...options, packed], { cwd: application, timeout: WAIT_MAX });
}

/** Links packages of a directory `node_modules` into that of an application. */
export function linkPackages(application, packages, names) {
  for (const name of names) symlinkSync(join(packages, name), join(application, "node_modules", name));
}
