"use strict";
// The recorded episodes, as the timeline and the play-by-play look at them, and where they look:
// both show the same episode and the same time.
dnicomm.stage = (() => {
  const END = 0.6;  // windows end, and gradients come, after what happens at a time, before the next
  const recordings = dnicomm.read("recordings");
  const listeners = new Set(), built = new Map();

  const rows = columns => {
    const names = Object.keys(columns);
    return columns[names[0]].map((_, i) => Object.fromEntries(names.map(name => [name, columns[name][i]])));
  };

  const build = recording => {
    const ticks = rows(recording.ticks), updates = rows(recording.updates), messages = rows(recording.messages);
    const updated = recording.agents.map(() => []);
    for (const update of updates) updated[update.agent].push(update.time + END);
    messages.forEach((message, i) => {
      message.id = i;
      [message.from, message.to] = recording.edges[message.channel];
      message.done = message.settled < 0 ? null : message.settled + END;
      message.ended = message.lost === 2;  // its episode, before it arrived
      message.lost = message.lost === 1;
      message.unread = !message.lost && message.reads === 0;
    });
    const atTime = new Map();
    const at = time => {
      if (!atTime.has(time)) atTime.set(time, { ticks: [], sent: [], arrived: [], settled: [], updates: [], rewards: [] });
      return atTime.get(time);
    };
    ticks.forEach(tick => at(tick.time).ticks.push(tick));
    updates.forEach(update => at(update.time).updates.push(update));
    rows(recording.rewards).forEach(reward => at(reward.time).rewards.push(reward));
    for (const message of messages) {
      at(message.sent).sent.push(message);
      if (!message.ended && !message.lost) at(message.arrival).arrived.push(message);
      if (message.settled >= 0) at(message.settled).settled.push(message);
    }
    const times = [...atTime.keys()].sort((a, b) => a - b);
    return { ...recording, ticks, updates, messages, updated, atTime, times,
      ticksOf: recording.agents.map((_, agent) => ticks.filter(tick => tick.agent === agent)) };
  };

  const stage = {
    END, number: recordings.length - 1, time: 0, listeners,
    titles: recordings.map(r => r.title),
    get episode() {
      if (!built.has(stage.number)) built.set(stage.number, build(recordings[stage.number]));
      return built.get(stage.number);
    },
    choose(number) {
      stage.number = number;
      stage.time = 0;
      listeners.forEach(tell => tell("episode"));
    },
    go(time) {
      stage.time = Math.max(0, Math.min(stage.episode.until, time));
      listeners.forEach(tell => tell("time"));
    },
    // how many updates an agent has had before a time
    version(episode, agent, time) {
      const times = episode.updated[agent];
      let low = 0, high = times.length;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (times[middle] <= time) low = middle + 1; else high = middle;
      }
      return low;
    },
    // the colour of a set of weights: the next one with each update
    tint(version) {
      const tints = document.documentElement.dataset.theme === "dark"
        ? ["#2f4a63", "#5c4326", "#27524a", "#54395a", "#545025", "#404852"]
        : ["#c7dff2", "#f8d9b5", "#c3e6d8", "#ecd0e2", "#f5edb0", "#d8dde3"];
      return tints[version % tints.length];
    },
    chooser() {
      const select = dnicomm.make("select", { "aria-label": "recording" },
        ...stage.titles.map((title, i) => dnicomm.make("option", { value: i }, title)));
      select.addEventListener("change", () => stage.choose(+select.value));
      const follow = () => { select.value = stage.number; };
      listeners.add(follow);
      follow();
      return dnicomm.make("label", {}, "recorded ", select);
    },
    // everything known of a message, for a tip
    rowsOf(message) {
      const { figure, color } = dnicomm, found = [
        ["sent", message.sent],
        message.lost ? ["lost on the way", "never arrives", color("lost")]
          : ["arrives", message.ended ? "no more: the episode ends" : message.arrival],
        ["first read", message.first_read < 0 ? "never" : message.first_read],
        ["reads", message.reads],
      ];
      if (message.synthetic !== null) {
        found.push(["synthetic gradient, at once", figure(message.synthetic), color("synthetic")]);
        if (message.injected !== message.synthetic) found.push(["of it, into the sender", figure(message.injected), color("synthetic")]);
      }
      if (message.target !== null) found.push([`true gradient, at ${message.settled}`, figure(message.target), color("true")]);
      if (message.cosine !== null) found.push(["cosine of the two", figure(message.cosine)]);
      if (message.error !== null) found.push(["relative error", figure(message.error)]);
      return found;
    },
    titleOf(message) { return `${stage.episode.agents[message.from]} → ${stage.episode.agents[message.to]}`; },
    rowsOfTick(tick) {
      const found = [];
      if (tick.action >= 0) found.push(["action", tick.action]);
      if (tick.label >= 0) found.push(["label", tick.label]);
      return found;
    },
  };
  return stage;
})();
