// Tables whose headings sort: by data-value as numbers where cells have it, by text elsewhere; blanks stay last.
"use strict";
const sortValue = (row, column) => {
  const cell = row.cells[column];
  if ("value" in cell.dataset) return Number(cell.dataset.value);
  const text = cell.dataset.text ?? cell.textContent.trim();
  return text === "" || text === "–" ? null : text.toLowerCase();
};

const compareCells = (a, b, sign) => {
  if (a === null || b === null) return (a === null) - (b === null);
  if (typeof a === "number" && typeof b === "number") return sign * (a - b);
  return sign * String(a).localeCompare(String(b), undefined, { numeric: true });
};

const sortTable = (table, heading, sign) => {
  const body = table.tBodies[0];
  const column = heading.cellIndex;
  const rows = [...body.rows].map((row) => [sortValue(row, column), row]);
  rows.sort(([a], [b]) => compareCells(a, b, sign));
  body.append(...rows.map(([, row]) => row));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
  table.classList.add("sorted");
};

for (const table of document.querySelectorAll("table.sortable")) {
  for (const heading of table.tHead.rows[0].cells) {
    heading.querySelector("button")?.addEventListener("click", () => {
      const current = heading.getAttribute("aria-sort");
      const first = heading.classList.contains("n") || heading.classList.contains("rank") ? -1 : 1; // numbers: largest first
      sortTable(table, heading, current ? (current === "ascending" ? -1 : 1) : first);
    });
  }
}
