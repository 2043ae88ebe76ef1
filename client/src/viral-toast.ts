import { TIMER_MS_MAX } from "./limits.js";
import type { RemovedAlert, ViralAlert } from "./types.js";

/**
 * The events of `<viral-toast>`. `detail` is the alert of the toast, of several the newest. Both events can be
 * cancelled.
 */
export interface ViralToastEventMap extends HTMLElementEventMap {
  /** A toast's link was opened. Cancelling it leaves the link unopened. The toast closes in both cases. */
  activate: CustomEvent<ViralAlert>;
  /** The button or Escape closed a toast. Cancelling it keeps the toast. A toast that times out dispatches no event. */
  dismiss: CustomEvent<ViralAlert>;
}

/**
 * Shows alerts as toasts at the edge of the page. Screen readers announce them. A toast opens the link of its alert.
 * The button or Escape closes it and moves focus to the next toast, or back to the page. While a toast is hovered or
 * focused, none times out. Titles are shown as text, in their own direction, on up to three lines.
 *
 * Attributes:
 *
 * - `duration`: milliseconds until a toast closes. Default: 6,000. `Infinity` never closes one.
 * - `max`: toasts shown at a time. Default: 4. A narrow or low screen shows at most 2.
 * - `per-minute`: toasts within a minute. What exceeds it is gathered in one toast, which says how many alerts it
 *   stands for and shows the newest of them. Default: no limit.
 *
 *   These three are numbers from 0. Anything else counts as the default.
 * - `hotkey`: the key that moves focus to the newest toast, such as `Alt+T`. Default: `F8`. Empty: none.
 * - `dismiss-label`: the label of the button. Default: `Dismiss`.
 * - `aria-label`: the name of the whole element. Default: `New alerts`.
 *
 * CSS custom properties: `--toast-ground`, `--toast-ink`, `--toast-accent`, `--toast-line`.
 */
export interface ViralToastElement extends HTMLElement {
  /** Returns the line above the title. Default: `Viral in PL!`, also if the function throws or returns no string. */
  headline: (alert: ViralAlert) => string;
  /**
   * Returns the line above the title of a toast that stands for several alerts, oldest first. Default:
   * `7 more alerts in Poland`, also if the function throws or returns no string.
   */
  summary: (alerts: readonly ViralAlert[]) => string;
  /**
   * Returns the address that a toast opens, or `undefined` for no link. Default: `videoUrl`.
   *
   * An address of the page's own origin may be relative and opens in the same tab. Another origin opens in a new tab
   * and has to be `https:`. An address with a user name, or anything that is not a string, gives no link. If the
   * function throws, the toast has no link and the error goes to `reportError`.
   */
  href: (alert: ViralAlert) => string | undefined;
  /** Shows a toast. */
  show(alert: ViralAlert): void;
  /** Removes a removed alert from its toast, and the toast if it stands for no other. Dispatches no event. */
  drop(alert: RemovedAlert): void;
  addEventListener<Type extends keyof ViralToastEventMap>(
    type: Type,
    listener: (this: ViralToastElement, event: ViralToastEventMap[Type]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<Type extends keyof ViralToastEventMap>(
    type: Type,
    listener: (this: ViralToastElement, event: ViralToastEventMap[Type]) => void,
    options?: boolean | EventListenerOptions,
  ): void;
  removeEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject,
    options?: boolean | EventListenerOptions,
  ): void;
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
const MINUTE_MS = 60_000;
/** Alerts that one toast stands for. It counts no further. */
const GATHERED_MAX = 999;
/** A visible character: not a space, a control or a format character. U+2800 is the Braille pattern without dots. */
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
  font: medium/1.5 system-ui, sans-serif;
  color-scheme: light dark;
  --ground: var(--toast-ground, light-dark(#fff, #1e1e22));
  --ink: var(--toast-ink, light-dark(#1d1c1a, #f0eeea));
  --accent: var(--toast-accent, light-dark(#c81e3a, #ff6f83));
  --line: var(--toast-line, light-dark(#dedad2, #37363b));
}
/* A transform puts the stack at the bottom: toasts that come and go move no other one in the layout, so the page does
   not shift. */
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
.what {
  grid-column: 2;
  text-align: -webkit-match-parent;
  text-align: match-parent;
  font-size: .85rem;
  font-weight: 700;
  color: var(--accent);
  overflow-wrap: anywhere;
}
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
@media (pointer: coarse) {
  button { min-width: 44px; min-height: 44px; margin-block: -.75rem -.4rem; margin-inline-end: -.75rem; }
}
@keyframes arrive { from { opacity: 0; transform: translateY(1rem); } }
@media (prefers-reduced-motion: reduce) { .toast { animation: none; } }
`;

/** Builds an element. Text is set as text, so a publisher's text never becomes markup. */
function element<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  properties: Partial<HTMLElementTagNameMap[Name]>,
): HTMLElementTagNameMap[Name] {
  return Object.assign(document.createElement(name), properties);
}

/**
 * Returns the thumbnail, or a neutral picture if there is none, if it fails to load, or if its address is not a
 * picture's.
 */
function picture(address = ""): HTMLElement {
  const neutral = element("div", { className: "picture", textContent: "▶", ariaHidden: "true" });
  if (!/^(https?:|data:image\/)/i.test(address)) return neutral;
  const image = element("img", { className: "picture", alt: "", referrerPolicy: "no-referrer", src: address });
  image.addEventListener("error", () => image.replaceWith(neutral), { once: true });
  return image;
}

/** Parses an address. Returns `undefined` if it is invalid or names a user, who may look like another host. */
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

const REGION_NAMES = new Intl.DisplayNames("en", { type: "region", fallback: "code" });
const FORMS: Partial<Record<Intl.LDMLPluralRule, string>> = { one: "more alert" };

/** Returns the English name of a region that is a country, or the region itself. */
function nameOf(region: string): string {
  try {
    return REGION_NAMES.of(region)!;
  } catch {
    return region;
  }
}

function defaultSummary(alerts: readonly ViralAlert[]): string {
  const count = alerts.length;
  const form = FORMS[new Intl.PluralRules("en").select(count)] ?? "more alerts";
  const [region, ...others] = new Set(alerts.map(({ region }) => region));
  return `${count}${count < GATHERED_MAX ? "" : "+"} ${form}${others[0] ? "" : ` in ${nameOf(region!)}`}`;
}

/**
 * Calls a callback of the page and returns its result. Reports an error, as an event listener's, so the toast still
 * shows.
 */
function resultOf(callback: () => unknown): unknown {
  try {
    return callback();
  } catch (error) {
    reportError(error);
    return undefined;
  }
}

/**
 * Returns `video.url` of an alert if a link may open it: an `https:` address without a user name. Otherwise returns
 * `undefined`.
 *
 * @example
 * toast.href = (alert) => (alert.region === "PL" ? "/watch/" + alert.video.id : videoUrl(alert));
 */
export function videoUrl({ video }: ViralAlert): string | undefined {
  const url = parsed(video.url);
  return url?.protocol === "https:" ? url.href : undefined;
}

/** Builds the link to an address that `href` returned. Returns `undefined` if a link may not open it. */
function linkTo(address: unknown): HTMLAnchorElement | undefined {
  const url = parsed(address, document.baseURI);
  // The scheme comes first: a `javascript:` address has the origin "null", as a sandboxed page has.
  const isOwn = url && /^https?:$/.test(url.protocol) && url.origin === location.origin;
  if (!url || (!isOwn && url.protocol !== "https:")) return undefined;
  return element("a", { href: url.href, ...(!isOwn && { target: "_blank", rel: "noopener" }) });
}

/**
 * Whether a key event is the hot key, written as in `aria-keyshortcuts`. A single character is typing, never a hot key.
 */
function isPressed(event: KeyboardEvent, hotkey: string): boolean {
  const [name = "", ...modifiers] = hotkey.toLowerCase().split("+").reverse();
  // On some systems Alt changes the letter, but not the code. An event of a form that fills itself in has neither.
  const isKey = [event.key, event.code?.replace("Key", "")].some((key) => key?.toLowerCase() === name);
  const held = { alt: event.altKey, control: event.ctrlKey, meta: event.metaKey, shift: event.shiftKey };
  const isTyped = name.length === 1 && !held.alt && !held.control && !held.meta;
  return (
    isKey && !isTyped && Object.entries(held).every(([modifier, isHeld]) => isHeld === modifiers.includes(modifier))
  );
}

/**
 * Defines the custom element `<viral-toast>`, or one of another name. Does nothing if the name is defined already.
 *
 * @example
 * defineViralToast();
 * const toast = document.body.appendChild(document.createElement("viral-toast"));
 * alerts.addEventListener("alert", ({ detail }) => toast.show(detail));
 * alerts.addEventListener("removed", ({ detail }) => toast.drop(detail));
 */
export function defineViralToast(name = "viral-toast"): void {
  if (customElements.get(name)) return;
  // At the top level the class would fail on a server that renders pages, which has no HTMLElement.
  class ViralToast extends HTMLElement implements ViralToastElement {
    static readonly observedAttributes = ["hotkey"];
    headline = defaultHeadline;
    summary = defaultSummary;
    href = videoUrl;
    readonly #root = this.attachShadow({ mode: "open" });
    readonly #stack = element("div", { className: "stack" });
    /** The toasts, oldest first, each with its timer. While a toast is hovered or focused there are no timers. */
    readonly #timers = new Map<Element, ReturnType<typeof setTimeout> | undefined>();
    /** The alerts of each toast, oldest first, and what shows the newest one. */
    readonly #contents = new WeakMap<Element, { alerts: ViralAlert[]; fill: () => void }>();
    /** The toast that stands for what exceeds the limit, while it is shown. */
    #gathered: Element | undefined;
    /** When the toasts of the last minute were shown, in milliseconds. */
    #shownAt: number[] = [];
    /** The hovered and the focused toast. CSS `:hover` would stay on a toast that a finger has touched. */
    #pointed: Element | undefined;
    #focused: Element | undefined;
    /** The element that had the focus before the hot key moved it. */
    #before: Element | null = null;

    connectedCallback(): void {
      const style = new CSSStyleSheet();
      style.replaceSync(STYLE);
      // Unlike a style element, this works under any Content-Security-Policy.
      this.#root.adoptedStyleSheets = [style];
      this.#root.append(this.#stack);
      const attributes = {
        role: "region",
        "aria-live": "polite",
        "aria-label": "New alerts",
        "aria-keyshortcuts": this.#hotkey(),
      };
      for (const [name, value] of Object.entries(attributes)) {
        if (value && !this.hasAttribute(name)) this.setAttribute(name, value);
      }
      document.addEventListener("keydown", this.#onKey);
    }

    disconnectedCallback(): void {
      document.removeEventListener("keydown", this.#onKey);
      // A removed element gets no `pointerleave` and no `focusout`.
      this.#use(undefined, undefined);
    }

    attributeChangedCallback(_: string, before: string | null): void {
      // Not yet connected, or the page has set the attribute itself.
      if ((this.getAttribute("aria-keyshortcuts") ?? "") !== (before ?? HOTKEY)) return;
      if (this.#hotkey()) this.setAttribute("aria-keyshortcuts", this.#hotkey());
      else this.removeAttribute("aria-keyshortcuts");
    }

    #hotkey(): string {
      return this.getAttribute("hotkey") ?? HOTKEY;
    }

    /** Returns the number in an attribute, or `usual` if it has none or one below 0. */
    #number(attribute: string, usual: number): number {
      const text = this.getAttribute(attribute)?.trim();
      const value = Number(text || NaN);
      return value >= 0 ? value : usual;
    }

    readonly #onKey = (event: KeyboardEvent): void => {
      const newest = this.#stack.lastElementChild;
      if (!newest || event.defaultPrevented || !isPressed(event, this.#hotkey())) return;
      event.preventDefault();
      if (!this.#focused) this.#before = document.activeElement;
      newest.querySelector<HTMLElement>("a, button")!.focus();
      // Focusing may have brought only the button into view.
      newest.scrollIntoView({ block: "nearest" });
    };

    /** Restarts the timer of a toast, unless any toast is in use: its user may want to read the others too. */
    #start(toast: Element): void {
      clearTimeout(this.#timers.get(toast));
      const duration = this.#number("duration", DURATION_MS);
      // `setTimeout` takes no longer delay.
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
      if (toast === this.#gathered) this.#gathered = undefined;
      toast.remove();
      // A removed element gets no `pointerleave` and no `focusout`.
      if (wasFocused || toast === this.#pointed) {
        this.#use(toast === this.#pointed ? undefined : this.#pointed, wasFocused ? undefined : this.#focused);
      }
      if (wasFocused) (next ?? (this.#before as HTMLElement | null))?.focus();
    }

    drop({ region, epoch, seq }: RemovedAlert): void {
      for (const toast of [...this.#timers.keys()]) {
        const { alerts, fill } = this.#contents.get(toast)!;
        const at = alerts.findIndex((one) => one.region === region && one.epoch === epoch && one.seq === seq);
        if (at < 0) continue;
        if (!alerts[1]) this.#remove(toast);
        else {
          alerts.splice(at, 1);
          fill();
        }
      }
    }

    show(alert: ViralAlert): void {
      const now = performance.now();
      this.#shownAt = this.#shownAt.filter((at) => at > now - MINUTE_MS);
      const isOver = this.#shownAt.length >= this.#number("per-minute", Infinity);
      if (!isOver) this.#shownAt.push(now);
      if (!isOver || !this.#gathered) return this.#present(alert, isOver);
      const { alerts, fill } = this.#contents.get(this.#gathered)!;
      alerts.push(alert);
      alerts.splice(0, alerts.length - GATHERED_MAX);
      fill();
      this.#start(this.#gathered);
    }

    /** Adds a toast, which stands for other alerts too if it `gathers`. */
    #present(first: ViralAlert, gathers: boolean): void {
      const alerts = [first];
      const tell = (type: string): boolean =>
        this.dispatchEvent(new CustomEvent(type, { detail: alerts.at(-1), cancelable: true }));
      const toast = element("article", { className: "toast" });
      const what = element("p", { className: "what", dir: "auto" });
      const title = element("p", { className: "title" });
      const close = element("button", { type: "button", textContent: "×" });
      const open = (event: MouseEvent): void => {
        // Only the first and the middle button open links.
        if (event.button > 1) return;
        if (!tell("activate")) event.preventDefault();
        this.#remove(toast);
      };
      const fill = (): void => {
        const alert = alerts.at(-1)!;
        const { video, dir = "auto" } = alert;
        const label = this.getAttribute("dismiss-label") ?? "Dismiss";
        close.ariaLabel = VISIBLE.test(video.title) ? `${label}: ${video.title}` : label;
        const usual = gathers ? defaultSummary(alerts) : defaultHeadline(alert);
        const given = resultOf(() => (gathers ? this.summary(alerts) : this.headline(alert)));
        const headline = typeof given === "string" ? given : usual;
        what.textContent = headline;
        title.dir = dir;
        const before = title.querySelector("a");
        const hadFocus = !!before && before === this.#root.activeElement;
        const link = linkTo(resultOf(() => this.href(alert)));
        title.textContent = link ? "" : video.title;
        if (link) {
          link.textContent = video.title;
          // A link without text has no name for screen readers.
          if (!VISIBLE.test(video.title)) link.ariaLabel = VISIBLE.test(headline) ? headline : usual;
          title.replaceChildren(link);
          link.addEventListener("click", open);
          link.addEventListener("auxclick", open);
        }
        if (hadFocus) (link ?? close).focus();
      };
      this.#contents.set(toast, { alerts, fill });
      if (gathers) this.#gathered = toast;
      fill();
      toast.append(picture(gathers ? "" : (first.video.thumbnail ?? "")), what, title, close);
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
      this.#start(toast);
      const max = Math.min(
        this.#number("max", TOASTS_MAX),
        matchMedia(SMALL_SCREEN).matches ? SMALL_SCREEN_TOASTS_MAX : Infinity,
      );
      for (const old of [...this.#timers.keys()]) {
        // The oldest toasts make room, except those in use, and except the new one if `max` is at least 1.
        const stays = old === toast ? max >= 1 : old === this.#pointed || old === this.#focused;
        if (this.#timers.size > max && !stays) this.#remove(old);
      }
      if (!this.#pointed && !this.#focused) this.scrollTop = this.scrollHeight;
    }
  }
  customElements.define(name, ViralToast);
}
