"use strict";
// Sorting by a heading: the first click shows what is most of a number, or first of a word.
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  if (!table.tHead || !body) continue;
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.querySelector("button")?.addEventListener("click", () => {
      const first = head.classList.contains("n") ? "descending" : "ascending";
      const second = first === "ascending" ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? second : first;
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const value = (row) => row.cells[column].dataset.value;
      const text = (row) => row.cells[column].textContent;
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        if (x !== undefined && y !== undefined) return sign * (Number(x) - Number(y));
        // What was not measured stays below.
        if (x !== undefined || y !== undefined) return x === undefined ? 1 : -1;
        return sign * text(a).localeCompare(text(b), "en", { numeric: true });
      });
      body.append(...rows);
    });
  });
}
// A row and its lines in the charts are one thing.
for (const section of document.querySelectorAll("section")) {
  const parts = [...section.querySelectorAll("[data-cell]")];
  const light = (key) => {
    section.querySelectorAll(".figures").forEach((each) => each.classList.toggle("dim", key !== undefined));
    parts.forEach((each) => each.classList.toggle("lit", each.dataset.cell === key));
  };
  for (const part of parts) {
    part.addEventListener("pointerenter", () => light(part.dataset.cell));
    part.addEventListener("pointerleave", () => light(undefined));
  }
  const input = section.querySelector("input[type=search]");
  input?.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of section.querySelectorAll("tr[data-cell]")) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
  });
}
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((each) => { each.open = true; }));
