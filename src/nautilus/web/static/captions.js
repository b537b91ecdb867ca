// Captions of the microphone over /v1/stream, transcripts of files over /transcribe, and subtitles of both.

const KINDS = { "audio/webm;codecs=opus": "webm", "audio/mp4": "mp4", "audio/ogg;codecs=opus": "ogg" };
const PIECE = 250; // milliseconds of sound in a message
const BITS = 48_000; // a second: Opus keeps speech whole
const PATIENCE = 30_000; // milliseconds in which a broken connection may come back; the server keeps a stream as long
const QUIET = 20_000; // milliseconds without an event after which the server is asked how much it has
const CUE = { letters: 84, line: 42, seconds: 6, pause: 1.0 };

const byId = (id) => document.getElementById(id);
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** What went wrong, in words for people. */
class Trouble extends Error {
  constructor(message, aboutKey = false) {
    super(message);
    this.aboutKey = aboutKey;
  }
}

function show(trouble) {
  byId("trouble").textContent = trouble?.message ?? "";
  byId("trouble").hidden = !trouble;
  if (trouble?.aboutKey) {
    byId("settings").open = true;
    byId("key").focus();
  }
}

// --- The server

const address = (path) => new URL(path, document.baseURI);
const bearer = () => (byId("key").value ? { authorization: `Bearer ${byId("key").value}` } : {});

function refusal(status, text) {
  let message;
  try {
    message = JSON.parse(text).error.message;
  } catch {
    message = `The server answered ${status}.`;
  }
  return new Trouble(message, status === 401 || status === 403);
}

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(address(path), { ...options, headers: bearer() });
  } catch {
    throw new Trouble("The server can't be reached.");
  }
  const text = await answer.text();
  if (!answer.ok) throw refusal(answer.status, text);
  return JSON.parse(text);
}

/** Subprotocols for a WebSocket: browsers can't send headers, so a key becomes a secret that lives for minutes. */
async function protocols() {
  if (!byId("key").value) return ["nautilus"];
  const secret = await ask("v1/realtime/client_secrets", { method: "POST", body: "{}" });
  return ["nautilus", `openai-insecure-api-key.${secret.value}`];
}

/** Why a WebSocket was refused: browsers don't tell. */
async function whyRefused() {
  try {
    const { streams } = await ask("health/ready");
    const full = streams.taken >= 0.9;
    return new Trouble(full ? "All places for live captions are taken. Try again soon." : "The server refused the stream.");
  } catch (trouble) {
    return trouble.message.includes("503") ? new Trouble("The model is still loading. Try again soon.") : trouble;
  }
}

async function listModels() {
  const chosen = byId("model").value;
  const { data } = await ask("v1/models");
  const own = byId("model").options[0];
  byId("model").replaceChildren(own, ...data.map(({ id }) => new Option(id, id)));
  byId("model").value = data.some(({ id }) => id === chosen) ? chosen : "";
}

// --- Transcripts

const clock = (seconds) => {
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  const rest = String(Math.floor(seconds % 60)).padStart(2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
};

const stamp = (seconds) => new Date(Math.round(1000 * seconds)).toISOString().slice(11, 23).replace(".", ",");

/** Whether a word begins a new subtitle. */
function begins(cue, word) {
  const letters = cue.reduce((sum, { word: text }) => sum + text.length + 1, word.word.length);
  const gap = word.start - cue.at(-1).end;
  return word.first || letters > CUE.letters || gap > CUE.pause || word.end - cue[0].start > CUE.seconds;
}

/** Break a subtitle in two, nearest to its middle. */
function broken(text) {
  if (text.length <= CUE.line) return text;
  const spaces = [...text.matchAll(/ /g)].map(({ index }) => index);
  const middle = (at) => Math.abs(at - text.length / 2);
  const at = spaces.sort((one, other) => middle(one) - middle(other))[0];
  return at ? `${text.slice(0, at)}\n${text.slice(at + 1)}` : text;
}

function subtitles(words) {
  const cues = [];
  for (const word of words) {
    if (!cues.length || begins(cues.at(-1), word)) cues.push([word]);
    else cues.at(-1).push(word);
  }
  return cues
    .map((cue, index) => {
      const [start, end] = [stamp(cue[0].start), stamp(Math.max(cue.at(-1).end, cue[0].start + 0.2))];
      return `${index + 1}\n${start} --> ${end}\n${broken(cue.map(({ word }) => word).join(" "))}\n`;
    })
    .join("\n");
}

function download(name, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/x-subrip" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** One transcript on the page, of the microphone or of a file. */
class Take {
  constructor(name) {
    this.name = name;
    this.words = [];
    this.onremove = () => {};
    this.element = byId("take").content.cloneNode(true).firstElementChild;
    this.part("h2").textContent = name;
    this.element.setAttribute("aria-label", name);
    this.part("ol").setAttribute("aria-label", `What was said: ${name}`);
    this.part(".copy").onclick = () => this.copy();
    this.part(".srt").onclick = () => download(`${name.replace(/\.\w+$/, "")}.srt`, subtitles(this.words));
    this.part(".remove").onclick = () => this.remove();
    this.offer();
    byId("takes").prepend(this.element);
  }

  part(selector) {
    return this.element.querySelector(selector);
  }

  facts(text) {
    this.part(".facts").textContent = text;
  }

  /** Show how far something is, from 0 to 1; undefined: nobody knows; null: it is over. */
  progress(share) {
    const bar = this.part("progress");
    bar.hidden = share === null;
    if (share === undefined) bar.removeAttribute("value");
    else bar.value = share ?? 0;
  }

  offer() {
    for (const button of [".copy", ".srt"]) this.part(button).disabled = !this.words.length;
  }

  line(text, words) {
    const item = document.createElement("li");
    const [time, said] = [document.createElement("time"), document.createElement("span")];
    time.textContent = clock(words[0].start);
    time.dateTime = `PT${words[0].start}S`;
    said.className = "text";
    said.textContent = text;
    item.append(time, said);
    this.part("ol").append(item);
    this.words.push(...words.map((word, index) => ({ ...word, first: index === 0 })));
    this.offer();
  }

  /** Show the words so far of an utterance in place of those before; the first `stable` will hardly change. */
  saying(words, stable = 0) {
    const seen = this.element.getBoundingClientRect().bottom <= innerHeight + 50;
    const text = (some) => some.map(({ word }) => word).join(" ");
    this.part(".stable").textContent = text(words.slice(0, stable));
    this.part(".open").textContent = text(words.slice(stable));
    if (seen) this.part(".saying").scrollIntoView({ block: "nearest" });
  }

  done() {
    this.saying([]);
    this.progress(null);
    this.element.classList.add("done");
  }

  async copy() {
    const lines = [...this.element.querySelectorAll(".text")].map((said) => said.textContent);
    try {
      await navigator.clipboard.writeText(lines.join("\n"));
      this.part(".copy").textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(this.part("ol")); // for Ctrl-C
      this.part(".copy").textContent = "Selected";
    }
    await pause(1500);
    this.part(".copy").textContent = "Copy";
  }

  remove() {
    this.onremove();
    this.element.remove();
  }
}

// --- Live captions

/** One live stream, which survives broken connections: docs/live.md, "After a broken connection". */
class LiveStream {
  constructor(query, on) {
    this.query = query;
    this.on = on; // ready, event, lost, over
    this.kept = []; // pieces that the server has not told to have
    this.first = 0; // byte of the stream at which they begin
    this.session = "";
    this.seen = 0;
    this.ended = this.over = false;
  }

  send(piece) {
    this.kept.push(piece);
    this.socket?.send(piece);
    if (this.socket && Date.now() - this.told > QUIET) {
      this.told = Date.now();
      this.socket.send(JSON.stringify({ type: "commit" })); // nobody speaks: its answer tells what may be forgotten
    }
  }

  end() {
    this.ended = true;
    this.socket?.send(JSON.stringify({ type: "end" }));
  }

  async connect() {
    const query = this.session ? { session: this.session, after: this.seen } : this.query;
    const url = address(`v1/stream?${new URLSearchParams(query)}`);
    url.protocol = url.protocol.replace("http", "ws");
    let socket;
    try {
      socket = new WebSocket(url, await protocols());
    } catch (trouble) {
      this.closed(trouble);
      return;
    }
    socket.onmessage = ({ data }) => this.take(JSON.parse(data), socket);
    socket.onclose = () => this.closed();
  }

  take(event, socket) {
    this.told = Date.now();
    this.seen = event.seq ?? this.seen;
    if (event.type === "ready") this.resume(event, socket);
    if (event.received) this.forget(event.received);
    if (event.type === "error") this.finish(new Trouble(event.error.message));
    else this.on.event(event);
    if (event.type === "end") this.finish();
  }

  resume(event, socket) {
    this.session = event.session;
    this.lostAt = undefined;
    this.forget(event.received);
    this.socket = socket;
    let at = this.first;
    for (const piece of this.kept) {
      socket.send(piece.slice(Math.max(0, event.received - at)));
      at += piece.byteLength;
    }
    if (this.ended) socket.send(JSON.stringify({ type: "end" }));
  }

  forget(received) {
    while (this.kept.length && this.first + this.kept[0].byteLength <= received) {
      this.first += this.kept.shift().byteLength;
    }
  }

  async closed(trouble) {
    this.socket = undefined;
    if (this.over) return;
    if (!this.session) {
      this.finish(trouble ?? (await whyRefused()));
      return;
    }
    this.lostAt ??= Date.now();
    if (Date.now() - this.lostAt > PATIENCE) {
      this.finish(new Trouble("The connection is lost. What was said until then is below."));
      return;
    }
    this.on.lost();
    await pause(500);
    this.connect();
  }

  finish(trouble) {
    if (this.over) return;
    this.over = true;
    this.on.over(trouble);
  }
}

/** The microphone as pieces of a container that the server knows. */
class Microphone {
  static async open() {
    if (!navigator.mediaDevices) {
      throw new Trouble("Browsers open the microphone only for pages from https:// or from localhost.");
    }
    const mimeType = Object.keys(KINDS).find((kind) => MediaRecorder.isTypeSupported(kind));
    if (!mimeType) throw new Trouble("This browser records in no format that is known here.");
    try {
      return new Microphone(await navigator.mediaDevices.getUserMedia({ audio: true }), mimeType);
    } catch (error) {
      const known = {
        NotAllowedError: "The microphone is blocked. Allow it for this page in your browser.",
        NotFoundError: "There is no microphone.",
      };
      throw new Trouble(known[error.name] ?? `The microphone can't be opened: ${error.message}`);
    }
  }

  constructor(sound, mimeType) {
    this.sound = sound;
    this.encoding = KINDS[mimeType];
    this.recorder = new MediaRecorder(sound, { mimeType, audioBitsPerSecond: BITS });
  }

  start(give, ended) {
    let taken = Promise.resolve(); // one after the other
    const take = async (data) => {
      const piece = await data.arrayBuffer();
      if (piece.byteLength) give(piece);
    };
    this.recorder.ondataavailable = ({ data }) => (taken = taken.then(() => take(data)));
    this.recorder.onstop = () => taken.then(ended);
    this.recorder.start(PIECE);
    this.meter = new AudioContext();
    this.level(this.meter);
  }

  /** Let the button show how loud it is. */
  level(context) {
    const analyser = context.createAnalyser();
    context.createMediaStreamSource(this.sound).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    const look = () => {
      const live = context.state !== "closed";
      analyser.getFloatTimeDomainData(samples);
      const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
      const level = live ? Math.min(1, Math.max(0, 1 + Math.log10(power + 1e-10) / 5)) : 0; // from -50 dB
      document.documentElement.style.setProperty("--level", level.toFixed(2));
      if (live) requestAnimationFrame(look);
    };
    look();
  }

  stop() {
    if (this.recorder.state !== "inactive") this.recorder.stop();
    for (const track of this.sound.getTracks()) track.stop();
    if (this.meter?.state !== "closed") this.meter?.close();
  }
}

let stop; // ends the captions that are running

function state(text, { recording = false, busy = false } = {}) {
  byId("state").textContent = text;
  byId("verb").textContent = recording ? "Stop" : "Start";
  byId("record").classList.toggle("recording", recording);
  byId("record").disabled = busy;
}

async function caption() {
  show();
  state("Opening the microphone …", { busy: true });
  let microphone;
  try {
    microphone = await Microphone.open();
  } catch (trouble) {
    state("Speak into your microphone.");
    show(trouble);
    return;
  }
  const take = new Take(`Microphone, ${new Date().toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })}`);
  const query = { encoding: microphone.encoding, delay: byId("delay").value };
  if (byId("model").value) query.model = byId("model").value;
  state("Connecting …", { busy: true });
  const stream = new LiveStream(query, {
    event: (event) => {
      if (event.type === "ready") {
        take.facts(event.model);
        state("Listening …", { recording: !stream.ended, busy: stream.ended });
      }
      if (event.type === "partial") take.saying(event.words, event.stable);
      if (event.type === "final") {
        take.line(event.text, event.words);
        take.saying([]);
      }
      if (event.type === "warning") state(event.message, { recording: true });
    },
    lost: () => state("The connection broke: coming back …", { recording: !stream.ended, busy: stream.ended }),
    over: (trouble) => {
      microphone.stop();
      take.done();
      if (trouble && !take.words.length) take.remove();
      state("Speak into your microphone.");
      show(trouble);
      stop = undefined;
    },
  });
  stop = () => {
    state("The last words …", { busy: true });
    microphone.stop();
  };
  take.onremove = () => stop?.();
  microphone.start(
    (piece) => stream.send(piece),
    () => stream.end(),
  );
  stream.connect();
}

// --- Files

function upload(file) {
  const take = new Take(file.name);
  const form = new FormData();
  if (byId("model").value) form.append("model", byId("model").value);
  form.append("file", file);
  const request = new XMLHttpRequest(); // fetch tells nothing of how far an upload is
  request.open("POST", address("transcribe"));
  for (const [name, value] of Object.entries(bearer())) request.setRequestHeader(name, value);
  take.facts("sending …");
  take.progress(0);
  request.upload.onprogress = ({ loaded, total }) => take.progress(loaded / total);
  request.upload.onload = () => {
    take.facts("listening …");
    take.progress(undefined);
  };
  const fail = (trouble) => {
    take.remove();
    show(new Trouble(`${file.name}: ${trouble.message}`, trouble.aboutKey));
  };
  request.onerror = () => fail(new Trouble("The server can't be reached."));
  request.onload = () => {
    if (request.status !== 200) fail(refusal(request.status, request.responseText));
    else tell(take, JSON.parse(request.responseText));
  };
  take.onremove = () => request.abort();
  request.send(form);
}

function tell(take, { segments, words, audio, model }) {
  take.facts(words.length ? `${clock(audio.duration)}, ${model}` : "nobody speaks in it");
  let first = 0;
  for (const { text, end } of segments) {
    let last = first;
    while (last < words.length && words[last].end <= end + 0.001) last += 1;
    if (last > first) take.line(text, words.slice(first, last));
    first = last;
  }
  take.done();
}

function choose(files) {
  show();
  for (const file of files) upload(file);
}

// --- The page

byId("record").onclick = () => (stop ? stop() : caption());
byId("file").onchange = ({ target }) => {
  choose([...target.files]);
  target.value = ""; // so that the same file can be chosen again
};
byId("key").value = sessionStorage.getItem("key") ?? "";
byId("key").onchange = () => {
  sessionStorage.setItem("key", byId("key").value);
  show();
  listModels().catch(show);
};
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
addEventListener("dragleave", ({ relatedTarget }) => {
  if (!relatedTarget) document.body.classList.remove("dropping");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  choose([...event.dataTransfer.files]);
});
listModels().catch(show);
