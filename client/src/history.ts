// The log of the service over HTTP: `GET /alerts`.

import { ANSWER_MS, CURSOR_MAX, POSITIONS_MAX, REGIONS_MAX } from "./limits.js";
import { ALL, type Log } from "./log.js";
import type { Answer } from "./news.js";
import type { Settings } from "./settings.js";
import { ViralAlertsError, type Position } from "./types.js";

/** Returns the positions of `regions`, sorted by name, as many as the service takes. The rest are not recovered. */
export function known(log: Pick<Log, "positions">, regions: string[]): [string, Position][] {
  return Object.entries(log.positions(regions)).sort().slice(0, POSITIONS_MAX);
}

/** Returns the cursor of the next request. It is empty if the regions are followed from now on. */
export function cursor(log: Pick<Log, "positions" | "has">, regions: string[]): string {
  const text = known(log, regions)
    .map(([region, { epoch, seq }]) => `${region}.${epoch.toString(36)}.${seq.toString(36)}`)
    .join("_");
  // A cursor that is too long is cut where an entry ends.
  const cut = text.slice(0, `${text}_`.lastIndexOf("_", CURSOR_MAX));
  // With a cursor, regions that it does not name would begin at their first alert instead of their last.
  return log.has(ALL) ? cut || "_" : regions[0] === ALL ? "" : cut;
}

/** Sends one request, for the newest alerts if the query has no `after`. Throws what `token` throws, the error of
 * `fetch`, or an error with the status and the service's code: answers of others have no code. */
export async function get(
  { httpUrl, token }: Pick<Settings, "httpUrl" | "token">,
  query: { region: string; after?: string; limit?: string },
): Promise<Answer> {
  const value = await token?.();
  const response = await fetch(`${httpUrl}/alerts?${new URLSearchParams(query)}`, {
    headers: value ? { authorization: `Bearer ${value}` } : {},
    // An answer of a second ago may lack what was delivered since.
    cache: "no-cache",
    signal: AbortSignal.timeout(ANSWER_MS),
  });
  const answer = response.json() as Promise<Answer>;
  if (response.ok) return answer;
  const { error } = (await answer.catch(() => ({}))) as { error?: { code: string } };
  throw new ViralAlertsError({ ...error, message: `HTTP ${response.status}`, status: response.status });
}

/** Brings the log up to date with the service. Throws as `get` does. */
export async function catchUp(settings: Settings, log: Log, regions: string[]): Promise<void> {
  for (let from = 0; from < regions.length; from += REGIONS_MAX) {
    const asked = regions.slice(from, from + REGIONS_MAX);
    for (let more: unknown = true, after = cursor(log, asked); more;) {
      const answer = await get(settings, { region: asked.join(), ...(after && { after }) });
      // ALL has more regions than HTTP can name, so only a connection tells where each begins.
      if (!after && answer.recovered === false) throw { status: 200 };
      log.apply(answer, asked);
      // A page that does not move the cursor is the last one.
      more = after && answer.more && after !== (after = cursor(log, asked));
    }
  }
}
