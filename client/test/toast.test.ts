// The toast in a small fake document. tests/browser has what users see, hear and reach.

import { beforeEach, describe, expect, test, vi } from "vitest";
import { defineViralToast, type ViralToastElement } from "../src/viral-toast.js";
import { pass } from "./application.js";

class FakeElement extends EventTarget {
  children: FakeElement[] = [];
  parent: FakeElement | undefined;
  ariaLabel = "";
  className = "";
  textContent = "";
  href = "";
  target = "";
  rel = "";
  adoptedStyleSheets: unknown[] = [];
  static focused: FakeElement | undefined;
  readonly #attributes = new Map<string, string>();

  constructor(readonly name = "") {
    super();
  }

  append(...children: FakeElement[]): void {
    for (const child of children) this.children.push(Object.assign(child, { parent: this }));
  }
  replaceChildren(...children: FakeElement[]): void {
    this.children = [];
    this.append(...children);
  }
  remove(): void {
    // A removed element gets no `focusout`.
    if (FakeElement.focused && this.contains(FakeElement.focused)) FakeElement.focused = undefined;
    const siblings = this.parent!.children;
    if (siblings.includes(this)) siblings.splice(siblings.indexOf(this), 1);
  }
  contains(other: FakeElement): boolean {
    return other === this || this.children.some((child) => child.contains(other));
  }
  get lastElementChild(): FakeElement | undefined {
    return this.children.at(-1);
  }
  get nextElementSibling(): FakeElement | null {
    return this.parent!.children[this.parent!.children.indexOf(this) + 1] ?? null;
  }
  get previousElementSibling(): FakeElement | null {
    return this.parent!.children[this.parent!.children.indexOf(this) - 1] ?? null;
  }
  get descendants(): FakeElement[] {
    return this.children.flatMap((child) => [child, ...child.descendants]);
  }
  /** The first with one of these names, in the order of the document. */
  querySelector(names: string): FakeElement | undefined {
    return this.descendants.find(({ name }) => names.split(", ").includes(name));
  }
  focus(): void {
    FakeElement.focused = this;
    for (let within: FakeElement | undefined = this; within; within = within.parent)
      within.dispatchEvent(new Event("focusin"));
  }
  scrollIntoView(): void {}
  getAttribute = (name: string): string | null => this.#attributes.get(name) ?? null;
  hasAttribute = (name: string): boolean => this.#attributes.has(name);
  setAttribute = (name: string, value: string): void => this.#change(name, () => this.#attributes.set(name, value));
  removeAttribute = (name: string): void => this.#change(name, () => this.#attributes.delete(name));
  #change(name: string, change: () => void): void {
    const before = this.getAttribute(name);
    change();
    const { observedAttributes = [] } = this.constructor as { observedAttributes?: string[] };
    if (observedAttributes.includes(name)) this.attributeChangedCallback!(name, before);
  }
  attributeChangedCallback?(name: string, before: string | null): void;
  attachShadow(): FakeElement {
    return (this.root = new FakeElement());
  }
  root: FakeElement | undefined;
}

let host: ViralToastElement & Pick<FakeElement, "root"> & { connectedCallback(): void; disconnectedCallback(): void };
let page: EventTarget & { baseURI: string; activeElement: FakeElement };
let smallScreen: boolean;
let reported: unknown[];
beforeEach(() => {
  FakeElement.focused = undefined;
  vi.stubGlobal("HTMLElement", FakeElement);
  smallScreen = false;
  page = Object.assign(new EventTarget(), {
    createElement: (name: string) => new FakeElement(name),
    baseURI: "https://www.example.com/alerts/",
    activeElement: new FakeElement("input"),
  });
  vi.stubGlobal("document", page);
  vi.stubGlobal("location", new URL(page.baseURI));
  vi.stubGlobal("matchMedia", () => ({ matches: smallScreen }));
  vi.stubGlobal("customElements", {
    get: () => undefined,
    define: (_: string, Toast: new () => typeof host) => (host = new Toast()),
  });
  vi.stubGlobal(
    "CSSStyleSheet",
    class {
      replaceSync(): void {}
    },
  );
  reported = [];
  vi.stubGlobal("reportError", (error: unknown) => reported.push(error));
  defineViralToast();
  host.connectedCallback();
});

const show = (title: string, more: object = {}): FakeElement => {
  // Neither a thumbnail nor a score, as of a publisher that has none.
  host.show({ type: "viral_alert", region: "PL", video: { id: "v", title, ...more }, timestamp: "" });
  return toasts().at(-1)!;
};
const toasts = (): FakeElement[] => host.root!.children[0]!.children;
const close = (toast: FakeElement): FakeElement => toast.querySelector("button")!;
const happens = (target: EventTarget, type: string, fields: object = {}): boolean =>
  target.dispatchEvent(Object.assign(new Event(type, { cancelable: true }), fields));

test("no toast closes while the focus is in one, although the pointer leaves", async () => {
  const toast = show("one");
  happens(toast, "pointerenter");
  close(toast).focus();
  happens(toast, "pointerleave");
  show("two");
  await pass(60_000);
  expect(toasts().length).toBe(2);
  happens(toast, "pointerenter");
  happens(toast, "focusout");
  await pass(60_000);
  expect(toasts().length).toBe(2);
  happens(toast, "pointerleave");
  await pass(5_999);
  expect(toasts().length).toBe(2);
  await pass(1);
  expect(toasts().length).toBe(0);
});

test("times go on where the toast in use is dismissed, which is not told that the pointer leaves it", async () => {
  show("one");
  const second = show("two");
  happens(second, "pointerenter");
  happens(close(second), "click");
  await pass(6_000);
  expect(toasts()).toEqual([]);
});

test("the oldest toasts make room, except those that are in use", () => {
  host.setAttribute("max", "2");
  const first = show("one");
  happens(first, "pointerenter");
  show("two");
  const third = show("three");
  expect(toasts()).toEqual([first, third]);
});

test.each([
  ["4", 2],
  ["1", 1],
])("a small screen has at most two toasts, also with max=%s", (max, count) => {
  host.setAttribute("max", max);
  smallScreen = true;
  const shown = ["one", "two", "three", "four"].map((title) => show(title));
  expect(toasts()).toEqual(shown.slice(-count));
});

test("an alert without a title and a thumbnail says where it is from, and its button what it does", () => {
  const [picture, headline, title, button, ...more] = show("").children;
  expect(picture!.textContent).toBe("▶");
  expect(headline!.textContent).toBe("Viral in PL!");
  expect(button!.ariaLabel).toBe("Dismiss");
  expect(title!.textContent).toBe("");
  expect(more).toEqual([]);
});

test("no toast is shown where none may be", () => {
  host.setAttribute("max", "0");
  show("one");
  expect(toasts()).toEqual([]);
});

test.each(["abc", "", " ", "-1", "NaN", "2,5"])("numbers that are none count as their defaults: %j", async (text) => {
  for (const attribute of ["max", "per-minute", "duration"]) host.setAttribute(attribute, text);
  for (let count = 1; count <= 5; count++) show(`${count}`);
  expect(toasts().map(({ children }) => children[2]!.textContent)).toEqual(["2", "3", "4", "5"]);
  await pass(5_999);
  expect(toasts().length).toBe(4);
  await pass(1);
  expect(toasts()).toEqual([]);
});

test("the button and Escape dismiss a toast and move focus to the next one, and each button names its toast", () => {
  const [first, second, third] = ["one", "two", "three"].map((title) => show(title));
  expect(close(second!).ariaLabel).toBe("Dismiss: two");
  close(first!).focus();
  happens(close(first!), "click");
  expect(FakeElement.focused).toBe(close(second!));
  happens(second!, "keydown", { key: "Escape" });
  expect(FakeElement.focused).toBe(close(third!));
});

test("dismiss tells the alert, and leaves the toast where it is cancelled", () => {
  const told: string[] = [];
  host.addEventListener("dismiss", (event) => {
    told.push(event.detail.video.title);
    if (event.detail.video.title === "one") event.preventDefault();
  });
  const [first, second] = ["one", "two"].map((title) => show(title));
  happens(close(first!), "click");
  happens(first!, "keydown", { key: "Escape" });
  happens(second!, "keydown", { key: "Escape" });
  expect(told).toEqual(["one", "one", "two"]);
  expect(toasts()).toEqual([first]);
});

test("a toast whose time is up tells nothing", async () => {
  host.addEventListener("dismiss", () => expect.unreachable());
  show("one");
  await pass(6_000);
  expect(toasts()).toEqual([]);
});

test.each([
  ["https://video.example/watch?v=1", "https://video.example/watch?v=1"],
  ["HTTPS://video.example", "https://video.example/"],
  ["http://video.example/", undefined],
  // Not even on the page's own origin: a publisher does not choose addresses of the page.
  ["/logout", undefined],
  ["//video.example/", undefined],
  ["javascript:alert(1)", undefined],
  [" java\nscript:alert(1)", undefined],
  ["data:text/html,<script>alert(1)</script>", undefined],
  ["blob:https://www.example.com/1", undefined],
  ["https://", undefined],
  // The user name looks like a host.
  ["https://user@video.example/", undefined],
  ["https://user:password@video.example/", undefined],
  ["https://:password@video.example/", undefined],
  ["https://@video.example/", "https://video.example/"],
  ["", undefined],
  [null, undefined],
  [{ href: "https://video.example/" }, undefined],
])("a toast with the url %j links to %j", (url, href) => {
  const link = show("one", { url }).querySelector("a");
  expect(link?.href).toBe(href);
  if (href) expect([link!.target, link!.rel, link!.textContent]).toEqual(["_blank", "noopener", "one"]);
});

test.each([
  [() => "watch/v", "https://www.example.com/alerts/watch/v", ""],
  [() => "https://www.example.com/watch", "https://www.example.com/watch", ""],
  [() => "https://other.example/", "https://other.example/", "_blank"],
  [() => "http://www.example.com/", undefined, undefined],
  [() => "javascript:alert(1)", undefined, undefined],
  [() => "https://user:password@other.example/", undefined, undefined],
  [() => "//user@www.example.com/", undefined, undefined],
  [() => Promise.resolve("https://other.example/"), undefined, undefined],
  [() => 5, undefined, undefined],
  [() => undefined, undefined, undefined],
])("href = %s links to %j", (href, address, target) => {
  host.href = href as typeof host.href;
  const link = show("one", { url: "https://video.example/" }).querySelector("a");
  expect([link?.href, link?.target]).toEqual([address, target]);
  expect(reported).toEqual([]);
});

test("on a page without an origin, a script is not taken for an address of its own", () => {
  vi.stubGlobal("location", { origin: new URL("data:,").origin });
  for (const url of ["javascript:alert(1)", "data:,text"]) {
    host.href = () => url;
    expect(show("one").querySelector("a")).toBe(undefined);
  }
});

test("a callback that throws costs its link or its own headline, not the toast, and is reported", () => {
  const errors = [Error("no headline"), TypeError("no address")];
  host.headline = () => {
    throw errors[0];
  };
  host.href = () => {
    throw errors[1];
  };
  const toast = show("one", { url: "https://video.example/" });
  expect(toast.children.slice(1, 3).map(({ textContent }) => textContent)).toEqual(["Viral in PL!", "one"]);
  expect(toast.querySelector("a")).toBe(undefined);
  expect(reported).toEqual(errors);
});

test.each([[Promise.resolve("Hot")], [undefined]])(
  "a headline that is not text falls back to the default: %s",
  (headline) => {
    host.headline = () => headline as unknown as string;
    expect(show("one").children[1]!.textContent).toBe("Viral in PL!");
  },
);

test("callbacks are called as methods of the element", () => {
  host.headline = function (this: unknown) {
    return `${this === host}`;
  };
  expect(show("one").children[1]!.textContent).toBe("true");
});

// The last one is a letter that is blank by definition.
const UNSEEN = [
  "",
  " \t\u00a0",
  "\u200b\u200b",
  "\u200e",
  "\u2800",
  "\u00ad",
  "\0\u0001",
  "\u202e\u2069",
  "\ufe0f",
  "\u3164",
];

test.each(UNSEEN)("a link with a title of which nothing is seen has the name of its headline: %j", (title) => {
  host.headline = () => "Hot";
  const toast = show(title, { url: "https://video.example/" });
  expect(toast.querySelector("a")!.ariaLabel).toBe("Hot");
  expect(close(toast).ariaLabel).toBe("Dismiss");
  host.headline = () => title;
  expect(show(title, { url: "https://video.example/" }).querySelector("a")!.ariaLabel).toBe("Viral in PL!");
});

test.each(["a", "\u200e\u05d0", "👩‍👩‍👧", "한", "…"])(
  "a link with a title that is seen has that as its name: %j",
  (title) => {
    const toast = show(title, { url: "https://video.example/" });
    expect(toast.querySelector("a")).toMatchObject({ ariaLabel: "", textContent: title });
    expect(close(toast).ariaLabel).toBe(`Dismiss: ${title}`);
  },
);

test.each(["pointerenter", "focusin"])(
  "toasts close after the element was taken out and put back in %s",
  async (type) => {
    happens(show("one"), type);
    host.disconnectedCallback();
    host.connectedCallback();
    show("two");
    await pass(6_000);
    expect(toasts()).toEqual([]);
  },
);

test.each([
  ["click", 0, true],
  ["auxclick", 1, true],
  ["auxclick", 2, false],
])("a link that is opened by %s of button %i is activated: %j", (type, button, isActivated) => {
  const told: unknown[] = [];
  host.addEventListener("activate", ({ detail }) => told.push(detail.video.id));
  const link = show("one", { url: "https://video.example/" }).querySelector("a")!;
  expect(happens(link, type, { button })).toBe(true);
  expect(told).toEqual(isActivated ? ["v"] : []);
  expect(toasts().length).toBe(isActivated ? 0 : 1);
});

test("activate that is cancelled does not follow the link", () => {
  host.addEventListener("activate", (event) => event.preventDefault());
  const link = show("one", { url: "https://video.example/" }).querySelector("a")!;
  expect(happens(link, "click", { button: 0 })).toBe(false);
  expect(toasts()).toEqual([]);
});

const F8 = { key: "F8", code: "F8", altKey: false, ctrlKey: false, metaKey: false, shiftKey: false };

describe("the hot key", () => {
  test("moves focus to the newest toast, and dismissing the last one moves it back", () => {
    expect(host.getAttribute("aria-keyshortcuts")).toBe("F8");
    expect(happens(page, "keydown", F8)).toBe(true);
    const [first, second] = [show("one", { url: "https://video.example/" }), show("two")];
    expect(happens(page, "keydown", F8)).toBe(false);
    expect(FakeElement.focused).toBe(close(second));
    happens(second, "keydown", { key: "Escape" });
    expect(FakeElement.focused).toBe(close(first));
    // A move among toasts is not remembered.
    happens(page, "keydown", F8);
    expect(FakeElement.focused).toBe(first.querySelector("a"));
    happens(first, "keydown", { key: "Escape" });
    expect(FakeElement.focused).toBe(page.activeElement);
    host.disconnectedCallback();
    show("three");
    expect(happens(page, "keydown", F8)).toBe(true);
  });

  test("that is told to screen readers is the one that counts, unless the page tells another", () => {
    const told: (string | null)[] = [];
    const tell = (): unknown => told.push(host.getAttribute("aria-keyshortcuts"));
    for (const hotkey of ["Alt+T", "", "Alt+N"]) {
      host.setAttribute("hotkey", hotkey);
      tell();
    }
    host.removeAttribute("hotkey");
    tell();
    expect(told).toEqual(["Alt+T", null, "Alt+N", "F8"]);
    host.setAttribute("aria-keyshortcuts", "Alt+N F8");
    host.setAttribute("hotkey", "Alt+N");
    expect(host.getAttribute("aria-keyshortcuts")).toBe("Alt+N F8");
  });

  test.each([
    ["F8", { shiftKey: true }, false],
    ["", {}, false],
    ["Alt+T", { key: "†", code: "KeyT", altKey: true }, true],
    ["Alt+T", { key: "t", code: "KeyT" }, false],
    ["Control+Alt+n", { key: "N", code: "KeyN", altKey: true, ctrlKey: true }, true],
    // Somebody types.
    ["t", { key: "t", code: "KeyT" }, false],
    ["Shift+T", { key: "T", code: "KeyT", shiftKey: true }, false],
    // A browser that fills in a form.
    ["F8", { key: undefined, code: undefined }, false],
  ])("%j is pressed by %j: %j", (hotkey, keys, isPressed) => {
    host.setAttribute("hotkey", hotkey);
    const toast = show("one");
    happens(page, "keydown", { ...F8, ...keys });
    expect(FakeElement.focused).toBe(isPressed ? close(toast) : undefined);
  });
});

test.each([
  ["Infinity", 1],
  ["2592000000", 1],
  ["300", 0],
  ["soon", 0],
])("a duration of %s leaves %i toasts after seven seconds", async (duration, left) => {
  host.setAttribute("duration", duration);
  show("one");
  await pass(200);
  expect(toasts().length).toBe(1);
  await pass(6_800);
  expect(toasts().length).toBe(left);
});

test("the toast of an alert that was taken back goes, and the focus to the next one", () => {
  const alert = { type: "viral_alert", region: "PL", epoch: 9, timestamp: "" } as const;
  for (const seq of [1, 2, 3]) host.show({ ...alert, seq, video: { id: "v", title: `${seq}` } });
  close(toasts()[1]!)!.focus();
  const removed = { type: "alert_removed", region: "PL", epoch: 9, seq: 2, id: "a" } as const;
  for (const other of [{ region: "DE" }, { epoch: 8 }, { seq: 4 }]) host.drop({ ...removed, ...other });
  expect(toasts().length).toBe(3);
  for (let times = 0; times < 2; times++) host.drop(removed);
  expect(toasts().map(({ children }) => children[2]!.textContent)).toEqual(["1", "3"]);
  expect(FakeElement.focused).toBe(close(toasts()[1]!));
});

describe("with a limit", () => {
  const texts = (): string[] =>
    toasts().map((toast) =>
      toast.descendants
        .filter(({ className, name }) => ["what", "title"].includes(className) || name === "a")
        .map(({ textContent }) => textContent)
        .filter(Boolean)
        .join(" / "),
    );
  const showSeq = (seq: number, region = "PL", url = ""): void => {
    const video = { id: "v", title: `Title ${seq}`, ...(url && { url }) };
    host.show({ type: "viral_alert", region, epoch: 1, seq, video, timestamp: "" });
  };
  const drop = (seq: number, region = "PL"): void =>
    host.drop({ type: "alert_removed", region, epoch: 1, seq, id: "" });
  beforeEach(() => {
    host.setAttribute("per-minute", "2");
    host.setAttribute("duration", "Infinity");
  });

  test("what exceeds it within a minute is one toast that counts, with the newest title", async () => {
    showSeq(1);
    showSeq(2);
    showSeq(3);
    expect(texts()).toEqual(["Viral in PL! / Title 1", "Viral in PL! / Title 2", "1 more alert in Poland / Title 3"]);
    for (let seq = 4; seq <= 9; seq++) showSeq(seq);
    expect(texts()[2]).toBe("7 more alerts in Poland / Title 9");
    await pass(60_000);
    showSeq(10);
    expect(texts()[3]).toBe("Viral in PL! / Title 10");
    showSeq(1, "DE");
    showSeq(2, "DE");
    expect(texts().find((text) => /more/.test(text))).toBe("8 more alerts / Title 2");
  });

  test("its time begins anew with each alert, and after it has gone the count begins at one", async () => {
    host.setAttribute("duration", "6000");
    for (let seq = 1; seq <= 3; seq++) showSeq(seq);
    await pass(4_000);
    showSeq(4);
    await pass(4_000);
    expect(texts()).toEqual(["2 more alerts in Poland / Title 4"]);
    await pass(2_000);
    expect(texts()).toEqual([]);
    showSeq(5);
    expect(texts()).toEqual(["1 more alert in Poland / Title 5"]);
  });

  test("what was taken back is not counted, and the toast goes with the last of them", () => {
    for (let seq = 1; seq <= 5; seq++) showSeq(seq);
    drop(5);
    drop(3);
    expect(texts()[2]).toBe("1 more alert in Poland / Title 4");
    drop(4);
    drop(1);
    expect(texts()).toEqual(["Viral in PL! / Title 2"]);
  });

  test("it opens the newest alert, and a region that is no country has its own name", () => {
    for (let seq = 1; seq <= 4; seq++) showSeq(seq, "PL-MUSIC", `https://video.example/${seq}`);
    expect(texts()[2]).toBe("2 more alerts in PL-MUSIC / Title 4");
    const opened: unknown[] = [];
    host.addEventListener("activate", ({ detail }) => opened.push(detail.seq));
    const link = toasts()[2]!.querySelector("a")!;
    expect(link.href).toBe("https://video.example/4");
    happens(link, "click", { button: 0 });
    expect([opened, texts().length]).toEqual([[4], 2]);
  });

  test("a page says it in its own words, and a summary that throws costs only these", () => {
    const forms: Record<string, string> = { one: "alert", few: "alerty" };
    const rules = new Intl.PluralRules("pl");
    host.summary = ({ length }) => `${length} ${forms[rules.select(length)] ?? "alertów"} więcej`;
    for (let seq = 1; seq <= 5; seq++) showSeq(seq);
    expect(texts()[2]).toBe("3 alerty więcej / Title 5");
    const broken = Error("broken");
    host.summary = () => {
      throw broken;
    };
    showSeq(6);
    expect([texts()[2], reported]).toEqual(["4 more alerts in Poland / Title 6", [broken]]);
  });

  test("it counts no further than 999", () => {
    for (let seq = 1; seq <= 1_005; seq++) showSeq(seq);
    expect(texts()[2]).toBe("999+ more alerts in Poland / Title 1005");
  });
});
