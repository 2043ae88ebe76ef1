// The list of records: its rows, its notes, and the keys that move the selection.

import { $, dot, element } from "./dom.js";
import { kept } from "./records.js";
import { summary } from "./summary.js";
import { count, duration, size, time } from "./text.js";
import { matches, view } from "./view.js";

/** Rows in the document. More would make every change slow. */
const ROWS_MAX = 500;
/** Pixels from the end of the list within which it follows new records. */
const AT_END_PX = 30;
/** Rows by which a key moves the selection. */
const STEPS = { ArrowDown: 1, ArrowUp: -1, PageDown: 15, PageUp: -15, Home: -Infinity, End: Infinity };

/** The rows in the document, by the number of their record. */
const rows = new Map();
/** Number of records that match the filter, with a row or without. */
let matching = 0;
/** Whether anything has connected since the page was opened. */
let everConnected = false;

function fillRow(row, record) {
  const { tag, type, what, status, ms, bytes, failed, running } = summary(record);
  row.className = `row${failed ? " failed" : ""}${running ? " running" : ""}`;
  const connection = element("span", { className: "connection" });
  if (record.connectionId) connection.append(dot(record.connectionId), record.connectionId);
  const mark = element("span", { text: failed ? "⚠ " : "" });
  mark.ariaHidden = "true";
  const says =
    type === undefined
      ? [what]
      : [element("b", { text: type }), " ", element("span", { className: "rest", text: what === "{}" ? "" : what })];
  row.replaceChildren(
    element("span", { className: "time", text: time(record.at) }),
    element("span", { className: "tag" }, mark, tag),
    connection,
    element("span", { className: "what" }, ...says),
    element("span", { className: "status", text: status ?? "" }),
    element("span", { className: "took", text: ms === undefined ? "" : duration(ms) }),
    element("span", { className: "size", text: bytes === undefined ? "" : size(bytes) }),
  );
}

function makeRow(record) {
  const row = element("div", { id: `record-${record.number}` });
  row.setAttribute("role", "option");
  row.setAttribute("aria-selected", record === view.selected);
  row.dataset.number = record.number;
  row.dataset.kind = record.kind === "answered" ? "invoked" : record.kind;
  fillRow(row, record);
  rows.set(record.number, row);
  return row;
}

const atEnd = () => $("log").scrollHeight - $("log").scrollTop - $("log").clientHeight <= AT_END_PX;

function scrollToEnd() {
  $("log").scrollTop = $("log").scrollHeight;
  $("newest").hidden = true;
}

/** Appends rows, and removes the first ones beyond the bound. */
function append(records) {
  const following = atEnd();
  $("rows").append(...records.slice(-ROWS_MAX).map(makeRow));
  while ($("rows").children.length > ROWS_MAX) {
    const first = $("rows").firstElementChild;
    rows.delete(Number(first.dataset.number));
    first.remove();
  }
  renderNotes();
  if (following) scrollToEnd();
  else if (records.length) $("newest").hidden = false;
}

/** Draws all rows that match the filter. */
export function renderAll({ toEnd = true } = {}) {
  rows.clear();
  $("rows").replaceChildren();
  for (const record of kept.records) record.matches = matches(record);
  const found = kept.records.filter((record) => record.matches);
  matching = found.length;
  append(found);
  if (toEnd) scrollToEnd();
  if (view.selected) rows.get(view.selected.number)?.scrollIntoView({ block: "nearest" });
}

function renderNotes() {
  const hidden = matching - rows.size;
  const notes = [
    hidden > 0 &&
      `${count(hidden)} earlier ${hidden === 1 ? "record matches and is" : "records match and are"} not shown: ` +
        "narrow the filter to see them.",
    kept.missed > 0 &&
      `${count(kept.missed)} ${kept.missed === 1 ? "record is" : "records are"} missing: ` +
        "the emulator dropped them before the page could fetch them.",
  ].filter(Boolean);
  $("not-shown").textContent = notes.join(" ");
  $("not-shown").hidden = !notes.length;
  $("save").disabled = matching === 0;
  $("empty").hidden = kept.records.length > 0;
  $("empty").querySelector("h2").textContent = everConnected ? "Nothing new yet" : "Nothing has happened yet";
  $("none-match").hidden = !kept.records.length || matching > 0;
}

/** Notes that a client has connected: the empty list says so. */
export function noteConnection() {
  everConnected = true;
}

/** Shows what a batch of records changed. */
export function update({ isNewRun, added, changed, dropped }) {
  if (added.length || changed.length) noteConnection();
  if (isNewRun) return renderAll();
  for (const record of dropped) {
    if (record.matches) matching -= 1;
    rows.get(record.number)?.remove();
    rows.delete(record.number);
  }
  for (const record of changed) if (rows.has(record.number)) fillRow(rows.get(record.number), record);
  // A record may match only because of its answer.
  if (changed.some((record) => record.matches === false && matches(record))) return renderAll({ toEnd: atEnd() });
  for (const record of added) record.matches = matches(record);
  const found = added.filter((record) => record.matches);
  matching += found.length;
  append(found);
}

/** Marks the row of the selected record instead of that of `before`. */
export function markSelected(before) {
  rows.get(before?.number)?.setAttribute("aria-selected", false);
  const { selected } = view;
  if (!selected) return $("rows").removeAttribute("aria-activedescendant");
  const row = rows.get(selected.number);
  row?.setAttribute("aria-selected", true);
  $("rows").setAttribute("aria-activedescendant", `record-${selected.number}`);
  row?.scrollIntoView({ block: "nearest" });
}

/** Returns the record of a row. */
const recordOf = (row) => kept.byNumber.get(Number(row.dataset.number));

/** Moves the selection as the keys say. */
function move(event, select) {
  const step = STEPS[event.key];
  const last = $("rows").children.length - 1;
  if (step === undefined || last < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  const row = rows.get(view.selected?.number);
  const from = row ? [...$("rows").children].indexOf(row) : last + 1;
  const to = Math.min(Math.max(from + step, 0), last);
  select(recordOf($("rows").children[to]));
}

/** Listens to the list. Calls `select` with a record. */
export function listenToList(select) {
  $("rows").addEventListener("click", (event) => {
    const row = event.target.closest(".row");
    if (row) select(recordOf(row));
  });
  $("rows").addEventListener("keydown", (event) => move(event, select));
  $("log").addEventListener("scroll", () => atEnd() && ($("newest").hidden = true), { passive: true });
  $("newest").addEventListener("click", scrollToEnd);
}
