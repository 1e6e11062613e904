"use strict";
// Sorts and narrows the table of students. Without it the table is all there, in the order of names.
(() => {
  const table = document.getElementById("students-table");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const search = document.getElementById("search");
  const state = document.getElementById("state");
  const shown = document.getElementById("shown");
  const collator = new Intl.Collator(document.documentElement.lang, { numeric: true });

  const key = (row, column) => {
    const data = row.cells[column].querySelector("data");
    return data ? Number(data.value) : row.cells[column].textContent.trim();
  };
  const order = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : collator.compare(a, b));

  const sort = (header) => {
    const column = header.cellIndex;
    const up = header.getAttribute("aria-sort") !== "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", up ? "ascending" : "descending");
    const keys = new Map(rows.map((row) => [row, key(row, column)]));
    rows.sort((a, b) => (up ? 1 : -1) * order(keys.get(a), keys.get(b)));
    body.append(...rows);
  };

  const narrow = () => {
    const wanted = search.value.trim().toLocaleLowerCase();
    let count = 0;
    for (const row of rows) {
      const name = row.cells[0].textContent.toLocaleLowerCase();
      const fits = state.value === "" || row.dataset.states.split(" ").includes(state.value);
      row.hidden = !(fits && name.includes(wanted));
      count += !row.hidden;
    }
    shown.textContent = shown.dataset.text.replace("{shown}", count).replace("{all}", rows.length);
  };

  for (const header of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    button.addEventListener("click", () => sort(header));
    header.append(button);
  }
  sort(table.tHead.rows[0].cells[0]);
  search.addEventListener("input", narrow);
  state.addEventListener("change", narrow);
  document.getElementById("controls").hidden = false;
  narrow();
})();
