// The token that the application provides.

import { ANSWER_MS } from "./limits.js";
import { ViralAlertsError, type Options } from "./types.js";

/** What the subprotocol of a WebSocket can carry. Source: RFC 6455, section 4.1; RFC 2616, section 2.2. */
const TOKEN = /^[\w!#$%&'*+.^`|~-]*$/;

/**
 * Returns the token of the option. Throws an error with the code `connect` if the callback throws or takes longer than
 * `ANSWER_MS`, or if a handshake cannot carry the token: the browser's own error would contain it.
 */
export async function tokenFrom(option: NonNullable<Options["token"]>): Promise<string> {
  try {
    const token = await Promise.race([
      typeof option === "string" ? option : option(),
      // Made after the call: if that throws, nothing would handle its rejection, which ends Node.js.
      new Promise<never>((_, reject) => {
        // Unlike a timer it does not keep Node.js running.
        AbortSignal.timeout(ANSWER_MS).onabort = () => reject("no token in time");
      }),
    ]);
    if (TOKEN.test(token)) return token;
    throw "invalid token";
  } catch (error) {
    throw new ViralAlertsError({ code: "connect", message: String(error) });
  }
}
