import type { Options } from "./types.js";

/** The application's options with their defaults. */
export type Settings = Options &
  Required<Pick<Options, "WebSocket">> & {
    url: string;
    /** Without a trailing slash. */
    httpUrl: string | undefined;
    /** Rejects with a `TokenError`, within bounded time. */
    token: (() => Promise<string>) | undefined;
    /** Whether the fallback was in use last: then it starts at once, beside the first WebSocket. */
    overHttp: boolean;
  };
