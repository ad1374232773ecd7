"use strict";
/* A clip that is heard in pieces, which follow each other to the sample. */
const RATE_HZ = 48000;
const wholeSample = (seconds) => Math.round(seconds * RATE_HZ) / RATE_HZ;

/** A clip that the server cuts: however long it is, no more than three pieces are in memory. */
class CutClip {
  pieceS = 10;

  constructor(address) {
    this.address = address;
    this.pieces = new Map();
  }

  /** Its duration and peaks, before any of it is heard. */
  async open() {
    Object.assign(this, await (await this.#fetched("/waveform")).json());
  }

  /** The promise of a piece; the pieces that are not its neighbours are forgotten. */
  piece(place) {
    for (const other of this.pieces.keys()) if (Math.abs(other - place) > 1) this.pieces.delete(other);
    if (!this.pieces.has(place)) this.pieces.set(place, this.#decoded(place));
    return this.pieces.get(place);
  }

  async #decoded(place) {
    if (place * this.pieceS >= this.duration) return null;
    const answer = await this.#fetched("/piece?start_s=" + place * this.pieceS + "&seconds=" + this.pieceS);
    return Mixer.sound().context.decodeAudioData(await answer.arrayBuffer());
  }

  async #fetched(what) {
    const answer = await fetch(this.address + what);
    if (!answer.ok) throw new Error("it is not there any more");
    return answer;
  }
}

/** A short clip, decoded whole: `data` promises its bytes. */
class WholeClip {
  pieceS = 1e9;

  constructor(data) { this.data = data; }

  async open() {
    this.buffer = await Mixer.sound().context.decodeAudioData(await this.data());
    this.duration = this.buffer.duration;
    this.peaks = Array.from({ length: this.buffer.numberOfChannels }, (_, channel) => this.buffer.getChannelData(channel));
  }

  piece() { return Promise.resolve(this.buffer); }
}
