// Replays what a model of this client did (simulation/src/clients/ours) through the real one: both have to send the
// same and to tell the application the same. simulation/src/clients/trace.rs describes the traces. The variable
// TRACES names files, with colons between them. Without it, a few traces are replayed that this command has written:
//
// cargo run -p simulation --bin traces -- --count 40 --steps 80 --out /dev/stdout | gzip -9n >test/replay.jsonl.gz

import { expect, test, vi } from "vitest";
import { ViralAlerts, type Options, type Position, type RemovedAlert, type ViralAlert } from "../src/viral-alerts.js";
import { randomOf } from "./seeded.js";
import { isDeepStrictEqual, traces } from "./traces.js";

declare const process: { env: Record<string, string | undefined> };

// The model has no fallback.
vi.mock("../src/fallback.js", () => ({ startFallback: () => undefined }));

/** More turns than any chain of promises in the client has. A macrotask would take three times as long. */
const TURNS = 50;
const HTTP_URL = "https://http.example";

interface Trace {
  trace: string;
  at: number;
  options: { http: boolean; seed: number; keepaliveMs?: number; reconnectWithinMs?: number; rotateAfterMs?: number };
  regions: string[];
  positions: Record<string, Position>;
  steps: Step[];
}

/** Exactly one field is set. */
interface Input {
  opened?: { socket: number };
  frame?: { socket: number; text: string };
  closed?: { socket: number; code: number };
  http?: { id: number; status: number; body: string };
  httpFailed?: { id: number };
  watch?: string;
  unwatch?: string;
}

interface Step {
  at: number;
  in: "start" | "wake" | "offline" | "timer" | Input;
  out: Output[];
}

/** Exactly one field is set. */
interface Output {
  connect?: { socket: number };
  send?: { socket: number; text: string };
  close?: { socket: number };
  get?: { id: number; query: string };
  tell?: object;
}

interface Timed extends Output {
  at: number;
}

/** Timers that fire when they are told to. Vitest's own wait for real ones between any two. */
class Clock {
  now: number;
  #count = 0;
  readonly #timers = new Map<number, { at: number; every?: number; run: () => void }>();

  constructor(now: number) {
    this.now = now;
    for (const clock of [Date, performance]) vi.spyOn(clock, "now").mockImplementation(() => this.now);
    vi.stubGlobal("setTimeout", (run: () => void, ms: number) => this.#set(run, ms));
    vi.stubGlobal("setInterval", (run: () => void, ms: number) => this.#set(run, ms, ms));
    vi.stubGlobal("clearTimeout", (id: number) => this.#timers.delete(id));
    vi.spyOn(AbortSignal, "timeout").mockImplementation((ms) => {
      const controller = new AbortController();
      this.#set(() => controller.abort(), ms);
      return controller.signal;
    });
  }

  #set(run: () => void, ms: number, every?: number): number {
    // As in Node.js: whole milliseconds, and at least one.
    this.#timers.set(++this.#count, { at: this.now + Math.max(1, Math.trunc(ms)), run, ...(every && { every }) });
    return this.#count;
  }

  /** Fires what is due by then, in its order. */
  async pass(to: number): Promise<void> {
    for (;;) {
      let first: number | undefined;
      for (const [id, { at }] of this.#timers) if (first === undefined || at < this.#timers.get(first)!.at) first = id;
      const timer = this.#timers.get(first!);
      if (!timer || timer.at > to) break;
      this.now = Math.max(this.now, timer.at);
      if (timer.every) timer.at += timer.every;
      else this.#timers.delete(first!);
      timer.run();
      await settled();
    }
    this.now = to;
  }
}

/** Lets every promise that can go on do so. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < TURNS; turn++) await undefined;
}

/** The application, the browser and the network around a client. What the client does is in `sent` and `told`. */
class World {
  readonly clock: Clock;
  #did: Timed[] = [];
  readonly #page = new EventTarget();
  readonly #sockets: Socket[] = [];
  readonly #requests: ((answer: Response | Error) => void)[] = [];
  readonly #client: ViralAlerts;

  constructor({ at, options: { http, seed, ...options }, regions, positions }: Trace) {
    this.clock = new Clock(at);
    vi.spyOn(Math, "random").mockImplementation(() => randomOf(seed + this.clock.now)());
    vi.stubGlobal("addEventListener", this.#page.addEventListener.bind(this.#page));
    vi.stubGlobal("fetch", this.#fetch);
    const world = this;
    this.#client = new ViralAlerts({
      url: "wss://service.example/prod",
      ...(http && { httpUrl: HTTP_URL }),
      ...(options as Partial<Options>),
      regions,
      share: false,
      storage: { getItem: (key) => (key.endsWith(" http") ? null : JSON.stringify(positions)), setItem: () => {} },
      WebSocket: class extends Socket {
        constructor() {
          super((output) => world.#does(output), world.#sockets.length + 1);
          world.#sockets.push(this);
        }
      },
    });
    const tell = (told: object): void => this.#does({ tell: told });
    const logged = ({ region, epoch, seq, id, everyone }: ViralAlert | (RemovedAlert & { everyone?: true })) => {
      return { region, epoch, seq, id, everyone: !!everyone };
    };
    this.#client.addEventListener("alert", ({ detail }) => tell({ alert: logged(detail) }));
    this.#client.addEventListener("removed", ({ detail }) => tell({ removed: logged(detail) }));
    this.#client.addEventListener("gap", ({ detail: { region, from, to } }) => tell({ gap: { region, from, to } }));
    this.#client.addEventListener("subscribed", ({ detail }) => tell({ subscribed: detail }));
    this.#client.addEventListener("error", ({ detail: { code, terminal } }) => tell({ error: { code, terminal } }));
    this.#client.addEventListener("state", ({ detail }) => {
      tell({ state: detail.state === "waiting" ? { waiting: detail.retryInMs } : detail.state });
    });
  }

  readonly #fetch = (url: string, { signal }: { signal: AbortSignal }): Promise<Response> => {
    const { searchParams } = new URL(url);
    const query = [...searchParams].map((pair) => pair.join("=")).join("&");
    return new Promise((resolve, reject) => {
      this.#requests.push((answer) => (answer instanceof Error ? reject(answer) : resolve(answer)));
      signal.addEventListener("abort", () => reject(signal.reason as Error));
      this.#does({ get: { id: this.#requests.length, query } });
    });
  };

  async #takes(input: Step["in"]): Promise<void> {
    if (input === "start" || input === "timer") return;
    if (input === "wake" || input === "offline") {
      this.#page.dispatchEvent(new Event(input === "wake" ? "online" : input));
    } else if (input.watch) this.#client.watch(input.watch);
    else if (input.unwatch) this.#client.unwatch(input.unwatch);
    else if (input.http) {
      const { id, status, body } = input.http;
      const answer = { ok: status >= 200 && status < 300, status, json: async () => JSON.parse(body) as unknown };
      this.#requests[id - 1]!(answer as Response);
    } else if (input.httpFailed) this.#requests[input.httpFailed.id - 1]!(TypeError("no answer"));
    else if (input.opened) this.#sockets[input.opened.socket - 1]!.opens();
    else if (input.frame) this.#sockets[input.frame.socket - 1]!.receives(input.frame.text);
    else this.#sockets[input.closed!.socket - 1]!.ends(input.closed!.code);
  }

  #does(output: object): void {
    this.#did.push({ at: this.clock.now, ...output });
  }

  /** Lets time pass and something happen, and returns what the client did. */
  async step({ at, in: input }: Step): Promise<Timed[]> {
    this.#did = [];
    await this.clock.pass(at);
    await this.#takes(input);
    await settled();
    return this.#did;
  }

  close(): void {
    this.#client.close();
  }
}

class Socket {
  readyState = 0;
  onopen: ((event: never) => void) | null = null;
  onmessage: ((event: { data: unknown } & never) => void) | null = null;
  onerror: ((event: never) => void) | null = null;
  onclose: ((event: { code?: number } & never) => void) | null = null;
  readonly #does: (output: object) => void;
  readonly #socket: number;

  constructor(does: (output: object) => void, socket: number) {
    this.#does = does;
    this.#socket = socket;
    does({ connect: { socket } });
  }

  opens(): void {
    this.readyState = 1;
    this.onopen!({} as never);
  }

  receives(data: string): void {
    this.onmessage!({ data } as never);
  }

  ends(code: number): void {
    this.readyState = 3;
    this.onclose!({ code } as never);
  }

  send(data: string): void {
    this.#does({ send: { socket: this.#socket, text: data } });
  }

  close(): void {
    if (this.readyState < 2) this.#does({ close: { socket: this.#socket } });
    this.readyState = 3;
  }
}

/** The alerts that the application knows: `removed` may name others, and then says nothing. */
class Known {
  readonly #alerts = new Set<string>();

  /** Groups outputs that have no order among each other: by socket, by region, by removal, sent and told. */
  groups(outputs: Timed[]): Record<string, object[]> {
    const groups: Record<string, object[]> = {};
    for (const { at, ...output } of outputs) {
      const { send, tell } = output;
      const { alert, removed } = (tell ?? {}) as { alert?: ViralAlert; removed?: RemovedAlert };
      const key = removed ?? alert;
      const name = `${key?.region} ${key?.epoch} ${key?.seq}`;
      if (alert) this.#alerts.add(name);
      if (removed && !this.#alerts.has(name)) continue;
      const detail = Object.values(tell ?? output)[0] as { socket?: number; region?: string };
      const group = removed ? `removed ${name}` : `${tell ? "told" : "sent"} ${detail.socket ?? detail.region ?? ""}`;
      // Messages are compared as JSON.
      const parsed = { at, ...output, ...(send && { send: { ...send, text: JSON.parse(send.text) as unknown } }) };
      (groups[group] ??= []).push(parsed);
    }
    return groups;
  }
}

/** Returns where the client and its model differ first. */
async function difference(trace: Trace): Promise<string | undefined> {
  const world = new World(trace);
  const known = new Known();
  try {
    for (const [number, step] of trace.steps.entries()) {
      const client = known.groups(await world.step(step));
      const model = known.groups(step.out.map((output) => ({ at: step.at, ...output })));
      if (isDeepStrictEqual(client, model)) continue;
      const place = `${trace.trace}, step ${number + 1}, ${step.at - trace.at} ms after the start`;
      const sides = Object.keys({ ...client, ...model })
        .filter((group) => !isDeepStrictEqual(client[group], model[group]))
        .map((group) => `  ${group}\n    client: ${lines(client[group])}\n    model: ${lines(model[group])}`);
      return `${place}: ${JSON.stringify(step.in)}\n${sides.join("\n")}`;
    }
    return undefined;
  } finally {
    world.close();
    await settled();
  }
}

const lines = (outputs: object[] = []): string =>
  outputs.map((output) => `\n      ${JSON.stringify(output)}`).join("") || "nothing";

test("the client and its model send the same and tell the application the same", { timeout: 120_000 }, async () => {
  vi.useRealTimers();
  const differences: string[] = [];
  const files = process.env["TRACES"]?.split(":") ?? [new URL("replay.jsonl.gz", import.meta.url)];
  let count = 0;
  for (const file of files) {
    for await (const trace of traces(file)) {
      const found = await difference(trace as Trace);
      if (found) differences.push(found);
      count++;
    }
  }
  console.log(`${count} traces`);
  expect(count).toBeGreaterThan(0);
  if (differences[0]) throw Error(`${differences.length} of ${count} differ:\n${differences.slice(0, 3).join("\n")}`);
});
