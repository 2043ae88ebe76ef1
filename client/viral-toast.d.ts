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
/** Defines the element `<viral-toast>`, or one of another name, unless it is defined already. */
export declare function defineViralToast(name?: string): void;
