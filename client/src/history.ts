// The log of the service over HTTP: `GET /alerts`.

import { ANSWER_MS, CURSOR_MAX, POSITIONS_MAX, REGIONS_MAX } from "./limits.js";
import { ALL, type Log } from "./log.js";
import type { Answer } from "./news.js";
import type { Settings } from "./settings.js";
import { TokenError } from "./token.js";
import type { Position } from "./types.js";

/** Returns the positions of `regions`, sorted by name, as many as the service takes. The rest are not recovered. */
export function known(log: Log, regions: string[]): [string, Position][] {
  return Object.entries(log.positions(regions)).sort().slice(0, POSITIONS_MAX);
}

/** Returns the cursor of the next request. It is empty if the regions are followed from now on. */
export function cursor(log: Log, regions: string[]): string {
  const text = known(log, regions)
    .map(([region, { epoch, seq }]) => `${region}.${epoch.toString(36)}.${seq.toString(36)}`)
    .join("_");
  // A cursor that is too long is cut where an entry ends.
  return text.slice(0, `${text}_`.lastIndexOf("_", CURSOR_MAX)) || (log.has(ALL) ? "_" : "");
}

export function address({ httpUrl }: Settings, regions: string[], after: string): string {
  const query = { region: regions.join(), ...(after && { after }) };
  return `${httpUrl}/alerts?${new URLSearchParams(query)}`;
}

/** An answer with another status than 2xx, of the service or of something in front of it. */
export class HttpError extends Error {
  /** `code` is the service's. Answers of others have none. */
  constructor(
    readonly status: number,
    readonly code: unknown,
  ) {
    super(`HTTP ${status}`);
  }
}

function headersFor(token: string | undefined): Headers {
  try {
    return new Headers(token ? { authorization: `Bearer ${token}` } : {});
  } catch {
    // The browser's own error would contain the token.
    throw new TokenError("it has characters that an HTTP header cannot carry");
  }
}

/** Sends one request. Throws an `HttpError`, a `TokenError`, or the error of `fetch`. */
export async function get(settings: Settings, regions: string[], after: string): Promise<Answer> {
  const headers = headersFor(await settings.token?.());
  const response = await fetch(address(settings, regions, after), {
    headers,
    signal: AbortSignal.timeout(ANSWER_MS),
  });
  const answer = response.json() as Promise<Answer & { error?: { code: string } }>;
  if (!response.ok) throw new HttpError(response.status, (await answer.catch(() => undefined))?.error?.code);
  return answer;
}

/** Brings the log up to date with the service. Throws as `get` does. */
export async function catchUp(settings: Settings, log: Log, regions: string[]): Promise<void> {
  for (let from = 0; from < regions.length; from += REGIONS_MAX) {
    const asked = regions.slice(from, from + REGIONS_MAX);
    for (let after = cursor(log, asked), more: unknown = true; more;) {
      const answer = await get(settings, asked, after);
      log.apply(answer, asked, false);
      // A page that does not move the cursor is the last one.
      more = after && answer.more && after !== (after = cursor(log, asked));
    }
  }
}
