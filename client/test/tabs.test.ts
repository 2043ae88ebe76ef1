// Tabs open, close, hide, watch and unwatch at random, while alerts are published and taken back.

import { expect, test, vi } from "vitest";
import type { Position } from "../src/viral-alerts.js";
import { newStorage, pass, start, type Application } from "./application.js";
import { Browser } from "./browser.js";
import { startService } from "./current.js";
import { on } from "./legs.js";
import { randomOf } from "./seeded.js";
import type { Service } from "./service.js";

const ALL = "ALL";
const REGIONS = ["PL", "DE", "FR", "XX", "YY"];
/** A run over the Event API takes longer, for its requests and its `ka`. */
const RUNS = on({ gateway: 150, events: 75 });
const STEPS = 80;
/** Short enough for hidden pages to close their connection within a run. */
const HIDDEN_MS = 2_000;

/** A tab and what it may expect: the last sequence number of each region. */
class Tab {
  readonly #storage = newStorage();
  readonly #options;
  readonly #label: string;
  readonly watched = new Set<string>();
  /** Regions that it was told to be subscribed. */
  readonly #acknowledged = new Set<string>();
  readonly #at = new Map<string, number>();
  /** What it was told to be taken back. */
  readonly #removed = new Set<string>();
  page;
  #application: Application | undefined;

  constructor(
    readonly browser: Browser,
    readonly service: Service,
    options: { httpUrl?: string },
    label: string,
  ) {
    this.#options = options;
    this.#label = label;
    this.page = this.#load();
  }

  #load() {
    const page = this.browser.open();
    const { told, client } = (this.#application = start(this.service, {
      regions: this.watched,
      storage: this.#storage,
      hiddenMs: HIDDEN_MS,
      ...this.#options,
    }));
    client.addEventListener("subscribed", ({ detail }) => this.#begins(detail.region, detail.positions));
    client.addEventListener("gap", ({ detail }) => expect.fail(`${this.#label}: a gap ${JSON.stringify(detail)}`));
    client.addEventListener("error", ({ detail }) => expect.fail(`${this.#label}: ${detail.code} ${detail.field}`));
    client.addEventListener("alert", ({ detail: { region, seq } }) => {
      expect(this.#removed, `${this.#label}: ${region} ${seq} after its removal`).not.toContain(`${region} ${seq}`);
      this.#hears(region, seq!, told);
    });
    client.addEventListener("removed", ({ detail: { region, seq } }) => {
      this.#removed.add(`${region} ${seq}`);
      // The removal takes the place of an alert that was not delivered yet.
      if (!(seq <= this.#at.get(region)!)) this.#hears(region, seq, told);
    });
    return page;
  }

  #begins(region: string, positions: Record<string, Position>): void {
    expect(this.watched, this.#label).toContain(region);
    this.#acknowledged.add(region);
    for (const key of REGIONS) {
      if (key !== region && region !== ALL) continue;
      const { seq } = positions[key] ?? { seq: 0 };
      expect(this.#at.get(key) ?? seq, `${this.#label}: where ${key} begins`).toBe(seq);
      this.#at.set(key, seq);
    }
  }

  #hears(region: string, seq: number, told: string[]): void {
    expect(this.watched.has(region) || this.watched.has(ALL), `${this.#label}: ${region} is watched`).toBe(true);
    expect(seq, `${this.#label}: ${region} after ${told.slice(-5).join()}`).toBe((this.#at.get(region) ?? NaN) + 1);
    this.#at.set(region, seq);
  }

  watch(region: string): void {
    this.watched.add(region);
    this.#application!.client.watch(region);
  }

  unwatch(region: string): void {
    this.watched.delete(region);
    this.#acknowledged.delete(region);
    for (const key of this.#at.keys()) if (!this.watched.has(key) && !this.watched.has(ALL)) this.#at.delete(key);
    this.#application!.client.unwatch(region);
  }

  close(): void {
    this.#application?.client.close();
    this.#application = undefined;
  }

  reload(): void {
    this.close();
    this.page = this.#load();
  }

  /** Asserts that the tab has all alerts of its regions. */
  expectComplete(): void {
    expect([...this.#acknowledged].sort(), this.#label).toEqual([...this.watched].sort());
    for (const region of REGIONS) {
      if (!this.watched.has(region) && !this.watched.has(ALL)) continue;
      expect(this.#at.get(region), `${this.#label}: the end of ${region}`).toBe(this.service.head(region).seq);
    }
  }
}

test(
  "whatever tabs watch, leave, hide and reload: each alert once and in order, and none after it was taken back",
  { timeout: 60_000 },
  async () => {
    const first = Number(vi.mocked(Math.random)() * 1e6) | 0;
    for (let run = 0; run < RUNS; run++) {
      const seed = first + run;
      const random = randomOf(seed);
      const pick = <Item>(items: Item[]): Item => items[Math.floor(random() * items.length)]!;
      vi.mocked(Math.random).mockImplementation(randomOf(seed + 1));
      const service = startService();
      const browser = new Browser();
      browser.grantsLate = seed % 2 > 0;
      const options = random() < 0.5 ? { httpUrl: "https://service.example" } : {};
      service.deliver = () => [10, 20, 900].filter(() => random() < 0.6).map((delay) => delay * (0.5 + random()));
      const tabs = Array.from(
        { length: 2 + (seed % 2) },
        (_, index) => new Tab(browser, service, options, `seed ${seed}, tab ${index}`),
      );
      for (let step = 0; step < STEPS; step++) {
        const chance = random();
        const tab = pick(tabs);
        const region = random() < 0.2 ? ALL : pick(REGIONS);
        if (chance < 0.5) service.publish(pick(REGIONS.slice(0, 1 + Math.floor((step * REGIONS.length) / STEPS))));
        else if (chance < 0.55) {
          const of = pick(REGIONS);
          const { seq } = service.head(of);
          const audience = [...service.sockets].filter(
            ({ regions }) => (regions.has(of) || regions.has(ALL)) && random() < 0.7,
          );
          if (seq) service.remove(of, 1 + Math.floor(random() * seq), audience);
        } else if (chance < 0.65) tab.watch(region);
        else if (chance < 0.73) tab.unwatch(pick([region, ...tab.watched]));
        else if (chance < 0.76) {
          // As the effects of a component that renders again do.
          for (const again of [...tab.watched]) if (random() < 0.5) (tab.unwatch(again), tab.watch(again));
        } else if (chance < 0.8) tab.page.hide();
        else if (chance < 0.88) tab.page.show();
        else if (chance < 0.92) tab.reload();
        else if (chance < 0.95) service.cut();
        else tab.page.document.dispatchEvent(new Event(pick(["freeze", "resume"])));
        await pass(random() < 0.3 ? 0 : random() * 600);
      }
      service.deliver = () => [10];
      for (const { page } of tabs) {
        page.show();
        page.document.dispatchEvent(new Event("resume"));
      }
      for (let end = 0; end < 2; end++) {
        // If the last alert was lost, the keepalive or the next alert shows it.
        await pass(11 * 60_000);
        for (const region of REGIONS) service.publish(region);
      }
      await pass(60_000);
      for (const tab of tabs) tab.expectComplete();
      for (const tab of tabs) tab.close();
    }
  },
);
