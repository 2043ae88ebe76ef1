// The token that the application provides.

import { ANSWER_MS } from "./limits.js";
import type { Options } from "./types.js";

/** The application gave no token that can be sent. The service was not asked. */
export class TokenError extends Error {
  override readonly name = "TokenError";
}

/** Returns the token of the option. Throws a `TokenError` if the callback throws or takes longer than `ANSWER_MS`. */
export async function tokenFrom(option: NonNullable<Options["token"]>): Promise<string> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(`no token within ${ANSWER_MS / 1_000} s`), ANSWER_MS);
  });
  try {
    return await Promise.race([typeof option === "string" ? option : option(), late]);
  } catch (error) {
    throw new TokenError(String(error));
  } finally {
    clearTimeout(timer);
  }
}
