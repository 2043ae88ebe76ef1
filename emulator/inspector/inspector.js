// The inspector: shows what the gateway does as it happens, and lets you act on its connections. This file connects the
// parts of the page.

import { listenToConnections, refreshConnections } from "./connections.js";
import { showDetail } from "./detail.js";
import { $, onTyped } from "./dom.js";
import { follow, togglePause } from "./feed.js";
import { listenToList, markSelected, renderAll, update } from "./list.js";
import { listenToSeparator, restoreSizes } from "./panes.js";
import { clear, take } from "./records.js";
import { save } from "./save.js";
import { view } from "./view.js";

/** Selects a record and shows its details. `undefined` closes the details. */
function select(record) {
  const before = view.selected;
  view.selected = record;
  $("detail").hidden = !record;
  if (record) {
    showDetail(record);
    $("detail-content").scrollTop = 0;
  }
  markSelected(before);
}

function receiveBatch(batch, isFirst) {
  const changes = take(batch);
  if (changes.isNewRun) select(undefined);
  update(changes);
  if (changes.changed.includes(view.selected)) showDetail(view.selected);
  if (isFirst || batch.records.length) refreshConnections();
}

function listenToKeys() {
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea");
    if (event.key === "/" && !typing) {
      event.preventDefault();
      $("filter").focus();
    } else if (event.key === "Escape" && !typing && view.selected) {
      $("detail-close").click();
    }
  });
}

function listenToToolbar() {
  $("clear").addEventListener("click", () => {
    clear();
    select(undefined);
    renderAll();
  });
  $("save").addEventListener("click", save);
  $("pause").addEventListener("click", togglePause);
  onTyped($("filter"), () => {
    view.text = $("filter").value.trim().toLowerCase();
    renderAll();
  });
  for (const box of document.querySelectorAll(".kinds input")) {
    box.addEventListener("change", () => {
      view.groups[box.checked ? "add" : "delete"](box.value);
      renderAll();
    });
  }
  $("detail-close").addEventListener("click", () => {
    select(undefined);
    $("rows").focus();
  });
}

restoreSizes();
listenToList(select);
listenToConnections();
listenToKeys();
listenToToolbar();
for (const separator of document.querySelectorAll(".separator")) listenToSeparator(separator);
renderAll();
refreshConnections();
follow(receiveBatch);
