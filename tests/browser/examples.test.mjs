// The examples for pages, with the client as npm installs it: in Chromium, against the local mode.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { basename, extname, join } from "node:path";
import { after, before, test } from "node:test";
import { ROOT, startLocal, stopLocal } from "../local.mjs";
import { installClient, linkPackages } from "../npm.mjs";
import { launchBrowser } from "./browser.mjs";
import { showsAlerts } from "./showing.mjs";

const TYPES = { ".css": "text/css", ".html": "text/html", ".js": "text/javascript" };

/** Bound of every program that is run, in milliseconds. */
const WAIT_MAX = 60_000;

/** The examples that Vite builds. */
const BUILT = { react: "React", svelte: "Svelte", vue: "Vue" };
/** What the folder of an example has only where somebody has tried it. */
const LEFT_OVER = ["dist", "node_modules", "package-lock.json"];
const PACKAGES = ["@sveltejs", "@types", "@vitejs", "react", "react-dom", "svelte", "vue"];

/** A directory with the packages, and in it one for each example. */
let applications;
let browser;
let local;
before(async () => {
  applications = mkdtempSync(join(tmpdir(), "viral-alerts-examples-"));
  installClient(applications);
  linkPackages(applications, `${ROOT}/tests/browser/node_modules`, PACKAGES);
  linkPackages(applications, `${ROOT}/client/node_modules`, [".bin", "esbuild", "typescript", "vite"]);
  for (const name in BUILT) {
    const filter = (path) => !LEFT_OVER.includes(basename(path));
    cpSync(`${ROOT}/examples/${name}`, join(applications, name), { recursive: true, filter });
  }
  local = await startLocal();
  browser = await launchBrowser();
});
after(async () => {
  await browser?.close();
  if (local) await stopLocal(local);
  if (applications) rmSync(applications, { recursive: true });
});

const manifest = (directory) => JSON.parse(readFileSync(`${ROOT}/${directory}/package.json`, "utf8"));

function build(name) {
  // React's strict mode runs each effect twice, in development only.
  const env = {
    ...process.env,
    NODE_ENV: "development",
    VITE_URL: local.webSocketAddress,
    VITE_HTTP_URL: local.address,
  };
  const cwd = join(applications, name);
  execFileSync("npm", ["run", "build"], { cwd, env, encoding: "utf8", timeout: WAIT_MAX });
  return join(cwd, "dist");
}

/** Serves a directory at a port of its own, and returns its address. */
async function serve(t, directory) {
  const server = createServer(({ url }, response) => {
    const file = join(directory, url === "/" ? "index.html" : url);
    try {
      response.writeHead(200, { "content-type": TYPES[extname(file)] }).end(readFileSync(file));
    } catch {
      response.writeHead(404).end();
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  return `http://localhost:${server.address().port}/`;
}

test("a page without a build: the modules of the package lie beside it", async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "viral-alerts-page-"));
  t.after(() => rmSync(directory, { recursive: true }));
  for (const name of ["viral-alerts.js", "viral-toast.js"])
    copyFileSync(join(applications, "node_modules/viral-alerts", name), join(directory, name));
  let html = readFileSync(`${ROOT}/examples/page/index.html`, "utf8");
  // A reader has them from `cargo run`.
  for (const [usual, here] of [
    ["ws://127.0.0.1:8765/prod", local.webSocketAddress],
    ["http://127.0.0.1:8766", local.address],
  ]) {
    assert.ok(html.includes(`"${usual}"`), usual);
    html = html.replace(usual, here);
  }
  writeFileSync(join(directory, "index.html"), html);
  await showsAlerts(t, browser, local, await serve(t, directory));
});

for (const [name, framework] of Object.entries(BUILT))
  test(`${framework}: the example, as Vite builds it`, async (t) => {
    await showsAlerts(t, browser, local, await serve(t, build(name)));
  });

test("React: a server renders the example, with an element for the toasts and without a connection", () => {
  const render = `import { renderToString } from "react-dom/server";
    import { Alerts } from "./src/Alerts";
    console.log(renderToString(<Alerts url="no address" httpUrl="no address" />));`;
  const cwd = join(applications, "react");
  writeFileSync(join(cwd, "render.tsx"), render);
  const options = ["--bundle", "--platform=node", "--packages=external", "--format=esm", "--log-level=error"];
  const esbuild = join(applications, "node_modules/.bin/esbuild");
  execFileSync(esbuild, ["render.tsx", ...options, "--outfile=render.mjs"], { cwd, timeout: WAIT_MAX });
  const html = execFileSync(process.execPath, ["render.mjs"], { cwd, encoding: "utf8", timeout: WAIT_MAX });
  assert.match(html, /<h1>What goes viral<\/h1>.*<viral-toast><\/viral-toast>/);
});

test("the tests have the same packages as the examples", () => {
  const installed = { ...manifest("tests/browser").devDependencies, ...manifest("client").devDependencies };
  for (const example in BUILT) {
    const { dependencies, devDependencies } = manifest(`examples/${example}`);
    const { "viral-alerts": client, ...others } = { ...dependencies, ...devDependencies };
    assert.equal(client, `^${manifest("client").version}`);
    for (const [name, version] of Object.entries(others)) assert.equal(installed[name], version, name);
  }
});
