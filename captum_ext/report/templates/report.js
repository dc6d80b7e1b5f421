"use strict";
// The script only sorts tables; the page works without it.
document.documentElement.classList.add("scripted");

function key(row, column) {
  const cell = row.cells[column];
  return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent.trim();
}

function compare(a, b) {
  return typeof a === "string" ? a.localeCompare(b, "en") : a - b;
}

function sort(heading) {
  const headings = [...heading.parentElement.cells];
  const column = headings.indexOf(heading);
  const opposite = { ascending: "descending", descending: "ascending" };
  const order = opposite[heading.ariaSort] ?? heading.dataset.first;
  headings.forEach((other) => other.removeAttribute("aria-sort"));
  heading.setAttribute("aria-sort", order);

  const body = heading.closest("table").tBodies[0];
  const rows = [...body.rows].map((row) => ({ row, value: key(row, column) }));
  // Cells without a number stay at the end in either order.
  const missing = (entry) => entry.value === "–";
  rows.sort((a, b) => {
    if (missing(a) || missing(b)) return missing(a) - missing(b);
    return (order === "ascending" ? 1 : -1) * compare(a.value, b.value);
  });
  body.append(...rows.map((entry) => entry.row));
}

for (const button of document.querySelectorAll(".sortable th button")) {
  button.addEventListener("click", () => sort(button.parentElement));
}
