// The package for npm, in Node.js, Vite, esbuild and TypeScript.

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { ROOT } from "../local.mjs";
import { installClient, linkPackages } from "../npm.mjs";

const CLIENT = join(ROOT, "client");

/** Bound of every program that is run, in milliseconds. */
const WAIT_MAX = 60_000;

let application;

before(() => {
  application = mkdtempSync(join(tmpdir(), "viral-alerts-"));
  installClient(application);
  assert.deepEqual(readdirSync(join(application, "node_modules/viral-alerts")).sort(), [
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "package.json",
    "viral-alerts-debug.d.ts",
    "viral-alerts-debug.js",
    "viral-alerts-debug.js.map",
    "viral-alerts-events.d.ts",
    "viral-alerts-events.js",
    "viral-alerts-events.js.map",
    "viral-alerts-iterate.d.ts",
    "viral-alerts-iterate.js",
    "viral-alerts-iterate.js.map",
    "viral-alerts-react.d.ts",
    "viral-alerts-react.js",
    "viral-alerts-react.js.map",
    "viral-alerts-recent.d.ts",
    "viral-alerts-recent.js",
    "viral-alerts-recent.js.map",
    "viral-alerts.d.ts",
    "viral-alerts.js",
    "viral-alerts.js.map",
    "viral-toast.d.ts",
    "viral-toast.js",
    "viral-toast.js.map",
  ]);
  linkPackages(application, fileURLToPath(new URL("node_modules", import.meta.url)), ["@types", "ws"]);
});
after(() => application && rmSync(application, { recursive: true }));

function packageManifest() {
  return JSON.parse(readFileSync(join(application, "node_modules/viral-alerts/package.json"), "utf8"));
}

/** Runs a module in Node.js and returns what it prints. */
function runModule(script) {
  const own = ["--input-type=module", "--eval", script];
  return execFileSync(process.execPath, own, { cwd: application, encoding: "utf8", timeout: WAIT_MAX });
}

/** Runs a program of the client's own dependencies in the application. */
function run(program, ...args) {
  return execFileSync(process.execPath, [join(CLIENT, "node_modules", program), ...args], {
    cwd: application,
    encoding: "utf8",
    timeout: WAIT_MAX,
  });
}

test("Node.js imports it, with the WebSocket of the package ws", () => {
  const script = `
    import { WebSocketServer, WebSocket } from "ws";
    import { ViralAlerts } from "viral-alerts";
    import { iterate } from "viral-alerts/iterate";
    import { defineViralToast } from "viral-alerts/toast";
    if (typeof defineViralToast !== "function") throw new Error("no toast");
    const server = new WebSocketServer({ port: 0 });
    server.on("connection", (socket) => socket.on("message", (text) => {
      const { regions } = JSON.parse(text);
      socket.send(JSON.stringify({ type: "subscribed", regions, positions: { PL: { epoch: 1, seq: 1 } } }));
      socket.send(JSON.stringify({ type: "viral_alert", region: "PL", epoch: 1, seq: 2, video: { title: "Tytuł" } }));
    }));
    await new Promise((resolve) => server.once("listening", resolve));
    const alerts = new ViralAlerts({ url: "ws://127.0.0.1:" + server.address().port, regions: ["PL"], WebSocket });
    for await (const { video } of iterate(alerts)) {
      console.log(video.title);
      alerts.close();
    }
    server.close();`;
  assert.equal(runModule(script), "Tytuł\n");
});

test("in Node.js without a WebSocket it says at once what to pass, and its classes have their names", () => {
  const script = `
    import { ViralAlerts, ViralAlertsError } from "viral-alerts";
    delete globalThis.WebSocket;
    const thrown = (act) => {
      try {
        act();
      } catch (error) {
        return String(error);
      }
    };
    const url = "wss://example.com/prod";
    console.log(JSON.stringify([
      thrown(() => new ViralAlerts(url)),
      thrown(() => new ViralAlerts({})),
      thrown(() => ViralAlerts(url)),
      thrown(() => {
        throw new ViralAlertsError({ code: "connect", message: "refused" });
      }),
    ]));`;
  const output = runModule(script);
  assert.deepEqual(JSON.parse(output), [
    "TypeError: no WebSocket: pass the option WebSocket",
    'TypeError: invalid url "undefined": expected wss://...',
    "TypeError: Class constructor ViralAlerts cannot be invoked without 'new'",
    "ViralAlertsError: refused",
  ]);
});

test("it says where it comes from, and asks for nothing", () => {
  const { name, license, repository, ...manifest } = packageManifest();
  assert.deepEqual([name, license, repository.directory], ["viral-alerts", "MIT OR Apache-2.0", "client"]);
  for (const field of ["private", "scripts", "dependencies", "devDependencies"]) assert.ok(!(field in manifest), field);
});

test("its modules are what is committed, and an error names the line of the source", () => {
  const installed = readdirSync(join(application, "node_modules/viral-alerts"));
  for (const module of installed.filter((name) => name.endsWith(".js"))) {
    const [committed, packed] = [CLIENT, join(application, "node_modules/viral-alerts")].map((directory) =>
      readFileSync(join(directory, module), "utf8"),
    );
    assert.equal(packed, `${committed}//# sourceMappingURL=${module}.map\n`);
  }
  const script = `import { ViralAlerts } from "viral-alerts";
    try {
      new ViralAlerts({});
    } catch ({ stack }) {
      console.log(stack);
    }`;
  const own = ["--enable-source-maps", "--input-type=module", "--eval", script];
  const stack = execFileSync(process.execPath, own, { cwd: application, encoding: "utf8", timeout: WAIT_MAX });
  const [, file, line] = /at .*\/viral-alerts\/(src\/\w+\.ts):(\d+):\d+/.exec(stack) ?? assert.fail(stack);
  assert.match(readFileSync(join(CLIENT, file), "utf8").split("\n")[line - 1], /throw|Error/);
});

test("esbuild bundles it for browsers and for servers that render pages", () => {
  const script = `import { ViralAlerts } from "viral-alerts";
    import { defineViralToast } from "viral-alerts/toast";
    console.log(typeof ViralAlerts, typeof defineViralToast);`;
  writeFileSync(join(application, "both.js"), script);
  for (const platform of ["browser", "node"]) {
    const options = ["--bundle", "--format=esm", `--platform=${platform}`, `--outfile=both-${platform}.mjs`];
    execFileSync(join(CLIENT, "node_modules/.bin/esbuild"), ["both.js", "--log-level=error", ...options], {
      cwd: application,
      timeout: WAIT_MAX,
    });
    assert.equal(runModule(`await import("./both-${platform}.mjs");`), "function function\n");
  }
});

test("Vite builds an application with it, and leaves out what is not used", () => {
  writeFileSync(join(application, "index.html"), '<script type="module" src="main.js"></script>');
  const script = `import { ViralAlerts } from "viral-alerts";
    import { defineViralToast } from "viral-alerts/toast";
    new ViralAlerts("wss://example.com/prod").addEventListener("alert", console.log);`;
  writeFileSync(join(application, "main.js"), script);
  run("vite/bin/vite.js", "build", "--logLevel", "error", "--target", "es2022");
  const assets = join(application, "dist/assets");
  const built = readdirSync(assets)
    .map((name) => readFileSync(join(assets, name), "utf8"))
    .join("");
  assert.match(built, /subscribe_region/);
  assert.doesNotMatch(built, /attachShadow/);
});

test("its types are strict, for bundlers and for Node.js", () => {
  const script = `import { ViralAlerts, ViralAlertsError, type ViralAlert } from "viral-alerts";
    import { debug } from "viral-alerts/debug";
    import { iterate } from "viral-alerts/iterate";
    import { startRecent } from "viral-alerts/recent";
    import { defineViralToast, videoUrl, type ViralToastElement } from "viral-alerts/toast";
    const url = "wss://example.com/prod";
    const alerts = new ViralAlerts({ url, regions: ["PL"], token: async () => "t", hiddenMs: Infinity });
    alerts.addEventListener("alert", ({ detail }) => detail satisfies ViralAlert);
    alerts.addEventListener("gap", ({ detail: { from, to } }) => [from satisfies number, to satisfies number | null]);
    alerts.addEventListener("error", ({ detail }) => detail instanceof ViralAlertsError && detail.terminal);
    alerts.addEventListener("state", ({ detail }) => detail.state === "waiting" && detail.retryInMs);
    alerts.addEventListener("alert:PL", ({ detail }) => detail satisfies ViralAlert);
    // @ts-expect-error: states have no region
    alerts.addEventListener("state:PL", () => {});
    startRecent(alerts, { httpUrl: "https://example.com" })("PL", 10) satisfies Promise<ViralAlert[]>;
    debug(alerts) satisfies () => void;
    // @ts-expect-error: no such event
    alerts.addEventListener("alerts", () => {});
    // @ts-expect-error: no such option
    new ViralAlerts({ url, region: "PL" });
    export async function titles(): Promise<string[]> {
      const found = [];
      for await (const { video } of iterate(alerts)) found.push(video.title);
      return found;
    }
    defineViralToast();
    document.querySelector<ViralToastElement>("viral-toast")!.headline = ({ region }) => region;
    const toast = document.createElement("viral-toast");
    toast.href = (alert) => (alert.region === "PL" ? "watch/" + alert.video.id : videoUrl(alert));
    toast.addEventListener("activate", (event) => event.detail satisfies ViralAlert);
    toast.addEventListener("dismiss", (event) => event.preventDefault());
    toast.addEventListener("keydown", (event) => event.key satisfies string);
    // @ts-expect-error: a number is not an address
    toast.href = () => 7;`;
  writeFileSync(join(application, "types.ts"), script);
  for (const [module, resolution] of [
    ["esnext", "bundler"],
    ["nodenext", "nodenext"],
  ]) {
    const options = [
      "--noEmit",
      "--strict",
      "--exactOptionalPropertyTypes",
      "--types",
      "",
      "--target",
      "es2022",
      "--lib",
      "es2022,dom",
    ];
    run("typescript/bin/tsc", ...options, "--module", module, "--moduleResolution", resolution, "types.ts");
  }
});

test("the snippets of the READMEs compile, strictly, and the toast has types in the JSX of React", () => {
  const directory = join(application, "snippets");
  mkdirSync(directory);
  const files = {
    // Snippets use values of earlier snippets, and a function of the application that shows an alert.
    "around.d.ts": `import type { ViralAlerts } from "viral-alerts";
      declare global {
        const alerts: ViralAlerts;
        function show(region: string, title: string): void;
      }`,
    "wrong.tsx": `import { useAlerts, useConnection } from "viral-alerts/react";
      // @ts-expect-error: regions belong to useAlerts
      export const useWrong = () => useConnection({ url: "", regions: "PL" });
      // @ts-expect-error: a connection comes first
      export const useWrongToo = () => useAlerts("PL");
      export const Wrong = () => [
        // @ts-expect-error: no such attribute
        <viral-toast hotkeys="F8" />,
        // @ts-expect-error: an address instead of a function
        <viral-toast href="https://www.example.com" />,
      ];`,
  };
  for (const readme of ["README.md", "client/README.md"]) {
    const text = readFileSync(join(CLIENT, "..", readme), "utf8");
    for (const { index, 1: language, 2: snippet } of text.matchAll(/^```(jsx?|tsx?)\n(.*?)^```$/gms)) {
      const line = text.slice(0, index).split("\n").length;
      files[`${readme.replaceAll(/\W/g, "-")}-${line}.${language}`] = `${snippet}\nexport {};\n`;
    }
  }
  assert.ok(Object.keys(files).length >= 7, `found too few snippets: ${Object.keys(files)}`);
  for (const [name, text] of Object.entries(files)) writeFileSync(join(directory, name), text);
  // For snippets that import the file beside the page.
  for (const name of ["viral-alerts.js", "viral-alerts.d.ts"]) copyFileSync(join(CLIENT, name), join(directory, name));
  const strict = ["--noEmit", "--strict", "--exactOptionalPropertyTypes", "--noUncheckedIndexedAccess"];
  const options = [...strict, "--allowJs", "--checkJs", "--jsx", "react-jsx", "--types", ""];
  const target = ["--target", "es2022", "--lib", "es2022,dom,dom.iterable"];
  const names = Object.keys(files).map((name) => join("snippets", name));
  for (const [module, resolution] of [
    ["esnext", "bundler"],
    ["nodenext", "nodenext"],
  ]) {
    const compiler = [join(CLIENT, "node_modules/typescript/bin/tsc"), ...options, ...target, ...names];
    const modules = ["--module", module, "--moduleResolution", resolution];
    const { status, stdout } = spawnSync(process.execPath, [...compiler, ...modules], {
      cwd: application,
      encoding: "utf8",
      timeout: WAIT_MAX,
    });
    assert.deepEqual({ status, stdout }, { status: 0, stdout: "" });
  }
});
