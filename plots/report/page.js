// Sort a table by the column whose head is clicked: numbers by value, other cells by their letters.
const key = (row, column) => row.cells[column].textContent.trim().replace("−", "-").replaceAll(",", "");
const compare = (a, b) => {
  const x = parseFloat(a.replace(/^[^\d+.-]+/, "")), y = parseFloat(b.replace(/^[^\d+.-]+/, ""));
  if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1;
  return Number.isNaN(x) ? a.localeCompare(b) : x - y;
};
const sort = (head) => {
  const body = head.closest("table").tBodies[0], column = head.cellIndex;
  const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  const rows = [...body.rows].sort((a, b) => sign * compare(key(a, column), key(b, column)));
  for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
  body.append(...rows);
};
for (const cell of document.querySelectorAll("td")) {
  if (cell.textContent.length > 40) cell.classList.add("long");
}
const isNumber = (cell) => /^[<≤≥+−-]? ?\d|^–?$/.test(cell.textContent.trim());
for (const head of document.querySelectorAll("thead th")) {
  const cells = [...head.closest("table").tBodies[0].rows].map((row) => row.cells[head.cellIndex]);
  if (cells.every(isNumber)) for (const cell of [head, ...cells]) cell.classList.add("number");
  const button = document.createElement("button");
  button.append(...head.childNodes);
  button.onclick = () => sort(head);
  head.append(button);
}
