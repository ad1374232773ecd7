"use strict";
/* Each window's <audio> elements become the tracks of one mixer, decoded when somebody comes near it. */
const bytesOf = (clip) => Uint8Array.from(atob(clip.src.split(",")[1]), (one) => one.charCodeAt(0)).buffer;
const waiting = new Map();
const watcher = new IntersectionObserver((seen) => {
  for (const { target } of seen.filter((one) => one.isIntersecting)) {
    watcher.unobserve(target);
    waiting.get(target).load();
  }
}, { rootMargin: "300px" });
for (const players of document.querySelectorAll(".players")) {
  const clips = [...players.querySelectorAll("audio")];
  const first = clips.find((clip) => "told" in clip.dataset);
  const mixer = new Mixer(clips.map((clip) => ({ name: clip.dataset.name, choice: "told" in clip.dataset,
    muted: "told" in clip.dataset && clip !== first, note: clip.dataset.told, clip: new WholeClip(async () => bytesOf(clip)) })));
  players.replaceWith(mixer.element);
  waiting.set(mixer.element, mixer);
  watcher.observe(mixer.element);
}
