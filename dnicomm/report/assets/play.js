"use strict";
// The graph of agents and channels, with messages moving along the channels in world time.
dnicomm.draw.play = (figure, spec) => {
  const { make, stage } = dnicomm, holder = figure.querySelector(".drawn");
  const PULSE = 0.45;  // world time over which something that happens at once is drawn
  const canvas = make("canvas", { tabindex: 0, role: "img", "aria-label": spec.alt });
  const press = (text, title, act) => make("button", { type: "button", title, onclick: act }, text);
  const play = press("▶ play", "play or pause (space)", () => toggle());
  const speed = make("select", { "aria-label": "speed, world time a second" },
    ...[0.25, 0.5, 1, 2, 4, 8, 16].map(v => make("option", { value: v, ...(v === 1 ? { selected: "" } : {}) }, `${v} a second`)));
  const scrub = make("input", { type: "range", min: 0, step: 0.01, "aria-label": "world time" });
  scrub.style.flex = "1 1 12rem";
  const clock = make("output", { class: "clock" });
  const said = make("ol", { class: "events", "aria-live": "polite", tabindex: 0, "aria-label": "what happens now" });
  const controls = make("div", { class: "controls" }, play,
    press("◀ step", "to the time before at which something happens (←)", () => step(-1)),
    press("step ▶", "to the next time at which something happens (→)", () => step(1)),
    make("label", {}, "speed ", speed), scrub, clock);
  holder.append(make("div", { class: "controls" }, stage.chooser()), canvas, controls, said);

  // places of agents: layers from left to right where messages go one way, else a circle
  const layout = episode => {
    const n = episode.agents.length, incoming = episode.agents.map(() => []), rank = Array(n).fill(0);
    for (const [a, b] of episode.edges) incoming[b].push(a);
    let acyclic = episode.edges.length > 0;
    const settled = new Set();
    for (let round = 0; round <= n && acyclic && settled.size < n; round++) {
      const ready = [...Array(n).keys()].filter(i => !settled.has(i) && incoming[i].every(a => settled.has(a)));
      if (!ready.length) acyclic = false;
      ready.forEach(i => { settled.add(i); rank[i] = Math.max(-1, ...incoming[i].map(a => rank[a])) + 1; });
    }
    if (!acyclic) {
      const places = rank.map((_, i) => ({ x: 0.5 + 0.5 * Math.sin(2 * Math.PI * i / n), y: 0.5 - 0.5 * Math.cos(2 * Math.PI * i / n) }));
      return { places, tall: n > 24 ? 560 : n > 2 ? 340 : 200, round: true, columns: 1, gap: n > 1 ? Math.sin(Math.PI / n) : 1 };
    }
    const layers = [];
    rank.forEach((r, i) => (layers[r] ??= []).push(i));
    const wide = Math.max(...layers.map(layer => layer.length)), rows = Math.ceil(layers.length / 12), columns = Math.ceil(layers.length / rows);
    const places = Array(n);
    layers.forEach((layer, r) => {  // a long chain goes back and forth
      const line = Math.floor(r / columns), at = r % columns;
      layer.forEach((agent, k) => {
        places[agent] = {
          x: columns === 1 ? 0.5 : (line % 2 ? columns - 1 - at : at) / (columns - 1),
          y: (line + (k + 1) / (layer.length + 1)) / rows,
        };
      });
    });
    return { places, tall: Math.max(190, Math.min(620, rows * Math.max(70, 90 * wide))), round: false, columns, gap: 1 / Math.max(columns, rows * wide) };
  };

  let plan = null, places = [], reach = 0, frame = 0, before = 0, running = false;
  const draw = () => {
    const episode = stage.episode, now = stage.time, { color } = dnicomm, n = episode.agents.length;
    const { context: c, width, height } = dnicomm.canvas(canvas, plan.tall);
    const across = plan.round ? Math.min(width, height * 1.9) : Math.min(width, 340 * plan.columns);
    const room = plan.round ? Math.min(across, height) * 0.5 * plan.gap : Math.min(width, 1.6 * height) * plan.gap * 0.5;
    const radius = Math.max(4, Math.min(26, room * 0.62)), named = radius >= 9 || n <= 40;
    const side = radius + (named ? 34 : 12), top = radius + (plan.round ? 30 : 12);
    const at = plan.places.map(p => ({ x: (width - across) / 2 + side + p.x * (across - 2 * side), y: top + p.y * (height - 2 * top) }));

    places = at;
    reach = radius + 3;

    const pairs = new Set(episode.edges.map(([a, b]) => a * n + b));
    // a channel as a curve, bent where one goes the other way too
    const path = channel => {
      const [a, b] = episode.edges[channel], p = at[a], q = at[b], dx = q.x - p.x, dy = q.y - p.y, d = Math.hypot(dx, dy) || 1;
      const bend = pairs.has(b * n + a) ? Math.min(22, d * 0.12) : 0;
      const middle = { x: (p.x + q.x) / 2 - dy / d * bend, y: (p.y + q.y) / 2 + dx / d * bend };
      return share => ({  // a quadratic curve from edge to edge of the circles
        x: (1 - share) ** 2 * p.x + 2 * share * (1 - share) * middle.x + share ** 2 * q.x,
        y: (1 - share) ** 2 * p.y + 2 * share * (1 - share) * middle.y + share ** 2 * q.y,
        nx: -dy / d, ny: dx / d, d, middle, p, q,
      });
    };
    const paths = new Map(), of = channel => { if (!paths.has(channel)) paths.set(channel, path(channel)); return paths.get(channel); };
    c.lineWidth = 1.2;
    c.strokeStyle = color("grey");
    c.globalAlpha = Math.max(0.12, Math.min(0.6, 60 / episode.edges.length));
    if (episode.edges.length <= 3000) episode.edges.forEach((_, channel) => {
      const { p, q, middle, d } = of(channel)(0.5);
      c.beginPath(); c.moveTo(p.x, p.y); c.quadraticCurveTo(middle.x, middle.y, q.x, q.y); c.stroke();
      if (radius >= 9) {
        const tip = of(channel)(1 - radius / d), back = of(channel)(1 - (radius + 8) / d), angle = Math.atan2(tip.y - back.y, tip.x - back.x);
        c.fillStyle = color("grey");
        c.beginPath(); c.moveTo(tip.x, tip.y);
        c.lineTo(tip.x - 8 * Math.cos(angle - 0.4), tip.y - 8 * Math.sin(angle - 0.4));
        c.lineTo(tip.x - 8 * Math.cos(angle + 0.4), tip.y - 8 * Math.sin(angle + 0.4)); c.fill();
      }
    });
    c.globalAlpha = 1;

    // agents: a colour for each set of weights, a ring where one ticks, a green ring where truth comes
    const t0 = Math.floor(now), happened = episode.atTime.get(t0), since = now - t0;
    const ticking = new Set(since < PULSE ? happened?.ticks.map(t => t.agent) : []);
    at.forEach((p, agent) => {
      c.beginPath(); c.arc(p.x, p.y, radius, 0, 7);
      c.fillStyle = stage.tint(stage.version(episode, agent, now));
      c.fill();
      c.lineWidth = ticking.has(agent) ? 3 : 1;
      c.strokeStyle = color(ticking.has(agent) ? "ink" : "grey");
      c.stroke();
      if (!named) return;
      c.fillStyle = color("ink");
      c.textAlign = "center";
      const name = episode.agents[agent], inside = name.slice(plan.common).slice(0, 3);
      if (radius >= 9) { c.textBaseline = "middle"; c.fillText(inside, p.x, p.y); c.textBaseline = "alphabetic"; }
      if (n <= 12) {
        c.fillStyle = color("soft");
        c.fillText(name.length > 22 ? name.slice(0, 21) + "…" : name, p.x, p.y + radius + 15);
      }
    });

    const dot = (p, shade, size) => { c.fillStyle = color(shade); c.beginPath(); c.arc(p.x, p.y, size, 0, 7); c.fill(); };
    const size = Math.max(2.5, Math.min(6, radius * 0.3));
    for (const m of episode.messages) {
      if (m.sent > now) continue;
      const line = of(m.channel), d = line(0.5).d, edge = Math.min(0.45, radius / d);
      const along = share => line(edge + share * (1 - 2 * edge));
      if (m.lost) {
        const stop = m.sent + 0.62 * (m.arrival - m.sent), p = along(0.62 * Math.min(1, (now - m.sent) / (stop - m.sent)));
        if (now < stop) dot(p, "message", size);
        else if (now < stop + 0.9) {
          c.strokeStyle = color("lost"); c.lineWidth = 2.5;
          c.beginPath(); c.moveTo(p.x - size, p.y - size); c.lineTo(p.x + size, p.y + size); c.moveTo(p.x - size, p.y + size); c.lineTo(p.x + size, p.y - size); c.stroke();
        }
      } else if (now < (m.ended ? m.done : m.arrival)) dot(along((now - m.sent) / (m.arrival - m.sent)), "message", size);
      if (m.injected > 0 && now - m.sent < PULSE) {  // the receiver's answer, at once
        const share = 1 - (now - m.sent) / PULSE, p = along(share), ahead = along(Math.min(1, share + 26 / d));
        c.strokeStyle = color("synthetic"); c.lineWidth = 2;
        c.beginPath(); c.moveTo(ahead.x + 7 * p.nx, ahead.y + 7 * p.ny); c.lineTo(p.x + 7 * p.nx, p.y + 7 * p.ny); c.stroke();
        dot({ x: p.x + 7 * p.nx, y: p.y + 7 * p.ny }, "synthetic", size * 0.85);
      }
      if (m.done !== null && m.reads > 0 && now >= m.settled + PULSE && now < m.settled + 1) {
        const share = (now - m.settled - PULSE) / (1 - PULSE), q = at[m.to];
        c.strokeStyle = color("true"); c.lineWidth = 2.5;
        c.globalAlpha = 1 - 0.7 * share;
        c.beginPath(); c.arc(q.x, q.y, radius + 2 + 6 * share, 0, 7); c.stroke();
        c.globalAlpha = 1;
        if (episode.true_share > 0) { const p = along(1 - share); dot({ x: p.x - 7 * p.nx, y: p.y - 7 * p.ny }, "true", size * 0.85); }
      }
    }
    clock.textContent = `time ${now.toFixed(running ? 1 : 2).replace(/\.?0+$/, "") || 0} of ${episode.until}`;
    scrub.value = now;
    if (!running || told !== t0) tell(t0);
  };

  // what happens at a time, in words; of much of one kind, the first and how many
  let told = -1;
  const tell = time => {
    told = time;
    const episode = stage.episode, name = agent => episode.agents[agent], now = episode.atTime.get(time), { figure: say } = dnicomm;
    const lines = [], most = episode.agents.length > 8 ? 3 : 9;
    const list = (shade, of, rest) => {
      of.slice(0, most).forEach(text => lines.push([shade, text]));
      if (of.length > most) lines.push([shade, `… and ${of.length - most} more ${rest}`]);
    };
    if (time > 0 && episode.starts.includes(time)) lines.push(["soft", "a new episode begins"]);
    if (now) {
      list("message", now.arrived.map(m => `a message from ${name(m.from)} arrives at ${name(m.to)}`), "messages arrive");
      list("message", now.ticks.map(tick => {
        const own = now.sent.filter(m => m.from === tick.agent);
        const did = tick.action >= 0 ? `, action ${tick.action}` : "", asked = tick.label >= 0 ? ` (label ${tick.label})` : "";
        const sends = own.slice(0, 6).map(m => `${name(m.to)}${m.lost ? " (lost)" : m.ended ? "" : ` (arrives at ${m.arrival})`}`).join(", ");
        const more = own.length > 6 ? ` and ${own.length - 6} more` : "";
        return `${name(tick.agent)} ticks${did}${asked}${own.length ? ` and sends to ${sends}${more}` : ""}`;
      }), "agents tick");
      list("synthetic", now.sent.filter(m => m.injected > 0).map(m =>
        `${name(m.to)}'s utility model answers ${name(m.from)} at once: synthetic gradient of norm ${say(m.injected)}`), "answers at once");
      list("true", now.settled.filter(m => m.reads > 0).map(m =>
        `the true gradient of ${name(m.from)}'s message of time ${m.sent} is known: norm ${say(m.target)}${m.cosine === null ? "" : `, cosine ${say(m.cosine)} with the synthetic one`}`), "true gradients");
      list("orange", now.rewards.map(reward => `${name(reward.agent)} gets a reward of ${say(reward.value)}`), "rewards");
      const steps = update => update.steps > 1 ? ` (${update.steps} steps)` : "";
      if (now.updates.length) lines.push(["soft", `updated: ${now.updates.slice(0, 12).map(u => name(u.agent) + steps(u)).join(", ")}${now.updates.length > 12 ? ` and ${now.updates.length - 12} more` : ""}`]);
    }
    if (!lines.length) lines.push(["soft", "nothing happens"]);
    said.replaceChildren(...lines.map(([shade, text]) => {
      const mark = make("span", { class: "mark" });
      mark.style.background = `var(--${shade})`;
      return make("li", {}, mark, text);
    }));
  };

  const loop = moment => {
    if (!running) return;
    const passed = Math.min(0.1, (moment - before) / 1000) * +speed.value;
    before = moment;
    stage.go(stage.time + passed);
    if (stage.time >= stage.episode.until) { toggle(); return; }
    frame = requestAnimationFrame(loop);
  };
  const toggle = () => {
    running = !running;
    play.textContent = running ? "❚❚ pause" : "▶ play";
    said.setAttribute("aria-live", running ? "off" : "polite");
    cancelAnimationFrame(frame);
    if (!running) { draw(); return; }
    if (stage.time >= stage.episode.until) stage.go(0);
    before = performance.now();
    frame = requestAnimationFrame(loop);
  };
  // to a time at which something happens, and a little further, so that it can be seen
  const step = way => {
    if (running) toggle();
    const at = Math.floor(stage.time), times = stage.episode.times;
    const next = way > 0 ? times.find(t => t > at || (t === at && stage.time < t + 0.25)) : times.findLast(t => t < at);
    if (next !== undefined) stage.go(next + 0.25);
  };
  figure.addEventListener("keydown", event => {
    if (event.target.matches("select, input, button") && event.key !== "Escape") return;
    const act = { " ": toggle, ArrowRight: () => step(1), ArrowLeft: () => step(-1), Home: () => stage.go(0), End: () => stage.go(Infinity),
      "+": () => faster(1), "-": () => faster(-1) }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
  canvas.addEventListener("pointermove", event => {
    const box = canvas.getBoundingClientRect(), episode = stage.episode;
    const agent = places.findIndex(p => Math.hypot(p.x - event.clientX + box.left, p.y - event.clientY + box.top) < reach);
    if (agent < 0) { dnicomm.hideTip(); return; }
    const ticked = episode.ticksOf[agent].filter(tick => tick.time <= stage.time);
    dnicomm.tip(event.clientX, event.clientY, episode.agents[agent], [
      ["ticks so far", ticked.length], ["last one", ticked.length ? `time ${ticked.at(-1).time}` : "none yet"],
      ["updates so far", stage.version(episode, agent, stage.time)], ...(ticked.length ? stage.rowsOfTick(ticked.at(-1)) : [])]);
  });
  canvas.addEventListener("pointerleave", () => dnicomm.hideTip());
  const faster = way => { speed.selectedIndex = Math.max(0, Math.min(speed.options.length - 1, speed.selectedIndex + way)); };
  scrub.addEventListener("input", () => stage.go(+scrub.value));
  // how many letters all names begin with: they are left out inside of circles
  const common = names => {
    let count = 0;
    while (names.length > 1 && names[0].length > count + 1 && names.every(name => name[count] === names[0][count] && name.length > count + 1)) count++;
    return count;
  };
  const begin = () => { plan = { ...layout(stage.episode), common: common(stage.episode.agents) }; scrub.max = stage.episode.until; told = -1; draw(); };
  stage.listeners.add(what => { if (what === "episode") begin(); else draw(); });
  dnicomm.redraw.add(draw);
  dnicomm.busy = () => running;
  begin();
};
