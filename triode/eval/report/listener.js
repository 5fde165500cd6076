// Recordings at matched rate: all run at once and one is heard, so that switching neither stops nor moves what plays.

class Player {
  constructor() {
    Object.assign(this, { context: null, tracks: [], sources: [], gains: [], began: 0, offset: 0, playing: false });
  }

  get length() {
    return Math.max(0.01, ...this.tracks.map((track) => track.duration));
  }

  get position() {
    if (!this.playing) return this.offset;
    return (this.offset + Math.max(0, this.context.currentTime - this.began)) % this.length;
  }

  async load(sources) {
    this.context ||= new AudioContext();
    return Promise.all(sources.map((source) => {
      const text = atob(source.slice(source.indexOf(",") + 1));
      return this.context.decodeAudioData(Uint8Array.from(text, (letter) => letter.charCodeAt(0)).buffer);
    }));
  }

  play(heard) {
    this.silence();
    this.playing = true;
    this.began = this.context.currentTime + 0.02;
    this.gains = this.tracks.map(() => this.context.createGain());
    this.sources = this.tracks.map((buffer, at) => {
      const source = this.context.createBufferSource();
      Object.assign(source, { buffer, loop: true, loopEnd: this.length });
      source.connect(this.gains[at]).connect(this.context.destination);
      this.gains[at].gain.value = at === heard ? 1 : 0;
      source.start(this.began, this.offset);
      return source;
    });
  }

  hear(heard) { // fades within some milliseconds, as a jump would click
    const now = this.context.currentTime;
    this.gains.forEach((gain, at) => gain.gain.setTargetAtTime(at === heard ? 1 : 0, now, 0.008));
  }

  pause() {
    this.offset = this.position;
    this.playing = false;
    this.silence();
  }

  silence() {
    for (const source of this.sources) source.stop();
    this.sources = [];
  }
}

function setUpListening() {
  const host = $("#listener");
  const controls = element("div", { class: "controls" });
  const button = element("button", { type: "button", class: "play" }, "Play");
  const seek = element("input", { type: "range", min: 0, max: 1, step: 0.01, value: 0, "aria-label": "Position" });
  const clock = element("output", { class: "clock" }, "0.0\u2009s");
  const note = element("p", { class: "caption", role: "status" });
  const table = element("div");
  host.append(controls, element("div", { class: "transport" }, button, seek, clock), note, table);
  sampleControls(controls);
  const player = new Player();
  let loaded = null;

  const heard = () => {
    const shown = shownOf(groupOf());
    return shown.indexOf(currentOf(shown));
  };
  const load = async () => {
    const level = levelOf(groupOf());
    if (level === loaded) return true;
    note.textContent = "Decoding\u2026";
    try {
      const tracks = await player.load(shownOf(groupOf()).map((one) => one.src));
      if (level !== levelOf(groupOf())) return load(); // another was chosen meanwhile
      player.tracks = tracks;
    } catch (error) {
      note.textContent = `This browser cannot decode the samples (${error.message}).`;
      return false;
    }
    loaded = level;
    note.textContent = "";
    seek.max = player.length;
    return true;
  };
  const show = () => {
    button.textContent = player.playing ? "Pause" : "Play";
    seek.value = player.position;
    clock.textContent = `${player.position.toFixed(1)}\u2009s`;
    if (player.playing) requestAnimationFrame(show);
  };
  const toggle = async () => {
    if (player.playing) player.pause();
    else if (await load()) {
      await player.context.resume();
      player.play(heard());
    }
    show();
  };
  button.addEventListener("click", toggle);
  seek.addEventListener("input", () => {
    player.offset = Number(seek.value);
    if (player.playing) player.play(heard());
    else show();
  });
  whenChanged(async (before) => {
    if (before.look !== state.look || before.level !== state.level) {
      const going = player.playing;
      player.pause();
      if (before.look !== state.look) player.offset = 0;
      if (going && await load()) player.play(heard());
      show();
    } else if (player.playing && before.show !== state.show) player.hear(heard());
  });
  sampleKeys(host, (event) => {
    if (event.key !== " " || event.target.matches("button")) return false;
    toggle();
    return true;
  });
  sampleTable(table);
}
