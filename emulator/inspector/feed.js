// Follows the records of the emulator.

import { $ } from "./dom.js";
import { kept } from "./records.js";
import { failure } from "./requests.js";

const PAUSE_BETWEEN_BATCHES_MS = 100;
const PAUSE_WHILE_HIDDEN_MS = 1_000;
const RETRY_MS = 1_000;

let isPaused = false;
let request = new AbortController();
let resume = () => {};

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function showState(name, text) {
  $("state").dataset.state = name;
  $("state").textContent = text;
}

/**
 * Fetches batches of records as long as the page is open. Calls `onBatch` with each, and whether it follows a break.
 */
export async function follow(onBatch) {
  for (;;) {
    if (isPaused) {
      showState("paused", "Paused");
      await new Promise((resolve) => (resume = resolve));
    }
    request = new AbortController();
    try {
      const response = await fetch(`/inspector/records?run=${kept.run}&after=${kept.last}`, { signal: request.signal });
      if (!response.ok) throw new Error(await failure(response));
      const batch = await response.json();
      if (isPaused) continue;
      const again = $("state").dataset.state !== "live";
      showState("live", "Live");
      onBatch(batch, again);
      await sleep(document.hidden ? PAUSE_WHILE_HIDDEN_MS : PAUSE_BETWEEN_BATCHES_MS);
    } catch (error) {
      if (isPaused) continue;
      showState("waiting", error instanceof TypeError ? "The emulator does not answer; retrying" : error.message);
      await sleep(RETRY_MS);
    }
  }
}

export function togglePause() {
  isPaused = !isPaused;
  $("pause").setAttribute("aria-pressed", isPaused);
  $("pause").textContent = isPaused ? "Resume" : "Pause";
  if (isPaused) request.abort();
  else {
    showState("waiting", "Connecting");
    resume();
  }
}
