// The records that the page keeps: what the emulator reported, each answer with its invocation.

import { parsed } from "./text.js";

/** Records that the page keeps, and characters of their payloads. The oldest go first. */
const RECORDS_MAX = 5_000;
const CHARACTERS_MAX = 32_000_000;
/** Bytes that the emulator keeps of one payload. */
export const PAYLOAD_BYTES_MAX = 128 * 1024;

export const kept = {
  /** The run of the emulator that the records come from, and the number of its last record. */
  run: "",
  last: 0,
  /** The records, oldest first. */
  records: [],
  byNumber: new Map(),
  /** Records of this run that the emulator dropped before the page could fetch them. */
  missed: 0,
};
let characters = 0;

/** Reads the connection and the route of an invocation from its event. */
function readEvent(record) {
  const context = parsed(record.payload)?.requestContext;
  if (typeof context?.connectionId === "string") record.connectionId = context.connectionId;
  if (typeof context?.routeKey === "string") record.route = context.routeKey;
}

/** Keeps a record. An answer becomes a part of its invocation, which is returned as `changed`. */
function keep(record) {
  if (record.kind === "answered") {
    const invoked = kept.byNumber.get(record.invoked);
    if (invoked) {
      invoked.answer = record;
      characters += record.payload.length;
      return { changed: invoked };
    }
  }
  if (record.kind === "invoked") readEvent(record);
  kept.records.push(record);
  kept.byNumber.set(record.number, record);
  characters += record.payload.length;
  return { added: record };
}

/** Drops the oldest records beyond the bounds, and returns them. */
function dropOldest() {
  const { records, byNumber } = kept;
  let dropped = 0;
  const isOver = () =>
    records.length - dropped > RECORDS_MAX || (characters > CHARACTERS_MAX && dropped < records.length - 1);
  while (isOver()) {
    const record = records[dropped++];
    byNumber.delete(record.number);
    characters -= record.payload.length + (record.answer?.payload.length ?? 0);
  }
  return records.splice(0, dropped);
}

/** Drops all records. */
export function clear() {
  kept.records = [];
  kept.byNumber.clear();
  kept.missed = 0;
  characters = 0;
}

/**
 * Keeps the records of a batch. Returns those that are new, the invocations that were answered, and the records that
 * had to make room. If the emulator has restarted, all earlier records are dropped first.
 */
export function take(batch) {
  const isNewRun = kept.run !== "" && batch.run !== kept.run;
  if (isNewRun) clear();
  // Records dropped before the page was opened are not missed.
  if (kept.last > 0 && batch.run === kept.run) kept.missed += batch.missed;
  kept.run = batch.run;
  kept.last = batch.last;
  if (batch.missed > 0) {
    for (const record of kept.records) if (record.kind === "invoked" && !record.answer) record.unanswered = true;
  }
  const entries = batch.records.map(keep);
  const changed = entries.flatMap(({ changed = [] }) => changed);
  const dropped = dropOldest();
  const added = entries.flatMap(({ added = [] }) => added).filter(({ number }) => kept.byNumber.has(number));
  return { isNewRun, added, changed, dropped };
}
