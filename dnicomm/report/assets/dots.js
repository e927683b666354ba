"use strict";
// Results side by side: { title, x: label, rows: [{ name, values: [number], color?, own? }] }
// A row a condition, a dot a run, a bar at the mean.
dnicomm.draw.dots = (figure, spec) => {
  const { svg } = dnicomm, holder = figure.querySelector(".drawn");
  const ROW = 34, TOP = 26, names = Math.min(260, 24 + 7.2 * Math.max(...spec.rows.map(row => row.name.length)));
  const height = TOP + ROW * spec.rows.length + 40;
  const drawing = svg("svg", { role: "img", "aria-label": spec.alt, height });
  holder.append(drawing);
  const draw = () => {
    const width = Math.min(760, Math.max(280, holder.clientWidth));
    drawing.replaceChildren();
    drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
    drawing.style.maxWidth = width + "px";
    const values = spec.rows.flatMap(row => row.values);
    let low = Math.min(...values), high = Math.max(...values);
    if (low > 0) low = 0;  // a bar that doesn't begin at zero exaggerates
    if (high < 0) high = 0;
    if (low === high) { low -= Math.abs(low) / 2 || 0.5; high += Math.abs(high) / 2 || 0.5; }
    const room = 0.05 * (high - low);
    if (low !== 0) low -= room;
    if (high !== 0) high += room;
    const right = width - 70, X = v => names + (v - low) / (high - low) * (right - names);
    drawing.append(svg("text", { class: "title", x: 0, y: 13 }, spec.title));
    const bottom = TOP + ROW * spec.rows.length;
    for (const v of dnicomm.ticks(low, high, Math.max(2, Math.floor((right - names) / 90)), false)) {
      drawing.append(svg("path", { class: "axis", d: `M${X(v)} ${TOP}V${bottom}` }),
        svg("text", { x: X(v), y: bottom + 16, "text-anchor": "middle" }, dnicomm.axisLabel(v)));
    }
    drawing.append(svg("text", { x: (names + right) / 2, y: bottom + 33, "text-anchor": "middle" }, spec.x));
    spec.rows.forEach((row, i) => {
      const y = TOP + ROW * (i + 0.5), color = `var(--${row.color ?? dnicomm.palette[i % 8]})`;
      const mean = row.values.reduce((a, b) => a + b, 0) / row.values.length;
      drawing.append(svg("text", { class: row.own ? "title" : "value", x: names - 12, y: y + 4, "text-anchor": "end" }, row.name));
      drawing.append(svg("path", { d: `M${X(0)} ${y}H${X(mean)}`, stroke: color, "stroke-width": row.own ? 10 : 6, "stroke-opacity": 0.35 }));
      row.values.forEach(v => drawing.append(svg("circle", { cx: X(v), cy: y, r: 5, fill: color, stroke: "var(--paper)", "stroke-width": 1.5 })));
      drawing.append(svg("text", { class: "value", x: X(Math.max(...row.values)) + 12, y: y + 4 }, dnicomm.figure(mean)));
    });
  };
  dnicomm.redraw.add(draw);
  draw();
};
