// The log of the service over HTTP: `GET /alerts`.

import { ANSWER_MS, CURSOR_MAX, POSITIONS_MAX, REGIONS_MAX } from "./limits.js";
import { ALL, type Log } from "./log.js";
import type { Answer } from "./news.js";
import type { Settings } from "./settings.js";
import { TokenError } from "./token.js";
import type { Position } from "./types.js";

/** Positions of `regions` by name, as many as the service takes: in recovery the others are left out. */
export function known(log: Log, regions: string[]): [string, Position][] {
  return Object.entries(log.positions(regions)).sort().slice(0, POSITIONS_MAX);
}

/** Where to go on, as the service reads it: nothing where the regions are followed from now on. */
export function cursor(log: Log, regions: string[]): string {
  const text = known(log, regions)
    .map(([region, { epoch, seq }]) => `${region}.${epoch.toString(36)}.${seq.toString(36)}`)
    .join("_");
  // Cut where an entry ends, if it is too long.
  return text.slice(0, `${text}_`.lastIndexOf("_", CURSOR_MAX)) || (log.has(ALL) ? "_" : "");
}

export function address({ httpUrl }: Settings, regions: string[], after: string): string {
  const query = { region: regions.join(), ...(after && { after }) };
  return `${httpUrl}/alerts?${new URLSearchParams(query)}`;
}

/** The service, or something in front of it, has answered something else than 200. */
export class HttpError extends Error {
  /** `code` is that of the service, which others do not send. */
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
    // A browser's own error would show the token.
    throw new TokenError("it has characters that a header cannot carry, as no JSON Web Token has");
  }
}

/** One request. Throws an `HttpError`, a `TokenError`, or whatever kept it from being answered. */
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
    for (let after = cursor(log, asked), more: unknown = true; more; ) {
      const answer = await get(settings, asked, after);
      log.apply(answer, asked, false);
      // An answer that leads nowhere is not asked for again.
      more = after && answer.more && after !== (after = cursor(log, asked));
    }
  }
}
