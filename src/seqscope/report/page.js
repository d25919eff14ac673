// Adds to a page that is whole without it: the value under the pointer in heatmaps, and pictures in their full size at a click.
(function () {
  "use strict";
  const told = document.createElement("div");
  told.className = "value";
  told.hidden = true;
  document.body.append(told);

  const cellAt = (borders, share) => {
    for (let place = 0; place + 1 < borders.length; place += 1) {
      const low = Math.min(borders[place], borders[place + 1]), high = Math.max(borders[place], borders[place + 1]);
      if (share >= low && share < high) return place;
    }
    return -1;
  };
  const valueAt = (panels, x, y) => {
    for (const panel of panels) {
      const [left, top, right, bottom] = panel.box;
      const column = cellAt(panel.across, (x - left) / (right - left)), row = cellAt(panel.down, (y - top) / (bottom - top));
      if (x < left || x > right || y < top || y > bottom || column < 0 || row < 0) continue;
      const value = panel.values[row][column];
      return [`${panel.y || "row"}: ${panel.rows[row]}`, `${panel.x || "column"}: ${panel.columns[column]}`, value === null ? "no value" : value];
    }
    return null;
  };
  for (const figure of document.querySelectorAll("figure")) {
    const image = figure.querySelector("img"), cells = figure.querySelector("script.cells");
    const panels = cells ? JSON.parse(cells.textContent) : [];
    figure.classList.add("scripted");
    image.tabIndex = 0;
    const turn = () => figure.classList.toggle("large");
    image.addEventListener("click", turn);
    image.addEventListener("keydown", (event) => { if (event.key === "Enter") turn(); });
    image.addEventListener("pointermove", (event) => {
      const box = image.getBoundingClientRect();
      const found = valueAt(panels, (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
      told.hidden = found === null;
      if (found === null) return;
      told.replaceChildren(...found.map((line) => Object.assign(document.createElement("div"), { textContent: line })));
      told.style.left = `${Math.min(event.clientX + 14, innerWidth - told.offsetWidth - 4)}px`;
      told.style.top = `${Math.min(event.clientY + 14, innerHeight - told.offsetHeight - 4)}px`;
    });
    image.addEventListener("pointerleave", () => { told.hidden = true; });
  }
})();
