// The token of the application.

import { ANSWER_MS } from "./limits.js";
import type { Options } from "./types.js";

/** There is no token that can be sent. That says nothing about the service. */
export class TokenError extends Error {
  override readonly name = "TokenError";
}

/** What the option `token` gives. Throws a `TokenError` where its callback throws, or takes longer than the service may take. */
export async function tokenFrom(option: NonNullable<Options["token"]>): Promise<string> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(`none came within ${ANSWER_MS / 1_000} s`), ANSWER_MS);
  });
  try {
    return await Promise.race([typeof option === "string" ? option : option(), late]);
  } catch (error) {
    throw new TokenError(String(error));
  } finally {
    clearTimeout(timer);
  }
}
