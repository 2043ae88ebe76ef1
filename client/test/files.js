// Plain JavaScript, because the types of Node.js are not installed.

import { readFileSync, readdirSync } from "node:fs";

/** @param {string} path Path from this folder. @returns {string} */
export const read = (path) => readFileSync(new URL(path, import.meta.url), "utf8");

/** @returns {string[]} Names of the files with tests, without `.test.ts`. */
export const testFiles = () =>
  readdirSync(new URL(".", import.meta.url)).flatMap((name) => name.match(/^(.*)\.test\.ts$/)?.slice(1) ?? []);
