// The log of the service over HTTP: `GET /alerts`.

import { ANSWER_MS } from "./limits.js";
import type { Log } from "./log.js";
import type { Answer, Positions } from "./news.js";
import type { Settings } from "./settings.js";

/** Who asks may not. Asking again will not change that. */
export class Unauthorized extends Error {}

/** Positions as the service reads them. */
export function cursor(positions: Positions): string {
  return Object.entries(positions)
    .map(([region, { epoch, seq }]) => `${region}.${epoch}.${seq}`)
    .sort()
    .join("~");
}

export function address({ httpUrl }: Settings, regions: string[], after: string, token?: string): string {
  const query = { region: regions.join(), ...(after && { after }), ...(token && { token }) };
  return `${httpUrl}/alerts?${new URLSearchParams(query)}`;
}

/** One request. Throws `Unauthorized`, or what else went wrong. */
export async function get(settings: Settings, regions: string[], after: string): Promise<Answer> {
  const token = await settings.token?.();
  const response = await fetch(address(settings, regions, after), {
    headers: token ? { authorization: `Bearer ${token}` } : {},
    signal: AbortSignal.timeout(ANSWER_MS),
  });
  const { ok, status } = response;
  if (!ok) throw new (status === 401 || status === 403 ? Unauthorized : Error)(`the service answered ${status}`);
  return (await response.json()) as Answer;
}

/** Brings the log up to date with the service. Throws as `get` does. */
export async function catchUp(settings: Settings, log: Log, regions: string[]): Promise<void> {
  // A cursor names all regions or none: those that are followed for the first time have no place in it.
  for (const known of [true, false]) {
    const asked = regions.filter((region) => log.has(region) === known);
    let after = known ? cursor(log.positions(asked)) : "";
    for (let more = !!asked[0]; more; ) {
      const answer = await get(settings, asked, after);
      log.apply(answer, asked, false);
      more = !!after && !!answer.more;
      after = answer.after ?? "";
    }
  }
}
