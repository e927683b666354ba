"use strict";
// The page of a run that goes on asks its server whether there is something new, and loads again;
// not while an episode is playing.
{
  const note = dnicomm.make("p", { class: "live", role: "status" }, "live");
  document.querySelector("header").append(note);
  let first = null;
  const ask = async () => {
    try {
      const version = await (await fetch("/version")).text();
      first ??= version;
      note.textContent = `live: looked at ${new Date().toLocaleTimeString()}`;
      if (version !== first) {
        if (dnicomm.busy?.()) note.textContent = "live: there is something new; it is shown once the episode pauses";
        else location.reload();
      }
    } catch { note.textContent = "live: the server has stopped; this is the last that it said"; }
  };
  setInterval(ask, 2000);
  ask();
}
