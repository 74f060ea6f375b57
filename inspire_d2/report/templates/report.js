"use strict";
// Without this the page is the same, but for sorting and filtering tables.

const LONG = 15; // rows from which a table can be filtered

function valueOf(row, column) {
  const cell = row.cells[column];
  return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent;
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") {
    return a === b ? 0 : a < b ? -1 : 1; // not a - b, which is no number of two infinite ones
  }
  return String(a).localeCompare(String(b), undefined, { numeric: true });
}

function sortBy(table, column) {
  const headers = Array.from(table.tHead.rows[0].cells);
  const header = headers[column];
  const down = header.getAttribute("aria-sort") === "ascending";
  headers.forEach((other) => other.removeAttribute("aria-sort"));
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
  const rows = Array.from(table.tBodies[0].rows);
  rows.sort((a, b) => (down ? -1 : 1) * compare(valueOf(a, column), valueOf(b, column)));
  table.tBodies[0].append(...rows);
}

function makeSortable(table) {
  Array.from(table.tHead.rows[0].cells).forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "sort by this column";
    button.append(...header.childNodes);
    button.addEventListener("click", () => sortBy(table, column));
    header.append(button);
  });
}

function makeFilterable(table) {
  const label = document.createElement("label");
  label.className = "filter";
  const input = document.createElement("input");
  input.type = "search";
  label.append("Show rows with", input);
  const apply = () => {
    const wanted = input.value.trim().toLowerCase();
    for (const row of table.tBodies[0].rows) {
      row.hidden = wanted !== "" && !row.textContent.toLowerCase().includes(wanted);
    }
  };
  input.addEventListener("input", apply);
  // A link to a row that the filter hides shows all rows again.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    const address = link && (link.getAttribute("href") || link.getAttribute("xlink:href"));
    const row = address && address.startsWith("#") && document.getElementById(address.slice(1));
    if (row && row.hidden && table.contains(row)) {
      input.value = "";
      apply();
    }
  });
  table.closest(".scroll").before(label);
}

for (const table of document.querySelectorAll("table")) {
  // Heads of columns of numbers stand at the right, as the numbers do.
  const first = table.tBodies[0].rows[0];
  Array.from(table.tHead.rows[0].cells).forEach((header, column) => {
    if (first && first.cells[column].matches("td[data-value]")) header.classList.add("numeric");
  });
}
for (const table of document.querySelectorAll("table.sortable")) {
  makeSortable(table);
  if (table.tBodies[0].rows.length > LONG) makeFilterable(table);
}
