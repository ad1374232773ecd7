"use strict";
/* A stem that is changed: heard with the music, a part of it marked on its waveform, and played anew in some way. */
const DOES = {
  inpaint: { button: "Redo this part", hint: "Drag over the stem to mark what is to be played anew; the rest stays as it is." },
  vary: { button: "Vary it", hint: "The whole stem again, a little or altogether different." },
  continue: { button: "Go on", hint: "Goes on where the stem ends, to the end of your music, or for the length in seconds where there is none." },
};
const from = byId("start_s"), to = byId("stop_s");
let changing = null, marks = null;

const kindOfChange = () => byId("change").elements.kind.value;

/** Show the chosen stem with the chosen music, or nothing. */
function showStem() {
  changing?.close();
  changing = marks = null;
  byId("change").hidden = chosen.stem === null;
  if (chosen.stem === null) return;
  byId("stem-name").textContent = stemName(chosen.stem);
  byId("stem-notes").textContent = chosen.stem.notes.join("; ");
  const clip = ({ sound }) => new CutClip("sounds/" + sound);
  changing = new Mixer([...(chosen.context ? [{ name: "Your music", clip: clip(chosen.context) }] : []),
    { name: "The stem", clip: clip(chosen.stem), drawn: markable }]);
  byId("stem-player").replaceChildren(changing.element);
  from.max = to.max = chosen.stem.seconds;
  showKind();
  changing.load();
}

function showKind() {
  for (const field of document.querySelectorAll("#change [data-kind]")) {
    field.hidden = field.dataset.kind !== kindOfChange();
    for (const input of field.querySelectorAll("input")) input.disabled = field.hidden;
  }
  byId("hint").textContent = DOES[kindOfChange()].hint;
  byId("do").textContent = DOES[kindOfChange()].button;
  showMark();
}

/** One part can be marked on the waveform; its times are the two fields. */
function markable(wave) {
  marks = wave.registerPlugin(WaveSurfer.Regions.create());
  marks.enableDragSelection({ color: MARK });
  const write = (mark) => { from.value = mark.start.toFixed(2); to.value = mark.end.toFixed(2); };
  marks.on("region-created", (mark) => {
    for (const other of marks.getRegions()) if (other !== mark) other.remove();
    write(mark);
  });
  marks.on("region-update", write);
  showMark();
}

const MARK = "color-mix(in srgb, var(--accent) 30%, transparent)";

function showMark() {
  if (!marks) return;
  const start = Number(from.value), end = Number(to.value), wanted = kindOfChange() === "inpaint" && end > start;
  if (wanted) marks.addRegion({ start, end, color: MARK }); else marks.clearRegions();
}

function change() {
  const kind = kindOfChange(), stem = chosen.stem.sound;
  switch (kind) {
    case "inpaint": return { kind, stem, start_s: Number(from.value), stop_s: Number(to.value) };
    case "vary": return { kind, stem, strength: Number(byId("strength").value) };
    case "continue": return { kind, stem };
  }
}

/** Fill the fields with a change that was asked for. */
function useChange(edit) {
  byId("change").elements.kind.value = edit.kind;
  if (edit.kind === "inpaint") { from.value = edit.start_s; to.value = edit.stop_s; }
  if (edit.kind === "vary") byId("strength").value = edit.strength;
  showStrength();
  showKind();
}

const showStrength = () => { byId("strength-told").textContent = Math.round(100 * byId("strength").value) + " %"; };

for (const field of [from, to]) field.addEventListener("input", showMark);
byId("strength").addEventListener("input", showStrength);
byId("change").addEventListener("change", (event) => { if (event.target.name === "kind") showKind(); });
byId("change").addEventListener("submit", (event) => { event.preventDefault(); attempt(() => play(change()), "change-problem"); });
byId("leave").addEventListener("click", () => choose("stem", null));
showStrength();
