"use strict";
// What every page has: light and dark, numbers, a tip at the pointer, tables that sort, and the
// pictures, each drawn from the JSON beside it when it comes into view.
const dnicomm = {
  draw: {},  // kind of picture -> function(figure, spec)
  redraw: new Set(),  // called when the theme or the width changes

  read(name) { return JSON.parse(document.getElementById(name).textContent); },
  color(name) { return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim(); },
  palette: ["blue", "vermillion", "green", "purple", "orange", "sky", "grey", "yellow"],
  dashes: ["", "7 3", "2 3", "9 3 2 3"],

  // a number in a few digits, as the tables have them
  figure(x) {
    if (x === null || x === undefined || !Number.isFinite(x)) return "–";
    const size = Math.abs(x);
    if (Number.isInteger(x) && size < 1e9) return x.toLocaleString("en-US");
    if (size !== 0 && (size < 1e-3 || size >= 1e6)) return x.toExponential(2);
    return size >= 1000 ? Math.round(x).toLocaleString("en-US") : x.toFixed(3);
  },

  // an element with attributes and children; text is text, never markup
  make(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value);
    }
    made.append(...children.filter(child => child !== null));
    return made;
  },
  svg(tag, attributes = {}, ...children) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  },

  // rows of [name, value, color?] under a title, near (x, y) of the window
  tip(x, y, title, rows) {
    const tip = document.getElementById("tip");
    const list = dnicomm.make("dl");
    for (const [name, value, color] of rows) {
      const dot = dnicomm.make("span", { class: "swatch" });
      if (color) dot.style.background = color;
      list.append(dnicomm.make("dt", {}, ...(color ? [dot] : []), name), dnicomm.make("dd", {}, String(value)));
    }
    tip.replaceChildren(dnicomm.make("div", { class: "tip-title" }, title), list);
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    const left = x + 16 + width > innerWidth ? x - width - 12 : x + 16;
    tip.style.left = Math.max(4, left) + "px";
    tip.style.top = Math.max(4, Math.min(innerHeight - height - 4, y - height / 2)) + "px";
  },
  hideTip() { document.getElementById("tip").hidden = true; },

  // round numbers that divide [low, high]; powers of ten where the axis is logarithmic
  ticks(low, high, wanted, log) {
    if (log) {
      const marks = [];
      for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++)
        for (const k of [1, 2, 5]) marks.push(k * 10 ** e);
      const inside = marks.filter(x => x >= low * 0.999 && x <= high * 1.001);
      const decades = inside.filter(x => Math.abs(Math.log10(x) - Math.round(Math.log10(x))) < 1e-9);
      return decades.length >= 3 ? decades.filter((_, i) => i % Math.ceil(decades.length / wanted) === 0) : inside;
    }
    const raw = (high - low) / Math.max(1, wanted), power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map(k => k * power).find(s => s >= raw * 0.999);
    const found = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push(+(i * step).toPrecision(12));
    return found;
  },
  axisLabel(x) {
    const size = Math.abs(x);
    if (x !== 0 && (size < 1e-3 || size >= 1e6)) return x.toExponential().replace("e+", "e");
    return size >= 1000 ? x.toLocaleString("en-US") : String(+x.toPrecision(6));
  },

  // a canvas of the container's width, sharp on every screen; its context draws in CSS pixels
  canvas(canvas, height) {
    const width = canvas.parentElement.clientWidth, ratio = devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.height = height + "px";
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    context.font = '12px system-ui, -apple-system, "Segoe UI", "Liberation Sans", sans-serif';
    return { context, width, height };
  },
};

{
  const root = document.documentElement, button = document.getElementById("theme");
  const kept = (() => { try { return localStorage.getItem("dnicomm-theme"); } catch { return null; } })();
  const asked = new URLSearchParams(location.search).get("theme");
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const set = theme => {
    root.dataset.theme = theme;
    button.textContent = theme === "dark" ? "light" : "dark";
    button.setAttribute("aria-pressed", String(theme === "dark"));
    button.setAttribute("aria-label", `switch to ${button.textContent} colours`);
    dnicomm.redraw.forEach(draw => draw());
  };
  set(asked || kept || system);
  button.addEventListener("click", () => {
    const theme = root.dataset.theme === "dark" ? "light" : "dark";
    try { localStorage.setItem("dnicomm-theme", theme); } catch { /* a page from disk may not */ }
    set(theme);
  });

  let resized = 0;
  addEventListener("resize", () => {
    cancelAnimationFrame(resized);
    resized = requestAnimationFrame(() => dnicomm.redraw.forEach(draw => draw()));
  });

  for (const table of document.querySelectorAll("table")) {
    const heads = [...table.querySelectorAll("thead th")], body = table.tBodies[0];
    heads.forEach((head, column) => {
      if ([...body.rows].some(row => row.cells[column]?.classList.contains("number"))) head.classList.add("number");
      if (body.rows.length < 2) return;
      const sort = dnicomm.make("button", { type: "button", title: "sort" }, ...head.childNodes);
      head.append(sort);
      sort.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") !== "descending";
        heads.forEach(other => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const value = row => {
          const cell = row.cells[column], number = cell?.dataset.value;
          return number === undefined ? (cell?.classList.contains("number") ? -Infinity : cell?.textContent ?? "") : +number;
        };
        const rows = [...body.rows].sort((a, b) => {
          const x = value(a), y = value(b);
          const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true });
          return down ? -order : order;
        });
        body.append(...rows);
      });
    });
  }

  addEventListener("DOMContentLoaded", () => {
    const seen = new IntersectionObserver(entries => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        seen.unobserve(target);
        dnicomm.draw[target.dataset.kind](target, dnicomm.read(target.dataset.source));
        target.dataset.drawn = "yes";
      }
    }, { rootMargin: "400px" });
    document.querySelectorAll("figure[data-kind]").forEach(figure => seen.observe(figure));
  });
}
