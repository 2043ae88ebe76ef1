// The hooks for React in a real Chromium and in React's strict mode: components and regions that come, go and change
// places, while alerts are on their way.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { ROOT } from "../local.mjs";
import { Devtools } from "./devtools.mjs";
import { Site, hasConnections } from "./site.mjs";

/**
 * `show` renders a list of alerts for each of `lists`, a key with regions and a maximum. While `held` is an array, it
 * keeps what the service sends, and `release` passes it on.
 */
const APPLICATION = `
  import { Component, StrictMode, createElement } from "react";
  import { flushSync } from "react-dom";
  import { createRoot } from "react-dom/client";
  import { useAlerts, useConnection } from "./viral-alerts-react.js";

  window.held = undefined;
  window.release = () => {
    const frames = held;
    held = undefined;
    for (const pass of frames) pass();
  };
  class WebSocket extends window.WebSocket {
    set onmessage(listener) {
      super.onmessage = (event) => (held ? held.push(() => listener(event)) : listener(event));
    }
  }

  class Boundary extends Component {
    state = {};
    static getDerivedStateFromError = (error) => ({ error });
    render() {
      return this.state.error ? createElement("h1", null, String(this.state.error)) : this.props.children;
    }
  }
  function List({ connection, regions, max }) {
    const alerts = useAlerts(connection, regions, max);
    return createElement("p", null, alerts.map(({ region, seq }) => region + " " + seq).join());
  }
  function Page({ lists, options }) {
    const connection = useConnection({ WebSocket, storage: null, ...options });
    return [
      createElement("h2", { key: "state" }, connection.state.state),
      lists.map(([key, regions, max]) => createElement(List, { key, connection, regions, max })),
    ];
  }
  const root = createRoot(document.body.appendChild(document.createElement("div")));
  const page = (lists, options) =>
    createElement(StrictMode, null, createElement(Boundary, null, createElement(Page, { lists, options })));
  window.show = (options, ...lists) => flushSync(() => root.render(page(lists, options)));
  window.texts = (name) => [...document.querySelectorAll(name)].map(({ textContent }) => textContent);`;

let devtools;
let script;

before(async () => {
  const { build } = createRequire(`${ROOT}/client/package.json`)("esbuild");
  const { outputFiles } = await build({
    stdin: { contents: APPLICATION, resolveDir: `${ROOT}/client` },
    nodePaths: [`${ROOT}/tests/browser/node_modules`],
    define: { "process.env.NODE_ENV": '"development"' },
    bundle: true,
    format: "iife",
    write: false,
  });
  script = `void (() => { ${outputFiles[0].text} })()`;
  devtools = new Devtools();
});
after(() => devtools?.close());

/** Opens a page, and returns it with a function that shows lists in it. */
async function open(t, options = {}) {
  const site = await Site.on(t, devtools);
  const tab = await site.openBare();
  await tab.evaluate(script);
  const { webSocketAddress: url, address: httpUrl } = site.local;
  const show = (...lists) =>
    tab.evaluate(`show(${[{ url, httpUrl, ...options }, ...lists].map((part) => JSON.stringify(part)).join()})`);
  const lists = (...texts) => tab.until(`texts("p").join("/") === "${texts.join("/")}"`, `texts("p")`);
  return { site, tab, show, lists };
}

test("what is on its way arrives where its region stays, whatever list or component it moves to", async (t) => {
  const { site, tab, show, lists } = await open(t);
  await show(["a", ["PL"]]);
  await hasConnections(site, "PL");
  await site.publish();
  await lists("PL 1");
  let seq = 1;
  for (const [shown, texts] of [
    [[["a", ["PL", "DE"]]], 1],
    [[["a", ["DE", "PL"]]], 1],
    [[["a", "pl"]], 1],
    [[["b", ["PL"]]], 1],
    [[["b", ["PL"]], ["c", ["PL", "DE"]]], 2],
    [[["c", ["PL"]]], 1],
  ]) {
    await tab.evaluate("held = []");
    await site.publish(2);
    await tab.until("held.length >= 2", "held.length");
    await show(...shown);
    await tab.evaluate("release()");
    seq += 2;
    const all = Array.from({ length: seq }, (_, index) => `PL ${seq - index}`).join();
    await lists(...Array(texts).fill(all));
  }
  await show();
  await hasConnections(site, "");
  assert.equal(await tab.evaluate("sockets.length"), 1);
});

test("regions have the names that the client gives them", async (t) => {
  const { site, show, lists } = await open(t);
  await show(["a", [" pl "]], ["b", ""], ["c", []]);
  await hasConnections(site, "PL");
  await site.publish();
  await lists("PL 1", "", "");
});

for (const [what, options, list, message] of [
  ["two regions in one text", {}, ["a", "PL, DE"], 'RangeError: invalid region "PL, DE": expected a name like PL'],
  ["one of several regions", {}, ["a", ["PL", "1"]], 'RangeError: invalid region "1": expected a name like PL'],
  ["a maximum", {}, ["a", "PL", -1], 'TypeError: invalid max "-1": expected a whole number from 0'],
  ["a number of alerts from before", { recent: 1.5 }, ["a", "PL"], 'TypeError: invalid recent "1.5": expected a whole'],
])
  test(`${what} that cannot be is told to the error boundary`, async (t) => {
    const { site, tab, show } = await open(t, options);
    await show(list);
    await tab.until(`texts("h1")[0]?.startsWith(${JSON.stringify(message)})`, `texts("h1")`);
    await hasConnections(site);
  });
