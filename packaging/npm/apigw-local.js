#!/usr/bin/env node
// Starts the program that npm has installed beside this package, in the package for this platform.

"use strict";

const { spawn } = require("node:child_process");
const { constants } = require("node:os");

const { homepage, optionalDependencies } = require("./package.json");

/** What a shell adds to the number of the signal that ended a program. */
const SIGNALLED = 128;

/** Signals that end a process which does not handle them. They are for the program, which is not to be left behind. */
const PASSED_ON = ["SIGALRM", "SIGHUP", "SIGINT", "SIGIO", "SIGPROF", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2"]
  .concat(["SIGVTALRM", "SIGXCPU", "SIGXFSZ"]);

/** The path of the program. Throws with what to do if there is none. */
function program() {
  const platform = `${process.platform}-${process.arch}`;
  const name = `apigw-local-${platform}`;
  if (!(name in optionalDependencies)) {
    const platforms = Object.keys(optionalDependencies).map((key) => key.replace("apigw-local-", ""));
    throw new Error(
      `there is no program for ${platform}, only for ${platforms.join(", ")}. ` +
        (process.platform === "win32" ? "Run it in WSL." : `Build it with Rust: ${homepage}`),
    );
  }
  try {
    return require.resolve(`${name}/bin/apigw-local`);
  } catch {
    if (process.platform === "linux" && !process.report.getReport().header.glibcVersionRuntime)
      throw new Error("the program needs glibc, which this system does not have (Alpine has musl). Use another image.");
    throw new Error(
      `the package ${name} is not installed. Install again without --omit=optional and --no-optional; ` +
        "if node_modules or the lock file came from another platform, delete both before.",
    );
  }
}

function fail(message) {
  console.error(`apigw-local: ${message}`);
  process.exit(1);
}

function start(path) {
  const child = spawn(path, process.argv.slice(2), { stdio: "inherit" });
  // What a terminal or `timeout` sends to both comes to the program twice, which takes the second one for the first.
  // Others send it to this process only, which ends after the program in any case.
  for (const signal of PASSED_ON) process.on(signal, () => child.kill(signal));
  child.on("error", ({ message }) => fail(`cannot start ${path}: ${message}`));
  child.on("exit", (code, signal) => process.exit(code ?? SIGNALLED + constants.signals[signal]));
}

try {
  start(program());
} catch ({ message }) {
  fail(message);
}
