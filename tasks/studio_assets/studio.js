"use strict";
const byId = (id) => document.getElementById(id);
const NUMBERS = ["variations", "seed", "steps", "guide_context", "guide_clap"];
const chosen = { context: null, reference: null, second: null, stem: null };  // dropped files, as the server tells of them
let model = null, mixer = null, opened = null, awaited = null, shown = "", polling = null;

/** The answer of the server; what it refuses is thrown in its own words. */
async function ask(address, options = {}) {
  let answer;
  try { answer = await fetch(address, options); }
  catch { throw new Error("the studio does not answer; is it still running?"); }
  if (answer.ok) return answer.status === 204 ? null : answer.json();
  const told = await answer.json().catch(() => ({ detail: answer.statusText }));
  throw new Error(told.detail);
}

/** Run what a click asks for, and say what goes wrong. */
async function attempt(action, place = "problem") {
  byId(place).textContent = "";
  try { await action(); } catch (error) { byId(place).textContent = error.message; }
}

function choose(part, sound) {
  chosen[part] = sound;
  const place = byId(part).nextElementSibling;
  place.hidden = sound === null;
  byId("seconds-label").hidden = chosen.context !== null;
  byId("second-sound").hidden = chosen.reference === null && chosen.second === null;
  byId("ratio-label").hidden = chosen.second === null;
  byId("prompt").disabled = !model.hears_styles || chosen.second !== null;  // a style between two sounds has no words
  if (part === "context" || part === "stem") showStem();
  if (sound === null) { place.replaceChildren(); return; }
  const told = stemName(sound) + (sound.seconds ? ", " + clockTime(sound.seconds) : "");
  place.replaceChildren(
    make("span", {}, told, ...(sound.notes ?? []).map((note) => make("span", { className: "soft", textContent: " – " + note }))),
    make("button", { type: "button", className: "small", textContent: "Remove", "aria-label": "Remove " + sound.name,
      onclick: () => choose(part, null) }));
}

async function take(part, file) {
  const place = byId(part).nextElementSibling;
  place.hidden = false;
  place.textContent = "reading " + file.name + " …";
  byId("go").disabled = true;
  try { choose(part, await ask("sounds?name=" + encodeURIComponent(file.name), { method: "POST", body: file })); }
  catch (error) { choose(part, null); throw error; }
  finally { byId("go").disabled = false; }
}

function droppable(part) {
  const zone = byId(part), input = zone.querySelector("input");
  const over = (is) => (event) => { event.preventDefault(); zone.classList.toggle("over", is); };
  zone.addEventListener("dragover", over(true));
  zone.addEventListener("dragleave", over(false));
  zone.addEventListener("drop", (event) => {
    over(false)(event);
    const file = event.dataTransfer.files[0];
    if (file) attempt(() => take(part, file));
  });
  input.addEventListener("change", () => {
    const file = input.files[0];
    input.value = "";
    if (file) attempt(() => take(part, file));
  });
}

function wanted(edit) {
  const between = chosen.reference && chosen.second;
  const numbers = Object.fromEntries(NUMBERS.map((name) => [name, Number(byId(name).value)]));
  return { ...numbers,
    context: chosen.context?.sound ?? null,
    reference: between ? null : (chosen.reference ?? chosen.second)?.sound ?? null,
    between: between ? { first: chosen.reference.sound, second: chosen.second.sound, ratio: Number(byId("ratio").value) } : null,
    prompt: between ? null : byId("prompt").value.trim() || null,
    edit,
    seconds: chosen.context || !byId("seconds").value ? null : Number(byId("seconds").value),
    stereo_width: model.stereo_width === null || edit?.kind === "loop" ? null : Number(byId("stereo_width").value) };
}

/** A loop, where one is asked for. */
const loop = () => byId("bars").value ? { kind: "loop", bars: Number(byId("bars").value), tempo: Number(byId("tempo").value) } : null;

/** Fill the form with what a playing was asked for, but for what it did with a stem. */
function fill({ asked, sounds }) {
  const given = { context: asked.context, reference: asked.between?.first ?? asked.reference, second: asked.between?.second, stem: null };
  for (const [part, sound] of Object.entries(given)) choose(part, sounds[sound] ?? null);
  const values = { ...model, ...Object.fromEntries(Object.entries(asked).filter(([, value]) => value !== null)) };
  for (const name of [...NUMBERS, "stereo_width"]) byId(name).value = values[name];
  byId("ratio").value = asked.between?.ratio ?? 0.5;
  byId("prompt").value = asked.prompt ?? "";
  byId("seconds").value = asked.seconds ?? "";
  byId("bars").value = asked.edit?.bars ?? "";
  byId("tempo").value = asked.edit?.tempo ?? 120;
}

/** The form as a playing was asked for, so that one click plays it again. */
function useAgain(playing) {
  const { edit } = playing.asked;
  fill(playing);
  if (!edit?.stem) { byId("go").focus(); return; }
  choose("stem", playing.sounds[edit.stem]);
  useChange(edit);
  byId("do").focus();
}

/** The form as a playing was asked for, with one of its parts as the stem to change. */
async function changePart(playing, part) {
  const sound = await post("playings/" + playing.number + "/" + part + "/sound", null);
  fill(playing);
  choose("stem", sound);
  byId("change-title").focus();
}

const post = (address, body) => ask(address, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

async function play(edit) {
  Mixer.sound().context.resume();  // a click allows sound; later is not a click any more
  awaited = (await post("playings", wanted(edit))).number;
  await look();
}

const remove = (number) => attempt(async () => {
  await ask("playings/" + number, { method: "DELETE" });
  if (number === opened) close();
  await look();
});

/** Ask what there is; again and again while something is being played. */
async function look() {
  clearTimeout(polling);
  const playings = await ask("playings");
  const jobs = playings.filter((playing) => playing.state !== "done");
  const done = playings.filter((playing) => playing.state === "done");
  showJobs(jobs);
  showHistory(done);
  const ready = done.find((playing) => playing.number === awaited);
  if (ready) { awaited = null; open(ready); }
  if (jobs.some((job) => job.state !== "failed")) polling = setTimeout(() => attempt(look), 300);
}

function showJobs(jobs) {
  const list = byId("jobs"), known = new Map([...list.children].map((item) => [item.dataset.number, item]));
  list.append(...jobs.filter((job) => !known.has(job.number)).map(jobItem));
  for (const item of [...list.children]) {
    const job = jobs.find((one) => one.number === item.dataset.number);
    if (!job) { item.remove(); continue; }
    item.querySelector(".stage").textContent = job.state === "waiting" ? "waits its turn" : job.state === "failed" ? "" : job.stage;
    item.querySelector(".problem").textContent = job.message;
    const bar = item.querySelector("progress");
    bar.hidden = job.state === "failed";
    if (job.state === "playing") bar.value = { listening: 0.02 + 0.08 * job.share, playing: 0.1 + 0.6 * job.share, writing: 0.7 + 0.3 * job.share }[job.stage];
    item.querySelector("button").textContent = job.state === "failed" ? "Dismiss" : "Stop";
  }
}

function jobItem(job) {
  const item = make("li", {},
    make("div", {}, make("p", {}, asWords(job.asked), " ", make("span", { className: "stage soft" })),
      make("progress", { max: 1, value: 0, "aria-label": "Progress" }), make("p", { className: "problem" })),
    make("button", { className: "small", onclick: () => remove(job.number) }));
  item.dataset.number = job.number;
  return item;
}

function showHistory(done) {
  byId("empty").hidden = done.length > 0;
  const now = JSON.stringify([opened, done.map((playing) => playing.number)]);
  if (now === shown) return;
  shown = now;
  byId("history").replaceChildren(...done.map((playing) => {
    const title = titleOf(playing), edit = editOf(playing);
    const press = (text, onclick) => make("button", { className: "small", textContent: text, onclick, "aria-label": text + ": " + title });
    const item = make("li", {},
      make("p", {}, title, make("br"), make("span", { className: "soft", textContent: detailOf(playing) }),
        ...(edit ? [make("br"), make("span", { className: "soft", textContent: edit })] : [])),
      make("div", { className: "does" }, press("Open", () => open(playing)), press("Use again", () => useAgain(playing)),
        press("Remove", () => remove(playing.number))));
    if (playing.number === opened) item.setAttribute("aria-current", "true");
    return item;
  }));
}

const asWords = (asked) => asked.prompt ? "“" + asked.prompt + "”" : asked.reference ? "a part like your recording"
  : asked.between ? "a part between your two recordings" : "any part";
const titleOf = ({ asked, sounds }) => asWords(asked) + (asked.context ? " to " + sounds[asked.context].name : "");

function timeOf(number) {
  const [, year, month, day, hour, minute, second] = number.match(/^(\d{4})(\d\d)(\d\d)-(\d\d)(\d\d)(\d\d)/);
  return new Date(Date.UTC(year, month - 1, day, hour, minute, second)).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}

/** A stem that was played here goes by when that was; its file's name tells. */
function stemName({ name }) {
  const own = name.match(/^(\d{8}-\d{6})-[0-9a-f]{6}-variation-(\d+)\.wav$/);
  return own ? "variation " + own[2] + " of " + timeOf(own[1]) : name;
}

function editOf({ asked: { edit }, sounds }) {
  switch (edit?.kind) {
    case "inpaint": return clockTime(edit.start_s) + " to " + clockTime(edit.stop_s) + " redone in " + stemName(sounds[edit.stem]);
    case "vary": return stemName(sounds[edit.stem]) + " varied by " + Math.round(100 * edit.strength) + " %";
    case "continue": return stemName(sounds[edit.stem]) + " continued";
    case "loop": return "a loop of " + edit.bars + (edit.bars === 1 ? " bar" : " bars") + " at " + edit.tempo + " beats a minute";
    default: return "";
  }
}

function detailOf({ number, asked }) {
  const count = asked.variations === 1 ? "1 variation" : asked.variations + " variations";
  return timeOf(number) + ", " + count + ", seed " + asked.seed;
}

function close() {
  mixer?.close();
  mixer = opened = null;
  byId("open").hidden = true;
}

function open(playing) {
  close();
  opened = playing.number;
  const parts = playing.variations.map((variation, place) => {
    const address = "playings/" + playing.number + "/";
    const { prompt, references } = variation.scores;
    const likes = [...(prompt === null ? [] : ["like the prompt " + prompt.toFixed(2)]),
      ...references.map((cosine) => "like the recording " + cosine.toFixed(2))];
    const links = [["Download stem", variation.stem], ["Download mix", variation.mix]].filter(([, name]) => name)
      .map(([text, name]) => ({ text, href: address + name, download: "" }));
    return { name: "Variation " + (place + 1), clip: new CutClip(address + variation.stem), gain: variation.level, choice: true,
      muted: place > 0, note: likes.join(", "), links,
      actions: [{ text: "Change", does: () => attempt(() => changePart(playing, variation.stem)) }] };
  });
  const { context } = playing.asked;
  const music = context ? [{ name: "Your music", clip: new CutClip("sounds/" + context) }] : [];
  mixer = new Mixer([...music, ...parts]);
  byId("title").textContent = titleOf(playing);
  byId("notes").textContent = [editOf(playing), ...playing.notes].filter((said) => said).join("; ");
  byId("mixer").replaceChildren(mixer.element);
  byId("open").hidden = false;
  if (!document.activeElement.matches("input, textarea")) byId("title").focus();  // somebody writes the next one
  mixer.load();
  attempt(look);
}

async function begin() {
  model = await ask("model");
  byId("arm").textContent = "with " + model.arm;
  for (const name of ["steps", "guide_context", "guide_clap"]) byId(name).value = model[name];
  byId("width-label").hidden = model.stereo_width === null;
  if (model.stereo_width !== null) byId("stereo_width").value = model.stereo_width;
  if (!model.hears_styles) {
    byId("prompt").disabled = byId("reference").querySelector("input").disabled = true;
    byId("prompt").placeholder = "this model was exported without its embedder";
  }
  await look();
}

for (const part of Object.keys(chosen)) droppable(part);
for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault());  // not the file itself
byId("dice").addEventListener("click", () => { byId("seed").value = Math.floor(Math.random() * 1e6); });
byId("form").addEventListener("submit", (event) => { event.preventDefault(); attempt(() => play(loop())); });
attempt(begin);
