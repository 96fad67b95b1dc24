"use strict";
// Tables sort by a button in each head; numbers first fall.
const enhance = (root) => {
  for (const table of root.querySelectorAll("table.sorts")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      if (!head.hasAttribute("data-sorts")) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const before = head.getAttribute("aria-sort");
        const numbers = head.classList.contains("number");
        const falls = before ? before === "ascending" : numbers;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", falls ? "descending" : "ascending");
        const value = (row) => row.cells[column].dataset.by ?? row.cells[column].textContent;
        const order = (one, other) =>
          numbers ? Number(value(one)) - Number(value(other)) : value(one).localeCompare(value(other));
        const rows = [...table.tBodies[0].rows].sort((one, other) => (falls ? -1 : 1) * order(one, other));
        table.tBodies[0].append(...rows);
      });
    });
  }
  // One line through all plots over time, by pointer or by the arrow keys; its values stand at the right.
  for (const time of root.querySelectorAll(".time")) {
    const starts = time.dataset.starts.split(" ").map(Number);
    const times = time.dataset.times.split("|");
    const cells = [...time.querySelectorAll(".plot-row:not(.lane-head) > .plot-cell")];
    const values = [...time.querySelectorAll("[data-at]")].map((cell) => ({
      cell, still: [...cell.childNodes], at: cell.dataset.at.split("|"),
    }));
    const now = time.querySelector(".now");
    let at = -1;
    const lines = cells.map((cell) => {
      const line = document.createElement("i");
      line.className = "crosshair";
      line.hidden = true;
      cell.append(line);
      return line;
    });
    const show = (index) => {
      at = index;
      const middle = index < 0 ? 0 : (starts[index] + (starts[index + 1] ?? 1)) / 2;
      for (const line of lines) {
        line.hidden = index < 0;
        line.style.left = `${100 * middle}%`;
      }
      now.textContent = index < 0 ? "" : `at ${times[index]}`;
      for (const { cell, still, at: all } of values) {
        if (index < 0) cell.replaceChildren(...still);
        else {
          const shown = document.createElement("b");
          shown.textContent = all[index];
          cell.replaceChildren(shown);
        }
      }
    };
    const nearest = (x) => {
      const { left, width } = cells[0].getBoundingClientRect();
      const share = (x - left) / width;
      if (share < 0 || share > 1) return -1;
      let index = starts.length - 1;
      while (index > 0 && starts[index] > share) index -= 1;
      return index;
    };
    time.addEventListener("pointermove", (event) => show(nearest(event.clientX)));
    time.addEventListener("pointerleave", () => show(-1));
    time.addEventListener("blur", () => show(-1));
    time.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (event.key === "Escape") show(-1);
      if (!step) return;
      event.preventDefault();
      show(Math.min(starts.length - 1, Math.max(0, at + step)));
    });
  }
};
enhance(document);
