// How long a token lasts. The clock of a browser may be wrong by hours.

import { TOKEN_MS_MIN, UNDATED_MS_MIN } from "./limits.js";
import { tokenFrom } from "./token.js";
import type { Options } from "./types.js";

/** What a JWT says of its time, in seconds since 1970. */
interface Claims {
  exp: number;
  iat?: number;
  nbf?: number;
}

function claimsOf(token: string): Partial<Claims> {
  try {
    const payload = atob(token.split(".")[1]!.replaceAll("-", "+").replaceAll("_", "/"));
    return Object(JSON.parse(payload)) as Claims;
  } catch {
    return {};
  }
}

/** Remembers when the option gave its last token first. */
export function keepAge(option: NonNullable<Options["token"]>) {
  let last = "";
  /** On the clock of `performance.now`. */
  let since = 0;
  return {
    /** Returns the token, as `tokenFrom` does. */
    async next(): Promise<string> {
      const token = await tokenFrom(option);
      if (token !== last) [last, since] = [token, performance.now()];
      return token;
    },

    /** The milliseconds that the last token has left, which the service takes now; `Infinity` if that is unknown. */
    left(): number {
      const { exp, iat, nbf } = claimsOf(last);
      const start = iat ?? nbf;
      const left = start ? (exp! - start) * 1_000 - (performance.now() - since) : exp! * 1_000 - Date.now();
      // If a token that is taken has ended long ago, the clock is wrong or the service checks none.
      return left > (start ? -TOKEN_MS_MIN : UNDATED_MS_MIN) ? left : Infinity;
    },
  };
}
