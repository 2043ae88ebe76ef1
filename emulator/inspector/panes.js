// The sizes of the panes, which a pointer and the arrow keys change and the browser keeps.

import { $ } from "./dom.js";

/** Pixels by which an arrow key moves a separator, and that a pane has at least. */
const RESIZE_STEP_PX = 16;
const PANE_PX_MIN = 120;
/** Share of the window that a pane may take. */
const PANE_SHARE_MAX = 0.7;
/** Key of the sizes in the browser's storage. */
const SIZES_KEY = "inspector sizes";

/** Sizes that a person has set, by the name of their custom property. */
let sizes = {};

/** Returns how a separator moves: its custom property, its axis, and whether its pane grows against the axis. */
function sizing(separator) {
  const isDetail = separator.id === "detail-size";
  const isRow = getComputedStyle(separator).cursor === "row-resize";
  const isReversed = getComputedStyle(document.body).direction === "rtl";
  return {
    property: isRow ? "--detail-height" : `--${separator.id}`,
    isRow,
    growsBack: isRow || isDetail !== isReversed,
  };
}

/** Sets the size of a pane in pixels, within bounds. Without `px`, only tells screen readers the current size. */
function resize(separator, px) {
  const { property, isRow } = sizing(separator);
  const pane = $(separator.getAttribute("aria-controls"));
  const max = Math.round((isRow ? innerHeight : innerWidth) * PANE_SHARE_MAX);
  if (px !== undefined) {
    sizes[property] = Math.round(Math.min(Math.max(px, PANE_PX_MIN), max));
    document.body.style.setProperty(property, `${sizes[property]}px`);
    keepSizes();
  }
  const { width, height } = pane.getBoundingClientRect();
  const values = {
    orientation: isRow ? "horizontal" : "vertical",
    valuemin: PANE_PX_MIN,
    valuemax: max,
    valuenow: Math.round(isRow ? height : width),
  };
  for (const [name, value] of Object.entries(values)) separator.setAttribute(`aria-${name}`, value);
}

function keepSizes() {
  try {
    localStorage.setItem(SIZES_KEY, JSON.stringify(sizes));
  } catch {
    // A browser that keeps nothing starts with the default sizes.
  }
}

export function restoreSizes() {
  try {
    sizes = JSON.parse(localStorage.getItem(SIZES_KEY)) ?? {};
  } catch {
    return;
  }
  for (const [property, px] of Object.entries(sizes)) document.body.style.setProperty(property, `${px}px`);
}

/** Makes a separator movable by a pointer and by the arrow keys. */
export function listenToSeparator(separator) {
  separator.addEventListener("focus", () => resize(separator));
  separator.addEventListener("keydown", (event) => {
    const { isRow, growsBack } = sizing(separator);
    const forward = isRow ? "ArrowDown" : "ArrowRight";
    const back = isRow ? "ArrowUp" : "ArrowLeft";
    const now = Number(separator.ariaValueNow);
    const step = growsBack ? -RESIZE_STEP_PX : RESIZE_STEP_PX;
    const px = { [forward]: now + step, [back]: now - step, Home: 0, End: Infinity }[event.key];
    if (px === undefined) return;
    event.preventDefault();
    resize(separator, px);
  });
  separator.addEventListener("pointerdown", (event) => {
    const { isRow, growsBack } = sizing(separator);
    const { width, height } = $(separator.getAttribute("aria-controls")).getBoundingClientRect();
    const place = ({ clientX, clientY }) => (isRow ? clientY : clientX) * (growsBack ? -1 : 1);
    const from = place(event);
    const drag = (moved) => resize(separator, (isRow ? height : width) + place(moved) - from);
    separator.setPointerCapture(event.pointerId);
    separator.classList.add("dragged");
    separator.addEventListener("pointermove", drag);
    separator.addEventListener(
      "lostpointercapture",
      () => {
        separator.classList.remove("dragged");
        separator.removeEventListener("pointermove", drag);
      },
      { once: true },
    );
  });
  resize(separator);
}
