// The parts of the page: views, notices, tables.

import { format } from "./format.js";

const STAGES = ["choose", "options", "running", "result"];

export const $ = (id) => document.getElementById(id);

export function show(stage, focus = true) {
  STAGES.forEach((name) => { $(name).hidden = name !== stage; });
  for (const item of $("stages").children) {
    const here = item.dataset.stage === stage;
    item.classList.toggle("past", STAGES.indexOf(item.dataset.stage) < STAGES.indexOf(stage));
    if (here) item.setAttribute("aria-current", "step");
    else item.removeAttribute("aria-current");
  }
  $("main").removeAttribute("aria-busy");
  if (focus) $(stage).querySelector("h2").focus({ preventScroll: true });
}

export function notify(kind, title, text, label, action) {
  $("notice").className = `notice ${kind}`;
  $("notice-title").textContent = title;
  $("notice-text").textContent = text;
  $("notice-button").textContent = label;
  $("notice-button").onclick = action;
  $("notice").hidden = false;
}

export function dismiss() {
  $("notice").hidden = true;
  $("main").inert = false;
}

export function fill(select, names, chosen) {
  select.replaceChildren(...names.map((name) => new Option(name, name, false, name === chosen)));
}

export function rows(table, names, lines, numeric) {
  table.replaceChildren();
  const head = table.createTHead().insertRow();
  names.forEach((name, at) => {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.textContent = name;
    cell.classList.toggle("number", numeric(at));
    head.append(cell);
  });
  const body = table.createTBody();
  for (const line of lines) {
    const row = body.insertRow();
    names.forEach((_, at) => {
      const cell = row.insertCell();
      cell.textContent = typeof line[at] === "number" || line[at] === null ? format(line[at]) : line[at] ?? "";
      cell.classList.toggle("number", numeric(at));
    });
  }
}
