"use strict";
/* Clips that belong together, heard together to the sample: each with its waveform, solo, mute and level.

wavesurfer.js draws the waveforms and is clicked on, but does not play: its players start each when it is ready, and
drift. Here all clips are sources of one AudioContext that start at one time of its clock, and only gains change. What
follows in a clip is a source that starts when the one before ends. */

function make(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-")) made.setAttribute(name, value); else made[name] = value;
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

const clockTime = (seconds) => Math.floor(seconds / 60) + ":" + (seconds % 60).toFixed(1).padStart(4, "0");

class Mixer {
  static current = null;  // the one mixer of the page that is heard, or was last heard or shown: keys are for it
  static #sound = null;

  /** The page's one AudioContext, and an analyser of all that is heard. */
  static sound() {
    if (!Mixer.#sound) {
      const context = new AudioContext({ sampleRate: 48000 });
      const analyser = new AnalyserNode(context);
      const master = new GainNode(context, { gain: 0.7 });  // two full clips together clip seldom
      master.connect(analyser).connect(context.destination);
      Mixer.#sound = { context, analyser, master };
    }
    return Mixer.#sound;
  }

  /** Tracks are {name, clip, gain, muted, choice, note, links, actions, drawn}: `gain` makes a clip as loud as its
  neighbours, of the `choice` ones a click on the name leaves only that one heard, and `drawn` is given the waveform,
  which is then not dragged over to seek. */
  constructor(tracks) {
    this.at = 0;
    this.duration = 0;
    this.sources = [];
    this.run = null;  // what is being played; another one once it was stopped
    this.tracks = tracks.map((track) => ({ gain: 1, muted: false, solo: false, level: 0, ...track }));
    this.button = make("button", { type: "button", textContent: "Play", disabled: true, onclick: () => this.toggle() });
    this.slider = make("input", { type: "range", min: 0, step: 0.01, value: 0, "aria-label": "Position",
      oninput: () => this.seek(Number(this.slider.value)) });
    this.clock = make("span", { className: "clock soft", textContent: "loading …" });
    this.transport = make("div", { className: "transport" }, this.button, this.slider, this.clock);
    this.element = make("div", { className: "mixer", role: "group", "aria-label": "Player", tabIndex: -1 },
      this.transport, ...this.tracks.map((track) => this.#row(track)));
    this.element.addEventListener("focusin", () => this.#mind());
    this.#balance();
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.recolour = () => this.tracks.forEach((track) => track.wave?.setOptions(this.#colours()));
  }

  /** Draw all tracks, or some, of which alone something is heard; the page shows the mixer before. */
  async load(tracks = this.tracks) {
    const { context, master } = Mixer.sound();
    try {
      await Promise.all(tracks.map((track) => track.clip.open()));
    } catch (error) {
      this.clock.textContent = "a clip cannot be played: " + error.message;
      return;
    }
    this.duration = Math.max(this.duration, ...tracks.map((track) => track.clip.duration));
    for (const track of tracks) {
      track.node = new GainNode(context, { gain: 0 });
      track.node.connect(master);
      const { peaks, duration } = track.clip;
      // of another height than "auto", a resize that a change of colours overtakes would never be drawn
      track.wave = WaveSurfer.create({ container: track.canvas, peaks, duration, height: "auto",
        dragToSeek: !track.drawn, hideScrollbar: true, cursorWidth: 1, ...this.#colours() });
      track.wave.on("interaction", (seconds) => this.seek(seconds));
      track.drawn?.(track.wave);
    }
    this.scheme.addEventListener("change", this.recolour);
    this.slider.max = this.duration;
    this.button.disabled = false;
    this.#mind();
    this.#balance();
    this.seek(this.time());  // with the new ones
  }

  /** Be the one that keys are for, unless another one is heard. */
  #mind() { if (!Mixer.current?.run) Mixer.current = this; }

  toggle() { if (this.run) this.pause(); else this.play(); }

  async play() {
    const { context } = Mixer.sound();
    await context.resume();
    if (Mixer.current?.run) Mixer.current.pause();
    Mixer.current = this;
    if (this.at >= this.duration - 0.01) this.at = 0;
    this.button.textContent = "Pause";
    await this.#start();
    this.#tick();
  }

  pause() {
    this.at = this.time();
    this.#stop();
    this.button.textContent = "Play";
    this.#show();
  }

  seek(seconds) {
    this.at = Math.min(Math.max(seconds, 0), this.duration);
    if (this.run) { this.#stop(); this.#start(); }
    this.#show();
  }

  /** Seconds from the beginning of the clips. */
  time() {
    if (!this.run?.startedAt) return this.at;
    return Math.min(Math.max(this.at, this.at + Mixer.sound().context.currentTime - this.run.startedAt), this.duration);
  }

  close() {
    if (this.run) this.pause();
    if (Mixer.current === this) Mixer.current = null;
    this.scheme.removeEventListener("change", this.recolour);
    for (const track of this.tracks) { track.wave?.destroy(); track.node?.disconnect(); }
    this.element.remove();
  }

  heard(track) { return this.tracks.some((one) => one.solo) ? track.solo : !track.muted; }

  async #start() {
    const run = this.run = { startedAt: 0, waiting: 0 }, { pieceS } = this.tracks[0].clip;
    this.at = wholeSample(this.at);
    const place = Math.floor(this.at / pieceS);
    await Promise.all(this.tracks.map((track) => track.clip.piece(place + 1)));  // which may be due at once
    await this.#follow(run, place, pieceS);
  }

  /** Start a piece of every clip when the one before ends; and have the next one ready half a piece before it is due. */
  async #follow(run, place, pieceS) {
    const { context } = Mixer.sound(), buffers = await Promise.all(this.tracks.map((track) => track.clip.piece(place)));
    if (this.run !== run) return;
    run.startedAt ||= wholeSample(context.currentTime + 0.03);  // far enough ahead that no source is late
    const due = run.startedAt + place * pieceS - this.at, late = Math.max(context.currentTime - due, 0);
    const skipped = Math.max(this.at - place * pieceS, late);
    this.tracks.forEach((track, index) => {
      if (!buffers[index]) return;
      const source = new AudioBufferSourceNode(context, { buffer: buffers[index] });
      source.connect(track.node);
      source.start(due + skipped, skipped);
      this.sources.push(source);
      source.onended = () => { this.sources = this.sources.filter((one) => one !== source); };
    });
    if ((place + 1) * pieceS < this.duration) {
      run.waiting = setTimeout(() => this.#follow(run, place + 1, pieceS), Math.max(due + pieceS / 2 - context.currentTime, 0) * 1000);
    }
  }

  #stop() {
    clearTimeout(this.run.waiting);
    this.run = null;
    for (const source of this.sources) { source.onended = null; source.stop(); source.disconnect(); }
    this.sources = [];
  }

  #tick() {
    if (!this.run) return;
    this.#show();
    if (this.time() >= this.duration) { this.pause(); this.seek(0); return; }
    requestAnimationFrame(() => this.#tick());
  }

  #show() {
    const seconds = this.time();
    this.slider.value = seconds;
    this.slider.setAttribute("aria-valuetext", clockTime(seconds));
    this.clock.textContent = clockTime(seconds) + " / " + clockTime(this.duration);
    for (const track of this.tracks) track.wave?.setTime(Math.min(seconds, track.clip.duration));
  }

  #balance() {
    for (const track of this.tracks) {
      const heard = this.heard(track);
      track.buttons.solo.setAttribute("aria-pressed", track.solo);
      track.buttons.mute.setAttribute("aria-pressed", track.muted);
      track.row.classList.toggle("silent", !heard);
      const gain = heard ? track.gain * 10 ** (track.level / 20) : 0;
      track.node?.gain.setTargetAtTime(gain, Mixer.sound().context.currentTime, 0.01);  // 10 ms: no click
    }
  }

  /** The next choice, or the one before, heard alone with the music. */
  step(by) {
    const choices = this.tracks.filter((track) => track.choice);
    const next = choices[choices.findIndex((track) => this.heard(track)) + by];
    if (!next) return;
    const section = next.row.closest("details");
    if (section) section.open = true;
    this.#choose(next);
    next.row.scrollIntoView({ block: "nearest" });
  }

  #choose(chosen) {
    for (const track of this.tracks) {
      track.solo = false;
      if (track.choice) track.muted = track !== chosen;
    }
    this.#balance();
  }

  #row(track) {
    const press = (text, change) => make("button", { type: "button", textContent: text, className: "small",
      "aria-label": text + " " + track.name, onclick: () => { change(); this.#balance(); } });
    track.buttons = {
      solo: press("Solo", () => { track.solo = !track.solo; }),
      mute: press("Mute", () => { track.muted = !track.muted; }),
    };
    const level = make("input", { type: "range", min: -40, max: 6, step: 1, value: 0, className: "level",
      "aria-label": "Level of " + track.name, "aria-valuetext": "0 dB", title: "0 dB" });
    level.oninput = () => {
      track.level = Number(level.value);
      level.title = track.level + " dB";
      level.setAttribute("aria-valuetext", level.title);
      this.#balance();
    };
    const name = track.choice
      ? make("button", { type: "button", textContent: track.name, className: "name", title: "Hear this one only, with the music",
        onclick: () => this.#choose(track) })
      : make("span", { textContent: track.name, className: "name" });
    track.canvas = make("div", { className: "wave", "aria-hidden": "true" });
    const links = (track.links ?? []).map(({ text, ...link }) => make("a", { textContent: text, ...link,
      "aria-label": text + " of " + track.name }));
    const actions = (track.actions ?? []).map(({ text, does }) => make("button", { type: "button", textContent: text,
      className: "small", "aria-label": text + " " + track.name, onclick: does }));
    track.row = make("div", { className: "track", role: "group", "aria-label": track.name },
      make("div", { className: "strip" }, name, track.buttons.solo, track.buttons.mute, level),
      track.canvas,
      track.note || links.length ? make("p", { className: "told soft" }, make("span", { textContent: track.note ?? "" }), ...links, ...actions) : null);
    return track.row;
  }

  #colours() {
    const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    return { waveColor: colour("--wave"), progressColor: colour("--accent"), cursorColor: colour("--ink") };
  }
}

const KEYS = {
  " ": (mixer) => mixer.toggle(),
  ArrowLeft: (mixer) => mixer.seek(mixer.time() - 1),
  ArrowRight: (mixer) => mixer.seek(mixer.time() + 1),
  ArrowUp: (mixer) => mixer.step(-1),
  ArrowDown: (mixer) => mixer.step(1),
};

/** Keys are for the player that is heard, or around which somebody is; and not where they have a use of their own. */
addEventListener("keydown", (event) => {
  const mixer = Mixer.current, does = KEYS[event.key];
  if (!mixer || !does || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
  if (event.target.closest(event.key === " " ? "input, textarea, button, a, summary" : "input, textarea")) return;
  if (!mixer.run && !mixer.element.closest("section, form, article").contains(event.target)) return;
  event.preventDefault();
  does(mixer);
});
