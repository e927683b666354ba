"use strict";
// A lane an agent on world time: ticks, messages, gradients, and colours that change with updates.
dnicomm.draw.timeline = (figure, spec) => {
  const { make, stage } = dnicomm, holder = figure.querySelector(".drawn");
  const TOP = 26, BOTTOM = 8;
  const canvas = make("canvas", { tabindex: 0, role: "img", "aria-label": spec.alt });
  const filter = make("input", { type: "search", placeholder: "all agents", "aria-label": "show agents whose names contain", size: 16 });
  const near = make("input", { type: "checkbox", checked: "" });
  const layers = { messages: "messages", synthetic: "synthetic gradients", truth: "true gradients", updates: "updates" };
  const on = Object.fromEntries(Object.entries(layers).map(([key, name]) => {
    const input = make("input", { type: "checkbox", checked: "", "data-layer": key });
    input.addEventListener("input", () => draw());
    return [key, { input, label: make("label", {}, input, ` ${name}`) }];
  }));
  const press = (text, title, act) => make("button", { type: "button", title, "aria-label": title, onclick: act }, text);
  const controls = make("div", { class: "controls" }, stage.chooser(),
    make("label", {}, "agents ", filter), make("label", {}, near, " and those they talk with"),
    make("span", {}, press("−", "zoom out", () => zoom(0.6)), " ", press("+", "zoom in", () => zoom(1 / 0.6)), " ",
      press("whole episode", "show the whole episode", () => { view = { from: 0, to: stage.episode.until, top: 0 }; draw(); })));
  const showing = make("div", { class: "controls" }, ...Object.values(on).map(layer => layer.label));
  holder.append(controls, showing, canvas);

  let about = () => true;  // the messages that are asked for
  let view = null, lanes = [], shape = null, under = null, held = null;
  const start = () => {
    const { messages, until } = stage.episode;
    // as much as can be read at once
    const enough = messages.length > 150 ? messages[150].sent : until;
    view = { from: 0, to: Math.min(until, Math.max(enough, 6, until / 20)), top: 0 };
    under = null;
  };
  const choose = () => {
    const { agents, edges } = stage.episode;
    const words = filter.value.toLowerCase().split(",").map(word => word.trim()).filter(Boolean);
    const own = new Set(agents.map((_, i) => i).filter(i => !words.length || words.some(word => agents[i].toLowerCase().includes(word))));
    about = words.length ? m => own.has(m.from) || own.has(m.to) : () => true;
    const shown = new Set(own);
    if (near.checked && words.length) for (const [a, b] of edges) { if (own.has(a)) shown.add(b); if (own.has(b)) shown.add(a); }
    lanes = [...shown].sort((a, b) => a - b);
  };

  const draw = () => {
    const episode = stage.episode, count = Math.max(1, lanes.length);
    const step = Math.max(6, Math.min(64, 620 / count));
    const height = TOP + BOTTOM + Math.min(count * step, 640);
    const { context: c, width } = dnicomm.canvas(canvas, height);
    const dense = step < 14, color = dnicomm.color;
    const left = Math.min(170, 16 + Math.max(...episode.agents.map(name => c.measureText(name).width)));
    view.top = Math.max(0, Math.min(view.top, count * step - (height - TOP - BOTTOM)));
    const row = new Map(lanes.map((agent, i) => [agent, TOP + step * (i + 0.5) - view.top]));
    const X = time => left + 8 + (time - view.from) / (view.to - view.from) * (width - left - 22);
    const perUnit = (width - left - 22) / (view.to - view.from), half = Math.max(1.5, Math.min(7, step * 0.16));
    shape = { X, row, left, width, height, perUnit, half, step };

    // time
    c.fillStyle = color("soft");
    c.strokeStyle = color("line");
    c.textAlign = "center";
    for (const t of dnicomm.ticks(view.from, view.to, width / 90, false)) {
      if (!Number.isInteger(t)) continue;
      c.fillText(t, X(t), 14);
      c.beginPath(); c.moveTo(X(t), TOP - 6); c.lineTo(X(t), height - BOTTOM); c.stroke();
    }
    c.textAlign = "left";
    c.fillText("time", 0, 14);
    c.setLineDash([2, 3]);
    c.strokeStyle = color("soft");
    for (const t of episode.starts.slice(1)) {
      if (t < view.from || t > view.to) continue;
      c.beginPath(); c.moveTo(X(t) - 0.2 * perUnit, TOP - 6); c.lineTo(X(t) - 0.2 * perUnit, height - BOTTOM); c.stroke();
    }
    c.setLineDash([]);

    c.save();
    c.beginPath(); c.rect(0, TOP - 6, width, height - TOP + 6); c.clip();
    // lanes: names, and weights as colours
    c.textBaseline = "middle";
    const every = Math.ceil(13 / step);
    lanes.forEach((agent, i) => {
      const y = row.get(agent);
      if (y < TOP - step || y > height) return;
      if (i % every === 0) {
        let name = episode.agents[agent];
        while (name.length > 4 && c.measureText(name).width > left - 10) name = name.slice(0, -2) + "…";
        c.fillStyle = color("ink");
        c.fillText(name, 0, y);
      }
      const from = X(Math.max(0, view.from)), to = X(Math.min(view.to, episode.until));
      if (!on.updates.input.checked) { c.fillStyle = color("line"); c.fillRect(from, y - half, to - from, 2 * half); return; }
      let begin = Math.max(0, view.from), version = stage.version(episode, agent, begin);
      const times = episode.updated[agent];
      while (begin < Math.min(view.to, episode.until)) {
        const end = Math.min(view.to, episode.until, times[version] ?? Infinity);
        c.fillStyle = stage.tint(version);
        c.fillRect(X(begin), y - half, X(end) - X(begin), 2 * half);
        begin = end; version++;
      }
    });
    c.textBaseline = "alphabetic";

    c.beginPath(); c.rect(left + 2, TOP - 6, width - left - 2, height - TOP + 6); c.clip();
    const seen = episode.messages.filter(m => row.has(m.from) && row.has(m.to) && about(m)
      && Math.max(m.arrival, m.done ?? 0) >= view.from && m.sent <= view.to);
    const faded = Math.max(0.25, Math.min(1, 260 / Math.max(1, seen.length)));
    for (const m of seen) paint(c, m, under?.message === m ? 1 : under?.message ? faded * 0.3 : faded, under?.message === m);
    // ticks above all
    for (const agent of lanes) {
      const y = row.get(agent);
      for (const tick of episode.ticksOf[agent]) {
        if (tick.time < view.from - 1 || tick.time > view.to + 1) continue;
        c.beginPath();
        c.arc(X(tick.time), y, dense ? Math.min(2, step * 0.25) : Math.min(4.5, perUnit * 0.3), 0, 7);
        c.fillStyle = color("ink");
        c.fill();
      }
    }
    // where the play-by-play is
    c.strokeStyle = color("vermillion");
    c.globalAlpha = 0.8;
    c.beginPath(); c.moveTo(X(stage.time), TOP - 6); c.lineTo(X(stage.time), height); c.stroke();
    c.restore();
  };

  const arrow = (c, x0, y0, x1, y1, size) => {
    const angle = Math.atan2(y1 - y0, x1 - x0);
    c.beginPath();
    c.moveTo(x1, y1);
    c.lineTo(x1 - size * Math.cos(angle - 0.4), y1 - size * Math.sin(angle - 0.4));
    c.lineTo(x1 - size * Math.cos(angle + 0.4), y1 - size * Math.sin(angle + 0.4));
    c.fill();
  };
  // where a message is drawn: from the sender's lane to the receiver's, between their edges
  const ends = m => {
    const { X, row, half } = shape, a = row.get(m.from), b = row.get(m.to), down = Math.sign(b - a) || 1;
    return { x0: X(m.sent), y0: a + down * half, x1: X(m.arrival), y1: b - down * (half + 1), down };
  };
  const paint = (c, m, alpha, strong) => {
    const { X, row, perUnit, half, step } = shape, { x0, y0, x1, y1, down } = ends(m);
    const size = Math.max(3, Math.min(8, step * 0.18));
    c.globalAlpha = alpha;
    c.lineWidth = strong ? 2.5 : 1.2;
    if (on.messages.input.checked) {
      c.strokeStyle = c.fillStyle = dnicomm.color(m.lost ? "lost" : "message");
      if (m.unread && !strong) c.globalAlpha = alpha * 0.45;
      const stop = m.lost ? 0.62 : m.ended ? (m.settled + stage.END - m.sent) / (m.arrival - m.sent) : 1, x = x0 + (x1 - x0) * stop, y = y0 + (y1 - y0) * stop;
      c.beginPath(); c.moveTo(x0, y0); c.lineTo(x, y); c.stroke();
      if (m.lost) {
        const s = Math.max(3, size * 0.6);
        c.lineWidth = 2;
        c.beginPath(); c.moveTo(x - s, y - s); c.lineTo(x + s, y + s); c.moveTo(x - s, y + s); c.lineTo(x + s, y - s); c.stroke();
      } else if (!m.ended) arrow(c, x0, y0, x, y, size);
      c.globalAlpha = alpha;
      c.lineWidth = strong ? 2.5 : 1.2;
    }
    if (on.synthetic.input.checked && m.injected > 0) {  // back at once: at the same world time
      const x = x0 + Math.min(4, perUnit * 0.16);
      c.strokeStyle = c.fillStyle = dnicomm.color("synthetic");
      c.setLineDash([4, 3]);
      c.beginPath(); c.moveTo(x, y1); c.lineTo(x, y0); c.stroke();
      c.setLineDash([]);
      arrow(c, x, y1, x, y0, size);
    }
    if (on.truth.input.checked && m.done !== null && m.reads > 0) {  // along the receiver's lane, from its first read
      const y = row.get(m.to) - down * (half + 3), x = X(m.done), s = Math.max(2.5, size * 0.55);
      c.strokeStyle = c.fillStyle = dnicomm.color("true");
      c.setLineDash([1.5, 2.5]);
      c.beginPath(); c.moveTo(X(m.first_read), y); c.lineTo(x, y); c.stroke();
      c.setLineDash([]);
      c.beginPath(); c.moveTo(x - s, y); c.lineTo(x, y - s); c.lineTo(x + s, y); c.lineTo(x, y + s); c.closePath(); c.fill();
      if (stage.episode.true_share > 0) {  // it goes to the sender as well
        c.beginPath(); c.moveTo(x, y); c.lineTo(x, y0); c.stroke();
        arrow(c, x, y, x, y0, size);
      }
    }
    c.globalAlpha = 1;
  };

  // what lies under the pointer: a tick, else the nearest message
  const find = (px, py) => {
    const { X, row } = shape, episode = stage.episode;
    for (const agent of lanes) {
      const y = row.get(agent);
      if (Math.abs(y - py) > Math.max(5, shape.half + 2)) continue;
      const tick = episode.ticksOf[agent].find(t => Math.abs(X(t.time) - px) < 6);
      if (tick) return { tick };
    }
    let best = null, reach = 6;
    for (const m of episode.messages) {
      if (!row.has(m.from) || !row.has(m.to) || !about(m)) continue;
      const { x0, y0, x1, y1 } = ends(m), dx = x1 - x0, dy = y1 - y0;
      const along = Math.max(0, Math.min(1, ((px - x0) * dx + (py - y0) * dy) / (dx * dx + dy * dy || 1)));
      const away = Math.hypot(px - x0 - along * dx, py - y0 - along * dy);
      const back = py > Math.min(y0, y1) && py < Math.max(y0, y1) ? Math.abs(px - x0 - 3) : Infinity;
      const distance = Math.min(away, back);
      if (distance < reach) { reach = distance; best = m; }
    }
    return best && { message: best };
  };
  const tell = (found, x, y) => {
    if (!found) { dnicomm.hideTip(); return; }
    if (found.message) { dnicomm.tip(x, y, stage.titleOf(found.message), stage.rowsOf(found.message)); return; }
    const { tick } = found, episode = stage.episode;
    dnicomm.tip(x, y, `${episode.agents[tick.agent]} ticks`, [["time", tick.time], ["in the run", episode.began + tick.time],
      ...stage.rowsOfTick(tick), ["updates in this episode", stage.version(episode, tick.agent, tick.time)]]);
  };

  const zoom = (factor, at = (view.from + view.to) / 2) => {
    const until = stage.episode.until, span = Math.max(2, Math.min(until, (view.to - view.from) / factor));
    const share = (at - view.from) / (view.to - view.from);
    view.from = Math.max(0, Math.min(until - span, at - share * span));
    view.to = view.from + span;
    draw();
  };
  const pan = units => {
    const span = view.to - view.from;
    view.from = Math.max(0, Math.min(stage.episode.until - span, view.from + units));
    view.to = view.from + span;
    draw();
  };
  const timeAt = px => view.from + (px - shape.left - 8) / shape.perUnit;

  canvas.addEventListener("pointerdown", event => {
    held = { x: event.clientX, y: event.clientY, moved: false };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", event => {
    const box = canvas.getBoundingClientRect(), px = event.clientX - box.left, py = event.clientY - box.top;
    if (held) {
      if (Math.hypot(event.clientX - held.x, event.clientY - held.y) > 3 || held.moved) {
        held.moved = true;
        view.top -= event.clientY - held.y;
        pan((held.x - event.clientX) / shape.perUnit);
        [held.x, held.y] = [event.clientX, event.clientY];
        dnicomm.hideTip();
      }
      return;
    }
    const found = find(px, py);
    if ((found?.message ?? null) !== (under?.message ?? null)) { under = found; draw(); }
    tell(found, event.clientX, event.clientY);
    canvas.style.cursor = found ? "pointer" : "grab";
  });
  canvas.addEventListener("pointerup", event => {
    if (held && !held.moved) {
      const box = canvas.getBoundingClientRect(), px = event.clientX - box.left;
      if (px > shape.left) stage.go(timeAt(px));
      else {
        const agent = lanes.find(one => Math.abs(shape.row.get(one) - (event.clientY - box.top)) < shape.step / 2);
        if (agent !== undefined) { filter.value = filter.value ? "" : stage.episode.agents[agent]; choose(); draw(); }
      }
    }
    held = null;
  });
  canvas.addEventListener("pointerleave", () => { dnicomm.hideTip(); if (under) { under = null; draw(); } });
  canvas.addEventListener("wheel", event => {
    if (!event.ctrlKey && !event.metaKey && document.activeElement !== canvas) return;  // the page scrolls
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 300), timeAt(event.clientX - canvas.getBoundingClientRect().left));
  }, { passive: false });
  canvas.addEventListener("keydown", event => {
    const span = view.to - view.from;
    const act = { ArrowLeft: () => pan(-span / 8), ArrowRight: () => pan(span / 8), "+": () => zoom(1.5), "=": () => zoom(1.5), "-": () => zoom(1 / 1.5),
      Home: () => pan(-Infinity), End: () => pan(Infinity),
      ArrowUp: () => { view.top -= 40; draw(); }, ArrowDown: () => { view.top += 40; draw(); } }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
  filter.addEventListener("input", () => { choose(); draw(); });
  near.addEventListener("input", () => { choose(); draw(); });
  stage.listeners.add(what => {
    if (what === "episode") { choose(); start(); }
    else if (stage.time > view.to || stage.time < view.from) { pan(stage.time - view.from - (view.to - view.from) / 4); return; }
    draw();
  });
  dnicomm.redraw.add(() => draw());
  choose();
  start();
  draw();
};
