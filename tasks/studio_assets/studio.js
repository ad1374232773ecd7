"use strict";
const byId = (id) => document.getElementById(id);
const NUMBERS = ["variations", "seed", "steps", "guide_context", "guide_clap"];
const chosen = { context: null, reference: null };  // dropped files, as the server tells of them
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
async function attempt(action) {
  byId("problem").textContent = "";
  try { await action(); } catch (error) { byId("problem").textContent = error.message; }
}

function choose(part, sound) {
  chosen[part] = sound;
  const place = byId(part).nextElementSibling;
  place.hidden = sound === null;
  byId("seconds-label").hidden = chosen.context !== null;
  if (sound === null) { place.replaceChildren(); return; }
  const told = sound.name + (sound.seconds ? ", " + clockTime(sound.seconds) : "");
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

function wanted() {
  const numbers = Object.fromEntries(NUMBERS.map((name) => [name, Number(byId(name).value)]));
  return { ...numbers,
    context: chosen.context?.sound ?? null,
    reference: chosen.reference?.sound ?? null,
    prompt: byId("prompt").value.trim() || null,
    seconds: chosen.context || !byId("seconds").value ? null : Number(byId("seconds").value),
    stereo_width: model.stereo_width === null ? null : Number(byId("stereo_width").value) };
}

/** Fill the form with what a playing was asked for, so that one click plays it again. */
function useAgain(playing) {
  choose("context", playing.context);
  choose("reference", playing.reference);
  const values = { ...model, ...Object.fromEntries(Object.entries(playing.asked).filter(([, value]) => value !== null)) };
  for (const name of [...NUMBERS, "stereo_width"]) byId(name).value = values[name];
  byId("prompt").value = playing.asked.prompt ?? "";
  byId("seconds").value = playing.asked.seconds ?? "";
  byId("go").focus();
}

const post = (address, body) => ask(address, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

async function play() {
  Mixer.sound().context.resume();  // a click allows sound; later is not a click any more
  awaited = (await post("playings", wanted())).number;
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
    if (job.state === "playing") bar.value = { listening: 0.02, playing: 0.05 + 0.75 * job.share, writing: 0.8 + 0.2 * job.share }[job.stage];
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
    const title = titleOf(playing);
    const press = (text, onclick) => make("button", { className: "small", textContent: text, onclick, "aria-label": text + ": " + title });
    const item = make("li", {},
      make("p", {}, title, make("br"), make("span", { className: "soft", textContent: detailOf(playing) })),
      make("div", { className: "does" }, press("Open", () => open(playing)), press("Use again", () => useAgain(playing)),
        press("Remove", () => remove(playing.number))));
    if (playing.number === opened) item.setAttribute("aria-current", "true");
    return item;
  }));
}

const asWords = (asked) => asked.prompt ? "“" + asked.prompt + "”" : asked.reference ? "a part like your recording" : "any part";
const titleOf = (playing) => asWords(playing.asked) + (playing.context ? " to " + playing.context.name : "");

function detailOf({ number, asked }) {
  const [, year, month, day, hour, minute, second] = number.match(/^(\d{4})(\d\d)(\d\d)-(\d\d)(\d\d)(\d\d)/);
  const time = new Date(Date.UTC(year, month - 1, day, hour, minute, second));
  const count = asked.variations === 1 ? "1 variation" : asked.variations + " variations";
  return time.toLocaleString([], { dateStyle: "medium", timeStyle: "short" }) + ", " + count + ", seed " + asked.seed;
}

function close() {
  mixer?.close();
  mixer = opened = null;
  byId("open").hidden = true;
}

const bytes = (address) => async () => {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error("it is not there any more");
  return answer.arrayBuffer();
};

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
    return { name: "Variation " + (place + 1), data: bytes(address + variation.stem), gain: variation.level, choice: true,
      muted: place > 0, note: likes.join(", "), links };
  });
  const music = playing.context ? [{ name: "Your music", data: bytes("sounds/" + playing.context.sound) }] : [];
  mixer = new Mixer([...music, ...parts]);
  byId("title").textContent = titleOf(playing);
  byId("notes").textContent = playing.notes.join("; ");
  byId("mixer").replaceChildren(mixer.element);
  byId("open").hidden = false;
  byId("title").focus();
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

for (const part of ["context", "reference"]) droppable(part);
for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault());  // not the file itself
byId("dice").addEventListener("click", () => { byId("seed").value = Math.floor(Math.random() * 1e6); });
byId("form").addEventListener("submit", (event) => { event.preventDefault(); attempt(play); });
attempt(begin);
