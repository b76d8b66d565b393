"use strict";
(() => {
  const { charts, themes } = JSON.parse(document.getElementById("data").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const tip = document.getElementById("tip");

  // --- plots: drawn in the theme of the system, and again when that changes

  const views = new Map();

  async function draw(name) {
    const place = document.getElementById(name);
    if (!place) return;
    views.get(name)?.finalize();
    const shown = await vegaEmbed(place, charts[name].spec, {
      config: themes[dark.matches ? "dark" : "light"],
      patch: charts[name].patch ?? undefined,
      renderer: "svg",
      actions: { export: true, source: false, compiled: false, editor: false },
      downloadFileName: name,
      tooltip: { theme: dark.matches ? "dark" : "light" },
    });
    views.set(name, shown);
    place.dataset.drawn = "yes";
  }

  // A mark is reached by the Tab key, once per plot, then by the arrows: left and right go through all marks, up and down
  // to the nearest one above or below. What a mouse sees on hover is then shown.
  function reachable(place) {
    const marks = () => [...place.querySelectorAll('.role-mark [role="graphics-symbol"][aria-label]')];
    const now = Math.max(0, marks().findIndex((mark) => mark.getAttribute("tabindex") === "0"));
    marks().forEach((mark, i) => mark.setAttribute("tabindex", i === now ? "0" : "-1"));
    place.onkeydown = (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key], way = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      const all = marks(), at = all.indexOf(document.activeElement);
      if (event.key === "Escape") hide();
      if (at < 0 || !(step || way)) return;
      event.preventDefault();
      const next = step ? all[(at + step + all.length) % all.length] : nearest(all, at, way);
      all[at].setAttribute("tabindex", "-1");
      next.setAttribute("tabindex", "0");
      next.focus();
    };
  }

  function nearest(all, at, way) {
    const centre = (mark) => { const b = mark.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; };
    const [x, y] = centre(all[at]);
    const far = all.map((mark) => {
      const [other, below] = centre(mark), down = (below - y) * way;
      return down > 0.5 ? Math.hypot(2 * (other - x), down) : Infinity;
    });
    const least = Math.min(...far);
    return all[least < Infinity ? far.indexOf(least) : at];
  }

  for (const place of document.querySelectorAll(".chart")) {
    new MutationObserver(() => reachable(place)).observe(place, { childList: true, subtree: true });
    place.addEventListener("focusin", (event) => event.target.matches('[role="graphics-symbol"]') && tell(event.target));
    place.addEventListener("focusout", hide);
  }

  function tell(mark) {
    const told = mark.__data__?.tooltip || mark.getAttribute("aria-label");
    tip.textContent = typeof told === "object" ? Object.entries(told).map(([k, v]) => `${k}: ${v}`).join("\n") : told;
    tip.hidden = false;
    const box = mark.getBoundingClientRect(), own = tip.getBoundingClientRect();
    const left = Math.min(box.right + 8, document.documentElement.clientWidth - own.width - 8);
    tip.style.left = `${Math.max(8, left) + scrollX}px`;
    tip.style.top = `${box.bottom + 8 + scrollY}px`;
  }

  function hide() {
    tip.hidden = true;
  }

  const all = () => Promise.all(Object.keys(charts).map(draw));
  dark.addEventListener("change", all);
  all().then(() => document.documentElement.setAttribute("data-ready", "yes"));

  // --- tables: sorted by a column's title, as numbers where all are

  const order = new Intl.Collator("en", { numeric: true });

  function value(row, column) {
    const sort = row.cells[column].dataset.sort;
    return sort === "" ? null : Number.isNaN(Number(sort)) ? sort : Number(sort);
  }

  function compare(a, b) {
    if (a === null || b === null) return (a === null) - (b === null);
    return typeof a === "number" && typeof b === "number" ? a - b : order.compare(a, b);
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    const titles = [...table.tHead.rows[0].cells];
    titles.forEach((title, column) => {
      title.querySelector("button").addEventListener("click", () => {
        const down = title.getAttribute("aria-sort") === "ascending";
        titles.forEach((other) => other.setAttribute("aria-sort", "none"));
        title.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...table.tBodies[0].rows].map((row) => [value(row, column), row]);
        rows.sort(([a], [b]) => (a === null || b === null ? compare(a, b) : down ? compare(b, a) : compare(a, b)));
        table.tBodies[0].append(...rows.map(([, row]) => row));
      });
    });
  }

  for (const choice of document.querySelectorAll('input[name="runtime"]')) {
    choice.addEventListener("change", () => {
      for (const row of document.querySelectorAll("table[data-filtered] tbody tr")) {
        row.hidden = Boolean(choice.value) && row.dataset.runtime !== choice.value;
      }
    });
  }
})();
