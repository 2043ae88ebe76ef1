import type { RemovedAlert, ViralAlert } from "./viral-alerts.js";
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
 * Returns the address `video.url` of an alert, as a link may have it: `undefined` for anything but `https:`, and where it
 * names a user, which may look like another host.
 */
export declare function videoUrl({ video }: ViralAlert): string | undefined;
/** Defines the element `<viral-toast>`, or one of another name, unless it is defined already. */
export declare function defineViralToast(name?: string): void;
