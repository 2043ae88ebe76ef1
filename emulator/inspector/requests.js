// Requests that do something to a connection.

import { parsed, time } from "./text.js";

/** Returns the message of an answer that is an error. */
export async function failure(response) {
  return parsed(await response.text())?.message ?? `The emulator answered ${response.status}`;
}

/** Sends a request about a connection, and writes its outcome into `output`. */
async function act(output, done, method, connectionId, action, text) {
  delete output.dataset.failed;
  output.textContent = "…";
  try {
    const response = await fetch(`/inspector/connections/${encodeURIComponent(connectionId)}${action}`, {
      method,
      body: text,
    });
    if (!response.ok) throw new Error(await failure(response));
    output.textContent = `${done} at ${time(Date.now())}`;
  } catch (error) {
    output.dataset.failed = "";
    output.textContent = error instanceof TypeError ? "The emulator does not answer" : error.message;
  }
}

/** The gateway handles the text as if the client had sent it. */
export const receive = (output, connectionId, text) =>
  act(output, "Sent as the client", "POST", connectionId, "/received", text);
/** The client receives the text. */
export const push = (output, connectionId, text) => act(output, "Pushed", "POST", connectionId, "/sent", text);
export const close = (output, connectionId) => act(output, "Closed", "DELETE", connectionId, "");
