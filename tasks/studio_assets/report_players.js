"use strict";
/* Each window's <audio> elements become the tracks of one mixer, in the arms' sections that they are in; decoded when
somebody comes near it, and those of a section that is closed when it is opened. */
const bytesOf = (clip) => Uint8Array.from(atob(clip.src.split(",")[1]), (one) => one.charCodeAt(0)).buffer;
const waiting = new Map();
const watcher = new IntersectionObserver((seen) => {
  for (const { target } of seen.filter((one) => one.isIntersecting)) {
    watcher.unobserve(target);
    waiting.get(target)();
  }
}, { rootMargin: "300px" });
for (const players of document.querySelectorAll(".players")) {
  const clips = [...players.querySelectorAll("audio")];
  const first = clips.find((clip) => "told" in clip.dataset);
  const mixer = new Mixer(clips.map((clip) => ({ name: clip.dataset.name, choice: "told" in clip.dataset,
    muted: "told" in clip.dataset && clip !== first, note: clip.dataset.told, clip: new WholeClip(async () => bytesOf(clip)) })));
  clips.forEach((clip, place) => clip.parentElement.replaceWith(mixer.tracks[place].row));
  mixer.element.append(...players.childNodes);
  players.replaceWith(mixer.element);
  const closed = [...mixer.element.querySelectorAll("details:not([open])")];
  for (const section of closed) {
    const tracks = mixer.tracks.filter((track) => section.contains(track.row));
    section.addEventListener("toggle", () => mixer.load(tracks), { once: true });
  }
  const shown = mixer.tracks.filter((track) => !closed.some((section) => section.contains(track.row)));
  waiting.set(mixer.element, () => mixer.load(shown));
  watcher.observe(mixer.element);
}
