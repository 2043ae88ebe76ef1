// The functions of the suite, in Python, behind ones in Node.js: serverless-offline's own way to run Python ends at
// the first exception and never answers.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const host = fileURLToPath(new URL("host.py", import.meta.url));
const python = spawn(process.env.PYTHON, ["-B", host], { stdio: ["pipe", "pipe", "inherit"] });
const waiting = new Map();
createInterface({ input: python.stdout }).on("line", (line) => {
  const { id, result, error } = JSON.parse(line);
  const { resolve, reject } = waiting.get(id);
  waiting.delete(id);
  if (error === undefined) resolve(result);
  else reject(new Error(error));
});

let invocations = 0;
const invoke = (name) => (event) =>
  new Promise((resolve, reject) => {
    const id = ++invocations;
    waiting.set(id, { resolve, reject });
    python.stdin.write(`${JSON.stringify({ id, name, event })}\n`);
  });

export const authorize = invoke("authorize");
export const handle = invoke("handle");
