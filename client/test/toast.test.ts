// The toast in the little of a document that it uses. That it is seen, said and reached is tested in a browser.

import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { defineViralToast, type ViralToastElement } from "../src/viral-toast.js";
import { pass } from "./application.js";

class FakeElement extends EventTarget {
  children: FakeElement[] = [];
  parent: FakeElement | undefined;
  hovered = false;
  ariaLabel = "";
  className = "";
  textContent = "";
  adoptedStyleSheets: unknown[] = [];
  static focused: FakeElement | undefined;
  readonly #attributes = new Map<string, string>();

  append(...children: FakeElement[]): void {
    for (const child of children) this.children.push(Object.assign(child, { parent: this }));
  }
  remove(): void {
    if (FakeElement.focused && this.children.includes(FakeElement.focused)) FakeElement.focused = undefined;
    const siblings = this.parent!.children;
    if (siblings.includes(this)) siblings.splice(siblings.indexOf(this), 1);
  }
  get firstElementChild(): FakeElement | undefined {
    return this.children[0];
  }
  get nextElementSibling(): FakeElement | null {
    return this.parent!.children[this.parent!.children.indexOf(this) + 1] ?? null;
  }
  get previousElementSibling(): FakeElement | null {
    return this.parent!.children[this.parent!.children.indexOf(this) - 1] ?? null;
  }
  matches(selector: string): boolean {
    const within = this.children.includes(FakeElement.focused!);
    return (selector.includes(":hover") && this.hovered) || (selector.includes(":focus-within") && within);
  }
  /** Only buttons are looked for. */
  querySelector(): FakeElement | undefined {
    return this.children.find(({ ariaLabel }) => ariaLabel);
  }
  focus(): void {
    FakeElement.focused = this;
    this.parent!.dispatchEvent(new Event("focusin"));
  }
  getAttribute = (name: string): string | null => this.#attributes.get(name) ?? null;
  setAttribute = (name: string, value: string): void => void this.#attributes.set(name, value);
  attachShadow(): FakeElement {
    return (this.root = new FakeElement());
  }
  root: FakeElement | undefined;
}

let host: FakeElement & ViralToastElement;
beforeEach(() => {
  vi.useFakeTimers();
  FakeElement.focused = undefined;
  vi.stubGlobal("HTMLElement", FakeElement);
  vi.stubGlobal("document", { createElement: () => new FakeElement() });
  vi.stubGlobal("customElements", { get: () => undefined, define: (_: string, Toast: new () => typeof host) => (host = new Toast()) });
  defineViralToast();
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

const show = (title: string): FakeElement => {
  // Neither a thumbnail nor a score, as of a publisher that has none.
  host.show({ type: "viral_alert", region: "PL", video: { id: "v", title }, timestamp: "" });
  return toasts().at(-1)!;
};
const toasts = (): FakeElement[] => host.root!.children;
const happens = (target: FakeElement, type: string, fields: object = {}): boolean =>
  target.dispatchEvent(Object.assign(new Event(type), fields));

test("a toast stays while the focus is in it, although the pointer leaves", async () => {
  const toast = show("one");
  happens(toast, "pointerenter");
  toast.querySelector()!.focus();
  happens(toast, "pointerleave");
  await pass(60_000);
  expect(toasts().length).toBe(1);
  FakeElement.focused = undefined;
  happens(toast, "focusout");
  happens(toast, "focusin");
  await pass(60_000);
  expect(toasts().length).toBe(1);
  happens(toast, "focusout");
  await pass(6_000);
  expect(toasts().length).toBe(0);
});

test("the oldest toasts make room, except those that are in use", () => {
  host.setAttribute("max", "2");
  const first = show("one");
  first.hovered = true;
  const second = show("two");
  const third = show("three");
  expect(toasts()).toEqual([first, third]);
  expect(toasts()).not.toContain(second);
});

test("an alert without a title and a thumbnail says where it is from, and its button what it does", () => {
  const [picture, headline, close, ...more] = show("").children;
  expect(picture!.textContent).toBe("▶");
  expect(headline!.textContent).toBe("Viral in PL!");
  expect(close!.ariaLabel).toBe("Dismiss");
  expect(more.map(({ textContent }) => textContent)).toEqual([""]);
});

test("a maximum that makes no sense ends", () => {
  host.setAttribute("max", "-1");
  show("one");
  expect(toasts()).toEqual([]);
});

test("whoever dismisses a toast by its button or by Escape is on the next one, and each button says what it dismisses", () => {
  const [first, second, third] = ["one", "two", "three"].map(show);
  expect(second!.querySelector()!.ariaLabel).toBe("Dismiss: two");
  first!.querySelector()!.focus();
  happens(first!.querySelector()!, "click");
  expect(FakeElement.focused).toBe(second!.querySelector());
  happens(second!, "keydown", { key: "Escape" });
  expect(FakeElement.focused).toBe(third!.querySelector());
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
