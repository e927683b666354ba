"use strict";
// Curves: { title, x: label, y: label, series: [{ name, x, y, low?, high?, color?, dash? }], guide?: number }
// Hover or arrow keys read values; the section's controls smooth and make axes logarithmic.
dnicomm.draw.lines = (figure, spec) => {
  const { make, svg } = dnicomm, holder = figure.querySelector(".drawn");
  const controls = [...(figure.closest("section")?.querySelectorAll("[data-control]") ?? [])];
  const control = name => controls.find(input => input.dataset.control === name);
  const hidden = new Set(), HEIGHT = 230, MARGIN = { left: 52, right: 14, top: 26, bottom: 36 };
  const drawing = svg("svg", { role: "img", "aria-label": spec.alt, tabindex: 0, height: HEIGHT });
  const legend = make("ul", { class: "legend" });
  holder.append(drawing, legend);
  const look = i => ({
    color: `var(--${spec.series[i].color ?? dnicomm.palette[i % dnicomm.palette.length]})`,
    dash: spec.series[i].dash ?? dnicomm.dashes[Math.floor(i / dnicomm.palette.length) % 4],
  });

  // exponential smoothing, corrected for its start as Adam's moments are
  const smooth = (values, share) => {
    let total = 0, weight = 0;
    return values.map(v => {
      if (v === null) return null;
      total = share * total + (1 - share) * v;
      weight = share * weight + (1 - share);
      return total / weight;
    });
  };

  let scale = null, shown = [], cursor = null;
  const draw = () => {
    const share = +(control("smoothing")?.value ?? 0);
    const width = Math.max(260, holder.clientWidth);
    const logx = Boolean(control("logx")?.checked), wantsLog = Boolean(control("logy")?.checked);
    shown = spec.series.map((s, i) => ({ ...s, i, y: share ? smooth(s.y, share) : s.y, raw: s.y }))
      .filter(s => !hidden.has(s.i));
    const all = shown.flatMap(s => [s.y, s.low ?? [], s.high ?? []].flat()).filter(v => v !== null);
    const logy = wantsLog && all.some(v => v > 0);  // of no use where nothing is positive
    const xs = shown.flatMap(s => s.x).filter(v => !logx || v > 0);
    const ys = all.filter(v => !logy || v > 0);
    drawing.replaceChildren();
    drawing.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    let [x0, x1] = [Math.min(...xs), Math.max(...xs)], [y0, y1] = [Math.min(...ys), Math.max(...ys)];
    if (!xs.length || !ys.length) { [x0, x1, y0, y1] = [0, 1, 0, 1]; }
    if (spec.guide !== undefined && !logy) { y0 = Math.min(y0, spec.guide); y1 = Math.max(y1, spec.guide); }
    if (x0 === x1) { x0 -= logx ? x0 / 2 : 0.5; x1 += logx ? x1 : 0.5; }
    if (y0 === y1) { y0 -= logy ? y0 / 2 : 0.05 * Math.abs(y0) || 0.5; y1 += logy ? y1 : 0.05 * Math.abs(y1) || 0.5; }
    if (!logy) { const room = 0.06 * (y1 - y0); y0 = y0 >= 0 && y0 - room < 0 ? 0 : y0 - room; y1 += room; }
    const position = (v, low, high, from, to, log) => {
      const f = log ? Math.log : z => z;
      return from + (f(v) - f(low)) / (f(high) - f(low)) * (to - from);
    };
    const right = width - MARGIN.right, bottom = HEIGHT - MARGIN.bottom;
    const X = v => position(v, x0, x1, MARGIN.left, right, logx), Y = v => position(v, y0, y1, bottom, MARGIN.top, logy);
    scale = { X, Y, logx, logy, bottom };

    drawing.append(svg("text", { class: "title", x: 0, y: 13 }, spec.title));
    for (const v of dnicomm.ticks(y0, y1, 4, logy)) {
      drawing.append(svg("path", { class: "axis", d: `M${MARGIN.left} ${Y(v)}H${right}` }),
        svg("text", { x: MARGIN.left - 8, y: Y(v) + 4, "text-anchor": "end" }, dnicomm.axisLabel(v)));
    }
    const marks = dnicomm.ticks(x0, x1, Math.max(2, Math.floor(width / 110)), logx);
    for (const v of marks) {
      const at = X(v), anchor = at > right - 18 ? "end" : "middle";
      drawing.append(svg("text", { x: at, y: bottom + 16, "text-anchor": anchor }, dnicomm.axisLabel(v)));
    }
    drawing.append(svg("text", { x: (MARGIN.left + right) / 2, y: HEIGHT - 4, "text-anchor": "middle" }, spec.x));
    if (spec.guide !== undefined && (!logy || spec.guide > 0)) {
      drawing.append(svg("path", { d: `M${MARGIN.left} ${Y(spec.guide)}H${right}`, stroke: "var(--soft)", "stroke-dasharray": "3 4" }));
    }
    const good = (x, y) => y !== null && (!logx || x > 0) && (!logy || y > 0);
    for (const s of shown) {
      const { color, dash } = look(s.i);
      if (s.low && !share) {
        const there = s.x.map((x, k) => k).filter(k => good(s.x[k], s.low[k]) && s.high[k] !== null);
        const edge = there.map(k => `${X(s.x[k])},${Y(s.high[k])}`).concat(there.toReversed().map(k => `${X(s.x[k])},${Y(s.low[k])}`));
        if (there.length) drawing.append(svg("polygon", { points: edge.join(" "), fill: color, "fill-opacity": 0.16 }));
      }
      let path = "", pen = "M", points = 0;
      s.x.forEach((x, k) => {
        if (!good(x, s.y[k])) { pen = "M"; return; }
        path += `${pen}${X(x).toFixed(1)} ${Y(s.y[k]).toFixed(1)}`;
        pen = "L"; points++;
      });
      if (share) {
        let faint = "", lift = "M";
        s.x.forEach((x, k) => { if (good(x, s.raw[k])) { faint += `${lift}${X(x)} ${Y(s.raw[k])}`; lift = "L"; } else lift = "M"; });
        drawing.append(svg("path", { d: faint, fill: "none", stroke: color, "stroke-opacity": 0.25 }));
      }
      drawing.append(svg("path", { d: path, fill: "none", stroke: color, "stroke-width": s.thin ? 1 : 2, "stroke-opacity": s.thin ? 0.5 : 1, "stroke-dasharray": dash, "stroke-linejoin": "round" }));
      if (points <= 12 && !s.thin) s.x.forEach((x, k) => { if (good(x, s.y[k])) drawing.append(svg("circle", { cx: X(x), cy: Y(s.y[k]), r: 2.6, fill: color })); });
    }
    cursor = svg("g");
    drawing.append(cursor);
  };

  const stops = () => [...new Set(shown.flatMap(s => s.x.filter((x, k) => s.y[k] !== null && (!scale.logx || x > 0))))].sort((a, b) => a - b);
  let at = null;
  const point = (x, clientX, clientY) => {
    at = x;
    cursor.replaceChildren(svg("path", { d: `M${scale.X(x)} 22V${scale.bottom}`, stroke: "var(--soft)", "stroke-dasharray": "2 3" }));
    const rows = [];
    for (const s of shown) {
      const k = s.x.reduce((best, v, j) => s.y[j] !== null && (best < 0 || Math.abs(v - x) < Math.abs(s.x[best] - x)) ? j : best, -1);
      if (k < 0 || (scale.logy && s.y[k] <= 0)) continue;
      const spread = s.low && s.low[k] !== null ? ` (${dnicomm.figure(s.low[k])} to ${dnicomm.figure(s.high[k])})` : "";
      rows.push([s.name, dnicomm.figure(s.y[k]) + spread, dnicomm.color(look(s.i).color.slice(6, -1))]);
      cursor.append(svg("circle", { cx: scale.X(s.x[k]), cy: scale.Y(s.y[k]), r: 4, fill: look(s.i).color, stroke: "var(--paper)", "stroke-width": 1.5 }));
    }
    dnicomm.tip(clientX, clientY, `${spec.x} ${dnicomm.figure(x)}`, rows);
  };
  const clear = () => { cursor?.replaceChildren(); dnicomm.hideTip(); at = null; };
  drawing.addEventListener("pointermove", event => {
    const box = drawing.getBoundingClientRect(), all = stops();
    if (!all.length) return;
    const px = event.clientX - box.left;
    point(all.reduce((best, x) => Math.abs(scale.X(x) - px) < Math.abs(scale.X(best) - px) ? x : best), event.clientX, event.clientY);
  });
  drawing.addEventListener("pointerleave", clear);
  drawing.addEventListener("blur", clear);
  drawing.addEventListener("keydown", event => {
    const all = stops(), step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") clear();
    if (!step || !all.length) return;
    event.preventDefault();
    const next = at === null ? (step > 0 ? 0 : all.length - 1) : Math.max(0, Math.min(all.length - 1, all.indexOf(at) + step));
    const box = drawing.getBoundingClientRect();
    point(all[next], box.left + scale.X(all[next]), box.top + 100);
  });

  if (spec.series.length > 1 || spec.legend) spec.series.forEach((s, i) => {
    const { color, dash } = look(i);
    const sample = svg("svg", { "aria-hidden": "true", viewBox: "0 0 24 10" }, svg("path", { d: "M0 5H24", stroke: color, "stroke-width": 2.5, "stroke-dasharray": dash }));
    const button = make("button", { type: "button", "aria-pressed": "true" }, sample, s.name);
    button.addEventListener("click", () => {
      if (hidden.delete(i)) button.setAttribute("aria-pressed", "true");
      else { hidden.add(i); button.setAttribute("aria-pressed", "false"); }
      draw();
    });
    legend.append(make("li", {}, button));
  });
  controls.forEach(input => input.addEventListener("input", draw));
  dnicomm.redraw.add(draw);
  draw();
};
