import { TIMER_MS_MAX } from "./limits.js";
import type { ViralAlert } from "./viral-alerts.js";

/**
 * Shows alerts at the edge of the page, and says them to screen readers. A toast stays while a pointer or the focus is on it,
 * and goes with its button or with Escape. Titles are text in their own direction, never markup.
 *
 * Attributes: `duration` in milliseconds (6,000 by default, `Infinity` for never), `max` toasts at a time (4), `dismiss-label` (`Dismiss`), and
 * `aria-label` (`New alerts`). Custom properties: `--toast-ground`, `--toast-ink`, `--toast-accent`, `--toast-line`.
 */
export interface ViralToastElement extends HTMLElement {
  /** What stands above the title, as text; `Viral in PL!` by default. */
  headline: (alert: ViralAlert) => string;
  show(alert: ViralAlert): void;
}

const DURATION_MS = 6_000;
const TOASTS_MAX = 4;

const STYLE = `
:host {
  position: fixed;
  inset-block-end: 1rem;
  inset-inline-end: 1rem;
  width: min(24rem, calc(100vw - 2rem));
  display: grid;
  gap: .6rem;
  z-index: 2147483647;
  font: 16px/1.5 system-ui, sans-serif;
  color-scheme: light dark;
  --ground: var(--toast-ground, light-dark(#fff, #1e1e22));
  --ink: var(--toast-ink, light-dark(#1d1c1a, #f0eeea));
  --accent: var(--toast-accent, light-dark(#c81e3a, #ff6f83));
  --line: var(--toast-line, light-dark(#dedad2, #37363b));
}
.toast {
  display: grid;
  grid-template-columns: 5.5rem minmax(0, 1fr) auto;
  gap: .15rem .85rem;
  padding: .75rem;
  background: var(--ground);
  color: var(--ink);
  border: 1px solid var(--line);
  border-inline-start: 5px solid var(--accent);
  border-radius: 12px;
  box-shadow: 0 8px 30px rgb(0 0 0 / .25);
  animation: arrive .25s ease-out;
}
p { margin: 0; }
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
.what { font-size: .85rem; font-weight: 700; color: var(--accent); }
.title { grid-column: 2 / 4; font-weight: 600; overflow-wrap: anywhere; text-align: start; }
button {
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

/** Defines the element `<viral-toast>`, or one of another name, unless it is defined already. */
export function defineViralToast(name = "viral-toast"): void {
  if (customElements.get(name)) return;
  // A class of the module would fail where there are no elements, as on a server that renders pages.
  class ViralToast extends HTMLElement implements ViralToastElement {
    headline = ({ region }: ViralAlert): string => `Viral in ${region}!`;
    readonly #root = this.attachShadow({ mode: "open" });

    connectedCallback(): void {
      const style = new CSSStyleSheet();
      style.replaceSync(STYLE);
      // Unlike an element of style, this is allowed by any content security policy.
      this.#root.adoptedStyleSheets = [style];
      for (const [name, value] of Object.entries({ role: "region", "aria-live": "polite", "aria-label": "New alerts" })) {
        if (!this.hasAttribute(name)) this.setAttribute(name, value);
      }
    }

    show(alert: ViralAlert): void {
      const { video, dir = "auto" } = alert;
      const label = this.getAttribute("dismiss-label") ?? "Dismiss";
      const ariaLabel = video.title ? `${label}: ${video.title}` : label;
      const close = element("button", { type: "button", textContent: "×", ariaLabel });
      const toast = element("article", { className: "toast" });
      toast.append(
        picture(video.thumbnail ?? ""),
        element("p", { className: "what", textContent: this.headline(alert) }),
        close,
        element("p", { className: "title", textContent: video.title, dir }),
      );
      const given = parseFloat(this.getAttribute("duration") ?? "");
      const duration = Number.isNaN(given) ? DURATION_MS : given;
      let timer: ReturnType<typeof setTimeout> | undefined;
      const leave = (event?: Event): void => {
        clearTimeout(timer);
        // The pointer may leave while the focus stays, and the other way round.
        if (toast.matches(event?.type === "pointerleave" ? ":focus-within" : ":hover")) return;
        // A longer time than timers take is for ever.
        if (duration < TIMER_MS_MAX) timer = setTimeout(() => toast.remove(), duration);
      };
      const stay = (): void => clearTimeout(timer);
      const dismiss = (): void => {
        // Whoever works by keyboard does not lose his place.
        const focused = toast.matches(":focus-within");
        const next = toast.nextElementSibling ?? toast.previousElementSibling;
        toast.remove();
        if (focused) next?.querySelector("button")?.focus();
      };
      close.addEventListener("click", dismiss);
      toast.addEventListener("keydown", ({ key }) => key === "Escape" && dismiss());
      for (const type of ["pointerenter", "focusin"]) toast.addEventListener(type, stay);
      for (const type of ["pointerleave", "focusout"]) toast.addEventListener(type, leave);
      leave();
      this.#root.append(toast);
      const { children } = this.#root;
      const max = Number(this.getAttribute("max") ?? TOASTS_MAX);
      for (const old of [...children]) {
        // The oldest make room, but not what somebody is about to use, and not the new one as long as one may be there.
        const stays = old === toast ? max >= 1 : old.matches(":hover, :focus-within");
        if (children.length > max && !stays) old.remove();
      }
    }
  }
  customElements.define(name, ViralToast);
}
