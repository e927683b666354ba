"use strict";
// Messages as points: { groups: [{ channel, time, x, y, label, shares: [a, b] }], channels, times, labels, ordered }
// Small whole numbers are drawn as themselves, so that no colour has to be told apart.
dnicomm.draw.scatter = (figure, spec) => {
  const { make, svg } = dnicomm, holder = figure.querySelector(".drawn");
  const HEIGHT = 460, M = 44;
  const drawing = svg("svg", { role: "img", "aria-label": spec.alt, height: HEIGHT });
  const channel = make("select", { "aria-label": "channel" }, ...spec.channels.map((name, i) => make("option", { value: i }, name)));
  const time = make("input", { type: "range", min: 0, max: spec.times.length - 1, step: 1, value: spec.times.length - 1, "aria-label": "when in the run" });
  const when = make("output");
  const legend = make("ul", { class: "legend" });
  const controls = make("div", { class: "controls" }, make("label", {}, "channel ", channel));
  if (spec.times.length > 1) controls.append(make("label", {}, "when ", time, when));
  holder.append(controls, drawing, legend);

  // classes by the palette, numbers from blue to yellow (both are told apart in grey, too)
  const ramp = share => `color-mix(in oklab, var(--yellow) ${Math.round(100 * share)}%, var(--blue))`;
  const values = [...new Set(spec.groups.flatMap(g => g.label))].filter(v => v !== null).sort((a, b) => a - b);
  const classes = values.length <= 20 && values.every(Number.isInteger);
  const glyphs = classes && values.every(v => v >= 0 && v < 100);
  const shade = v => v === null ? "var(--grey)" : classes ? `var(--${dnicomm.palette[values.indexOf(v) % 8]})`
    : ramp((v - values[0]) / (values.at(-1) - values[0] || 1));

  const draw = () => {
    const width = Math.min(760, Math.max(280, holder.clientWidth));
    const found = spec.groups.find(g => g.channel === +channel.value && g.time === +time.value);
    const flat = found && found.shares[1] < 1e-4;  // all on one line: beside it stands what they are about
    const group = flat ? { ...found, y: found.label.map((v, i) => (v ?? 0) + 0.5 * ((i * 0.618) % 1)) } : found;
    when.textContent = `time ${dnicomm.figure(spec.times[+time.value])}`;
    drawing.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    drawing.style.maxWidth = width + "px";
    drawing.replaceChildren();
    if (!group) { drawing.append(svg("text", { x: 10, y: 30 }, "no messages were sampled here")); return; }
    const span = v => { const low = Math.min(...v), high = Math.max(...v); return high > low ? [low, high] : [low - 1, high + 1]; };
    const [x0, x1] = span(group.x), [y0, y1] = span(group.y);
    const X = v => M + (v - x0) / (x1 - x0) * (width - M - 24), Y = v => HEIGHT - M - (v - y0) / (y1 - y0) * (HEIGHT - M - 24);
    drawing.append(svg("path", { class: "axis", d: `M${M - 14} 10V${HEIGHT - M + 14}H${width - 8}` }));
    const percent = share => `${Math.round(100 * share)} % of the variance`;
    drawing.append(svg("text", { x: width / 2, y: HEIGHT - 8, "text-anchor": "middle" }, `first principal component, ${percent(group.shares[0])}`),
      svg("text", { transform: `translate(13 ${HEIGHT / 2}) rotate(-90)`, "text-anchor": "middle" }, flat ? `${spec.label}, spread a little` : `second, ${percent(group.shares[1])}`));
    group.x.forEach((x, i) => {
      const label = group.label[i], px = X(x), py = Y(group.y[i]);
      const mark = glyphs && label !== null
        ? svg("text", { x: px, y: py + 4, "text-anchor": "middle", class: "mark" }, String(label))
        : svg("circle", { cx: px, cy: py, r: 4, "fill-opacity": 0.75 });
      mark.style.fill = shade(label);
      mark.addEventListener("pointerenter", e => dnicomm.tip(e.clientX, e.clientY, "a message",
        [[spec.label, label === null ? "unknown" : dnicomm.figure(label), null], ["sent at", group.sent[i]]]));
      mark.addEventListener("pointerleave", dnicomm.hideTip);
      drawing.append(mark);
    });
    if (glyphs) return;  // they say themselves what they are
    legend.replaceChildren(...(classes ? values.map(v => [v, shade(v)]) : [values[0], values.at(-1)].filter(v => v !== undefined).map(v => [v, shade(v)])).map(([v, fill]) => {
      const dot = svg("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" }, svg("circle", { cx: 5, cy: 5, r: 4 }));
      dot.firstChild.style.fill = fill;
      return make("li", { class: "entry" }, dot, `${spec.label} ${dnicomm.figure(v)}`);
    }));
  };
  channel.addEventListener("input", draw);
  time.addEventListener("input", draw);
  dnicomm.redraw.add(draw);
  draw();
};
