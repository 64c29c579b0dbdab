// Sorts and filters the table of all accounts. Its words are in report.html, in data-* attributes.
"use strict";
const FIRST = 100;
const byId = (id) => document.getElementById(id);
const table = byId("accounts"), body = table.tBodies[0], rows = [...body.rows];
const controls = byId("controls"), filter = byId("filter"), state = byId("state"), more = byId("more");
const order = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
const texts = new Map();
let limit = FIRST;

function textOf(row) {
  if (!texts.has(row)) texts.set(row, row.textContent.toLowerCase());
  return texts.get(row);
}

function say(words, shown, found) {
  const numbers = { shown, found, total: rows.length };
  return words.replace(/\{(\w+)\}/g, (_, name) => numbers[name].toLocaleString("en"));
}

function show() {
  const wanted = filter.value.trim().toLowerCase();
  let found = 0;
  for (const row of rows) {
    const fits = (!state.value || row.cells[3].textContent === state.value) && textOf(row).includes(wanted);
    row.hidden = !fits;
    row.className = fits && ++found > limit ? "more" : "";
  }
  const shown = Math.min(found, limit);
  const words = controls.dataset;
  const which = [["some", "found"], ["first", "all"]][+(found === rows.length)][+(shown === found)];
  byId("shown").textContent = say(words[which], shown, found);
  more.hidden = shown === found;
  more.textContent = say(words.more, shown, found);
}

function sortBy(header) {
  const column = header.cellIndex;
  const down = header.getAttribute("aria-sort") === "ascending";
  for (const other of header.parentNode.cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
  const keyed = rows.map((row) => [row.cells[column].textContent, row]);
  // What is empty comes last, whichever way.
  keyed.sort(([a], [b]) => !a - !b || (down ? order.compare(b, a) : order.compare(a, b)));
  const sorted = document.createDocumentFragment();
  keyed.forEach(([, row], place) => sorted.append((rows[place] = row)));
  body.append(sorted);
  show();
}

for (const header of table.tHead.rows[0].cells)
  header.firstChild.addEventListener("click", () => sortBy(header));
for (const control of [filter, state])
  control.addEventListener("input", () => { limit = FIRST; show(); });
more.addEventListener("click", () => { limit = rows.length; show(); });
controls.hidden = false;
show();
