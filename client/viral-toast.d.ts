import type { RemovedAlert, ViralAlert } from "./viral-alerts.js";
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
    addEventListener<Type extends keyof ViralToastEventMap>(type: Type, listener: (this: ViralToastElement, event: ViralToastEventMap[Type]) => void, options?: boolean | AddEventListenerOptions): void;
    addEventListener(type: string, listener: EventListenerOrEventListenerObject, options?: boolean | AddEventListenerOptions): void;
    removeEventListener<Type extends keyof ViralToastEventMap>(type: Type, listener: (this: ViralToastElement, event: ViralToastEventMap[Type]) => void, options?: boolean | EventListenerOptions): void;
    removeEventListener(type: string, listener: EventListenerOrEventListenerObject, options?: boolean | EventListenerOptions): void;
}
declare global {
    interface HTMLElementTagNameMap {
        "viral-toast": ViralToastElement;
    }
}
/**
 * Returns `video.url` of an alert if a link may open it: an `https:` address without a user name. Otherwise returns
 * `undefined`.
 *
 * @example
 * toast.href = (alert) => (alert.region === "PL" ? "/watch/" + alert.video.id : videoUrl(alert));
 */
export declare function videoUrl({ video }: ViralAlert): string | undefined;
/**
 * Defines the custom element `<viral-toast>`, or one of another name. Does nothing if the name is defined already.
 *
 * @example
 * defineViralToast();
 * const toast = document.body.appendChild(document.createElement("viral-toast"));
 * alerts.addEventListener("alert", ({ detail }) => toast.show(detail));
 * alerts.addEventListener("removed", ({ detail }) => toast.drop(detail));
 */
export declare function defineViralToast(name?: string): void;
