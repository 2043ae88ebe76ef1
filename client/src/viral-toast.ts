import { TIMER_MS_MAX } from "./limits.js";
import type { RemovedAlert, ViralAlert } from "./types.js";

/** The events of `<viral-toast>`. `detail` is the alert of the toast, and both can be cancelled. */
export interface ViralToastEventMap extends HTMLElementEventMap {
  /** The link of a toast was opened. Cancelled, it is not followed; the toast closes in either case. */
  activate: CustomEvent<ViralAlert>;
  /** The button or Escape closes a toast. Cancelled, the toast stays. A toast whose time is up tells nothing. */
  dismiss: CustomEvent<ViralAlert>;
}

/**
 * Shows alerts at the edge of the page; screen readers announce them. A toast whose alert has a link opens it. The button or
 * Escape dismisses a toast and moves focus to the next one, or back to the page. No toast closes by itself while a pointer or
 * the focus is on one of them. Titles are text in their own direction, never markup, and three lines at most.
 *
 * Attributes: `duration` in milliseconds (6,000 by default; `Infinity` never closes a toast), `max` toasts at a time (4; on a
 * narrow or low screen at most 2), `hotkey` that moves focus to the newest toast (`F8`; with modifiers `Alt+T`; empty for
 * none), `dismiss-label` (`Dismiss`), and `aria-label` (`New alerts`). Custom properties: `--toast-ground`, `--toast-ink`,
 * `--toast-accent`, `--toast-line`.
 */
export interface ViralToastElement extends HTMLElement {
  /** Returns the text above the title; `Viral in PL!` by default, and where it throws or returns no string. */
  headline: (alert: ViralAlert) => string;
  /**
   * Returns the address that a toast opens, or `undefined` for none; by default `videoUrl`. An address of the page's own
   * origin, which may be relative, opens in the same tab, and one of another origin in a new tab. Any other scheme than
   * `https:` is ignored, except `http:` on the page's own origin, as is one that names a user, and anything but a string. Where
   * it throws, the toast has no link. The error is reported.
   */
  href: (alert: ViralAlert) => string | undefined;
  show(alert: ViralAlert): void;
  /** Removes the toast of an alert that was taken back, if it is there. Tells nothing. */
  drop(alert: RemovedAlert): void;
  addEventListener<Type extends keyof ViralToastEventMap>(
    type: Type,
    listener: (this: ViralToastElement, event: ViralToastEventMap[Type]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(type: string, listener: EventListenerOrEventListenerObject, options?: boolean | AddEventListenerOptions): void;
  removeEventListener<Type extends keyof ViralToastEventMap>(
    type: Type,
    listener: (this: ViralToastElement, event: ViralToastEventMap[Type]) => void,
    options?: boolean | EventListenerOptions,
  ): void;
  removeEventListener(type: string, listener: EventListenerOrEventListenerObject, options?: boolean | EventListenerOptions): void;
}

declare global {
  interface HTMLElementTagNameMap {
    "viral-toast": ViralToastElement;
  }
}

const DURATION_MS = 6_000;
const TOASTS_MAX = 4;
/** More would cover most of a small screen. */
const SMALL_SCREEN_TOASTS_MAX = 2;
const SMALL_SCREEN = "(max-width: 30rem), (max-height: 30rem)";
const HOTKEY = "F8";
/** A character that is seen: none that is blank, a control, or a mark of format. U+2800 is the Braille pattern without dots. */
const VISIBLE = /[^\s\p{Cc}\p{Cf}\p{Default_Ignorable_Code_Point}\u2800]/u;

const STYLE = `
:host {
  --inset-block: max(1rem, env(safe-area-inset-top), env(safe-area-inset-bottom));
  --inset-inline: max(1rem, env(safe-area-inset-left), env(safe-area-inset-right));
  display: block;
  position: fixed;
  inset-block: 0;
  inset-inline-end: 0;
  width: min(24rem + 2 * var(--inset-inline), 100vw);
  overflow: hidden auto;
  overscroll-behavior: contain;
  scrollbar-width: thin;
  pointer-events: none;
  z-index: 2147483647;
  font: 16px/1.5 system-ui, sans-serif;
  color-scheme: light dark;
  --ground: var(--toast-ground, light-dark(#fff, #1e1e22));
  --ink: var(--toast-ink, light-dark(#1d1c1a, #f0eeea));
  --accent: var(--toast-accent, light-dark(#c81e3a, #ff6f83));
  --line: var(--toast-line, light-dark(#dedad2, #37363b));
}
/* At the bottom by a transform: where toasts come and go no other one moves in the layout, which counts as a shift of the page. */
.stack {
  position: absolute;
  inset-block-start: 100%;
  inset-inline: 0;
  transform: translateY(max(-100%, -100vh));
  transform: translateY(round(max(-100%, -100dvh), 1px));
  box-sizing: border-box;
  padding: var(--inset-block) var(--inset-inline);
  display: grid;
  gap: .6rem;
}
.toast {
  position: relative;
  scroll-margin-block: var(--inset-block);
  pointer-events: auto;
  display: grid;
  grid-template-columns: 5.5rem minmax(0, 1fr) auto;
  gap: .15rem .85rem;
  padding: .75rem;
  background: var(--ground);
  color: var(--ink);
  border: 1px solid var(--line);
  border-inline-start: 5px solid var(--accent);
  border-radius: 12px;
  box-shadow: 0 4px 14px rgb(0 0 0 / .25);
  animation: arrive .25s ease-out;
}
.toast:has(a:hover) { border-color: var(--accent); }
.toast:has(a:focus-visible) { outline: 3px solid var(--accent); outline-offset: 2px; }
p { margin: 0; overflow: hidden; }
.picture {
  grid-row: span 2;
  align-self: center;
  width: 100%;
  aspect-ratio: 16 / 9;
  object-fit: cover;
  border-radius: 8px;
  background: var(--line);
  display: grid;
  place-items: center;
}
.what { grid-column: 2; text-align: -webkit-match-parent; text-align: match-parent; font-size: .85rem; font-weight: 700; color: var(--accent); overflow-wrap: anywhere; }
.title {
  grid-column: 2 / 4;
  font-weight: 600;
  overflow-wrap: anywhere;
  text-align: start;
  display: -webkit-box;
  -webkit-box-orient: vertical;
  -webkit-line-clamp: 3;
}
a { color: inherit; text-decoration: none; outline: none; }
a:hover { text-decoration: underline; }
a::after { content: ""; position: absolute; inset: 0; border-radius: 12px; }
button {
  grid-area: 1 / 3;
  position: relative;
  z-index: 1;
  border: 0;
  background: none;
  padding: 0 .4rem;
  min-width: 1.5rem;
  min-height: 1.5rem;
  font: inherit;
  line-height: 1;
  color: inherit;
  cursor: pointer;
  border-radius: 6px;
}
button:focus-visible { outline: 3px solid var(--accent); }
@media (pointer: coarse) { button { min-width: 44px; min-height: 44px; margin-block: -.75rem -.4rem; margin-inline-end: -.75rem; } }
@keyframes arrive { from { opacity: 0; transform: translateY(1rem); } }
@media (prefers-reduced-motion: reduce) { .toast { animation: none; } }
`;

/** Builds an element. Text is always set as text, so nothing that a publisher wrote becomes markup. */
function element<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  properties: Partial<HTMLElementTagNameMap[Name]>,
): HTMLElementTagNameMap[Name] {
  return Object.assign(document.createElement(name), properties);
}

/** The thumbnail, or a neutral picture where there is none, where it does not load, and where it is no picture's address. */
function picture(address = ""): HTMLElement {
  const neutral = element("div", { className: "picture", textContent: "▶", ariaHidden: "true" });
  if (!/^(https?:|data:image\/)/i.test(address)) return neutral;
  const image = element("img", { className: "picture", alt: "", referrerPolicy: "no-referrer", src: address });
  image.addEventListener("error", () => image.replaceWith(neutral), { once: true });
  return image;
}

/** The address, if it is one that a link may have whatever its scheme. */
function parsed(address: unknown, base?: string): URL | undefined {
  if (!address || typeof address !== "string") return undefined;
  try {
    const url = new URL(address, base);
    return url.username || url.password ? undefined : url;
  } catch {
    return undefined;
  }
}

function defaultHeadline({ region }: ViralAlert): string {
  return `Viral in ${region}!`;
}

/** What a callback of the page returns. An error is reported, as that of a listener is, and costs no toast. */
function resultOf(callback: () => unknown): unknown {
  try {
    return callback();
  } catch (error) {
    reportError(error);
    return undefined;
  }
}

/**
 * Returns the address `video.url` of an alert, as a link may have it: `undefined` for anything but `https:`, and where it
 * names a user, which may look like another host.
 */
export function videoUrl({ video }: ViralAlert): string | undefined {
  const url = parsed(video.url);
  return url?.protocol === "https:" ? url.href : undefined;
}

/** A link to an address that `href` returned, or `undefined` where a link may not have it. */
function linkTo(address: unknown): HTMLAnchorElement | undefined {
  const url = parsed(address, document.baseURI);
  // The scheme is compared first: `javascript:` has the same origin, "null", as a page without one.
  const isOwn = url && /^https?:$/.test(url.protocol) && url.origin === location.origin;
  if (!url || (!isOwn && url.protocol !== "https:")) return undefined;
  return element("a", { href: url.href, ...(!isOwn && { target: "_blank", rel: "noopener" }) });
}

/** Whether a key event is the hot key, given as in `aria-keyshortcuts`. A character alone is typed, and never a hot key. */
function isPressed(event: KeyboardEvent, hotkey: string): boolean {
  const [name = "", ...modifiers] = hotkey.toLowerCase().split("+").reverse();
  // Alt changes the letter that a key types on some systems; its code stays. Browsers that fill in a form send neither.
  const isKey = [event.key, event.code?.replace("Key", "")].some((key) => key?.toLowerCase() === name);
  const held = { alt: event.altKey, control: event.ctrlKey, meta: event.metaKey, shift: event.shiftKey };
  const isTyped = name.length === 1 && !held.alt && !held.control && !held.meta;
  return isKey && !isTyped && Object.entries(held).every(([modifier, isHeld]) => isHeld === modifiers.includes(modifier));
}

/** Defines the element `<viral-toast>`, or one of another name, unless it is defined already. */
export function defineViralToast(name = "viral-toast"): void {
  if (customElements.get(name)) return;
  // A class of the module would fail where there are no elements, as on a server that renders pages.
  class ViralToast extends HTMLElement implements ViralToastElement {
    static readonly observedAttributes = ["hotkey"];
    headline = defaultHeadline;
    href = videoUrl;
    readonly #root = this.attachShadow({ mode: "open" });
    readonly #stack = element("div", { className: "stack" });
    /** The toasts, the oldest first, each with the timer that closes it while none is in use. */
    readonly #timers = new Map<Element, ReturnType<typeof setTimeout> | undefined>();
    readonly #alerts = new WeakMap<Element, ViralAlert>();
    /** The toasts that the pointer and the focus are on. CSS would say that a finger still hovers where it has touched. */
    #pointed: Element | undefined;
    #focused: Element | undefined;
    /** What had the focus before the hot key moved it. */
    #before: Element | null = null;

    connectedCallback(): void {
      const style = new CSSStyleSheet();
      style.replaceSync(STYLE);
      // Unlike an element of style, this is allowed by any content security policy.
      this.#root.adoptedStyleSheets = [style];
      this.#root.append(this.#stack);
      const attributes = { role: "region", "aria-live": "polite", "aria-label": "New alerts", "aria-keyshortcuts": this.#hotkey() };
      for (const [name, value] of Object.entries(attributes)) {
        if (value && !this.hasAttribute(name)) this.setAttribute(name, value);
      }
      document.addEventListener("keydown", this.#onKey);
    }

    disconnectedCallback(): void {
      document.removeEventListener("keydown", this.#onKey);
      // What is removed is not told that it is left.
      this.#use(undefined, undefined);
    }

    attributeChangedCallback(_: string, before: string | null): void {
      // Before it is connected there is nothing to change, and what the page has written stays.
      if ((this.getAttribute("aria-keyshortcuts") ?? "") !== (before ?? HOTKEY)) return;
      if (this.#hotkey()) this.setAttribute("aria-keyshortcuts", this.#hotkey());
      else this.removeAttribute("aria-keyshortcuts");
    }

    #hotkey(): string {
      return this.getAttribute("hotkey") ?? HOTKEY;
    }

    readonly #onKey = (event: KeyboardEvent): void => {
      const newest = this.#stack.lastElementChild;
      if (!newest || event.defaultPrevented || !isPressed(event, this.#hotkey())) return;
      event.preventDefault();
      if (!this.#focused) this.#before = document.activeElement;
      newest.querySelector<HTMLElement>("a, button")!.focus();
      // The button alone may be in view.
      newest.scrollIntoView({ block: "nearest" });
    };

    /** Starts the time of a toast anew, unless one is in use: whoever is on one may want the others too. */
    #start(toast: Element): void {
      clearTimeout(this.#timers.get(toast));
      const given = parseFloat(this.getAttribute("duration") ?? "");
      const duration = Number.isNaN(given) ? DURATION_MS : given;
      // A timer takes no longer time.
      const ends = !this.#pointed && !this.#focused && duration < TIMER_MS_MAX;
      this.#timers.set(toast, ends ? setTimeout(() => this.#remove(toast), duration) : undefined);
    }

    #use(pointed: Element | undefined, focused: Element | undefined): void {
      this.#pointed = pointed;
      this.#focused = focused;
      for (const toast of this.#timers.keys()) this.#start(toast);
    }

    #remove(toast: Element): void {
      const wasFocused = toast === this.#focused;
      const next = (toast.nextElementSibling ?? toast.previousElementSibling)?.querySelector("button");
      clearTimeout(this.#timers.get(toast));
      this.#timers.delete(toast);
      toast.remove();
      // What is removed is not told that it is left.
      if (wasFocused || toast === this.#pointed) {
        this.#use(toast === this.#pointed ? undefined : this.#pointed, wasFocused ? undefined : this.#focused);
      }
      if (wasFocused) (next ?? (this.#before as HTMLElement | null))?.focus();
    }

    drop({ region, epoch, seq }: RemovedAlert): void {
      for (const toast of [...this.#timers.keys()]) {
        const alert = this.#alerts.get(toast)!;
        if (alert.region === region && alert.epoch === epoch && alert.seq === seq) this.#remove(toast);
      }
    }

    show(alert: ViralAlert): void {
      const { video, dir = "auto" } = alert;
      const tell = (type: string): boolean => this.dispatchEvent(new CustomEvent(type, { detail: alert, cancelable: true }));
      const label = this.getAttribute("dismiss-label") ?? "Dismiss";
      const ariaLabel = VISIBLE.test(video.title) ? `${label}: ${video.title}` : label;
      const close = element("button", { type: "button", textContent: "×", ariaLabel });
      const given = resultOf(() => this.headline(alert));
      const headline = typeof given === "string" ? given : defaultHeadline(alert);
      const title = element("p", { className: "title", textContent: video.title, dir });
      const toast = element("article", { className: "toast" });
      const link = linkTo(resultOf(() => this.href(alert)));
      if (link) {
        link.textContent = video.title;
        // A link without a text has no name.
        if (!VISIBLE.test(video.title)) link.ariaLabel = VISIBLE.test(headline) ? headline : defaultHeadline(alert);
        title.replaceChildren(link);
        const open = (event: MouseEvent): void => {
          // Other buttons than the first and the middle one do not open links.
          if (event.button > 1) return;
          if (!tell("activate")) event.preventDefault();
          this.#remove(toast);
        };
        link.addEventListener("click", open);
        link.addEventListener("auxclick", open);
      }
      toast.append(picture(video.thumbnail ?? ""), element("p", { className: "what", textContent: headline, dir: "auto" }), title, close);
      const dismiss = (): void => {
        if (tell("dismiss")) this.#remove(toast);
      };
      close.addEventListener("click", dismiss);
      toast.addEventListener("keydown", ({ key }) => key === "Escape" && dismiss());
      toast.addEventListener("pointerenter", () => this.#use(toast, this.#focused));
      toast.addEventListener("pointerleave", () => this.#use(undefined, this.#focused));
      toast.addEventListener("focusin", () => this.#use(this.#pointed, toast));
      toast.addEventListener("focusout", () => this.#use(this.#pointed, undefined));
      this.#stack.append(toast);
      this.#alerts.set(toast, alert);
      this.#start(toast);
      const max = Math.min(Number(this.getAttribute("max") ?? TOASTS_MAX), matchMedia(SMALL_SCREEN).matches ? SMALL_SCREEN_TOASTS_MAX : Infinity);
      for (const old of [...this.#timers.keys()]) {
        // The oldest make room, but not what somebody is about to use, and not the new one as long as one may be there.
        const stays = old === toast ? max >= 1 : old === this.#pointed || old === this.#focused;
        if (this.#timers.size > max && !stays) this.#remove(old);
      }
      if (!this.#pointed && !this.#focused) this.scrollTop = this.scrollHeight;
    }
  }
  customElements.define(name, ViralToast);
}
