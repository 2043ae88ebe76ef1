// What is shown: the selected record, the connection that is singled out, and the filter.

import { summary } from "./summary.js";

/** The checkbox that shows a kind of record. */
const GROUPS = {
  handshake: "handshake",
  closed: "handshake",
  received: "frame",
  sent: "frame",
  invoked: "invocation",
  answered: "invocation",
  management: "management",
  published: "management",
};

export const view = {
  selected: undefined,
  /** Id of the only connection whose records are shown; all are shown if undefined. */
  connection: undefined,
  text: "",
  groups: new Set(Object.values(GROUPS)),
};

/** Removes the filter by text and by kind. */
export function resetFilter() {
  view.text = "";
  view.groups = new Set(Object.values(GROUPS));
}

/** Whether a record passes the filter. */
export function matches(record) {
  if (!view.groups.has(GROUPS[record.kind])) return false;
  if (view.connection && record.connectionId !== view.connection) return false;
  if (!view.text) return true;
  const { tag, type, what, status } = summary(record);
  const texts = [
    type,
    what,
    record.payload,
    record.answer?.payload,
    record.connectionId,
    record.requestId,
    tag,
    status,
  ];
  return texts.some((text) => text?.toLowerCase().includes(view.text));
}
