import type { Options } from "./types.js";

/** The options of the application, with what they leave out. */
export type Settings = Options &
  Required<Pick<Options, "WebSocket" | "keepaliveMs" | "hiddenMs">> & {
    url: string;
    /** Without a trailing slash. */
    httpUrl: string | undefined;
    /** Rejects with a `TokenError`, within bounded time. */
    token: (() => Promise<string>) | undefined;
    /** Whether alerts came over HTTP last, as WebSockets failed: then HTTP does not wait for them. */
    overHttp: boolean;
  };
