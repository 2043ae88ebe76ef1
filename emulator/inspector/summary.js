// What a row says of a record. Payloads are read here, and nothing of the page.

import { parsed } from "./text.js";

const PREVIEW_CHARACTERS = 300;
/** Longer payloads are not parsed for their row. Errors are short. */
const READ_CHARACTERS_MAX = 16_384;
/** The members that name a message's type, in the order in which they are looked for. */
const TYPE_MEMBERS = ["type", "event", "action"];
const TYPE_FIRST = /^\s*\{\s*"(type|event|action)"\s*:\s*("(?:[^"\\]|\\.)*")\s*,?\s*/;
export const CLOSE_CODES = {
  1000: "normal",
  1001: "going away",
  1002: "protocol error",
  1003: "unsupported data",
  1005: "no status given",
  1006: "lost without a close frame",
  1007: "not UTF-8",
  1009: "too big",
};

/** What was read of payloads, by record. */
const readings = new WeakMap();

/**
 * Reads a message's type, the rest of its text, and whether it is an error: by its type, or because it has the fields
 * of an error of the gateway itself.
 */
function read(record) {
  const known = readings.get(record);
  if (known) return known;
  const { payload } = record;
  const message = payload.length <= READ_CHARACTERS_MAX ? parsed(payload) : undefined;
  const first = TYPE_FIRST.exec(payload);
  const name = TYPE_MEMBERS.find((member) => typeof message?.[member] === "string");
  // A payload that is cut or too long still begins with its type, mostly.
  const type = name === undefined && message === undefined && first ? parsed(first[2]) : message?.[name];
  const rest = first && parsed(first[2]) === type ? `{${payload.slice(first[0].length)}` : payload;
  const isOfGateway = ["message", "connectionId", "requestId"].every((member) => typeof message?.[member] === "string");
  const reading = { type, rest: rest.slice(0, PREVIEW_CHARACTERS), isError: type === "error" || isOfGateway };
  readings.set(record, reading);
  return reading;
}

/** Returns the HTTP status in an answer, if it has one. */
function statusOf({ payload }) {
  const status = payload.length <= READ_CHARACTERS_MAX ? parsed(payload)?.statusCode : undefined;
  return Number.isInteger(status) ? status : undefined;
}

/** Returns the texts of a row. If the message has a `type`, `what` is the rest of it. */
export function summary(record) {
  switch (record.kind) {
    case "handshake":
      return {
        tag: "CONNECT",
        what: [record.uri, record.message].filter(Boolean).join(" · "),
        status: String(record.status),
        ms: record.ms,
        failed: record.status >= 400,
      };
    case "received": {
      const tag = { text: "→ IN", binary: "→ BINARY", ping: "→ PING", pong: "→ PONG" }[record.frame];
      const { type, rest } = read(record);
      return { tag: record.resent ? "↻ IN" : tag, type, what: rest, bytes: record.bytes };
    }
    case "sent": {
      const { type, rest, isError } = read(record);
      return {
        tag: "← OUT",
        type,
        what: rest,
        status: isError ? "error" : undefined,
        bytes: record.bytes,
        failed: isError,
      };
    }
    case "invoked":
    case "answered": {
      const answer = record.kind === "answered" ? record : record.answer;
      const code = answer && !answer.error ? statusOf(answer) : undefined;
      const failed = Boolean(answer?.error) || code >= 400;
      const ended = code >= 400 ? String(code) : answer?.error ? "error" : "ok";
      const status = answer ? ended : record.unanswered ? "?" : "running";
      const what = [record.function, record.route, answer?.error].filter(Boolean).join(" · ");
      return {
        tag: "INVOKE",
        what,
        status,
        ms: answer?.ms,
        bytes: record.bytes,
        failed,
        running: status === "running",
      };
    }
    case "management":
      return {
        tag: record.method,
        what: [`@connections/${record.connectionId}`, record.error].filter(Boolean).join(" · "),
        status: String(record.status),
        ms: record.ms,
        failed: record.status >= 400,
      };
    case "published":
      return {
        tag: "PUBLISH",
        what: [record.api, `${record.delivered} delivered`, record.error, record.payload.slice(0, PREVIEW_CHARACTERS)]
          .filter(Boolean)
          .join(" · "),
        status: String(record.status),
        ms: record.ms,
        bytes: record.bytes,
        failed: record.status >= 400,
      };
    case "closed":
      return {
        tag: "CLOSE",
        what: record.reason || CLOSE_CODES[record.code] || "",
        status: String(record.code),
        ms: record.ms,
        failed: ![1000, 1001, 1005].includes(record.code),
      };
  }
}
