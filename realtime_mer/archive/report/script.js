"use strict";
// Sorts tables by a click on a column's name; without this script they stay in their order.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      const value = (row) => {
        const cell = row.cells[column];
        return cell.dataset.sort === undefined ? cell.textContent.trim() : Number(cell.dataset.sort);
      };
      const rows = [...body.rows].map((row) => [value(row), row]);
      rows.sort(([a], [b]) => (typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true })));
      if (down) rows.reverse();
      body.append(...rows.map(([, row]) => row));
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
    });
  });
}
// One button starts and stops all loops; who wants less motion starts them one by one.
const loops = [...document.querySelectorAll("details.loop")];
const all = document.querySelector("#loops");
if (all && loops.length) {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) loops.forEach((loop) => { loop.open = false; });
  const name = () => { all.textContent = loops.some((loop) => loop.open) ? "Hide all loops" : "Show all loops"; };
  all.addEventListener("click", () => {
    const open = !loops.some((loop) => loop.open);
    loops.forEach((loop) => { loop.open = open; });
    name();
  });
  all.hidden = false;
  name();
}
